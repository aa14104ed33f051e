"""Popular: every user gets the items most often met in training. The floor of every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rec_core.evaluation import recommend_dense, score_dense
from rec_core.types import Candidates, Histories, Interactions, Rankings, Scores
from rec_core.types.ids import Bool, Float32, check_ids


@dataclass(frozen=True, slots=True, eq=False)
class Popular:
    """Scores an item by its number of training interactions, whatever the history.

    counts   float32 [n_items]

    Equal counts are ties: metrics average over their orders, lists order them by item id.
    """

    counts: Float32
    known_users_only: ClassVar[bool] = False

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return len(self.counts)

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items]: the counts, once per row."""
        check_ids(histories.items, self.n_items, "histories: item id")
        return np.tile(self.counts, (len(histories), 1))

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k most popular items that are allowed."""
        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """The counts of the candidates."""
        return score_dense(self, histories, candidates)


def fit_popular(train: Interactions) -> Popular:
    """Count the training interactions of every item."""
    return Popular(train.item_counts().astype(np.float32))
