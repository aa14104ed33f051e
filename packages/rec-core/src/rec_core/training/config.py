"""Settings of the one training loop."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from rec_core.errors import SettingsError, nearest

Optimiser = Literal["adamw", "adam"]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bf16", "fp16"]
Decay = Literal["matrices", "all"]

METRIC = re.compile(r"[a-z_]+@[1-9]\d*|auc|[a-z_]*loss")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model is trained; the model's own settings stand elsewhere.

    Raises :class:`SettingsError` for a value outside its range, on construction.
    """

    epochs: int = 200
    """Passes over the training rows, at most."""
    max_steps: int = 0
    """Optimiser steps, at most; 0 = no cap. Validation then also follows the last step."""
    batch_size: int = 128
    """Rows per optimiser step, over all processes together."""
    micro_batches: int = 4
    """At most this many length-sorted pieces per step, each padded to its own longest row."""
    optimiser: Optimiser = "adamw"
    """adamw (decoupled weight decay) | adam (decay as an L2 term, as older code has it)."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the optimiser's moments."""
    weight_decay: float = 0.0
    """Strength of the decay; 0 = none."""
    decay: Decay = "matrices"
    """matrices: weight decay spares biases and norms; all: it hits every parameter."""
    schedule: Schedule = "constant"
    """constant | linear (to 0 at the last step) | cosine (to 0)."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0 to its peak."""
    clip_norm: float = 1.0
    """Largest L2 norm of the gradient; 0 = no clipping."""
    precision: Precision = "float32"
    """float32 | bf16 | fp16 (automatic mixed precision through accelerate)."""
    eval_every: int = 1
    """Epochs between validations; 0 = never: the last weights are then kept."""
    patience: int = 10
    """Validations without a better value before training stops; 0 = never stop early."""
    metric: str = "ndcg@10"
    """What validation decides by; larger is better, except for names that end in "loss"."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints, beside the one after each validation; 0 = only those."""
    keep: int = 2
    """Newest checkpoints to keep."""
    log_every_steps: int = 1
    """Steps between two lines of log.jsonl."""
    seed: int = 0
    """Decides rows' order, batches' draws and dropout."""
    deterministic: bool = False
    """Insist on deterministic kernels (slower; needed for bit-equal runs on a GPU, not on a CPU)."""
    trackers: tuple[str, ...] = ()
    """Names accelerate knows (tensorboard, wandb, ...); log.jsonl is written in any case."""

    def __post_init__(self) -> None:
        for name in ("betas", "trackers"):  # TOML and JSON know lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, kind = getattr(self, field.name), hints[field.name]
            choices = get_args(kind)
            if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
                raise SettingsError(f"{field.name} is a whole number; got {value!r}")
            if kind is float:
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise SettingsError(f"{field.name} is a finite number; got {value!r}")
                object.__setattr__(self, field.name, float(value))
            if kind in (Optimiser, Schedule, Precision, Decay) and value not in choices:
                raise SettingsError(f"{field.name} cannot be {value!r}{nearest(str(value), choices)}")
        for name in ("epochs", "batch_size", "micro_batches", "keep", "log_every_steps"):
            self._at_least(name, 1)
        for name in (
            "max_steps",
            "warmup_steps",
            "eval_every",
            "patience",
            "checkpoint_every_steps",
            "seed",
            "weight_decay",
            "clip_norm",
        ):
            self._at_least(name, 0)
        if self.learning_rate <= 0:
            raise SettingsError(f"learning_rate must be above 0; got {self.learning_rate}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise SettingsError(f"betas are two numbers in [0, 1), e.g. (0.9, 0.999); got {self.betas}")
        if not METRIC.fullmatch(self.metric):
            raise SettingsError(f"metric is a name with its cut-off, e.g. 'ndcg@10', or a loss; got {self.metric!r}")

    def _at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise SettingsError(f"{name} must be at least {least}; got {getattr(self, name)}")

    @property
    def larger_is_better(self) -> bool:
        """Whether validation looks for the largest value of ``metric``."""
        return not self.metric.endswith("loss")
