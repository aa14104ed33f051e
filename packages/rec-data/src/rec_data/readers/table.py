"""Your own tables: CSV, TSV and other separated text, gzipped or not, and Parquet, with a column mapping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data import columns
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData, with_unique_keys
from rec_data.rows import RowCollector
from rec_data.text import read_text_table
from rec_data.values import to_keys


@dataclass(frozen=True)
class _Loaded:
    frame: pl.DataFrame
    blank: int
    where: Callable[[int], str]


def read_table(path: Path, settings: ReadSettings) -> RawData:
    """Read one table of interactions and, where the settings name them, tables of items and users.

    Columns that the settings leave out are looked for under their usual names (``user_id``, ``asin``,
    ``timestamp``, ...); user and item must be found, time and rating may be absent.
    """
    if path.is_dir():
        raise DataError(f"{path} is a directory; name the table in it")
    chosen: dict[str, str] = {}

    def wanted(found: Sequence[str]) -> list[str]:
        chosen["user"] = columns.require(path, found, columns.USER, settings.user_column, "user", "--user-column")
        chosen["item"] = columns.require(path, found, columns.ITEM, settings.item_column, "item", "--item-column")
        for what, known, asked in (
            ("timestamp", columns.TIMESTAMP, settings.timestamp_column),
            ("rating", columns.RATING, settings.rating_column),
        ):
            column = columns.choose(path, found, known, asked, what)
            if column is not None:
                chosen[what] = column
        if len(set(chosen.values())) != len(chosen):
            raise DataError(f"{path}: one column cannot be two things: {chosen}")
        return list(chosen.values())

    loaded = _load(path, settings, wanted)
    facts: dict[str, object] = {"format": "table", "columns": chosen, "encoding": settings.encoding}
    collector = RowCollector(settings)
    collector.add(loaded.frame.select(pl.col(column).alias(what) for what, column in chosen.items()), loaded.where)
    collector.faults.count("blank_line", loaded.blank)
    if "timestamp" in chosen:
        facts["timestamp_units"] = collector.units
    items = users = None
    if settings.items_file is not None:
        items = _read_fields(settings.items_file, settings, settings.item_key, columns.ITEM, "item")
        title = columns.choose(settings.items_file, items.columns, columns.TITLE, settings.title_column, "title")
        if title is not None and title != "title":
            items = items.drop("title", strict=False).rename({title: "title"})
    if settings.users_file is not None:
        users = _read_fields(settings.users_file, settings, settings.user_key, columns.USER, "user")
    beside = [file for file in (settings.items_file, settings.users_file) if file is not None]
    return RawData(
        name=path.name.partition(".")[0],
        rows=collector.finish(),
        items=items,
        users=users,
        dropped=collector.dropped,
        facts=facts,
        files=(path, *beside),
    )


def _load(
    path: Path,
    settings: ReadSettings,
    wanted: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> _Loaded:
    """A table of interactions where ``wanted`` chooses its columns, else one that describes users or items."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    if parquet or path.suffix.casefold() in (".parquet", ".pq"):
        try:
            keep = None if wanted is None else list(wanted(list(pl.read_parquet_schema(path))))
            return _Loaded(pl.read_parquet(path, columns=keep, glob=False), 0, lambda row: f"{path}, row {row + 1}")
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]})") from error
    table = read_text_table(
        path,
        separator=settings.separator,
        wanted=wanted,
        encoding=settings.encoding,
        quotes=settings.quotes,
        one_line_rows=wanted is not None,
        separator_may_differ=wanted is None,
    )
    return _Loaded(table.frame, table.blank, table.where)


def _read_fields(path: Path, settings: ReadSettings, key: str | None, known: Sequence[str], what: str) -> pl.DataFrame:
    """A table of items or users: its key under the name ``key``, every other column as text."""
    loaded = _load(path, settings)
    column = columns.require(path, loaded.frame.columns, known, key, what, f"--{what}-key")
    faults = Faults().block(loaded.frame.height, loaded.where)
    frame = loaded.frame.select(
        to_keys(loaded.frame[column], f"{what} key", faults).alias("key"),
        *(_as_text(loaded.frame[name]) for name in loaded.frame.columns if name not in (column, "key")),
    )
    return with_unique_keys(frame, what, loaded.where)


def _as_text(values: pl.Series) -> pl.Series:
    """A column as text: lists comma-separated, structs as JSON, an empty text as missing."""
    if isinstance(values.dtype, pl.List):
        values = values.cast(pl.List(pl.String), strict=False).list.join(", ")
    elif isinstance(values.dtype, pl.Struct):
        values = values.struct.json_encode()
    else:
        values = values.cast(pl.String)
    return pl.select(pl.when(values != "").then(values).alias(values.name)).to_series()
