"""Rows that cannot be read: an error that names the first, or rows left out and counted by reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import polars as pl

from rec_core.errors import DataError

BadRows = Literal["error", "drop"]


class Faults:
    """Counts of rows left out, by reason, over all blocks of a source."""

    def __init__(self, bad_rows: BadRows = "error") -> None:
        self.bad_rows = bad_rows
        self.counts: dict[str, int] = {}

    def count(self, reason: str, rows: int) -> None:
        """Note rows that were left out."""
        if rows:
            self.counts[reason] = self.counts.get(reason, 0) + rows

    def block(self, height: int, where: Callable[[int], str]) -> BlockFaults:
        """The faults of the next block of rows."""
        return BlockFaults(self, height, where)


class BlockFaults:
    """Faults of one block: a row with several is counted once, under the first that was found.

    where   row of the block -> "ratings.csv, line 17"
    """

    def __init__(self, faults: Faults, height: int, where: Callable[[int], str]) -> None:
        self._faults, self._height, self.where = faults, height, where
        self._gone: pl.Series | None = None

    def leave_out(self, wrong: pl.Series, reason: str) -> None:
        """Rows (bool, one per row of the block) that are always left out and counted."""
        if not wrong.any():
            return
        wrong = wrong.fill_null(True)
        fresh = wrong if self._gone is None else wrong & ~self._gone
        self._faults.count(reason, int(fresh.sum()))
        self._gone = wrong if self._gone is None else wrong | self._gone

    def refuse(self, wrong: pl.Series, reason: str, message: Callable[[int], str]) -> None:
        """Rows that are an error, unless the user asked for bad rows to be dropped.

        ``message(row)`` says what is wrong with a row, without the place. Rows already left out are not looked at.
        """
        if not wrong.any():
            return
        wrong = wrong.fill_null(False)
        fresh = wrong if self._gone is None else wrong & ~self._gone
        if not fresh.any():
            return
        if self._faults.bad_rows == "error":
            at, more = int(fresh.arg_max() or 0), int(fresh.sum()) - 1
            others = f" ({more:,} more row{'s' * (more != 1)} like it)" if more else ""
            raise DataError(f"{self.where(at)}: {message(at)}{others}")
        self.leave_out(fresh, reason)

    def kept(self) -> pl.Series | None:
        """bool, True for rows that stay; None when all do."""
        return None if self._gone is None else ~self._gone
