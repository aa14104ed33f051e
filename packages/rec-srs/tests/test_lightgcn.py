"""LightGCN."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rec_core.testing import check_recommender
from rec_core.testing.datasets import checkerboard
from rec_core.training import NoProgress
from rec_core.types import Histories, Interactions, Split
from rec_srs.config import LightGCNSettings, PairTraining
from rec_srs.graph import InteractionGraph
from rec_srs.lightgcn import LightGCN
from rec_srs.pairs import PairBatch, PairRecommender, fit_pair_model

TRAINING = PairTraining(epochs=8, batch_size=64, learning_rate=0.01)


def fitted(split: Split, seed: int, training: PairTraining = TRAINING) -> PairRecommender:
    torch.manual_seed(seed)
    model = LightGCN(InteractionGraph.of(split.train), LightGCNSettings(dim=8, layers=2))
    fit_pair_model(model, split, replace(training, seed=seed), progress=NoProgress())
    return PairRecommender.of(model)


def model_on(pairs: list[tuple[int, int]], n_users: int, n_items: int, layers: int, dim: int = 3) -> LightGCN:
    users, items = zip(*pairs, strict=True)
    torch.manual_seed(0)
    graph = InteractionGraph.of(Interactions.sorted(users, items, n_users=n_users, n_items=n_items))
    return LightGCN(graph, LightGCNSettings(dim=dim, layers=layers)).double()


def random_pairs(n: int, n_users: int, n_items: int, seed: int = 0) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(n_users, size=n).tolist(), rng.integers(n_items, size=n).tolist()
    return list(zip(users, items, strict=True))


def dense_layers(model: LightGCN, layers: int) -> list[torch.Tensor]:
    """The plain twin: E(0) .. E(layers), a loop over nodes and their neighbours."""
    graph, u = model.graph, model.graph.n_users
    neighbours: list[list[int]] = [[] for _ in range(graph.n_nodes)]
    for user, item in zip(graph.users_P.tolist(), graph.items_P.tolist(), strict=True):
        neighbours[user].append(u + item)
        neighbours[u + item].append(user)
    found = [torch.cat([model.users, model.items])]
    for _ in range(layers):
        rows = []
        for node, those in enumerate(neighbours):
            terms = [found[-1][other] / sqrt(len(those) * len(neighbours[other])) for other in those]
            rows.append(sum(terms, torch.zeros_like(found[-1][node])))
        found.append(torch.stack(rows))
    return found


def test_it_keeps_the_contract_of_a_recommender():
    check_recommender(fitted)


def test_it_learns_the_colours_of_a_checkerboard_for_users_it_has_seen_and_for_others():
    split = checkerboard().split
    recommender = fitted(split, 0, replace(TRAINING, epochs=40))
    histories = split.held_out("test").histories
    best = recommender.recommend(histories, 1).items[:, 0]
    assert ((best + histories.users) % 2 == 0).mean() > 0.95
    unseen = Histories.of([[0, 4, 8], [1, 5], [7]])
    assert (recommender.recommend(unseen, 3).items % 2).tolist() == [[0] * 3, [1] * 3, [1] * 3]


def test_one_user_with_one_item_and_two_layers_has_two_thirds_of_itself_and_one_of_the_item():
    model = model_on([(0, 0)], 1, 1, layers=2)
    users, items = model.vectors()
    torch.testing.assert_close(users, (2 * model.users + model.items) / 3)  # p, q, p again
    torch.testing.assert_close(items, (2 * model.items + model.users) / 3)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_vectors_are_the_mean_of_layers_node_by_node(layers):
    model = model_on(random_pairs(70, 20, 30), 20, 30, layers)
    expected = torch.stack(dense_layers(model, layers)).mean(0)
    torch.testing.assert_close(torch.cat(model.vectors()), expected, rtol=0, atol=1e-6)


def test_renaming_users_and_items_renames_the_vectors():
    pairs = random_pairs(70, 20, 30)
    model = model_on(pairs, 20, 30, layers=3)
    rng = np.random.default_rng(1)
    users, items = rng.permutation(20), rng.permutation(30)  # old name -> new name
    renamed = model_on([(int(users[u]), int(items[i])) for u, i in pairs], 20, 30, layers=3)
    with torch.no_grad():
        renamed.users[users], renamed.items[items] = model.users, model.items
    torch.testing.assert_close(renamed.vectors()[0][users], model.vectors()[0])
    torch.testing.assert_close(renamed.vectors()[1][items], model.vectors()[1])


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_its_loss_and_gradient_are_those_of_the_plain_twin(form):
    model = model_on(random_pairs(70, 20, 30), 20, 30, layers=2)
    model.settings = replace(model.settings, l2=0.3, l2_form=form)
    generator = torch.Generator().manual_seed(0)
    batch = PairBatch(*(torch.randint(n, (40,), generator=generator) for n in (20, 30, 30)))  # rows repeat
    layers = dense_layers(model, 2)
    nodes = batch.users_N, 20 + batch.positives_N, 20 + batch.negatives_N
    user, positive, negative = (torch.stack(layers).mean(0)[of] for of in nodes)
    rows = [layers[0][of] for of in nodes]
    if form == "squared":
        penalty = 0.3 / (2 * 40) * sum((row**2).sum() for row in rows)
    else:
        penalty = 0.3 * sum((row**2).sum().sqrt() / 40 for row in rows) / 40
    expected = F.softplus((user * negative).sum(1) - (user * positive).sum(1)).mean() + penalty
    loss, parts = model.loss(batch)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["bpr"] + parts["l2"], expected.detach())
    torch.testing.assert_close(
        torch.autograd.grad(loss, list(model.parameters())), torch.autograd.grad(expected, list(model.parameters()))
    )


def test_a_step_takes_one_product_per_layer_and_direction():
    model = model_on(random_pairs(70, 20, 30), 20, 30, layers=3)
    batch = PairBatch(*(torch.tensor([0, 1]) for _ in range(3)))
    loss, _ = model.loss(batch)
    assert model.graph.products == 3
    loss.backward()
    assert model.graph.products == 6


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_folding_in_a_user_of_the_graph_gives_her_vector_less_her_own_part_of_it(layers):
    model = model_on(random_pairs(70, 20, 30), 20, 30, layers)
    table = model.fold_in()
    assert table is not None
    for user in range(20):
        mine = model.graph.items_P[model.graph.users_P == user]
        folded = table[mine].sum(0) / sqrt(max(len(mine), 1))
        expected = model.vectors()[0][user] - model.users[user] / (layers + 1)
        torch.testing.assert_close(folded, expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_folding_in_a_stranger_is_propagation_to_her_from_items_that_do_not_see_her(layers):
    model = model_on(random_pairs(70, 20, 30), 20, 30, layers)
    history = [1, 4, 7]
    degrees = model.graph.item_degrees_I.tolist()
    assert min(degrees[item] for item in history) > 0
    mean = torch.zeros(3, dtype=torch.float64)
    for layer in dense_layers(model, layers - 1):  # her layer k + 1 from the items' layer k; her layer 0 is 0
        for item in history:
            mean += layer[20 + item].detach() / sqrt(len(history) * degrees[item]) / (layers + 1)
    table = model.fold_in()
    assert table is not None
    torch.testing.assert_close(table[history].sum(0) / sqrt(3), mean)


def test_an_item_without_training_pairs_folds_in_as_zero_and_keeps_a_share_of_its_own_vector():
    model = model_on([(0, 0), (1, 1)], 2, 3, layers=3)
    table = model.fold_in()
    assert table is not None
    assert table[2].tolist() == [0.0, 0.0, 0.0]
    assert bool(torch.isfinite(table).all())
    torch.testing.assert_close(model.vectors()[1][2], model.items[2] / 4)  # layer 0 alone, of 4
