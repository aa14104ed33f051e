import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rec_core.errors import DataError, MissingExtra, SettingsError
from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import IdEmbeddings, SequenceModel, TrainSettings, fit_sequence_model
from rec_core.training.loop import FitResult, TrainingError
from rec_core.training.progress import LogProgress, NoProgress
from rec_core.types import Interactions, Split

SETTINGS = TrainSettings(epochs=2, batch_size=16, micro_batches=1, learning_rate=0.05)


def rings(n_users=40, n_items=12, length=8, test_items=None):
    """Everyone walks round the catalogue, one item at a time: easy to learn exactly. Shorter for some."""
    rng = np.random.default_rng(5)
    lengths = np.where(np.arange(n_users) % 3, length, 5)
    users = np.repeat(np.arange(n_users), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    items = (rng.integers(n_items, size=n_users)[users] + place) % n_items
    left = lengths[users] - place
    part = np.select([left == 1, left == 2], [2, 1], 0).astype(np.uint8)
    if test_items is not None:
        items[part == 2] = test_items
    return Split(
        Interactions.sorted(users, items, timestamps=place, n_users=n_users, n_items=n_items), part, "leave_one_out"
    )


def fit(settings=SETTINGS, split=None, auxiliary=(), model=None, **options):
    split = rings() if split is None else split
    model = TinySequenceModel.seeded(split.n_items, seed=1) if model is None else model
    options.setdefault("progress", NoProgress())
    return model, fit_sequence_model(model, split, settings, auxiliary, **options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal_weights(model, other, **tolerance):
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], **{"rtol": 0, "atol": 0, **tolerance})


def test_the_tiny_model_is_a_sequence_model():
    assert isinstance(TinySequenceModel.seeded(3), SequenceModel)


def test_it_learns_what_can_be_learnt_and_says_how_it_went(tmp_path):
    _, result = fit(replace(SETTINGS, epochs=30), run_dir=tmp_path)
    assert result.best_value > 0.9  # the next item round the ring; random ranking of 12 items gives about 0.4
    assert result.metric == "ndcg@10"
    assert result.best["ndcg@10"] == result.best_value
    assert result.best["epoch"] == result.best_epoch
    assert result.counts == {"rows": 40, "too_short": 0}
    assert result.steps == 3 * result.epochs


def test_the_best_epochs_weights_are_kept_and_patience_stops(tmp_path):
    settings = replace(SETTINGS, epochs=50, patience=3, learning_rate=0.3)
    model, result = fit(settings)
    assert result.stopped == "patience"
    values = [e["ndcg@10"] for e in result.evaluations]
    assert len(values) == result.epochs == result.best_epoch + 3
    assert values.index(max(values)) == result.best_epoch - 1
    shorter, _ = fit(replace(settings, epochs=result.best_epoch))
    assert_equal_weights(model, shorter)


def test_one_seed_gives_one_model_whatever_the_global_generators_say():
    def once(seed):
        torch.manual_seed(np.random.default_rng().integers(1000))
        return fit(replace(SETTINGS, seed=seed), model=TinySequenceModel.seeded(12, seed=1, dropout=0.5))[0]

    first, second, other = once(1), once(1), once(2)
    assert_equal_weights(first, second)
    assert not torch.equal(first.mix.weight, other.mix.weight)


def test_global_generators_are_left_as_they_were():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit()
    assert torch.equal(torch.rand(3), expected)


def test_held_out_test_items_change_nothing_bit_for_bit():
    split = rings()
    others = rings(test_items=np.full((split.part == 2).sum(), 3))
    assert_equal_weights(fit(split=split)[0], fit(split=others)[0])


@pytest.mark.parametrize("micro", [2, 3, 16])
def test_micro_batches_give_the_step_of_the_one_big_padded_batch(micro):
    def trained(micro_batches):
        model = TinySequenceModel.seeded(12, seed=1).double()
        return fit(replace(SETTINGS, micro_batches=micro_batches, clip_norm=0.5), model=model)[0]

    assert_equal_weights(trained(micro), trained(1), rtol=1e-9, atol=1e-11)


def test_a_step_is_the_gradient_of_the_mean_over_targets_by_hand():
    split = rings()
    settings = TrainSettings(epochs=1, max_steps=1, batch_size=40, micro_batches=3, learning_rate=1e-3, eval_every=0)
    model, _ = fit(settings, split=split, model=TinySequenceModel.seeded(12, seed=1).double())
    twin = TinySequenceModel.seeded(12, seed=1).double()
    optimiser = torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.0)
    total, targets = torch.zeros((), dtype=torch.float64), 0
    histories = split.train.histories()
    for r in range(len(histories)):  # one user at a time: no padding at all
        loss, ids = twin.loss(twin.batch(histories, np.array([r]), np.random.default_rng()))
        total, targets = total + loss * len(ids), targets + len(ids)
    (total / targets).backward()
    optimiser.step()
    assert_equal_weights(model, twin, rtol=1e-6, atol=1e-9)  # Adam's first step divides a gradient by its size


def test_clipping_bounds_the_norm_and_the_log_shows_it_before_clipping(tmp_path):
    scale = 1e-4
    model, _ = fit(replace(SETTINGS, clip_norm=scale, max_steps=1), run_dir=tmp_path)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first["gradient_norm"] > 100 * scale
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(scale, rel=1e-5)


def test_the_log_has_a_line_per_step_and_per_epoch(tmp_path):
    _, result = fit(run_dir=tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if line["event"] == "step"]
    epochs = [line for line in log if line["event"] == "epoch"]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert set(steps[0]) == {
        "event",
        "step",
        "epoch",
        "loss",
        "learning_rate",
        "gradient_norm",
        "targets",
        "targets_per_second",
        "seconds",
    }
    assert [line["metrics"]["ndcg@10"] for line in epochs] == [e["ndcg@10"] for e in result.evaluations]
    assert epochs[-1]["stopped"] == "epochs"
    first = [line for line in steps if line["epoch"] == 1]
    mean = sum(line["loss"] * line["targets"] for line in first) / sum(line["targets"] for line in first)
    assert epochs[0]["epoch_loss"] == pytest.approx(mean, rel=1e-12)
    every_second = replace(SETTINGS, log_every_steps=2)
    fit(every_second, run_dir=tmp_path / "sparse")
    assert (tmp_path / "sparse" / "log.jsonl").read_text().count('"event": "step"') == 3


def test_auxiliary_losses_are_added_logged_by_name_and_trained(tmp_path):
    class Pull(torch.nn.Module):
        """Pulls target vectors to a trained point."""

        name = "pull"

        def __init__(self):
            super().__init__()
            self.point = torch.nn.Parameter(torch.ones(8))

        def forward(self, batch, target_ids, model):
            return 0.1 * ((model.items(target_ids) - self.point) ** 2).mean()

    def nothing(batch, target_ids, model):
        assert target_ids.dtype == torch.int64
        return target_ids.float().mean() * 0

    pull = Pull()
    model, _ = fit(auxiliary=[pull, nothing], run_dir=tmp_path)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(first["model_loss"] + first["pull"])
    assert first["nothing"] == 0
    assert not torch.equal(pull.point, torch.ones(8))
    plain, _ = fit()
    assert not torch.equal(model.items.weight, plain.items.weight)
    with pytest.raises(SettingsError, match="'nothing'"):
        fit(auxiliary=[nothing, nothing])


def test_users_with_one_train_event_are_counted_and_nobody_left_is_an_error():
    events = Interactions.sorted([0, 0, 0, 1, 2, 2], [1, 2, 3, 4, 0, 1], n_users=4, n_items=5)
    _, result = fit(split=Split(events, np.zeros(6, np.uint8), "given"))
    assert result.counts == {"rows": 2, "too_short": 2}
    assert math.isnan(result.best_value)
    assert (result.stopped, result.best) == ("epochs", {})  # nothing to validate on: the last weights are kept
    with pytest.raises(DataError, match="none of the 4 users has two train events"):
        fit(split=Split(events, np.ones(6, np.uint8), "given"))


def test_a_table_smaller_than_the_universe_is_refused():
    with pytest.raises(DataError, match="table has 11 rows, the split 12 items"):
        fit(model=TinySequenceModel.seeded(11))


def test_a_loss_that_is_no_number_stops_and_names_step_users_and_checkpoint(tmp_path):
    calls = 0

    def poison(batch, target_ids, model):
        nonlocal calls
        calls += 1
        return target_ids.sum() * (float("nan") if calls == 5 else 0.0)

    model = TinySequenceModel.seeded(12, seed=1)
    with pytest.raises(TrainingError) as error:
        fit(auxiliary=[poison], run_dir=tmp_path, model=model)
    message = str(error.value)
    assert "the loss is nan at step 5 (epoch 2); users of the batch: " in message
    assert str(tmp_path / "checkpoints" / "step-00000003") in message
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_running_out_of_memory_names_the_batch_size_and_the_way_out():
    def hungry(batch, target_ids, model):
        return torch.empty(1 << 60)

    with pytest.raises(
        TrainingError, match=r"batch_size 16 in 1 micro-batches; lower batch_size, or raise micro_batches"
    ):
        fit(auxiliary=[hungry])


def test_other_errors_of_a_model_keep_their_traceback():
    def broken(batch, target_ids, model):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit(auxiliary=[broken])


def test_bfloat16_trains_and_the_next_fit_may_be_float32_again():
    _, low = fit(replace(SETTINGS, precision="bf16", epochs=20))
    assert low.best_value > 0.8
    model, _ = fit()
    assert_equal_weights(model, fit()[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in float16")
def test_float16_on_a_cpu_is_refused():
    with pytest.raises(SettingsError, match="fp16"):
        fit(replace(SETTINGS, precision="fp16"))


def test_a_tracker_that_is_not_installed_is_named(tmp_path):
    with pytest.raises((MissingExtra, SettingsError), match="clearml"):
        fit(replace(SETTINGS, trackers=("clearml",)), run_dir=tmp_path)
    with pytest.raises(SettingsError, match="no_such_tracker"):
        fit(replace(SETTINGS, trackers=("no_such_tracker",)), run_dir=tmp_path)


def test_a_metric_that_is_not_measured_is_refused_before_training():
    with pytest.raises(SettingsError, match="no metric 'ndgc@10'; did you mean 'ndcg'"):
        fit(replace(SETTINGS, metric="ndgc@10"))
    _, result = fit(replace(SETTINGS, metric="auc"))
    assert result.best_value == result.best["auc"]


def test_everything_frozen_is_refused():
    model = TinySequenceModel.seeded(12)
    model.requires_grad_(False)
    with pytest.raises(SettingsError, match="nothing to train"):
        fit(model=model)


def test_a_frozen_table_is_not_touched():
    model = TinySequenceModel.seeded(12, seed=1)
    model.items.weight.requires_grad_(False)
    before = weights(model)
    fit(replace(SETTINGS, weight_decay=0.5), model=model)
    assert torch.equal(model.items.weight, before["items.weight"])
    assert not torch.equal(model.mix.weight, before["mix.weight"])


def test_weight_decay_spares_biases_unless_told_otherwise():
    def bias(**options):
        model = TinySequenceModel.seeded(12, seed=1)
        model.mix.bias.data.fill_(1.0)
        fit(replace(SETTINGS, epochs=1, learning_rate=1e-6, weight_decay=1e5, **options), model=model)
        return model.mix.bias.detach().mean().item(), model.mix.weight.detach().abs().mean().item()

    spared, weight = bias(decay="matrices")
    hit, _ = bias(decay="all")
    assert spared == pytest.approx(1.0, abs=1e-3)
    assert hit == pytest.approx(0.9**3, abs=1e-2)  # three steps, each times 1 - rate × decay
    assert weight < 0.75 * TinySequenceModel.seeded(12, seed=1).mix.weight.abs().mean().item()


@pytest.mark.parametrize(("first", "second", "step"), [(0.4, 0.5, 4), (0.5, 0.4, 3)])
def test_of_two_validations_after_as_many_whole_epochs_the_best_is_the_better_one(first, second, step):
    evaluations = [{"epoch": 1, "step": 3, "ndcg@10": first}, {"epoch": 1, "step": 4, "ndcg@10": second}]
    result = FitResult("ndcg@10", 0.5, 1, 1, 4, 0.1, "max_steps", evaluations)
    assert result.best["step"] == step


def test_max_steps_stops_in_the_middle_of_an_epoch_and_validates_there():
    _, result = fit(replace(SETTINGS, max_steps=4))
    assert (result.stopped, result.steps, result.epochs) == ("max_steps", 4, 1)
    assert [e["step"] for e in result.evaluations] == [3, 4]


def test_progress_without_a_terminal_is_plain_log_lines(caplog):
    with caplog.at_level(logging.INFO, "rec_core.training"):
        fit(progress=LogProgress(every=0.0))
    assert "step 1 of at most 6: loss " in caplog.text
    assert "epoch 1: ndcg@10 " in caplog.text


def test_id_embeddings_start_from_given_vectors():
    from rec_core.types import ItemEmbeddings

    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    layer = IdEmbeddings.of(ItemEmbeddings(vectors), freeze=True)
    assert (layer.n_items, layer.dim) == (3, 2)
    assert layer(torch.tensor([[2], [0]])).tolist() == [[[4.0, 5.0]], [[0.0, 1.0]]]
    assert torch.equal(layer.table()[torch.tensor([1])], layer(torch.tensor([1])))
    assert not layer.weight.requires_grad
    layer.weight.data.zero_()
    assert vectors[0, 1] == 1.0  # a copy


def test_progress_is_told_every_validation_and_may_end_training_there():
    class Told(NoProgress):
        def __init__(self, most):
            self.most, self.seen = most, []

        def validated(self, metrics):
            self.seen.append(dict(metrics))
            if len(self.seen) == self.most:
                raise InterruptedError

    told = Told(most=99)
    _, result = fit(replace(SETTINGS, epochs=3), progress=told)
    assert told.seen == result.evaluations
    assert [seen["epoch"] for seen in told.seen] == [1, 2, 3]
    with pytest.raises(InterruptedError):
        fit(replace(SETTINGS, epochs=3), progress=Told(most=2))
