"""Lists and scores for models that only know how to score everything, in bounded memory.

A scorer becomes a full :class:`~rec_core.protocols.Recommender` with two one-line methods::

    def recommend(self, histories, k, *, exclude=None, among=None):
        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories, candidates):
        return score_dense(self, histories, candidates)
"""

from __future__ import annotations

import numpy as np

from rec_core.errors import DataError
from rec_core.evaluation.blocks import DEFAULT_BUDGET, ScoreBlock, Scorer, for_each_block
from rec_core.evaluation.ranking import top_k
from rec_core.types import Candidates, Histories, Rankings, Scores
from rec_core.types.ids import Bool, Float32, check_ids


def recommend_dense(
    scorer: Scorer,
    histories: Histories,
    k: int,
    *,
    exclude: Candidates | None = None,
    among: Bool | None = None,
    budget: int = DEFAULT_BUDGET,
) -> Rankings:
    """``Recommender.recommend`` from the scores of a dense or vector scorer; see :func:`top_k` for every rule."""
    return top_k(scorer, histories, k, exclude=exclude, among=among, budget=budget)


def score_dense(
    scorer: Scorer, histories: Histories, candidates: Candidates, *, budget: int = DEFAULT_BUDGET
) -> Scores:
    """``Recommender.score`` from a dense or vector scorer: the same numbers that its lists carry.

    A candidate outside the item universe raises :class:`DataError`, a row with user -1 :class:`UnknownUsers` when the
    scorer knows only its training users.
    """
    if len(candidates) != len(histories):
        raise DataError(f"{len(candidates)} rows of candidates for {len(histories)} histories")

    def scores_of(rows: slice, block: ScoreBlock, _: int) -> Float32:
        part = candidates.block(rows.start, rows.stop)
        check_ids(part.items, block.shape[1], "candidates: item id")
        return block.exact(np.repeat(np.arange(len(part)), part.lengths), part.items.astype(np.int64))

    values = np.empty(len(candidates.items), np.float32)
    for rows, scores in for_each_block(scorer, histories, budget, scores_of):
        values[candidates.offsets[rows.start] : candidates.offsets[rows.stop]] = scores
    return Scores(candidates.offsets, candidates.items, values)
