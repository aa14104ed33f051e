"""What every reader gives: who met what as text keys, and what is known about users and items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

import polars as pl

from rec_core.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class RawData:
    """Raw rows in the order of the file, every key still text.

    name     short name for tables and plots
    rows     columns ``user`` and ``item`` (String, null where the file has none) and, where the source has them,
             ``timestamp`` (Int64, seconds since 1970) and ``rating`` (Float32, finite)
    items    column ``key`` (String, unique) and one text column per field; None where the source describes no items
    users    the same for users
    dropped  lines the reader left out, by reason
    facts    what the reader found and decided, for the manifest (format, encoding, units, ...)
    files    the files it read
    """

    name: str
    rows: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def lines(self) -> int:
        """Lines of data in the file: rows and lines left out."""
        return self.rows.height + sum(self.dropped.values())

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of every file that was read, by name."""
        hashes = {}
        for path in self.files:
            with path.open("rb") as file:
                hashes[path.name] = file_digest(file, "sha256").hexdigest()
        return hashes


def without_missing_keys(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows that name a user and an item, and how many did not."""
    no_user = rows["user"].is_null()
    no_item = rows["item"].is_null() & ~no_user
    dropped = {"missing_user": int(no_user.sum()), "missing_item": int(no_item.sum())}
    if any(dropped.values()):
        rows = rows.filter(~no_user & ~no_item)
    return rows, {reason: n for reason, n in dropped.items() if n}


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
