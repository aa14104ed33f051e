"""Uniform draws from the items a row has not met: exact, without rejection, for any number of rows at once."""

# R rows (users), P pairs met, N rows asked for, K draws of each

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rec_core.errors import DataError
from rec_core.types import Histories
from rec_core.types.ids import Int64

# A list of a row's unseen items costs about n_items / 16 draws by search, measured on one CPU thread with 3,416 items:
# 6.5 million draws for 128 rows take 690 ms by search, 60 ms from lists. More than LISTED places are never listed.
DRAWS_PER_LIST = 16
LISTED = 1 << 25


class Unseen:
    """The complement of each row's items, addressable by rank.

    With the items met by a row sorted as s_0 < s_1 < ..., its x-th unseen item (from 0) is x + #{j : s_j - j <= x}.
    So one binary search in the sorted keys of all rows maps a uniform number to a uniform unseen item; nothing is drawn
    twice, and a draw depends on its own uniform number alone. Repeated events count once.

    ``device`` is where keys lie and draws are made. :class:`DataError` for an item outside 0..n_items-1.
    """

    def __init__(self, histories: Histories, n_items: int, device: torch.device | str = "cpu") -> None:
        row_P = np.repeat(np.arange(len(histories)), histories.lengths)
        self._index(row_P, histories.items.astype(np.int64), histories.users, n_items, device)

    @classmethod
    def of_pairs(
        cls, row_P: Int64, item_P: Int64, users_R: Int64, n_items: int, device: torch.device | str = "cpu"
    ) -> Unseen:
        """From (row, item) pairs in any order; ``users_R`` names the rows 0..R-1 in messages."""
        made = cls.__new__(cls)
        made._index(np.asarray(row_P, np.int64), np.asarray(item_P, np.int64), users_R, n_items, device)
        return made

    def _index(self, row_P: Int64, item_P: Int64, users_R: Int64, n_items: int, device: torch.device | str) -> None:
        if len(item_P) and not 0 <= item_P.min() <= item_P.max() < n_items:
            worst = item_P.min() if item_P.min() < 0 else item_P.max()
            raise DataError(f"a row holds item {worst}; the catalogue has items 0..{n_items - 1}")
        key_P = np.sort(row_P * n_items + item_P)
        key_P = key_P[np.diff(key_P, prepend=-1) > 0]
        row_P = key_P // n_items
        met_R = np.bincount(row_P, minlength=len(users_R))
        start_R = np.cumsum(met_R) - met_R
        self.n_items = n_items
        self.users_R = users_R
        self.met_R = torch.from_numpy(met_R).to(device)
        self.start_R = torch.from_numpy(start_R).to(device)
        # s_j - j counts the unseen items below s_j: it lies in 0..n_items-1 and never falls along a row
        self.keys_P = torch.from_numpy(key_P - (np.arange(len(key_P)) - start_R[row_P])).to(device)
        self._full = bool((met_R >= n_items).any())

    def free(self, rows_N: Tensor) -> Tensor:
        """How many items each of the given rows has not met, int64 [N]."""
        return self.n_items - self.met_R[rows_N]

    def pick(self, rows_N: Tensor, uniforms_N: Tensor) -> Tensor:
        """The unseen item at each uniform number (float64, in [0, 1)), int64 of the shape of ``uniforms_N``.

        ``uniforms_N`` [N] holds one number per row, [N, K] K of them. Rows may repeat. Raises :class:`DataError` for a
        row that has met every item.
        """
        free_N = self.free(rows_N)
        self._check(rows_N, free_N)
        free_N = _beside(free_N, uniforms_N)
        ranks_N = (uniforms_N * free_N).to(torch.int64)
        return self.at(rows_N, torch.minimum(ranks_N, free_N - 1))  # the product may have been rounded up to free

    def at(self, rows_N: Tensor, ranks_N: Tensor) -> Tensor:
        """The unseen item of each rank (0 = the smallest id), int64 of the shape of ``ranks_N``, [N] or [N, K]."""
        listed_N, place_N = torch.unique(rows_N, return_inverse=True)
        size = len(listed_N) * self.n_items
        if size <= LISTED and ranks_N.numel() * DRAWS_PER_LIST >= size:
            places, start_N = self._lists(listed_N)
            return places.take(ranks_N + _beside(start_N[place_N], ranks_N)) % self.n_items
        return self._search(rows_N, ranks_N)

    def _search(self, rows_N: Tensor, ranks_N: Tensor) -> Tensor:
        found_N = torch.searchsorted(self.keys_P, ranks_N + _beside(rows_N * self.n_items, ranks_N), right=True)
        return ranks_N + found_N - _beside(self.start_R[rows_N], ranks_N)

    def _lists(self, rows_N: Tensor) -> tuple[Tensor, Tensor]:
        """The unseen items of the given rows one after the other, as order * n_items + item, and where each begins.

        For 2^25 places (LISTED) that is a quarter of a GiB.
        """
        met_N = self.met_R[rows_N]
        order_N = torch.arange(len(rows_N), device=rows_N.device)
        row_P = torch.repeat_interleave(order_N, met_N)
        rank_P = torch.arange(len(row_P), device=rows_N.device) - (met_N.cumsum(0) - met_N)[row_P]
        item_P = self.keys_P[self.start_R[rows_N][row_P] + rank_P] - rows_N[row_P] * self.n_items + rank_P
        free_NV = torch.ones(len(rows_N), self.n_items, dtype=torch.bool, device=rows_N.device)
        free_NV[row_P, item_P] = False
        free_N = self.n_items - met_N
        return free_NV.flatten().nonzero().squeeze(1), free_N.cumsum(0) - free_N

    def _check(self, rows_N: Tensor, free_N: Tensor) -> None:
        if self._full and bool((free_N < 1).any()):
            row = int(rows_N[free_N.argmin()])
            raise DataError(
                f"user {self.users_R[row]} (row {row}) has met all {self.n_items} items in training: there is no "
                f"negative to draw; leave that user out, or take a loss that needs none (softmax) or negatives from "
                f"the whole catalogue"
            )


def _beside(value_N: Tensor, other_N: Tensor) -> Tensor:
    """``value_N`` with as many axes as ``other_N``, for broadcasting along its draws."""
    return value_N.view(*value_N.shape, *(1 for _ in range(other_N.ndim - value_N.ndim)))
