"""Yelp reviews: the training set of the RecSys Challenge 2013 and the open dataset in its older and current forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rec_core.errors import DataError, SettingsError
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.json_lines import json_blocks, read_json_lines
from rec_data.raw import RawData
from rec_data.readers.files import exactly, find, first_of_each, holds, noted, others, without_empty
from rec_data.readers.reviews import ReviewCollector
from rec_data.rows import RowCollector

PREFIXES = ("yelp_training_set_", "yelp_academic_dataset_", "yelp_", "")
_COLUMNS = {"user": "user_id", "item": "business_id", "rating": "stars", "timestamp": "date", "text": "text"}
# stars, review_count and whether a business is open were taken after the last review
_FIELDS = ("categories", "city", "state", "neighborhoods")


def read_yelp(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds the files of reviews and businesses (JSON lines, gzipped or not).

    Items get ``title`` (the name), ``categories`` (a list), ``city``, ``state``, ``address`` and, in 2013,
    ``neighborhoods`` (a list). Users get no fields: what their file says (names, counts, friends) is personal, or
    was taken after the last review.
    """
    if settings.source_version not in (None, "2013", "current"):
        raise SettingsError(f"--source-version of yelp is 2013 or current; got {settings.source_version!r}")
    folder, prefix = _prefix(path)
    reviews_file = find(folder, f"{prefix}review.json")
    businesses_file = find(folder, f"{prefix}business.json")
    assert reviews_file is not None
    if businesses_file is None:
        raise DataError(f"{folder} has {reviews_file.name} but no {prefix}business.json; {holds(folder)}")
    versions: list[str] = []

    def wanted(found: Sequence[str]) -> list[str]:
        exactly(reviews_file, "yelp", *list(_COLUMNS.values())[:4])(found)
        versions.append(_version(reviews_file, found, settings.source_version))
        return [name for what, name in _COLUMNS.items() if what != "text" or settings.reviews]

    collector = RowCollector(settings)
    reviews = ReviewCollector() if settings.reviews else None
    for frame, where in ahead(json_blocks(reviews_file, collector.faults, wanted=wanted)):
        block = frame.select(pl.col(name).alias(what) for what, name in _COLUMNS.items() if name in frame.columns)
        added = collector.add(block.drop("text", strict=False), where)
        if reviews is not None:
            reviews.add(added, block)
    items, item_facts = _items(businesses_file, settings)
    files = (reviews_file, businesses_file)
    return RawData(
        name=folder.resolve().name,
        rows=collector.finish(),
        items=items,
        reviews=None if reviews is None else reviews.finish(),
        dropped=collector.dropped,
        facts={
            "format": "yelp",
            "source_version": versions[0],
            "encoding": "utf-8",
            "timestamp_units": collector.units,
            **noted(
                reviews_without_text=reviews.without_text if reviews is not None else None,
                files_not_used=others(folder, files),
            ),
            **item_facts,
        },
        files=files,
    )


def _prefix(path: Path) -> tuple[Path, str]:
    """The folder, and what the names of its files start with."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    found = [prefix for prefix in PREFIXES if find(folder, f"{prefix}review.json") is not None]
    if path.is_file():
        found = [prefix for prefix in found if path.name.removesuffix(".gz") == f"{prefix}review.json"]
    if len(found) != 1:
        names = " and ".join(f"{prefix}review.json" for prefix in found) or "no *review.json"
        raise DataError(
            f"the yelp layout is a directory with yelp_training_set_review.json (2013) or "
            f"yelp_academic_dataset_review.json (current) and the businesses; {path} has {names}; {holds(folder)}"
        )
    return folder, found[0]


def _version(path: Path, found: Sequence[str], asked: str | None) -> str:
    """2013 has a review's votes in one object (``votes``), current each in a field of its own (``useful``, ...)."""
    looks = "2013" if "votes" in found else "current"
    if asked is not None and asked != looks:
        why = "votes in one object" if looks == "2013" else "no votes, or each in a field of its own"
        raise DataError(
            f"{path} looks like the edition {looks} ({why}), but --source-version says {asked}; "
            f"pass --source-version {looks}, or name the files of {asked}"
        )
    return looks


def _items(path: Path, settings: ReadSettings) -> tuple[pl.DataFrame, dict[str, object]]:
    faults = Faults(settings.bad_rows)
    used = ("business_id", "name", "full_address", "address", *_FIELDS)
    table = read_json_lines(path, wanted=used, faults=faults)
    exactly(path, "yelp", "business_id", "name")(table.keys)
    frame = table.frame
    for name in frame.columns:
        if name not in ("categories", "neighborhoods") and frame[name].dtype != pl.String:
            raise DataError(f"{path}: {name!r} holds lists; wanted a text")
    columns = [frame["business_id"].alias("key"), frame["name"].alias("title")]
    columns += [_listed(path, frame[name]) for name in ("categories", "neighborhoods") if name in frame.columns]
    columns += [frame[name] for name in ("city", "state") if name in frame.columns]
    columns += [frame[name].alias("address") for name in ("full_address", "address") if name in frame.columns][:1]
    items, left_out = first_of_each(pl.DataFrame(columns))
    return without_empty(items), noted(
        item_fields={"title": "name", **({"address": "full_address"} if "full_address" in frame.columns else {})},
        item_fields_left_out=[name for name in table.keys if name not in used],
        item_rows_left_out=dict(Counter(left_out) + Counter(faults.counts)),
    )


def _listed(path: Path, values: pl.Series) -> pl.Series:
    """Lists of categories; the current form writes them as one text with commas."""
    if isinstance(values.dtype, pl.List):
        if values.dtype.inner != pl.String:
            raise DataError(f"{path}: {values.name!r} holds lists of lists; wanted a list of texts, or one with commas")
        return values
    return values.str.split(",").list.eval(pl.element().str.strip_chars())
