"""Small graphs for tests of graph models, and the adjacency matrix written out entry by entry."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch


def random_graph(n_users: int = 20, n_items: int = 30, pairs: int = 150, seed: int = 0) -> InteractionGraph:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(n_users, size=pairs), rng.integers(n_items, size=pairs)
    return InteractionGraph(torch.from_numpy(users), torch.from_numpy(items), n_users, n_items)


def dense_adjacency(graph: InteractionGraph) -> Tensor:
    """D^(-1/2) A D^(-1/2), entry by entry."""
    degrees = [*graph.user_degrees_U.tolist(), *graph.item_degrees_I.tolist()]
    matrix = torch.zeros(graph.n_nodes, graph.n_nodes, dtype=torch.float64)
    for user, item in zip(graph.users_P.tolist(), graph.items_P.tolist(), strict=True):
        node = graph.n_users + item
        matrix[user, node] = matrix[node, user] = (degrees[user] * degrees[node]) ** -0.5
    return matrix


def batch_of(graph: InteractionGraph, n: int = 32, seed: int = 0) -> PairBatch:
    rng = np.random.default_rng(seed)
    at = torch.from_numpy(rng.integers(len(graph.users_P), size=n))  # some users and items more than once
    negatives = torch.from_numpy(rng.integers(graph.n_items, size=n))
    return PairBatch(graph.users_P[at], graph.items_P[at], negatives)
