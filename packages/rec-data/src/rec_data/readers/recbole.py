"""RecBole's atomic files: NAME.inter, NAME.item, NAME.user; tabs, a header whose columns carry types."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_data import columns
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData, with_unique_keys
from rec_data.readers.files import find
from rec_data.readers.lines import blocks_of_lines, first_lines
from rec_data.readers.movielens import year_of
from rec_data.readers.next_item_rows import NextItemRows, join_rows
from rec_data.rows import RowCollector
from rec_data.text import read_text_table, text_blocks

log = logging.getLogger(__name__)

PARTS = {"train": 0, "valid": 1, "test": 2}
HISTORY = "item_id_list"
_ROW = ("user_id", HISTORY, "item_id")
_PART_FILE = re.compile(r"(.+)\.(train|valid|test)\.inter")
TYPES = ("token", "token_seq", "float", "float_seq")
_GENRES = ("class", "genre", "genres")
_UNKNOWN = "unkonwn"  # how RecBole's own conversion of ml-100k spells it


def read_recbole(path: Path, settings: ReadSettings) -> RawData:
    """Read a NAME.inter file, or the one in a directory, with NAME.item and NAME.user where they lie beside it.

    A data set in parts, ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter`` (RecBole's
    ``benchmark_filename``), is read as one, each row of the part of its file. Its rows are events, or, where they have
    a column ``item_id_list:token_seq``, next items with the history before them, from which the sequences are put
    together again (:func:`rec_data.readers.next_item_rows.join_rows`).

    RecBole cuts the year off MovieLens titles; it is put back, so that ``title`` is what the publisher wrote. The
    blank-separated genre column (``class``, ``genre``) becomes ``genres``, comma-separated.
    """
    files, stem = _inter_files(path)
    facts: dict[str, object] = {"format": "recbole"}
    collector = RowCollector(settings)
    if _has_histories(files):
        rows = read_history_rows(files, settings, collector.faults)
        joined = join_rows(rows, collector.faults)
        collector.add(joined.events, lambda row: f"{path}, event {row + 1}")
        user, item = "user_id", "item_id"
        facts["events_from_histories"] = joined.from_histories
        if joined.gaps:
            log.warning("%s events stand between two rows of a user in histories alone", f"{joined.gaps:,}")
            facts["events_between_rows"] = joined.gaps
    else:
        chosen = _read_events(files, settings, collector)
        user, item = chosen["user"], chosen["item"]
        if "timestamp" in chosen:
            facts["timestamp_units"] = collector.units
    facts["columns"] = {"user": user, "item": item}
    if len(files) > 1:
        facts["parts"] = [file.name for file, _ in files]
    items_file, users_file = (find(stem.parent, stem.name + suffix) for suffix in (".item", ".user"))
    items = None if items_file is None else _read_fields(items_file, item, "item")
    users = None if users_file is None else _read_fields(users_file, user, "user")
    return RawData(
        name=stem.name,
        rows=collector.finish(),
        items=None if items is None else _with_film_fields(items),
        users=users,
        dropped=collector.dropped,
        facts=facts,
        files=(*(file for file, _ in files), *(file for file in (items_file, users_file) if file is not None)),
    )


def _inter_files(path: Path) -> tuple[list[tuple[Path, int | None]], Path]:
    """The interaction files with their part (None for a file that holds all), and the path without ``.inter``."""
    folder = path if path.is_dir() else path.parent
    named = None if path.is_dir() else _PART_FILE.fullmatch(_bare(path))
    if not path.is_dir() and named is None:
        return [(path, None)], folder / _bare(path).removesuffix(".inter")
    found = sorted(file for file in folder.iterdir() if _bare(file).endswith(".inter") and file.is_file())
    parts: dict[str, list[Path]] = {}
    for file in found:
        match = _PART_FILE.fullmatch(_bare(file))
        parts.setdefault("" if match is None else match[1], []).append(file)
    if named is not None:
        parts = {named[1]: parts[named[1]]}
    whole = parts.pop("", [])
    if len(whole) + len(parts) != 1:
        names = ", ".join(file.name for file in found) or "none"
        hint = "; name one of them" if found else ""
        raise DataError(
            f"{folder} should hold one .inter file; found {names}{hint} "
            f"(a data set in parts is NAME.train.inter, NAME.valid.inter, NAME.test.inter)"
        )
    if whole:
        return [(whole[0], None)], folder / _bare(whole[0]).removesuffix(".inter")
    ((name, files),) = parts.items()
    by_part = {str(_PART_FILE.fullmatch(_bare(file))[2]): file for file in files}  # type: ignore[index]
    if len(by_part) < len(files):
        raise DataError(f"{folder} holds a part twice, gzipped and not: {', '.join(f.name for f in files)}; keep one")
    return [(by_part[part], code) for part, code in PARTS.items() if part in by_part], folder / name


def _bare(file: Path) -> str:
    return file.name.removesuffix(".gz")


def _has_histories(files: Sequence[tuple[Path, int | None]]) -> bool:
    """Whether the rows are next items with their histories; all files of a data set must agree."""
    headers = {file: next(iter(first_lines(file, 1)), "").split("\t") for file, _ in files}
    with_it = [file.name for file, header in headers.items() if f"{HISTORY}:token_seq" in header]
    if with_it and len(with_it) < len(files):
        raise DataError(
            f"only {', '.join(with_it)} of the parts in {files[0][0].parent} has a column {HISTORY}; all or none may"
        )
    return bool(with_it)


def _read_events(
    files: Sequence[tuple[Path, int | None]], settings: ReadSettings, collector: RowCollector
) -> dict[str, str]:
    """Rows that are events; which column is the user, the item and, where they are there, the time and the rating."""
    chosen: dict[str, str] = {}
    for file, part in files:

        def wanted(header: Sequence[str], file: Path = file) -> list[str]:
            names = _typed(file, header)
            what = ("user", "item", "timestamp", "rating")
            found = dict(zip(what, _columns(file, list(names), settings), strict=True))
            now = {name: names[column] for name, column in found.items() if column is not None}
            if chosen and now != chosen:
                raise DataError(f"the parts of {file.parent} differ in their columns: {chosen} and {now}")
            chosen.update(now)
            return list(now.values())

        for block in ahead(
            text_blocks(file, collector.faults, separator="\t", wanted=wanted, encoding=settings.encoding)
        ):
            frame = block.frame.select(pl.col(column).alias(what) for what, column in chosen.items())
            if part is not None:
                frame = frame.with_columns(pl.lit(part, pl.UInt8).alias("part"))
            collector.add(frame, block.where)
    return {what: column.partition(":")[0] for what, column in chosen.items()}


def read_history_rows(files: Sequence[tuple[Path, int | None]], settings: ReadSettings, faults: Faults) -> NextItemRows:
    """Rows ``user_id``, ``item_id_list``, ``item_id`` of all parts; a row of a file without a part is train."""
    users, histories, targets, parts, places = [], [], [], [], []
    for file, part in files:

        def wanted(header: Sequence[str], file: Path = file) -> list[str]:
            names = _typed(file, header)
            return [names[columns.require(file, list(names), (c,), None, c, "a header that has it")] for c in _ROW]

        for block in text_blocks(file, faults, separator="\t", wanted=wanted, encoding=settings.encoding):
            frame = block.frame.rename(lambda spelled: spelled.partition(":")[0])
            mine = faults.block(frame.height, block.where)
            mine.leave_out(frame["user_id"].is_null(), "missing_user")
            mine.leave_out(frame["item_id"].is_null(), "missing_item")
            kept = mine.kept()
            at = np.arange(frame.height) if kept is None else kept.arg_true().to_numpy()
            frame = frame if kept is None else frame.filter(kept)
            users.append(frame["user_id"])
            history = frame[HISTORY].fill_null("").str.replace_all(" +", " ").str.strip_chars(" ").str.split(" ")
            histories.append(history.list.filter(pl.element() != ""))
            targets.append(frame["item_id"])
            parts.append(np.full(frame.height, part or 0, np.uint8))
            places.append((at, block.where))
    starts = np.cumsum([0, *(len(at) for at, _ in places)])

    def where(row: int) -> str:
        piece = int(np.searchsorted(starts, row, side="right")) - 1
        at, known = places[piece]
        return known(int(at[row - int(starts[piece])]))

    return NextItemRows(pl.concat(users), pl.concat(histories), pl.concat(targets), np.concatenate(parts), where)


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


def _read_fields(path: Path, key: str, what: str) -> pl.DataFrame:
    """The table of items or users."""
    if "\t" not in next(iter(first_lines(path, 1)), ""):  # keys alone
        (header, *keys) = pl.concat([block.text for block in blocks_of_lines(path)]).to_list() or [""]
        columns.require(path, list(_typed(path, [header])), (key,), key, what, f"--{what}-column")
        lone = pl.DataFrame({"key": keys}, schema={"key": pl.String}).filter(pl.col("key") != "")
        return with_unique_keys(lone, what, lambda row: f"{path}, {what} {row + 1}")
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
        cut_off = year.is_not_null() & ~pl.col("title").str.ends_with(pl.format(" ({})", year))
        composed = pl.when(cut_off).then(pl.format("{} ({})", "title", year)).otherwise(pl.col("title"))
        items = items.with_columns(title=composed, release_year=pl.coalesce(year_of(composed), year))
    genres = columns.choose(Path(), items.columns, _GENRES, None, "genres")
    if genres is not None:
        items = items.rename({genres: "genres"} if genres != "genres" else {})
        items = items.with_columns(pl.col("genres").str.replace_all(" +", ", "))
    return items
