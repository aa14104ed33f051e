"""Files that say which raw key a number in a processed layout stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rec_core.errors import DataError
from rec_data.faults import BlockFaults
from rec_data.readers.files import find
from rec_data.readers.json_files import read_json_object
from rec_data.readers.lines import blocks_of_lines

DATAMAPS = "datamaps.json"


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Numbers of a layout and the raw keys they stand for.

    path     the file that says so
    numbers  String, all different
    keys     String, all different, one per number
    """

    path: Path
    numbers: pl.Series
    keys: pl.Series

    def __len__(self) -> int:
        return len(self.numbers)

    def raw(self, numbers: pl.Series, what: str, faults: BlockFaults) -> pl.Series:
        """The raw keys; a number that the file does not have is a fault (``unknown_user``, ``unknown_item``)."""
        keys = numbers.replace_strict(self.numbers, self.keys, default=None)
        wrong = keys.is_null() & numbers.is_not_null()
        faults.refuse(
            wrong, f"unknown_{what}", lambda row: f"{what} {numbers[row]!r} has no raw key in {self.path.name}"
        )
        return keys


def _checked(path: Path, numbers: pl.Series, keys: pl.Series, what: str, where: Callable[[int], str]) -> KeyMap:
    for name, column in ((f"{what} number", numbers), (f"raw {what} key", keys)):
        if column.n_unique() != len(column):
            again = int(column.is_duplicated().arg_max() or 0)
            second = int((column == column[again]).arg_true()[1])
            raise DataError(
                f"{where(second)}: {name} {column[again]!r} occurs for the second time (first: {where(again)})"
            )
    return KeyMap(path, numbers, keys)


def read_two_columns(path: Path, what: str, *, header: tuple[str, str] | None = None) -> KeyMap:
    """Lines of a raw key and its number, cut at the last tab or blank.

    LC-Rec's ``D.user2id`` and LightGCN's ``user_list.txt`` are such files; ``header`` is the first line of the latter.
    """
    numbers, keys, lines = [], [], []
    for block in blocks_of_lines(path):
        text = block.text
        if block.first == 1 and header is not None:
            if not len(text) or tuple(text[0].split()[:2]) != header:
                raise DataError(
                    f"{path} starts with {text[0] if len(text) else ''!r}; wanted the header {' '.join(header)!r}"
                )
            text = text[1:]
        offset = block.first + (block.first == 1 and header is not None)
        full = (text != "").arg_true()
        text = text.gather(full)
        parts = text.str.extract_groups(r"^(.*?)[ \t]+([^ \t]+)$").struct.unnest()
        wrong = parts["2"].is_null()
        if wrong.any():
            at = int(wrong.arg_max() or 0)
            raise DataError(f"{path}, line {offset + full[at]}: {text[at]!r} is not a raw {what} key and its number")
        keys.append(parts["1"])
        numbers.append(parts["2"])
        lines.append((full + offset).cast(pl.Int64))
    if not keys:
        raise DataError(f"{path} is empty; wanted a line per {what}: its raw key and its number")
    at_line = pl.concat(lines)
    return _checked(path, pl.concat(numbers), pl.concat(keys), what, lambda row: f"{path}, line {at_line[row]}")


@dataclass(frozen=True, slots=True)
class DataMaps:
    """A ``datamaps.json``: ``user2id`` and ``item2id``, and whatever else it holds (``id2attribute``, ...)."""

    path: Path
    users: KeyMap
    items: KeyMap
    rest: dict[str, Any]


def datamaps_beside(file: Path) -> DataMaps | None:
    """The ``datamaps.json`` in the directory of a file, None where there is none.

    P5 and LLM-RecSys-ID publish their data with one; :mod:`rec_data.export` writes one wherever a layout has numbers
    for keys and no map of its own.
    """
    path = find(file.parent, DATAMAPS)
    if path is None:
        return None
    maps = read_json_object(path)
    found = {}
    for what in ("user", "item"):
        entry = maps.get(f"{what}2id")
        if not isinstance(entry, dict):
            there = ", ".join(maps) or "nothing"
            raise DataError(f"{path} has no object '{what}2id' (raw key -> number); it has: {there}")
        keys = pl.Series(list(entry), dtype=pl.String)
        numbers = pl.Series([str(number) for number in entry.values()], dtype=pl.String)
        found[what] = _checked(path, numbers, keys, what, lambda row, keys=keys: f"{path}, {keys[row]!r}")  # type: ignore[misc]
    return DataMaps(path, found["user"], found["item"], maps)
