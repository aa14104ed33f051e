"""The plain item embedding layer: one trained vector per id."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.errors import SettingsError
from rec_core.types import ItemEmbeddings


class IdEmbeddings(nn.Module):
    """One trained vector per item, drawn from a normal distribution with standard deviation ``std``.

    The draw takes torch's global generator, like every other layer's: seed it before the model is built.
    ``IdEmbeddings.of(embeddings)`` starts from given vectors (frozen on request) instead.
    """

    def __init__(self, n_items: int, dim: int, std: float = 0.02) -> None:
        super().__init__()
        if n_items < 1 or dim < 1:
            raise SettingsError(f"an item table needs at least one item and one column; got [{n_items}, {dim}]")
        self.weight = nn.Parameter(torch.empty(n_items, dim))
        nn.init.normal_(self.weight, std=std)

    @classmethod
    def of(cls, embeddings: ItemEmbeddings, *, freeze: bool = False) -> IdEmbeddings:
        """A layer that starts from the given vectors; ``freeze`` keeps them as they are."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.weight = nn.Parameter(torch.tensor(embeddings.vectors), requires_grad=not freeze)
        return layer

    @property
    def n_items(self) -> int:
        """Rows of the table."""
        return self.weight.shape[0]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.weight.shape[1]

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors [..., dim] of int64 ids [...]."""
        return F.embedding(ids, self.weight)

    def table(self) -> Tensor:
        """The whole table [n_items, dim], not a copy."""
        return self.weight
