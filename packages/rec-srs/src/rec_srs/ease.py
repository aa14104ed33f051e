"""EASE: a linear item-item model in closed form (Steck 2019, arXiv 1905.03375)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rec_core.errors import DataError, SettingsError
from rec_core.evaluation import recommend_dense, score_dense
from rec_core.types import Candidates, Histories, Interactions, Rankings, Scores
from rec_core.types.ids import Bool, Float32
from rec_srs.config import EASESettings
from rec_srs.item_knn import binary_matrix


@dataclass(frozen=True, slots=True, eq=False)
class EASE:
    """Scores a history by x·B, x its 0/1 item vector; works for users never seen.

    weights   float32 [n_items, n_items], B with a zero diagonal
    """

    weights: Float32
    known_users_only: ClassVar[bool] = False

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return len(self.weights)

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items]."""
        return np.asarray(binary_matrix(histories, self.n_items) @ self.weights, np.float32)

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k items of the largest x·B."""
        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """x·B at the candidates."""
        return score_dense(self, histories, candidates)


def fit_ease(train: Interactions, settings: EASESettings = EASESettings()) -> EASE:  # noqa: B008 - frozen
    """B = -P / diag(P) off the diagonal, with P = (XᵀX + λI)⁻¹ in float64 (equations 8 and 11 of the paper).

    Two dense n_items² float64 matrices live at once. Raises :class:`SettingsError` when that exceeds
    ``memory_limit_gib`` and :class:`DataError` for an empty training part.
    """
    if len(train) == 0:
        raise DataError("EASE needs training interactions; the training part is empty")
    needed = 2 * 8 * train.n_items**2 / 2**30
    if needed > settings.memory_limit_gib:
        raise SettingsError(
            f"EASE inverts a dense matrix of {train.n_items:,} x {train.n_items:,} items: {needed:.1f} GiB, more "
            f"than the limit of {settings.memory_limit_gib:g} GiB; raise --memory-limit-gib, filter items, or take "
            f"item-knn"
        )
    x = binary_matrix(train.histories(), train.n_items).astype(np.float64)
    gram = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += settings.l2
    precision = np.linalg.inv(gram)
    weights = precision / -np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    return EASE(weights.astype(np.float32))
