"""Text tables, read block by block so that every physical line is accounted for.

polars is fast but trusting: it merges lines at an unbalanced quote, fills up short rows and turns `0012` into 12. So
every column is read as text, lines and separators are counted beside it, and blocks that hold quotes go through the
strict parser of the standard library. The work per row is done in C or Rust; Python walks over lines only in a block
that holds a faulty one.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl

from rec_core.errors import DataError, SettingsError
from rec_data.faults import Faults
from rec_data.ordering import digits_of, is_plain_number

SEPARATORS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a vertical bar", "::": "'::'", " ": "a blank"}
BLOCK = 1 << 23
_NO_TEXT = {  # how files begin that are taken for text tables: what they are, and the way out
    b"PK\x03\x04": "a zip archive; unpack it and name the table in it",
    b"BZh91AY&SY": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ\x00": "packed with xz; unpack it, or pack it with gzip",
    b"(\xb5/\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"7z\xbc\xaf'": "a 7z archive; unpack it and name the table in it",
    b"\x93NUMPY": "a NumPy array; write it as CSV or Parquet",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"SQLite format 3": "an SQLite database; write its table as CSV",
    b"\xff\xfe\x00\x00": "UTF-32; name its --encoding utf-32",
    b"\xff\xfe": "UTF-16; name its --encoding utf-16",
    b"\xfe\xff": "UTF-16; name its --encoding utf-16",
}
_STAND_IN = "\x1f"  # ASCII's own unit separator, for separators of several characters
_BLANK_LINE = re.compile(rb"(?m)^\r?\n|^\r\Z")


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


@dataclass(frozen=True)
class TextBlock:
    """Some consecutive rows of a text table; ``line`` as in :class:`TextTable`, of the whole file."""

    path: Path
    frame: pl.DataFrame
    line: Callable[[int], int]

    def where(self, row: int) -> str:
        """``ratings.csv, line 17`` for a row of the block."""
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
    """A whole text table at once, with the options of :func:`text_blocks`; every fault is an error."""
    faults = Faults()
    blocks = list(
        text_blocks(
            path,
            faults,
            separator=separator,
            columns=columns,
            wanted=wanted,
            encoding=encoding,
            quotes=quotes,
            one_line_rows=one_line_rows,
            separator_may_differ=separator_may_differ,
        )
    )
    starts = np.cumsum([0, *(block.frame.height for block in blocks)])

    def line(row: int) -> int:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return blocks[at].line(row - int(starts[at]))

    return TextTable(path, pl.concat([block.frame for block in blocks]), faults.counts.get("blank_line", 0), line)


def text_blocks(
    path: Path,
    faults: Faults,
    *,
    separator: str | None = None,
    columns: Sequence[str] | None = None,
    wanted: Callable[[Sequence[str]], Sequence[str]] | None = None,
    encoding: str = "utf-8",
    quotes: bool = False,
    one_line_rows: bool = True,
    separator_may_differ: bool = False,
    numbers: bool = False,
    block_bytes: int | None = None,
) -> Iterator[TextBlock]:
    """Read a text table, gzipped or not, in blocks of lines; at least one block, which may be empty, is given.

    ``separator`` None is guessed from the first line, with ``separator_may_differ`` also one that this line does not
    hold (that of another table). ``columns`` names the columns of a file without a header; else the first line is
    the header. ``wanted`` is given the columns and returns those to keep; it may raise. With ``one_line_rows`` a
    quoted field that spans lines is an error, because in a table of keys and numbers it is an unbalanced quote;
    without it the file is read as one block. With ``numbers`` a column that holds plain whole numbers alone may come as
    Int64 in any block, which is twice as fast as text; "0012" or "+5" are no plain numbers and stay text.

    Blank lines are counted in ``faults`` as ``blank_line``. Rows with more or fewer fields than the first, bytes that
    are not ``encoding`` and NUL bytes are a :class:`DataError` that names file and line, or, where the faults are to
    be dropped, counted as ``wrong_field_count``, ``wrong_encoding`` and ``nul_byte``. Unbalanced quotes are always an
    error: nobody can say where the row ends.
    """
    reader: _Reader | None = None
    line = 1
    for data in _byte_blocks(path, encoding, (block_bytes or BLOCK) if one_line_rows else None):
        if reader is None:
            reader = _Reader.open(
                path, data, faults, separator, columns, wanted, quotes, one_line_rows, separator_may_differ
            )
            reader.undecided = numbers
            body, first = (data, line) if columns is not None else reader.after_header(data)
        else:
            body, first = data, line
        yield reader.block(body, first)
        line = first + reader.newlines


@dataclass
class _Reader:
    path: Path
    faults: Faults
    separator: str
    names: list[str]
    keep: list[str]
    quotes: bool
    one_line_rows: bool
    undecided: bool = False  # whether the first block is to show which columns hold whole numbers alone
    whole: set[str] = field(default_factory=set)  # columns that are parsed as numbers
    newlines: int = 0  # in the block that was read last

    @classmethod
    def open(
        cls,
        path: Path,
        data: bytes,
        faults: Faults,
        separator: str | None,
        columns: Sequence[str] | None,
        wanted: Callable[[Sequence[str]], Sequence[str]] | None,
        quotes: bool,
        one_line_rows: bool,
        separator_may_differ: bool,
    ) -> _Reader:
        """What the first line tells."""
        end = data.find(b"\n")
        head = data[: end if end != -1 else len(data)]
        for mark, kind in _NO_TEXT.items():
            if head.startswith(mark):
                raise DataError(f"{path} is no text table but {kind}")
        if b"\0" in head:
            raise _nul_byte(path, 1)
        first = _decoded(path, head, 1).rstrip("\r")
        if not first.strip():
            raise DataError(f"{path} " + ("is empty" if not len(data) else "starts with a blank line; wanted a header"))
        if "\r" in first:
            raise DataError(f"{path} ends its lines with bare carriage returns; convert them to newlines")
        if separator_may_differ and separator is not None and _character(separator) not in first:
            separator = None
        separator = _separator(path, first, separator, columns)
        reader = cls(path, faults, separator, [], [], quotes, one_line_rows)
        if quotes and '"' in first:
            fields = next(reader.strict(data, 1))[1]
        else:
            fields = first.split(separator)
        if columns is not None:
            if len(fields) != len(columns):
                raise _wrong_count(path, 1, len(fields), len(columns), first)
            names = list(columns)
        else:
            names = [name.strip() for name in fields]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                hint = "; if that is no header, name the columns with --column-names" if twice.isdigit() else ""
                raise DataError(f"{path}: the header names column {twice!r} twice{hint}")
        keep = list(wanted(names)) if wanted is not None else names
        return cls(path, faults, separator, names, keep, quotes, one_line_rows)

    def after_header(self, data: bytes) -> tuple[bytes, int]:
        """The lines below the header, and the number of the first."""
        lines = 1
        if self.quotes and b'"' in data[: data.find(b"\n") + 1]:
            lines = next(self.strict(data, 1))[0]
        at = 0
        for _ in range(lines):
            at = data.find(b"\n", at) + 1
            if not at:
                return b"", lines
        return data[at:], lines + 1

    def block(self, data: bytes, first: int) -> TextBlock:
        """The rows of whole lines; ``first`` is the number of the first line."""
        self.newlines = _occurrences(data, b"\n")
        try:
            if self.quotes and b'"' in data:
                return self._quoted(data, first)
            return self._plain(data, first)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{self.path} cannot be read as a table: {str(error).splitlines()[0]}") from error

    # lines without quoting: one line is one row

    def _plain(self, data: bytes, first: int) -> TextBlock:
        lines = self.newlines + _has_open_end(data)
        frame, blank = self._parsed(data, lines), 0
        if frame is None and (body := _BLANK_LINE.sub(b"", data)) != data:
            rows = _occurrences(body, b"\n") + _has_open_end(body)
            frame, blank = self._parsed(body, rows), lines - rows
        if frame is not None:
            self.faults.count("blank_line", blank)
            return TextBlock(self.path, frame, lambda row: _line_of_row(data, first, row))
        sifted, numbers = self._sift(data, first)
        frame = self._parsed(sifted, len(numbers))
        if frame is None:
            raise DataError(f"{self.path} cannot be read as a table near line {first}")
        return TextBlock(self.path, frame, lambda row: numbers[row])

    def _parsed(self, data: bytes, rows: int) -> pl.DataFrame | None:
        """The table of ``rows`` lines; None when a line is blank, has a wrong field count or bad bytes."""
        if not rows:
            return pl.DataFrame(schema=dict.fromkeys(self.keep, pl.String))
        separator = self.separator.encode()
        separators = _occurrences(data, separator) if len(separator) == 1 else data.count(separator)
        if separators != rows * (len(self.names) - 1) or b"\0" in data:
            return None  # also where there is a blank line, unless a line that is too long makes up for it
        if len(separator) > 1:
            data = data.replace(separator, _STAND_IN.encode())
            separator = _STAND_IN.encode()
        if data.startswith(codecs.BOM_UTF8):  # polars takes one away, and at the start of a block it is text
            data = codecs.BOM_UTF8 + data
        projected = len(self.keep) + 2 < len(self.names)
        if projected and not _even(data, separator, len(self.names)):
            return None
        columns = sorted(map(self.names.index, self.keep)) if projected else None
        frame = None
        if self.whole and not projected:
            frame = self._read_csv(data, separator, columns)
            if frame is not None and (frame.height != rows or not self._is_all_of(data, frame, rows)):
                frame = None
            if frame is None:
                self.whole.clear()
        if frame is None:
            frame = self._read_csv(data, separator, columns)
        if frame is None or frame.height != rows:
            return None
        if self.undecided:
            self.whole.update(name for name in self.keep if is_plain_number(frame[name]).all())
            self.undecided = False
        return frame.select(self.keep)

    def _read_csv(self, data: bytes, separator: bytes, columns: list[int] | None) -> pl.DataFrame | None:
        try:
            return pl.read_csv(
                data,
                separator=separator.decode(),
                has_header=False,
                schema={name: pl.Int64 if name in self.whole else pl.String for name in self.names},
                columns=columns,
                quote_char=None,
                glob=False,
            )
        except pl.exceptions.PolarsError:
            return None

    def _is_all_of(self, data: bytes, frame: pl.DataFrame, rows: int) -> bool:
        """Whether text and numbers, written plainly, make up every byte: no sign, zero or blank went with a number."""
        length = rows * (len(self.names) - 1) + rows - _has_open_end(data) + _occurrences(data, b"\r")
        for column in frame.iter_columns():
            if column.dtype == pl.String:
                length += int(column.str.len_bytes().sum() or 0)
            elif column.null_count():
                return False
            else:
                digits = digits_of(column.to_numpy())
                if digits is None:
                    return False
                length += digits
        return length == len(data)

    def _sift(self, data: bytes, first: int, *, counted: bool = True) -> tuple[bytes, list[int]]:
        """The lines that can be read and their numbers; the others are an error or counted.

        ``counted`` False leaves blank lines in place and looks at bytes alone: for lines with quoted fields.
        """
        kept, numbers = [], []
        for number, line in enumerate(io.BytesIO(data), start=first):
            if counted and not line.strip(b"\r\n"):
                self.faults.count("blank_line", 1)
                continue
            reason, error = self._fault(line, number, counted)
            if error is None:
                kept.append(line)
                numbers.append(number)
            elif self.faults.bad_rows == "error":
                raise error
            else:
                self.faults.count(reason, 1)
        return b"".join(kept), numbers

    def _fault(self, line: bytes, number: int, counted: bool) -> tuple[str, DataError | None]:
        if b"\0" in line:
            return "nul_byte", _nul_byte(self.path, number)
        try:
            _decoded(self.path, line, number)
        except DataError as error:
            return "wrong_encoding", error
        fields = line.count(self.separator.encode()) + 1
        if counted and fields != len(self.names):
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            return "wrong_field_count", _wrong_count(self.path, number, fields, len(self.names), text)
        return "", None

    # lines with quoted fields: the strict parser of the standard library

    def strict(self, data: bytes, first: int) -> Iterator[tuple[int, list[str]]]:
        """(number of the last line, fields) of each record, blank lines included as records without fields."""
        with _long_fields():
            reader = self._csv(data, first)
            last = first - 1
            while True:
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise DataError(
                        f"{self.path}, line {last + 1}: a quote is unbalanced or stands inside a field ({error}); "
                        f"pass --no-quotes if quotes are part of the text"
                    ) from error
                last = first - 1 + reader.line_num
                yield last, fields

    def _csv(self, data: bytes, first: int) -> csv._reader:  # type: ignore[name-defined]
        if len(self.separator) > 1:
            raise DataError(f"{self.path} holds quotes; with a separator of several characters pass --no-quotes")
        text = io.StringIO(_decoded(self.path, data, first), newline="")
        return csv.reader(text, delimiter=self.separator, strict=True)

    def _quoted(self, data: bytes, first: int) -> TextBlock:
        """Parts of many rows at a time, no Python code per row."""
        numbers: list[int] | None = None
        if b"\0" in data or not _is_utf8(data):
            data, numbers = self._sift(data, first, counted=False)
        at = [self.names.index(name) for name in self.keep]
        pieces, blank, wrong, lines = [pl.DataFrame(schema=dict.fromkeys(self.keep, pl.String))], 0, 0, 0
        width = len(self.names)
        with _long_fields():
            reader = self._csv(data, first)
            try:
                while rows := list(islice(reader, 200_000)):
                    full = list(filter(None, rows))
                    blank += len(rows) - len(full)
                    good = full if set(map(len, full)) <= {width} else [row for row in full if len(row) == width]
                    wrong += len(full) - len(good)
                    if wrong and self.faults.bad_rows == "error":
                        break  # the walk below names the line
                    fields = list(zip(*good, strict=True)) or [()] * width
                    pieces.append(
                        pl.DataFrame(
                            {name: pl.Series(fields[i], dtype=pl.String) for name, i in zip(self.keep, at, strict=True)}
                        )
                    )
                lines = reader.line_num
            except csv.Error:
                wrong, lines = 1, -1
        frame = pl.concat(pieces).with_columns(pl.when(pl.all() != "").then(pl.all()))
        records = frame.height + wrong + blank
        if lines == -1 or (wrong and self.faults.bad_rows == "error") or (self.one_line_rows and lines != records):
            raise self._quoted_fault(data, first)
        self.faults.count("blank_line", blank)
        self.faults.count("wrong_field_count", wrong)

        def line(row: int) -> int:
            before, seen = first - 1, -1
            for last, fields in self.strict(data, first):
                seen += len(fields) == width
                if seen == row:
                    return before + 1 if numbers is None else numbers[before + 1 - first]
                before = last
            return before

        return TextBlock(self.path, frame, line)

    def _quoted_fault(self, data: bytes, first: int) -> DataError:
        """What is wrong with quoted lines: the slow walk that names the line."""
        before, width = first - 1, len(self.names)
        for last, fields in self.strict(data, first):  # raises by itself at an unbalanced quote
            if last > before + 1 and (self.one_line_rows or (fields and len(fields) != width)):
                return DataError(
                    f"{self.path}, line {before + 1}: a quote opened there goes on to line {last}; it is unbalanced "
                    f"(pass --no-quotes if quotes are part of the text)"
                )
            if fields and len(fields) != width:
                return _wrong_count(self.path, before + 1, len(fields), width, self.separator.join(fields))
            before = last
        return DataError(f"{self.path} cannot be read as a table with quotes; try --no-quotes")


def unpacked(path: Path) -> IO[bytes]:
    """The file opened for reading, unpacked when it is gzip. Raises :class:`DataError` when there is none."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if path.is_dir():
        raise DataError(f"{path} is a directory; name the file in it")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def byte_lines(path: Path, block_bytes: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file, unpacked, in blocks of whole lines; the last may lack its newline.

    Raises :class:`DataError` for a gzip file that is damaged or cut off.
    """
    with unpacked(path) as file:
        rest = b""
        while True:
            try:
                data = file.read(block_bytes)
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(f"{path} is not a whole gzip file ({error}); fetch it again") from error
            if not data:
                break
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest += data
                continue
            yield rest + data[:cut]
            rest = data[cut:]
        if rest:
            yield rest


def text_encoding(encoding: str) -> str:
    """Python's own name of an encoding of text; :class:`SettingsError` for an unknown one."""
    try:
        found = codecs.lookup(encoding)
    except LookupError:
        found = None
    if found is None or not getattr(found, "_is_text_encoding", True):  # base64 and rot13 are codecs too
        raise SettingsError(f"--encoding {encoding!r} is not known; use utf-8, latin-1, ...")
    return found.name


def _byte_blocks(path: Path, encoding: str, block_bytes: int | None) -> Iterator[bytes]:
    """Blocks of whole lines as UTF-8 without a byte order mark; UTF-8 itself is checked while parsing."""
    name = text_encoding(encoding)
    blocks = byte_lines(path, block_bytes or BLOCK)
    if name not in ("utf-8", "utf-8-sig"):
        blocks = _recoded(path, blocks, name)
    if block_bytes is None:
        blocks = iter([b"".join(blocks)])
    start = True
    for block in blocks:
        yield block.removeprefix(codecs.BOM_UTF8) if start else block
        start = False
    if start:
        yield b""


def _recoded(path: Path, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    rest, line = "", 1
    for block in chain(blocks, (None,)):
        try:
            text = rest + decoder.decode(b"" if block is None else block, final=block is None)
        except UnicodeDecodeError as error:
            line += bytes(error.object[: error.start]).count(b"\n")
            raise DataError(f"{path}, line {line} is not {encoding}: {error.reason}; name its --encoding") from error
        cut = text.rfind("\n") + 1 if block is not None else len(text)
        rest = text[cut:]
        line += text.count("\n", 0, cut)
        if cut:
            yield text[:cut].encode("utf-8", "surrogatepass")


def _has_open_end(data: bytes) -> int:
    """1 when the last line lacks its newline."""
    return int(len(data) > 0 and data[-1:] != b"\n")


def _occurrences(data: bytes, byte: bytes) -> int:
    """``data.count(byte)``, twice as fast where the byte is frequent."""
    array = np.frombuffer(data, np.uint8)
    return sum(int(np.count_nonzero(array[at : at + (1 << 18)] == byte[0])) for at in range(0, len(array), 1 << 18))


def _even(data: bytes, separator: bytes, width: int) -> bool:
    """Whether every line (none is blank) holds the separator ``width - 1`` times; a single byte separates."""
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == ord("\n"))
    if not len(ends) or ends[-1] != len(array) - 1:
        ends = np.append(ends, len(array))
    at = np.flatnonzero(array == separator[0])
    return bool((np.diff(np.searchsorted(at, ends), prepend=0) == width - 1).all())


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_of_row(data: bytes, first: int, row: int) -> int:
    """Number of the physical line of a row, blank lines left out."""
    number, seen = first, -1
    for number, line in enumerate(io.BytesIO(data), start=first):  # noqa: B007 - the last one is returned
        seen += bool(line.strip(b"\r\n"))
        if seen == row:
            break
    return number


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


def _wrong_count(path: Path, line: int, found: int, wanted: int, text: str) -> DataError:
    return DataError(f"{path}, line {line} has {found} field{'s' * (found != 1)}, wanted {wanted}: {text[:100]!r}")


def _nul_byte(path: Path, line: int) -> DataError:
    return DataError(f"{path}, line {line} holds a NUL byte: this is not a text table, or it is damaged")


def _decoded(path: Path, data: bytes, first: int) -> str:
    """The text of whole lines; ``first`` is the number of the first one."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        start = data.rfind(b"\n", 0, error.start) + 1
        end = data.find(b"\n", error.start)
        near = data[max(error.start - 20, start) : min(error.start + 20, len(data) if end == -1 else end)]
        raise DataError(
            f"{path}, line {line} is not UTF-8 near {near.decode('latin-1')!r}; "
            f"name its encoding (--encoding latin-1 ?)"
        ) from error


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the standard library's limit of 128 KiB per field."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
