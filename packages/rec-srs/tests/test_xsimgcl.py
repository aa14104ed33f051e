"""XSimGCL: its single pass against a plain one, and which layer it is contrasted with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plain_graphs import batch_of, dense_adjacency, random_graph
from torch import Tensor

from rec_core.errors import SettingsError
from rec_srs import xsimgcl as module
from rec_srs.config import XSimGCLSettings
from rec_srs.contrastive import info_nce
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch
from rec_srs.xsimgcl import XSimGCL

SETTINGS = XSimGCLSettings(dim=8, layers=3, weight=0.2, temperature=0.15, noise=0.2, contrast_layer=1, l2=1e-2)


def model_of(settings: XSimGCLSettings = SETTINGS, graph: InteractionGraph | None = None) -> XSimGCL:
    torch.manual_seed(0)
    return XSimGCL(graph or random_graph(), settings).double()


def made_up_noise(vectors: Tensor, length: float) -> Tensor:
    """A draw that a plain pass can compute again for itself: it depends on the vector alone."""
    drawn = torch.sin(1e3 * vectors.detach()).abs() + 0.1
    return length * vectors.detach().sign() * drawn / drawn.norm(dim=1, keepdim=True)


def plain_layers(model: XSimGCL) -> list[Tensor]:
    """The tables and the layers of one noisy pass with dense products."""
    matrix = dense_adjacency(model.graph)
    layers = [torch.cat([model.users, model.items])]
    for _ in range(model.settings.layers):
        layer = matrix @ layers[-1]
        layers.append(layer + made_up_noise(layer, model.settings.noise))
    return layers


def plain_loss(model: XSimGCL, batch: PairBatch) -> Tensor:
    """Pair after pair."""
    settings, n_users = model.settings, model.graph.n_users
    layers = plain_layers(model)
    final, view = torch.stack(layers[1:]).mean(dim=0), layers[settings.contrast_layer]
    triples = list(zip(*(column.tolist() for column in batch), strict=True))
    loss = torch.zeros(())
    for user, positive, negative in triples:
        x = final[user] @ final[n_users + positive] - final[user] @ final[n_users + negative]
        x = torch.log(torch.sigmoid(x)) if settings.bpr_form == "softplus" else torch.log(1e-5 + torch.sigmoid(x))
        loss = loss - x / len(triples)
    for user, positive, negative in triples:
        if settings.l2_form == "squared":
            rows = (model.users[user], model.items[positive], model.items[negative])
            loss = loss + settings.l2 / (2 * len(triples)) * sum(row @ row for row in rows)
    if settings.l2_form == "norm":
        for rows in (final[batch.users_N], final[n_users + batch.positives_N]):
            loss = loss + settings.l2 * rows.square().sum().sqrt() / len(rows)
    for nodes in (sorted({u for u, _, _ in triples}), sorted({n_users + p for _, p, _ in triples})):
        loss = loss + settings.weight * info_nce(final[nodes], view[nodes], settings.temperature)
    return loss


@pytest.mark.parametrize(("layers", "contrast_layer"), [(1, 0), (2, 1), (2, 2), (3, 0), (3, 2)])
@pytest.mark.parametrize(("l2_form", "bpr_form"), [("squared", "softplus"), ("norm", "log_epsilon")])
def test_loss_and_gradients_equal_those_of_a_plain_pass(
    monkeypatch: pytest.MonkeyPatch, layers: int, contrast_layer: int, l2_form: str, bpr_form: str
) -> None:
    monkeypatch.setattr(module, "directed_noise", made_up_noise)
    forms = {"l2_form": l2_form, "bpr_form": bpr_form}
    model = model_of(replace(SETTINGS, layers=layers, contrast_layer=contrast_layer, **forms))  # type: ignore[arg-type]
    batch = batch_of(model.graph)
    here, parts = model.loss(batch)
    there = plain_loss(model, batch)
    torch.testing.assert_close(here, there)
    assert here.item() == pytest.approx(float(parts["bpr"] + parts["l2"] + 0.2 * parts["contrast"]))
    tables = [model.users, model.items]
    for ours, theirs in zip(torch.autograd.grad(here, tables), torch.autograd.grad(there, tables), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_answers_come_from_a_pass_without_noise_and_without_layer_0() -> None:
    model = model_of()
    state = torch.get_rng_state()
    matrix, table = dense_adjacency(model.graph), torch.cat([model.users, model.items])
    expected = (matrix @ table + matrix @ matrix @ table + matrix @ matrix @ matrix @ table) / 3
    torch.testing.assert_close(torch.cat(model.vectors()), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_costs_L_products_forward_and_L_backward() -> None:
    model = model_of()
    loss, _ = model.loss(batch_of(model.graph))
    assert model.graph.products == 3
    loss.backward()
    assert model.graph.products == 6


def test_without_noise_the_contrast_is_between_the_clean_vectors_and_the_clean_layer() -> None:
    model = model_of(replace(SETTINGS, noise=0.0, layers=2, contrast_layer=1))
    batch = batch_of(model.graph)
    matrix, table = dense_adjacency(model.graph), torch.cat([model.users, model.items])
    first, final = matrix @ table, torch.cat(model.vectors())
    nodes = torch.unique(batch.users_N), torch.unique(batch.positives_N) + 20
    expected = sum(info_nce(final[rows], first[rows], 0.15) for rows in nodes)
    torch.testing.assert_close(model.loss(batch)[1]["contrast"], torch.as_tensor(expected).detach())


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


def test_each_step_draws_fresh_noise() -> None:
    model = model_of()
    batch = batch_of(model.graph)
    assert model.loss(batch)[1]["bpr"] != model.loss(batch)[1]["bpr"]


def test_contrasting_the_only_layer_with_itself_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"same vectors; raise layers, or take contrast-layer 0"):
        XSimGCLSettings(layers=1, contrast_layer=1)
    with pytest.raises(SettingsError, match=r"contrast-layer lies in 0\.\.3"):
        XSimGCLSettings(layers=3, contrast_layer=4)
    assert XSimGCLSettings(layers=1, contrast_layer=0).contrast_layer == 0
