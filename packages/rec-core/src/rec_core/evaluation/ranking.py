"""Exact ranks and top-k lists from scores of the whole catalogue, in bounded memory.

Axes: R rows of a block, T items of a tile, K list length, P (row, item) pairs.

A score of -inf means *not to be recommended*: such an item is in no list, and a target scored -inf stands behind the
whole catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rec_core.errors import DataError
from rec_core.evaluation.blocks import (
    DEFAULT_BUDGET,
    Hidden,
    ScoreBlock,
    Scorer,
    cells_in,
    check_known,
    count_rows,
    score_blocks,
)
from rec_core.protocols import DenseScorer, Recommender, VectorScorer
from rec_core.types import Candidates, HeldOut, Histories, Rankings
from rec_core.types.ids import Bool, Float32, Int64, check_ids

_LOWEST = np.finfo(np.float32).min  # everything but -inf


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
    _check_request(histories, k, exclude)
    if not isinstance(recommender, VectorScorer | DenseScorer):
        check_known(recommender, histories)
        return recommender.recommend(histories, k, exclude=exclude, among=among)
    items = np.full((len(histories), k), -1, np.int64)
    scores = np.full((len(histories), k), -np.inf, np.float32)
    for rows, block in score_blocks(recommender, histories, budget, _rows_for(k, budget)):
        hidden = None if exclude is None else Hidden.of(exclude.block(rows.start, rows.stop))
        items[rows], scores[rows] = _best_of(block, k, hidden, among, budget)
    return Rankings(histories.users, items, scores)


def ranks(
    scorer: Scorer, held_out: HeldOut, *, exclude_seen: bool = True, budget: int = DEFAULT_BUDGET
) -> tuple[Int64, Int64]:
    """For every target, how many of its competitors score higher and how many score the same.

    Returns ``(better, tied)``, int64 [targets], aligned with ``held_out.items``. The competitors of a target are all
    items except the row's targets and, with ``exclude_seen``, the items of its history; a target is never excluded,
    even if the user met it before. With one target per row (leave-one-out) its rank, counted from 1, is
    ``better + 1`` to ``better + 1 + tied``: which of these is a matter of chance, see :mod:`rec_core.evaluation.metrics`.
    A target scored -inf gets ``better = n_items``.

    Nothing of size users × items is made: a vector scorer is worked through in tiles, a dense one in row blocks, both
    within ``budget`` bytes of scratch memory. Raises :class:`UnknownUsers`, and :class:`DataError` for a NaN score.
    """
    _check_targets(held_out, scorer)
    better, tied = np.zeros((2, len(held_out.items)), np.int64)
    for at, part, block in _held_out_blocks(scorer, held_out, budget, None):
        better[at], tied[at] = _ranks_in(block, part, exclude_seen)
    return better, tied


def ranks_and_top_k(
    scorer: Scorer, held_out: HeldOut, k: int, *, exclude_seen: bool = True, budget: int = DEFAULT_BUDGET
) -> tuple[Int64, Int64, Rankings]:
    """:func:`ranks` and :func:`top_k` (excluding :func:`seen_items`) with every request scored by the model once."""
    _check_targets(held_out, scorer)
    better, tied = np.zeros((2, len(held_out.items)), np.int64)
    items = np.full((len(held_out), k), -1, np.int64)
    scores = np.full((len(held_out), k), -np.inf, np.float32)
    start = 0
    for at, part, block in _held_out_blocks(scorer, held_out, budget, _rows_for(k, budget), keep_order=True):
        rows = slice(start, start + len(part))
        hidden = Hidden.of(seen_items(part)) if exclude_seen else None
        targets = block.exact(*_pairs(part))  # before anything is hidden in the block
        items[rows], scores[rows] = _best_of(block, k, hidden, None, budget)
        better[at], tied[at] = _ranks_in(block, part, exclude_seen, targets)
        start = rows.stop
    return better, tied, Rankings(held_out.histories.users, items, scores)


def seen_items(held_out: HeldOut) -> Candidates:
    """What full ranking excludes: the items of each row's history, except the row's targets."""
    histories = held_out.histories
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    target_rows = np.repeat(np.arange(len(held_out)), np.diff(held_out.offsets))
    width = 1 + max(histories.items.max(initial=0), held_out.items.max(initial=0))
    keep = ~np.isin(rows * width + histories.items, target_rows * width + held_out.items)
    lengths = np.bincount(rows[keep], minlength=len(histories))
    return Candidates(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), histories.items[keep])


def n_competitors(held_out: HeldOut, n_items: int, *, exclude_seen: bool = True) -> Int64:
    """How many items each row's targets compete with, int64 [rows]: n_items less targets and (if so) seen items."""
    out = np.empty(len(held_out), np.int64)
    for r in range(len(held_out)):
        gone = [held_out.row(r), held_out.histories.row(r)] if exclude_seen else [held_out.row(r)]
        out[r] = n_items - len(np.unique(np.concatenate(gone)))
    return out


# R rows, T items of a tile; slot j holds the j-th target of the rows that have one


def _ranks_in(
    block: ScoreBlock, part: HeldOut, exclude_seen: bool, targets: Float32 | None = None
) -> tuple[Int64, Int64]:
    """Better and tied competitors of every target of one block; rows come with falling numbers of targets."""
    rows, items = _pairs(part)
    target = block.exact(rows, items) if targets is None else targets
    own = Candidates(part.offsets, part.items)
    seen = Candidates(part.histories.offsets, part.histories.items)
    hidden = Hidden.of(own, seen) if exclude_seen else Hidden.of(own)
    slack_R = block.slack
    exact = not slack_R.any()
    low, high = target - slack_R[rows], target + slack_R[rows]

    counts = np.diff(part.offsets)
    order = np.argsort(-counts, kind="stable")  # single targets: 0, 1, 2, ...
    slots = [order[: int((counts > j).sum())] for j in range(int(counts.max(initial=0)))]
    better, tied = np.zeros((2, len(target)), np.int64)
    flags = np.empty((2, 0), np.bool_)
    for start, scores_RT in block.tiles():
        hidden.hide(scores_RT, start)
        if flags.shape[1] < scores_RT.size:
            flags = np.empty((2, scores_RT.size), np.bool_)
        for j, chosen in enumerate(slots):
            whole = len(chosen) == len(scores_RT) and j == 0 and len(slots) == 1
            scores = scores_RT if whole else scores_RT[chosen]
            at = part.offsets[chosen] + j
            above, reach = (flag[: scores.size].reshape(scores.shape) for flag in flags)
            np.greater(scores, high[at, None], out=above)
            np.greater_equal(scores, low[at, None], out=reach)
            better[at] += count_rows(above)
            if exact:
                tied[at] += count_rows(reach) - count_rows(above)
                continue
            np.not_equal(above, reach, out=reach)  # too near the target for float32: decided by exact scores
            near, column = np.divmod(np.flatnonzero(reach), scores.shape[1])
            if len(near):
                rival = block.exact(chosen[near], column + start)
                better[at] += np.bincount(near[rival > target[at[near]]], minlength=len(at))
                tied[at] += np.bincount(near[rival == target[at[near]]], minlength=len(at))
    never = np.isneginf(target)
    better[never], tied[never] = block.shape[1], 0
    return better, tied
