"""SimGCL: its passes against plain ones, what its noise does, and what its contrast counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plain_graphs import batch_of, dense_adjacency, random_graph
from torch import Tensor

from rec_srs import simgcl as module
from rec_srs.config import SimGCLSettings
from rec_srs.contrastive import info_nce
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch
from rec_srs.simgcl import SimGCL

SETTINGS = SimGCLSettings(dim=8, layers=3, weight=0.5, temperature=0.2, noise=0.1, l2=1e-2)


def model_of(settings: SimGCLSettings = SETTINGS, graph: InteractionGraph | None = None) -> SimGCL:
    torch.manual_seed(0)
    return SimGCL(graph or random_graph(), settings).double()


def pattern(vectors: Tensor, view: Tensor | int) -> Tensor:
    """A made-up draw that a pass can compute again for itself: it depends on the vector and on which view it is."""
    return torch.sin(1e3 * vectors + view).abs() + 0.1


def plain_pass(model: SimGCL, view: int | None) -> Tensor:
    """One whole pass with dense products; ``view`` None is the clean one."""
    matrix, total = dense_adjacency(model.graph), torch.zeros(())
    layer = torch.cat([model.users, model.items])
    for _ in range(model.settings.layers):
        layer = matrix @ layer
        if view is not None:
            drawn = pattern(layer.detach(), view)
            noise = layer.detach().sign() * drawn / drawn.norm(dim=1, keepdim=True)
            layer = layer + model.settings.noise * noise
        total = total + layer
    return total / model.settings.layers


def plain_loss(model: SimGCL, batch: PairBatch) -> Tensor:
    """Three passes, pair after pair."""
    settings, n_users = model.settings, model.graph.n_users
    clean, one, other = (plain_pass(model, view) for view in (None, 0, 1))
    triples = list(zip(*(column.tolist() for column in batch), strict=True))
    loss = torch.zeros(())
    for user, positive, negative in triples:
        x = clean[user] @ clean[n_users + positive] - clean[user] @ clean[n_users + negative]
        x = torch.log(torch.sigmoid(x)) if settings.bpr_form == "softplus" else torch.log(1e-5 + torch.sigmoid(x))
        loss = loss - x / len(triples)
    for user, positive, negative in triples:
        if settings.l2_form == "squared":
            rows = (model.users[user], model.items[positive], model.items[negative])
            loss = loss + settings.l2 / (2 * len(triples)) * sum(row @ row for row in rows)
    if settings.l2_form == "norm":
        for rows in (clean[batch.users_N], clean[n_users + batch.positives_N]):
            loss = loss + settings.l2 * rows.square().sum().sqrt() / len(rows)
    for nodes in (sorted({u for u, _, _ in triples}), sorted({n_users + p for _, p, _ in triples})):
        loss = loss + settings.weight * info_nce(one[nodes], other[nodes], settings.temperature)
    return loss


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("l2_form", "bpr_form"), [("squared", "softplus"), ("norm", "log_epsilon")])
def test_loss_and_gradients_equal_those_of_three_separate_passes(
    monkeypatch: pytest.MonkeyPatch, layers: int, l2_form: str, bpr_form: str
) -> None:
    def made_up(vectors: Tensor, length: float) -> Tensor:
        drawn = pattern(vectors.detach(), (torch.arange(len(vectors)) % 2)[:, None])  # the two views stand in turns
        return length * vectors.detach().sign() * drawn / drawn.norm(dim=1, keepdim=True)

    monkeypatch.setattr(module, "directed_noise", made_up)
    model = model_of(replace(SETTINGS, layers=layers, l2_form=l2_form, bpr_form=bpr_form))  # type: ignore[arg-type]
    batch = batch_of(model.graph)
    here, parts = model.loss(batch)
    there = plain_loss(model, batch)
    torch.testing.assert_close(here, there)
    assert here.item() == pytest.approx(float(parts["bpr"] + parts["l2"] + 0.5 * parts["contrast"]))
    tables = [model.users, model.items]
    for ours, theirs in zip(torch.autograd.grad(here, tables), torch.autograd.grad(there, tables), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_with_one_edge_and_two_layers_both_vectors_are_the_mean_of_both_tables() -> None:
    model = model_of(replace(SETTINGS, layers=2), InteractionGraph(torch.tensor([0]), torch.tensor([0]), 1, 1))
    users, items = model.vectors()
    golden = (model.items + model.users) / 2  # layer 1 is q, layer 2 is p; with layer 0 it were (2 p + q) / 3
    torch.testing.assert_close(users, golden)
    torch.testing.assert_close(items, golden)


def test_the_vectors_equal_those_of_dense_products() -> None:
    model = model_of()
    torch.testing.assert_close(torch.cat(model.vectors()), plain_pass(model, None))


def test_a_view_of_one_layer_lies_in_the_orthant_of_the_clean_vector_as_far_as_noise_says() -> None:
    model = model_of(replace(SETTINGS, layers=1, noise=0.3))
    clean = torch.cat(model.vectors())
    nodes = torch.tensor([0, 7, 33])
    drift = model._drifts([clean.detach()], nodes)
    torch.testing.assert_close(drift.norm(dim=2), torch.full((3, 2), 0.3, dtype=torch.float64))
    assert torch.equal(drift.sign(), clean[nodes].sign()[:, None].expand(-1, 2, -1))
    assert not torch.equal(drift[:, 0], drift[:, 1])


def test_without_noise_both_views_are_the_clean_vectors() -> None:
    model = model_of(replace(SETTINGS, noise=0.0))
    batch = batch_of(model.graph)
    users, items = model.vectors()
    users, items = users[torch.unique(batch.users_N)], items[torch.unique(batch.positives_N)]
    expected = info_nce(users, users, 0.2) + info_nce(items, items, 0.2)
    torch.testing.assert_close(model.loss(batch)[1]["contrast"], expected.detach())


def test_a_repeated_user_or_item_is_contrasted_once() -> None:
    model = model_of()
    batch = batch_of(model.graph)
    twice = PairBatch(*(torch.cat([column, column[:9]]) for column in batch))
    torch.manual_seed(4)
    once = model.loss(batch)[1]
    torch.manual_seed(4)
    repeated = model.loss(twice)[1]
    assert torch.equal(repeated["contrast"], once["contrast"])
    assert not torch.equal(repeated["bpr"], once["bpr"])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_step_costs_L_products_and_L_minus_1_double_ones_and_L_backward(layers: int) -> None:
    model = model_of(replace(SETTINGS, layers=layers))
    loss, _ = model.loss(batch_of(model.graph))
    assert model.graph.products == layers + (layers - 1)  # three separate passes would make 3 L
    loss.backward()
    assert model.graph.products == layers + (layers - 1) + layers


def test_weight_0_draws_nothing_and_leaves_the_ranking_alone() -> None:
    model = model_of(replace(SETTINGS, weight=0.0))
    before = torch.get_rng_state()
    loss, parts = model.loss(batch_of(model.graph))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(parts) == {"bpr", "l2"}
    assert loss.item() == pytest.approx(float(parts["bpr"] + parts["l2"]))
    assert model.graph.products == 3
