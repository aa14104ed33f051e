"""Train any sequence model on a split: what ``rec-srs train`` and ``rec-llm-embed adapt`` both call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from rec_core.errors import DataError, SettingsError
from rec_core.randomness import generator
from rec_core.training.batching import epoch_order, micro_batches
from rec_core.training.checkpoint import kept_random_states
from rec_core.training.config import TrainSettings
from rec_core.training.loop import FitResult, Step, StepLoss, fit
from rec_core.training.protocols import AuxiliaryLoss, Batch, Progress, SequenceModel
from rec_core.training.sequence_recommender import SequenceRecommender
from rec_core.training.validation import check_metric, validate
from rec_core.types import HeldOut, Split

if TYPE_CHECKING:
    from accelerate import Accelerator


def fit_sequence_model(
    model: SequenceModel,
    split: Split,
    settings: TrainSettings,
    auxiliary: Sequence[AuxiliaryLoss] = (),
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
    fingerprint: Mapping[str, str] | None = None,
) -> FitResult:
    """Train ``model`` on the train rows of ``split`` and leave the best epoch's weights in it.

    The test rows are removed first. Validation ranks the whole catalogue for the users of the valid part, seen items
    excluded; ``settings.metric`` decides which epoch was best and when to stop. A split without valid rows trains for
    all epochs and keeps the last weights. ``auxiliary`` losses are added to the model's own and logged by name.

    A user with fewer than two train events has nothing to predict and is no training row; ``counts`` of the result
    says how many there were. A model with ``whole_steps`` is given the rows of a step in one piece. Rows are shuffled
    and drawn by ``settings.seed`` and the epoch alone. ``run_dir``, ``resume``, ``accelerator`` and errors are those of
    :func:`rec_core.training.fit`; the model's initial weights are the caller's, who seeds torch before building it.
    ``fingerprint`` is what else a resumed run must find unchanged, by name: the model's settings, which the loop does
    not know. :class:`DataError` when no user is a training row, when the model's item table is smaller than the split's
    universe, and when it holds NaN or infinity.
    """
    if not isinstance(model, nn.Module):
        raise SettingsError(f"a sequence model is a torch.nn.Module; got {type(model).__name__}")
    task = _SequenceTask(model, split.for_training(), settings, auxiliary, fingerprint or {})
    return fit(task, settings, run_dir, resume=resume, progress=progress, accelerator=accelerator)


class _WithAuxiliary(nn.Module):
    """Model and auxiliary losses as one module: what data-parallel training has to see whole."""

    def __init__(self, model: SequenceModel, auxiliary: Sequence[AuxiliaryLoss]) -> None:
        super().__init__()
        self.model = cast(nn.Module, model)
        self.auxiliary = nn.ModuleList([a for a in auxiliary if isinstance(a, nn.Module)])
        self._terms = [(_name(a), a) for a in auxiliary]
        names = [name for name, _ in self._terms]
        taken = [n for n in names if n in ("model_loss", "loss", "targets") or names.count(n) > 1]
        if taken:
            raise SettingsError(f"two losses cannot both be logged as {taken[0]!r}; give each its own name")

    def forward(self, batch: Batch) -> StepLoss:
        model = cast(SequenceModel, self.model)
        loss, target_ids = model.loss(batch)
        parts: dict[str, Tensor] = {}
        if self._terms:
            parts["model_loss"] = loss.detach()
        for name, term in self._terms:
            value = term(batch, target_ids, model)
            parts[name] = value.detach()
            loss = loss + value
        return StepLoss(loss, torch.tensor(target_ids.numel(), device=target_ids.device), parts)


def _name(auxiliary: AuxiliaryLoss) -> str:
    name = getattr(auxiliary, "name", None) or getattr(auxiliary, "__name__", None) or type(auxiliary).__name__
    return str(name)


def _check_table(model: SequenceModel) -> None:
    """One vector that is no number would spoil every loss: say which it is before the first step does."""
    with kept_random_states(), torch.no_grad():  # a layer may drop values
        bad = torch.nonzero(~model.items.table().isfinite().all(dim=1)).flatten().tolist()
    if bad:
        named = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise DataError(
            f"the vectors of {len(bad)} of {model.items.n_items} items hold NaN or infinity before training (items "
            f"{named}); look at what the item table was made from"
        )


class _SequenceTask:
    """The train rows of a split as steps, and ranking its valid rows as evaluation."""

    def __init__(
        self,
        model: SequenceModel,
        split: Split,
        settings: TrainSettings,
        auxiliary: Sequence[AuxiliaryLoss],
        also: Mapping[str, str],
    ) -> None:
        check_metric(settings.metric)
        self.also = also
        self.model, self.split, self.settings = model, split, settings
        self.module = _WithAuxiliary(model, auxiliary)
        self.whole_steps = bool(getattr(model, "whole_steps", False))
        self.train = split.train
        self.histories = self.train.histories()
        lengths = self.histories.lengths
        self.rows = np.flatnonzero(lengths >= 2)
        self.lengths = np.minimum(lengths, model.max_length + 1)  # what a model reads at most: inputs and last target
        self.counts = {"rows": len(self.rows), "too_short": int((lengths < 2).sum())}
        if not len(self.rows):
            raise DataError(
                f"none of the {len(lengths)} users has two train events, one to predict from the other; "
                f"look at the filters and the split"
            )
        if model.items.n_items < split.n_items:
            raise DataError(
                f"the model's item table has {model.items.n_items} rows, the split {split.n_items} items; "
                f"were they made from the same data set?"
            )
        _check_table(model)

    @cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """Hashes of the rows trained and validated on, and what the caller added."""
        hashes = self.split.hashes()
        return {**self.also, **{f"{part} part": hashes[part] for part in ("train", "valid")}}

    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be smaller."""
        return -(-len(self.rows) // self.settings.batch_size)

    def steps(self, epoch: int, start: int, process: int, processes: int) -> Iterator[Step]:
        """Each process takes every ``processes``-th row of the step."""
        settings = self.settings
        order = epoch_order(self.rows, settings.seed, epoch)
        for i in range(start, self.steps_per_epoch()):
            rows = order[i * settings.batch_size : (i + 1) * settings.batch_size]
            mine = rows[process::processes]
            counts = len(mine) > 0
            if self.whole_steps:  # compares rows, so it must not be shown one that is not there: an empty batch it is
                pieces = [mine]
            else:
                mine = mine if counts else rows[:1]  # run for nothing, in step with the other processes
                pieces = micro_batches(mine, self.lengths[mine], settings.micro_batches)
            batches = []
            for piece in pieces:
                rng = generator(settings.seed, "batch", epoch, i)  # equal for every piece: see SequenceModel.batch
                batches.append(self.model.batch(self.histories, piece, rng))
            yield Step(
                pieces=batches,
                expected=max(1.0, float((self.lengths[rows] - 1).sum())),
                counts=counts,
                users=self.histories.users[rows].tolist(),
                divisible=not self.whole_steps,
            )

    @cached_property
    def _held_out(self) -> HeldOut:
        return self.split.held_out("valid")

    def evaluate(self) -> dict[str, float]:
        """Full ranking of the valid part, seen items excluded."""
        recommender = SequenceRecommender(self.model, self.split.n_items)
        return validate(recommender, self._held_out, self.train, self.settings.metric)
