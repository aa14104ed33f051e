"""Exact ranks and top-k lists from scores of the whole catalogue, in bounded memory.

Axes: R rows of a block, T items of a tile, K list length, P (row, item) pairs.

A score of -inf means *not to be recommended*: such an item is in no list, and a target scored -inf stands behind the
whole catalogue.
"""

from __future__ import annotations

import numpy as np

from rec_core.errors import DataError
from rec_core.evaluation.blocks import (
    DEFAULT_BUDGET,
    Hidden,
    ScoreBlock,
    Scorer,
    check_known,
    count_rows,
    for_each_block,
)
from rec_core.protocols import DenseScorer, Recommender, VectorScorer
from rec_core.types import Candidates, HeldOut, Histories, Rankings
from rec_core.types.ids import Bool, Float32, Int64

_LOWEST = np.finfo(np.float32).min


def top_k(
    recommender: Recommender | Scorer,
    histories: Histories,
    k: int,
    *,
    exclude: Candidates | None = None,
    among: Bool | None = None,
    budget: int = DEFAULT_BUDGET,
) -> Rankings:
    """The k best items of each row, best first; equal scores are ordered by item id.

    A scorer is asked block by block within ``budget`` bytes of scratch memory; the answer does not depend on the
    budget. A recommender that is no scorer is asked for its own lists. ``exclude``: items per row that must not
    return (None excludes nothing, not even the history). ``among``: bool [n_items], rank only these. Where fewer than
    k items are left, the rest of a row is -1 with score -inf.

    Raises :class:`UnknownUsers` for a row with user -1 when ``known_users_only``, :class:`DataError` for a NaN score.
    """
    _check_k(k)
    if exclude is not None and len(exclude) != len(histories):
        raise DataError(f"{len(exclude)} rows of items to exclude for {len(histories)} histories")
    if not isinstance(recommender, VectorScorer | DenseScorer):
        check_known(recommender, histories)
        return recommender.recommend(histories, k, exclude=exclude, among=among)

    def lists_of(rows: slice, block: ScoreBlock, cells: int) -> tuple[Int64, Float32]:
        _check_among(among, block.shape[1])
        hidden = None if exclude is None else Hidden.of(exclude.block(rows.start, rows.stop))
        return _best_in(block, k, hidden, among, cells)

    items, scores = _empty_lists(len(histories), k)
    for rows, lists in for_each_block(recommender, histories, budget, lists_of, list_length=k):
        items[rows], scores[rows] = lists
    return Rankings(histories.users, items, scores)


def ranks(
    scorer: Scorer, held_out: HeldOut, *, exclude_seen: bool = True, budget: int = DEFAULT_BUDGET
) -> tuple[Int64, Int64]:
    """For every target, how many of its competitors score higher and how many score the same.

    Returns ``(better, tied)``, int64 [targets], aligned with ``held_out.items``. The competitors of a target are all
    items except the row's targets and, with ``exclude_seen``, the items of its history; a target is never excluded,
    even if the user met it before. With one target per row (leave-one-out) its rank, counted from 1, lies between
    ``better + 1`` and ``better + 1 + tied``; what that means for a metric is said in
    :mod:`rec_core.evaluation.metrics`. A target scored -inf gets ``better = n_items``.

    Nothing of size users × items is made: a vector scorer is worked through in tiles, a dense one in row blocks, both
    within ``budget`` bytes of scratch memory. Raises :class:`UnknownUsers`, and :class:`DataError` for a NaN score.
    """

    def ranks_of(rows: slice, block: ScoreBlock, _: int) -> tuple[Int64, Int64]:
        return _ranks_in(block, _part(held_out, rows, block), exclude_seen)

    better, tied = np.zeros((2, len(held_out.items)), np.int64)
    for rows, found in for_each_block(scorer, held_out.histories, budget, ranks_of):
        at = _targets_of(held_out, rows)
        better[at], tied[at] = found
    return better, tied


def ranks_and_top_k(
    scorer: Scorer, held_out: HeldOut, k: int, *, exclude_seen: bool = True, budget: int = DEFAULT_BUDGET
) -> tuple[Int64, Int64, Rankings]:
    """:func:`ranks`, and :func:`top_k` without :func:`seen_items`, while the model answers every request once."""
    _check_k(k)

    def both_of(rows: slice, block: ScoreBlock, cells: int) -> tuple[Int64, Float32, Int64, Int64]:
        part = _part(held_out, rows, block)
        hidden = Hidden.of(seen_items(part)) if exclude_seen else None
        lists = _best_in(block, k, hidden, None, cells)
        return *lists, *_ranks_in(block, part, exclude_seen)  # last: it also hides the targets

    better, tied = np.zeros((2, len(held_out.items)), np.int64)
    items, scores = _empty_lists(len(held_out), k)
    for rows, found in for_each_block(scorer, held_out.histories, budget, both_of, list_length=k):
        at = _targets_of(held_out, rows)
        items[rows], scores[rows], better[at], tied[at] = found
    return better, tied, Rankings(held_out.histories.users, items, scores)


def seen_items(held_out: HeldOut) -> Candidates:
    """What full ranking excludes: the items of each row's history, except the row's targets."""
    histories = held_out.histories
    rows, target_rows = _rows_of(histories.offsets), _rows_of(held_out.offsets)
    width = 1 + max(histories.items.max(initial=0), held_out.items.max(initial=0))
    keep = ~np.isin(rows * width + histories.items, target_rows * width + held_out.items)
    lengths = np.bincount(rows[keep], minlength=len(histories))
    return Candidates(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), histories.items[keep])


def n_competitors(held_out: HeldOut, n_items: int, *, exclude_seen: bool = True) -> Int64:
    """How many items the targets of each row compete with, int64 [rows]; see :func:`ranks`."""
    gone = _rows_of(held_out.offsets) * n_items + held_out.items
    if exclude_seen:
        histories = held_out.histories
        known = histories.items < n_items  # a history may hold cold items, which are not ranked
        gone = np.concatenate([gone, (_rows_of(histories.offsets) * n_items + histories.items)[known]])
    gone.sort()  # np.unique hashes first, which takes longer than all ranks of MovieLens-1M
    return n_items - np.bincount(gone[np.diff(gone, prepend=-1) > 0] // n_items, minlength=len(held_out))


def _ranks_in(block: ScoreBlock, part: HeldOut, exclude_seen: bool) -> tuple[Int64, Int64]:
    """Better and tied competitors of every target of one block; hides seen items and targets in it."""
    rows, items = _rows_of(part.offsets), part.items.astype(np.int64)
    target = block.exact(rows, items)
    low, high = target - block.slack[rows], target + block.slack[rows]
    exact_tiles = not block.slack.any()
    lists = [Candidates(part.offsets, part.items)]
    if exclude_seen:
        lists.append(Candidates(part.histories.offsets, part.histories.items))
    hidden = Hidden.of(*lists)

    counts = np.diff(part.offsets)
    slots = [np.flatnonzero(counts > j) for j in range(int(counts.max(initial=0)))]  # rows with a j-th target
    better, tied = np.zeros((2, len(target)), np.int64)
    flags = np.empty((2, 0), np.bool_)
    for start, tile_RT in block.tiles():
        hidden.hide(tile_RT, start)
        if flags.shape[1] < tile_RT.size:
            flags = np.empty((2, tile_RT.size), np.bool_)
        for j, chosen in enumerate(slots):
            scores = tile_RT if len(chosen) == len(tile_RT) else tile_RT[chosen]
            at = part.offsets[chosen] + j
            above, reach = (flag[: scores.size].reshape(scores.shape) for flag in flags)
            np.greater(scores, high[at, None], out=above)
            np.greater_equal(scores, low[at, None], out=reach)
            n_above = count_rows(above)
            better[at] += n_above
            if exact_tiles:
                tied[at] += count_rows(reach) - n_above
                continue
            np.not_equal(above, reach, out=reach)  # within rounding of the target: the defined scores decide
            near, column = np.divmod(np.flatnonzero(reach), scores.shape[1])
            if len(near):
                rival, own_score = block.exact(chosen[near], column + start), target[at[near]]
                better[at] += np.bincount(near[rival > own_score], minlength=len(at))
                tied[at] += np.bincount(near[rival == own_score], minlength=len(at))
    never = np.isneginf(target)
    better[never], tied[never] = block.shape[1], 0
    return better, tied


def _best_in(block: ScoreBlock, k: int, hidden: Hidden | None, among: Bool | None, cells: int) -> tuple[Int64, Float32]:
    """Items int64 [R, k] and their scores float32 [R, k] of one block.

    One pass over the tiles keeps every item that may still belong to the k best. ``leading`` holds the k largest tile
    scores so far; an item whose tile score lies more than twice the slack below the k-th of them has k items with
    better defined scores. Where tiles are exact, a later item that only equals the k-th loses by its id.
    """
    n_rows, n_items = block.shape
    items_RK, scores_RK = _empty_lists(n_rows, k)
    depth = min(k, n_items)
    if depth == 0:
        return items_RK, scores_RK
    slack_R = block.slack
    leading_RK = np.full((n_rows, depth), -np.inf, np.float32)
    floor_R = np.full(n_rows, _LOWEST, np.float32)  # everything but -inf
    pool: list[tuple[Int64, Int64, Float32]] = []
    pooled = 0
    for start, tile_RT in block.tiles():
        width = tile_RT.shape[1]
        if hidden is not None:
            hidden.hide(tile_RT, start)
        if among is not None:
            tile_RT[:, ~among[start : start + width]] = -np.inf
        enter_R = np.where((slack_R == 0) & (floor_R > _LOWEST), np.nextafter(floor_R, np.float32(np.inf)), floor_R)
        if start == 0 and width > depth:
            kth_R = np.partition(tile_RT, width - depth, axis=1)[:, width - depth]
            enter_R = np.maximum(enter_R, kth_R - 2 * slack_R)
        rows, columns = np.divmod(np.flatnonzero(tile_RT >= enter_R[:, None]), width)
        if len(rows) == 0:
            continue
        values = tile_RT[rows, columns]
        pool.append((rows, columns + start, values))
        pooled += len(rows)
        leading_RK = _merge_largest(leading_RK, rows, values)
        floor_R = np.maximum(leading_RK.min(axis=1) - 2 * slack_R, _LOWEST)
        if pooled > cells // 2:
            rows, items, values = _still_in(pool, floor_R)
            if len(rows) > cells // 4:
                rows, items, values, _ = _first_k(block, rows, items, depth)
            pool, pooled = [(rows, items, values)], len(rows)
    if pool:
        rows, items, _ = _still_in(pool, floor_R)
        rows, items, values, place = _first_k(block, rows, items, depth)
        items_RK[rows, place], scores_RK[rows, place] = items, values
    return items_RK, scores_RK


def _merge_largest(leading_RK: Float32, rows: Int64, values: Float32) -> Float32:
    """The K largest of each row's leading and new values, in no order; ``rows`` do not fall."""
    counts = np.bincount(rows, minlength=len(leading_RK))
    most, depth = int(counts.max()), leading_RK.shape[1]
    wide = np.full((len(leading_RK), depth + most), -np.inf, np.float32)
    wide[:, :depth] = leading_RK
    wide[rows, depth + _places(rows, counts)] = values
    return np.partition(wide, most, axis=1)[:, most:]


def _still_in(pool: list[tuple[Int64, Int64, Float32]], floor_R: Float32) -> tuple[Int64, Int64, Float32]:
    rows, items, values = (np.concatenate(column) for column in zip(*pool, strict=True))
    keep = values >= floor_R[rows]
    return rows[keep], items[keep], values[keep]


def _first_k(block: ScoreBlock, rows: Int64, items: Int64, k: int) -> tuple[Int64, Int64, Float32, Int64]:
    """The first k pairs of each row by (score falling, item id rising) and the place of each, 0-based."""
    scores = block.exact(rows, items)
    order = np.lexsort((items, -scores, rows))
    rows = rows[order]
    place = _places(rows, np.bincount(rows, minlength=block.shape[0]))
    kept = place < k
    order = order[kept]
    return rows[kept], items[order], scores[order], place[kept]


def _places(rows: Int64, counts: Int64) -> Int64:
    """0, 1, 2, ... within each run of equal ``rows``, which do not fall."""
    return np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]


def _rows_of(offsets: Int64) -> Int64:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _empty_lists(n_rows: int, k: int) -> tuple[Int64, Float32]:
    return np.full((n_rows, k), -1, np.int64), np.full((n_rows, k), -np.inf, np.float32)


def _part(held_out: HeldOut, rows: slice, block: ScoreBlock) -> HeldOut:
    part = held_out.take(np.arange(rows.start, rows.stop))
    if len(part.items) and part.items.max() >= block.shape[1]:
        raise DataError(
            f"target item {part.items.max()} is outside the {block.shape[1]} items that the model ranks; "
            f"cold items are evaluated with a model that scores them"
        )
    return part


def _targets_of(held_out: HeldOut, rows: slice) -> slice:
    return slice(int(held_out.offsets[rows.start]), int(held_out.offsets[rows.stop]))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is at least 1; got {k}")


def _check_among(among: Bool | None, n_items: int) -> None:
    if among is not None and (among.shape != (n_items,) or among.dtype != np.bool_):
        raise DataError(f"among must be bool [{n_items}], True for the items to rank; got {among.dtype} {among.shape}")
