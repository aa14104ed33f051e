"""SASRec: what it may see, what padding may not do, and that its loss is the plain one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, SettingsError
from rec_core.randomness import generator
from rec_core.testing.datasets import planted_clusters
from rec_core.training import IdEmbeddings, TrainSettings, fit_sequence_model
from rec_core.types import Histories
from rec_srs import SASRec, SASRecSettings, blocks, presets
from rec_srs.blocks import Layout, attend

SMALL = SASRecSettings(dim=8, blocks=2, heads=2, max_length=6, dropout=0.0)
BLOCKS = ["classic", "prenorm", "ligr"]


def model_of(settings: SASRecSettings = SMALL, n_items: int = 11, seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(IdEmbeddings(n_items, settings.dim), settings).double().eval()


def vectors(model: SASRec, rows: list[list[int]]) -> torch.Tensor:
    with torch.inference_mode():
        return model.encode(model.batch(Histories.of(rows), np.arange(len(rows)), None))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("positions", ["from_end", "from_start"])
@settings(deadline=None, max_examples=15)
@given(row=st.lists(st.integers(0, 10), min_size=2, max_size=6), at=st.integers(1, 5), other=st.integers(0, 10))
def test_changing_an_event_never_changes_a_vector_before_it(
    positions: Any, block: Any, row: list[int], at: int, other: int
) -> None:
    model = model_of(replace(SMALL, positions=positions, block=block))
    at = min(at, len(row) - 1)
    changed = [*row[:at], other, *row[at + 1 :]]
    lengths = torch.tensor([len(row)])
    with torch.inference_mode():
        before = model.hidden(torch.tensor([row]), lengths)[:, :at]
        after = model.hidden(torch.tensor([changed]), lengths)[:, :at]
    torch.testing.assert_close(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("positions", ["from_end", "from_start"])
@settings(deadline=None, max_examples=10)
@given(rows=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_row_alone_equals_the_row_in_a_padded_batch(
    positions: Any, block: Any, causal: bool, rows: list[list[int]]
) -> None:
    model = model_of(replace(SMALL, positions=positions, block=block, causal=causal))
    together = vectors(model, rows)
    for r, row in enumerate(rows):
        torch.testing.assert_close(together[r : r + 1], vectors(model, [row]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("positions", ["from_end", "from_start"])
@pytest.mark.parametrize("packed", [True, False])
@settings(deadline=None, max_examples=5)
@given(pads=st.integers(1, 5), junk=st.integers(0, 10))
def test_what_stands_at_the_pads_changes_nothing(
    packed: bool, positions: Any, block: Any, causal: bool, pads: int, junk: int
) -> None:
    model = model_of(replace(SMALL, max_length=9, positions=positions, block=block, causal=causal))
    row = [3, 1, 4]
    lengths = torch.tensor([3])
    with torch.inference_mode():
        bare = model.hidden(torch.tensor([row]), lengths)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "PACK_BELOW", 2.0 if packed else 0.0)
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


def test_selfrecs_length_of_50_has_49_inputs_and_targets() -> None:
    # n = 60: inputs are items 11..59 and targets 12..60, counted from 1
    chosen = replace(SMALL, max_length=presets.selfrec_sasrec()[0].max_length, window="last")
    model = model_of(chosen, n_items=61)
    for n, positions in ((60, 49), (50, 49), (2, 1)):
        batch = model.batch(Histories.of([list(range(1, n + 1))]), np.array([0]), generator(0, "batch"))
        assert batch.targets_BL is not None
        assert batch.items_BL.tolist() == [list(range(n - positions, n))]
        assert batch.targets_BL.tolist() == [list(range(n - positions + 1, n + 1))]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("positions", ["from_end", "from_start"])
def test_a_longer_max_length_changes_nothing_for_a_short_history(positions: Any, causal: bool) -> None:
    short = model_of(replace(SMALL, positions=positions, causal=causal))
    long = model_of(replace(short.settings, max_length=20))
    long.load_state_dict({name: t for name, t in short.state_dict().items() if "positions" not in name}, strict=False)
    with torch.no_grad():  # the rows of the position table that both use
        own = slice(-6, None) if positions == "from_end" else slice(6)
        long.positions.weight[own] = short.positions.weight
    torch.testing.assert_close(vectors(short, [[3, 1, 4]]), vectors(long, [[3, 1, 4]]), rtol=1e-12, atol=1e-12)


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
        ({"block": "postnorm"}, "block is one of classic, prenorm, ligr"),
        ({"inner_width": -1}, "inner-width must be at least 0"),
        ({"l2": -1.0}, "l2 must be at least 0"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


# ---- the blocks against their formulas ---------------------------------------------------------------------------


def attention_twin(block: Any, queries: torch.Tensor, sources: torch.Tensor, causal: bool) -> torch.Tensor:
    """One row, one position and one head after the other."""
    n, dim = sources.shape
    heads = block.options.heads
    width = dim // heads
    query, key, value = block.query(queries), block.key(sources), block.value(sources)
    mixed = torch.zeros(n, dim, dtype=sources.dtype)
    for t in range(n):
        for h in range(heads):
            of = slice(h * width, (h + 1) * width)
            seen = range(t + 1 if causal else n)
            weights = torch.stack([query[t, of] @ key[s, of] / width**0.5 for s in seen]).exp()
            mixed[t, of] = sum(w * value[s, of] for w, s in zip(weights / weights.sum(), seen, strict=True))
    return mixed if block.out is None else block.out(mixed)


def model_twin(model: SASRec, row: list[int]) -> torch.Tensor:
    """SASRec on one row without pads, block by block as the papers write them."""
    chosen = model.settings
    places = torch.arange(len(row))
    if chosen.positions == "from_end":
        places = places + chosen.max_length - len(row)
    h = model.items(torch.tensor(row)) * (chosen.dim**0.5 if chosen.scale_embeddings else 1)
    h = h + model.positions(places)
    for block in model.blocks:
        if chosen.block == "classic":
            q = block.attention_norm(h)
            h = block.feed_norm(q + attention_twin(block, q, h, chosen.causal))
            h = h + block.outer(torch.relu(block.inner(h)))
            continue
        x = block.attention_norm(h)
        mixed = attention_twin(block, x, x, chosen.causal)
        if chosen.block == "prenorm":
            h = h + mixed
            h = h + block.outer(torch.nn.functional.gelu(block.inner(block.feed_norm(h))))
        else:
            h = h + torch.sigmoid(block.attention_gate(h)) * mixed
            x = block.feed_norm(h)
            gated = block.inner_gate(x)
            swiglu = block.outer(gated * torch.sigmoid(gated) * block.inner(x))
            h = h + torch.sigmoid(block.feed_gate(h)) * swiglu
    return model.last_norm(h) if chosen.final_norm else h


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"positions": "from_start", "output_projection": False},
        {"causal": False, "scale_embeddings": False, "inner_width": 5, "final_norm": False},
    ],
    ids=["default", "original", "open"],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_vectors_and_gradients_are_those_of_the_formulas(
    block: Any, change: dict[str, Any], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "PACK_BELOW", 2.0 if packed else 0.0)
    rows = [[3, 1, 4, 1, 5], [9], [2, 6]]
    model = model_of(replace(SMALL, block=block, **change))
    for parameter in model.parameters():  # biases and norms too: fresh ones are 0 and 1
        torch.nn.init.normal_(parameter, std=0.5)
    padded = torch.tensor([row + [7] * (5 - len(row)) for row in rows])
    found = model.hidden(padded, torch.tensor([5, 1, 2]))
    expected = [model_twin(model, row) for row in rows]
    for r, wanted in enumerate(expected):
        torch.testing.assert_close(found[r, : len(rows[r])], wanted, rtol=1e-9, atol=1e-9)
    down = torch.randn(8, 8, dtype=torch.float64)
    gradients = []
    for vectors_ND in (torch.cat([found[r, : len(row)] for r, row in enumerate(rows)]), torch.cat(expected)):
        model.zero_grad()
        (vectors_ND * down).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for name, ours, theirs in zip(dict(model.named_parameters()), *gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-8), name


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_newest_vector_alone_is_the_last_of_all_vectors(
    block: Any, causal: bool, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "PACK_BELOW", 2.0 if packed else 0.0)
    model = model_of(replace(SMALL, block=block, causal=causal))
    rows = [[3, 1, 4, 1, 5], [9], [2, 6], [8, 8, 8]]
    batch = model.batch(Histories.of(rows), np.arange(4), None)
    lengths = batch.mask_BL.sum(dim=1)
    found, every = model.encode(batch), model.hidden(batch.items_BL, lengths)
    torch.testing.assert_close(found, every[torch.arange(4), lengths - 1], rtol=1e-9, atol=1e-9)


def test_an_open_model_sees_what_comes_after() -> None:
    model = model_of(replace(SMALL, causal=False))
    lengths = torch.tensor([3])
    one, other = (model.hidden(torch.tensor([[1, 2, last]]), lengths)[0, 0] for last in (3, 4))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_dropout_is_the_fused_one_but_for_what_is_dropped(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = torch.Generator().manual_seed(0)
    layout = Layout.of(torch.tensor([4, 1, 3]), 4)
    q, k, v = (torch.randn(8, 6, dtype=torch.float64, generator=made) for _ in range(3))
    dropped = []

    def keep(weights: torch.Tensor, share: float, training: bool) -> torch.Tensor:
        dropped.append((share, training))
        return weights

    monkeypatch.setattr(blocks, "dropout", keep)
    found = attend(q, k, v, layout, heads=2, share=0.3, causal=causal)
    assert dropped == [(0.3, True)]
    torch.testing.assert_close(found, attend(q, k, v, layout, heads=2, causal=causal))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_a_row_without_an_event_disturbs_nobody(causal: bool, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PACK_BELOW", 2.0 if packed else 0.0)
    model = model_of(replace(SMALL, causal=causal, attention_dropout=0.3))
    rows = torch.tensor([[3, 1], [0, 0], [5, 0]])
    alone = model.hidden(torch.tensor([[3, 1]]), torch.tensor([2]))
    found = model.hidden(rows, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(found[:1], alone, rtol=1e-9, atol=1e-9)
    model.train()
    model.hidden(rows, torch.tensor([2, 0, 1]))[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# ---- options -----------------------------------------------------------------------------------------------------


def test_the_l2_term_is_the_norm_of_the_item_table_over_its_rows() -> None:
    rows, draws = Histories.of([[0, 1, 2], [5, 4]]), generator(0, "batch")
    plain = model_of()
    batch = plain.batch(rows, np.arange(2), draws)
    table = torch.full((11, 8), 0.5, dtype=torch.float64)  # norm: sqrt(88) / 2
    values = []
    for model in (plain, model_of(replace(SMALL, l2=0.1))):
        model.items.weight.data = table.clone()
        values.append(model.loss(batch)[0])
    assert (values[1] - values[0]).item() == pytest.approx(0.1 * (88**0.5 / 2) / 11)


def test_the_inside_of_the_feed_forward_part_is_dropped_unless_told_not_to() -> None:
    for inner_dropout, calls in ((True, 4 + 1), (False, 2 + 1)):  # two blocks, and the input
        model = model_of(replace(SMALL, dropout=0.5, inner_dropout=inner_dropout)).train()
        shares: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "dropout", lambda x, share, training, to=shares: (to.append(share), x)[1])
            patch.setattr("rec_srs.sasrec.dropout", lambda x, share, training, to=shares: (to.append(share), x)[1])
            model.hidden(torch.tensor([[1, 2]]), torch.tensor([2]))
        assert sum(share == 0.5 for share in shares) == calls


@pytest.mark.parametrize(("change", "weight"), [({"output_projection": False}, "out"), ({"block": "ligr"}, "none")])
def test_maps_that_are_switched_off_have_no_weights(change: dict[str, Any], weight: str) -> None:
    names = set(model_of(replace(SMALL, **change)).state_dict())
    assert not [name for name in names if f".{weight}." in name]


def test_classic_weights_keep_the_names_of_saved_runs() -> None:
    names = {name.removeprefix("blocks.0.") for name in model_of().state_dict() if name.startswith("blocks.0.")}
    parts = ("attention_norm", "query", "key", "value", "out", "feed_norm", "inner", "outer")
    assert names == {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}


@pytest.mark.parametrize("for_training", [True, False])
def test_an_item_beyond_the_table_is_named_with_its_user(for_training: bool) -> None:
    model, histories = model_of(), Histories.of([[1, 2], [3, 11]], users=[4, 9])
    with pytest.raises(DataError, match=r"user 9 has item 11 in the history, the model knows 0..10"):
        model.batch(histories, np.arange(2), generator(0, "batch") if for_training else None)


@pytest.mark.parametrize("negatives_for", ["batch", "catalogue", "target", "row"])
@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce", "bpr"])
def test_two_micro_batches_weighted_by_targets_are_the_whole_batch(loss: Any, negatives_for: Any) -> None:
    k = 1 if negatives_for == "row" else 4
    model = model_of(replace(SMALL, loss=loss, negatives=k, negatives_for=negatives_for, l2=0.01), n_items=17)
    histories = Histories.of([[0, 1, 2, 3], [5, 4], [9, 8, 7, 6, 5, 4, 3, 2, 1], [10, 11, 12]])
    gradients = []
    for pieces in ([[0, 1, 2, 3]], [[1, 3], [0, 2]]):
        model.zero_grad()
        batches = [model.batch(histories, np.array(piece), generator(3, "batch")) for piece in pieces]
        n = sum(int(batch.mask_BL.sum()) for batch in batches)
        for batch in batches:
            value, targets = model.loss(batch)
            (value * len(targets) / n).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("negatives_for", ["batch", "target"])
def test_a_resumed_training_ends_with_the_same_bytes(negatives_for: Any, tmp_path: Path) -> None:
    split = planted_clusters(n_users=40, n_items=40).split
    chosen = replace(
        SMALL, dropout=0.3, attention_dropout=0.2, loss="gbce", negatives=5, negatives_for=negatives_for, max_length=20
    )
    weights = []
    for name, stops in (("whole", (7,)), ("resumed", (4, 7))):
        for resume, steps in enumerate(stops):
            torch.manual_seed(1)
            model = SASRec(IdEmbeddings(40, 8), chosen)
            training = TrainSettings(batch_size=8, eval_every=0, max_steps=steps, checkpoint_every_steps=2)
            fit_sequence_model(model, split, training, run_dir=tmp_path / name, resume=bool(resume))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# ---- presets -----------------------------------------------------------------------------------------------------

PRESETS = [
    presets.ml1m_sasrec,
    presets.ml1m_esasrec,
    presets.beauty_esasrec,
    presets.beauty_regularised_sasrec,
    presets.ml1m_gsasrec,
    presets.selfrec_sasrec,
    presets.llmemb_sasrec,
    presets.modern_sasrec,
]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_two_steps(preset: Any) -> None:
    chosen, training = preset()
    split = planted_clusters(n_users=40, n_items=40).split
    torch.manual_seed(0)
    model = SASRec(IdEmbeddings(40, chosen.dim), chosen)
    result = fit_sequence_model(model, split, replace(training, max_steps=2, batch_size=8))
    assert result.steps == 2


def test_presets_are_the_published_settings() -> None:
    # d, blocks, heads, length, dropout, loss, negatives (specification, table of reference rows)
    def row(chosen: SASRecSettings) -> tuple[Any, ...]:
        return chosen.dim, chosen.blocks, chosen.heads, chosen.max_length, chosen.dropout, chosen.loss

    assert row(presets.ml1m_sasrec()[0]) == (64, 2, 1, 200, 0.1, "softmax")
    assert row(presets.ml1m_esasrec()[0]) == (64, 2, 1, 200, 0.1, "sampled_softmax")
    assert row(presets.beauty_esasrec()[0]) == (256, 1, 1, 50, 0.2, "sampled_softmax")
    assert row(presets.beauty_regularised_sasrec()[0]) == (64, 2, 1, 50, 0.5, "softmax")
    assert row(presets.ml1m_gsasrec()[0])[0] == 128
    assert presets.ml1m_gsasrec()[0].gbce_t == 0.75
    for preset in (presets.ml1m_esasrec, presets.beauty_esasrec, presets.ml1m_gsasrec):
        assert preset()[0].negatives == 256
    decayed = presets.beauty_regularised_sasrec()[1]
    assert (decayed.batch_size, decayed.learning_rate, decayed.weight_decay, decayed.epochs) == (256, 1e-4, 1e-4, 200)
    selfrec, how = presets.selfrec_sasrec()
    assert row(selfrec) == (64, 2, 1, 49, 0.2, "bce")
    assert (how.epochs, how.batch_size, how.learning_rate, how.optimiser) == (500, 256, 1e-3, "adam")
    llmemb, how = presets.llmemb_sasrec()
    assert row(llmemb) == (128, 2, 1, 200, 0.5, "bce")
    assert (how.epochs, how.batch_size, how.patience) == (200, 128, 20)
    assert not llmemb.causal
    classic = presets.classic_sasrec()[0]
    assert (classic.window, classic.dropout, classic.dim, classic.max_length) == ("last", 0.1, 64, 200)
