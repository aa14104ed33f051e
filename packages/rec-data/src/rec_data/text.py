"""Text tables, read so that every physical line is accounted for.

polars is fast but trusting: it merges lines at an unbalanced quote, fills up short rows and turns `0012` into 12. So
every column is read as text, lines and separators are counted beside it, and files that hold quotes go through the
strict parser of the standard library. The work per row is done in C or Rust; Python walks over lines only to find the
one that an error message names.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import mmap
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from rec_core.errors import DataError, SettingsError

Bytes = bytes | mmap.mmap
SEPARATORS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a vertical bar", "::": "'::'", " ": "a blank"}
_CHUNK = 1 << 24
_STAND_IN = "\x1f"  # ASCII's own unit separator, for separators of several characters


@dataclass(frozen=True)
class TextTable:
    """A text table with every column as text; an empty field is null.

    path     the file
    frame    one row per non-blank line (one per record where quoted fields span lines)
    blank    how many blank lines were left out
    line     row -> number of its first physical line, from 1; slow, for messages
    """

    path: Path
    frame: pl.DataFrame
    blank: int
    line: Callable[[int], int]

    def where(self, row: int) -> str:
        """``ratings.csv, line 17`` for a row."""
        return f"{self.path}, line {self.line(row)}"


def read_text_table(
    path: Path,
    *,
    separator: str | None = None,
    columns: Sequence[str] | None = None,
    wanted: Callable[[Sequence[str]], Sequence[str]] | None = None,
    encoding: str = "utf-8",
    quotes: bool = False,
    one_line_rows: bool = True,
    separator_may_differ: bool = False,
) -> TextTable:
    """Read a text table, gzipped or not.

    ``separator`` None is guessed from the first line, with ``separator_may_differ`` also one that this line does not
    hold (that of another table). ``columns`` names the columns of a file without a header; else
    the first line is the header. ``wanted`` is given the columns and returns those to keep; it may raise. With
    ``one_line_rows`` a quoted field that spans lines is an error, because in a table of keys and numbers it is an
    unbalanced quote. Raises :class:`DataError`, naming file and line, for rows with more or fewer fields than the
    first, bytes that are not ``encoding``, NUL bytes and unbalanced quotes.
    """
    data = _as_utf8(path, _load(path), encoding)
    try:
        counted = _count(data, (b"\0", b'"', b"\n\n", b"\n\r\n"))
        if counted[b"\0"]:
            at = data.find(b"\0")
            line = 1 + _count(data[:at], (b"\n",))[b"\n"]
            raise DataError(f"{path}, line {line} holds a NUL byte: this is not a text table, or it is damaged")
        end = data.find(b"\n")
        first = _decoded(path, data[: end if end != -1 else len(data)]).rstrip("\r")
        if not first.strip():
            raise DataError(f"{path} " + ("is empty" if not len(data) else "starts with a blank line; wanted a header"))
        if "\r" in first:
            raise DataError(f"{path} ends its lines with bare carriage returns; convert them to newlines")
        if separator_may_differ and separator is not None and _character(separator) not in first:
            separator = None
        separator = _separator(path, first, separator, columns)
        table = _Layout(path, separator, columns is None, bool(quotes and counted[b'"']), one_line_rows)
        names = _names(path, table, data, first, columns)
        keep = list(wanted(names)) if wanted is not None else names
        blank = 0
        if not table.quoted:
            body: Bytes = data
            if counted[b"\n\n"] or counted[b"\n\r\n"]:
                body = re.sub(rb"(?m)^\r?\n", b"", data)
                blank = _lines(data) - _lines(body)
            frame = _parse_plain(table, body, names, keep)
        else:
            frame, blank = _parse_quoted(table, data, names, keep)
        return TextTable(path, frame, blank, _line_finder(table, encoding))
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


@dataclass(frozen=True)
class _Layout:
    path: Path
    separator: str
    header: bool
    quoted: bool
    one_line_rows: bool


def _load(path: Path) -> Bytes:
    """The bytes of a file: unpacked when they are gzip, else a memory map."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        try:
            with gzip.open(path) as unpacked:
                return unpacked.read()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is not a whole gzip file ({error}); fetch it again") from error
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _as_utf8(path: Path, data: Bytes, encoding: str) -> Bytes:
    """The same text as UTF-8; an encoding other than UTF-8 is converted here, UTF-8 is checked while parsing."""
    try:
        if codecs.lookup(encoding).name == "utf-8":
            return data
        return bytes(data).decode(encoding).encode()
    except LookupError:
        raise SettingsError(f"--encoding {encoding!r} is not known; use utf-8, latin-1, ...") from None
    except UnicodeDecodeError as error:
        line = 1 + bytes(data[: error.start]).count(b"\n")
        raise DataError(f"{path}, line {line} is not {encoding}: {error.reason}; name its --encoding") from error


def _count(data: Bytes, parts: Sequence[bytes]) -> dict[bytes, int]:
    """How often each part occurs; one of several bytes at the edge of two chunks may count twice."""
    longest = max(map(len, parts))
    counts = dict.fromkeys(parts, 0)
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        edge = data[max(start - longest + 1, 0) : start + longest - 1] if start else b""
        for part in parts:
            counts[part] += chunk.count(part)
            if len(part) > 1 and start:
                counts[part] += edge.count(part)
    return counts


def _lines(data: Bytes) -> int:
    """Physical lines; a last one without a newline counts."""
    return _count(data, (b"\n",))[b"\n"] + int(len(data) > 0 and data[-1:] != b"\n")


def _separator(path: Path, first: str, separator: str | None, columns: Sequence[str] | None) -> str:
    """The separator to use; :class:`DataError` with a guess when the first line does not hold the named one."""
    found = {s: first.count(s) for s in SEPARATORS if s != " " and first.count(s)}
    guess = max(found, key=lambda s: (found[s] * len(s), len(s))) if found else None
    if separator is None:
        if guess is None:
            raise DataError(f"{path} has one column only: {first[:80]!r}; name what separates it with --separator")
        return guess
    separator = _character(separator)
    if not separator or "\n" in separator or '"' in separator:
        raise SettingsError(f'--separator is one or more characters other than " and line ends; got {separator!r}')
    if separator not in first and (columns is None or len(columns) > 1):
        hint = f"; it looks separated by {SEPARATORS[guess]} (--separator {_option(guess)})" if guess else ""
        cut = SEPARATORS.get(separator, repr(separator))
        raise DataError(f"{path} has one column only when it is cut at {cut}: {first[:80]!r}{hint}")
    return separator


def _character(separator: str) -> str:
    return {"tab": "\t", "\\t": "\t"}.get(separator, separator)


def _option(separator: str) -> str:
    return "tab" if separator == "\t" else f"'{separator}'"


def _names(path: Path, table: _Layout, data: Bytes, first: str, columns: Sequence[str] | None) -> list[str]:
    """The columns: the header's, or the given ones after a check against the first line."""
    if table.quoted:
        fields = next(_strict(table, data))[1]
    else:
        fields = first.split(table.separator)
    if columns is not None:
        if len(fields) != len(columns):
            raise _wrong_count(path, 1, len(fields), len(columns), first)
        return list(columns)
    names = [name.strip() for name in fields]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: the header names column {twice!r} twice")
    return names


def _parse_plain(table: _Layout, data: Bytes, names: list[str], keep: list[str]) -> pl.DataFrame:
    """A file without quoting: one line is one row."""
    rows = _lines(data) - table.header
    if rows <= 0:
        return pl.DataFrame(schema=dict.fromkeys(keep, pl.String))
    separator = table.separator.encode()
    separators = _count(data, (separator,))[separator] if len(separator) == 1 else -1
    whole = separators == (rows + table.header) * (len(names) - 1)
    if len(separator) > 1:
        data = bytes(data).replace(separator, _STAND_IN.encode())
        whole = False
    projected = len(keep) < len(names)
    if projected or not whole:
        _check_field_counts(table, data)
    source = table.path if isinstance(data, mmap.mmap) else data
    try:
        frame = pl.read_csv(
            source,
            separator=table.separator if len(separator) == 1 else _STAND_IN,
            has_header=False,
            skip_lines=int(table.header),
            columns=sorted(names.index(name) for name in keep) if projected else None,
            new_columns=None if projected else names,
            quote_char=None,
            infer_schema=False,
            glob=False,
        )
    except pl.exceptions.PolarsError as error:
        _check_utf8(table.path, data)
        _check_field_counts(table, data)
        raise DataError(f"{table.path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if projected:
        frame.columns = sorted(keep, key=names.index)
    if frame.height != rows:
        raise DataError(f"{table.path} has {rows} lines of data but {frame.height} rows were read; is it damaged?")
    return frame.select(keep)


def _check_field_counts(table: _Layout, data: Bytes) -> None:
    """Raise for the first line whose number of fields differs from the first line's; chunk by chunk in NumPy.

    ``data`` has no blank lines, and its separator is a single byte.
    """
    separator = (table.separator if len(table.separator) == 1 else _STAND_IN).encode()
    wanted, row, start = None, 0, 0
    while start < len(data):
        stop = min(start + _CHUNK, len(data))
        if stop < len(data):
            newline = data.rfind(b"\n", start, stop)
            stop = newline + 1 if newline != -1 else (data.find(b"\n", stop) + 1 or len(data))
        chunk = np.frombuffer(data[start:stop], np.uint8)
        ends = np.flatnonzero(chunk == ord("\n"))
        if not len(ends) or ends[-1] != len(chunk) - 1:
            ends = np.append(ends, len(chunk))
        at = np.flatnonzero(chunk == separator[0])
        counts = np.diff(np.searchsorted(at, ends), prepend=0)
        wanted = int(counts[0]) if wanted is None else wanted
        wrong = np.flatnonzero(counts != wanted)
        if len(wrong):
            line, text = _nth_line(table.path, table, row + int(wrong[0]) - table.header)
            raise _wrong_count(table.path, line, int(counts[wrong[0]]) + 1, wanted + 1, text)
        row += len(counts)
        start = stop


def _wrong_count(path: Path, line: int, found: int, wanted: int, text: str) -> DataError:
    return DataError(f"{path}, line {line} has {found} field{'s' * (found != 1)}, wanted {wanted}: {text[:100]!r}")


def _nth_line(path: Path, table: _Layout, row: int) -> tuple[int, str]:
    """Number and text of the physical line of a row, in a file without quoting; row -1 is the header."""
    seen = -1 - table.header
    for number, line in enumerate(io.BytesIO(bytes(_load(path))), start=1):
        if line.strip(b"\r\n"):
            seen += 1
            if seen == row:
                return number, line.rstrip(b"\r\n").decode("utf-8", "replace")
    return number, ""


def _check_utf8(path: Path, data: Bytes) -> None:
    for number, line in enumerate(io.BytesIO(bytes(data)), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            near = line[max(error.start - 20, 0) : error.start + 20].decode("latin-1")
            raise DataError(
                f"{path}, line {number} is not UTF-8 near {near!r}; name its encoding (--encoding latin-1 ?)"
            ) from error


def _strict(table: _Layout, data: Bytes) -> Iterator[tuple[int, list[str]]]:
    """(last line, fields) of each record, blank lines included as records without fields."""
    reader = csv.reader(
        io.StringIO(_decoded(table.path, data), newline=""), delimiter=_one(table), strict=True, skipinitialspace=False
    )
    last = 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{table.path}, line {last + 1}: a quote is unbalanced or stands inside a field ({error}); "
                f"pass --no-quotes if quotes are part of the text"
            ) from error
        last = reader.line_num
        yield last, fields


def _decoded(path: Path, data: Bytes) -> str:
    try:
        return bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError:
        _check_utf8(path, data)
        raise


def _one(table: _Layout) -> str:
    if len(table.separator) > 1:
        raise DataError(f"{table.path} holds quotes; with a separator of several characters pass --no-quotes")
    return table.separator


def _parse_quoted(table: _Layout, data: Bytes, names: list[str], keep: list[str]) -> tuple[pl.DataFrame, int]:
    """A file with quoted fields, through the strict parser; blocks of rows, no Python code per row."""
    with _long_fields():
        reader = csv.reader(io.StringIO(_decoded(table.path, data), newline=""), delimiter=_one(table), strict=True)
        at = [names.index(name) for name in keep]
        blocks, blank, rows = [], 0, 0
        try:
            if table.header:
                next(reader)
            while block := list(islice(reader, 200_000)):
                full = list(filter(None, block))
                blank += len(block) - len(full)
                rows += len(full)
                if set(map(len, full)) - {len(names)}:
                    break  # the walk below names the line
                fields = list(zip(*full, strict=True)) or [()] * len(names)
                kept = {name: pl.Series(fields[i], dtype=pl.String) for name, i in zip(keep, at, strict=True)}
                blocks.append(pl.DataFrame(kept))
            else:
                if not table.one_line_rows or reader.line_num == rows + blank + table.header:
                    empty = pl.DataFrame(schema=dict.fromkeys(keep, pl.String))
                    frame = pl.concat([empty, *blocks])
                    return frame.with_columns(pl.when(pl.all() != "").then(pl.all())), blank
        except csv.Error:
            pass  # the walk below names the line
        raise _fault(table, data, len(names))


def _fault(table: _Layout, data: Bytes, wanted: int) -> DataError:
    """What is wrong with a quoted file: the slow walk that names the line."""
    before = 0
    for last, fields in _strict(table, data):
        if last > before + 1 and (table.one_line_rows or (fields and len(fields) != wanted)):
            return DataError(
                f"{table.path}, line {before + 1}: a quote opened there goes on to line {last}; it is unbalanced "
                f"(pass --no-quotes if quotes are part of the text)"
            )
        if fields and len(fields) != wanted:
            return _wrong_count(table.path, before + 1, len(fields), wanted, table.separator.join(fields))
        before = last
    return DataError(f"{table.path} cannot be read as a table with quotes; try --no-quotes")


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the standard library's limit of 128 KiB per field."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _line_finder(table: _Layout, encoding: str) -> Callable[[int], int]:
    def line(row: int) -> int:
        if not table.quoted:
            return _nth_line(table.path, table, row)[0]
        before, seen = 0, -1 - table.header
        with _long_fields():
            for last, fields in _strict(table, _as_utf8(table.path, bytes(_load(table.path)), encoding)):
                seen += bool(fields)
                if seen == row:
                    return before + 1
                before = last
        return before

    return line
