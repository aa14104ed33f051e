"""BPR-MF."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rec_core.testing import check_recommender
from rec_core.testing.datasets import checkerboard
from rec_core.training import NoProgress
from rec_core.types import Split
from rec_srs.bpr_mf import BPRMF
from rec_srs.config import BPRMFSettings, PairTraining
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch, PairRecommender, fit_pair_model

TRAINING = PairTraining(epochs=8, batch_size=64, learning_rate=0.01)


def fitted(split: Split, seed: int, training: PairTraining = TRAINING) -> PairRecommender:
    torch.manual_seed(seed)
    model = BPRMF(InteractionGraph.of(split.train), BPRMFSettings(dim=8))
    fit_pair_model(model, split, replace(training, seed=seed), progress=NoProgress())
    return PairRecommender.of(model)


def test_it_keeps_the_contract_of_a_recommender():
    check_recommender(fitted)


def test_it_learns_the_colours_of_a_checkerboard():
    split = checkerboard().split
    recommender = fitted(split, 0, replace(TRAINING, epochs=60))
    histories = split.held_out("test").histories
    best = recommender.recommend(histories, 1).items[:, 0]
    assert ((best + histories.users) % 2 == 0).mean() > 0.95


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_its_loss_is_the_formula_over_the_pairs_one_by_one(form):
    torch.manual_seed(0)
    split = checkerboard().split
    model = BPRMF(InteractionGraph.of(split.train), BPRMFSettings(dim=4, l2=0.5, l2_form=form)).double()
    users, positives, negatives = [0, 1, 1], [2, 3, 5], [1, 0, 8]
    batch = PairBatch(*(torch.tensor(column) for column in (users, positives, negatives)))
    ranking, squares = 0.0, 0.0
    for u, i, j in zip(users, positives, negatives, strict=True):
        margin = model.users[u] @ model.items[i] - model.users[u] @ model.items[j]
        ranking = ranking - torch.log(torch.sigmoid(margin)) / 3
        squares = squares + sum((row**2).sum() for row in (model.users[u], model.items[i], model.items[j]))
    if form == "squared":
        penalty = 0.5 / (2 * 3) * squares
    else:
        tables = model.users[users], model.items[positives], model.items[negatives]
        penalty = 0.5 * sum((table**2).sum().sqrt() / 3 for table in tables) / 3
    loss, parts = model.loss(batch)
    torch.testing.assert_close(loss, ranking + penalty)
    torch.testing.assert_close(parts["bpr"], ranking.detach())
    torch.testing.assert_close(parts["l2"], penalty.detach())
    assert not parts["bpr"].requires_grad
    torch.testing.assert_close(
        torch.autograd.grad(loss, list(model.parameters())),
        torch.autograd.grad(ranking + penalty, list(model.parameters())),
    )


def test_it_knows_its_training_users_only():
    recommender = PairRecommender.of(BPRMF(InteractionGraph.of(checkerboard().split.train), BPRMFSettings(dim=4)))
    assert recommender.known_users_only
    assert recommender.fold_in is None
