"""GRU4Rec: equal to PyTorch's own recurrence, blind to the future and to padding, and able to learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rec_core.errors import SettingsError
from rec_core.evaluation import evaluate
from rec_core.randomness import generator
from rec_core.testing import check_recommender
from rec_core.testing.datasets import planted_clusters
from rec_core.training import IdEmbeddings, SequenceRecommender, TrainSettings, fit_sequence_model
from rec_core.training.progress import NoProgress
from rec_core.types import Histories, Split
from rec_srs.config import GRU4RecSettings, Loss
from rec_srs.gru4rec import GRU4Rec, recurrence
from rec_srs.popular import fit_popular

SMALL = GRU4RecSettings(dim=8, max_length=6, dropout=0.0)


def model_of(settings: GRU4RecSettings = SMALL, n_items: int = 11, seed: int = 0) -> GRU4Rec:
    torch.manual_seed(seed)
    return GRU4Rec(IdEmbeddings(n_items, settings.dim, std=0.3), settings).double().eval()


def vectors(model: GRU4Rec, rows: list[list[int]]) -> torch.Tensor:
    with torch.inference_mode():
        return model.encode(model.batch(Histories.of(rows), np.arange(len(rows)), None))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("length", "rows", "dim", "width"), [(1, 1, 3, 3), (2, 3, 4, 4), (16, 2, 5, 7), (37, 3, 6, 4)])
def test_values_and_gradients_are_those_of_the_plain_gru(
    length: int, rows: int, dim: int, width: int, bias: bool
) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(dim, width, bias=bias).double()
    x = torch.randn(length, rows, dim, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(length, rows, width, dtype=torch.float64)
    inputs = [x, *gru.parameters()]
    plain, ours = gru(x)[0], recurrence(x, gru)
    expected = torch.autograd.grad(plain, inputs, weight)
    got = torch.autograd.grad(ours, inputs, weight)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_float32_gradients_are_those_of_the_plain_gru_to_rounding() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(64, 64)
    x = torch.randn(50, 8, 64, requires_grad=True)
    inputs = [x, *gru.parameters()]
    expected = torch.autograd.grad(gru(x)[0].square().sum(), inputs)
    got = torch.autograd.grad(recurrence(x, gru).square().sum(), inputs)
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-6 * 3


def test_a_frozen_input_gets_no_gradient_and_the_weights_still_do() -> None:
    gru = nn.GRU(3, 3)
    recurrence(torch.randn(4, 2, 3), gru).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gru.parameters())


def test_under_bfloat16_autocast_the_recurrence_stays_in_float32() -> None:
    gru = nn.GRU(3, 3)
    x = torch.randn(4, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        got = recurrence(x.to(torch.bfloat16).float(), gru)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, gru(x.to(torch.bfloat16).float())[0])


@pytest.mark.parametrize("layers", [1, 2])
@settings(deadline=None, max_examples=20)
@given(row=st.lists(st.integers(0, 10), min_size=2, max_size=6), at=st.integers(1, 5), other=st.integers(0, 10))
def test_changing_an_event_never_changes_a_state_before_it(layers: int, row: list[int], at: int, other: int) -> None:
    model = model_of(replace(SMALL, layers=layers))
    at = min(at, len(row) - 1)
    changed = [*row[:at], other, *row[at + 1 :]]
    with torch.inference_mode():
        before = model.states(torch.tensor(row)[:, None])[:at]
        after = model.states(torch.tensor(changed)[:, None])[:at]
    torch.testing.assert_close(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("hidden", [0, 5])
@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_row_alone_equals_the_row_in_a_padded_batch(hidden: int, rows: list[list[int]]) -> None:
    model = model_of(replace(SMALL, hidden=hidden))
    together = vectors(model, rows)
    assert together.shape == (len(rows), 8)  # a state of another width is brought back to that of the items
    for r, row in enumerate(rows):
        torch.testing.assert_close(together[r : r + 1], vectors(model, [row]), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(pads=st.integers(1, 5), junk=st.integers(0, 10))
def test_what_stands_at_the_pads_changes_nothing(pads: int, junk: int) -> None:
    model = model_of(replace(SMALL, max_length=9))
    histories = Histories.of([[3, 1, 4], [2] * (3 + pads)])
    batch = model.batch(histories, np.array([0, 1]), None)
    other = batch.items_LB.clone()
    other[3:, 0] = junk
    with torch.inference_mode():
        got = model.encode(batch._replace(items_LB=other))
        torch.testing.assert_close(got, model.encode(batch), rtol=0, atol=0)


def test_only_the_newest_max_length_events_are_read() -> None:
    model = model_of()
    long = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    torch.testing.assert_close(vectors(model, [long]), vectors(model, [long[-6:]]))
    assert not torch.allclose(vectors(model, [long]), vectors(model, [long[-5:]]))


@pytest.mark.parametrize("targets", ["all", "last"])
def test_the_loss_is_the_mean_cross_entropy_of_the_wanted_next_events(targets: str) -> None:
    model = model_of(replace(SMALL, window="last", targets=targets))  # type: ignore[arg-type]
    rows = [[0, 1, 2], [5, 4, 3, 2, 1, 0, 10, 9], [7]]
    batch = model.batch(Histories.of(rows), np.arange(3), generator(0, "batch"))
    value, got = model.loss(batch)
    table = model.items.table().detach().numpy()
    terms, expected = [], []
    for row in rows:
        window = row[-7:]  # six inputs and the last target
        for t in range(len(window) - 1) if targets == "all" else range(len(window) - 2, len(window) - 1):
            if t >= 0:
                logits = table @ vectors(model, [window[: t + 1]]).numpy()[0]
                terms.append(np.log(np.exp(logits).sum()) - logits[window[t + 1]])
                expected.append(window[t + 1])
    assert got.tolist() == expected
    assert value.item() == pytest.approx(np.mean(terms), rel=1e-6)


def test_windows_golden_lengths() -> None:
    # n = 60 events, 50 read: inputs are events 9..58, targets 10..59; two events make one target, one event none
    for targets, expected in (("all", (50, 50, 49, 1, 0)), ("last", (1, 1, 1, 1, 0))):
        model = model_of(replace(SMALL, max_length=50, window="last", targets=targets), n_items=60)  # type: ignore[arg-type]
        for n, count in zip((60, 51, 50, 2, 1), expected, strict=True):
            batch = model.batch(Histories.of([list(range(n))]), np.array([0]), generator(0, "batch"))
            assert batch.targets_N is not None
            assert len(batch.targets_N) == len(batch.read_N) == count
            if count:
                assert batch.targets_N[-1] == n - 1
                assert batch.items_LB[batch.read_N[-1], 0] == n - 2


def test_random_windows_reach_every_event_and_depend_on_the_row_alone() -> None:
    model = model_of(replace(SMALL, max_length=4), n_items=12)
    histories = Histories.of([list(range(12)), list(range(11, -1, -1)), [3, 2]])
    seen = set()
    for epoch in range(40):
        batch = model.batch(histories, np.array([0, 1, 2]), generator(0, "batch", epoch))
        alone = model.batch(histories, np.array([1]), generator(0, "batch", epoch))
        assert alone.items_LB[:, 0].tolist() == batch.items_LB[:, 1].tolist()
        assert batch.targets_N is not None
        assert batch.targets_N[:4].tolist() == [*batch.items_LB[1:, 0].tolist(), batch.items_LB[-1, 0] + 1]
        seen |= set(batch.items_LB[:, 0].tolist()) | set(batch.targets_N[:4].tolist())
    assert seen == set(range(12))


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("negatives_for", ["batch", "target", "catalogue", "row"])
def test_any_loss_is_the_same_however_the_rows_are_grouped(loss: Loss, negatives_for: str) -> None:
    count = 1 if negatives_for == "row" else 3
    settings = replace(SMALL, loss=loss, negatives=count, negatives_for=negatives_for)  # type: ignore[arg-type]
    model = model_of(settings, n_items=30)
    histories = Histories.of([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5, 6], [7, 8, 9]])

    def total(rows: list[int]) -> torch.Tensor:
        value, targets = model.loss(model.batch(histories, np.array(rows), generator(0, "batch", 3)))
        return value * len(targets)

    parameters = list(model.parameters())
    whole = total([0, 1, 2])
    pieces = total([2, 0]) + total([1])
    torch.testing.assert_close(pieces, whole, rtol=1e-6, atol=1e-8)
    gradients = zip(
        torch.autograd.grad(pieces, parameters), torch.autograd.grad(whole, parameters), parameters, strict=True
    )
    for a, b, parameter in gradients:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        assert parameter.abs().sum() > 0


def test_a_batch_without_a_target_has_zero_loss_and_gradient() -> None:
    model = model_of()
    value, targets = model.loss(model.batch(Histories.of([[3]]), np.array([0]), generator(0, "batch")))
    value.backward()
    assert value.item() == 0
    assert len(targets) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_options_act() -> None:
    row = [[1, 2, 3]]
    plain = vectors(model_of(), row)
    assert not torch.allclose(plain, vectors(model_of(replace(SMALL, scale_embeddings=False)), row))
    assert not torch.allclose(plain, vectors(model_of(replace(SMALL, layers=2)), row))
    unbiased = model_of(replace(SMALL, gru_bias=False))
    assert sum(p.numel() for p in unbiased.layers.parameters()) == 2 * 3 * 8 * 8  # as LLMEmb's: 98,304 at dim 128
    dropping = model_of(replace(SMALL, dropout=0.5))
    batch = dropping.batch(Histories.of(row), np.array([0]), None)
    assert torch.equal(dropping.encode(batch), dropping.encode(batch))
    dropping.train()
    assert not torch.equal(dropping.encode(batch), dropping.encode(batch))


QUICK = GRU4RecSettings(dim=16, max_length=10, dropout=0.1)


def trained(split: Split, seed: int, settings: GRU4RecSettings = QUICK, epochs: int = 12) -> SequenceRecommender:
    torch.manual_seed(seed)
    model = GRU4Rec(IdEmbeddings(split.n_items, settings.dim), settings)
    training = TrainSettings(epochs=epochs, batch_size=32, micro_batches=1, learning_rate=1e-2, eval_every=0, seed=seed)
    fit_sequence_model(model, split, training, progress=NoProgress())
    return SequenceRecommender(model)


def test_it_names_the_next_item_of_a_ring_far_better_than_popularity() -> None:
    split = planted_clusters(n_users=120).split
    held_out = split.held_out("test")
    ours, popular = (
        evaluate(recommender, held_out, train=split.train, ks=(5,)).summary()["ndcg@5"]
        for recommender in (trained(split, 0), fit_popular(split.train))
    )
    assert ours > 0.5 > 2 * popular  # it finds the cluster and its order; popularity knows neither


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    split = planted_clusters().split

    def weights(directory: Path, epochs: int, resume: bool = False) -> dict[str, Tensor]:
        torch.manual_seed(1)
        model = GRU4Rec(IdEmbeddings(split.n_items, QUICK.dim), QUICK)
        plan = TrainSettings(epochs=epochs, batch_size=16, seed=1, patience=0)
        fit_sequence_model(model, split, plan, run_dir=directory, resume=resume, progress=NoProgress())
        return model.state_dict()

    whole = weights(tmp_path / "whole", 4)
    weights(tmp_path / "halves", 2)
    halves = weights(tmp_path / "halves", 4, resume=True)
    assert all(torch.equal(halves[name], whole[name]) for name in whole)


def test_it_keeps_the_contract_of_a_recommender() -> None:
    check_recommender(lambda split, seed: trained(split, seed, epochs=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers must be at least 1"),
        ({"hidden": -1}, "hidden must be at least 0"),
        ({"targets": "first"}, "targets is one of all, last; got 'first'"),
        ({"targets": "last", "loss": "bce", "negatives": 1, "negatives_for": "row"}, "set targets all"),
        ({"window": "first"}, "window is last or random"),
        ({"dropout": 1.0}, r"dropout lies in \[0, 1\)"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]
