"""Who met what, when: the flat table and the ragged histories made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types.ids import (
    Bool,
    Float32,
    Int32,
    Int64,
    array_digest,
    check_column,
    check_ids,
    check_offsets,
    whole_numbers,
)


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """Item sequences, oldest first, one row per request, in CSR form.

    users       int64 [rows]       dense user id of each row; -1 = a user never seen in training
    offsets     int64 [rows + 1]   row r holds ``items[offsets[r]:offsets[r + 1]]``
    items       int32 [events]     dense item ids
    timestamps  int64 [events]     seconds since 1970, optional
    ratings     float32 [events]   as the publisher scales them, optional
    generated   bool [events]      True where an augmenter wrote the event, optional

    A user may fill several rows. Raises :class:`DataError` when a column has another dtype or length, offsets fall,
    or an id is negative (users: below -1).
    """

    users: Int64
    offsets: Int64
    items: Int32
    timestamps: Int64 | None = None
    ratings: Float32 | None = None
    generated: Bool | None = None

    def __post_init__(self) -> None:
        check_offsets(self.offsets, len(self.items), "histories")
        check_column(self.users, len(self.offsets) - 1, np.int64, "histories: users")
        check_column(self.items, len(self.items), np.int32, "histories: items")
        check_column(self.timestamps, len(self.items), np.int64, "histories: timestamps")
        check_column(self.ratings, len(self.items), np.float32, "histories: ratings")
        check_column(self.generated, len(self.items), np.bool_, "histories: generated")
        if len(self.items) and self.items.min() < 0:
            raise DataError("histories: item ids are dense and 0-based; a negative one was found (padding is a mask)")
        if len(self.users) and self.users.min() < -1:
            raise DataError("histories: user ids are dense and 0-based, or -1 for a user never seen")

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], users: Sequence[int] | None = None) -> Histories:
        """Histories from plain lists of item ids; ``users`` defaults to -1 (never seen)."""
        arrays = [np.asarray(row, np.int32) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in arrays], dtype=np.int64)]).astype(np.int64)
        items = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        known = np.full(len(arrays), -1, np.int64) if users is None else np.asarray(users, np.int64)
        return cls(known, offsets, items.astype(np.int32, copy=False))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> Int64:
        """Events per row, int64 [rows]."""
        return np.diff(self.offsets)

    def row(self, r: int) -> Int32:
        """The items of one row, a view."""
        return self.items[self.offsets[r] : self.offsets[r + 1]]

    def block(self, start: int, stop: int) -> Histories:
        """Rows ``start:stop`` as views on the same arrays; as with a slice, rows beyond the last are not there."""
        start, stop = min(start, len(self)), min(stop, len(self))
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        columns = (self.timestamps, self.ratings, self.generated)
        cut = [None if c is None else c[first:last] for c in columns]
        return Histories(self.users[start:stop], self.offsets[start : stop + 1] - first, self.items[first:last], *cut)  # type: ignore[arg-type]

    def take(self, rows: npt.NDArray[Any] | Sequence[int]) -> Histories:
        """The given rows, copied, in the order given; a row may be asked more than once."""
        rows = row_numbers(rows, len(self))
        offsets, at = gather_rows(self.offsets, rows)
        columns = (self.timestamps, self.ratings, self.generated)
        picked = [None if c is None else c[at] for c in columns]
        return Histories(self.users[rows], offsets, self.items[at], *picked)  # type: ignore[arg-type]

    def last(self, n: int) -> Histories:
        """Every row cut to its newest ``n`` events."""
        kept = np.minimum(self.lengths, n)
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[1:] - kept - offsets[:-1], kept)
        columns = (self.timestamps, self.ratings, self.generated)
        picked = [None if c is None else c[at] for c in columns]
        return Histories(self.users, offsets, self.items[at], *picked)

    def digest(self) -> str:
        """SHA-256 of all columns."""
        return array_digest(self.users, self.offsets, self.items, self.timestamps, self.ratings, self.generated)


def _overlapping(n: int, size: int = 1 << 22) -> Iterator[slice]:
    """Slices that cover rows 0..n-1, each beginning with the last row of the one before."""
    for start in range(0, max(n - 1, 1), size):
        yield slice(start, min(start + size + 1, n))


def row_numbers(rows: npt.NDArray[Any] | Sequence[int], n: int) -> Int64:
    """Numbers of rows 0..n-1 as int64; a mask would silently be read as rows 0 and 1, so it is refused."""
    asked = np.asarray(rows)
    if asked.dtype == np.bool_ and asked.size:
        raise TypeError("rows are row numbers; got a mask, whose rows np.flatnonzero(mask) gives")
    asked = asked.astype(np.int64, copy=False)
    if len(asked) and (asked.min() < 0 or asked.max() >= n):
        raise IndexError(f"rows {asked.min()}..{asked.max()} were asked; there are rows 0..{n - 1}")
    return asked


def gather_rows(offsets: Int64, rows: Int64) -> tuple[Int64, Int64]:
    """CSR row selection: offsets of the picked rows and the positions of their values in the old arrays."""
    lengths = offsets[rows + 1] - offsets[rows]
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.arange(new[-1]) + np.repeat(offsets[rows] - new[:-1], lengths)
    return new, at


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """All events of a data set (or of one part of it) as columns, ordered by (user, timestamp, original row).

    users       int64 [n]     dense user ids, non-decreasing
    items       int32 [n]     dense item ids
    timestamps  int64 [n]     seconds since 1970, non-decreasing inside a user; None where the source has none
    ratings     float32 [n]   finite; None where the source has none
    generated   bool [n]      True where an augmenter wrote the row (source = generated); None = all observed
    n_users, n_items          sizes of the id universes, ids lie below them

    Raises :class:`DataError` when a column has another dtype or length, an id is outside its universe, a rating is
    NaN or infinite, or the rows are not in order. :meth:`sorted` brings rows of any order into this one.
    """

    users: Int64
    items: Int32
    n_users: int
    n_items: int
    timestamps: Int64 | None = None
    ratings: Float32 | None = None
    generated: Bool | None = None

    def __post_init__(self) -> None:
        n = len(self.users)
        check_column(self.users, n, np.int64, "interactions: users")
        check_column(self.items, n, np.int32, "interactions: items")
        check_column(self.timestamps, n, np.int64, "interactions: timestamps")
        check_column(self.ratings, n, np.float32, "interactions: ratings")
        check_column(self.generated, n, np.bool_, "interactions: generated")
        check_ids(self.users, self.n_users, "interactions: user id")
        check_ids(self.items, self.n_items, "interactions: item id")
        for rows in _overlapping(n):  # chunks, so that checking 10^8 rows takes no gigabytes
            if self.ratings is not None and not np.isfinite(self.ratings[rows]).all():
                at = rows.start + int(np.flatnonzero(~np.isfinite(self.ratings[rows]))[0])
                raise DataError(f"interactions: rating {self.ratings[at]} at row {at} is not a finite number")
            step = np.diff(self.users[rows])
            if (step < 0).any():
                raise DataError("interactions: rows must be ordered by user; use Interactions.sorted(...)")
            if self.timestamps is not None and ((np.diff(self.timestamps[rows]) < 0) & (step == 0)).any():
                raise DataError(
                    "interactions: rows of a user must be ordered by timestamp; use Interactions.sorted(...)"
                )

    @classmethod
    def sorted(
        cls,
        users: npt.ArrayLike,
        items: npt.ArrayLike,
        *,
        timestamps: npt.ArrayLike | None = None,
        ratings: npt.ArrayLike | None = None,
        generated: npt.ArrayLike | None = None,
        n_users: int | None = None,
        n_items: int | None = None,
    ) -> Interactions:
        """Rows of any order, sorted by (user, timestamp, original row), stable: ties keep the order of the file.

        Ids and timestamps of another integer type are converted; what does not fit, or is no whole number, raises
        :class:`DataError`.
        """
        u, i = whole_numbers(users, np.int64, "users"), whole_numbers(items, np.int32, "items")
        t = None if timestamps is None else whole_numbers(timestamps, np.int64, "timestamps")
        for name, column in (("items", i), ("timestamps", t), ("ratings", ratings), ("generated", generated)):
            if column is not None and np.shape(column) != u.shape:
                raise DataError(f"interactions: {name} have the shape {np.shape(column)}, users {u.shape}")
        order = np.argsort(u, kind="stable") if t is None else np.lexsort((t, u))  # both sorts are stable
        return cls(
            users=u[order],
            items=i[order],
            n_users=int(u.max(initial=-1)) + 1 if n_users is None else n_users,
            n_items=int(i.max(initial=-1)) + 1 if n_items is None else n_items,
            timestamps=None if t is None else t[order],
            ratings=None if ratings is None else np.asarray(ratings, np.float32)[order],
            generated=None if generated is None else np.asarray(generated, np.bool_)[order],
        )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def offsets(self) -> Int64:
        """int64 [n_users + 1]: rows of user u are ``offsets[u]:offsets[u + 1]``."""
        return np.searchsorted(self.users, np.arange(self.n_users + 1)).astype(np.int64)

    @property
    def tied_share(self) -> float:
        """Share of neighbouring events of one user that carry the same timestamp; NaN where there are no times.

        For tied events the order of the file decides, so a held-out item among them is an accident of that order.
        """
        if self.timestamps is None:
            return float("nan")
        neighbours = tied = 0
        for rows in _overlapping(len(self)):
            same_user = np.diff(self.users[rows]) == 0
            neighbours += int(np.count_nonzero(same_user))
            tied += int(np.count_nonzero(same_user & (np.diff(self.timestamps[rows]) == 0)))
        return tied / neighbours if neighbours else 0.0

    def where(self, keep: Bool) -> Interactions:
        """The rows where ``keep`` (bool [n]) is True; universes stay."""
        columns = (self.timestamps, self.ratings, self.generated)
        t, r, g = (None if c is None else c[keep] for c in columns)
        return Interactions(self.users[keep], self.items[keep], self.n_users, self.n_items, t, r, g)  # type: ignore[arg-type]

    def histories(self) -> Histories:
        """One row per user id 0..n_users-1 (empty rows for users without events), sharing the columns."""
        users = np.arange(self.n_users, dtype=np.int64)
        return Histories(users, self.offsets, self.items, self.timestamps, self.ratings, self.generated)

    def item_counts(self) -> Int64:
        """Events per item, int64 [n_items]."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def user_counts(self) -> Int64:
        """Events per user, int64 [n_users]."""
        return np.bincount(self.users, minlength=self.n_users).astype(np.int64)

    def digest(self) -> str:
        """SHA-256 of universes and all columns."""
        sizes = np.array([self.n_users, self.n_items], np.int64)
        return array_digest(sizes, self.users, self.items, self.timestamps, self.ratings, self.generated)
