"""Text files without a header: blocks of whole lines, each line with its number.

Work per line is done in polars; Python touches single lines only where one of them is damaged or has to be named.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data.faults import BadRows, BlockFaults
from rec_data.text import BLOCK, byte_lines, text_encoding, unpacked

BLANKS = " \t"


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file in order.

    path     the file
    first    number of the first of them, from 1
    text     String, one per physical line, blank ones included; no line ends, no blanks at either end
    damaged  row -> ``nul_byte`` or ``wrong_encoding`` for lines that are no text; their ``text`` is null
    """

    path: Path
    first: int
    text: pl.Series
    damaged: Mapping[int, str] = field(default_factory=dict)

    def where(self, row: int) -> str:
        """``train.txt, line 17`` for a row of this block."""
        return f"{self.path}, line {self.first + row}"

    def leave_out(self, faults: BlockFaults) -> None:
        """Count the damaged and the blank lines."""
        for reason in sorted(set(self.damaged.values())):
            rows = [row for row, why in self.damaged.items() if why == reason]
            faults.leave_out(pl.int_range(len(self.text), eager=True).is_in(rows), reason)
        faults.leave_out(self.text == "", "blank_line")


def blocks_of_lines(
    path: Path, encoding: str = "utf-8", bad_rows: BadRows = "error", *, block_bytes: int | None = None
) -> Iterator[Lines]:
    """All lines of a file, gzipped or not, in blocks of about ``block_bytes`` bytes; LF and CRLF both end a line.

    Raises :class:`DataError`, naming file and line, for a NUL byte, bytes that are not ``encoding`` and a carriage
    return inside a line; with ``bad_rows="drop"`` the first two become ``damaged`` lines.
    """
    known = text_encoding(encoding)
    first = 1
    for data in byte_lines(path, block_bytes or BLOCK):
        if first == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        damaged: dict[int, str] = {}
        try:
            if b"\0" in data:
                line = first + data.count(b"\n", 0, data.index(b"\0"))
                raise DataError(f"{path}, line {line} holds a NUL byte: this is not text, or it is damaged")
            lines = pl.Series([_decoded(path, first, data, known)]).str.strip_suffix("\n").str.split("\n")
            lines = lines.explode(empty_as_null=False)
        except DataError:
            if bad_rows == "error":
                raise
            lines, damaged = _line_by_line(data, known)
        lines = lines.str.strip_chars(BLANKS + "\r")
        old = lines.str.contains("\r", literal=True)
        if old.any():
            line = first + int(old.arg_max() or 0)
            raise DataError(f"{path}, line {line} holds a bare carriage return; convert the line ends to newlines")
        yield Lines(path, first, lines, damaged)
        first += len(lines)


def first_lines(path: Path, n: int = 200) -> list[str]:
    """The first ``n`` lines that are not blank, stripped; [] for a file that is not there or is no text."""
    found: list[str] = []
    try:
        with closing(unpacked(path)) as file:
            while len(found) < n and (line := file.readline(1 << 16)):
                if b"\0" in line:
                    return []
                text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").strip(BLANKS + "\r\n")
                found += [text] if text else []
    except (DataError, OSError, EOFError):
        return []
    return found


def _decoded(path: Path, first: int, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        begin = data.rfind(b"\n", 0, error.start) + 1
        near = data[max(begin, error.start - 20) : error.start + 20].split(b"\n")[0].decode("latin-1")
        name = "UTF-8" if encoding == "utf-8" else encoding
        raise DataError(
            f"{path}, line {line} is not {name} near {near!r}; name its encoding (--encoding latin-1 ?)"
        ) from error


def _line_by_line(data: bytes, encoding: str) -> tuple[pl.Series, dict[int, str]]:
    """The lines of a block with damaged ones, which become null."""
    texts: list[str | None] = []
    damaged: dict[int, str] = {}
    for row, line in enumerate(data.removesuffix(b"\n").split(b"\n")):
        try:
            texts.append(None if b"\0" in line else line.decode(encoding))
        except UnicodeDecodeError:
            damaged[row] = "wrong_encoding"
            texts.append(None)
        else:
            if texts[-1] is None:
                damaged[row] = "nul_byte"
    return pl.Series(texts, dtype=pl.String), damaged
