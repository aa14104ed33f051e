"""Your own tables: separated text, gzipped or not, and Parquet, in one file or in parts, with a column mapping."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from rec_core.errors import DataError, SettingsError
from rec_data import columns
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData, with_unique_keys
from rec_data.rows import RowCollector, Where
from rec_data.text import read_text_table, text_blocks
from rec_data.values import to_keys

ROWS = 1 << 19  # of a Parquet file at a time
ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".txt.gz", ".jsonl.gz")
Wanted = Callable[[Sequence[str]], Sequence[str]]
Block = tuple[pl.DataFrame, Where]


def read_table(path: Path, settings: ReadSettings) -> RawData:
    """Read one table of interactions and, where the settings name them, tables of items and users.

    Columns that the settings leave out are looked for under their usual names (``user_id``, ``asin``,
    ``timestamp``, ...); user and item must be found, time and rating may be absent. A directory holds one table in
    parts, read in the order of their names (numbers in them by value): either files called ``interactions*`` beside
    ``items.*`` and ``users.*``, or nothing but Parquet files.
    """
    parts, items_file, users_file = _files(path, settings)
    chosen: dict[str, str] = {}

    def wanted(found: Sequence[str]) -> list[str]:
        columns_now = chosen_columns(parts[0], found, settings)
        if chosen and columns_now != chosen:
            raise DataError(f"the parts of {path} differ in their columns: {chosen} and {columns_now}")
        chosen.update(columns_now)
        return list(chosen.values())

    collector = RowCollector(settings)
    for part in parts:
        for frame, where in ahead(blocks_of(part, settings, collector.faults, wanted)):
            collector.add(frame.select(pl.col(column).alias(what) for what, column in chosen.items()), where)
    facts: dict[str, object] = {"format": "table", "columns": chosen, "encoding": settings.encoding}
    if len(parts) > 1:
        facts["parts"] = len(parts)
    if "timestamp" in chosen:
        facts["timestamp_units"] = collector.units
    items = users = None
    if items_file is not None:
        items = read_fields(items_file, settings, settings.item_key, columns.ITEM, "item")
        title = columns.choose(items_file, items.columns, columns.TITLE, settings.title_column, "title")
        if title is not None and title != "title":
            items = items.drop("title", strict=False).rename({title: "title"})
    if users_file is not None:
        users = read_fields(users_file, settings, settings.user_key, columns.USER, "user")
    beside = [file for file in (items_file, users_file) if file is not None]
    return RawData(
        name=path.name.partition(".")[0],
        rows=collector.finish(),
        items=items,
        users=users,
        dropped=collector.dropped,
        facts=facts,
        files=(*parts, *beside),
    )


def table_parts(path: Path) -> list[Path]:
    """The files of a table in parts, in order; empty when the directory does not hold one."""
    names = [file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_"))]
    called = [file for file in names if file.name.startswith("interactions") and file.name.endswith(ENDINGS)]
    if called:
        return sorted(called, key=natural_order)
    if names and all(file.suffix in (".parquet", ".pq") for file in names):
        return sorted(names, key=natural_order)
    return []


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key to sort paths by, numbers in them by value: part-2 before part-10."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"([0-9]+)", path.as_posix())]


def _files(path: Path, settings: ReadSettings) -> tuple[list[Path], Path | None, Path | None]:
    if not path.is_dir():
        return [path], settings.items_file, settings.users_file
    parts = table_parts(path)
    if not parts:
        raise DataError(f"{path} is a directory; name the table in it")

    def beside(what: str) -> Path | None:
        found = [path / f"{what}{ending}" for ending in ENDINGS if (path / f"{what}{ending}").is_file()]
        if len(found) > 1:
            raise DataError(f"{path} holds {found[0].name} and {found[1].name}; name one with --{what}-file")
        return found[0] if found else None

    return parts, settings.items_file or beside("items"), settings.users_file or beside("users")


def chosen_columns(path: Path, found: Sequence[str], settings: ReadSettings) -> dict[str, str]:
    """user, item and, where they are there, timestamp and rating -> column."""
    chosen = {
        "user": columns.require(path, found, columns.USER, settings.user_column, "user", "--user-column"),
        "item": columns.require(path, found, columns.ITEM, settings.item_column, "item", "--item-column"),
    }
    for what, known, asked in (
        ("timestamp", columns.TIMESTAMP, settings.timestamp_column),
        ("rating", columns.RATING, settings.rating_column),
    ):
        column = columns.choose(path, found, known, asked, what)
        if column is not None:
            chosen[what] = column
    columns.check_different(path, chosen)
    return chosen


def blocks_of(path: Path, settings: ReadSettings, faults: Faults, wanted: Wanted) -> Iterator[Block]:
    """The wanted columns of a table of interactions, block by block, and where each row stands."""
    names = None if settings.column_names is None else [name.strip() for name in settings.column_names.split(",")]
    if is_parquet(path):
        _refuse_text_options(path, "Parquet", settings)
        if settings.format == "json-lines":
            raise DataError(f"{path} is Parquet, not JSON lines; leave out --format json-lines")
        yield from _parquet_blocks(path, wanted)
        return
    if is_json_lines(path) or settings.format == "json-lines":
        from rec_data.json_lines import json_blocks

        _refuse_text_options(path, "JSON lines", settings)
        yield from json_blocks(path, faults, wanted=wanted)
        return
    if names is not None and (len(set(names)) < len(names) or not all(names)):
        got = settings.column_names
        raise SettingsError(f"--column-names are different names with commas between them; got {got!r}")
    for block in text_blocks(
        path,
        faults,
        separator=settings.separator,
        columns=names,
        wanted=wanted,
        encoding=settings.encoding,
        quotes=settings.quotes,
        numbers=True,
    ):
        yield block.frame, block.where


def _refuse_text_options(path: Path, kind: str, settings: ReadSettings) -> None:
    """Options of separated text say nothing about Parquet and JSON lines, and would be ignored silently."""
    asked = {"--column-names": settings.column_names is not None, "--no-quotes": not settings.quotes}
    if settings.items_file is None and settings.users_file is None:  # these may be text
        asked |= {"--separator": settings.separator is not None, "--encoding": settings.encoding != "utf-8"}
    named = [option for option, there in asked.items() if there]
    if named:
        raise SettingsError(f"{path} is {kind}, which takes no {' and no '.join(named)}; leave it out")


def is_parquet(path: Path) -> bool:
    """Whether the file is Parquet by its first bytes or its ending."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix.casefold() in (".parquet", ".pq")


def is_json_lines(path: Path) -> bool:
    """Whether the file's name says that its lines are JSON objects."""
    return path.name.casefold().removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))


def _parquet_blocks(path: Path, wanted: Wanted | None) -> Iterator[Block]:
    """Row by row as the file has them, whatever its row groups are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            keep = names if wanted is None else list(wanted(names))
            if len(set(keep)) != len(keep):
                raise DataError(f"{path} has a column twice: {keep}")
            start = 0
            for batch in file.iter_batches(batch_size=ROWS, columns=keep, use_threads=False):
                batch.validate(full=True)  # text that is no UTF-8, which polars takes on trust
                frame = pl.from_arrow(pa.Table.from_arrays(batch.columns, names=batch.schema.names))
                assert isinstance(frame, pl.DataFrame)
                yield frame, row_of(path, start)
                start += frame.height
            if start != file.metadata.num_rows:
                raise DataError(f"{path} promises {file.metadata.num_rows:,} rows and holds {start:,}; is it damaged?")
            if not start:
                empty = pl.from_arrow(file.schema_arrow.empty_table())
                assert isinstance(empty, pl.DataFrame)
                yield empty.select(keep), row_of(path, 0)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]})") from error


def row_of(place: Path | str, start: int) -> Where:
    """How a row of a block that begins at row ``start`` is named."""
    return lambda row: f"{place}, row {start + row + 1}"


def read_fields(path: Path, settings: ReadSettings, key: str | None, known: Sequence[str], what: str) -> pl.DataFrame:
    """A table of items or users: its key under the name ``key``, every other column as text or lists of text."""
    if is_parquet(path):
        pieces = [frame for frame, _ in _parquet_blocks(path, None)]
        loaded, where = pl.concat(pieces), row_of(path, 0)
    elif is_json_lines(path):
        from rec_data.json_lines import read_json_lines

        lines = read_json_lines(path)
        loaded, where = lines.frame, lines.where
    else:
        table = read_text_table(
            path,
            separator=settings.separator,
            encoding=settings.encoding,
            quotes=settings.quotes,
            one_line_rows=False,
            separator_may_differ=True,
        )
        loaded, where = table.frame, table.where
    column = columns.require(path, loaded.columns, known, key, what, f"--{what}-key")
    faults = Faults().block(loaded.height, where)
    frame = loaded.select(
        to_keys(loaded[column], f"{what} key", faults).cast(pl.String).alias("key"),
        *(as_text(loaded[name]) for name in loaded.columns if name not in (column, "key")),
    )
    return with_unique_keys(frame, what, where)


def as_text(values: pl.Series) -> pl.Series:
    """A column as text, or as lists of text; structs as JSON, an empty text as missing."""
    if isinstance(values.dtype, pl.List):
        inner = values.dtype.inner
        if isinstance(inner, pl.List):
            return values.cast(pl.List(pl.List(pl.String)), strict=False)
        return values.cast(pl.List(pl.String), strict=False)
    if isinstance(values.dtype, pl.Struct):
        values = values.struct.json_encode()
    else:
        values = values.cast(pl.String)
    return pl.select(pl.when(values != "").then(values).alias(values.name)).to_series()
