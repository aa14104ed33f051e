import json
import logging
import random
import resource

import numpy as np
import pytest
import torch
from torch import nn

from rec_core.errors import ArtifactError
from rec_core.training.checkpoint import (
    Checkpoint,
    copy_tensors,
    flatten,
    kept_random_states,
    random_states,
    read_checkpoint,
    read_latest,
    restore_tensors,
    set_random_states,
    trained_tensors,
    unflatten,
    write_checkpoint,
)


def checkpoint(step):
    return Checkpoint(step, {"weights": {"w": torch.full((3,), float(step))}}, {"position": step, "rate": 0.1})


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_what_was_written_is_read_back_and_older_ones_are_pruned(tmp_path):
    for step in (1, 5, 12):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert names(tmp_path) == ["step-00000005", "step-00000012"]
    found = read_latest(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (12, {"position": 12, "rate": 0.1})
    assert found.tensors["weights"]["w"].tolist() == [12.0] * 3


def test_others_may_read_a_checkpoint_like_every_other_file_of_a_run(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(1), keep=1)
    assert path.stat().st_mode & 0o777 == 0o755
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == {
        "state.json": 0o644,
        "weights.safetensors": 0o644,
    }


def test_there_is_no_checkpoint_where_there_never_was_one(tmp_path):
    assert read_latest(tmp_path / "checkpoints") is None


def flip_a_bit(path):
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: flip_a_bit(d / "weights.safetensors"),
        lambda d: (d / "weights.safetensors").unlink(),
        lambda d: (d / "state.json").unlink(),
        lambda d: (d / "state.json").write_text((d / "state.json").read_text().replace("0.1", "0.2")),
        lambda d: (d / "state.json").write_text("{"),
        lambda d: (d / "state.json").write_text((d / "state.json").read_text()[:-20]),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_the_next_write_removes_it(tmp_path, caplog, damage):
    for step in (1, 5):
        write_checkpoint(tmp_path, checkpoint(step), keep=3)
    damage(tmp_path / "step-00000005")
    with caplog.at_level(logging.WARNING):
        found = read_latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-00000005" in caplog.text
    write_checkpoint(tmp_path, checkpoint(3), keep=3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_only_damaged_checkpoints_are_an_error_not_a_silent_new_start(tmp_path):
    flip_a_bit(write_checkpoint(tmp_path, checkpoint(1), keep=1) / "weights.safetensors")
    with pytest.raises(ArtifactError, match="no whole checkpoint is left"):
        read_latest(tmp_path)


def test_another_format_is_named(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(1), keep=1)
    from hashlib import sha256

    state = json.loads((path / "state.json").read_text().splitlines()[1]) | {"format": 99}
    text = json.dumps(state)
    (path / "state.json").write_text(json.dumps({"sha256": sha256(text.encode()).hexdigest()}) + "\n" + text + "\n")
    with pytest.raises(ArtifactError, match="format 99; this release reads 1"):
        read_checkpoint(path)


def test_a_half_written_directory_is_no_checkpoint_and_goes_with_the_next_write(tmp_path):
    (tmp_path / ".step-00000007.abc").mkdir()
    (tmp_path / ".step-00000007.abc" / "weights.safetensors").write_bytes(b"torn")
    assert read_latest(tmp_path) is None
    write_checkpoint(tmp_path, checkpoint(9), keep=1)
    assert names(tmp_path) == ["step-00000009"]


def test_a_full_disk_is_one_message_and_leaves_the_older_checkpoint_whole(tmp_path):
    write_checkpoint(tmp_path, checkpoint(1), keep=1)
    big = Checkpoint(2, {"weights": {"w": torch.zeros(1_000_000)}}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the nearest to a full disk that a test can have
    try:
        with pytest.raises(ArtifactError, match="step-00000002"):
            write_checkpoint(tmp_path, big, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    assert read_latest(tmp_path).step == 1  # type: ignore[union-attr]


def test_nested_states_survive_json():
    value = {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "groups": [{"betas": (0.9, 0.1 + 0.2), "fused": None}]}
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.loads(json.dumps(flatten(value, tensors)))
    assert list(tensors) == ["state.0.step"]
    assert unflatten(skeleton, tensors) == value
    with pytest.raises(TypeError, match="a: a set"):
        flatten({"a": {1}}, {})


def test_every_global_generator_goes_on_where_it_was():
    def draws():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(2).tolist()

    random.gauss(0, 1), np.random.randn()  # both keep a second number in stock
    values, tensors = random_states()
    first = draws()
    set_random_states(json.loads(json.dumps(values)), tensors)
    assert draws() == first
    with kept_random_states():
        inside = draws()
    assert draws() == inside


def test_trained_tensors_are_named_once_and_without_the_frozen_ones():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    module[2].weight = module[0].weight  # tied
    module[0].bias.requires_grad_(False)
    assert set(trained_tensors(module)) == {
        "0.weight",
        "1.weight",
        "1.bias",
        "2.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    kept = copy_tensors(module)
    nn.init.zeros_(module[0].weight)
    restore_tensors(module, kept)
    assert module[2].weight.abs().sum() > 0
    with pytest.raises(ArtifactError, match=r"of another model: 0.weight is \(2, 2\) there and \(3, 2\) here"):
        restore_tensors(nn.Sequential(nn.Linear(2, 3, bias=False)), kept)
