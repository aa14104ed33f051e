"""Raw files in, :class:`rec_data.raw.RawData` out: one module per layout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rec_core.artifacts import MANIFEST, open_artifact
from rec_core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from rec_data.config import ReadSettings
    from rec_data.raw import RawData

log = logging.getLogger(__name__)

_COLUMNS = ("user_column", "item_column", "timestamp_column", "rating_column")
_TEXT = ("separator", "column_names", "quotes", "encoding")
_BESIDE = ("items_file", "users_file")
_NOT_FOR_ALL = (*_COLUMNS, *_TEXT, *_BESIDE, "source_version", "reviews")
_SPELLED = {"quotes": "--no-quotes"}  # options that are not called as their setting


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files of one layout are told and read.

    module   in this package; its function ``read_<module>`` reads
    files    what to look for, for the message when nothing fits; None for layouts that have to be named
    shows    given a directory's file names (folded to lower case, without .gz), whether they show the layout; None
             where the module's ``is_<module>(path)`` looks into the files
    options  options of ReadSettings that the layout takes beside those that all take
    """

    module: str
    files: str | None
    shows: Callable[[frozenset[str]], bool] | None = None
    options: tuple[str, ...] = ()

    def fits(self, path: Path) -> bool:
        """Whether a file or directory shows the layout."""
        if self.files is None:
            return False
        if self.shows is None:
            return bool(self.function("is_")(path))
        names = [path.name] if path.is_file() else [file.name for file in path.iterdir()]
        return self.shows(frozenset(name.casefold().removesuffix(".gz") for name in names))

    def function(self, prefix: str) -> Callable[..., Any]:
        """``read_...`` or ``is_...`` of the module."""
        function: Callable[..., Any] = getattr(import_module(f"{__name__}.{self.module}"), prefix + self.module)
        return function


def _has(*names: str) -> Callable[[frozenset[str]], bool]:
    return lambda found: found.issuperset(names)


def _has_ending(*endings: str) -> Callable[[frozenset[str]], bool]:
    return lambda found: all(any(name.endswith(ending) for name in found) for ending in endings)


def _is_amazon(names: frozenset[str]) -> bool:
    starts = ("ratings_", "reviews_", "meta_")
    if any(name.startswith(starts) and name.endswith((".csv", ".json", ".jsonl")) for name in names):
        return True
    split = [name.removesuffix(".train.csv") for name in names if name.endswith(".train.csv")]
    return any({f"{name}.valid.csv", f"{name}.test.csv"} <= names for name in split)


def _is_movielens(names: frozenset[str]) -> bool:
    return any(names.issuperset(pair) for pair in (("u.data",), ("ratings.dat",), ("ratings.csv", "movies.csv")))


def _is_book_crossing(names: frozenset[str]) -> bool:
    ratings = ("bx-book-ratings.csv", "bx-ratings.csv", "bx-newbooksratings.csv")
    return any(name in names for name in ratings) or names.issuperset(("ratings.csv", "books.csv", "users.csv"))


def _is_huggingface(names: frozenset[str]) -> bool:
    saved = "dataset_dict.json" in names or names.issuperset(("dataset_info.json", "state.json"))
    return saved or any(name.endswith(".arrow") for name in names)


# the first that fits is taken: those told by the names of their files before those whose lines have to be looked at
LAYOUTS: dict[str, Layout] = {
    "movielens": Layout("movielens", "u.data, ratings.dat, or ratings.csv and movies.csv", _is_movielens),
    "book-crossing": Layout("book_crossing", "BX-Book-Ratings.csv or BX-Ratings.csv", _is_book_crossing),
    "yelp": Layout(
        "yelp",
        "*_review.json and *_business.json",
        _has_ending("review.json", "business.json"),
        ("source_version", "reviews"),
    ),
    "steam": Layout("steam", "steam_reviews.json", _has("steam_reviews.json"), ("rating_column", "reviews")),
    "lastfm": Layout("lastfm", "user_artists.dat", _has("user_artists.dat")),
    "amazon": Layout(
        "amazon",
        "ratings_*.csv, reviews_*.json or meta_*.json",
        _is_amazon,
        ("source_version", "reviews", "items_file"),
    ),
    "lc-rec": Layout("lc_rec", "*.inter.json", options=("reviews",)),
    "recbole": Layout("recbole", "*.inter", _has_ending(".inter"), (*_COLUMNS, "encoding")),
    "huggingface": Layout(
        "huggingface",
        "dataset_dict.json, or dataset_info.json and state.json, or *.arrow",
        _is_huggingface,
        (*_COLUMNS, *_BESIDE),
    ),
    "openp5": Layout("openp5", "user_sequence.txt", options=("encoding",)),
    "llm-recsys-id": Layout("llm_recsys_id", "sequential_data.txt", options=("encoding",)),
    "minionerec": Layout("minionerec", "test.csv with history_item_id", options=("encoding",)),
    "selfrec": Layout("selfrec", "train.txt and test.txt with three columns or a colon", options=("encoding",)),
    "lightgcn": Layout("lightgcn", "train.txt and test.txt", options=("encoding",)),
    "s3rec": Layout("s3rec", "NAME.txt and NAME_item2attributes.json", options=("encoding",)),
    "sasrec": Layout("sasrec", "one text file of two numbers per line", options=("encoding",)),
    "table": Layout("table", None, options=(*_COLUMNS, *_TEXT, *_BESIDE)),
    "json-lines": Layout("table", None, options=(*_COLUMNS, *_BESIDE)),
}


def detect_format(path: Path) -> str:
    """The layout that a file or the content of a directory shows; a file that shows none is a table.

    Raises :class:`DataError` that lists what was found where nothing fits.
    """
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is neither a file nor a directory; write its content to a file first")
    for name, layout in LAYOUTS.items():
        if layout.fits(path):
            return name
    if path.is_file():
        return "table"
    from rec_data.readers.table import ENDINGS, table_parts

    if table_parts(path):
        return "table"
    if (path / MANIFEST).is_file():
        made = open_artifact(path, verify=False)
        raise DataError(f"{path} is a {made.kind!r} artifact and no raw data; rec-data inspect {path} describes it")
    names = sorted(file.name for file in path.iterdir())
    tables = [name for name in names if name.casefold().endswith(ENDINGS)]
    hint = f"; to read one of its tables name the file: {path / tables[0]}" if tables else ""
    known = "; ".join(f"{name}: {layout.files}" for name, layout in LAYOUTS.items() if layout.files is not None)
    some = f"{', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}"
    raise DataError(
        f"{path} shows no layout: it holds {some}{hint}. The layouts that are known by their files: {known}"
    )


def read(path: Path, settings: ReadSettings) -> RawData:
    """Read raw files in the layout that the settings name, or that their names show.

    Raises :class:`DataError` for what cannot be read and, with ``strict``, for any line that was left out.
    """
    kind = detect_format(path) if settings.format == "auto" else settings.format
    if not path.exists() and kind != "huggingface":  # there it may be a name of the Hub
        raise DataError(f"there is no file or directory {path}")
    layout = LAYOUTS[kind]
    _refuse_unused(kind, layout.options, settings)
    raw: RawData = layout.function("read_")(path, settings)
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in raw.dropped.items())
    if dropped and settings.strict:
        raise DataError(f"{raw.name}: --strict, and of {raw.lines:,} lines some were left out: {dropped}")
    if dropped:
        log.warning("%s: of %s lines some were left out: %s", raw.name, f"{raw.lines:,}", dropped)
    return raw


def _refuse_unused(kind: str, options: Sequence[str], settings: ReadSettings) -> None:
    """An option that the layout cannot use is a misunderstanding, and would be ignored silently."""
    usual = {field.name: field.default for field in fields(settings)}
    unused = [name for name in _NOT_FOR_ALL if name not in options and getattr(settings, name) != usual[name]]
    named = [_SPELLED.get(name, f"--{name.replace('_', '-')}") for name in unused]
    if named:
        columns = any(name.endswith("-column") for name in named) and "user_column" not in options
        why = "states its own columns" if columns else "takes no such option"
        raise SettingsError(f"the {kind} layout {why}; leave out {', '.join(named)}")
