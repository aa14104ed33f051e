"""The simplest models there are: a table of scores, and two tables of vectors. Row r of a table is user id r."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rec_core.evaluation import recommend_dense, score_dense
from rec_core.types import Candidates, Histories, Rankings, Scores
from rec_core.types.ids import Bool, Float32


class ScoreTable:
    """A dense scorer that reads off a matrix [n_users, n_items]."""

    known_users_only = True

    def __init__(self, scores: npt.ArrayLike) -> None:
        self.scores: Float32 = np.asarray(scores, np.float32)

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return int(self.scores.shape[1])

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items], copied."""
        return self.scores[histories.users]


class VectorTable:
    """A vector scorer that reads off user vectors [n_users, dim] and item vectors [n_items, dim]."""

    known_users_only = True

    def __init__(self, users: npt.ArrayLike, items: npt.ArrayLike) -> None:
        self.users: Float32 = np.asarray(users, np.float32)
        self.items: Float32 = np.asarray(items, np.float32)

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return len(self.items)

    def user_vectors(self, histories: Histories) -> Float32:
        """float32 [rows, dim]."""
        return self.users[histories.users]

    def item_vectors(self) -> Float32:
        """float32 [n_items, dim]."""
        return self.items

    def defined_scores(self) -> Float32:
        """float32 [n_users, n_items]: every score as the protocol defines it, pair by pair."""
        items = self.items.astype(np.float64)
        rows = [(user.astype(np.float64) * items).sum(axis=1) for user in self.users]
        return np.array(rows, np.float32).reshape(len(self.users), len(items))


class ListsOnly:
    """A recommender that hides the scorer it has: evaluation must then work from its lists and scores."""

    def __init__(self, scorer: ScoreTable | VectorTable) -> None:
        self.scorer = scorer
        self.known_users_only = scorer.known_users_only

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return self.scorer.n_items

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """See :class:`rec_core.protocols.Recommender`."""
        return recommend_dense(self.scorer, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """See :class:`rec_core.protocols.Recommender`."""
        return score_dense(self.scorer, histories, candidates)
