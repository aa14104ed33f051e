"""JSON lines: one object per line, read block by block so that every physical line is accounted for.

Rows of plain columns go through polars, and each block is then checked for what polars passes over (a key named twice,
half of a surrogate pair, a list read as text). A block that fails a check, or that polars refuses, is read line by line
with the standard library, which is the plain version of the same rules and names the faulty line. Tables of items may
hold lists and objects and are always read that way.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from json import JSONDecoder
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_data.faults import Faults
from rec_data.rows import Where
from rec_data.text import BLOCK, byte_lines

Wanted = Callable[[Sequence[str]], Sequence[str]]
Block = tuple[pl.DataFrame, Where]
MOST_KEYS = 1000  # different keys in one file; more are data, not columns


@dataclass(frozen=True)
class JsonTable:
    """A table of JSON lines, one row per object.

    path    the file
    frame   a column per key: String, List(String) or List(List(String))
    keys    all keys that occur, in the order in which they first do
    where   row -> ``items.jsonl, line 17``
    """

    path: Path
    frame: pl.DataFrame
    keys: tuple[str, ...]
    where: Where


def json_blocks(
    path: Path, faults: Faults, *, wanted: Wanted, literals: bool = False, block_bytes: int = BLOCK
) -> Iterator[Block]:
    """Some keys of a file of JSON lines as text columns, gzipped or not, in blocks of rows.

    ``wanted`` is given the keys of the first block and returns those to keep; it may raise, and may name keys that
    were not seen yet. A missing key, null and an empty text are null; numbers keep their digits, and one without a
    fraction is written without a point (5.0 is 5); true and false stay these words. With ``literals`` a line may also
    be a Python literal, the form of some older releases.

    Blank lines are counted in ``faults`` as ``blank_line``. A line that is no JSON object, or holds a list, an object,
    NaN or infinity, half of a surrogate pair or a second value under a wanted key, is a :class:`DataError` that names
    it, or counted as ``bad_json`` where the faults are to be dropped; one that is not UTF-8 as ``wrong_encoding``.
    """
    reader = _Reader(path, faults, literals)
    keep: list[str] | None = None
    for data, first in reader.blocks(block_bytes):
        if keep is None:
            objects, lines = reader.objects(data, first)
            if not objects:
                continue
            keep = list(wanted(_keys(path, objects, {})))
            yield reader.plain_columns(objects, lines, keep)
            continue
        frame = None if literals else _by_polars(data, keep)
        if frame is not None:
            yield frame, _line_of(path, first)
        else:
            yield reader.plain_columns(*reader.objects(data, first), keep)
    if keep is None:
        raise DataError(f"{path} holds no JSON object; wanted one per line" + reader.hint)


def read_json_lines(
    path: Path,
    *,
    wanted: Iterable[str] | None = None,
    literals: bool = False,
    faults: Faults | None = None,
    block_bytes: int = BLOCK,
) -> JsonTable:
    """A whole table of JSON lines, gzipped or not, with lists.

    ``wanted`` names the keys to keep (those that occur become columns); None keeps all. Values are text as in
    :func:`json_blocks`; a list becomes a list of texts, a list of lists two levels of them, a scalar in a column with
    lists a list of one; objects, and lists further down, become their JSON text. Faulty lines are errors unless
    ``faults`` says otherwise.
    """
    reader = _Reader(path, faults if faults is not None else Faults(), literals)
    keys: dict[str, None] = {}
    blocks: list[dict[str, _Column]] = []
    lines = [np.empty(0, np.int64)]
    heights: list[int] = []
    chosen = None if wanted is None else list(dict.fromkeys(wanted))
    for data, first in reader.blocks(block_bytes):
        objects, numbers = reader.objects(data, first)
        names = _keys(path, objects, keys)
        columns, numbers = reader.nested_columns(objects, numbers, names if chosen is None else chosen)
        blocks.append(columns)
        heights.append(len(numbers))
        lines.append(np.asarray(numbers, np.int64))
    if not sum(heights):
        raise DataError(f"{path} holds no JSON object; wanted one per line" + reader.hint)
    kept = [name for name in keys if chosen is None or name in chosen]
    frame = pl.DataFrame({name: _joined(name, blocks, heights) for name in kept})
    where = np.concatenate(lines)
    return JsonTable(path, frame, tuple(keys), lambda row: f"{path}, line {where[row]}")


# polars: all rows of a block at once


def _by_polars(data: bytes, keep: Sequence[str]) -> pl.DataFrame | None:
    """The wanted columns of a block, or None where only a look at every line can tell what it holds."""
    if _halves(data) or not all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in keep):
        return None
    try:
        frame = pl.read_ndjson(BytesIO(data), schema=dict.fromkeys(keep, pl.String))
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if frame.height != data.count(b"\n") + (not data.endswith(b"\n")):
        return None
    if not all(_once_and_plain(data, name, frame[name]) for name in keep):
        return None
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _once_and_plain(data: bytes, name: str, values: pl.Series) -> bool:
    """Whether no object names the key twice and no value is a list or object.

    polars takes the first of two values and writes lists as text, so the spelled keys are counted and the first
    characters looked at: where both are as they should be, the file is not searched for what stands behind each key.
    """
    if data.count(b'"' + name.encode() + b'"') == values.count() and not values.str.contains(r"^[\[{]").any():
        return True
    starts = re.findall(rb'"' + name.encode() + rb'"\s*:\s*(.)', data)
    return len(starts) == values.count() and {b"[", b"{", b"n"}.isdisjoint(starts)


def _halves(data: bytes) -> bool:
    r"""Whether an escaped surrogate may stand alone: \ud83d without \ude00 behind it, or the other way round."""
    high = None  # where one is that waits for its other half
    for escape in re.finditer(rb"\\u[dD]([89a-fA-F])", data):
        start, is_high = escape.start(), escape[1] in b"89abAB"
        if data[start - 1] == ord("\\") or (high is None) != is_high or (high is not None and start != high + 6):
            return True
        high = start if is_high else None
    return high is not None


# the standard library: line by line


class _Repeated(dict[str, Any]):
    """An object with keys that occur twice in it: ``names``."""

    names: frozenset[str] = frozenset()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    repeated = _Repeated(found)
    repeated.names = frozenset(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return repeated


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_decode = JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse).decode


class _Reader:
    """Lines of one file to objects, and objects to columns."""

    def __init__(self, path: Path, faults: Faults, literals: bool) -> None:
        self.path, self._faults, self._literals = path, faults, literals
        self.hint = ""

    def blocks(self, block_bytes: int) -> Iterator[tuple[bytes, int]]:
        """Blocks of whole lines and the number of their first line."""
        line = 1
        for data in byte_lines(self.path, block_bytes):
            if line == 1:
                if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{self.path} is UTF-16; convert it to UTF-8, the encoding of JSON")
                data = data.removeprefix(b"\xef\xbb\xbf")
                self.hint = _one_document(data)
            yield data, line
            line += data.count(b"\n")

    def objects(self, data: bytes, first: int) -> tuple[list[dict[str, Any]], Sequence[int]]:
        """The objects of the lines, and the number of each one's line."""
        try:
            texts = data.decode().split("\n")
            if not texts[-1]:
                texts.pop()
            parse = self._parsed if self._literals else _decode
            objects = [parse(text) for text in texts]
            if set(map(type, objects)) <= {dict}:
                return objects, range(first, first + len(objects))
        except (ValueError, RecursionError):
            pass
        return self._walk(data, first)

    def _walk(self, data: bytes, first: int) -> tuple[list[dict[str, Any]], list[int]]:
        objects: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, line in enumerate(BytesIO(data), start=first):
            if not line.strip(b" \t\r\n"):
                self._faults.count("blank_line", 1)
                continue
            reason = "bad_json"
            try:
                value = (self._parsed if self._literals else _decode)(line.decode().rstrip("\n"))
                if not isinstance(value, dict):
                    raise ValueError(f"{_kind(value)}, wanted an object")
            except UnicodeDecodeError as error:
                near = line[max(error.start - 20, 0) : error.start + 20].decode("latin-1")
                reason, problem = "wrong_encoding", f"is not UTF-8 near {near!r}"
            except (ValueError, RecursionError) as error:
                wanted = "neither a JSON object nor a Python literal" if self._literals else "no JSON object"
                shown = line[:80].decode("utf-8", "replace").rstrip("\r\n")
                problem = f"is {wanted} ({_short(error)}): {shown!r}{self.hint}"
            else:
                objects.append(value)
                numbers.append(number)
                continue
            self._leave_out(reason, number, problem)
        return objects, numbers

    def _leave_out(self, reason: str, number: int, problem: str) -> None:
        if self._faults.bad_rows == "error":
            raise DataError(f"{self.path}, line {number} {problem}")
        self._faults.count(reason, 1)

    def _parsed(self, line: str) -> Any:
        """A line that is JSON or a Python literal."""
        try:
            return _decode(line)
        except ValueError:
            pass
        try:
            return _decode(literal_as_json(line))
        except ValueError:
            return _literal(line)

    def plain_columns(self, objects: list[dict[str, Any]], lines: Sequence[int], keep: Sequence[str]) -> Block:
        """Columns of text; rows whose values are none are left out."""

        def build(rows: list[dict[str, Any]]) -> pl.DataFrame:
            return pl.DataFrame({name: pl.Series(_texts(rows, name), dtype=pl.String) for name in keep})

        frame, lines = self._built(objects, lines, keep, build, _text)
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
        return frame, lambda row: f"{self.path}, line {lines[row]}"

    def nested_columns(
        self, objects: list[dict[str, Any]], lines: Sequence[int], keep: Sequence[str]
    ) -> tuple[dict[str, _Column], Sequence[int]]:
        """Columns of text or lists; rows whose values are none are left out."""
        return self._built(
            objects, lines, keep, lambda rows: {name: _Column.of(rows, name) for name in keep}, lambda v: _nested(v, 2)
        )

    def _built(
        self,
        objects: list[dict[str, Any]],
        lines: Sequence[int],
        keep: Sequence[str],
        build: Callable[[list[dict[str, Any]]], Any],
        one: Callable[[Any], Any],
    ) -> tuple[Any, Sequence[int]]:
        """``build`` of the objects, or, where it fails, of those whose values pass ``one``."""
        if not any(isinstance(value, _Repeated) for value in objects):
            try:
                return build(objects), lines
            except (ValueError, TypeError, RecursionError):  # UnicodeEncodeError, a lone surrogate, is a ValueError
                pass
        good: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, value in zip(lines, objects, strict=True):
            twice = sorted(value.names & set(keep)) if isinstance(value, _Repeated) else []
            problem = f"names {twice[0]!r} twice" if twice else ""
            for name in keep:
                try:
                    pl.Series([json.dumps(one(value.get(name)), ensure_ascii=False)], dtype=pl.String)
                except UnicodeEncodeError:
                    problem = problem or f"holds half of a surrogate pair under {name!r}"
                except (ValueError, TypeError, RecursionError) as error:
                    problem = problem or f"holds under {name!r} {_short(error)}"
            if problem:
                self._leave_out("bad_json", number, problem)
            else:
                good.append(value)
                numbers.append(number)
        return build(good), numbers


def _one_document(data: bytes) -> str:
    """A hint for files that are one document instead of lines of objects."""
    first = data.lstrip()[:1]
    head = data.lstrip().partition(b"\n")[0].strip()
    if first == b"[" or head == b"{":
        return (
            "; the file looks like one JSON document, not one object per line (jq -c .[] FILE turns a list into lines)"
        )
    return ""


def _keys(path: Path, objects: list[dict[str, Any]], keys: dict[str, None]) -> list[str]:
    """All keys so far, in the order in which they first occur."""
    for value in objects:
        keys.update(dict.fromkeys(value))
    if len(keys) > MOST_KEYS:
        raise DataError(
            f"{path} names over {MOST_KEYS} different keys; are they data? wanted the same few on each line"
        )
    return list(keys)


def _line_of(path: Path, first: int) -> Where:
    return lambda row: f"{path}, line {first + row}"


def _short(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):  # its own text counts lines, always 1 here
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deep" if isinstance(error, RecursionError) else str(error).partition("\n")[0]


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", tuple: "a tuple", bytes: "a byte string", set: "a set", str: "a text"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), f"the value {value!r:.40}")


# Python literals


def _literal(line: str) -> Any:
    """``ast.literal_eval``, which runs nothing, with its many exceptions as ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes, once per line
            tree = ast.parse(line.strip(), mode="eval")
            value = ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{_kind(value)}, wanted an object")
    odd = next((key for key in value if not isinstance(key, str)), None)
    if odd is not None:
        raise ValueError(f"the key {odd!r} is no text")
    if "\\ud" in line.casefold():  # json puts the halves of a surrogate pair together
        with suppress(TypeError):  # of a set or a byte string, which is refused where it is wanted
            value = json.loads(json.dumps(value))
    if isinstance(tree.body, ast.Dict) and len(tree.body.keys) != len(value):
        return _unique([(ast.literal_eval(key), None) for key in tree.body.keys if key is not None])
    return value


# what ast.literal_eval takes for a text, with the u of Python 2
_STRING = re.compile(r"""[uU]?('[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")""", re.DOTALL)


def literal_as_json(line: str) -> str:
    """A Python literal as the JSON text of the same value, when it is made of what ``repr`` usually writes.

    About twice as fast as ``ast.literal_eval``. Anything unusual gives text that is no JSON, or raises ValueError.
    """
    parts = _STRING.split(line)
    parts[0::2] = [
        part.replace("True", "true").replace("False", "false").replace("None", "null") if "e" in part else part
        for part in parts[0::2]
    ]
    parts[1::2] = map(_json_string, parts[1::2])
    return "".join(parts)


def _json_string(literal: str) -> str:
    body = literal[1:-1]
    if "\\" in body:
        if "\\\\" in body or '\\"' in body or "\\/" in body:
            raise ValueError("left to ast.literal_eval")
        # other escapes are the same in both, or none in JSON
        body = body.replace("\\'", "'").replace("\\x", "\\u00")
    return '"' + body.replace('"', '\\"') + '"'


# values


def _number(value: float) -> str:
    """Plain digits: 5.0 is 5, 1e22 is 10000000000000000000000."""
    if not math.isfinite(value):
        raise ValueError(f"a number that is not finite ({value})")
    text = repr(value)
    return (format(Decimal(text), "f") if "e" in text else text).removesuffix(".0")


def _text(value: Any) -> str | None:
    """A scalar as text; ValueError for anything else."""
    if value is None or type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return _number(value)
    raise ValueError(f"{_kind(value)}, wanted text or a number")


def _texts(rows: list[dict[str, Any]], name: str) -> list[str | None]:
    values = [row.get(name) for row in rows]
    return values if set(map(type, values)) <= {str, type(None)} else [_text(value) for value in values]


def _nested(value: Any, depth: int) -> Any:
    """Text, lists of it down to ``depth``, and JSON text for what lies deeper and for objects."""
    if isinstance(value, list | tuple) and depth:
        return [_nested(one, depth - 1) for one in value]
    if isinstance(value, list | tuple | dict):
        if isinstance(value, _Repeated):
            raise ValueError(f"an object that names {min(value.names)!r} twice")
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _text(value)


@dataclass(frozen=True)
class _Column:
    """One column of one block: its values, and how deep they are nested (0 text, 1 lists, 2 lists of lists)."""

    values: pl.Series
    depth: int

    @classmethod
    def of(cls, rows: list[dict[str, Any]], name: str) -> _Column:
        values = [row.get(name) for row in rows]
        kinds = set(map(type, values))
        if kinds <= {str, type(None)}:
            return cls(pl.Series(values, dtype=pl.String), 0)
        values = [_nested(value, 2) for value in values]
        depth = max(map(_depth, values), default=0)
        return cls(_series([_lifted(value, depth) for value in values], depth), depth)


def _depth(value: Any) -> int:
    if not isinstance(value, list):
        return 0
    return 2 if any(isinstance(one, list) for one in value) else 1


def _lifted(value: Any, depth: int) -> Any:
    """The value as a list of ``depth`` levels; None stays None."""
    if value is None or depth == 0:
        return value
    if not isinstance(value, list):
        value = [value]
    return value if depth == 1 else [one if isinstance(one, list) or one is None else [one] for one in value]


def _series(values: list[Any], depth: int) -> pl.Series:
    dtype: Any = pl.String
    for _ in range(depth):
        dtype = pl.List(dtype)
    return pl.Series(values, dtype=dtype)


def _joined(name: str, blocks: list[dict[str, _Column]], heights: list[int]) -> pl.Series:
    """A column of all blocks at the depth of the deepest; an empty text is null."""
    depth = max(block[name].depth for block in blocks if name in block)
    pieces = []
    for block, height in zip(blocks, heights, strict=True):
        column = block.get(name)
        if column is None:
            pieces.append(_series([None] * height, depth))
        elif column.depth == depth:
            pieces.append(column.values)
        else:
            pieces.append(_series([_lifted(value, depth) for value in column.values.to_list()], depth))
    whole = pl.concat(pieces).alias(name)
    return whole if depth else pl.select(pl.when(whole != "").then(whole).alias(name)).to_series()
