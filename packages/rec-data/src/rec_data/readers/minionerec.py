"""MiniOneRec's layout: CSV rows of (user, history, next item) in parts, items and their semantic ids in JSON."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_data import columns
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData
from rec_data.readers.json_files import read_json_object, text_fields
from rec_data.readers.lines import first_lines
from rec_data.readers.next_item_rows import NextItemRows, join_rows
from rec_data.rows import RowCollector
from rec_data.text import text_blocks

log = logging.getLogger(__name__)

PARTS = {"train": 0, "valid": 1, "test": 2}
_COLUMNS = ("user_id", "history_item_id", "item_id")
_ID = r"""(?:\d+|'[^'\\,]*'|"[^"\\,]*")"""
_LIST = rf"^\[\s*(?:{_ID}(?:\s*,\s*{_ID})*)?\s*\]$"


def read_minionerec(path: Path, settings: ReadSettings) -> RawData:
    """Read ``train.csv``, ``valid.csv``, ``test.csv`` of a directory, or the CSV in its folders of these names.

    At least one part must be there. A user's sequence is put together from its rows: the first history, then every
    next item (:func:`rec_data.readers.next_item_rows.join_rows`), each of the part of its file; histories that reach
    before the first row are train. Titles, descriptions, brands and categories come from ``*.item.json``; items that
    only it knows are cold. ``*.index.json`` and ``info*.txt`` are checked against it, and the semantic ids they hold
    stay where they are: text that spells codes would reach prompts and text encoders as if it described the item.
    """
    files = _parts(path)
    collector = RowCollector(settings)
    tables = [_read_part(file, part, settings, collector.faults) for file, part in files]
    rows, titles = _concat(tables)
    joined = join_rows(rows, collector.faults)
    if joined.gaps:
        log.warning("%s events stand between two rows of a user in histories alone", f"{joined.gaps:,}")
    collector.add(joined.events, lambda row: f"{path}, event {row + 1}")
    facts: dict[str, Any] = {
        "format": "minionerec",
        "rows": {
            file.name if file.parent == path else f"{file.parent.name}/{file.name}": len(table[0].user)
            for (file, _), table in zip(files, tables, strict=True)
        },
        "longest_history": max(rows.history.list.len(), default=0),
        "events_from_histories": joined.from_histories,
        "events_between_rows": joined.gaps,
    }
    item_file = _one(path, "*.item.json*", ("", "index"))
    items = None
    if item_file is not None:
        records = read_json_object(item_file)
        for record in records.values():
            if isinstance(record, dict) and isinstance(record.get("description"), str):
                record["description"] = _description(record["description"])
        items = text_fields(item_file, records, "item")
        _compare_titles(titles, items, item_file, facts)
    index = _one(path, "*.index.json*", ("", "index"))
    if index is not None:
        facts["semantic_ids"] = about_index(index, items)
    return RawData(
        name=_name(path, files),
        rows=collector.finish(),
        items=items,
        dropped=collector.dropped,
        facts=facts,
        files=(*(file for file, _ in files), *(file for file in (item_file, index) if file is not None)),
    )


def _parts(path: Path) -> list[tuple[Path, int]]:
    if not path.is_dir():
        raise DataError(f"{path} is one file; name the directory that holds train.csv, valid.csv and test.csv")
    found = []
    for name, part in PARTS.items():
        there = [file for file in (path / f"{name}.csv", path / f"{name}.csv.gz") if file.is_file()]
        there += sorted(file for file in (path / name).glob("*.csv*") if file.is_file())
        if len(there) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in there)
            raise DataError(f"{path} should hold one {name} table; found {names}; leave one of them")
        found += [(file, part) for file in there]
    if not found:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:12]) or "nothing"
        raise DataError(f"{path} has no train.csv, valid.csv or test.csv; it holds: {names}")
    return found


def _read_part(file: Path, part: int, settings: ReadSettings, faults: Faults) -> tuple[NextItemRows, pl.DataFrame]:
    """The rows of one file, and the title that each next item has there."""

    def wanted(found: Any) -> list[str]:
        for name in _COLUMNS:
            columns.require(file, found, (name,), None, name, "--format, as this is another layout")
        return [name for name in (*_COLUMNS, "item_title") if name in found]

    (block,) = text_blocks(
        file, faults, separator=",", wanted=wanted, encoding=settings.encoding, quotes=True, one_line_rows=False
    )
    frame = block.frame
    mine = faults.block(frame.height, block.where)
    user, text, target = (frame[name] for name in _COLUMNS)
    mine.leave_out(user.is_null(), "missing_user")
    mine.leave_out(target.is_null(), "missing_item")
    mine.refuse(
        text.is_null() | ~text.str.contains(_LIST),
        "bad_history",
        lambda row: f"history_item_id {_short(text[row])} is not a list of item ids such as [12, 7]",
    )
    kept = mine.kept()
    at = np.arange(frame.height) if kept is None else kept.arg_true().to_numpy()
    if kept is not None:
        frame = frame.filter(kept)
        user, text, target = (frame[name] for name in _COLUMNS)
    bare = text.str.replace_all(r"""[\[\]'"\s]""", "")
    history = bare.str.split(",").list.filter(pl.element() != "")
    titled = "item_title" in frame.columns
    title = frame["item_title"] if titled else pl.Series([None] * len(target), dtype=pl.String)

    def where(row: int) -> str:
        return block.where(int(at[row]))

    part_of_rows = np.full(len(user), part, np.uint8)
    return NextItemRows(user, history, target, part_of_rows, where), pl.DataFrame({"key": target, "title": title})


def _concat(tables: list[tuple[NextItemRows, pl.DataFrame]]) -> tuple[NextItemRows, pl.DataFrame]:
    rows = [table for table, _ in tables]
    starts = np.cumsum([0, *(len(table.user) for table in rows)])

    def where(row: int) -> str:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return rows[at].where(row - int(starts[at]))

    whole = NextItemRows(
        pl.concat([table.user for table in rows]),
        pl.concat([table.history for table in rows]),
        pl.concat([table.target for table in rows]),
        np.concatenate([table.part for table in rows]),
        where,
    )
    return whole, pl.concat([titles for _, titles in tables])


def _one(path: Path, pattern: str, folders: tuple[str, ...]) -> Path | None:
    found = sorted(file for folder in folders for file in (path / folder).glob(pattern) if file.is_file())
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(path)) for file in found)
        raise DataError(f"{path} should hold one {pattern.strip('*')} file; found {names}; leave one of them")
    return found[0] if found else None


def _description(text: str) -> str:
    """The text of a description, which this layout keeps as the Python spelling of a list of texts.

    In a few the entities were resolved after the list was spelled, so that a quote inside ends a text early; there the
    brackets and outer quotes go and the rest stays as it is.
    """
    spelled = re.fullmatch(r"""\[(['"]).*['"]\]""", text, re.DOTALL)
    if spelled is None:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = re.split(r"""['"], ['"]""", text[2:-2].replace("\\n", "\n"))
    if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        return " ".join(filter(None, (piece.strip() for piece in value)))
    return text


def _compare_titles(titles: pl.DataFrame, items: pl.DataFrame, file: Path, facts: dict[str, Any]) -> None:
    """Refuse an item file whose titles are not those of the rows: its numbers stand for other items."""
    if "title" not in items.columns or not titles.height:
        return
    both = titles.unique().join(items.select("key", there="title"), on="key", how="left")
    unknown = both.filter(~pl.col("key").is_in(items["key"].implode()))
    if unknown.height:
        log.warning("%s items of the rows are not in %s", f"{unknown.height:,}", file.name)
        facts["items_without_description"] = unknown.height
    same = (pl.col("title").str.strip_chars() == pl.col("there").str.strip_chars()) | pl.col("there").is_null()
    other = both.filter(~same)
    if other.height * 2 > both.height:
        key, title, there = other.row(0)
        raise DataError(
            f"{file} is of other data: item {key!r} is {_short(there)} there and {_short(title)} in the rows "
            f"({other.height:,} of {both.height:,} titles differ)"
        )
    if other.height:
        log.warning("%s titles in the rows differ from %s, whose titles count", f"{other.height:,}", file.name)
        facts["titles_that_differ"] = other.height


def about_index(file: Path, items: pl.DataFrame | None) -> dict[str, Any]:
    """What an index file (item -> list of code tokens) holds; :class:`DataError` where it is of other items."""
    index = read_json_object(file)
    wrong = next((key for key, value in index.items() if not isinstance(value, list) or not value), None)
    if wrong is not None:
        raise DataError(f"{file}: the semantic id of item {wrong!r} is {index[wrong]!r}; wanted a list of code tokens")
    if items is not None:
        missing = sorted(set(items["key"]) ^ set(index))
        if missing:
            side = "has no" if missing[0] not in index else "knows an"
            raise DataError(f"{file} {side} item {missing[0]!r}, unlike the items file ({len(missing):,} such items)")
    ids = [tuple(value) for value in index.values()]
    return {"file": file.name, "items": len(ids), "levels": max(map(len, ids), default=0), "different": len(set(ids))}


def _name(path: Path, files: list[tuple[Path, int]]) -> str:
    items = _one(path, "*.item.json*", ("", "index"))
    if items is not None:
        return items.name.partition(".item.json")[0]
    return path.resolve().name if files[0][0].parent == path else files[0][0].name.partition(".")[0]


def _short(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 60 else text[:57] + "...")


def is_minionerec(path: Path) -> bool:
    """Whether a directory holds parts (``test.csv``, ``test/*.csv``) whose header names histories and next items."""
    if not path.is_dir():
        return False
    for name in PARTS:
        for file in (path / f"{name}.csv", path / f"{name}.csv.gz", *sorted((path / name).glob("*.csv*"))):
            header = next(iter(first_lines(file, 1)), "").replace('"', "").split(",")
            if set(_COLUMNS) <= set(header):
                return True
    return False
