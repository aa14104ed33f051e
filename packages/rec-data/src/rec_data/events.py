"""The columns that `prepare` works on: one object that owns them, so that each old array goes once it is replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.types.ids import Bool, Float32, Int32, Int64
from rec_data.ordering import chunks, in_threads, user_counts
from rec_data.rows import RawRows, UInt8


class Events:
    """users, items (codes), timestamps, ratings and part as far as they are there; n rows."""

    def __init__(self, rows: RawRows) -> None:
        columns = {
            "users": rows.users,
            "items": rows.items,
            "timestamps": rows.timestamps,
            "ratings": rows.ratings,
            "part": rows.part,
        }
        self._columns: dict[str, npt.NDArray[Any]] = {k: v for k, v in columns.items() if v is not None}

    def __len__(self) -> int:
        return len(self._columns["users"])

    @property
    def users(self) -> Int32:
        """Code of each row's user."""
        return self._columns["users"]

    @property
    def items(self) -> Int32:
        """Code of each row's item."""
        return self._columns["items"]

    @property
    def timestamps(self) -> Int64 | None:
        """Seconds since 1970."""
        return self._columns.get("timestamps")

    @property
    def ratings(self) -> Float32 | None:
        """As the source scales them."""
        return self._columns.get("ratings")

    @property
    def part(self) -> UInt8 | None:
        """The part that the source states."""
        return self._columns.get("part")

    def take(self, rows: npt.NDArray[Any]) -> None:
        """Keep the rows at these positions, in this order."""
        for name in list(self._columns):
            old = self._columns.pop(name)
            new = np.empty(len(rows), old.dtype)

            def fill(chunk: slice, old: npt.NDArray[Any] = old, new: npt.NDArray[Any] = new) -> None:
                np.take(old, rows[chunk], out=new[chunk], mode="clip")  # which needs no second copy

            in_threads(fill, chunks(len(rows), 1 << 20))
            self._columns[name] = new
            del old, new, fill

    def where(self, stays: Bool) -> None:
        """Keep the rows where ``stays`` (bool [n])."""
        pieces = list(chunks(len(stays), 1 << 20))
        sizes = [int(np.count_nonzero(stays[chunk])) for chunk in pieces]
        starts = np.cumsum([0, *sizes]).tolist()[:-1]
        kept = sum(sizes)
        if kept == len(stays):
            return
        for name in list(self._columns):
            old = self._columns.pop(name)
            new = np.empty(kept, old.dtype)

            def fill(chunk: slice, at: int, old: npt.NDArray[Any] = old, new: npt.NDArray[Any] = new) -> None:
                piece = old[chunk][stays[chunk]]
                new[at : at + len(piece)] = piece

            in_threads(fill, pieces, starts)
            self._columns[name] = new
            del old, new, fill

    def renumber(self, name: str, dtype: npt.DTypeLike) -> Int64:
        """Number the codes of a column without gaps, in the same order, as ``dtype``; the old code of each new one."""
        used = np.flatnonzero(user_counts(self._columns[name]))
        new = np.zeros(int(used[-1]) + 1 if len(used) else 0, dtype)
        new[used] = np.arange(len(used))
        old = self._columns.pop(name)
        column = np.empty(len(old), dtype)

        def fill(chunk: slice) -> None:
            column[chunk] = new[old[chunk]]

        in_threads(fill, chunks(len(old), 1 << 20))
        self._columns[name] = column
        return used

    def replace(self, name: str, column: npt.NDArray[Any]) -> None:
        """Another column of the same length under that name."""
        self._columns[name] = column
