"""What goes wrong in a training is named: the rows, the option, the item; and what was learnt before is not lost."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from rec_core.errors import DataError, SettingsError
from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import IdEmbeddings, SequenceRecommender, TrainSettings, epoch_order, fit_sequence_model
from rec_core.training.loop import TrainingError
from rec_core.training.memory import OutOfMemory, is_shortage
from rec_core.training.progress import NoProgress
from rec_core.types import Histories, Interactions, ItemEmbeddings, Split

SETTINGS = TrainSettings(epochs=2, batch_size=4, micro_batches=2, learning_rate=0.02)


def walks(n_users=20, n_items=17):
    lengths = 3 + np.arange(n_users) % 5
    users = np.repeat(np.arange(n_users), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    last = np.append(np.diff(users) > 0, True)
    events = Interactions.sorted(
        users, (users * 5 + place) % n_items, timestamps=place, n_users=n_users, n_items=n_items
    )
    return Split(events, last.astype(np.uint8), "leave_one_out")


def fit(model, settings=SETTINGS, **options):
    return fit_sequence_model(model, walks(), settings, progress=NoProgress(), **options)


class Poisoned(TinySequenceModel):
    """Whatever is done with the row of user 13 gives no number, from the second epoch on."""

    epochs = 0

    def batch(self, histories, rows, rng):
        made = super().batch(histories, rows, rng)
        self.epochs += rng is None  # each validation
        hit = rng is not None and self.epochs > 0 and 13 in histories.users[rows]
        return made._replace(targets_BL=made.targets_BL + 1000) if hit else made

    def loss(self, batch):
        value, targets = super().loss(batch._replace(targets_BL=batch.targets_BL % 1000))
        return value * (float("inf") if (batch.targets_BL >= 1000).any() else 1.0), targets


def test_a_loss_that_is_no_number_names_exactly_the_rows_of_its_step_and_the_last_checkpoint(tmp_path):
    model = Poisoned.seeded(17, seed=1)
    with pytest.raises(TrainingError) as error:
        fit(model, run_dir=tmp_path)
    order = epoch_order(np.arange(20), SETTINGS.seed, 1).tolist()
    step = order.index(13) // 4
    named = ", ".join(map(str, order[4 * step : 4 * step + 4]))
    assert f"the loss is inf at step {5 + step + 1} (epoch 2); users of the batch: {named}; " in str(error.value)
    assert f"the last good checkpoint is {tmp_path / 'checkpoints' / 'step-00000005'}" in str(error.value)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    healthy = TinySequenceModel.seeded(17, seed=1)
    result = fit(healthy, run_dir=tmp_path, resume=True)  # the rows mended, it goes on from there
    assert (result.epochs, result.evaluations[0]["step"]) == (2, 5)


class Hungry(TinySequenceModel):
    """Needs 4 EiB where it is told to, or fails as another library would."""

    where, error, most = "loss", None, 0

    def need(self, where, rows=1 << 30):
        if where == self.where and rows > self.most:
            if self.error is not None:
                raise self.error
            torch.empty(1 << 60)

    def batch(self, histories, rows, rng):
        self.need("batch" if rng is not None else "read", len(rows))
        return super().batch(histories, rows, rng)

    def loss(self, batch):
        self.need("loss")
        return super().loss(batch)

    def encode(self, batch):
        self.need("encode", len(batch.items_BL))
        return super().encode(batch)


WORDS = [
    None,  # DefaultCPUAllocator's own
    MemoryError("Unable to allocate 4.00 EiB for an array"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allo"),
]


@pytest.mark.parametrize("error", WORDS)
def test_too_little_memory_names_batch_size_and_the_way_out_whatever_library_says_it(error):
    model = Hungry.seeded(17)
    model.error = error
    with pytest.raises(TrainingError) as caught:
        fit(model)
    assert str(caught.value) == (
        "out of memory on cpu at step 1, with batch_size 4 in 2 micro-batches; lower batch_size, or raise "
        "micro_batches (now 2): same result, less at a time; a smaller model needs less too"
    )


def test_too_little_memory_while_a_batch_is_made_or_validated_says_so():
    model = Hungry.seeded(17)
    model.where = "batch"
    with pytest.raises(
        TrainingError, match=r"out of memory on cpu making the batch of step 1, with batch_size 4; lower"
    ):
        fit(model)
    model.where = "encode"
    with pytest.raises(
        OutOfMemory, match=r"encoding a single history of 2 events \(rows per pass were halved down to 1\)"
    ):
        fit(model)


def test_a_step_that_cannot_be_divided_does_not_advise_to_divide_it():
    model = Hungry.seeded(17)
    model.whole_steps = True
    with pytest.raises(TrainingError, match=r"with batch_size 4 in 1 micro-batches; lower batch_size; a sm"):
        fit(model)


@pytest.mark.parametrize("where", ["read", "encode"])
def test_answering_halves_its_rows_until_they_fit_and_says_so(where, caplog):
    model = Hungry.seeded(17, seed=2)
    histories = walks().train.histories()
    model.most = 1 << 30
    expected = SequenceRecommender(model).user_vectors(histories)
    model.where, model.most = where, 3
    with caplog.at_level(logging.WARNING, "rec_core.training"):
        found = SequenceRecommender(model).user_vectors(histories)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [record.args for record in caplog.records] == [(20, 10), (10, 5), (5, 2)]


def test_other_errors_are_not_taken_for_a_full_memory():
    assert not is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_shortage(ValueError("out of memory"))


class Silent(TinySequenceModel):
    """Finds no target in any row: every loss is 0."""

    def batch(self, histories, rows, rng):
        made = super().batch(histories, rows, rng)
        return made if rng is None else made._replace(mask_BL=torch.zeros_like(made.mask_BL))


def test_steps_without_a_target_count_as_zero_and_change_nothing(tmp_path):
    model = Silent.seeded(17, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = fit(model, replace(SETTINGS, eval_every=0), run_dir=tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {(line["loss"], line["targets"]) for line in log if line["event"] == "step"} == {(0.0, 0)}
    assert result.steps == 10
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_vectors_that_are_no_numbers_are_named_before_the_first_step():
    model = TinySequenceModel.seeded(17)
    with torch.no_grad():
        model.items.weight[3, 2] = float("nan")
        model.items.weight[11, 0] = float("inf")
    with pytest.raises(
        DataError, match=r"vectors of 2 of 17 items hold NaN or infinity before training \(items 3, 11\)"
    ):
        fit(model)
    vectors = np.zeros((17, 8), np.float32)
    vectors[4] = np.nan
    with pytest.raises(DataError, match="4"):
        IdEmbeddings.of(ItemEmbeddings(vectors))


def test_a_table_of_another_height_and_items_beyond_it_are_refused():
    with pytest.raises(DataError, match="the model's item table has 16 rows, the split 17 items"):
        fit(TinySequenceModel.seeded(16))
    model = TinySequenceModel.seeded(17)
    with pytest.raises(DataError, match=r"a history holds item 17, the model knows 0\.\.16"):
        SequenceRecommender(model).user_vectors(Histories.of([[3, 17]]))
    with pytest.raises(DataError):
        Interactions.sorted([0, 0], [1, 17], n_users=1, n_items=17)


def test_users_with_one_event_are_left_out_and_counted():
    events = Interactions.sorted([0, 1, 1, 2], [1, 2, 3, 4], n_users=4, n_items=17)
    split = Split(events, np.zeros(4, np.uint8), "given")
    result = fit_sequence_model(TinySequenceModel.seeded(17), split, SETTINGS, progress=NoProgress())
    assert result.counts == {"rows": 1, "too_short": 3}


def test_processes_that_see_different_checkpoints_are_refused(tmp_path, monkeypatch):
    import accelerate.utils

    from rec_core.training import loop

    fit(TinySequenceModel.seeded(17), replace(SETTINGS, max_steps=5), run_dir=tmp_path)
    run = object.__new__(loop._Run)
    run.run_dir, run.position = tmp_path, loop._Position(step=5)
    run.accelerator = type("Two", (), {"num_processes": 2})()
    monkeypatch.setattr(accelerate.utils, "gather_object", lambda found: [*found, 0])
    with pytest.raises(
        SettingsError, match=r"different steps in .*\(\[5, 0\]\): .* a file system that all hosts share"
    ):
        run._agree_on_the_start()
