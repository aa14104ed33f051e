"""The one training loop, on accelerate: a task says what a step and an evaluation are, the loop does the rest."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rec_core.errors import MissingExtra, RecError, SettingsError
from rec_core.processes import WAIT, join, launched_alone_by_mistake, lost_contact, on_main
from rec_core.randomness import generator
from rec_core.training.checkpoint import (
    Checkpoint,
    copy_tensors,
    flatten,
    kept_random_states,
    random_states,
    read_latest,
    restore_tensors,
    set_random_states,
    trained_tensors,
    unflatten,
    write_checkpoint,
)
from rec_core.training.config import TrainSettings
from rec_core.training.log import JsonLines
from rec_core.training.memory import is_shortage
from rec_core.training.optimisation import learning_rate, make_optimiser
from rec_core.training.progress import LogProgress, NoProgress
from rec_core.training.protocols import Batch, Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("rec_core.training")
_PRECISIONS = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}
_MAY_CHANGE = {"trackers", "checkpoint_every_steps", "keep"}  # on a resume: these do not touch a number
_EXTENT = {"epochs", "max_steps"}  # may change too, as long as the learning rate does not depend on them


class TrainingError(RecError):
    """Training cannot go on: the loss is no number any more, or the memory is full."""


class StepLoss(NamedTuple):
    """What a task's module returns for one piece of a step.

    loss      scalar with gradient: the mean over the piece's targets, auxiliary terms included
    targets   int64 scalar: how many targets that were
    parts     the loss's terms by name, without gradient, for the log; {} where there is just one
    """

    loss: Tensor
    targets: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """One process's share of one optimiser step.

    pieces     micro-batches, run one after the other; at least one
    expected   about how many targets the step has over all processes and pieces; it keeps numbers in range before
               the true count is known, and cancels out
    counts     False when the pieces are only there to keep this process in step with others (too few rows for all)
    users      for messages: who the rows of the whole step are, over all processes
    divisible  False when more micro-batches would not make the pieces smaller; for messages, too
    """

    pieces: Sequence[Batch]
    expected: float
    counts: bool = True
    users: Sequence[int] = ()
    divisible: bool = True


class Task(Protocol):
    """What is trained on what."""

    @property
    def module(self) -> nn.Module:
        """``forward(batch) -> StepLoss``; all its parameters that want gradients are trained."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows trained on and left out, by name, for the result."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Hashes or values by name of what a resumed run must find unchanged (training rows, model settings, ...)."""
        ...

    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        ...

    def steps(self, epoch: int, start: int, process: int, processes: int) -> Iterator[Step]:
        """This process's share of the epoch's steps from step ``start`` on; equal arguments give equal steps."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Validation metrics; {} when there is nothing to validate on. Called on the main process, in eval mode."""
        ...


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training went; the model itself holds the best epoch's weights (the last ones without validation).

    metric        what validation decided by
    best_value    its best value; NaN without validation
    best_epoch    epochs passed when it was reached (1 = after the first); 0 without validation
    epochs        whole epochs passed
    steps         optimiser steps made
    seconds       spent training and validating, over all resumes
    stopped       why: "epochs" | "max_steps" | "patience"
    evaluations   one dict per validation: epoch, step and all metrics
    counts        rows trained on and left out, by name
    """

    metric: str
    best_value: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    stopped: str
    evaluations: list[dict[str, float]]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, float]:
        """The best validation: epoch, step and all metrics; {} without validation."""
        # max_steps may end a run inside an epoch: two validations then bear one number of epochs passed
        found = (e for e in self.evaluations if e["epoch"] == self.best_epoch and e[self.metric] == self.best_value)
        return next((dict(e) for e in found), {})


@dataclass(slots=True)
class _Position:
    """All that the loop remembers besides tensors. JSON values only: it goes into every checkpoint as it is."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    worse: int = 0  # validations since the best one
    epoch_loss: float = 0.0  # sum over the targets of the epoch so far
    epoch_targets: float = 0.0
    seconds: float = 0.0
    stopped: str = ""
    evaluations: list[dict[str, float]] = field(default_factory=list)


def fit(
    task: Task,
    settings: TrainSettings,
    run_dir: Path | str | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
) -> FitResult:
    """Train ``task.module`` and leave the best weights in it.

    ``run_dir`` gets ``log.jsonl`` and ``checkpoints/``; without it nothing is written. ``resume`` goes on from the
    newest whole checkpoint there (from the start where there is none yet) and on a CPU ends with the same bytes as a
    run that was never interrupted. ``accelerator`` replaces the one made from the settings (its device and processes
    come from the environment, as ``accelerate launch`` sets it). Global random generators are left as they were found.

    Gradients are those of the mean over all targets of a step, however its rows lie in micro-batches and processes.

    With several processes each one calls this with equal arguments (``run_dir`` on a file system they share) and gets
    an equal result; the main process evaluates, writes and reports.

    Raises :class:`SettingsError` for settings that do not fit here or differ from those of the run to resume,
    :class:`ArtifactError` for checkpoints that cannot be written or read, :class:`TrainingError` when the loss or the
    gradient is no longer finite, when memory runs out and when another process has gone.
    """
    with kept_random_states(), _determinism(settings.deterministic), _explained_loss_of_contact():
        accelerator = accelerator or _make_accelerator(settings, run_dir)
        run = _Run(task, settings, Path(run_dir) if run_dir else None, progress or LogProgress(), accelerator)
        try:
            run.begin(resume)
            run.train()
            return run.finish()
        finally:
            run.close()


class _Run:
    """The state of one call of :func:`fit`."""

    def __init__(
        self, task: Task, settings: TrainSettings, run_dir: Path | None, progress: Progress, accelerator: Accelerator
    ) -> None:
        self.task, self.settings, self.accelerator = task, settings, accelerator
        self.progress = progress if accelerator.is_main_process else NoProgress()
        self.run_dir = run_dir
        self.position = _Position()
        self.best: dict[str, Tensor] = {}
        self.per_epoch = task.steps_per_epoch()
        if self.per_epoch < 1:
            raise SettingsError("an epoch has no steps: there is nothing to train on")
        self.total = settings.epochs * self.per_epoch
        if settings.max_steps:
            self.total = min(self.total, settings.max_steps)
        # Moved before the optimiser is made: its fused form depends on where the parameters are.
        task.module.to(accelerator.device)
        self.model, self.optimiser = accelerator.prepare(task.module, make_optimiser(task.module, settings))
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.log = JsonLines(None)
        self.last_checkpoint: Path | None = None
        self.clock = perf_counter()

    # ---- beginning, end ------------------------------------------------------------------------------------------

    def begin(self, resume: bool) -> None:
        """Start at the beginning or where the newest checkpoint stands."""
        _seed_everything(self.settings.seed, self.accelerator.process_index)
        log_at = 0
        if self.run_dir is not None:
            found = read_latest(self.checkpoints) if resume else None
            if not resume and any(self.checkpoints.glob("step-*")):
                raise SettingsError(f"{self.checkpoints} holds checkpoints: resume that run, or start in another place")
            if found is not None:
                log_at = self._restore(found)
            self._agree_on_the_start()
            if found is None and resume:
                self.progress.message(f"no checkpoint in {self.checkpoints} yet: training starts from the beginning")
            if self.accelerator.is_main_process:
                self.log = JsonLines(self.run_dir / "log.jsonl", log_at)
        if self.settings.trackers:
            self.accelerator.init_trackers("rec", config=_plain(self.settings))
        self.progress.start(self.total, self.position.step)
        self.clock = perf_counter()

    def finish(self) -> FitResult:
        """Put the best weights into the model."""
        if self.best:
            restore_tensors(self.task.module, self.best)
        at = self.position
        return FitResult(
            metric=self.settings.metric,
            best_value=math.nan if at.best_value is None else at.best_value,
            best_epoch=at.best_epoch,
            epochs=at.epoch,
            steps=at.step,
            seconds=at.seconds,
            stopped=at.stopped,
            evaluations=at.evaluations,
            counts=dict(self.task.counts),
        )

    def close(self) -> None:
        """Let go of files, trackers and what accelerate holds."""
        self.log.close()
        self.progress.finish()
        if self.settings.trackers:
            self.accelerator.end_training()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # takes autocast off the module's forward

    # ---- training ------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Steps, validations and checkpoints until there is a reason to stop."""
        at, settings = self.position, self.settings
        while not at.stopped:
            for step in self._steps():
                values = self._optimise(step)
                self.progress.advance(1, {k: values[k] for k in ("loss", "learning_rate")})
                capped = bool(settings.max_steps) and at.step >= settings.max_steps
                epoch_ended = at.step_in_epoch == self.per_epoch
                if epoch_ended:
                    at.epoch, at.step_in_epoch = at.epoch + 1, 0
                at.stopped = "epochs" if at.epoch >= settings.epochs else "max_steps" if capped else ""
                due = epoch_ended and settings.eval_every and at.epoch % settings.eval_every == 0
                validated = bool(settings.eval_every) and bool(due or at.stopped) and self._validate()
                if epoch_ended or at.stopped:
                    self._log_epoch(at.evaluations[-1] if validated else {})
                every = settings.checkpoint_every_steps
                if self.run_dir is not None and (validated or at.stopped or (every and at.step % every == 0)):
                    self._save()
                if at.stopped:
                    break

    def _steps(self) -> Iterator[Step]:
        here, at = self.accelerator, self.position
        with self._explained_shortage("making the batch of"):  # errors of whoever takes the steps do not come by here
            yield from self.task.steps(at.epoch, at.step_in_epoch, here.process_index, here.num_processes)

    def _optimise(self, step: Step) -> dict[str, Any]:
        """One optimiser step; returns what the log says about it."""
        at, settings, accelerator = self.position, self.settings, self.accelerator
        began = perf_counter()
        rate = learning_rate(settings, at.step, self.total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        for parameter in self.parameters:
            parameter.grad = None
        with self._explained_shortage("at", step):
            sums = self._backward(step)
            totals: dict[str, float] = dict(
                zip(sums, accelerator.reduce(torch.stack(list(sums.values())), "sum").tolist(), strict=True)
            )
            targets = totals.pop("targets")
            means = {name: value / max(targets, 1.0) for name, value in totals.items()}
            if not math.isfinite(means["loss"]):
                raise self._not_finite(f"the loss is {means['loss']}", step)
            norm = self._scale_gradients(step.expected / targets if targets else 0.0)
            if not math.isfinite(norm) and settings.precision != "fp16":  # the scaler of fp16 skips such a step itself
                raise self._not_finite(f"the norm of the gradient is {norm}", step)
            # accelerate's wrapper is there for the scaler; on each call it searches the disk for a package, twice
            (self.optimiser if accelerator.scaler is not None else self.optimiser.optimizer).step()
        at.step += 1
        at.step_in_epoch += 1
        at.epoch_loss += totals["loss"]
        at.epoch_targets += targets
        now = perf_counter()
        at.seconds, self.clock = at.seconds + now - self.clock, now
        values = {
            **means,
            "learning_rate": rate,
            "gradient_norm": norm,
            "targets": int(targets),
            "targets_per_second": targets / max(now - began, 1e-9),
            "seconds": at.seconds,
        }
        if at.step % settings.log_every_steps == 0:
            self.log.write("step", step=at.step, epoch=at.epoch + 1, **values)
            self._track(values)
        return values

    def _backward(self, step: Step) -> dict[str, Tensor]:
        """Accumulate gradients of the step's pieces; returns sums over this process's targets, by name.

        Each piece's mean is weighted by its targets over the expected number of all. Data-parallel training averages
        gradients over processes, hence the factor of their number. Whatever the expectation, dividing by the true
        global count later gives the gradient of the mean over all targets.
        """
        accelerator = self.accelerator
        wide = torch.float32 if accelerator.device.type == "mps" else torch.float64
        zero = torch.zeros((), dtype=wide, device=accelerator.device)
        # accelerate divides by its accumulation steps, which only the environment can have set: undone here
        weight = accelerator.num_processes * accelerator.gradient_accumulation_steps / step.expected
        sums: dict[str, Tensor] = {}
        for i, piece in enumerate(step.pieces):
            last = i == len(step.pieces) - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss, targets, parts = self.model(_to_device(piece, accelerator.device))
                if last and accelerator.num_processes > 1:
                    loss = _Reach.apply(loss, *self.parameters)  # type: ignore[no-untyped-call]
                share = targets.to(wide) if step.counts else torch.zeros_like(targets, dtype=wide)
                accelerator.backward(loss * (share * weight).to(loss.dtype))
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, zero) + value.detach().to(wide) * share
            sums["targets"] = sums.get("targets", zero) + share
        return sums

    def _scale_gradients(self, factor: float) -> float:
        """Multiply gradients by ``factor``, then clip them; returns their norm before clipping."""
        for parameter in self.parameters:
            if parameter.grad is None:  # unused in this step: several processes cannot tell that from a gradient of 0
                parameter.grad = torch.zeros_like(parameter)
        self.accelerator.unscale_gradients()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) * factor
        most = self.settings.clip_norm
        if most and math.isfinite(norm) and norm > most:
            factor *= most / norm
        if factor != 1.0:
            for gradient in gradients:
                gradient.mul_(factor)
        return norm

    def _validate(self) -> bool:
        """Evaluate and remember the best weights; sets ``stopped`` when patience is over. False: nothing to do."""
        at, settings = self.position, self.settings
        self.task.module.eval()
        # However many numbers an evaluation draws, training goes on with the same ones. One process measures and tells
        # the others: rounding may differ between devices, and they must agree on when to stop.
        with kept_random_states(), self._explained_shortage("validating after"):
            metrics = on_main(self.task.evaluate)
        if not metrics:
            return False
        if settings.metric not in metrics:
            raise SettingsError(f"the evaluation gives no {settings.metric!r}; it gives {', '.join(sorted(metrics))}")
        value = metrics[settings.metric]
        if not math.isfinite(value):
            raise TrainingError(f"validation gave {settings.metric} = {value} after step {at.step}: did it diverge?")
        sign = 1 if settings.larger_is_better else -1
        better = at.best_value is None or sign * value > sign * at.best_value
        at.evaluations.append({"epoch": at.epoch, "step": at.step, **metrics})
        if better:
            at.best_value, at.best_epoch, at.worse = value, at.epoch, 0
            self.best = copy_tensors(self.task.module)
        else:
            at.worse += 1
            if settings.patience and at.worse >= settings.patience:
                at.stopped = "patience"
        mark = "best so far" if better else f"best was {at.best_value:.5f} after epoch {at.best_epoch}"
        self.progress.message(f"epoch {at.epoch}: {settings.metric} {value:.5f} ({mark})")
        self.progress.validated(at.evaluations[-1])
        return True

    def _log_epoch(self, metrics: Mapping[str, float]) -> None:
        at = self.position
        now = perf_counter()
        at.seconds, self.clock = at.seconds + now - self.clock, now
        values = {k: v for k, v in metrics.items() if k not in ("epoch", "step")}
        mean = at.epoch_loss / max(at.epoch_targets, 1.0)
        stopped = {"stopped": at.stopped} if at.stopped else {}
        self.log.write(
            "epoch", step=at.step, epoch=at.epoch, epoch_loss=mean, seconds=at.seconds, metrics=values, **stopped
        )
        self._track({"epoch_loss": mean, **values})
        if at.step_in_epoch == 0:
            at.epoch_loss = at.epoch_targets = 0.0

    def _track(self, values: Mapping[str, float]) -> None:
        if self.settings.trackers:
            self.accelerator.log(dict(values), step=self.position.step)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        assert self.run_dir is not None  # callers ask only then
        return self.run_dir / "checkpoints"

    def _save(self) -> None:
        from accelerate.utils import gather_object

        states: list[Any] = [random_states()]
        if self.accelerator.num_processes > 1:
            states = gather_object(states)

        def write() -> Path:
            moments: dict[str, Tensor] = {}
            skeleton = flatten(self.optimiser.state_dict(), moments)
            scaler = self.accelerator.scaler
            tensors: dict[str, Mapping[str, Tensor]] = {
                "weights": trained_tensors(self.task.module),
                "optimiser": moments,
                "random": {f"{p}.{name}": t for p, (_, found) in enumerate(states) for name, t in found.items()},
            }
            if self.best:
                tensors["best"] = self.best
            state = {
                "position": asdict(self.position),
                "settings": _plain(self.settings),
                "fingerprint": dict(self.task.fingerprint),
                "processes": self.accelerator.num_processes,
                "optimiser": skeleton,
                "scaler": flatten(scaler.state_dict(), {}) if scaler is not None else None,
                "random": [values for values, _ in states],
                "log_bytes": self.log.position(),
                "versions": {"torch": torch.__version__, "numpy": np.__version__},
            }
            checkpoint = Checkpoint(self.position.step, tensors, state)
            return write_checkpoint(self.checkpoints, checkpoint, self.settings.keep)

        self.last_checkpoint = on_main(write)

    def _agree_on_the_start(self) -> None:
        """Refuse to train where the processes do not see the same checkpoint."""
        from accelerate.utils import gather_object

        if self.accelerator.num_processes > 1:
            found = gather_object([self.position.step])
            if len(set(found)) > 1:
                raise SettingsError(
                    f"the processes find checkpoints of different steps in {self.checkpoints} ({found}): the run "
                    f"directory must lie on a file system that all hosts share"
                )

    def _restore(self, checkpoint: Checkpoint) -> int:
        """Stand where the checkpoint stands; returns how much of the log belongs to it."""
        state, tensors = checkpoint.state, checkpoint.tensors
        self._compare(state)
        restore_tensors(self.task.module, tensors["weights"])
        self.optimiser.load_state_dict(unflatten(state["optimiser"], tensors["optimiser"]))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(unflatten(state["scaler"], {}))
        self.best = dict(tensors.get("best", {}))
        self.position = _Position(**state["position"])
        process = self.accelerator.process_index
        mine = {n.partition(".")[2]: t for n, t in tensors["random"].items() if n.startswith(f"{process}.")}
        set_random_states(state["random"][process], mine)
        at = self.position
        if at.stopped in _EXTENT and self.total > at.step:
            at.stopped = ""  # finished then, but there is more to do now
        self.last_checkpoint = self.checkpoints / f"step-{checkpoint.step:08d}"
        self.progress.message(f"resumed at step {at.step} (epoch {at.epoch + 1}) from {self.last_checkpoint}")
        return int(state["log_bytes"])

    def _compare(self, state: Mapping[str, Any]) -> None:
        """Refuse a resume that would mix two runs."""
        recorded, now = state["settings"], _plain(self.settings)
        fixed = _MAY_CHANGE | (_EXTENT if self.settings.schedule == "constant" else set())
        for name in now:
            if name not in fixed and recorded.get(name) != now[name]:
                why = f" (the {now['schedule']} schedule depends on it)" if name in _EXTENT else ""
                raise SettingsError(
                    f"the run in {self.run_dir} was started with {name} = {recorded.get(name)!r} and would resume with "
                    f"{now[name]!r}{why}; keep the old value or start a run of its own"
                )
        theirs, ours = state["fingerprint"], dict(self.task.fingerprint)
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise SettingsError(
                    f"the run in {self.run_dir} was started with another {name} (then {str(theirs.get(name))[:12]}, "
                    f"now {str(ours.get(name))[:12]}); start a run of its own"
                )
        if state["processes"] != self.accelerator.num_processes:
            raise SettingsError(
                f"the run in {self.run_dir} was started with {state['processes']} processes and would resume with "
                f"{self.accelerator.num_processes}; dropout would differ. Use {state['processes']}"
            )

    # ---- trouble -------------------------------------------------------------------------------------------------

    def _not_finite(self, what: str, step: Step) -> TrainingError:
        at = self.position
        users = ", ".join(str(u) for u in step.users[:10]) + (", ..." if len(step.users) > 10 else "")
        saved = f"the last good checkpoint is {self.last_checkpoint}" if self.last_checkpoint else "no checkpoint yet"
        return TrainingError(
            f"{what} at step {at.step + 1} (epoch {at.epoch + 1}); users of the batch: {users or 'unknown'}; {saved}. "
            f"Look at those rows, or lower learning_rate ({self.settings.learning_rate:g})"
        )

    @contextmanager
    def _explained_shortage(self, doing: str, step: Step | None = None) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            settings = self.settings
            now = self.position.step + (0 if doing.startswith("validating") else 1)
            pieces = f" in {len(step.pieces)} micro-batches" if step is not None else ""
            way_out = "lower batch_size"
            if step is None or step.divisible:
                way_out += f", or raise micro_batches (now {settings.micro_batches}): same result, less at a time"
            way_out += "; a smaller model needs less too"
            raise TrainingError(
                f"out of memory on {self.accelerator.device} {doing} step {now}, with batch_size "
                f"{settings.batch_size}{pieces}; {way_out}"
            ) from error


@contextmanager
def _explained_loss_of_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        raise TrainingError(
            "another process of this training has gone: what it said, if it could, stands beside this message; one "
            "that was killed without a word has often run out of memory. --resume goes on from the last checkpoint"
        ) from error


class _Reach(torch.autograd.Function):
    """The loss itself, as something that depends on every parameter.

    Data-parallel training waits for all gradients, also for those of a parameter that this process's rows did not use.
    None reaches it from here, which costs nothing; the search for unused ones that torch offers walks the whole graph.
    """

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.others = len(parameters)
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.others


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Settings as JSON gives them back (tuples are lists there)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _to_device(batch: Batch, device: torch.device) -> Batch:
    from accelerate.utils import send_to_device

    return send_to_device(batch, device, non_blocking=True)


def _seed_everything(seed: int, process: int) -> None:
    """Dropout and whatever else reads the global generators; each process draws for itself."""
    words = [int(w) for w in generator(seed, "training", process).integers(2**32, size=3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        if wanted:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses; CPUs do not care
            torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _make_accelerator(settings: TrainSettings, run_dir: Path | str | None) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    if settings.trackers and run_dir is None:
        raise SettingsError("trackers need a run directory to write to")
    if launched_alone_by_mistake():
        logger.warning(
            "accelerate launch --cpu starts a single process whatever --num_processes says: this one trains alone. "
            "Several on CPUs: torchrun --nproc_per_node N -m ..."
        )
    join()
    # The precision is process-wide in accelerate, which refuses a second one; a second fit may well want another.
    AcceleratorState._reset_state(reset_partial_state=False)
    make: Callable[..., Accelerator] = Accelerator
    try:
        with warnings.catch_warnings():  # a missing tracker is an error below
            warnings.filterwarnings("ignore", message=".*no supported trackers")
            accelerator = make(
                mixed_precision=_PRECISIONS[settings.precision],
                log_with=list(settings.trackers) or None,
                project_dir=str(run_dir) if run_dir is not None else None,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
            )
    except ValueError as error:
        raise SettingsError(f"precision {settings.precision}, trackers {settings.trackers}: {error}") from error
    if settings.precision == "fp16" and accelerator.scaler is None:  # accelerate then trains in float32, silently
        raise SettingsError(f"precision fp16 needs a GPU, not {accelerator.device}; use bf16 or float32")
    started = {str(getattr(t, "value", t)) for t in accelerator.log_with}
    for name in settings.trackers:
        if name not in started:  # accelerate drops a tracker that is not installed without a word
            raise MissingExtra(f"the tracker {name!r} is not installed; try: pip install {name}")
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
    ):
        raise SettingsError(
            f"{accelerator.distributed_type} is not supported yet: launch with plain data-parallel processes"
        )
    return accelerator
