"""What every reader gives: who met what as text keys, and what is known about users and items."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

import polars as pl

from rec_core.errors import DataError
from rec_data.rows import RawRows


@dataclass(frozen=True, slots=True, eq=False)
class RawData:
    """Raw rows in the order of the file, keys as codes.

    name     short name for tables and plots
    rows     who met what, as codes of raw keys (see :class:`rec_data.rows.RawRows`)
    items    column ``key`` (String, unique) and one text column per field; None where the source describes no items
    users    the same for users
    reviews  columns ``user``, ``item``, ``text`` and, where the source has them, ``summary``, ``timestamp`` (Int64,
             seconds), ``rating`` (Float32); None unless asked for
    dropped  lines the reader left out, by reason
    facts    what the reader found and decided, for the manifest (format, encoding, units, ...)
    files    the files it read
    """

    name: str
    rows: RawRows
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    reviews: pl.DataFrame | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def lines(self) -> int:
        """Lines of data in the file: rows and lines left out."""
        return len(self.rows) + sum(self.dropped.values())

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of every file that was read, by name; where names repeat, by the path below their common folder."""
        paths = list(dict.fromkeys(path.resolve() for path in self.files))
        if len({path.name for path in self.files}) == len(paths):
            names = {path.resolve(): path.name for path in self.files}
        else:
            common = Path(os.path.commonpath([path.parent for path in paths]))
            names = {path: path.relative_to(common).as_posix() for path in paths}
        hashes = {}
        for path in paths:
            with path.open("rb") as file:
                hashes[names[path]] = file_digest(file, "sha256").hexdigest()
        return hashes


def with_unique_keys(table: pl.DataFrame, what: str, where: Callable[[int], str]) -> pl.DataFrame:
    """A table of users or items whose ``key`` is present and unique; :class:`DataError` names both lines else."""
    key = table["key"]
    if key.null_count():
        raise DataError(f"{where(int(key.is_null().arg_max() or 0))}: the {what} has no key")
    if key.n_unique() != len(key):
        again = int(key.is_duplicated().arg_max() or 0)
        second = int((key == key[again]).arg_true()[1])
        raise DataError(
            f"{where(second)}: raw {what} key {key[again]!r} occurs for the second time (first: {where(again)}); "
            f"a key stands for one {what}"
        )
    return table
