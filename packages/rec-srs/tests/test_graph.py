"""The user-item graph against dense matrices."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.types import Interactions
from rec_srs.graph import InteractionGraph


def graph_of(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> InteractionGraph:
    users, items = zip(*pairs, strict=True)
    return InteractionGraph.of(Interactions.sorted(users, items, n_users=n_users, n_items=n_items))


def random_graph(n_users: int = 20, n_items: int = 30, n_pairs: int = 90, seed: int = 0) -> InteractionGraph:
    """With repeated pairs and, as a rule, nodes without an edge."""
    rng = np.random.default_rng(seed)
    pairs = zip(rng.integers(n_users, size=n_pairs).tolist(), rng.integers(n_items, size=n_pairs).tolist(), strict=True)
    return graph_of(list(pairs), n_users, n_items)


def dense(graph: InteractionGraph) -> torch.Tensor:
    """The plain twin, float64: D^(-1/2) A D^(-1/2) pair by pair."""
    u, n = graph.n_users, graph.n_nodes
    a_MM = torch.zeros(n, n, dtype=torch.float64)
    for user, item in zip(graph.users_P.tolist(), graph.items_P.tolist(), strict=True):
        a_MM[user, u + item] = a_MM[u + item, user] = 1
    degrees = a_MM.sum(1).tolist()
    for row in range(n):
        for column in range(n):
            if a_MM[row, column]:
                a_MM[row, column] = 1 / sqrt(degrees[row] * degrees[column])
    return a_MM


def dense_mean(graph: InteractionGraph, x_MD: torch.Tensor, layers: int, first: int) -> torch.Tensor:
    powers = [torch.linalg.matrix_power(dense(graph), k) @ x_MD.double() for k in range(first, layers + 1)]
    return torch.stack(powers).mean(0)


def test_a_user_with_two_items_of_degree_one_has_edges_of_one_over_root_two():
    graph = graph_of([(0, 0), (0, 1)], n_users=1, n_items=2)
    weight = 1 / sqrt(2 * 1)
    expected = [[0, weight, weight], [weight, 0, 0], [weight, 0, 0]]
    torch.testing.assert_close(graph.adjacency().to_dense(), torch.tensor(expected))


def test_a_pair_met_three_times_is_one_edge():
    repeated = graph_of([(0, 1), (0, 1), (0, 1), (1, 0)], n_users=2, n_items=2)
    once = graph_of([(1, 0), (0, 1)], n_users=2, n_items=2)
    assert repeated.items_P.tolist() == once.items_P.tolist() == [1, 0]
    assert repeated.user_degrees_U.tolist() == [1, 1]
    torch.testing.assert_close(repeated.adjacency().to_dense(), once.adjacency().to_dense())


def test_the_matrix_is_the_dense_one_symmetric_and_zero_for_nodes_without_an_edge():
    graph = random_graph()
    matrix = graph.adjacency(dtype=torch.float64).to_dense()
    torch.testing.assert_close(matrix, dense(graph), rtol=0, atol=1e-15)
    assert torch.equal(matrix, matrix.T)
    lonely = torch.cat([graph.user_degrees_U, graph.item_degrees_I]) == 0
    assert lonely.any()
    assert (graph.propagate(torch.ones(graph.n_nodes, 3))[lonely] == 0).all()


def test_the_matrix_is_csr_with_wide_indices_and_made_once():
    graph = random_graph()
    matrix = graph.adjacency()
    assert matrix.layout == torch.sparse_csr
    assert matrix.col_indices().dtype == torch.int64
    assert matrix.dtype == torch.float32
    assert graph.adjacency("cpu") is matrix
    assert len(matrix.values()) == 2 * len(graph.users_P)


def test_histories_are_the_distinct_items_of_each_user():
    graph = graph_of([(2, 3), (0, 1), (2, 0), (2, 3)], n_users=3, n_items=5)
    assert [graph.histories.row(user).tolist() for user in range(3)] == [[1], [], [0, 3]]


@settings(deadline=None, max_examples=25)
@given(layers=st.integers(0, 4), first=st.integers(0, 1), width=st.integers(1, 9), seed=st.integers(0, 9))
def test_the_mean_of_layers_and_its_gradient_are_those_of_dense_matrix_powers(layers, first, width, seed):
    layers = max(layers, first)
    graph = random_graph(seed=seed)
    torch.manual_seed(seed)
    x_MD = torch.randn(graph.n_nodes, width, requires_grad=True)
    into_MD = torch.randn(graph.n_nodes, width)
    expected = dense_mean(graph, x_MD, layers, first)
    (wanted,) = torch.autograd.grad(expected, x_MD, into_MD.double())
    mean = graph.mean_of_layers(x_MD, layers, first)
    (found,) = torch.autograd.grad(mean, x_MD, into_MD)
    torch.testing.assert_close(mean, expected.float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
def test_rows_of_the_mean_have_the_values_and_gradients_of_the_two_expressions_they_stand_for(first):
    graph = random_graph()
    torch.manual_seed(0)
    x_MD = torch.randn(graph.n_nodes, 5, dtype=torch.float64, requires_grad=True)
    nodes = torch.randint(graph.n_nodes, (3, 40))  # 120 rows of 50 nodes: many come again
    weights = torch.randn(2, 3, 40, 5, dtype=torch.float64)
    mean, own = graph.rows_of_mean(x_MD, nodes, 3, first)
    plain_mean, plain_own = dense_mean(graph, x_MD, 3, first)[nodes], x_MD[nodes]
    torch.testing.assert_close(mean, plain_mean, rtol=0, atol=1e-12)
    assert torch.equal(own, plain_own)
    found = torch.autograd.grad([mean, own], x_MD, list(weights))
    wanted = torch.autograd.grad([plain_mean, plain_own], x_MD, list(weights))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_rows_of_the_mean_may_be_used_for_one_of_the_two_alone():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 5, dtype=torch.float64, requires_grad=True)
    nodes = torch.tensor([0, 0, 21])
    (found,) = torch.autograd.grad(graph.rows_of_mean(x_MD, nodes, 2)[1].sum(), x_MD)
    assert found.sum(1).tolist() == [10.0] + [0.0] * 20 + [5.0] + [0.0] * 28  # 5 values, node 0 twice


def test_the_gradient_of_a_product_agrees_with_finite_differences():
    graph = random_graph(5, 6, 12)
    x_MD = torch.randn(graph.n_nodes, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(graph.propagate, x_MD)
    assert torch.autograd.gradcheck(lambda x: graph.mean_of_layers(x, 3), x_MD)


def test_a_gradient_that_is_not_contiguous_is_taken_as_it_is():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 4, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(graph.propagate(x_MD).T.contiguous().sum(), x_MD)  # an expanded gradient
    torch.testing.assert_close(found, dense(graph) @ torch.ones(graph.n_nodes, 4, dtype=torch.float64))


def test_each_layer_is_one_product_forward_and_one_backward():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 4, requires_grad=True)
    mean = graph.mean_of_layers(x_MD, 3)
    assert graph.products == 3
    mean.sum().backward()
    assert graph.products == 6
    graph.propagate(x_MD.detach())
    assert graph.products == 7


def test_the_input_is_left_as_it_was():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 4)
    before = x_MD.clone()
    graph.mean_of_layers(x_MD, 0).add_(1)  # a copy, though layer 0 alone is x itself
    graph.mean_of_layers(x_MD, 2)
    graph.rows_of_mean(x_MD, torch.tensor([1]), 2)
    assert torch.equal(x_MD, before)


def test_mixed_precision_leaves_the_product_in_float32():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = graph.propagate(x_MD)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, graph.propagate(x_MD))


def test_the_weighted_sum_of_rows_on_a_cpu_is_the_sparse_product_of_a_gpu():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 4)
    torch.testing.assert_close(graph.propagate(x_MD), torch.mm(graph.adjacency(), x_MD))  # what a GPU computes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_values_and_gradients_of_the_cpu():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 8)
    nodes = torch.randint(graph.n_nodes, (30,))
    results = []
    for device in ("cpu", "cuda"):
        x = x_MD.to(device).requires_grad_()
        mean, own = graph.rows_of_mean(x, nodes.to(device), 3)
        (mean.square().sum() + own.sum()).backward()
        results.append((mean.detach().cpu(), x.grad.cpu()))
    torch.testing.assert_close(results[0], results[1])


def test_no_training_pairs_are_no_graph():
    nothing = Interactions.sorted([], [], n_users=3, n_items=2)
    with pytest.raises(DataError, match="no training pairs"):
        InteractionGraph.of(nothing)


def test_a_mean_that_begins_after_its_last_layer_is_refused():
    graph = random_graph()
    x_MD = torch.randn(graph.n_nodes, 2)
    for layers, first in ((0, 1), (3, 2), (-1, 0)):
        with pytest.raises(ValueError, match="layer 0 or 1"):
            graph.mean_of_layers(x_MD, layers, first)
