"""Checkpoints: everything a run needs to go on bit for bit, in safetensors and JSON, whole or not there.

``checkpoints/step-00000123/`` holds one safetensors file per group of tensors and ``state.json`` with the rest and with
the SHA-256 of every file. It is built in a directory beside, flushed to the disk and renamed; older checkpoints go only
after the new one is whole. What is damaged is passed over for the newest whole one.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rec_core.artifacts import explain_write_errors, file_hash, flush_to_disk
from rec_core.errors import ArtifactError

FORMAT = 1
STATE = "state.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of a run.

    step      optimiser steps made so far
    tensors   group name -> tensor name -> tensor (on the CPU once read back)
    state     JSON values: settings, position, skeletons of nested states, random numbers' states
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def write_checkpoint(directory: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write ``directory/step-<n>`` and then delete all but the newest ``keep``.

    Checkpoints of later steps are deleted as well: a run that stands at this step passed over them because they were
    damaged. Raises :class:`ArtifactError` when the disk is full; nothing that was whole is lost then.
    """
    target = directory / f"step-{checkpoint.step:08d}"
    with explain_write_errors(target):
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob(".step-*"):  # a process that was killed while writing left it
            shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=directory, prefix=f".{target.name}."))
        work.chmod(0o755)
        try:
            _write_files(work, checkpoint)
            if target.exists():
                shutil.rmtree(target)
            work.rename(target)
            flush_to_disk(directory)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise ArtifactError(f"cannot write {target}: {error}; older checkpoints are untouched") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        found = _numbered(directory)
        kept = {step for step in sorted(found) if step <= checkpoint.step}
        kept = set(sorted(kept)[-keep:])
        for step in found.keys() - kept:
            shutil.rmtree(found[step], ignore_errors=True)
    return target


def _write_files(work: Path, checkpoint: Checkpoint) -> None:
    files = {}
    for group, tensors in checkpoint.tensors.items():
        file = work / f"{group}.safetensors"
        # Cloned: safetensors refuses tensors that share memory (tied weights) or are views of something larger.
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, file)
        file.chmod(0o644)  # safetensors makes files that nobody else can read
        flush_to_disk(file)
        files[file.name] = file_hash(file)
    state = {"format": FORMAT, "step": checkpoint.step, "files": files, "state": checkpoint.state}
    text = json.dumps(state)  # NaN may be among the metrics; Python reads it back
    (work / STATE).write_text(json.dumps({"sha256": sha256(text.encode()).hexdigest()}) + "\n" + text + "\n")
    flush_to_disk(work / STATE)
    flush_to_disk(work)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint; :class:`ArtifactError` when it is torn, changed or of another format."""
    try:
        first, text = (path / STATE).read_text().splitlines()
        if json.loads(first)["sha256"] != sha256(text.encode()).hexdigest():
            raise ArtifactError(f"{path / STATE} was changed after it was written")
        written = json.loads(text)
        if written["format"] != FORMAT:
            raise ArtifactError(f"{path} has checkpoint format {written['format']}; this release reads {FORMAT}")
        tensors = {}
        for name, digest in written["files"].items():
            if file_hash(path / name) != digest:
                raise ArtifactError(f"{path / name} was changed after it was written (its hash differs)")
            tensors[Path(name).stem] = load_file(path / name)
        return Checkpoint(written["step"], tensors, written["state"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error


def read_latest(directory: Path) -> Checkpoint | None:
    """The newest whole checkpoint under ``directory``; None when there was never one.

    A damaged one is named in a warning and passed over. :class:`ArtifactError` when all there are are damaged.
    """
    found = _numbered(directory)
    for step in sorted(found, reverse=True):
        try:
            return read_checkpoint(found[step])
        except ArtifactError as error:
            logger.warning("passing over a checkpoint: %s", error)
            last = error
    if found:
        raise ArtifactError(f"no whole checkpoint is left in {directory} ({last}); start the run anew") from last
    return None


def _numbered(directory: Path) -> dict[int, Path]:
    return {int(p.name[5:]): p for p in directory.glob("step-*") if p.name[5:].isdigit() and p.is_dir()}


def flatten(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """A nested state (an optimiser's, a scaler's) as JSON values; its tensors move to ``tensors`` under their path.

    :func:`unflatten` is the way back. Tuples and keys that are not text are kept as such.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, Mapping):
        return {"$map": [[key, flatten(v, tensors, f"{name}.{key}" if name else str(key))] for key, v in value.items()]}
    if isinstance(value, list | tuple):
        parts = [flatten(v, tensors, f"{name}.{i}" if name else str(i)) for i, v in enumerate(value)]
        return {"$tuple": parts} if isinstance(value, tuple) else parts
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot go into a checkpoint")


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested state that :func:`flatten` took apart."""
    if isinstance(value, list):
        return [unflatten(v, tensors) for v in value]
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        if kind == "$tensor":
            return tensors[inner]
        if kind == "$map":
            return {key: unflatten(v, tensors) for key, v in inner}
        return tuple(unflatten(v, tensors) for v in inner)
    return value


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What training may change: parameters that want gradients, each once, and the buffers that a state dict holds.

    Frozen parameters (a language model under LoRA, a table of text embeddings) come from their own files again.
    """
    kept = module.state_dict(keep_vars=True)
    tensors: dict[str, Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad}
    return tensors | {name: buffer for name, buffer in module.named_buffers() if name in kept}


def copy_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A copy of :func:`trained_tensors` on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in trained_tensors(module).items()}


def restore_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors back; :class:`ArtifactError` when they belong to a model of another shape."""
    own = trained_tensors(module)
    for name in sorted(own.keys() | tensors.keys()):
        here, there = (tuple(t[name].shape) if name in t else None for t in (own, tensors))
        if here != there:
            raise ArtifactError(
                f"the checkpoint is of another model: {name} is {there or 'absent'} there and {here or 'absent'} here"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def random_states() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state of every global generator of this process: Python, NumPy, torch on the CPU and on each GPU."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)  # legacy=False promises it
    key = torch.from_numpy(state["state"]["key"].astype(np.int64))
    values = {
        "python": random.getstate(),
        "numpy": [state["bit_generator"], state["state"]["pos"], state["has_gauss"], state["gauss"]],
    }
    tensors = {"numpy": key, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return values, tensors


def set_random_states(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Put :func:`random_states` back."""
    version, internal, gauss_next = values["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, pos, has_gauss, gauss = values["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    state = {"bit_generator": kind, "state": {"key": key, "pos": pos}, "has_gauss": has_gauss, "gauss": gauss}
    np.random.set_state(state)
    torch.set_rng_state(tensors["torch"])
    devices = sorted((n for n in tensors if n.startswith("cuda")), key=lambda n: int(n[4:]))
    if devices and len(devices) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([tensors[name] for name in devices])


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Whatever the block draws, the global generators stand afterwards where they stood before."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(*states)
