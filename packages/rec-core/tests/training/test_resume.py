"""A run that was killed and resumed ends with the same bytes as one that never was."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rec_core.errors import ArtifactError, SettingsError
from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import fit_sequence_model
from rec_core.training.progress import NoProgress

SCRIPT = Path(__file__).with_name("survivor.py")
spec = importlib.util.spec_from_file_location("survivor", SCRIPT)
assert spec is not None and spec.loader is not None  # noqa: PT018
survivor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(survivor)
SETTINGS = survivor.SETTINGS
STEPS = 6 * 7  # epochs × ceil(49 users with two train events / 8)


def start(run_dir, seconds=0.0):
    command = [sys.executable, str(SCRIPT), str(run_dir), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def lines(run_dir):
    """The log without what a clock says."""
    timing = ("seconds", "targets_per_second")
    text = (run_dir / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in timing} for line in text]


def same_end(run_dir, other):
    assert (run_dir / "final.safetensors").read_bytes() == (other / "final.safetensors").read_bytes()
    assert lines(run_dir) == lines(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    run(run_dir)
    return run_dir


def test_killed_at_random_moments_and_resumed_twice_the_run_ends_with_equal_bytes(tmp_path, uninterrupted):
    chance = random.Random()  # another moment in every run of this test; the message below says which
    killed_after = []
    for _ in range(2):
        process = start(tmp_path, seconds=0.02)
        assert process.stdout is not None
        wanted = chance.randint(1, 14)
        for _ in range(wanted):
            assert process.stdout.readline().startswith("step")
        time.sleep(chance.random() * 0.04)  # in the middle of a step, a validation or a checkpoint
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        killed_after.append(wanted)
        assert not (tmp_path / "final.safetensors").exists()
    finish(start(tmp_path))
    print(f"killed after {killed_after} steps")
    same_end(tmp_path, uninterrupted)


class Interrupted(Exception):
    pass


class StopAt(NoProgress):
    """Interrupts after a number of steps, in this process: a kill without its price."""

    def __init__(self, step):
        self.left = step

    def advance(self, steps, values):
        self.left -= 1
        if self.left == 0:
            raise Interrupted


def run(run_dir, *, stop_after=None, resume=False, settings=SETTINGS, split=None, dropout=0.3):
    model = TinySequenceModel.seeded(40, seed=1, dropout=dropout)
    progress = StopAt(stop_after) if stop_after else NoProgress()
    split = survivor.split() if split is None else split
    try:
        result = fit_sequence_model(model, split, settings, run_dir=run_dir, resume=resume, progress=progress)
    except Interrupted:
        return None
    survivor.save_file(model.state_dict(), run_dir / "final.safetensors")
    return result


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 8, 9, 11, 20, STEPS])
def test_a_run_stopped_at_any_place_in_an_epoch_resumes_to_equal_bytes(tmp_path, uninterrupted, stop_after):
    assert run(tmp_path, stop_after=stop_after) is None
    run(tmp_path, resume=True)
    same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("stop_after", [10, 17, 22])
def test_patience_goes_on_counting_after_a_resume(tmp_path, stop_after):
    settings = replace(SETTINGS, learning_rate=1e-12, schedule="constant", patience=2)  # nothing ever gets better
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", settings=settings)
    assert whole is not None
    assert (whole.stopped, whole.best_epoch, whole.epochs) == ("patience", 1, 3)
    (tmp_path / "cut").mkdir()
    run(tmp_path / "cut", settings=settings, stop_after=stop_after)
    resumed = run(tmp_path / "cut", settings=settings, resume=True)
    assert resumed is not None
    assert replace(resumed, seconds=0) == replace(whole, seconds=0)
    same_end(tmp_path / "cut", tmp_path / "whole")


def test_a_finished_run_resumes_to_its_result_without_another_step(tmp_path):
    first = run(tmp_path)
    log = lines(tmp_path)
    again = run(tmp_path, resume=True, settings=replace(SETTINGS, keep=5, checkpoint_every_steps=0))
    assert again == first
    assert lines(tmp_path) == log


def test_a_finished_run_goes_on_when_it_is_given_more_epochs_at_a_constant_rate(tmp_path):
    short = replace(SETTINGS, schedule="constant", epochs=2)
    for name in ("whole", "grown"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole", settings=replace(short, epochs=4))
    run(tmp_path / "grown", settings=short)
    run(tmp_path / "grown", settings=replace(short, epochs=4), resume=True)
    weights = [(tmp_path / name / "final.safetensors").read_bytes() for name in ("whole", "grown")]
    assert weights[0] == weights[1]


def test_a_damaged_checkpoint_costs_some_steps_and_changes_nothing(tmp_path, uninterrupted):
    run(tmp_path, stop_after=14)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    (newest / "optimiser.safetensors").write_bytes(b"torn")
    run(tmp_path, resume=True)
    same_end(tmp_path, uninterrupted)


def test_resume_before_the_first_checkpoint_starts_at_the_beginning(tmp_path, uninterrupted):
    run(tmp_path, resume=True)
    same_end(tmp_path, uninterrupted)


def test_a_run_is_not_started_over_its_own_checkpoints(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(SettingsError, match="holds checkpoints"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 0.5}, "started with learning_rate = 0.02 and would resume with 0.5"),
        ({"batch_size": 16}, "batch_size = 8"),
        ({"betas": (0.8, 0.9)}, "betas"),
        ({"epochs": 9}, "the cosine schedule depends on it"),
    ],
)
def test_resuming_with_other_settings_names_the_field(tmp_path, change, says):
    run(tmp_path, stop_after=5)
    with pytest.raises(SettingsError) as error:
        run(tmp_path, resume=True, settings=replace(SETTINGS, **change))
    assert says in str(error.value)


def test_resuming_on_other_data_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(SettingsError, match="another train part"):
        run(tmp_path, resume=True, split=survivor.split(n_users=59))


def test_resuming_another_model_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(ArtifactError, match="of another model"):
        fit_sequence_model(
            TinySequenceModel.seeded(40, dim=16), survivor.split(), SETTINGS, run_dir=tmp_path, resume=True
        )
