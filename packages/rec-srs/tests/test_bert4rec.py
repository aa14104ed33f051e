"""BERT4Rec: what is masked, where answers are read, what pads may not do, and each way back to SELFRec's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.errors import SettingsError
from rec_core.evaluation import evaluate
from rec_core.randomness import generator
from rec_core.testing import check_recommender
from rec_core.testing.datasets import planted_clusters
from rec_core.training import IdEmbeddings, SequenceRecommender, TrainSettings, fit_sequence_model
from rec_core.training.progress import NoProgress
from rec_core.types import Histories, Split
from rec_srs.bert4rec import BERT4Rec, BERT4RecBatch
from rec_srs.config import BERT4RecSettings, Loss
from rec_srs.popular import fit_popular
from rec_srs.presets import selfrec_bert4rec

SMALL = BERT4RecSettings(dim=8, blocks=2, heads=2, max_length=6, dropout=0.0)
CLASSIC = replace(SMALL, encoder="classic", head="none", output_bias=False, positions="from_start")
SELFREC = replace(selfrec_bert4rec()[0], dim=8, max_length=6, dropout=0.0, attention_dropout=0.0)
Rows = list[list[int]]


def with_settings(base: BERT4RecSettings, changes: Mapping[str, object]) -> BERT4RecSettings:
    return replace(base, **changes)  # type: ignore[arg-type]


def model_of(settings: BERT4RecSettings = SMALL, n_items: int = 11, seed: int = 0) -> BERT4Rec:
    """With weights large enough that every part shows in the answer."""
    torch.manual_seed(seed)
    model = BERT4Rec(IdEmbeddings(n_items, settings.dim, std=0.5), settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def answering(model: BERT4Rec, rows: Rows) -> Tensor:
    with torch.inference_mode():
        return model.encode(model.batch(Histories.of(rows), np.arange(len(rows)), None))


def training(model: BERT4Rec, rows: Rows, epoch: int = 0, only: list[int] | None = None) -> BERT4RecBatch:
    picked = np.arange(len(rows)) if only is None else np.array(only)
    return model.batch(Histories.of(rows), picked, generator(0, "batch", epoch))


def read_columns(batch: BERT4RecBatch) -> list[list[int]]:
    """The columns read in each row, without the filling."""
    M = batch.read_BM.shape[1]
    columns: list[list[int]] = [[] for _ in batch.items_BL]
    for place in batch.read_N.tolist():
        columns[place // M].append(int(batch.read_BM[place // M, place % M]))
    return columns


def shown_columns(batch: BERT4RecBatch) -> list[list[int]]:
    """The columns where the mask stands, row by row."""
    L = batch.items_BL.shape[1]
    return [[place % L for place in sorted(batch.shown_S.tolist()) if place // L == r] for r in range(len(batch[0]))]


# ---- a plain twin: one row, all places, loops where the model gathers ----------------------------------------------


def plain_vectors(model: BERT4Rec, tokens: list[int], places: list[int]) -> Tensor:
    """The vectors [L, D] of one row; token -1 is the mask. No padding, no gathering, attention written out."""
    settings = model.settings
    classic = settings.encoder == "classic"
    table = model.items.table()
    h = torch.stack([model.mask if token < 0 else table[token] for token in tokens])
    h = h * (settings.dim**0.5 if classic else 1) + model.positions.weight[places]
    h = h if classic else model.first_norm(h)
    for block in model.blocks:
        assert isinstance(block.query, nn.Linear)
        q = block.attention_norm(h) if classic else h
        heads = []
        for part in range(settings.heads):
            own = slice(part * (settings.dim // settings.heads), (part + 1) * (settings.dim // settings.heads))
            scores = block.query(q)[:, own] @ block.key(h)[:, own].T / (settings.dim // settings.heads) ** 0.5
            heads.append(scores.softmax(dim=-1) @ block.value(h)[:, own])
        attended = block.out(torch.cat(heads, dim=-1))
        h = block.feed_norm(q + attended) if classic else block.attention_norm(h + attended)
        inner = block.inner(h)
        fed = h + block.outer(F.gelu(inner) if settings.activation == "gelu" else F.relu(inner))
        h = fed if classic else block.feed_norm(fed)
    result: Tensor = model.head(model.last_norm(h))
    return result


def places_of(model: BERT4Rec, length: int) -> list[int]:
    first = model.width - length if model.settings.positions == "from_end" else 0
    return list(range(first, first + length))


@pytest.mark.parametrize("base", [SMALL, CLASSIC, replace(CLASSIC, activation="relu"), replace(SMALL, head="none")])
@settings(deadline=None, max_examples=8)
@given(rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=4))
def test_answers_are_those_of_the_plain_network_that_reads_an_appended_mask(base: BERT4RecSettings, rows: Rows) -> None:
    model = model_of(base)
    got = answering(model, rows)
    for r, row in enumerate(rows):
        tokens = [*row[-model.max_length :], -1]
        expected = plain_vectors(model, tokens, places_of(model, len(tokens)))[-1]
        torch.testing.assert_close(got[r], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", [SMALL, CLASSIC, replace(SMALL, random_share=0.3, kept_share=0.3)])
def test_the_loss_and_its_gradients_are_those_of_the_plain_network(base: BERT4RecSettings) -> None:
    model = model_of(replace(base, mask_share=0.5))
    rows = [[0, 1, 2], [5, 4, 3, 2, 1, 0, 10, 9, 8], [7, 6], [9]]
    batch = training(model, rows)
    value, targets = model.loss(batch)
    terms, expected, row_of = [], [], iter(batch.items_BL.tolist())
    for row, columns, shown in zip(rows, read_columns(batch), shown_columns(batch), strict=True):
        length = min(len(row), 7)
        tokens = next(row_of)[:length]
        tokens = [-1 if column in shown else token for column, token in enumerate(tokens)]
        vectors = plain_vectors(model, tokens, places_of(model, length))
        starts = range(len(row) - length + 1)
        window = next(row[i : i + length] for i in starts if _fits(row[i : i + length], tokens))
        for column in columns:
            bias = 0 if model.bias is None else model.bias
            logits = vectors[column] @ model.items.table().T + bias
            terms.append(F.cross_entropy(logits, torch.tensor(window[column])))
            expected.append(window[column])
    assert targets.tolist() == expected
    plain = torch.stack(terms).mean()
    assert value.item() == pytest.approx(plain.item(), rel=1e-6)
    parameters = list(model.parameters())
    gradients = zip(torch.autograd.grad(value, parameters), torch.autograd.grad(plain, parameters), strict=True)
    for a, b in gradients:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def _fits(window: list[int], tokens: list[int]) -> bool:
    """Whether most tokens are the window's: masks hide some, and random items stand in for others."""
    return sum(a == b for a, b in zip(window, tokens, strict=True)) >= sum(t >= 0 for t in tokens) - 2


# ---- padding, grouping ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_row_alone_equals_the_row_in_a_padded_batch(rows: Rows) -> None:
    model = model_of()
    together = answering(model, rows)
    for r, row in enumerate(rows):
        torch.testing.assert_close(together[r : r + 1], answering(model, [row]), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(junk=st.integers(0, 10), pads=st.integers(1, 3))
def test_what_stands_at_the_pads_changes_nothing(junk: int, pads: int) -> None:
    model = model_of()
    batch = model.batch(Histories.of([[3, 1, 4], [2] * (3 + pads)]), np.array([0, 1]), None)
    items_BL, places_BL = batch.items_BL.clone(), batch.places_BL.clone()
    items_BL[0, 4:], places_BL[0, 4:] = junk, 0
    with torch.inference_mode():
        got = model.encode(batch._replace(items_BL=items_BL, places_BL=places_BL))
        torch.testing.assert_close(got, model.encode(batch), rtol=1e-12, atol=1e-12)


def test_a_longer_max_length_changes_nothing_for_a_short_history() -> None:
    # positions from_end: the rows of the position table that are used lie at its end
    short, long = model_of(), model_of(replace(SMALL, max_length=20))
    long.load_state_dict({name: t for name, t in short.state_dict().items() if "positions" not in name}, strict=False)
    with torch.no_grad():
        long.positions.weight[-7:] = short.positions.weight
    torch.testing.assert_close(answering(short, [[3, 1, 4]]), answering(long, [[3, 1, 4]]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("negatives_for", ["batch", "target", "catalogue"])
def test_any_loss_is_the_same_however_the_rows_are_grouped(loss: Loss, negatives_for: str) -> None:
    changes = {"loss": loss, "negatives": 3, "negatives_for": negatives_for, "random_share": 0.2, "kept_share": 0.2}
    model = model_of(with_settings(SMALL, changes), n_items=30)
    rows = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5, 6], [7, 8, 9]]

    def total(only: list[int]) -> Tensor:
        value, targets = model.loss(training(model, rows, epoch=3, only=only))
        return value * len(targets)

    parameters = list(model.parameters())
    whole, pieces = total([0, 1, 2]), total([2, 0]) + total([1])
    torch.testing.assert_close(pieces, whole, rtol=1e-6, atol=1e-8)
    gradients = zip(torch.autograd.grad(pieces, parameters), torch.autograd.grad(whole, parameters), strict=True)
    for a, b in gradients:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


# ---- masks ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=5),
    share=st.sampled_from([0.05, 0.2, 0.6]),
    count=st.sampled_from(["rounded", "floor", "chance"]),
    epoch=st.integers(0, 50),
)
def test_every_row_has_at_least_one_mask_and_the_wanted_number(
    lengths: list[int], share: float, count: str, epoch: int
) -> None:
    model = model_of(with_settings(SMALL, {"mask_share": share, "mask_count": count, "last_share": 0.0}), n_items=12)
    rows = [list(range(length)) for length in lengths]
    batch = training(model, rows, epoch)
    columns = read_columns(batch)
    assert columns == shown_columns(batch)
    for length, row in zip(lengths, columns, strict=True):
        n = min(length, 7)
        assert len(row) >= 1
        assert all(column < n for column in row)
        if count == "rounded":
            assert len(row) == max(1, round(share * n))
        if count == "floor":
            assert len(row) == max(1, int(share * n))


def test_masks_depend_on_seed_epoch_and_row_alone() -> None:
    model = model_of(replace(SMALL, random_share=0.3), n_items=40)
    rows = [[1, 2, 3, 4, 5, 6], [7, 8, 9], list(range(20, 40))]
    together = training(model, rows, epoch=4)
    alone = training(model, rows, epoch=4, only=[1])
    assert read_columns(alone)[0] == read_columns(together)[1]
    assert shown_columns(alone)[0] == shown_columns(together)[1]
    assert alone.items_BL[0].tolist() == together.items_BL[1, :3].tolist()
    differ = [read_columns(training(model, rows, epoch)) for epoch in range(8)]
    assert len({str(columns) for columns in differ}) > 4


def test_every_event_of_every_window_is_masked_sooner_or_later_and_about_equally_often() -> None:
    model = model_of(replace(SMALL, last_share=0.0, mask_share=0.3, max_length=9), n_items=12)
    counts = np.zeros(10)
    for epoch in range(1000):
        counts[read_columns(training(model, [list(range(10))], epoch))[0]] += 1
    # 3 of 10 places in 1000 epochs: 300 each, standard deviation sqrt(1000 * .3 * .7) = 14.5
    assert np.abs(counts - 300).max() < 5 * 14.5


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_wanted_share_of_windows_masks_its_last_event_alone(share: float) -> None:
    model = model_of(replace(SMALL, last_share=share, mask_share=0.6), n_items=12)
    rows = [list(range(6))] * 2000
    last = [columns == [5] for columns in read_columns(training(model, rows))]
    # four of six are masked otherwise, so [5] alone says that the draw was for the last event
    assert np.mean(last) == pytest.approx(share, abs=5 * (0.25 / 2000) ** 0.5)


def test_masked_events_show_the_mask_a_random_item_or_themselves_in_the_wanted_shares() -> None:
    changes = {"random_share": 0.3, "kept_share": 0.2, "mask_share": 0.5, "last_share": 0.0, "max_length": 40}
    model = model_of(with_settings(SMALL, changes), n_items=1000)
    rows = [list(range(500, 540))] * 100
    batch = training(model, rows)
    assert batch.targets_N is not None
    n = len(batch.targets_N)
    assert n == 100 * 20
    shown = {(place // 40, place % 40) for place in batch.shown_S.tolist()}
    columns = read_columns(batch)
    visible = [(r, c) for r, row in enumerate(columns) for c in row if (r, c) not in shown]
    kept = [int(batch.items_BL[r, c]) == 500 + c for r, c in visible]
    bound = 5 * (0.25 / n) ** 0.5
    assert len(shown) / n == pytest.approx(0.5, abs=bound)
    assert sum(kept) / n == pytest.approx(0.2, abs=bound)
    replaced = [int(batch.items_BL[r, c]) for (r, c), same in zip(visible, kept, strict=True) if not same]
    assert min(replaced) < 100  # from the whole catalogue
    assert max(replaced) > 900
    assert (batch.targets_N == torch.tensor([500 + c for row in columns for c in row])).all()


def test_the_scale_of_the_loss_does_not_depend_on_the_number_of_masks() -> None:
    rows = [list(range(6))] * 20
    values = []
    for share in (0.2, 0.5, 0.9):
        model = model_of(replace(SMALL, mask_share=share, last_share=0.0))
        with torch.no_grad():
            model.items.table().zero_()  # every item equally likely: log 11 each
            model.bias.zero_()  # type: ignore[union-attr]
        values.append(model.loss(training(model, rows))[0].item())
    assert values == pytest.approx([np.log(11)] * 3, rel=1e-5)


def test_windows_golden_lengths() -> None:
    # 50 are read beside the mask, so a window has 51: of n = 60 events 9..59; a lone event has no target
    model = model_of(replace(SMALL, max_length=50, window="last", last_share=1.0), n_items=60)
    for n, width, targets in ((60, 51, 1), (51, 51, 1), (50, 50, 1), (2, 2, 1), (1, 1, 0)):
        batch = training(model, [list(range(n))])
        assert batch.items_BL.shape == (1, width)
        assert batch.places_BL[0, -1] == 50  # the newest place, where answering puts the mask
        assert batch.targets_N is not None
        assert batch.targets_N.tolist() == [n - 1] * targets
        if n > 2:
            assert batch.items_BL[0, 0] == n - width


def test_random_windows_reach_every_event_and_last_ones_do_not() -> None:
    rows = [list(range(12))]
    seen: dict[str, set[int]] = {"random": set(), "last": set()}
    for window, events in seen.items():
        model = model_of(with_settings(SMALL, {"max_length": 4, "window": window}), n_items=12)
        for epoch in range(60):
            batch = training(model, rows, epoch)
            assert batch.targets_N is not None
            events |= set(batch.targets_N.tolist())
    assert seen == {"random": set(range(12)), "last": set(range(7, 12))}


def test_a_batch_without_a_target_has_zero_loss_and_gradient() -> None:
    model = model_of()
    value, targets = model.loss(training(model, [[3]]))
    value.backward()
    assert value.item() == 0
    assert len(targets) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# ---- answering -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["from_end", "from_start"])
@pytest.mark.parametrize("n", [1, 3, 5, 6, 7, 20])
def test_the_answer_is_read_at_the_mask_however_long_the_history(positions: str, n: int) -> None:
    model = model_of(with_settings(SMALL, {"positions": positions}), n_items=20)
    batch = model.batch(Histories.of([list(range(n))]), np.array([0]), None)
    slot = min(n, 6)
    assert read_columns(batch) == shown_columns(batch) == [[slot]]
    assert batch.items_BL[0, :slot].tolist() == list(range(n))[-6:]
    assert int(batch.places_BL[0, slot]) == (6 if positions == "from_end" else slot)
    # The same seen from outside: with vectors that say their column, the score names the mask's column.
    model.blocks, model.head = nn.ModuleList([_Columns()]), nn.Identity()  # type: ignore[assignment]
    assert int(model.encode(batch)[0].argmax()) == slot


class _Columns(nn.Module):
    """A block whose vector at a column is the column's one-hot."""

    def forward(self, hidden_BLD: Tensor, bias: object, read: tuple[Tensor, Tensor]) -> Tensor:
        return F.one_hot(read[0].flatten()[read[1]], 8).double()


def test_the_bias_is_part_of_the_score() -> None:
    model = model_of()
    assert model.bias is not None
    recommender = SequenceRecommender(model.float())
    histories = Histories.of([[1, 2], [3, 4, 5]])
    vectors, table, bias = (
        x.detach().numpy() for x in (answering(model, [[1, 2], [3, 4, 5]]).clone(), model.items.table(), model.bias)
    )
    np.testing.assert_allclose(recommender.score_all(histories), vectors @ table.T + bias, rtol=1e-5, atol=1e-5)
    assert recommender.user_vectors(histories).shape == (2, 9)
    bare = model_of(replace(SMALL, output_bias=False)).float()
    assert bare.item_bias() is None
    assert SequenceRecommender(bare).item_vectors().shape == (11, 8)


def test_dropout_acts_in_training_only() -> None:
    for changes in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        model = model_of(with_settings(SMALL, changes))
        batch = model.batch(Histories.of([[1, 2, 3]]), np.array([0]), None)
        assert torch.equal(model.encode(batch), model.encode(batch))
        model.train()
        assert not torch.equal(model.encode(batch), model.encode(batch))


@pytest.mark.parametrize("encoder", ["bert", "classic"])
def test_the_inside_of_the_feed_forward_part_is_dropped_only_when_told_to(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("rec_srs.bert4rec.dropout", lambda x, share, training: (seen.append(x.shape[-1]), x)[1])
    for inside, times in ((False, 0), (True, 2)):  # two blocks
        seen.clear()
        model = model_of(with_settings(SMALL, {"encoder": encoder, "inner_dropout": inside}))
        for block in model.blocks:
            block.inner, block.outer = nn.Linear(8, 5).double(), nn.Linear(5, 8).double()  # a width of its own
        answering(model, [[1, 2]])
        assert seen.count(5) == times
        # besides: the input, each feed-forward part's result and, in BERT's blocks, that of attention
        assert seen.count(8) == 1 + 2 * (2 if encoder == "bert" else 1)


def test_maps_start_as_the_settings_say() -> None:
    # Xavier: uniform to sqrt(6 / (64 + 256)) = 0.137, deviation 0.137 / sqrt(3) = 0.079; small: 0.02 cut at 0.04
    for weights, deviation, most in (("xavier", 0.079, 0.137), ("small", 0.0176, 0.04)):
        torch.manual_seed(0)
        made = BERT4Rec(IdEmbeddings(5, 64), with_settings(SMALL, {"dim": 64, "weights": weights}))
        inner = made.blocks[0].inner
        assert isinstance(inner, nn.Linear)
        assert inner.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert inner.weight.abs().max().item() == pytest.approx(most, rel=0.01)
        assert not inner.bias.any()
    # with initial_std 0 the mask starts like a row of a Xavier-uniform table of n + 2 rows: to sqrt(6 / (5 + 2 + 64))
    drawn = BERT4Rec(IdEmbeddings(5, 64), with_settings(SMALL, {"dim": 64, "initial_std": 0.0}))
    assert drawn.mask.abs().max().item() == pytest.approx((6 / 71) ** 0.5, rel=0.1)


# ---- as SELFRec has it ---------------------------------------------------------------------------------------------


def test_selfrec_masks_the_floor_of_half_of_the_window_without_its_last_event() -> None:
    model = model_of(SELFREC, n_items=20)  # max_length 6: SELFRec's max_len 7
    for n, inputs, masks in ((20, 6, 3), (7, 6, 3), (6, 5, 2), (2, 1, 1)):
        batch = training(model, [list(range(n))])
        assert batch.targets_N is not None
        assert len(batch.targets_N) == masks  # max(floor(inputs / 2), 1)
        assert n - 1 not in batch.targets_N.tolist()
        assert batch.items_BL.shape == (1, 7)
        assert batch.real_BL is not None
        assert int(batch.real_BL.sum()) == inputs
        assert batch.places_BL[0, :inputs].tolist() == list(range(inputs))


def test_selfrec_reads_short_histories_at_their_last_event_and_full_ones_at_the_mask() -> None:
    model = model_of(SELFREC, n_items=20)
    for n, read, places in ((3, 2, [0, 1, 2, 3]), (6, 5, [0, 1, 2, 3, 4, 5, 6]), (7, 6, [1, 2, 3, 4, 5, 6, 6])):
        batch = model.batch(Histories.of([list(range(n))]), np.array([0]), None)
        assert read_columns(batch) == [[read]]
        assert shown_columns(batch) == [[min(n, 6)]]
        assert batch.places_BL[0, : len(places)].tolist() == places
    assert batch.items_BL[0, :6].tolist() == [1, 2, 3, 4, 5, 6]  # the oldest made room


def test_without_a_padding_mask_pads_are_looked_at_and_the_batch_does_not_matter() -> None:
    looked, hidden = model_of(SELFREC), model_of(replace(SELFREC, padding_mask=True))
    assert not torch.allclose(answering(looked, [[1, 2]]), answering(hidden, [[1, 2]]))
    full = [[1, 2, 3, 4, 5, 6, 7]]
    torch.testing.assert_close(answering(looked, full), answering(hidden, full))
    # what a pad holds is zero, so it is the same pad for everybody
    both = answering(looked, [[1, 2], full[0]])
    torch.testing.assert_close(both[:1], answering(looked, [[1, 2]]), rtol=1e-9, atol=1e-9)


def test_the_parity_loss_divides_twice_counts_special_rows_and_adds_the_norm() -> None:
    model = model_of(SELFREC)
    assert model.padding is not None
    batch = training(model, [[1, 2, 3, 4, 5, 6], [4, 3, 2, 1]])
    value, targets = model.loss(batch)
    table = torch.cat([model.items.table(), model.mask[None], model.padding[None]])
    mean = F.cross_entropy(model.read(batch) @ table.T, targets)
    norm = table.square().sum().sqrt()
    # two rows of 5 and 3 inputs: 2 + 1 targets; 11 items + 2 special rows
    assert len(targets) == 3
    assert value.item() == pytest.approx((mean / 3 + 1e-4 * norm / 13).item(), rel=1e-6)
    once = model_of(replace(SELFREC, divide_twice=False, special_rows=False, l2=0.0))
    value, targets = once.loss(batch)
    assert value.item() == pytest.approx(F.cross_entropy(once.read(batch) @ once.items.table().T, targets).item())


def test_the_selfrec_preset_is_trained_as_selfrec_trains() -> None:
    settings, plan = selfrec_bert4rec()
    assert plan is not None
    # its 50 slots are 49 events and the mask
    assert (settings.max_length, settings.blocks, settings.heads, settings.dropout) == (49, 2, 1, 0.2)
    assert (plan.batch_size, plan.optimiser, plan.clip_norm, plan.micro_batches) == (256, "adam", 0, 1)


# ---- learning ------------------------------------------------------------------------------------------------------

QUICK = BERT4RecSettings(dim=16, blocks=1, max_length=10, dropout=0.1, mask_share=0.4, last_share=0.3)


def trained(split: Split, seed: int, settings: BERT4RecSettings = QUICK, epochs: int = 25) -> SequenceRecommender:
    torch.manual_seed(seed)
    model = BERT4Rec(IdEmbeddings(split.n_items, settings.dim), settings)
    plan = TrainSettings(epochs=epochs, batch_size=32, micro_batches=1, learning_rate=1e-2, eval_every=0, seed=seed)
    fit_sequence_model(model, split, plan, progress=NoProgress())
    return SequenceRecommender(model)


def test_it_names_the_next_item_of_a_ring_far_better_than_popularity() -> None:
    split = planted_clusters(n_users=120).split
    held_out = split.held_out("test")
    ours, popular = (
        evaluate(recommender, held_out, train=split.train, ks=(5,)).summary()["ndcg@5"]
        for recommender in (trained(split, 0), fit_popular(split.train))
    )
    assert ours > 0.5 > 2 * popular


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    split = planted_clusters().split

    def weights(directory: Path, epochs: int, resume: bool = False) -> dict[str, Tensor]:
        torch.manual_seed(1)
        model = BERT4Rec(IdEmbeddings(split.n_items, QUICK.dim), QUICK)
        plan = TrainSettings(epochs=epochs, batch_size=16, seed=1, patience=0)
        fit_sequence_model(model, split, plan, run_dir=directory, resume=resume, progress=NoProgress())
        return model.state_dict()

    whole = weights(tmp_path / "whole", 4)
    weights(tmp_path / "halves", 2)
    halves = weights(tmp_path / "halves", 4, resume=True)
    assert all(torch.equal(halves[name], whole[name]) for name in whole)


@pytest.mark.parametrize("settings", [QUICK, replace(SELFREC, max_length=10)])
def test_it_keeps_the_contract_of_a_recommender(settings: BERT4RecSettings) -> None:
    check_recommender(lambda split, seed: trained(split, seed, settings, epochs=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, r"heads \(3\) must divide dim \(8\)"),
        ({"mask_share": 0.0}, "mask-share lies between 0 and 1"),
        ({"mask_count": "some"}, "mask-count is one of rounded, floor, chance"),
        ({"last_share": 1.5}, r"last-share lies in \[0, 1\]"),
        ({"random_share": 0.6, "kept_share": 0.6}, "together are at most 1"),
        ({"special_rows": True, "loss": "bce"}, "set loss softmax; got bce"),
        ({"loss": "bce", "negatives": 1, "negatives_for": "row"}, "choose batch, target or catalogue"),
        ({"answer": "selfrec"}, "set positions from_start"),
        ({"encoder": "gpt"}, "encoder is one of bert, classic"),
        ({"weights": "large"}, "weights is one of xavier, small"),
        ({"activation": "tanh"}, "activation is one of gelu, relu"),
        ({"head": "two"}, "head is one of projection, none"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"l2": -1.0}, "l2 must be at least 0"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        with_settings(SMALL, change)
