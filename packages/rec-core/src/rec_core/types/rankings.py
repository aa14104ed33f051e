"""What recommenders answer and what they are asked: top-k lists, candidates, scores, neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types.ids import Bool, Float32, Int32, Int64, array_digest, check_column, check_offsets
from rec_core.types.interactions import gather_rows, row_numbers


def _check_best_first(items: Int64, scores: Float32, what: str) -> None:
    if items.ndim != 2 or items.shape != scores.shape:
        raise DataError(f"{what}: items and scores must have one shape [n, k]; got {items.shape} and {scores.shape}")
    if items.dtype != np.int64 or scores.dtype != np.float32:
        raise DataError(f"{what}: items are int64 and scores float32; got {items.dtype} and {scores.dtype}")
    if np.isnan(scores).any():
        raise DataError(f"{what}: row {int(np.flatnonzero(np.isnan(scores).any(axis=1))[0])} holds a NaN score")
    if (scores[:, 1:] > scores[:, :-1]).any():
        row = int(np.flatnonzero((scores[:, 1:] > scores[:, :-1]).any(axis=1))[0])
        raise DataError(f"{what}: scores must not rise along a row; row {row} does")
    if ((items == -1) & (scores != -np.inf)).any() or (items < -1).any():
        raise DataError(f"{what}: a missing item is -1 with score -inf")


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The k best items of each request, best first.

    users   int64 [rows]        dense user ids, row by row as in the request; -1 = never seen
    items   int64 [rows, k]     dense item ids; -1 where fewer than k items were left
    scores  float32 [rows, k]   non-increasing along a row; -inf where items is -1
    """

    users: Int64
    items: Int64
    scores: Float32

    def __post_init__(self) -> None:
        _check_best_first(self.items, self.scores, "rankings")
        check_column(self.users, len(self.items), np.int64, "rankings: users")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def k(self) -> int:
        """Length of every list."""
        return int(self.items.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """A list of items per request (ragged, CSR): what to score, or what to exclude.

    offsets  int64 [rows + 1]
    items    int32 [values]    dense item ids
    labels   bool [values]     True where the candidate is relevant; optional
    """

    offsets: Int64
    items: Int32
    labels: Bool | None = None

    def __post_init__(self) -> None:
        check_offsets(self.offsets, len(self.items), "candidates")
        check_column(self.items, len(self.items), np.int32, "candidates: items")
        check_column(self.labels, len(self.items), np.bool_, "candidates: labels")
        if len(self.items) and self.items.min() < 0:
            raise DataError("candidates: item ids are dense and 0-based; a negative one was found")

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Candidates:
        """Candidates from plain lists of item ids."""
        rows = [list(row) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return cls(offsets, np.fromiter((i for row in rows for i in row), np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """Candidates per row, int64 [rows]."""
        return np.diff(self.offsets)

    def row(self, r: int) -> Int32:
        """The items of one row, a view."""
        return self.items[self.offsets[r] : self.offsets[r + 1]]

    def block(self, start: int, stop: int) -> Candidates:
        """Rows ``start:stop`` as views; as with a slice, rows beyond the last are not there."""
        start, stop = min(start, len(self)), min(stop, len(self))
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        labels = None if self.labels is None else self.labels[first:last]
        return Candidates(self.offsets[start : stop + 1] - first, self.items[first:last], labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Candidates:
        """The given rows, copied, in the order given."""
        offsets, at = gather_rows(self.offsets, row_numbers(rows, len(self)))
        return Candidates(offsets, self.items[at], None if self.labels is None else self.labels[at])

    def digest(self) -> str:
        """SHA-256 of all columns."""
        return array_digest(self.offsets, self.items, self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One score per candidate, aligned with the :class:`Candidates` that were asked.

    offsets  int64 [rows + 1]
    items    int32 [values]
    values   float32 [values]   higher is better; not NaN
    """

    offsets: Int64
    items: Int32
    values: Float32

    def __post_init__(self) -> None:
        check_offsets(self.offsets, len(self.items), "scores")
        check_column(self.items, len(self.items), np.int32, "scores: items")
        check_column(self.values, len(self.items), np.float32, "scores: values")
        if np.isnan(self.values).any():
            at = int(np.flatnonzero(np.isnan(self.values))[0])
            raise DataError(f"scores: the score of item {self.items[at]} (position {at}) is NaN")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, r: int) -> Float32:
        """The scores of one row, a view."""
        return self.values[self.offsets[r] : self.offsets[r + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """The k nearest items of each query vector, best first.

    items   int64 [n, k]     dense item ids; -1 where fewer than k were allowed
    scores  float32 [n, k]   similarity, non-increasing along a row; -inf where items is -1
    """

    items: Int64
    scores: Float32

    def __post_init__(self) -> None:
        _check_best_first(self.items, self.scores, "neighbors")

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Only the rows an augmenter wrote; merging them into a training set is a separate step.

    users            int64 [n]
    items            int32 [n]
    rank             int32 [n]     0-based place in the list the model wrote for that user
    votes            int32 [n]     in how many of the model's samples the item appeared
    log_probability  float32 [n]   of the item's text or id; NaN where the model gives none
    reason           n strings     why the filter rejected the row; "" = kept
    """

    users: Int64
    items: Int32
    rank: Int32
    votes: Int32
    log_probability: Float32
    reason: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.users)
        check_column(self.users, n, np.int64, "generated: users")
        check_column(self.items, n, np.int32, "generated: items")
        check_column(self.rank, n, np.int32, "generated: rank")
        check_column(self.votes, n, np.int32, "generated: votes")
        check_column(self.log_probability, n, np.float32, "generated: log_probability")
        if len(self.reason) != n:
            raise DataError(f"generated: {len(self.reason)} reasons for {n} rows")
        if n and (self.users.min() < 0 or self.items.min() < 0):
            raise DataError("generated: user and item ids are dense and 0-based; a negative one was found")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def kept(self) -> Bool:
        """bool [n]: rows the filter let through."""
        return np.array([reason == "" for reason in self.reason], np.bool_)
