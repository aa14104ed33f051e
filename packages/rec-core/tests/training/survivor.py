"""Trains a small model with dropout, AdamW and a schedule; run as a process of its own so that it can be killed.

python survivor.py RUN_DIR SECONDS_TO_SLEEP_PER_STEP [exact]
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import TrainSettings, fit_sequence_model
from rec_core.training.progress import NoProgress
from rec_core.types import Interactions, Split

SETTINGS = TrainSettings(
    epochs=6,
    batch_size=8,
    micro_batches=2,
    learning_rate=0.02,
    weight_decay=0.01,
    schedule="cosine",
    warmup_steps=5,
    checkpoint_every_steps=3,
    patience=3,
    seed=3,
)


class Slow(NoProgress):
    """Tells the parent of every step, and gives it time to kill."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def advance(self, steps, values):
        print("step", flush=True)
        time.sleep(self.seconds)


def split(n_users: int = 60, n_items: int = 40) -> Split:
    """Walks along the catalogue, 2 to 12 events long; the last event of each is for validation."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 13, n_users)
    users = np.repeat(np.arange(n_users), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    items = (rng.integers(n_items, size=n_users)[users] + place * rng.integers(1, 3, n_users)[users]) % n_items
    last = np.append(np.diff(users) > 0, True)
    events = Interactions.sorted(users, items, timestamps=place, n_users=n_users, n_items=n_items)
    return Split(events, last.astype(np.uint8), "leave_one_out")


def main(run_dir: Path, seconds: float = 0.0, exact: bool = False) -> None:
    """Train, or go on, and write the final weights. ``exact``: float64 without dropout, to compare processes."""
    torch.set_num_threads(1)
    model = TinySequenceModel.seeded(40, seed=1, dropout=0.0 if exact else 0.3)
    result = fit_sequence_model(
        model.double() if exact else model, split(), SETTINGS, run_dir=run_dir, resume=True, progress=Slow(seconds)
    )
    if os.environ.get("RANK", "0") == "0":
        save_file(model.state_dict(), run_dir / "final.safetensors")
        print(result.stopped, result.steps, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), "exact" in sys.argv)
