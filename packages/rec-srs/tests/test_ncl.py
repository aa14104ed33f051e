"""NCL: its two losses against plain ones, and when and how it clusters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_graphs import batch_of, dense_adjacency, random_graph
from torch import Tensor

from rec_core.errors import SettingsError
from rec_srs.config import NCLSettings
from rec_srs.graph import InteractionGraph
from rec_srs.ncl import NCL
from rec_srs.pairs import PairBatch

SETTINGS = NCLSettings(
    dim=8,
    layers=3,
    temperature=0.2,
    structure_weight=1e-2,
    item_weight=1.5,
    prototype_weight=1e-2,
    prototypes=5,
    warmup_epochs=2,
    l2=1e-2,
)


def model_of(settings: NCLSettings = SETTINGS, graph: InteractionGraph | None = None) -> NCL:
    torch.manual_seed(0)
    return NCL(graph or random_graph(), settings).double()


def agreement(anchor: Tensor, others: Tensor, partner: int, temperature: float) -> Tensor:
    """-log of the share of the partner, as the formula is written."""
    shares = [torch.exp(torch.cosine_similarity(anchor, other, dim=0) / temperature) for other in others]
    return -torch.log(shares[partner] / torch.stack(shares).sum())


def plain_loss(model: NCL, batch: PairBatch) -> Tensor:
    """Pair after pair, dense products, nothing in blocks."""
    settings, n_users = model.settings, model.graph.n_users
    matrix, layers = dense_adjacency(model.graph), [torch.cat([model.users, model.items])]
    for _ in range(settings.layers):
        layers.append(matrix @ layers[-1])
    final, context = torch.stack(layers).mean(dim=0), layers[2 * settings.hops]
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
        for nodes in (batch.users_N, n_users + batch.positives_N, n_users + batch.negatives_N):
            loss = loss + settings.l2 * final[nodes].square().sum().sqrt() / len(nodes) / len(nodes)
    for user, positive, _ in triples:
        structure = agreement(context[user], model.users, user, settings.temperature)
        of_item = agreement(context[n_users + positive], model.items, positive, settings.temperature)
        loss = loss + settings.structure_weight * (structure + settings.item_weight * of_item)
    if not model.clustered:
        return loss
    in_step = {0: model.user_centres_KD[model.user_cluster_U[batch.users_N]]}
    in_step[1] = model.item_centres_KD[model.item_cluster_I[batch.positives_N]]
    for n, (user, positive, _) in enumerate(triples):
        for kind, (row, cluster, centres) in enumerate(
            (
                (model.users[user], model.user_cluster_U[user], model.user_centres_KD),
                (model.items[positive], model.item_cluster_I[positive], model.item_centres_KD),
            )
        ):
            if settings.prototype_negatives == "all":
                found = agreement(row, centres, int(cluster), settings.temperature)
            else:
                found = agreement(row, in_step[kind], n, settings.temperature)
            loss = loss + settings.prototype_weight * found
    return loss


@pytest.mark.parametrize("epoch", [1, 2])  # the last of the warm-up and the first with prototypes
@pytest.mark.parametrize(
    ("l2_form", "bpr_form", "prototype_negatives"), [("squared", "softplus", "all"), ("norm", "log_epsilon", "batch")]
)
def test_loss_and_gradients_equal_the_plain_twin(
    epoch: int, l2_form: str, bpr_form: str, prototype_negatives: str
) -> None:
    forms = {"l2_form": l2_form, "bpr_form": bpr_form, "prototype_negatives": prototype_negatives}
    model = model_of(replace(SETTINGS, **forms))  # type: ignore[arg-type]
    model.begin_epoch(epoch)
    batch = batch_of(model.graph)
    here, parts = model.loss(batch)
    there = plain_loss(model, batch)
    assert ("prototypes" in parts) == (epoch == 2)
    torch.testing.assert_close(here, there)
    tables = [model.users, model.items]
    for ours, theirs in zip(torch.autograd.grad(here, tables), torch.autograd.grad(there, tables), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_context_of_two_hops_is_layer_four() -> None:
    model = model_of(replace(SETTINGS, layers=4, hops=2))
    batch = batch_of(model.graph)
    torch.testing.assert_close(model.loss(batch)[0], plain_loss(model, batch))


def test_the_structure_loss_of_users_alone_has_no_gradient_for_items() -> None:
    model = model_of(replace(SETTINGS, item_weight=0.0, prototype_weight=0.0))
    table = torch.cat([model.users, model.items])
    context = model.graph.propagate(model.graph.propagate(table))  # an even layer stays on one side of the graph
    value = model.structure_loss(batch_of(model.graph), context)
    users, items = torch.autograd.grad(value, [model.users, model.items])
    assert users.abs().max() > 1e-3
    assert not items.any()


def test_the_structure_denominator_holds_every_user_and_the_partner_too() -> None:
    settings = replace(SETTINGS, dim=2, item_weight=0.0, prototype_weight=0.0)
    alone = model_of(settings, InteractionGraph(torch.tensor([0]), torch.tensor([0]), 1, 1))
    pair = PairBatch(*(torch.zeros(1, dtype=torch.int64) for _ in range(3)))
    assert float(alone.loss(pair)[1]["structure"]) == pytest.approx(0, abs=1e-9)  # -log(e^x / e^x)
    # users 0 and 1 share item 0, so the context of both is the mean of their tables, equally close to both;
    # user 2 has a table of her own, orthogonal to that mean: cosines 1/sqrt(2), 1/sqrt(2) and 0
    graph = InteractionGraph(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]), 3, 2)
    model = model_of(replace(settings, dim=3), graph)
    with torch.no_grad():
        model.users.copy_(torch.eye(3))
    near = np.exp(2**-0.5 / 0.2)
    two_pairs = PairBatch(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([1, 1]))
    expected = 2 * -np.log(near / (near + near + 1))  # user 2 counts, though no pair of the step is hers
    assert float(model.loss(two_pairs)[1]["structure"]) == pytest.approx(expected)


def test_the_vectors_are_the_mean_of_all_layers() -> None:
    graph = InteractionGraph(torch.tensor([0]), torch.tensor([0]), 1, 1)
    model = model_of(replace(SETTINGS, layers=2, prototypes=1), graph)
    users, items = model.vectors()
    torch.testing.assert_close(users, (2 * model.users + model.items) / 3)
    torch.testing.assert_close(items, (2 * model.items + model.users) / 3)


def test_a_step_propagates_once() -> None:
    model = model_of()
    loss, _ = model.loss(batch_of(model.graph))
    assert model.graph.products == 3
    loss.backward()
    assert model.graph.products == 6


# ---- clustering --------------------------------------------------------------------------------------------------


def test_clusters_appear_after_the_warm_up_and_are_those_of_layer_0() -> None:
    model = model_of()
    for epoch in (0, 1):
        model.begin_epoch(epoch)
        assert not model.clustered
    model.begin_epoch(2)
    assert model.clustered
    for table, centres, cluster, degrees in (
        (model.users, model.user_centres_KD, model.user_cluster_U, model.graph.user_degrees_U),
        (model.items, model.item_centres_KD, model.item_cluster_I, model.graph.item_degrees_I),
    ):
        known = degrees > 0
        assert torch.equal(cluster[known], torch.cdist(table.detach()[known], centres).argmin(dim=1))
        for c in range(5):
            torch.testing.assert_close(centres[c], table.detach()[known & (cluster == c)].mean(dim=0))


def test_clusters_stay_as_they_are_until_the_next_epoch_begins_and_then_follow_the_tables() -> None:
    model = model_of()
    model.begin_epoch(2)
    before = model.user_centres_KD.clone()
    with torch.no_grad():
        model.users.add_(1e-3)  # every cluster moves along
    model.loss(batch_of(model.graph))
    assert torch.equal(model.user_centres_KD, before)
    state = torch.get_rng_state()
    model.begin_epoch(3)
    torch.testing.assert_close(model.user_centres_KD, before + 1e-3)
    assert torch.equal(torch.get_rng_state(), state)  # started from the last centres: nothing drawn


def test_nodes_without_a_training_pair_draw_no_centre_to_themselves() -> None:
    graph = InteractionGraph(
        torch.arange(6).repeat_interleave(3), torch.arange(18) % 7, 9, 8
    )  # 3 users, 1 item without
    model = model_of(replace(SETTINGS, prototypes=3, warmup_epochs=0), graph)
    with torch.no_grad():
        model.users[6:] = 1e6
        model.items[7:] = 1e6
    model.begin_epoch(0)
    assert model.user_centres_KD.abs().max() < 10
    assert model.item_centres_KD.abs().max() < 10


def test_another_training_from_epoch_0_forgets_the_old_clusters() -> None:
    model = model_of()
    model.begin_epoch(2)
    model.begin_epoch(0)
    assert "prototypes" not in model.loss(batch_of(model.graph))[1]


def test_weight_0_means_no_clusters_and_no_buffers() -> None:
    model = model_of(replace(SETTINGS, prototype_weight=0.0, prototypes=2000))
    model.begin_epoch(5)
    assert not list(model.buffers())
    assert set(model.loss(batch_of(model.graph))[1]) == {"bpr", "l2", "structure"}
    model = model_of(replace(SETTINGS, structure_weight=0.0, prototype_weight=0.0))
    assert set(model.loss(batch_of(model.graph))[1]) == {"bpr", "l2"}


def test_without_a_number_there_is_a_prototype_per_ten_nodes_of_the_smaller_side() -> None:
    model = model_of(replace(SETTINGS, prototypes=0))  # 20 users, 30 items
    assert model.prototypes == 20 // 10
    assert len(model.user_centres_KD) == len(model.item_centres_KD) == 2


def test_more_prototypes_than_nodes_is_refused_with_both_numbers() -> None:
    with pytest.raises(SettingsError, match=r"prototypes is 2,000, but there are only 20 users"):
        model_of(replace(SETTINGS, prototypes=2000))
    few_items = InteractionGraph(torch.arange(9), torch.arange(9) % 2, 9, 4)
    with pytest.raises(SettingsError, match=r"prototypes is 5, but there are only 2 items with a training pair"):
        model_of(graph=few_items)


def test_the_context_must_be_a_layer_that_there_is() -> None:
    with pytest.raises(SettingsError, match=r"layers \(3\) must be at least 2 x hops \(4\)"):
        NCLSettings(layers=3, hops=2)
