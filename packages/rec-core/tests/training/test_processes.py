import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("survivor.py")


def train(run_dir, *launcher):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), str(run_dir), "0", "exact"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return load_file(run_dir / "final.safetensors"), [line["loss"] for line in log if line["event"] == "step"]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_even_when_a_batch_has_a_single_row(tmp_path):
    one, losses = train(tmp_path / "one")
    two, same_losses = train(tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    assert same_losses == pytest.approx(losses, rel=1e-12)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-10, atol=1e-12)
