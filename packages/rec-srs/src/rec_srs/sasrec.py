"""SASRec (Kang & McAuley 2018, arXiv 1808.09781): causal self-attention over a history, with any loss of `objective`.

By default it is trained as Klenitskiy & Vasilev (arXiv 2309.07602) found to matter most: softmax cross-entropy over the
whole catalogue at every position instead of one sampled negative. `blocks` holds what a block may be. Options and
presets (`rec_srs.config`) restore what the original, SELFRec, eSASRec, gSASRec and LLMEmb do otherwise.
"""

# B rows, L positions, D width, N events (targets in training), T tokens computed: see blocks.Layout

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rec_core.errors import DataError
from rec_core.training import ItemEmbeddingLayer
from rec_core.training.batching import pad, random_shift
from rec_core.types import Histories
from rec_core.types.ids import Int64
from rec_srs.blocks import BLOCKS, BlockOptions, Layout, dropout
from rec_srs.config import SASRecSettings
from rec_srs.objective import Negatives, NextItem


class SASRecBatch(NamedTuple):
    """Right-padded histories.

    items_BL    int64, 0 at pads
    mask_BL     bool, True at events
    targets_BL  int64, the next event; None when the batch is only encoded
    negatives   what the targets are told from, in the order of mask_BL.nonzero(); None: all items
    """

    items_BL: Tensor
    mask_BL: Tensor
    targets_BL: Tensor | None
    negatives: Negatives | None = None


class SASRec(nn.Module):
    """Reads the newest ``max_length`` events; implements ``rec_core.training.SequenceModel`` on any item layer.

    The vector at position t sees positions up to t only, and predicts the event at t + 1. With ``causal=False`` it sees
    all of its row, *the event it has to predict included*: what LLMEmb's official code does (its mask is built and not
    passed); training losses then say little, and here pads stay hidden all the same.
    """

    settings_type: ClassVar[type[SASRecSettings]] = SASRecSettings

    def __init__(self, items: ItemEmbeddingLayer, settings: SASRecSettings = SASRecSettings()) -> None:  # noqa: B008
        super().__init__()
        self.items = items
        self.settings = settings
        self.objective = NextItem(settings)
        self.positions = nn.Embedding(settings.max_length, items.dim)
        options = BlockOptions(
            heads=settings.heads,
            inner=settings.inner_width or items.dim * (1 if settings.block == "classic" else 4),
            dropout=settings.dropout,
            attention_dropout=settings.attention_dropout,
            inner_dropout=settings.inner_dropout,
            output_projection=settings.output_projection,
            causal=settings.causal,
        )
        self.blocks = nn.ModuleList(BLOCKS[settings.block](items.dim, options) for _ in range(settings.blocks))
        self.last_norm = nn.LayerNorm(items.dim, eps=1e-8) if settings.final_norm else nn.Identity()
        nn.init.xavier_uniform_(self.positions.weight)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def max_length(self) -> int:
        """Newest events of a history that are read."""
        return self.settings.max_length

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> SASRecBatch:
        """Right-padded tensors; with ``rng`` the inputs are a window without its last event, the targets its shift.

        :class:`DataError` for an item beyond the model's table.
        """
        if rng is None:
            items, mask = pad(histories, rows, self.max_length)
            self._check(histories, rows, items)
            return SASRecBatch(torch.from_numpy(items), torch.from_numpy(mask), None)
        shift = None
        if self.settings.window == "random":
            shift = random_shift(histories, rows, self.max_length + 1, rng)
        items, mask = pad(histories, rows, self.max_length + 1, shift=shift)
        self._check(histories, rows, items)
        inputs, targets, mask = items[:, :-1], items[:, 1:], mask[:, 1:].copy()
        negatives = self.objective.draw(histories, rows, mask, self.items.n_items, rng, inputs)
        return SASRecBatch(torch.from_numpy(inputs), torch.from_numpy(mask), torch.from_numpy(targets), negatives)

    def hidden(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Vectors [B, L, D] of right-padded ids; values at pads mean nothing."""
        layout = Layout.of(lengths_B, items_BL.shape[1])
        return layout.spread(self._tokens(items_BL, lengths_B, layout))

    def _tokens(self, items_BL: Tensor, lengths_B: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        """Vectors [T, D] of the layout's tokens, or [B, D] of the newest events."""
        place_BL = torch.arange(items_BL.shape[1], device=items_BL.device).expand_as(items_BL)
        if self.settings.positions == "from_end":
            place_BL = (place_BL + (self.max_length - lengths_B)[:, None]).clamp_(0, self.max_length - 1)
        scale = self.items.dim**0.5 if self.settings.scale_embeddings else 1.0
        position_TD = self.positions(layout.tokens(place_BL))
        hidden_TD = torch.add(position_TD, self.items(layout.tokens(items_BL)), alpha=scale)
        hidden_TD = dropout(hidden_TD, self.settings.dropout, self.training)
        for i, block in enumerate(self.blocks):
            hidden_TD = block(hidden_TD, layout, newest and i == len(self.blocks) - 1)
        normed: Tensor = self.last_norm(hidden_TD)
        return normed

    def loss(self, batch: SASRecBatch) -> tuple[Tensor, Tensor]:
        """The objective over all next events (plus ``l2``'s term), and those events' ids."""
        assert batch.targets_BL is not None, "this batch was made to be encoded; pass an rng to batch(...)"
        lengths_B = batch.mask_BL.sum(dim=1)
        layout = Layout.of(lengths_B, batch.items_BL.shape[1])
        hidden_ND = layout.events(self._tokens(batch.items_BL, lengths_B, layout))
        targets_N = batch.targets_BL.flatten().index_select(0, layout.places_N)
        value = self.objective.loss(hidden_ND, targets_N, batch.negatives, self.items)
        if self.settings.l2 and len(targets_N):
            value = value + self.settings.l2 * torch.linalg.vector_norm(self.items.table()) / self.items.n_items
        return value, targets_N

    def encode(self, batch: SASRecBatch) -> Tensor:
        """The vector at each row's newest event [B, D]; the last block computes no other."""
        lengths_B = batch.mask_BL.sum(dim=1)
        layout = Layout.of(lengths_B, batch.items_BL.shape[1])
        return self._tokens(batch.items_BL, lengths_B, layout, newest=True)

    def _check(self, histories: Histories, rows: Int64, items_BL: Int64) -> None:
        if items_BL.size and items_BL.max() >= self.items.n_items:
            row, column = np.argwhere(items_BL >= self.items.n_items)[0]
            raise DataError(
                f"user {histories.users[rows[row]]} has item {items_BL[row, column]} in the history, the model knows "
                f"0..{self.items.n_items - 1}; were histories and model made from the same data set?"
            )
