"""RecBole's atomic files: NAME.inter, NAME.item, NAME.user; tabs, a header whose columns carry types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data import columns
from rec_data.config import ReadSettings
from rec_data.raw import RawData, with_unique_keys
from rec_data.readers.movielens import year_of
from rec_data.rows import RowCollector
from rec_data.text import read_text_table

TYPES = ("token", "token_seq", "float", "float_seq")
_GENRES = ("class", "genre", "genres")
_UNKNOWN = "unkonwn"  # how RecBole's own conversion of ml-100k spells it


def read_recbole(path: Path, settings: ReadSettings) -> RawData:
    """Read a NAME.inter file, or the one in a directory, with NAME.item and NAME.user where they lie beside it.

    RecBole cuts the year off MovieLens titles; it is put back, so that ``title`` is what the publisher wrote. The
    blank-separated genre column (``class``, ``genre``) becomes ``genres``, comma-separated.
    """
    inter = _the_inter_file(path)
    events = read_text_table(inter, separator="\t", wanted=lambda names: _wanted(inter, names, settings))
    names = _typed(inter, events.frame.columns)
    user, item, timestamp, rating = _columns(inter, list(names), settings)
    chosen = {"user": user, "item": item, "timestamp": timestamp, "rating": rating}
    collector = RowCollector(settings)
    collector.add(
        events.frame.select(pl.col(names[c]).alias(what) for what, c in chosen.items() if c is not None), events.where
    )
    collector.faults.count("blank_line", events.blank)
    facts: dict[str, object] = {"format": "recbole", "columns": {"user": user, "item": item}}
    if timestamp is not None:
        facts["timestamp_units"] = collector.units
    items = _read_fields(inter.with_suffix(".item"), item, "item")
    users = _read_fields(inter.with_suffix(".user"), user, "user")
    beside = [inter.with_suffix(suffix) for suffix in (".item", ".user")]
    return RawData(
        name=inter.stem,
        rows=collector.finish(),
        items=None if items is None else _with_film_fields(items),
        users=users,
        dropped=collector.dropped,
        facts=facts,
        files=(inter, *(file for file in beside if file.exists())),
    )


def _the_inter_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{path} should hold one .inter file; found {names}" + ("; name one of them" if found else ""))
    return found[0]


def _typed(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Column name -> how the header spells it with its type."""
    for spelled in header:
        if spelled.partition(":")[2] not in TYPES:
            raise DataError(
                f"{path}: column {spelled!r} of the header is not NAME:TYPE with a type of {', '.join(TYPES)}"
            )
    return {spelled.partition(":")[0]: spelled for spelled in header}


def _columns(path: Path, names: Sequence[str], settings: ReadSettings) -> tuple[str, str, str | None, str | None]:
    return (
        columns.require(path, names, columns.USER, settings.user_column, "user", "--user-column"),
        columns.require(path, names, columns.ITEM, settings.item_column, "item", "--item-column"),
        columns.choose(path, names, columns.TIMESTAMP, settings.timestamp_column, "timestamp"),
        columns.choose(path, names, columns.RATING, settings.rating_column, "rating"),
    )


def _wanted(path: Path, header: Sequence[str], settings: ReadSettings) -> list[str]:
    names = _typed(path, header)
    return [names[column] for column in _columns(path, list(names), settings) if column is not None]


def _read_fields(path: Path, key: str, what: str) -> pl.DataFrame | None:
    """The table of items or users; None where there is no such file."""
    if not path.exists():
        return None
    table = read_text_table(path, separator="\t")
    names = _typed(path, table.frame.columns)
    columns.require(path, list(names), (key,), key, what, f"--{what}-column")
    frame = table.frame.rename({spelled: name for name, spelled in names.items()}).rename({key: "key"})
    return with_unique_keys(frame.select("key", pl.exclude("key")), what, table.where)


def _with_film_fields(items: pl.DataFrame) -> pl.DataFrame:
    """``title`` with its year, ``release_year`` and ``genres`` under the names and in the form of the other readers."""
    title = columns.choose(Path(), items.columns, columns.TITLE, None, "title")
    if title is not None:
        items = items.rename({title: "title"} if title != "title" else {})
        items = items.with_columns(pl.col("title").replace(_UNKNOWN, "unknown").str.strip_chars())
    if title is not None and "release_year" in items.columns:
        year = pl.col("release_year").replace(_UNKNOWN, None)
        composed = pl.when(year.is_not_null()).then(pl.format("{} ({})", "title", year)).otherwise(pl.col("title"))
        items = items.with_columns(title=composed, release_year=pl.coalesce(year_of(composed), year))
    genres = columns.choose(Path(), items.columns, _GENRES, None, "genres")
    if genres is not None:
        items = items.rename({genres: "genres"} if genres != "genres" else {})
        items = items.with_columns(pl.col("genres").str.replace_all(" +", ", "))
    return items
