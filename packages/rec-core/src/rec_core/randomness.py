"""Random numbers that depend on what they are for, never on worker, rank or call order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    import torch


def _sequence(seed: int, stream: tuple[int | str, ...]) -> np.random.SeedSequence:
    if seed < 0:
        raise ValueError(f"a seed is a non-negative integer; got {seed}")
    words = tuple(crc32(s.encode()) if isinstance(s, str) else int(s) for s in stream)
    return np.random.SeedSequence(int(seed), spawn_key=words)  # as plain entropy, [1] and [1, 0] give equal numbers


def generator(seed: int, *stream: int | str) -> np.random.Generator:
    """A NumPy generator for one named purpose.

    The stream names what the numbers are for, coarse to fine: ``generator(seed, "views", epoch, item)``. Equal
    arguments give equal numbers on every machine and in every process; different ones are independent.
    """
    return np.random.default_rng(_sequence(seed, stream))


def torch_generator(seed: int, *stream: int | str, device: str = "cpu") -> torch.Generator:
    """The same idea for torch: a generator of its own, so that nobody reads or moves the global state."""
    import torch

    state = _sequence(seed, stream).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state) & (2**63 - 1))
