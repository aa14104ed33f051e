"""The user-item graph of the training pairs and the product that every graph model is made of."""

# P pairs, U users, I items, M = U + I nodes (users first), D width

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rec_core.errors import DataError
from rec_core.types import Histories, Interactions


class InteractionGraph:
    """The bipartite graph of who met what in training, each pair once, and A_hat = D^(-1/2) A D^(-1/2).

    users_P, items_P   int64 on the CPU: the distinct pairs, ordered by (user, item)
    n_users, n_items   sizes of the universes; node u is user u, node ``n_users`` + i is item i
    histories          the same pairs as one row per user
    products           how many products A_hat @ x were made so far, forward and backward together

    No self loops; a node without an edge gets 0. The matrix lives on each device that a product was asked on, made on
    first use, so that a model may be moved, copied and saved without it.
    """

    def __init__(self, users_P: Tensor, items_P: Tensor, n_users: int, n_items: int) -> None:
        self.n_users, self.n_items = n_users, n_items
        keys_P = torch.unique(users_P.to("cpu", torch.int64) * n_items + items_P.to("cpu", torch.int64))
        self.users_P, self.items_P = keys_P // max(n_items, 1), keys_P % max(n_items, 1)
        self.user_degrees_U = torch.bincount(self.users_P, minlength=n_users)
        self.item_degrees_I = torch.bincount(self.items_P, minlength=n_items)
        self.products = 0
        self._matrices: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @classmethod
    def of(cls, train: Interactions) -> InteractionGraph:
        """The graph of all train events; repeated events of a pair make one edge. :class:`DataError` without any."""
        if not len(train):
            raise DataError("there are no training pairs to learn from; look at the filters and the split")
        users, items = torch.from_numpy(train.users.copy()), torch.from_numpy(train.items.astype(np.int64))
        return cls(users, items, train.n_users, train.n_items)

    @property
    def n_nodes(self) -> int:
        """Users and items together."""
        return self.n_users + self.n_items

    @property
    def histories(self) -> Histories:
        """One row per user: its distinct items in the order of their ids."""
        offsets = np.concatenate([[0], np.cumsum(self.user_degrees_U.numpy())]).astype(np.int64)
        return Histories(np.arange(self.n_users), offsets, self.items_P.numpy().astype(np.int32))

    def adjacency(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
        """A_hat as CSR [M, M] with int64 indices; made once per device and dtype."""
        key = (torch.device(device), dtype)
        if key not in self._matrices:
            self._matrices[key] = self._make(dtype).to(device)
        return self._matrices[key]

    def _make(self, dtype: torch.dtype) -> Tensor:
        degrees_M = torch.cat([self.user_degrees_U, self.item_degrees_I])
        weights_P = (self.user_degrees_U[self.users_P] * self.item_degrees_I[self.items_P]).to(torch.float64).rsqrt()
        by_item = torch.argsort(self.items_P, stable=True)  # the pairs are in the order of users already
        starts_M = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(degrees_M, 0)])
        columns = torch.cat([self.items_P + self.n_users, self.users_P[by_item]])
        values = torch.cat([weights_P, weights_P[by_item]]).to(dtype)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                starts_M, columns, values, (self.n_nodes, self.n_nodes), check_invariants=True
            )

    def propagate(self, x_MD: Tensor) -> Tensor:
        """A_hat @ x, [M, D]; its gradient is the same product, since A_hat is symmetric: nothing is transposed."""
        result: Tensor = _Product.apply(self, x_MD)
        return result

    def mean_of_layers(self, x_MD: Tensor, layers: int, first: int = 0) -> Tensor:
        """Mean of A_hat^k x over k = ``first`` (0 or 1) .. ``layers``, [M, D].

        One node of autograd that keeps nothing: the mean is a polynomial in the symmetric A_hat, so its gradient is the
        same mean of the incoming gradient.
        """
        _check_layers(layers, first)
        result: Tensor = _Mean.apply(self, x_MD, layers, first)
        return result

    def rows_of_mean(self, x_MD: Tensor, nodes: Tensor, layers: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """``(mean_of_layers(x)[nodes], x[nodes])``, [..., D] each for int64 nodes [...]: what a loss over pairs reads.

        The same numbers and gradients as those two expressions, in fewer passes over [M, D]: the gradients of both are
        brought together in place.
        """
        _check_layers(layers, first)
        mean, own = _RowsOfMean.apply(self, x_MD, nodes, layers, first)
        return mean, own

    def fold_in(self, x_MD: Tensor, layers: int, first: int = 0) -> Tensor:
        """What the items pass on to someone who reads them and is read by none, [I, D]; 0 for items without an edge.

        Row i is sum over k = 0 .. L-1 of e_i(k) / (n sqrt(d_i)), with e(k) = A_hat^k x, d_i the item's degree and n the
        number of layers ``first`` .. L. She, with the distinct items H, gets sum over H of e_i(k) / sqrt(|H| d_i) as
        layer k + 1 and has 0 as layer 0, so her mean is the sum of H's rows over sqrt(|H|). Vectors and degrees of
        items are those of the graph, without her effect on them. For a user of the graph with her own items this is
        exactly her :meth:`mean_of_layers`, less x / n where layer 0 is in the mean.
        """
        _check_layers(layers, first)
        items_ID = self.mean_of_layers(x_MD, layers - 1)[self.n_users :] * (layers / (layers + 1 - first))
        degrees_I = self.item_degrees_I.to(x_MD.device, x_MD.dtype)
        return torch.where(degrees_I > 0, degrees_I.rsqrt(), 0.0)[:, None] * items_ID

    def _times(self, x_MD: Tensor) -> Tensor:
        self.products += 1
        matrix = self.adjacency(x_MD.device, x_MD.dtype)
        with torch.autocast(x_MD.device.type, enabled=False):
            if x_MD.device.type != "cpu":
                return torch.mm(matrix, x_MD)
            # On a CPU a sum of weighted rows is faster than the sparse product of MKL, with the same numbers: 1.4 times
            # for 2 million entries, 4 times for 84,000.
            starts_M, columns, weights = matrix.crow_indices()[:-1], matrix.col_indices(), matrix.values()
            return F.embedding_bag(columns, x_MD, starts_M, mode="sum", per_sample_weights=weights)

    def _mean(self, x_MD: Tensor, layers: int, first: int) -> Tensor:
        """One product per layer and one pass beside it: mean_k = k / (k + 1) A mean_(k-1) + 1 / (k + 1) x."""
        if first == 1:  # A_hat times the mean of layers 0 .. L-1
            return self._times(self._mean(x_MD, layers - 1, 0))
        mean_MD = x_MD
        for k in range(1, layers + 1):
            mean_MD = self._times(mean_MD).lerp_(x_MD, 1 / (k + 1))
        return mean_MD


def _check_layers(layers: int, first: int) -> None:
    if first not in (0, 1) or layers < first:
        raise ValueError(f"the mean begins with layer 0 or 1 and ends at {layers} layers; got first = {first}")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: InteractionGraph, x_MD: Tensor) -> Tensor:
        ctx.graph = graph
        return graph._times(x_MD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_MD: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph._times(gradient_MD.contiguous())


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: InteractionGraph, x_MD: Tensor, layers: int, first: int) -> Tensor:
        ctx.graph, ctx.layers, ctx.first = graph, layers, first
        mean_MD = graph._mean(x_MD, layers, first)
        return mean_MD.clone() if mean_MD is x_MD else mean_MD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_MD: Tensor) -> tuple[None, Tensor, None, None]:
        return None, ctx.graph._mean(gradient_MD.contiguous(), ctx.layers, ctx.first), None, None


class _RowsOfMean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graph: InteractionGraph, x_MD: Tensor, nodes: Tensor, layers: int, first: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.first = graph, layers, first
        ctx.save_for_backward(nodes)
        # embedding: several times faster on a CPU than x[nodes]
        return F.embedding(nodes, graph._mean(x_MD, layers, first)), F.embedding(nodes, x_MD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean: Tensor, own: Tensor) -> tuple[None, Tensor, None, None, None]:
        (nodes,) = ctx.saved_tensors
        graph = ctx.graph
        gradient_MD = mean.new_zeros(graph.n_nodes, mean.shape[-1])
        _add_rows(gradient_MD, nodes, mean)
        total_MD = graph._mean(gradient_MD, ctx.layers, ctx.first)
        return None, _add_rows(total_MD, nodes, own), None, None, None


def _add_rows(table_MD: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
    """Add ``rows`` [..., D] to the rows ``nodes`` [...] of the table, in place, in an order that never changes.

    index_add_ is random on a GPU; on a CPU with two threads index_put_ takes nine times as long (1.5 ms).
    """
    if table_MD.device.type == "cpu":
        return table_MD.index_add_(0, nodes.flatten(), rows.reshape(-1, rows.shape[-1]))
    return table_MD.index_put_((nodes,), rows, accumulate=True)
