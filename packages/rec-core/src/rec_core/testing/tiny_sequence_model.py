"""The smallest model of sequences worth training: a causal mean of item vectors, one layer, dropout."""

# B rows, L positions, D width, N targets

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.training import ItemEmbeddingLayer
from rec_core.training.batching import pad
from rec_core.training.item_embeddings import IdEmbeddings
from rec_core.training.losses import full_softmax
from rec_core.types import Histories
from rec_core.types.ids import Int64


class TinyBatch(NamedTuple):
    """Right-padded ids and what follows each of them."""

    items_BL: Tensor
    mask_BL: Tensor
    targets_BL: Tensor


class TinySequenceModel(nn.Module):
    """Position t says W · mean(item vectors up to t) + the newest one, and predicts the event at t + 1."""

    def __init__(self, items: ItemEmbeddingLayer, max_length: int = 20, dropout: float = 0.0) -> None:
        super().__init__()
        self.items = items
        self.max_length = max_length
        self.dropout = dropout
        self.mix = nn.Linear(items.dim, items.dim)

    @classmethod
    def seeded(cls, n_items: int, dim: int = 8, *, seed: int = 0, dropout: float = 0.0) -> TinySequenceModel:
        """A model whose initial weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(IdEmbeddings(n_items, dim, std=0.3), dropout=dropout)

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> TinyBatch:
        """See ``rec_core.training.SequenceModel``."""
        if rng is None:
            items, mask = (torch.from_numpy(a) for a in pad(histories, rows, self.max_length))
            return TinyBatch(items, mask, items)
        items, mask = (torch.from_numpy(a) for a in pad(histories, rows, self.max_length + 1))
        return TinyBatch(items[:, :-1], mask[:, 1:], items[:, 1:])

    def hidden(self, batch: TinyBatch) -> Tensor:
        """Vectors [B, L, D]; each sees its own position and those before."""
        weight_BL1 = batch.mask_BL.unsqueeze(-1).to(self.mix.weight.dtype)
        items_BLD = self.items(batch.items_BL)
        mean_BLD = (items_BLD * weight_BL1).cumsum(1) / weight_BL1.cumsum(1).clamp(min=1)
        return F.dropout(self.mix(mean_BLD), self.dropout, self.training) + items_BLD

    def loss(self, batch: TinyBatch) -> tuple[Tensor, Tensor]:
        """See ``rec_core.training.SequenceModel``."""
        targets_N = batch.targets_BL[batch.mask_BL]
        return full_softmax(self.hidden(batch)[batch.mask_BL], self.items.table(), targets_N), targets_N

    def encode(self, batch: TinyBatch) -> Tensor:
        """See ``rec_core.training.SequenceModel``."""
        last_B = batch.mask_BL.sum(1) - 1
        return self.hidden(batch)[torch.arange(len(last_B)), last_B]
