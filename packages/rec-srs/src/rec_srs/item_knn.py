"""ItemKNN: items that the same users met are similar; a history votes for its items' neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from rec_core.errors import DataError
from rec_core.evaluation import recommend_dense, score_dense
from rec_core.types import Candidates, Histories, Interactions, Rankings, Scores
from rec_core.types.ids import Bool, Float32, check_ids
from rec_srs.config import ItemKNNSettings


def binary_matrix(histories: Histories, n_items: int) -> sparse.csr_array:
    """float32 CSR [rows, n_items] with a 1 where a row holds an item, however often.

    Raises :class:`DataError` for an item outside the universe.
    """
    check_ids(histories.items, n_items, "histories: item id")
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    ones = np.ones(len(histories.items), np.float32)
    matrix = sparse.csr_array((ones, (rows, histories.items)), shape=(len(histories), n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class ItemKNN:
    """Scores item j by the summed similarity of the history's items to it; works for users never seen.

    similarity   float32 CSR [n_items, n_items]; column j keeps its most similar items, the diagonal is 0
    """

    similarity: sparse.csr_array
    known_users_only: ClassVar[bool] = False

    @property
    def n_items(self) -> int:
        """Size of the item universe."""
        return int(self.similarity.shape[1])

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items]."""
        return (binary_matrix(histories, self.n_items) @ self.similarity).toarray().astype(np.float32, copy=False)

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k items nearest to the history."""
        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """Summed similarities of the candidates."""
        return score_dense(self, histories, candidates)


_BLOCK_BYTES = 64 << 20


def fit_item_knn(train: Interactions, settings: ItemKNNSettings = ItemKNNSettings()) -> ItemKNN:  # noqa: B008 - frozen
    """s_ij = x_i·x_j / (|x_i||x_j| + shrink) over train users, s_ii = 0; the largest ``neighbors`` of each column stay.

    Columns are worked off in blocks, so the dense part never exceeds 64 MiB. Ties at the cut go to the smaller item id.
    """
    if len(train) == 0:
        raise DataError("ItemKNN needs training interactions; the training part is empty")
    users_items = _weighted(binary_matrix(train.histories(), train.n_items), settings.weighting).tocsc()
    norms = np.sqrt(np.asarray(users_items.multiply(users_items).sum(axis=0)).ravel()).astype(np.float32)
    transposed = users_items.T.tocsr()
    n, k = train.n_items, min(settings.neighbors, train.n_items)
    width = max(1, _BLOCK_BYTES // (n * 4 * 6))  # counts, denominators, two copies, and an order of int64
    kept = []
    for start in range(0, n, width):
        stop = min(start + width, n)
        block = (transposed @ users_items[:, start:stop]).toarray()  # [n, block] shared users
        denominator = norms[:, None] * norms[None, start:stop] + np.float32(settings.shrink)
        np.divide(block, denominator, out=block, where=denominator > 0)
        block[np.arange(start, stop), np.arange(stop - start)] = 0.0
        if k < n:
            best = np.argsort(-block, axis=0, kind="stable")[:k]
            thin = np.zeros_like(block)
            np.put_along_axis(thin, best, np.take_along_axis(block, best, axis=0), axis=0)
            block = thin
        kept.append(sparse.csc_array(block.astype(np.float32, copy=False)))
    return ItemKNN(sparse.csr_array(sparse.hstack(kept, format="csr")))


def _weighted(matrix: sparse.csr_array, weighting: str) -> sparse.csr_array:
    """IDF or BM25 weights (k1 = 1.2, b = 0.75) with items as documents and users as their terms.

    A user who met much says little about each item. (With items as terms the weights would cancel in the cosine.)
    """
    if weighting == "none":
        return matrix
    n_items = matrix.shape[1]
    items_per_user = np.diff(matrix.indptr)
    if weighting == "idf":
        idf = np.log((1 + n_items) / (1 + items_per_user)) + 1
        return matrix.multiply(idf[:, None].astype(np.float32)).tocsr()
    idf = np.log((n_items - items_per_user + 0.5) / (items_per_user + 0.5) + 1)
    users_per_item = np.bincount(matrix.indices, minlength=n_items)
    k1, b = 1.2, 0.75
    saturation = (k1 + 1) / (1 + k1 * (1 - b + b * users_per_item / max(users_per_item.mean(), 1e-9)))
    return matrix.multiply(idf[:, None].astype(np.float32)).multiply(saturation[None, :].astype(np.float32)).tocsr()
