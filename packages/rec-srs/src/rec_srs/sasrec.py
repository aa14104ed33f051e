"""SASRec (Kang & McAuley 2018, arXiv 1808.09781) with full softmax at every position.

The blocks are the original code's: queries are normalised, keys and values are not, and the residual starts from the
normalised query; the attention's output projection is an addition, as PyTorch's multi-head attention has it. The loss
is what Klenitskiy & Vasilev (arXiv 2309.07602) found to matter most: softmax cross-entropy over the whole catalogue
instead of one sampled negative.
"""

# B rows, L positions, D width, H heads, N targets

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rec_core.training import ItemEmbeddingLayer
from rec_core.training.batching import pad, row_uniforms
from rec_core.training.losses import full_softmax
from rec_core.types import Histories
from rec_core.types.ids import Int64
from rec_srs.config import SASRecSettings


class SASRecBatch(NamedTuple):
    """Right-padded histories.

    items_BL    int64, 0 at pads
    mask_BL     bool, True at events
    targets_BL  int64, the next event; None when the batch is only encoded
    """

    items_BL: Tensor
    mask_BL: Tensor
    targets_BL: Tensor | None


class Block(nn.Module):
    """q = LN(h); h = q + attention(q, h, h); h = LN(h); h = h + W2 ReLU(W1 h)."""

    def __init__(self, dim: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.attention_norm = nn.LayerNorm(dim, eps=1e-8)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.feed_norm = nn.LayerNorm(dim, eps=1e-8)
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        B, L, D = hidden_BLD.shape
        query_BLD = self.attention_norm(hidden_BLD)

        def heads_of(linear: nn.Linear, x_BLD: Tensor) -> Tensor:
            return linear(x_BLD).view(B, L, self.heads, D // self.heads).transpose(1, 2)

        # Pads stand on the right, so the causal mask alone keeps them out of every real position.
        mixed_BHLK = F.scaled_dot_product_attention(
            heads_of(self.query, query_BLD),
            heads_of(self.key, hidden_BLD),
            heads_of(self.value, hidden_BLD),
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=True,
        )
        attended_BLD = self.out(mixed_BHLK.transpose(1, 2).reshape(B, L, D))
        hidden_BLD = self.feed_norm(query_BLD + attended_BLD)
        inner_BLD = F.dropout(F.relu(self.inner(hidden_BLD)), self.dropout, self.training)
        return hidden_BLD + F.dropout(self.outer(inner_BLD), self.dropout, self.training)


class SASRec(nn.Module):
    """Reads the newest ``max_length`` events; implements ``rec_core.training.SequenceModel`` on any item layer.

    The vector at position t sees positions up to t only, and predicts the event at t + 1.
    """

    settings_type: ClassVar[type[SASRecSettings]] = SASRecSettings

    def __init__(self, items: ItemEmbeddingLayer, settings: SASRecSettings = SASRecSettings()) -> None:  # noqa: B008
        super().__init__()
        self.items = items
        self.settings = settings
        self.positions = nn.Embedding(settings.max_length, items.dim)
        self.blocks = nn.ModuleList(
            Block(items.dim, settings.heads, settings.dropout, settings.attention_dropout)
            for _ in range(settings.blocks)
        )
        self.last_norm = nn.LayerNorm(items.dim, eps=1e-8)
        nn.init.xavier_uniform_(self.positions.weight)
        for block in self.blocks:
            for linear in (block.query, block.key, block.value, block.out, block.inner, block.outer):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)

    @property
    def max_length(self) -> int:
        """Newest events of a history that are read."""
        return self.settings.max_length

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> SASRecBatch:
        """Right-padded tensors; with ``rng`` the inputs are a window without its last event, the targets its shift."""
        if rng is None:
            items, mask = pad(histories, rows, self.max_length)
            return SASRecBatch(torch.from_numpy(items), torch.from_numpy(mask), None)
        shift = None
        if self.settings.window == "random":
            spare = np.maximum(histories.lengths[rows] - (self.max_length + 1), 0)
            shift = (row_uniforms(rng, rows, 1)[:, 0] * (spare + 1)).astype(np.int64)
        items, mask = pad(histories, rows, self.max_length + 1, shift=shift)
        return SASRecBatch(
            torch.from_numpy(items[:, :-1]), torch.from_numpy(mask[:, 1:].copy()), torch.from_numpy(items[:, 1:])
        )

    def hidden(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Vectors [B, L, D] of right-padded ids; values at pads mean nothing."""
        L = items_BL.shape[1]
        place_L = torch.arange(L, device=items_BL.device)
        if self.settings.positions == "from_end":
            place_BL = (place_L + (self.max_length - lengths_B)[:, None]).clamp_(0, self.max_length - 1)
        else:
            place_BL = place_L.expand_as(items_BL)
        hidden_BLD = self.items(items_BL)
        if self.settings.scale_embeddings:
            hidden_BLD = hidden_BLD * self.items.dim**0.5
        hidden_BLD = F.dropout(hidden_BLD + self.positions(place_BL), self.settings.dropout, self.training)
        for block in self.blocks:
            hidden_BLD = block(hidden_BLD)
        return self.last_norm(hidden_BLD)

    def loss(self, batch: SASRecBatch) -> tuple[Tensor, Tensor]:
        """Mean softmax cross-entropy over all next events, and those events' ids."""
        assert batch.targets_BL is not None, "this batch was made to be encoded; pass an rng to batch(...)"
        hidden_BLD = self.hidden(batch.items_BL, batch.mask_BL.sum(dim=1))
        targets_N = batch.targets_BL[batch.mask_BL]
        return full_softmax(hidden_BLD[batch.mask_BL], self.items.table(), targets_N), targets_N

    def encode(self, batch: SASRecBatch) -> Tensor:
        """The vector at each row's newest event [B, D]."""
        lengths_B = batch.mask_BL.sum(dim=1)
        hidden_BLD = self.hidden(batch.items_BL, lengths_B)
        return hidden_BLD[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]
