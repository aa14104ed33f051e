"""Scores of every item for a block of requests, one tile of columns at a time, in bounded memory.

Axes: R rows of a block, T items of a tile, N items in all, D width of the vectors, P (row, item) pairs.

**Two kinds of numbers.** A :class:`~rec_core.protocols.DenseScorer` hands out its scores and they are taken as they
are. The score of a :class:`~rec_core.protocols.VectorScorer` is *defined* as the dot product of its float32 vectors,
taken in float64 and rounded to float32: one number per (user, item) pair. A float32 matrix product is much faster but
rounds differently with the shape of the tile, the library and the number of threads, so it is only used to sort out
what is clearly better or clearly worse: it lies within ``slack`` of the defined score, a bound that holds for every
order of summation, and the few items inside that margin are scored again, pair by pair. Ranks and lists are therefore
the same numbers for every budget, tile and thread count, and items with equal vectors tie exactly.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import isqrt
from typing import Any, Protocol, TypeVar

import numpy as np

from rec_core.errors import DataError, UnknownUsers
from rec_core.protocols import DenseScorer, VectorScorer
from rec_core.types import Candidates, Histories
from rec_core.types.ids import Bool, Float32, Float64, Int64

MIB = 2**20
DEFAULT_BUDGET = 64 * MIB
"""Scratch memory in bytes that ranking may use above its inputs and its answer."""

Scorer = DenseScorer | VectorScorer
Answer = TypeVar("Answer")

_UNIT = 2.0**-24  # rounding unit of float32
_SMALLEST_NORMAL = 1.2e-38  # what may be lost per product where tiny numbers are flushed to zero
_PIECE = 2**18  # multiplications below which OpenBLAS starts no threads
_LONGEST_LANE = 255 * 8  # bytes that eight one-byte counters can count without overflow


class ScoreBlock(Protocol):
    """The scores of R requests for all N items."""

    @property
    def shape(self) -> tuple[int, int]:
        """(R, N)."""
        ...

    @property
    def slack(self) -> Float32:
        """float32 [R]: how far a score in a tile may lie from the exact one; 0 where tiles are exact."""
        ...

    def tiles(self) -> Iterator[tuple[int, Float32]]:
        """(first item, float32 [R, T]) in rising item order; each array may be overwritten until the next is asked."""
        ...

    def exact(self, rows: Int64, items: Int64) -> Float32:
        """float32 [P]: the defined scores of (row, item) pairs."""
        ...


def cells_in(budget: int) -> int:
    """How many (row, item) cells may be worked on at once within a budget of bytes.

    A cell costs 6 bytes (score and two flags), and some 90 more when it ties with its row's target or limit: a model
    that scores everything alike must stay within the budget too.
    """
    return int(min(max(budget // 128, 64), 2**20))


@dataclass(frozen=True, slots=True)
class _DenseBlock:
    scores: Float32  # [R, N]
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.scores.shape[0], self.scores.shape[1]

    @property
    def slack(self) -> Float32:
        return np.zeros(len(self.scores), np.float32)

    def tiles(self) -> Iterator[tuple[int, Float32]]:
        for start in range(0, self.scores.shape[1], self.width):
            yield start, self.scores[:, start : start + self.width]

    def exact(self, rows: Int64, items: Int64) -> Float32:
        return self.scores[rows, items]


@dataclass(frozen=True, slots=True)
class _VectorBlock:
    users: Float32  # [R, D]
    items: Float32  # [N, D]
    slack: Float32  # [R]
    width: int  # T

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.users), len(self.items)

    def tiles(self) -> Iterator[tuple[int, Float32]]:
        memory = np.empty(len(self.users) * self.width, np.float32)
        users_RD = np.asfortranarray(self.users)  # small products are twice as fast from this side
        for start in range(0, len(self.items), self.width):
            items_TD = self.items[start : start + self.width]
            scores_RT = memory[: len(self.users) * len(items_TD)].reshape(len(self.users), len(items_TD))
            _multiply(users_RD, items_TD, scores_RT)
            yield start, scores_RT

    def exact(self, rows: Int64, items: Int64) -> Float32:
        return pair_scores(self.users, self.items, rows, items)


def _multiply(users_RD: Float32, items_TD: Float32, out_RT: Float32) -> None:
    """``out = users @ items.T`` in pieces so small that OpenBLAS computes each on the calling thread.

    Its own threads gain little on a tile of this size, and on a busy machine they wait for each other many times
    longer than the product takes; here threads work on different rows instead.
    """
    dim = users_RD.shape[1]
    for rows, height in _pieces(len(users_RD), _side(dim)):
        for columns, width in _pieces(len(items_TD), max(16, _PIECE // (height * max(1, dim)))):
            n, m = (rows.stop - rows.start) // height, (columns.stop - columns.start) // width
            users = users_RD[rows].reshape(n, 1, height, dim)
            items = items_TD[columns].reshape(1, m, width, dim).swapaxes(2, 3)
            pieces = out_RT[rows, columns].reshape(n, height, m, width).swapaxes(1, 2)
            np.matmul(users, items, out=pieces)


def _pieces(n: int, size: int) -> Iterator[tuple[slice, int]]:
    """A range of n cut into a whole number of pieces of ``size``, and the rest as one smaller piece."""
    size = min(size, n)
    whole = n // size * size
    yield slice(0, whole), size
    if whole < n:
        yield slice(whole, n), n - whole


def _side(dim: int) -> int:
    """Rows and columns of a square piece, a multiple of 16."""
    return max(16, isqrt(_PIECE // max(1, dim)) // 16 * 16)


def pair_scores(users: Float32, items: Float32, user_rows: Int64, item_rows: Int64) -> Float32:
    """Dot products of given pairs, summed in float64, rounded to float32; a function of the two vectors alone.

    ``users`` [n, D], ``items`` [N, D], pairs int64 [P]; works in chunks of a few MiB.
    """
    scores = np.empty(len(user_rows), np.float32)
    chunk = max(1, 2**18 // max(1, users.shape[1]))
    for start in range(0, len(scores), chunk):
        part = slice(start, start + chunk)
        products_PD: Float64 = users[user_rows[part]].astype(np.float64)
        products_PD *= items[item_rows[part]]
        scores[part] = products_PD.sum(axis=1)
    return scores


def for_each_block(
    scorer: Scorer,
    histories: Histories,
    budget: int,
    work: Callable[[slice, ScoreBlock, int], Answer],
    *,
    list_length: int = 0,
) -> Iterator[tuple[slice, Answer]]:
    """Work through the requests in row blocks that fit the budget: (slice of rows, what ``work`` made of them).

    ``work(rows, block, cells)`` may have ``cells`` cells in hand at once. For a vector scorer several blocks are worked
    on at the same time, in threads that share the budget; the model itself is only called from the calling thread.
    ``list_length``: so many items are kept per row.

    Raises :class:`UnknownUsers` for a row with user -1 when the scorer knows only its training users, and
    :class:`DataError` naming the user when a score (or a user vector) is NaN.
    """
    check_known(scorer, histories)
    threads = usable_threads() if isinstance(scorer, VectorScorer) else 1
    cells = cells_in(budget // threads)
    most_rows = max(1, cells // (8 * max(1, list_length)))
    if isinstance(scorer, VectorScorer):
        blocks = _vector_blocks(scorer, histories, cells, most_rows)
    else:
        fit = budget // (20 * max(1, scorer.n_items))  # rows of scores in a fifth of the budget; cells need the rest
        blocks = _dense_blocks(scorer, histories, cells, min(most_rows, fit))
    if threads == 1:
        for rows, block in blocks:
            yield rows, work(rows, block, cells)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="ranking") as pool:
        under_way: deque[tuple[slice, Future[Answer]]] = deque()
        for rows, block in blocks:
            under_way.append((rows, pool.submit(work, rows, block, cells)))
            if len(under_way) >= threads:
                done, answer = under_way.popleft()
                yield done, answer.result()
        for done, answer in under_way:
            yield done, answer.result()


def usable_threads() -> int:
    """Processors this process may use, at most 4; OMP_NUM_THREADS lowers it, as it does for other libraries."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(4, free, int(asked) if asked.isdecimal() else 4))


def _dense_blocks(
    scorer: DenseScorer, histories: Histories, cells: int, most_rows: int
) -> Iterator[tuple[slice, ScoreBlock]]:
    n_items = scorer.n_items
    height = max(1, min(256, most_rows))
    for start in range(0, len(histories), height):
        rows = slice(start, min(start + height, len(histories)))
        block = histories.block(rows.start, rows.stop)
        scores = scorer.score_all(block)
        if scores.dtype != np.float32 or scores.shape != (len(block), n_items):
            raise DataError(
                f"score_all of {type(scorer).__name__} must give float32 [{len(block)}, {n_items}]; "
                f"got {scores.dtype} {list(scores.shape)}"
            )
        _refuse_nan(np.isnan(scores.min(axis=1, initial=np.inf)), block, start, "a score")
        yield rows, _DenseBlock(scores, max(1, cells // len(block)))
        del scores  # before the next block is made


def _vector_blocks(
    scorer: VectorScorer, histories: Histories, cells: int, most_rows: int
) -> Iterator[tuple[slice, ScoreBlock]]:
    items = scorer.item_vectors()
    longest = _longest(items)
    side = _side(items.shape[1])
    width = max(side, _LONGEST_LANE // side * side) if cells >= side * side else 8
    height = max(1, min(cells // width, 512))
    height = min(height // side * side or height, most_rows)
    for start in range(0, len(histories), height):
        rows = slice(start, min(start + height, len(histories)))
        block = histories.block(rows.start, rows.stop)
        users = scorer.user_vectors(block)
        check_vectors(users, (len(block), items.shape[1]), f"user_vectors of {type(scorer).__name__}")
        lengths = np.sqrt(np.einsum("rd,rd->r", users, users, dtype=np.float64))
        _refuse_nan(~np.isfinite(lengths), block, start, "the vector")
        _refuse_nan(lengths * longest > 1e37, block, start, "the vector", "so long that its scores overflow float32")
        yield rows, _VectorBlock(users, items, _slack(lengths * longest, items.shape[1]), width)


def _slack(product_of_lengths: Float64, dim: int) -> Float32:
    """Largest distance between a float32 dot product, summed in any order, and its exact value rounded to float32.

    |fl(x·y) - x·y| <= D u / (1 - D u) |x|·|y| for every order of summation (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1), |x|·|y| <= ||x|| ||y||; the 8 covers the roundings of the limits themselves.
    """
    margin = 1.01 * (dim + 8) * np.maximum(_UNIT * product_of_lengths, _SMALLEST_NORMAL)
    return np.where(product_of_lengths == 0, 0.0, margin).astype(np.float32)


def _longest(items: Float32) -> float:
    check_vectors(items, items.shape, "item_vectors")
    longest = 0.0
    for start in range(0, len(items), 65536):
        part = items[start : start + 65536]
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        if not np.isfinite(lengths).all():
            item = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise DataError(f"the vector of item {item} holds NaN or infinity; did training diverge?")
        longest = max(longest, float(lengths.max()))
    return longest


def check_vectors(vectors: Float32, shape: tuple[int, ...], what: str) -> None:
    """Vectors are float32 of the wanted 2-D shape; :class:`DataError` else."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or vectors.shape != shape:
        raise DataError(f"{what} must be float32 {list(shape)}; got {vectors.dtype} {list(vectors.shape)}")


def check_known(recommender: Any, histories: Histories) -> None:
    """A recommender that knows only its training users refuses rows of user -1 with :class:`UnknownUsers`."""
    if getattr(recommender, "known_users_only", False) and (histories.users == -1).any():
        row = int(np.flatnonzero(histories.users == -1)[0])
        raise UnknownUsers(
            f"{type(recommender).__name__} knows only the users of its training set; row {row} is a user never seen "
            f"(-1). Use a model that works from the history, or leave such rows out."
        )


def _refuse_nan(bad: Bool, histories: Histories, start: int, what: str, why: str = "NaN or infinite") -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{what} of user {histories.users[row]} (row {start + row}) is {why}; did training diverge?")


@dataclass(frozen=True, slots=True)
class Hidden:
    """(row, item) pairs of one block that must not be ranked, ordered by item so that each tile finds its own."""

    rows: Int64
    items: Int64

    @classmethod
    def of(cls, *parts: Candidates) -> Hidden:
        """The union of several lists per row."""
        rows = np.concatenate([np.repeat(np.arange(len(part)), part.lengths) for part in parts])
        items = np.concatenate([part.items for part in parts]).astype(np.int64)
        order = np.argsort(items, kind="stable")
        return cls(rows[order], items[order])

    def hide(self, scores: Float32, start: int) -> None:
        """Write -inf into a tile that begins at item ``start``."""
        first, last = np.searchsorted(self.items, (start, start + scores.shape[1]))
        scores[self.rows[first:last], self.items[first:last] - start] = -np.inf


def count_rows(flags: Bool) -> Int64:
    """How many flags are set in each row, int64 [R]."""
    n_rows, width = flags.shape
    if width % 8 == 0 and 0 < width <= _LONGEST_LANE and flags.flags.c_contiguous:
        lanes = np.add.reduce(flags.view(np.uint64), axis=1)  # eight one-byte counters, 255 additions at most
        counts: Int64 = lanes.view(np.uint8).reshape(n_rows, 8).sum(axis=1, dtype=np.int64)
        return counts
    return np.fromiter((np.count_nonzero(row) for row in flags), np.int64, n_rows)
