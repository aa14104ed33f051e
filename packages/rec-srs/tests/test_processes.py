"""Several processes train together: the curve is that of one, one of them writes, and a mistake is told once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rec_core.artifacts import open_artifact
from rec_core.testing.launch import launch
from rec_srs.cli import main

SCRIPT = Path(__file__).with_name("together.py")
OPTIONS = ["--dim", "8", "--max-length", "6", "--dropout", "0", "--batch-size", "32", "--seed", "5", "--patience", "0"]


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("together", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOGETHER = _script()
CASES = [name for name, *_ in TOGETHER.cases()]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The losses of every case: by one process, and as each of two saw them."""
    both = launch([str(SCRIPT), str(tmp_path_factory.mktemp("two"))])
    assert [process.returncode for process in both] == [0, 0], [process.stderr for process in both]
    first, second = (dict(json.loads(line) for line in process.stdout.splitlines()) for process in both)
    return dict(TOGETHER.curves(tmp_path_factory.mktemp("one"))), first, second


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_curve_of_one_or_refuse(case: str, curves: Any) -> None:
    one, first, second = (found[case] for found in curves)
    assert first == second
    assert isinstance(one, list), one
    if case.split()[0] in ("simgcl", "xsimgcl", "ncl"):
        assert "a step cannot be divided: train it with one process" in first
        return
    assert len(one) >= 4
    assert first == pytest.approx(one, abs=1e-5)


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def train(launcher: list[str], data: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command as a user launches it, on the CPU."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *launcher, "-m", "rec_srs", "train", str(data), str(output), *OPTIONS, *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def steps(run: Path) -> list[Any]:
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in log if line["event"] == "step"]


def test_the_command_trains_in_two_processes_and_resumes_and_refuses_once(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(prepared), str(tmp_path / "one"), *OPTIONS, "--epochs", "3"])
    two = train(TORCHRUN, prepared, tmp_path / "two", "--epochs", "3")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("sasrec trained in") == 1
    assert two.stderr.count("epoch 3: ndcg@10 ") == 1
    assert "rror" not in two.stderr
    assert steps(tmp_path / "two") == pytest.approx(steps(tmp_path / "one"), abs=1e-5)
    whole = open_artifact(tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "two"))] == ["two"]

    # Two processes stopped where the last checkpoint stands: their next step begins where that of an unbroken run does.
    shutil.copytree(tmp_path / "two", tmp_path / "cut.partial")
    for name in ("manifest.json", "weights.safetensors"):
        (tmp_path / "cut.partial" / name).unlink()
    (last,) = sorted((tmp_path / "cut.partial" / "checkpoints").iterdir())[-1:]
    shutil.rmtree(last)
    resumed = train(ACCELERATE, prepared, tmp_path / "cut", "--epochs", "3", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("resumed at step 8") == 1
    assert open_artifact(tmp_path / "cut").hash == whole.hash
    assert steps(tmp_path / "cut") == steps(tmp_path / "two")

    refused = launch(["-m", "rec_srs", "train", str(prepared), str(tmp_path / "two"), *OPTIONS])
    assert [process.returncode for process in refused] == [2, 2]
    said = [process.stderr for process in refused if process.stderr]
    assert said == [f"error: {tmp_path / 'two'} exists already; choose another output or pass --overwrite\n"]
    assert open_artifact(tmp_path / "two").hash == whole.hash
