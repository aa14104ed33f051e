"""Whole JSON files, read so that nothing in them is lost without a word."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_core.types.ids import Int64
from rec_data.text import byte_lines


def read_json_object(path: Path) -> dict[str, Any]:
    """The one JSON object of a file, gzipped or not.

    Raises :class:`DataError` for a missing file, bytes that are not UTF-8, damaged JSON (naming line and column), a
    key that occurs twice in one object, where Python keeps the last and forgets the others, and for anything other
    than an object.
    """
    data = b"".join(byte_lines(path))
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_Objects(path))
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        raise DataError(f"{path}, line {line} is not UTF-8 near byte {error.start:,}; convert the file") from error
    except json.JSONDecodeError as error:
        cut = " (the file is cut off?)" if error.pos >= len(error.doc.rstrip()) else ""
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}{cut}; fetch it again"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} nests objects or lists too deeply for a table of data") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {_name(value)}; wanted one object with a key per user or item")
    return value


class _Objects:
    """Makes each object, and refuses a key that occurs twice in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DataError(f"{self._path}: the key {twice!r} occurs twice in one object; one of them would be lost")
        return made


def ragged_keys(path: Path, lists: Mapping[str, Any], what: str) -> tuple[Int64, pl.Series]:
    """Lengths of the lists that are the values of an object, and their elements one after the other, as text keys.

    Raises :class:`DataError` for a value that is no list and an element that is neither text nor a whole number.
    """
    if set(map(type, lists.values())) - {list}:
        key, value = next((k, v) for k, v in lists.items() if not isinstance(v, list))
        raise DataError(f"{path}: {key!r} holds a JSON {_name(value)}; wanted the list of its {what}s")
    lengths = np.fromiter(map(len, lists.values()), np.int64, len(lists))
    flat = list(chain.from_iterable(lists.values()))
    kinds = set(map(type, flat))
    if kinds - {int, str}:
        at = next(i for i, v in enumerate(flat) if type(v) not in (int, str))
        owner = list(lists)[int(np.searchsorted(np.cumsum(lengths), at, side="right"))]
        raise DataError(f"{path}: the list of {owner!r} holds {flat[at]!r}; {what}s are text or whole numbers")
    if kinds == {int}:
        try:
            return lengths, pl.Series(flat, dtype=pl.Int64).cast(pl.String)
        except (OverflowError, TypeError):  # more than 64 bits: still a fine key
            pass
    return lengths, pl.Series(list(map(str, flat)), dtype=pl.String)


def text_fields(path: Path, records: Mapping[str, Any], what: str) -> pl.DataFrame:
    """A table with the column ``key`` and a column per field from an object of objects: text, or lists of text.

    Numbers become text, lists in lists become one list, and empty text is missing.
    """
    if set(map(type, records.values())) - {dict}:
        key, value = next((k, v) for k, v in records.items() if not isinstance(v, dict))
        raise DataError(f"{path}: {what} {key!r} holds a JSON {_name(value)}; wanted an object of its fields")
    columns = {"key": pl.Series(list(records), dtype=pl.String)}
    for name in dict.fromkeys(chain.from_iterable(records.values())):
        if name == "key":
            continue
        values = [record.get(name) for record in records.values()]
        if list in set(map(type, values)):
            lists = [_texts(value if isinstance(value, list) else [value]) for value in values]
            columns[name] = pl.Series(lists, dtype=pl.List(pl.String))
        else:
            columns[name] = pl.Series(list(map(as_text, values)), dtype=pl.String)
    return pl.DataFrame(columns)


def as_text(value: Any) -> str | None:
    """A JSON value as the text of a field; None where there is nothing."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _texts(values: Iterable[Any]) -> list[str]:
    """The texts of a list and of all lists in it."""
    return [text for value in _flat(values) if (text := as_text(value)) is not None]


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _name(value: Any) -> str:
    kinds = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return kinds.get(type(value), "null")
