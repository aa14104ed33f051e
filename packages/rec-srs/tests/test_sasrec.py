"""SASRec: what it may see, what padding may not do, and that its loss is the plain one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import SettingsError
from rec_core.randomness import generator
from rec_core.training import IdEmbeddings
from rec_core.types import Histories
from rec_srs import SASRec, SASRecSettings
from rec_srs.config import classic_sasrec

SMALL = SASRecSettings(dim=8, blocks=2, heads=2, max_length=6, dropout=0.0)


def model_of(settings: SASRecSettings = SMALL, n_items: int = 11, seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(IdEmbeddings(n_items, settings.dim), settings).double().eval()


def vectors(model: SASRec, rows: list[list[int]]) -> torch.Tensor:
    with torch.inference_mode():
        return model.encode(model.batch(Histories.of(rows), np.arange(len(rows)), None))


@pytest.mark.parametrize("positions", ["from_end", "from_start"])
@settings(deadline=None, max_examples=30)
@given(row=st.lists(st.integers(0, 10), min_size=2, max_size=6), at=st.integers(1, 5), other=st.integers(0, 10))
def test_changing_an_event_never_changes_a_vector_before_it(
    positions: str, row: list[int], at: int, other: int
) -> None:
    model = model_of(replace(SMALL, positions=positions))  # type: ignore[arg-type]
    at = min(at, len(row) - 1)
    changed = [*row[:at], other, *row[at + 1 :]]
    lengths = torch.tensor([len(row)])
    with torch.inference_mode():
        before = model.hidden(torch.tensor([row]), lengths)[:, :at]
        after = model.hidden(torch.tensor([changed]), lengths)[:, :at]
    torch.testing.assert_close(before, after, rtol=0, atol=0)


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_row_alone_equals_the_row_in_a_padded_batch(rows: list[list[int]]) -> None:
    model = model_of()
    together = vectors(model, rows)
    for r, row in enumerate(rows):
        torch.testing.assert_close(together[r : r + 1], vectors(model, [row]), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(pads=st.integers(1, 5), junk=st.integers(0, 10))
def test_what_stands_at_the_pads_changes_nothing(pads: int, junk: int) -> None:
    model = model_of(replace(SMALL, max_length=9))
    row = [3, 1, 4]
    lengths = torch.tensor([3])
    with torch.inference_mode():
        bare = model.hidden(torch.tensor([row]), lengths)
        padded = model.hidden(torch.tensor([row + [junk] * pads]), lengths)[:, :3]
    torch.testing.assert_close(bare, padded, rtol=1e-9, atol=1e-9)


def test_only_the_newest_max_length_events_are_read() -> None:
    model = model_of()
    long = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    torch.testing.assert_close(vectors(model, [long]), vectors(model, [long[-6:]]))


def test_the_loss_is_the_mean_cross_entropy_of_every_next_event() -> None:
    model = model_of(replace(SMALL, window="last"))
    rows = [[0, 1, 2], [5, 4, 3, 2, 1, 0, 10, 9], [7]]
    value, targets = model.loss(model.batch(Histories.of(rows), np.arange(3), generator(0, "batch")))
    table = model.items.table().detach().numpy()
    terms, expected_targets = [], []
    for row in rows:
        window = row[-7:]  # six inputs and the last target
        hidden = model.hidden(torch.tensor([window[:-1] or [0]]), torch.tensor([len(window) - 1])).detach().numpy()[0]
        for t in range(len(window) - 1):
            logits = table @ hidden[t]
            terms.append(np.log(np.exp(logits).sum()) - logits[window[t + 1]])
            expected_targets.append(window[t + 1])
    assert targets.tolist() == expected_targets
    assert value.item() == pytest.approx(np.mean(terms), rel=1e-6)


def test_windows_golden_lengths() -> None:
    # n = 60 events, 50 read: inputs are events 9..58, targets 10..59; two events make one target, one event none
    model = model_of(replace(SMALL, max_length=50, window="last"), n_items=60)
    for n, positions in ((60, 50), (51, 50), (50, 49), (2, 1), (1, 0)):
        batch = model.batch(Histories.of([list(range(n))]), np.array([0]), generator(0, "batch"))
        assert int(batch.mask_BL.sum()) == positions
        if positions:
            assert batch.targets_BL is not None
            assert batch.targets_BL[0, -1] == n - 1
            assert batch.items_BL[0, 0] == n - 1 - positions


def test_random_windows_reach_every_event_and_depend_on_the_row_alone() -> None:
    model = model_of(replace(SMALL, max_length=4, window="random"), n_items=12)
    histories = Histories.of([list(range(12)), list(range(11, -1, -1)), [3, 2]])
    seen = set()
    for epoch in range(40):
        batch = model.batch(histories, np.array([0, 1, 2]), generator(0, "batch", epoch))
        alone = model.batch(histories, np.array([1]), generator(0, "batch", epoch))
        assert alone.items_BL.tolist()[0] == batch.items_BL.tolist()[1]
        assert batch.targets_BL is not None
        assert (batch.targets_BL[0] - batch.items_BL[0] == 1).all()  # a window is consecutive
        assert int(batch.mask_BL[2].sum()) == 1
        seen |= set(batch.items_BL[0].tolist()) | set(batch.targets_BL[0].tolist())
    assert seen == set(range(12))


def test_a_batch_without_a_target_has_zero_loss_and_gradient() -> None:
    model = model_of()
    value, targets = model.loss(model.batch(Histories.of([[3]]), np.array([0]), generator(0, "batch")))
    value.backward()
    assert value.item() == 0
    assert len(targets) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_dropout_acts_in_training_only() -> None:
    model = model_of(replace(SMALL, dropout=0.5, attention_dropout=0.5))
    batch = model.batch(Histories.of([[1, 2, 3]]), np.array([0]), None)
    assert torch.equal(model.encode(batch), model.encode(batch))
    model.train()
    assert not torch.equal(model.encode(batch), model.encode(batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 9}, r"heads \(2\) must divide dim \(9\)"),
        ({"dropout": 1.0}, r"dropout lies in \[0, 1\)"),
        ({"max_length": 0}, "max-length must be at least 1"),
        ({"positions": "middle"}, "positions: from_end or from_start"),
        ({"window": "first"}, "window is last or random"),
        ({"blocks": 0}, "blocks must be at least 1"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_the_classic_preset_reads_the_newest_events_with_light_dropout() -> None:
    classic = classic_sasrec()
    assert (classic.window, classic.dropout, classic.dim, classic.max_length) == ("last", 0.1, 64, 200)
