"""The losses: golden values, float64 twins with gradients, limits that tie them together, and the draws they need."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.errors import DataError, SettingsError
from rec_core.randomness import generator
from rec_core.training import IdEmbeddings
from rec_core.training.losses import full_softmax
from rec_core.types import Histories
from rec_srs import objective
from rec_srs.config import SequenceSettings
from rec_srs.objective import Negatives, NextItem, bpr, gbce, gbce_beta, sampled_softmax

SAMPLED = ["sampled_softmax", "bce", "gbce", "bpr"]


def floats(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def no_hits(k: int, n: int = 1) -> Tensor:
    return torch.zeros(n, k, dtype=torch.bool)


def pool(n: int) -> Tensor:
    return torch.tensor([[n]])


# ---- golden ------------------------------------------------------------------------------------------------------


def test_sampled_softmax_counts_each_of_two_negatives_for_five_of_ten_items() -> None:
    # exp: target 1; negatives 2 and 3, each times 10 / 2
    found = sampled_softmax(floats(0.0), floats([log(2), log(3)]), no_hits(2), pool(10))
    assert found.tolist() == pytest.approx([log(1 + 2 * 5 + 3 * 5)])
    plain = sampled_softmax(floats(0.0), floats([log(2), log(3)]), no_hits(2), pool(10), log_q=False)
    assert plain.tolist() == pytest.approx([log(1 + 2 + 3)])


def test_sampled_softmax_corrects_every_row_by_its_own_pool() -> None:
    found = sampled_softmax(floats(0.0, 0.0), floats([0.0], [log(3)]), no_hits(1, 2), torch.tensor([[4], [7]]))
    assert found.tolist() == pytest.approx([log(1 + 4), log(1 + 3 * 7)])


def test_sampled_softmax_leaves_a_hit_out_and_the_other_keeps_its_weight() -> None:
    found = sampled_softmax(floats(0.0), floats([0.0, log(3)]), torch.tensor([[True, False]]), pool(10))
    assert found.tolist() == pytest.approx([log(1 + 3 * 5)])


def test_binary_cross_entropy_of_one_positive_and_two_negatives() -> None:
    terms = [log(1 + exp(-2)), log(1 + exp(1)), log(1 + exp(-3))]
    scores = floats(2.0), floats([1.0, -3.0]), no_hits(2), pool(9)
    assert gbce(*scores).tolist() == pytest.approx([sum(terms) / 3])
    assert gbce(*scores, form="sum").tolist() == pytest.approx([terms[0] + (terms[1] + terms[2]) / 2])


def test_gbce_weighs_the_positive_by_beta() -> None:
    # alpha = 2 / (5 - 1) = 0.5, beta = 0.5 * (0.75 * (1 - 2) + 2) = 0.625
    assert gbce_beta(2, 5, 0.75) == pytest.approx(0.625)
    found = gbce(floats(0.0), floats([0.0, 0.0]), no_hits(2), pool(5), beta=0.625)
    assert found.tolist() == pytest.approx([(0.625 * log(2) + 2 * log(2)) / 3])


def test_a_mean_over_terms_is_over_the_terms_without_hits() -> None:
    hits = torch.tensor([[True, False], [True, True]])
    scores = floats(0.0, 0.0), floats([50.0, 0.0], [50.0, 50.0]), hits, pool(9)
    assert gbce(*scores).tolist() == pytest.approx([(log(2) + log(2)) / 2, log(2) / 1])
    assert gbce(*scores, form="sum").tolist() == pytest.approx([log(2) + log(2) / 1, log(2)])
    assert bpr(*scores).tolist() == pytest.approx([log(2), 0.0])


def test_bpr_of_two_negatives() -> None:
    found = bpr(floats(1.0), floats([0.0, 3.0]), no_hits(2), pool(9))
    assert found.tolist() == pytest.approx([(log(1 + exp(-1)) + log(1 + exp(2))) / 2])


# ---- twins -------------------------------------------------------------------------------------------------------


def twin(settings: SequenceSettings, hidden: Tensor, table: Tensor, targets: Tensor, negatives: Negatives) -> Tensor:
    """One target after the other, in the formulas' own words."""
    n_items, k, values = len(table), settings.negatives, []
    for n, target in enumerate(targets.tolist()):
        drawn = (negatives.items if negatives.items.ndim == 1 else negatives.items[n]).tolist()
        among = float(negatives.pool if negatives.pool.ndim == 0 else negatives.pool[n])
        score = table @ hidden[n]
        left = [j for j in drawn if j != target]
        positive = score[target]
        if settings.loss == "sampled_softmax":
            weight = among / k if settings.log_q else 1.0
            total = positive.exp() + sum((weight * score[j].exp() for j in left), torch.zeros(()))
            values.append(-(positive.exp() / total).log())
        elif settings.loss == "bpr":
            terms = [-torch.sigmoid(positive - score[j]).log() for j in left]
            values.append(torch.stack(terms).mean() if terms else positive * 0)
        else:
            t = settings.gbce_t if settings.loss == "gbce" else 0.0
            alpha = k / (n_items - 1)
            beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
            right = -(torch.sigmoid(positive) ** beta).log()
            wrong = [-(1 - torch.sigmoid(score[j])).log() for j in left]
            if settings.bce_form == "mean":
                values.append(torch.stack([right, *wrong]).mean())
            else:
                values.append(right + (torch.stack(wrong).mean() if wrong else 0))
    return torch.stack(values).mean()


def case(k: int, shared: bool, n: int = 23, v: int = 13, d: int = 4) -> tuple[Tensor, Tensor, Tensor, Negatives]:
    made = torch.Generator().manual_seed(k + 10 * shared)
    hidden = torch.randn(n, d, dtype=torch.float64, generator=made, requires_grad=True)
    table = torch.randn(v, d, dtype=torch.float64, generator=made, requires_grad=True)
    targets = torch.randint(v, (n,), generator=made)
    drawn = torch.randint(v, (k,) if shared else (n, k), generator=made)
    among = torch.tensor(v) if shared else torch.randint(5, v, (n,), generator=made)
    return hidden, table, targets, Negatives(drawn, among)


def layer_of(table: Tensor) -> IdEmbeddings:
    layer = IdEmbeddings(*table.shape)
    layer.weight = nn.Parameter(table.detach().clone())
    return layer


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 8 << 20])
@pytest.mark.parametrize("how", ["shared", "all", "gathered"])
@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize(
    "change",
    [
        {"loss": "sampled_softmax"},
        {"loss": "sampled_softmax", "log_q": False},
        {"loss": "bce"},
        {"loss": "bce", "bce_form": "sum"},
        {"loss": "gbce"},
        {"loss": "gbce", "bce_form": "sum", "gbce_t": 0.3},
        {"loss": "bpr"},
    ],
    ids=str,
)
def test_value_and_gradients_are_those_of_the_loop(
    change: dict[str, Any], k: int, how: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "CHUNK_BYTES_CPU", chunk_bytes)
    monkeypatch.setattr(objective, "SCORE_ALL", 0 if how == "gathered" else 100)
    chosen = SequenceSettings(negatives=k, **change)
    hidden, table, targets, negatives = case(k, how == "shared")
    assert objective._how(negatives.items, len(table)) == how
    layer = layer_of(table)
    ours = hidden.detach().clone().requires_grad_()
    value = NextItem(chosen).loss(ours, targets, negatives, layer)
    (3 * value).backward()
    expected = twin(chosen, hidden, table, targets, negatives)
    (3 * expected).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, hidden.grad)
    torch.testing.assert_close(layer.weight.grad, table.grad)


class Adapter(nn.Module):
    """An item layer that computes vectors; it counts for how many items it did."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("wide", table.detach().clone())
        self.map = nn.Linear(table.shape[1], table.shape[1], dtype=table.dtype)
        self.computed = 0

    @property
    def n_items(self) -> int:
        return len(self.wide)

    @property
    def dim(self) -> int:
        return self.wide.shape[1]

    def forward(self, ids: Tensor) -> Tensor:
        self.computed += ids.numel()
        return self.map(self.wide[ids])

    def table(self) -> Tensor:
        return self(torch.arange(self.n_items))


@pytest.mark.parametrize("loss", SAMPLED)
def test_a_large_catalogue_behind_an_adapter_is_computed_for_the_needed_items_only(loss: Any) -> None:
    hidden, table, targets, negatives = case(5, shared=True, n=9, v=300)
    layer = Adapter(table)
    value = NextItem(SequenceSettings(loss=loss, negatives=5)).loss(hidden, targets, negatives, layer)
    value.backward()
    assert layer.computed <= 9 + 5
    found = layer.map.weight.grad.clone()
    layer.zero_grad()
    plain = layer_of(layer.table())
    NextItem(SequenceSettings(loss=loss, negatives=5)).loss(hidden.detach(), targets, negatives, plain).backward()
    layer.table().backward(plain.weight.grad)
    torch.testing.assert_close(found, layer.map.weight.grad)


# ---- limits and identities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["shared", "all", "gathered"])
def test_with_every_item_drawn_once_sampled_softmax_is_the_full_softmax(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "SCORE_ALL", 0 if how == "gathered" else 100)
    hidden, table, targets, _ = case(1, shared=True)
    everything = torch.arange(13) if how == "shared" else torch.stack([torch.randperm(13) for _ in range(23)])
    chosen = SequenceSettings(loss="sampled_softmax", negatives=13)
    layer = layer_of(table)
    ours = hidden.detach().clone().requires_grad_()
    value = NextItem(chosen).loss(ours, targets, Negatives(everything, torch.tensor(13)), layer)
    value.backward()
    expected = full_softmax(hidden, table, targets, path="plain")
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, hidden.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weight.grad, table.grad, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_sampled_softmax_approaches_the_full_one_as_negatives_grow() -> None:
    hidden, table, targets, _ = case(1, shared=True)
    full_softmax(hidden, table, targets, path="plain").backward()
    wanted, distance = table.grad.clone(), []
    rng = np.random.default_rng(0)
    for k in (4, 64, 4096):
        mean = torch.zeros_like(wanted)
        for _ in range(30):
            layer = layer_of(table)
            negatives = Negatives(torch.from_numpy(rng.integers(13, size=k)), torch.tensor(13))
            NextItem(SequenceSettings(loss="sampled_softmax", negatives=k)).loss(
                hidden.detach(), targets, negatives, layer
            ).backward()
            mean += layer.weight.grad / 30
        distance.append(float((mean - wanted).norm() / wanted.norm()))
    assert distance[0] > 2 * distance[1] > 4 * distance[2]
    assert distance[2] < 0.02


def test_negatives_weighted_by_their_pool_estimate_the_sum_over_the_unseen_items() -> None:
    # Q depends on the row: 10 and 4 unseen items of 12
    histories = Histories.of([[0, 1], [4, 5, 6, 7, 8, 9, 10, 11]])
    weight = torch.exp(torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    chosen = SequenceSettings(loss="sampled_softmax", negatives=40_000, negatives_for="target")
    drawn = NextItem(chosen).draw(histories, np.arange(2), np.ones((2, 1), bool), 12, generator(0, "batch"))
    assert drawn is not None
    assert drawn.pool.tolist() == [10, 4]
    estimate = weight[drawn.items].sum(dim=1) * drawn.pool / 40_000
    assert estimate.tolist() == pytest.approx([weight[2:].sum().item(), weight[:4].sum().item()], rel=0.02)


@pytest.mark.parametrize("form", ["mean", "sum"])
def test_gbce_with_t_0_is_bce_and_with_t_1_has_beta_alpha(form: Any) -> None:
    hidden, table, targets, negatives = case(7, shared=False, v=29)
    layer = layer_of(table)

    def value(loss: Any, t: float) -> float:
        chosen = SequenceSettings(loss=loss, negatives=7, gbce_t=t, bce_form=form)
        return float(NextItem(chosen).loss(hidden, targets, negatives, layer).detach())

    assert value("gbce", 0.0) == pytest.approx(value("bce", 0.75), rel=1e-14)
    assert gbce_beta(7, 29, 0.0) == pytest.approx(1.0)
    assert gbce_beta(7, 29, 1.0) == pytest.approx(7 / 28)
    assert gbce_beta(100, 29, 1.0) == 1.0  # 100 draws cover no more than all 28
    assert value("gbce", 1.0) < value("gbce", 0.5) < value("gbce", 0.0)


def test_the_float32_form_of_gbce_is_the_published_transformation_in_float64() -> None:
    positive, negative = torch.linspace(-30, 30, 121), torch.linspace(30, -30, 121)[:, None]
    for beta in (1.0, 0.3, 0.08):
        wide = positive.double()
        transformed = torch.log(1 / (torch.sigmoid(wide) ** -beta - 1))
        transformed = torch.where(wide > 25, wide - log(beta), transformed)  # there 1 - sigmoid is lost in float64 too
        expected = (F.softplus(-transformed) + F.softplus(negative.double()[:, 0])) / 2
        found = gbce(positive, negative, no_hits(1, 121), pool(9), beta=beta)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("loss", ["softmax", *SAMPLED])
def test_no_target_gives_zero_with_a_gradient_of_zero(loss: Any) -> None:
    hidden = torch.randn(0, 4, requires_grad=True)
    layer = IdEmbeddings(6, 4)
    value = NextItem(SequenceSettings(loss=loss, negatives=2)).loss(
        hidden, torch.zeros(0, dtype=torch.int64), Negatives(torch.tensor([1, 2]), torch.tensor(6)), layer
    )
    value.backward()
    assert value.item() == 0
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("loss", SAMPLED)
def test_without_gradients_the_value_is_the_same(loss: Any) -> None:
    hidden, table, targets, negatives = case(3, shared=True)
    layer, next_item = layer_of(table), NextItem(SequenceSettings(loss=loss, negatives=3))
    value = next_item.loss(hidden, targets, negatives, layer)
    with torch.inference_mode():
        assert next_item.loss(hidden, targets, negatives, layer).item() == pytest.approx(value.item(), rel=1e-14)


@pytest.mark.parametrize("loss", SAMPLED)
def test_under_bfloat16_autocast_the_loss_is_made_in_float32(loss: Any) -> None:
    hidden, table, targets, negatives = case(3, shared=True)
    layer, next_item = layer_of(table.float()), NextItem(SequenceSettings(loss=loss, negatives=3))
    vectors = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = next_item.loss(vectors, targets, negatives, layer)
    value.backward()
    assert value.dtype == torch.float32
    assert vectors.grad.dtype == torch.bfloat16
    plain = next_item.loss(vectors.detach().float(), targets, negatives, layer)
    assert value.item() == pytest.approx(plain.item(), rel=1e-6)


# ---- draws -------------------------------------------------------------------------------------------------------


def draw(
    chosen: SequenceSettings, histories: Histories, rows: list[int], width: int, n_items: int, seed: int = 0
) -> Negatives:
    lengths = np.minimum(histories.lengths[rows], width)
    mask = np.arange(width) < lengths[:, None]
    inputs = np.zeros((len(rows), width), np.int64)
    for r, row in enumerate(rows):
        inputs[r, : lengths[r]] = histories.items[histories.offsets[row] :][: lengths[r]]
    found = NextItem(chosen).draw(histories, np.array(rows), mask, n_items, generator(seed, "batch"), inputs)
    assert found is not None
    return found


@pytest.mark.parametrize("negatives_for", ["batch", "catalogue", "target", "row"])
@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=5), min_size=2, max_size=6), cut=st.integers(1, 5)
)
def test_draws_depend_neither_on_company_nor_on_padding(negatives_for: Any, rows: list[list[int]], cut: int) -> None:
    """Whatever micro-batches or processes a step is divided into: here in two, and interleaved as processes do."""
    k = 1 if negatives_for == "row" else 3
    chosen = SequenceSettings(loss="bce", negatives=k, negatives_for=negatives_for)
    histories = Histories.of(rows)
    whole = draw(chosen, histories, list(range(len(rows))), 5, 12)
    ends = np.cumsum(histories.lengths)
    for pieces in (
        [list(range(len(rows)))[:cut], list(range(len(rows)))[cut:]],
        [list(range(len(rows)))[p::2] for p in range(2)],
    ):
        for piece in filter(None, pieces):
            found = draw(chosen, histories, piece, int(histories.lengths[piece].max()), 12)
            if negatives_for == "batch":
                assert torch.equal(found.items, whole.items)
                continue
            places = np.concatenate([np.arange(ends[r] - len(rows[r]), ends[r]) for r in piece])
            assert torch.equal(found.items, whole.items[places])
            assert found.pool.ndim == 0 or torch.equal(found.pool, whole.pool[places])


def test_per_target_draws_are_never_met_and_more_than_there_are_unseen_items_is_fine() -> None:
    histories = Histories.of([[0, 1, 2, 3], [9, 9, 8]])
    chosen = SequenceSettings(loss="bce", negatives=50, negatives_for="target")
    found = draw(chosen, histories, [0, 1], 4, 10)
    assert found.items.shape == (7, 50)
    assert set(found.items[:4].flatten().tolist()) == {4, 5, 6, 7, 8, 9}
    assert set(found.items[4:].flatten().tolist()) == set(range(8))
    assert found.pool.tolist() == [6] * 4 + [8] * 3


def test_catalogue_draws_reach_every_item_alike() -> None:
    chosen = SequenceSettings(loss="bce", negatives=5000, negatives_for="catalogue")
    found = draw(chosen, Histories.of([[0, 1]]), [0], 2, 6)
    assert found.pool.item() == 6
    counts = np.bincount(found.items.flatten(), minlength=6)
    assert np.abs(counts - 10_000 / 6).max() < 5 * (10_000 / 6) ** 0.5


def test_row_draws_are_distributed_as_selfrecs_loop() -> None:
    # Inputs 0, 2 of 6 items; two targets, so a pair of different items of {1, 3, 4, 5}: 12 ordered pairs.
    histories = Histories.of([[0, 2]] * 4000)
    chosen = SequenceSettings(loss="bce", negatives=1, negatives_for="row")
    found = draw(chosen, histories, list(range(4000)), 2, 6)
    assert found.items.shape == (8000, 1)
    assert set(found.pool.tolist()) == {4}
    ours = found.items.view(4000, 2).numpy()
    rng, theirs = np.random.default_rng(0), []
    while len(theirs) < 4000:
        pair = rng.permutation(6)[:2]  # distinct items, drawn again as a whole while one is an input
        if not {0, 2} & set(pair.tolist()):
            theirs.append(pair)

    def counts(pairs: Any) -> np.ndarray:
        found = np.bincount(np.asarray(pairs) @ [6, 1], minlength=36)
        return found[found > 0]

    assert len(counts(ours)) == len(counts(theirs)) == 12
    assert np.abs(counts(ours) - 4000 / 12).max() < 5 * (4000 / 12) ** 0.5
    assert np.abs(counts(ours) - counts(theirs)).max() < 5 * (2 * 4000 / 12) ** 0.5


def test_a_row_draw_for_the_last_target_alone_leaves_out_every_input_before_it() -> None:
    chosen = SequenceSettings(loss="bce", negatives=1, negatives_for="row")
    inputs, mask = np.array([[0, 1, 2]]), np.array([[False, False, True]])
    for seed in range(20):
        found = NextItem(chosen).draw(Histories.of([[0, 1, 2]]), np.array([0]), mask, 5, generator(seed), inputs)
        assert found is not None
        assert found.items.item() in (3, 4)
        assert found.pool.tolist() == [2]


def test_a_row_draw_that_no_repetition_could_make_is_refused_at_once() -> None:
    histories = Histories.of([[0, 1, 2]], users=[7])
    chosen = SequenceSettings(loss="bce", negatives=1, negatives_for="row")
    assert sorted(draw(chosen, histories, [0], 3, 6).items.flatten().tolist()) == [3, 4, 5]
    with pytest.raises(DataError, match="user 7 has 3 targets and only 2 of 5 items outside the input"):
        draw(chosen, histories, [0], 3, 5)


def test_a_user_who_met_everything_is_named_in_training() -> None:
    histories = Histories.of([[0, 1, 2]], users=[7])
    with pytest.raises(DataError, match=r"user 7 .* has met all 3 items"):
        draw(SequenceSettings(loss="bce", negatives=2, negatives_for="target"), histories, [0], 3, 3)


def test_another_history_or_catalogue_is_not_answered_from_the_last_one() -> None:
    next_item = NextItem(SequenceSettings(loss="bce", negatives=30, negatives_for="target"))

    def drawn(rows: list[list[int]], n_items: int) -> set[int]:
        found = next_item.draw(Histories.of(rows), np.array([0]), np.ones((1, 1), bool), n_items, generator(0, "batch"))
        assert found is not None
        return set(found.items.flatten().tolist())

    histories = [[0, 1]]
    assert drawn(histories, 4) == {2, 3}
    assert drawn(histories, 5) == {2, 3, 4}
    assert drawn([[2, 3]], 4) == {0, 1}


def test_the_full_softmax_draws_nothing() -> None:
    rng = generator(0, "batch")
    before = rng.bit_generator.state
    assert NextItem(SequenceSettings()).draw(Histories.of([[0]]), np.array([0]), np.ones((1, 1), bool), 5, rng) is None
    assert rng.bit_generator.state == before


def test_row_draws_without_inputs_are_refused() -> None:
    chosen = SequenceSettings(loss="bce", negatives=1, negatives_for="row")
    with pytest.raises(SettingsError, match="choose batch, target or catalogue"):
        NextItem(chosen).draw(Histories.of([[0]]), np.array([0]), np.ones((1, 1), bool), 5, generator(0, "batch"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "bce", "negatives_for": "row"}, "set negatives to 1; got 256"),
        ({"negatives_for": "user"}, "negatives-for is one of batch, target, catalogue, row"),
        ({"bce_form": "product"}, "bce-form is one of mean, sum"),
        ({"gbce_t": 1.5}, r"gbce-t lies in \[0, 1\]"),
        ({"negatives": 0}, "negatives must be at least 1"),
        ({"loss": "hinge"}, "loss is one of softmax"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SequenceSettings(**change)
