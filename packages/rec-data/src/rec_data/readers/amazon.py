"""Amazon reviews as the McAuley Lab publishes them: the editions of 2014, 2018 and 2023.

Every category is a file of ratings (CSV) or of reviews (JSON lines), and beside it one of metadata (``meta_*``). The
editions differ in names and order: the CSV of 2014 is user, item, rating, time; that of 2018 is item, user, rating,
time; that of 2023 has a header, times in milliseconds and, where it comes split, a column with histories. The metadata
of 2014 are Python literals.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rec_core.errors import DataError, SettingsError
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.json_lines import json_blocks, read_json_lines
from rec_data.raw import RawData
from rec_data.readers.files import exactly, first_of_each, holds, joined, noted, others, without_empty
from rec_data.readers.reviews import ReviewCollector
from rec_data.rows import RowCollector, Where
from rec_data.text import byte_lines, text_blocks

log = logging.getLogger(__name__)

EDITIONS = ("2014", "2018", "2023")
_PARTS = {"train": 0, "valid": 1, "test": 2}
_SPLIT = re.compile(rf"(.+)\.({'|'.join(_PARTS)})\.csv(\.gz)?", re.IGNORECASE)
_ORDERS = {"2014": ("user", "item", "rating", "timestamp"), "2018": ("item", "user", "rating", "timestamp")}
_HEADER = ("user_id", "parent_asin", "rating", "timestamp")
# B and nine more, or ten digits of an ISBN, whose last may be X; user keys start with A (or, seldom, #oc-) and are
# longer
_ITEM_KEY = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
_SAMPLE = 10_000
_CLEAR = 0.9  # of the sampled keys

# our name of a field -> its names in the metadata, and what is left out lest it leaks: counts and ranks were taken
# after the last review, and what was bought together is made of the interactions themselves
_FIELDS = {
    "title": ("title",),
    "brand": ("brand", "store"),
    "main_category": ("main_category", "main_cat"),
    "categories": ("categories", "category"),
    "features": ("features", "feature"),
    "description": ("description",),
    "price": ("price",),
}
_KEYS = ("parent_asin", "asin")
_KNOWN = tuple(name for names in _FIELDS.values() for name in names)


@dataclass(frozen=True)
class _Source:
    """One category's interactions: a file, or the parts of a split in their order."""

    files: tuple[Path, ...]
    category: str
    split: bool = False

    @property
    def is_csv(self) -> bool:
        return _bare(self.files[0]).endswith(".csv")

    def part(self, file: Path) -> int:
        match = _SPLIT.fullmatch(file.name)
        assert match is not None
        return _PARTS[match[2].casefold()]


def read_amazon(path: Path, settings: ReadSettings) -> RawData:
    """Read one category: a directory that holds its files, or the file of its ratings or reviews.

    Metadata are found beside it by name (``meta_<category>``, or the directory's only ``meta_`` file), or named with
    ``items_file``. Items get ``title``, ``brand`` (2023: the store), ``main_category``, ``categories`` (a list; 2014: a
    list of paths), ``features``, ``description`` (2014: a text, else a list) and ``price``; an item described twice
    keeps its first description, and the manifest counts the others. Users are ``reviewerID`` or ``user_id``, items
    ``asin`` or, in 2023, ``parent_asin``. The parts of 2023's splits are kept (``--split given``).
    """
    if settings.source_version not in (None, *EDITIONS):
        raise SettingsError(
            f"--source-version of amazon is one of {', '.join(EDITIONS)}; got {settings.source_version!r}"
        )
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    source = _source(path, settings.reviews)
    collector = RowCollector(settings)
    reviews = ReviewCollector() if settings.reviews else None
    edition = _CsvRows(settings, collector) if source.is_csv else _JsonRows(settings, collector)
    for file in source.files:
        for frame, where in ahead(edition.blocks(file)):
            rows = frame.select(name for name in frame.columns if name not in ("text", "summary"))
            if source.split:
                rows = rows.with_columns(part=pl.lit(source.part(file), pl.UInt8))
            added = collector.add(rows, where)
            if reviews is not None:
                reviews.add(added, frame)
    metadata = settings.items_file or _metadata(path, source)
    items, item_facts = (None, {}) if metadata is None else _items(metadata, settings, edition.version)
    files = (*source.files, *([metadata] if metadata is not None else []))
    return RawData(
        name=path.resolve().name if path.is_dir() else source.category,
        rows=collector.finish(),
        items=items,
        reviews=None if reviews is None else reviews.finish(),
        dropped=collector.dropped,
        facts={
            "format": "amazon",
            "source_version": edition.version or "2014 or 2018",
            "encoding": "utf-8",
            "timestamp_units": collector.units,
            **noted(
                reviews_without_text=reviews.without_text if reviews is not None else None,
                files_not_used=others(files[0].parent, files),
            ),
            **item_facts,
        },
        files=files,
    )


# which files


def _bare(file: Path) -> str:
    return file.name.casefold().removesuffix(".gz")


def _is_metadata(file: Path) -> bool:
    return _bare(file).startswith("meta_") and _bare(file).endswith((".json", ".jsonl"))


def _category(file: Path) -> str:
    """``Beauty`` of ratings_Beauty.csv, reviews_Beauty_5.json.gz, meta_Beauty.json.gz, Beauty.train.csv, ..."""
    name = file.name[: -len(".gz")] if file.name.casefold().endswith(".gz") else file.name
    name = re.sub(rf"(\.({'|'.join(_PARTS)}))?\.(csv|jsonl?)$", "", name, flags=re.IGNORECASE)
    return re.sub(r"^(ratings|reviews|meta)_|_(5|10)$", "", name, flags=re.IGNORECASE)


def _source(path: Path, with_reviews: bool) -> _Source:
    if path.is_file():
        match = _SPLIT.fullmatch(path.name)
        source = _split(path.parent, match[1]) if match else _Source((path,), _category(path))
        if with_reviews and source.is_csv:
            raise SettingsError(f"--reviews wants the file of reviews (JSON lines); {path} holds ratings alone")
        return source
    found: dict[object, _Source] = {}
    for file in sorted(path.iterdir()):
        bare = _bare(file)
        if not file.is_file() or file.name.startswith(".") or bare.startswith(("meta_", "qa_")):
            continue
        match = _SPLIT.fullmatch(file.name)
        if match:
            found[match[1]] = _split(path, match[1])
        elif bare.endswith((".csv", ".json", ".jsonl")):
            found[file] = _Source((file,), _category(file))
    if with_reviews:
        found = {key: source for key, source in found.items() if not source.is_csv}
    if len(found) != 1:
        kind = "reviews" if with_reviews else "ratings or reviews"
        names = joined(source.files[0].name for source in found.values())
        raise DataError(
            f"the amazon layout is one file of {kind} in a directory, with its metadata; "
            + (f"{path} holds {names}; name one of them" if found else f"{path} has none; {holds(path)}")
        )
    return next(iter(found.values()))


def _split(folder: Path, category: str) -> _Source:
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        match = _SPLIT.fullmatch(file.name)
        if match and match[1] == category:
            files.setdefault(match[2].casefold(), file)
    missing = [f"{category}.{part}.csv" for part in _PARTS if part not in files]
    if missing:
        raise DataError(f"{folder} has {joined(f.name for f in files.values())} but no {joined(missing)}")
    return _Source(tuple(files[part] for part in _PARTS), category, split=True)


def _metadata(path: Path, source: _Source) -> Path | None:
    """The metadata of the category; None, said in the log, where there are none."""
    folder = source.files[0].parent
    found = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_metadata(file)]
    named = [file for file in found if _category(file).casefold() == source.category.casefold()]
    if not named and path.is_dir() and len(found) == 1:
        named = found
    if named:
        return named[0]
    log.warning("no metadata (meta_%s) beside %s: items have no texts", source.category, source.files[0])
    return None


# interactions


class _CsvRows:
    """Blocks of ratings, and the edition that their form shows."""

    def __init__(self, settings: ReadSettings, collector: RowCollector) -> None:
        self._asked, self._collector = settings.source_version, collector
        self.version: str | None = None

    def blocks(self, path: Path) -> Iterator[tuple[pl.DataFrame, Where]]:
        names, self.version = _csv_columns(path, self._asked)
        if self.version == "2023":
            wanted = exactly(path, "amazon 2023", *_HEADER)
            for block in text_blocks(path, self._collector.faults, separator=",", wanted=wanted, numbers=True):
                yield block.frame.rename(dict(zip(_HEADER, names, strict=True))), block.where
        else:
            for block in text_blocks(path, self._collector.faults, separator=",", columns=names, numbers=True):
                yield block.frame, block.where


def _csv_columns(path: Path, asked: str | None) -> tuple[tuple[str, ...], str]:
    """What the columns of a CSV are, and the edition."""
    head = next(byte_lines(path, 1 << 20), b"").removeprefix(b"\xef\xbb\xbf")
    lines = [line.rstrip("\r") for line in head.decode("utf-8", "replace").split("\n")[:_SAMPLE] if line.strip("\r")]
    if not lines:
        raise DataError(f"{path} is empty")
    first = lines[0].split(",")
    if "parent_asin" in first or "user_id" in first:
        _agree(path, asked, "2023", f"a header: {lines[0][:80]}")
        return ("user", "item", "rating", "timestamp"), "2023"
    if len(first) < len(_ORDERS["2014"]):
        raise DataError(
            f"{path}, line 1 has {len(first)} field{'s' * (len(first) != 1)}: {lines[0][:80]!r}; the amazon layout has "
            f"user,item,rating,timestamp (2014), item,user,rating,timestamp (2018) or a header (2023)"
        )
    rows = [fields for line in lines if len(fields := line.split(",")) >= 2]
    shares = [sum(_ITEM_KEY.fullmatch(row[i]) is not None for row in rows) / len(rows) for i in (0, 1)]
    looks = None
    if shares[1] >= _CLEAR and shares[0] <= 1 - _CLEAR:
        looks = "2014"
    elif shares[0] >= _CLEAR and shares[1] <= 1 - _CLEAR:
        looks = "2018"
    if looks is not None:
        _agree(path, asked, looks, f"{'item' if looks == '2018' else 'user'} first: {lines[0][:80]}")
        return _ORDERS[looks], looks
    if asked is None or asked == "2023":
        raise DataError(
            f"{path}: {lines[0][:80]!r} does not show which column is the item; say --source-version 2014 "
            f"(user,item,rating,timestamp) or 2018 (item,user,rating,timestamp), or --format table with --column-names"
        )
    return _ORDERS[asked], asked


def _agree(path: Path, asked: str | None, looks: str, why: str) -> None:
    if asked is not None and asked != looks:
        raise DataError(
            f"{path} looks like the edition of {looks} ({why}), but --source-version says {asked}; "
            f"pass --source-version {looks}, or name the file of {asked}"
        )


_JSON_COLUMNS: dict[str, dict[str, str]] = {
    "old": {
        "user": "reviewerID",
        "item": "asin",
        "rating": "overall",
        "timestamp": "unixReviewTime",
        "text": "reviewText",
        "summary": "summary",
    },
    "2023": {
        "user": "user_id",
        "item": "parent_asin",
        "rating": "rating",
        "timestamp": "timestamp",
        "text": "text",
        "summary": "title",
    },
}


class _JsonRows:
    """Blocks of reviews, and the edition that their keys show; None where 2014 and 2018 cannot be told apart."""

    def __init__(self, settings: ReadSettings, collector: RowCollector) -> None:
        self._asked, self._texts, self._collector = settings.source_version, settings.reviews, collector
        self.version: str | None = None

    def blocks(self, path: Path) -> Iterator[tuple[pl.DataFrame, Where]]:
        chosen: dict[str, str] = {}

        def wanted(found: Sequence[str]) -> list[str]:
            self.version = _json_edition(path, found, self._asked)
            columns = _JSON_COLUMNS["2023" if self.version == "2023" else "old"]
            exactly(path, "amazon", *list(columns.values())[:4])(found)
            chosen.update((what, name) for what, name in columns.items() if self._texts or what not in _TEXTS)
            return list(chosen.values())

        # the whole files of 2014 are Python literals in some copies
        for frame, where in json_blocks(path, self._collector.faults, wanted=wanted, literals=_single_quoted(path)):
            yield frame.select(pl.col(name).alias(what) for what, name in chosen.items()), where


_TEXTS = ("text", "summary")


def _json_edition(path: Path, found: Sequence[str], asked: str | None) -> str | None:
    if "parent_asin" in found and "user_id" in found:
        looks: str | None = "2023"
    elif "reviewerID" in found and "asin" in found:
        looks = "2018" if "verified" in found else "2014" if "helpful" in found else None
    else:
        listed = ", ".join(map(repr, found[:20]))
        raise DataError(
            f"{path} holds no reviews of the amazon layout (reviewerID and asin, or user_id and parent_asin); "
            f"it has: {listed}"
        )
    if looks is None:
        if asked == "2023":
            raise DataError(f"{path} has reviewerID and asin, but --source-version 2023 has user_id and parent_asin")
        return asked
    why = {"2023": "parent_asin", "2018": "verified", "2014": "helpful"}[looks]
    _agree(path, asked, looks, f"its reviews have {why!r}")
    return looks


def _single_quoted(path: Path) -> bool:
    """Whether the file starts like a Python literal: ``{'`` or ``{u'``."""
    head = next(byte_lines(path, 1 << 16), b"").lstrip()
    return re.match(rb"""\{\s*[uU]?'|\{\s*[uU]\"""", head) is not None


# metadata


def _items(path: Path, settings: ReadSettings, edition: str | None) -> tuple[pl.DataFrame, dict[str, object]]:
    faults = Faults(settings.bad_rows)
    table = read_json_lines(path, wanted=(*_KEYS, *_KNOWN), literals=True, faults=faults)
    looks = _metadata_edition(table.keys)
    key = "parent_asin" if edition == "2023" else "asin"
    if key not in table.keys or (settings.items_file is None and edition and looks and looks != edition):
        raise DataError(
            f"{path} looks like metadata of {looks or 'no edition known'} (keys: {', '.join(table.keys[:8])}, ...), "
            f"but the interactions are of {edition or '2014 or 2018'}; name the right metadata with --items-file"
        )
    frame = table.frame
    columns = [_plain_key(path, frame[key]).alias("key")]
    source: dict[str, str] = {}
    for field, names in _FIELDS.items():
        name = next((name for name in names if name in frame.columns and frame[name].count()), None)
        if name is None:
            continue
        columns.append(frame[name].alias(field))
        if name != field:
            source[field] = name
    items, left_out = first_of_each(pl.DataFrame(columns))
    if left_out.get("repeated_key"):
        log.warning("%s describes %s items again; their first description counts", path, left_out["repeated_key"])
    items, no_prices = _with_plain_prices(items)
    return without_empty(items), noted(
        item_fields=source,
        item_fields_left_out=[name for name in table.keys if name not in (key, *_KNOWN)],
        item_rows_left_out=dict(Counter(left_out) + Counter(faults.counts)),
        prices_without_a_number=no_prices,
    )


def _plain_key(path: Path, keys: pl.Series) -> pl.Series:
    if keys.dtype != pl.String:
        raise DataError(f"{path}: {keys.name!r} holds lists; wanted one key per item")
    return keys


def _metadata_edition(keys: Sequence[str]) -> str | None:
    if "parent_asin" in keys:
        return "2023"
    if "asin" not in keys:
        return None
    return "2018" if {"category", "also_buy", "main_cat"} & set(keys) else "2014" if "categories" in keys else None


def _with_plain_prices(items: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Prices that are prices: some of 2018 hold a page's style sheet, some of 2023 a dash."""
    if "price" not in items.columns or items["price"].dtype != pl.String:
        return items, 0
    price = pl.col("price")
    plain = pl.when(price.str.contains(r"\d") & ~price.str.contains("{", literal=True)).then(price)
    cleaned = items.with_columns(plain.alias("price"))
    return cleaned, items["price"].count() - cleaned["price"].count()
