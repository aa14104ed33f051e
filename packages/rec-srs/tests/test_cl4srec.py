"""CL4SRec: its three operators, the loss against its definition, and that it is SASRec where the second task is off."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from math import exp, floor, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import SettingsError
from rec_core.randomness import generator
from rec_core.training import IdEmbeddings, SequenceRecommender, TrainSettings, fit_sequence_model
from rec_core.training.sequence_task import _SequenceTask
from rec_core.types import Histories, Interactions, Split
from rec_srs.cl4srec import CL4SRec, CL4SRecBatch, altered, crop, mask, nt_xent, reorder
from rec_srs.config import CL4SRecSettings
from rec_srs.presets import selfrec_cl4srec, selfrec_sasrec
from rec_srs.sasrec import SASRec

SMALL = CL4SRecSettings(dim=8, blocks=2, heads=2, max_length=6, dropout=0.0)
MASK = 99


def model_of(changed: CL4SRecSettings = SMALL, n_items: int = 11, seed: int = 0) -> CL4SRec:
    torch.manual_seed(seed)
    return CL4SRec(IdEmbeddings(n_items, changed.dim), changed).double()


def sequence(m: int, width: int | None = None) -> tuple[Any, Any]:
    """One sequence 1..m, padded to a width."""
    items = np.zeros((1, width or m), np.int64)
    items[0, :m] = np.arange(1, m + 1)
    return items, np.array([m])


# ---- operators -----------------------------------------------------------------------------------------------------


def test_ten_events_at_one_half_give_crops_of_six_from_five_places() -> None:
    # floor(0.5 · 10) + 1 = 6 events; the first one stands at 0..10 - 5 - 1 = 0..4
    starts = Counter()
    for start in np.linspace(0, 1, 1000, endpoint=False):
        items, kept = crop(*sequence(10), 0.5, np.array([start]))
        assert kept.tolist() == [6]
        assert np.diff(items[0, :6]).tolist() == [1] * 5
        assert items[0, 6:].tolist() == [0] * 4
        starts[int(items[0, 0]) - 1] += 1
    assert starts == {0: 200, 1: 200, 2: 200, 3: 200, 4: 200}


def test_ten_events_at_one_half_lose_five_to_the_mask() -> None:
    masked = mask(*sequence(10, width=14), 0.5, generator(0).random((1, 14)), MASK)
    assert (masked[0, :10] == MASK).sum() == 5
    kept = masked[0, :10] != MASK
    assert masked[0, :10][kept].tolist() == np.arange(1, 11)[kept].tolist()
    assert masked[0, 10:].tolist() == [0] * 4


def test_ten_events_at_one_half_are_shuffled_in_a_window_of_six() -> None:
    rng, moved = generator(0), Counter()
    for _ in range(300):
        shuffled = reorder(*sequence(10, width=12), 0.5, rng.random(1), rng.random((1, 12)))[0]
        assert sorted(shuffled[:10]) == list(range(1, 11))
        assert shuffled[10:].tolist() == [0, 0]
        places = np.flatnonzero(shuffled[:10] != np.arange(1, 11))
        assert places.max() - places.min() < 6
        moved.update(places.tolist())
    assert set(moved) == set(range(10))


def test_one_event_stays_what_it_is() -> None:
    items, kept = crop(*sequence(1), 0.5, np.array([0.99]))  # floor(0.5) + 1 = 1
    assert (items.tolist(), kept.tolist()) == ([[1]], [1])
    assert mask(*sequence(1), 0.5, np.array([[0.3]]), MASK).tolist() == [[1]]  # floor(0.5) = 0
    assert reorder(*sequence(1), 0.5, np.array([0.99]), np.array([[0.3]])).tolist() == [[1]]


def slow_crop(row: list[int], share: float, start: float) -> list[int]:
    short = floor(share * len(row))
    first = int(start * (len(row) - short))
    return row[first : first + short + 1]


def slow_mask(row: list[int], share: float, keys: list[float]) -> list[int]:
    hidden = sorted(range(len(row)), key=lambda place: keys[place])[: floor(share * len(row))]
    return [MASK if place in hidden else item for place, item in enumerate(row)]


def slow_reorder(row: list[int], share: float, start: float, keys: list[float]) -> list[int]:
    short = floor(share * len(row))
    first = int(start * (len(row) - short))
    stretch = sorted(range(first, first + short + 1), key=lambda place: keys[place])
    return row[:first] + [row[place] for place in stretch] + row[first + short + 1 :]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=6),
    share=st.floats(0, 0.99),
    pads=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_the_operators_equal_their_slow_twins(rows: list[list[int]], share: float, pads: int, seed: int) -> None:
    lengths = np.array([len(row) for row in rows])
    items = np.zeros((len(rows), lengths.max() + pads), np.int64)
    for row, own in zip(items, rows, strict=True):
        row[: len(own)] = own
    rng = generator(seed)
    starts, keys = rng.random(len(rows)), rng.random(items.shape)
    cropped, kept = crop(items, lengths, share, starts)
    masked, shuffled = mask(items, lengths, share, keys, MASK), reorder(items, lengths, share, starts, keys)
    for r, row in enumerate(rows):
        assert cropped[r, : kept[r]].tolist() == slow_crop(row, share, starts[r])
        assert masked[r, : len(row)].tolist() == slow_mask(row, share, keys[r])
        assert shuffled[r, : len(row)].tolist() == slow_reorder(row, share, starts[r], keys[r])
        assert not masked[r, len(row) :].any()
        assert not shuffled[r, len(row) :].any()


def test_views_depend_on_the_row_alone_and_use_every_operator() -> None:
    items = np.arange(1, 9)[None].repeat(300, 0)
    lengths, rows = np.full(300, 8), np.arange(300)
    ids, kept = altered(items, lengths, rows, MASK, SMALL, generator(1))
    some = np.array([250, 3, 77])
    wider = np.pad(items[some], [(0, 0), (0, 2)])
    again, kept_again = altered(wider, lengths[some], rows[some], MASK, SMALL, generator(1))
    assert again[:, :8].tolist() == ids[some].tolist()
    assert kept_again.tolist() == kept[some].tolist()
    operators = Counter(
        "crop" if n == 5 else "mask" if (row == MASK).sum() == 4 else "reorder"
        for row, n in zip(ids, kept, strict=True)
    )
    assert all(70 < operators[name] < 130 for name in ("crop", "mask", "reorder"))  # 100 each, give or take 3.7 sigma
    only, _ = altered(items, lengths, rows, MASK, replace(SMALL, operators=("mask",)), generator(1))
    assert ((only == MASK).sum(axis=1) == 4).all()


# ---- the loss ------------------------------------------------------------------------------------------------------


def test_nt_xent_of_two_orthonormal_rows_against_themselves() -> None:
    # an anchor's cosines: 1 with its other view, 0 with both views of the other row; two times one over tau = 0.5
    expected = log(1 + 2 * exp(-1 / 0.5))  # 0.2395448
    rows = torch.eye(2, dtype=torch.float64)
    assert nt_xent(rows, rows, 0.5).item() == pytest.approx(expected)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(2, 7), seed=st.integers(0, 99), tau=st.sampled_from([0.1, 1.0]))
def test_nt_xent_equals_the_sum_over_anchors(n: int, seed: int, tau: float) -> None:
    rng = generator(seed)
    one, other = torch.from_numpy(rng.normal(size=(n, 4))), torch.from_numpy(rng.normal(size=(n, 4)))
    views = [view / view.norm() for view in (*one, *other)]
    terms = []
    for a in range(2 * n):
        near = exp(float(views[a] @ views[(a + n) % (2 * n)]) / tau)
        others = [exp(float(views[a] @ views[b]) / tau) for b in range(2 * n) if b % n != a % n]
        assert len(others) == 2 * (n - 1)
        terms.append(-log(near / (near + sum(others))))
    assert nt_xent(one, other, tau).item() == pytest.approx(np.mean(terms))
    torch.testing.assert_close(nt_xent(one, other, tau), nt_xent(other, one, tau))


def test_nt_xent_in_blocks_has_the_value_and_gradients_of_the_whole_matrix() -> None:
    torch.manual_seed(0)
    one, other = (torch.randn(190, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))  # 380² > 2^17 cosines
    unit = torch.nn.functional.normalize(torch.cat([one, other]), dim=1)
    cosines = (unit @ unit.T / 0.3).fill_diagonal_(-torch.inf)
    whole = torch.nn.functional.cross_entropy(cosines, torch.arange(380).roll(190))
    expected = torch.autograd.grad(whole, [one, other])
    for chunk_bytes in (1, 7 * 380 * 8, None):  # a view at a time, seven, all
        found = nt_xent(one, other, 0.3, chunk_bytes=chunk_bytes)
        torch.testing.assert_close(found, whole)
        torch.testing.assert_close(torch.autograd.grad(found, [one, other]), expected)


def test_nothing_to_tell_apart_is_a_loss_of_zero_with_a_gradient_of_zero() -> None:
    for rows in (0, 1):
        one = torch.ones(rows, 3, requires_grad=True)
        value = nt_xent(one, one + 1, 0.1)
        value.backward()
        assert value.item() == 0
        assert one.grad is not None
        assert not one.grad.any()


ROWS = [[0, 1, 2], [5, 4, 3, 2, 1, 0, 10, 9], [7, 6], [3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]


@pytest.mark.parametrize("form", ["both", "other"])
def test_the_loss_is_sasrecs_plus_the_weighted_contrast_of_the_views_one_row_at_a_time(form: Any) -> None:
    chosen = replace(SMALL, weight=0.3, temperature=0.7, window="last", negatives_in_batch=form)
    model, rows = model_of(chosen), np.arange(len(ROWS))
    histories = Histories.of(ROWS)
    value, targets = model.loss(model.batch(histories, rows, generator(4, "batch")))  # type: ignore[arg-type]
    plain = SASRec(model.items, replace(chosen)).double()
    plain.load_state_dict({k.replace("layer.", ""): v for k, v in model.sasrec.state_dict().items() if "mask" not in k})
    terms, ids = [], []
    for r in rows:
        loss, own = plain.loss(plain.batch(histories, rows[r : r + 1], generator(4, "batch")))
        terms.append(loss * len(own))
        ids += own.tolist()
    assert sorted(targets.tolist()) == sorted(ids)
    expected = torch.stack(terms).sum() / len(ids)

    drawn = generator(4, "batch").spawn(1)[0]
    views: list[list[torch.Tensor]] = [[], []]
    streams = [drawn.bit_generator.state]
    for view in views:
        drawn.bit_generator.state = streams[-1]
        for r, row in enumerate(ROWS):
            drawn.bit_generator.state = streams[-1]  # each row on its own draws what it drew in company
            inputs = np.array([row[-7:][:-1]])
            ids_L, kept = altered(inputs, np.array([inputs.shape[1]]), rows[r : r + 1], 11, chosen, drawn)
            view.append(model.sasrec.hidden(torch.from_numpy(ids_L[:, : kept[0]]), torch.from_numpy(kept))[0, -1])
        streams.append(drawn.bit_generator.state)
    one, other = (torch.stack(view) for view in views)
    if form == "both":
        contrast = nt_xent(one, other, 0.7)
    else:
        cosines = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=2) / 0.7
        contrast = -cosines.log_softmax(dim=1).diagonal().mean()  # one direction, the B - 1 other rows
    assert value.item() == pytest.approx((expected + 0.3 * contrast).item(), rel=1e-9)


def test_without_weight_it_is_sasrec() -> None:
    histories, rows = Histories.of(ROWS), np.arange(len(ROWS))
    model = model_of(replace(SMALL, weight=0.0, loss="bce", negatives=3, negatives_for="target"))
    plain = SASRec(model.items, model.settings).double()
    plain.load_state_dict({k.replace("layer.", ""): v for k, v in model.sasrec.state_dict().items() if "mask" not in k})
    batch = model.batch(histories, rows, generator(1))
    assert isinstance(batch, CL4SRecBatch)
    assert batch.views == ()
    value, targets = model.loss(batch)
    other, other_targets = plain.loss(plain.batch(histories, rows, generator(1)))
    torch.testing.assert_close(value, other, rtol=1e-12, atol=0)
    assert Counter(targets.tolist()) == Counter(other_targets.tolist())


def test_the_mask_is_a_vector_of_its_own_and_no_item() -> None:
    model = model_of(replace(SMALL, operators=("mask",)))
    assert model.items.n_items == len(model.items.table()) == 11
    assert sum(p.numel() for p in model.parameters()) == 8 + sum(
        p.numel() for p in SASRec(IdEmbeddings(11, 8), SMALL).parameters()
    )
    value, _ = model.loss(model.batch(Histories.of(ROWS), np.arange(5), generator(0)))  # type: ignore[arg-type]
    value.backward()
    own = model.get_parameter("sasrec.items.mask")
    assert own.grad is not None
    assert own.grad.abs().sum() > 0


def test_a_row_without_an_input_has_no_view_and_no_rows_give_zero() -> None:
    model = model_of()
    with_one = model.loss(model.batch(Histories.of([*ROWS, [4]]), np.arange(6), generator(0)))  # type: ignore[arg-type]
    without = model.loss(model.batch(Histories.of(ROWS), np.arange(5), generator(0)))  # type: ignore[arg-type]
    torch.testing.assert_close(with_one[0], without[0])
    value, targets = model.loss(model.batch(Histories.of(ROWS), np.arange(0), generator(0)))  # type: ignore[arg-type]
    value.backward()
    assert (value.item(), len(targets)) == (0, 0)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_pieces_of_similar_length_leave_little_padding() -> None:
    model = model_of(replace(SMALL, max_length=60), n_items=61)
    rows = [list(range(n)) for n in (3, 60, 4, 3, 61, 5, 20, 21)]
    batch = model.batch(Histories.of(rows), np.arange(8), generator(0))
    assert isinstance(batch, CL4SRecBatch)
    places = sum(piece.items_BL.numel() for piece in batch.sequences)
    assert sum(int(piece.mask_BL.sum()) for piece in batch.sequences) / places > 0.8  # 169 of 8 × 60 in one piece
    assert len(batch.restore_V) == 16
    assert sorted(batch.restore_V.tolist()) == list(range(16))


# ---- training ------------------------------------------------------------------------------------------------------


def walks(n_users: int = 30, n_items: int = 11) -> Split:
    lengths = 3 + np.arange(n_users) % 5
    users = np.repeat(np.arange(n_users), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    items = (users * 3 + place) % n_items
    last = np.append(np.diff(users) > 0, True)
    events = Interactions.sorted(users, items, timestamps=place, n_users=n_users, n_items=n_items)
    return Split(events, last.astype(np.uint8), "leave_one_out")


def test_steps_are_never_divided_whatever_micro_batches_says() -> None:
    task = _SequenceTask(model_of(), walks(), TrainSettings(batch_size=16, micro_batches=4), (), {})
    steps = list(task.steps(0, 0, 0, 1))
    assert [len(step.pieces) for step in steps] == [1, 1]
    assert [len(step.pieces[0].restore_V) // 2 for step in steps] == [16, 14]
    assert not steps[0].divisible


def test_it_learns_and_answers(recwarn: pytest.WarningsRecorder) -> None:
    split = walks()
    model = CL4SRec(IdEmbeddings(11, 16), replace(SMALL, dim=16, dropout=0.1))
    training = TrainSettings(epochs=30, batch_size=16, learning_rate=0.01, patience=0)
    result = fit_sequence_model(model, split, training)
    assert result.best_value > 0.7  # the next item round the ring; a random ranking gives about 0.4
    ranked = SequenceRecommender(model, 11).recommend(Histories.of([[1, 2, 3]]), 1)
    assert ranked.items.tolist() == [[4]]
    assert not recwarn.list


def test_a_run_resumed_within_an_epoch_ends_with_the_same_bytes(tmp_path: Path) -> None:
    split, chosen, weights = walks(), replace(SMALL, dropout=0.3, attention_dropout=0.2), []
    for name, stops in (("whole", (7,)), ("resumed", (3, 7))):  # 4 steps an epoch
        for resume, steps in enumerate(stops):
            model = model_of(chosen).float()
            training = TrainSettings(batch_size=8, eval_every=0, max_steps=steps)
            fit_sequence_model(model, split, training, run_dir=tmp_path / name, resume=bool(resume))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": ()}, "at least one of crop, mask, reorder"),
        ({"operators": ("crop", "insert")}, "one of crop, mask, reorder; got 'insert'"),
        ({"crop_share": 1.0}, r"crop-share lies in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"negatives_in_batch": "all"}, "both, other; got 'all'"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_the_selfrec_preset_is_its_sasrec_with_two_crops_and_one_direction() -> None:
    chosen, training = selfrec_cl4srec()
    base, base_training = selfrec_sasrec()
    shared = {field.name for field in fields(base)}
    assert {name: getattr(chosen, name) for name in shared} == {name: getattr(base, name) for name in shared}
    assert training == base_training
    assert (chosen.operators, chosen.crop_share, chosen.negatives_in_batch) == (("crop",), 0.5, "other")
    assert (chosen.weight, chosen.temperature) == (0.05, 1.0)
