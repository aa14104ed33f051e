"""Ranking and classification metrics, one float64 per row (user), never rounded.

**Two sources.** :class:`Hits` says which places of a top-k list hold a relevant item; :class:`Ranks` says where the
single target of a row stands among its competitors (leave-one-out). Every ranking metric takes either.

**Ties.** From :class:`Ranks`, a metric is its *expectation under a uniformly random order of the tied block*: with
``better`` competitors ahead and ``tied`` competitors level, the target takes each of the places ``better + 1`` to
``better + 1 + tied`` with probability ``1 / (tied + 1)``, and the metric is the mean over these places. So the
expected hit rate is the share of the block's places within k, and a model that gives every item the same score gets
exactly the score of random order, never a perfect or a zero one. From :class:`Hits` a metric takes the list as it is;
where our ranking made the list, equal scores stand in the order of item ids. Models that generate lists instead of
scores (semantic ids, language models) can only be measured this second way: their ties are broken by item id.

**Rows without a relevant item** have no recall; every list metric is NaN there and means skip them.

``k`` counts places, from 1. One relevant item per row: recall equals the hit rate, average precision the reciprocal
rank, precision the hit rate over k.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types import Candidates, HeldOut, Rankings
from rec_core.types.ids import Bool, Float32, Float64, Int64, check_offsets


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Which places of each list hold a relevant item.

    found       bool [rows, depth]   best first
    n_relevant  int64 [rows]         distinct relevant items of the row, in the list or not
    """

    found: Bool
    n_relevant: Int64

    @classmethod
    def of(cls, ranked: Rankings | npt.ArrayLike, relevant: HeldOut | Candidates | Iterable[Collection[int]]) -> Hits:
        """Compare lists [rows, depth] (-1 = no item) with the relevant items of each row.

        A relevant item named twice counts once. Raises :class:`DataError` when a list holds an item twice.
        """
        items = np.asarray(ranked.items if isinstance(ranked, Rankings) else ranked, np.int64)
        if not isinstance(relevant, HeldOut | Candidates):
            relevant = Candidates.of([sorted(row) for row in relevant])
        if items.ndim != 2 or len(items) != len(relevant):
            raise DataError(f"lists of shape {list(items.shape)} for {len(relevant)} rows of relevant items")
        _refuse_repeats(items)
        width = 1 + int(max(items.max(initial=0), relevant.items.max(initial=0)))
        rows = np.repeat(np.arange(len(relevant)), np.diff(relevant.offsets))
        wanted = np.unique(rows * width + relevant.items)
        keys = np.arange(len(items))[:, None] * width + items
        found = np.isin(keys, wanted) & (items >= 0)
        return cls(found, np.bincount(wanted // width, minlength=len(items)))

    def first(self, k: int) -> Bool:
        """bool [rows, k]: the first k places; asking for more places than the lists have is an error."""
        if not 1 <= k <= self.found.shape[1]:
            raise ValueError(f"a metric at {k} needs lists of at least {k} places; these have {self.found.shape[1]}")
        return self.found[:, :k]

    def known(self, values: npt.ArrayLike) -> Float64:
        """``values`` with NaN in the rows that have no relevant item."""
        return np.where(self.n_relevant > 0, values, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Where the single target of each row stands; see :func:`rec_core.evaluation.ranks`.

    better       int64 [rows]   competitors with a higher score; more than there are = the target is not ranked at all
    tied         int64 [rows]   competitors with the same score, the target not counted
    competitors  int64 [rows]   all items the target is ranked against
    """

    better: Int64
    tied: Int64
    competitors: Int64

    def expected(self, gains: Float64) -> Float64:
        """Mean of ``gains`` (float64 [k], by place; 0 beyond) over the places of the tied block, float64 [rows]."""
        k = len(gains)
        ranked = self.better <= self.competitors
        first = np.where(ranked, np.minimum(self.better, k), k)
        one_place = np.append(gains, 0.0)[first]
        if not self.tied.any():
            return one_place
        total = np.concatenate([[0.0], np.cumsum(gains)])
        block = total[np.minimum(first + self.tied + 1, k)] - total[first]
        return np.where(self.tied == 0, one_place, block / (self.tied + 1))


Placed = Hits | Ranks


def hit_rate(at: Placed, k: int) -> Float64:
    """1 where at least one relevant item is among the first k, else 0. Name in results: ``hr``."""
    if isinstance(at, Ranks):
        return at.expected(np.ones(k))
    return at.known(at.first(k).any(axis=1).astype(np.float64))


def precision(at: Placed, k: int) -> Float64:
    """Relevant items among the first k, divided by k (also where fewer than k items were left to list)."""
    if isinstance(at, Ranks):
        return at.expected(np.full(k, 1 / k))
    return at.known(at.first(k).sum(axis=1) / k)


def recall(at: Placed, k: int) -> Float64:
    """Relevant items among the first k, divided by all relevant items of the row."""
    if isinstance(at, Ranks):
        return at.expected(np.ones(k))
    return at.known(at.first(k).sum(axis=1) / np.maximum(at.n_relevant, 1))


def ndcg(at: Placed, k: int) -> Float64:
    """DCG over its largest possible value, binary relevance: a hit at place r gains ``1 / log2(r + 1)``.

    The ideal list holds ``min(n_relevant, k)`` hits at the top. Järvelin and Kekäläinen 2002, with the discount of
    Burges et al. 2005 that the field uses.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    if isinstance(at, Ranks):
        return at.expected(gains)
    ideal = np.concatenate([[1.0], np.cumsum(gains)])[np.minimum(at.n_relevant, k)]
    return at.known(np.where(at.first(k), gains, 0.0).sum(axis=1) / ideal)


def mrr(at: Placed, k: int) -> Float64:
    """One over the place of the first relevant item; 0 where none is among the first k."""
    gains = 1 / np.arange(1, k + 1)
    if isinstance(at, Ranks):
        return at.expected(gains)
    return at.known(np.where(at.first(k), gains, 0.0).max(axis=1))


def average_precision(at: Placed, k: int) -> Float64:
    """Mean over *all* relevant items of the precision at the place of each; 0 for those beyond k. Name: ``map``.

    The division by ``n_relevant`` is that of trec_eval and ranx; libraries that divide by ``min(n_relevant, k)`` give
    larger values where a row has more than k relevant items.
    """
    if isinstance(at, Ranks):
        return at.expected(1 / np.arange(1, k + 1))
    found = at.first(k)
    at_each = np.cumsum(found, axis=1) / np.arange(1, k + 1)
    return at.known(np.where(found, at_each, 0.0).sum(axis=1) / np.maximum(at.n_relevant, 1))


AT_K: dict[str, Callable[[Placed, int], Float64]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
}
"""Metrics of the first k places by the name they have in results."""


def hit_ratio_micro(hits: Hits, k: int) -> float:
    """All hits of all rows over all relevant items: what SELFRec reports as "Hit Ratio".

    One number, in which a row weighs as much as it has relevant items; not the share of rows with a hit
    (:func:`hit_rate`) and not the mean of :func:`recall`. With one relevant item per row the three coincide.
    """
    return float(hits.first(k).sum() / hits.n_relevant.sum())


def auc(ranks: Ranks) -> Float64:
    """Share of competitors ranked behind the target, ties counted half; NaN where there is no competitor."""
    behind = ranks.competitors - np.minimum(ranks.better, ranks.competitors) - ranks.tied / 2
    return ratio(behind, ranks.competitors)


def auc_of_labels(scores: Float32, labels: Bool, offsets: Int64 | None = None) -> Float64:
    """Chance that a positive scores above a negative of the same row, ties counted half, float64 [rows].

    ``scores`` and ``labels`` are [values]; ``offsets`` int64 [rows + 1] cuts them into rows, None = one row that holds
    everything (the pooled AUC usual for click prediction). NaN in rows where all labels are equal. By mid-ranks, the
    Mann-Whitney statistic.
    """
    offsets = _checked_rows(scores, labels, offsets)
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((scores, rows))
    ordered, in_row = scores[order], rows[order]
    new_value = np.ones(len(order), np.bool_)
    new_value[1:] = (ordered[1:] != ordered[:-1]) | (in_row[1:] != in_row[:-1])
    block = np.cumsum(new_value) - 1
    first = np.flatnonzero(new_value)
    last = np.append(first[1:], len(order)) - 1
    mid_rank = ((first + last) / 2)[block] - offsets[in_row] + 1
    positive = labels[order]
    n_positive = np.bincount(in_row[positive], minlength=len(offsets) - 1)
    n_negative = np.diff(offsets) - n_positive
    sum_of_ranks = np.bincount(in_row[positive], mid_rank[positive], minlength=len(offsets) - 1)
    pairs = n_positive * n_negative
    won = sum_of_ranks - n_positive * (n_positive + 1) / 2
    return ratio(won, pairs)


def log_loss(probabilities: Float32, labels: Bool, offsets: Int64 | None = None, *, clip: float = 1e-7) -> Float64:
    """Mean of ``-log p`` over positives and ``-log(1 - p)`` over negatives, natural logarithm, float64 [rows].

    Needs *probabilities* of the label, not scores of any scale: a value outside [0, 1] raises :class:`DataError`.
    They are clipped to ``[clip, 1 - clip]``, so a certain mistake costs 16.1 and not infinity. ``offsets`` as in
    :func:`auc_of_labels`; NaN in empty rows.
    """
    offsets = _checked_rows(probabilities, labels, offsets)
    outside = ~((probabilities >= 0) & (probabilities <= 1))
    if outside.any():
        raise DataError(
            f"log loss needs probabilities between 0 and 1; position {int(np.flatnonzero(outside)[0])} holds "
            f"{probabilities[outside][0]}. Make probabilities first (the sigmoid of a logit), or ask for AUC only."
        )
    p = np.clip(probabilities.astype(np.float64), clip, 1 - clip)
    losses = -np.log(np.where(labels, p, 1 - p))
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    lengths = np.diff(offsets)
    total = np.bincount(rows, losses, minlength=len(lengths))
    return ratio(total, lengths)


def coverage(ranked: Rankings, n_items: int, k: int) -> float:
    """Share of the catalogue that appears among the first k of at least one row.

    A property of all lists together, so one number: it grows with the number of rows and has no per-user vector.
    """
    shown = ranked.items[:, :k]
    return len(np.unique(shown[shown >= 0])) / n_items


def popularity_percentile(counts: Int64) -> Float64:
    """How popular each item is, float64 [n_items] in (0, 1): share of items with fewer training events, half of ties.

    0.5 on average over the catalogue, whatever the distribution.
    """
    ordered = np.sort(counts)
    fewer = np.searchsorted(ordered, counts, side="left")
    at_most = np.searchsorted(ordered, counts, side="right")
    return (fewer + at_most) / (2 * len(counts))


def log_popularity(counts: Int64) -> Float64:
    """``log(1 + training events)`` of each item, float64 [n_items]."""
    return np.log1p(counts.astype(np.float64))


def popularity_bias(ranked: Rankings, popularity: Float64, k: int) -> Float64:
    """Mean popularity of the first k items of each list, float64 [rows]; NaN where a list is empty.

    ``popularity`` float64 [n_items] from :func:`popularity_percentile` (random lists give 0.5) or
    :func:`log_popularity`.
    """
    shown = ranked.items[:, :k]
    there = shown >= 0
    total = np.where(there, popularity[shown], 0.0).sum(axis=1)
    filled = there.sum(axis=1)
    return ratio(total, filled)


def ratio(numerator: npt.NDArray[Any], denominator: Int64) -> Float64:
    """Quotient of two vectors, float64; NaN where the denominator is 0."""
    quotient: Float64 = np.full(len(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _refuse_repeats(items: Int64) -> None:
    ordered = np.sort(items, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row = int(np.flatnonzero(twice.any(axis=1))[0])
        item = ordered[row, 1:][twice[row]][0]
        raise DataError(f"the list of row {row} holds item {item} twice; a ranking names each item once")


def _checked_rows(values: npt.NDArray[Any], labels: Bool, offsets: Int64 | None) -> Int64:
    if values.ndim != 1 or labels.shape != values.shape or labels.dtype != np.bool_:
        raise DataError(f"values {list(values.shape)} need bool labels of the same shape; got {labels.dtype}")
    if np.isnan(values).any():
        raise DataError(f"the value at position {int(np.flatnonzero(np.isnan(values))[0])} is NaN")
    if offsets is None:
        return np.array([0, len(values)], np.int64)
    check_offsets(offsets, len(values), "labelled values")
    return offsets
