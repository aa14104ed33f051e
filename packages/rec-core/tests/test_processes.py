"""Several processes make one thing: the main one writes, all of them hear how it went, and nobody waits for ever."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from rec_core.artifacts import create_together, open_artifact
from rec_core.processes import (
    is_main_process,
    launched_alone_by_mistake,
    leave,
    on_main,
    process_count,
    process_index,
    speaks,
)
from rec_core.testing.launch import launch

SCRIPT = Path(__file__).parent / "training" / "together.py"


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes saw, by process and by name; and what one sees."""
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("two")
    both = launch([str(SCRIPT), str(directory), "gathered", "shared", "curves"])
    assert [process.returncode for process in both] == [0, 0], [process.stderr for process in both]
    seen = [dict(json.loads(line) for line in process.stdout.splitlines()) for process in both]
    return seen, dict(load(SCRIPT).curves(tmp_path_factory.mktemp("one"))), both


@pytest.mark.parametrize("name", ["TinySequenceModel", "Comparing", "Partial", "resumed"])
def test_two_processes_take_the_steps_of_one_and_end_with_its_weights(found, name):
    seen, alone, _ = found
    assert seen[0][name] == seen[1][name]
    assert seen[0][name].keys() == alone[name].keys()
    assert len(alone[name]["losses"]) == 8
    for which, numbers in alone[name].items():
        assert seen[0][name][which] == pytest.approx(numbers, rel=1e-8, abs=1e-10), which


def test_two_processes_validate_as_one_and_agree_on_the_result(found):
    seen, alone, _ = found
    assert seen[0]["validated"] == seen[1]["validated"]
    for one, two in zip(alone["validated"]["evaluations"], seen[0]["validated"]["evaluations"], strict=True):
        assert two == pytest.approx(one)


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (2, 2)])
def test_gathered_rows_and_their_gradient_are_those_of_one_process(found, counts):
    for process in found[0]:
        equal, gradient = process[f"rows {counts}"]
        assert equal
        expected = process[f"one process {counts}"]
        assert len(gradient) == len(expected)
        for row, own in zip(gradient, expected, strict=True):
            assert row == pytest.approx(own, rel=1e-10, abs=1e-12)


def test_numbers_without_a_gradient_are_gathered_too(found):
    for process in found[0]:
        assert process["ids"] == [0, 0, 1]
        assert process["without gradient"] is False


def test_the_main_process_works_and_the_others_hear_of_it(found):
    seen, _, _ = found
    for process in seen:
        assert process["result"] == {"by": 0}
        assert process["DataError"] == ["DataError", "no such thing"]
        assert process["made"] == [0, 0, "process 0"]
        kind, message = process["refused"]
        assert kind == "ArtifactError"
        assert "made exists already; choose another output or pass --overwrite" in message
    assert seen[0]["ZeroDivisionError"] == ["ZeroDivisionError", "by nought"]
    assert seen[1]["ZeroDivisionError"] == ["RecError", "process 0 stopped: ZeroDivisionError: by nought"]


def test_a_loss_that_is_no_number_names_the_rows_of_all_processes_on_each_of_them(found):
    seen, _, _ = found
    assert seen[0]["nan"] == seen[1]["nan"]
    together = sys.modules["together"]
    task_rows = together.split().train.histories().users
    from rec_core.training import epoch_order

    order = epoch_order(task_rows, together.SETTINGS.seed, 0).tolist()
    step = order.index(8) // 4
    named = ", ".join(map(str, order[4 * step : 4 * step + 4]))
    assert f"the loss is nan at step {step + 1} (epoch 1); users of the batch: {named}; " in seen[0]["nan"]


def test_a_long_evaluation_is_waited_for(found):
    for process in found[0]:
        assert process["hours"] == 24  # gloo's own patience is half an hour


def test_nothing_is_printed_but_what_was_asked_for(found):
    for process in found[2]:
        assert process.stderr == ""


def test_when_one_process_fails_the_others_stop_and_say_so(tmp_path):
    pytest.importorskip("torch")
    both = launch([str(SCRIPT), str(tmp_path), "one_fails"])
    said = sorted(json.loads(process.stdout.splitlines()[-1])[1] for process in both)
    assert said[0] == "DataError: user 8 cannot be"
    assert said[1].startswith("TrainingError: another process of this training has gone")


def test_alone_everything_is_the_plain_thing(tmp_path):
    assert (process_count(), process_index(), is_main_process()) == (1, 0, True)
    assert on_main(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        on_main(lambda: 1 // 0)
    with create_together(tmp_path / "made", "thing") as out:
        out.json("a", 1)
    assert open_artifact(tmp_path / "made").json("a") == 1
    assert speaks("anything")
    assert speaks("anything")
    leave()


def test_a_schedulers_numbers_without_an_address_to_meet_do_not_count(monkeypatch):
    for name in ("WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.setenv(name, "4")
    monkeypatch.setenv("RANK", "2")
    assert (process_count(), process_index()) == (1, 0)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert (process_count(), process_index()) == (4, 2)


def test_a_launcher_that_starts_one_process_where_several_were_meant_is_found_out(monkeypatch):
    for name in set(os.environ) & {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}:
        monkeypatch.delenv(name)
    assert not launched_alone_by_mistake()
    # what `accelerate launch --cpu --num_processes 2` of accelerate 1.15 gives the one process it starts
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert not launched_alone_by_mistake()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert launched_alone_by_mistake()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launched_alone_by_mistake()
