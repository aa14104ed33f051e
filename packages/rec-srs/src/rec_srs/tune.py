"""Search for settings: Optuna proposes them, the train part trains, the valid part decides. The test part is not there.

A study is a directory: ``study.journal`` (Optuna's own file: any of its tools opens it), ``best.toml`` (goes into
``rec-srs train --config``), ``trials.parquet`` and ``study.png``. A trial depends on the seed, its place and the trials
before it alone, so a study that was killed and resumed makes the trials that it would have made.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rec_core.artifacts import Artifact, Writer, check_output, create, open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import DataError, SettingsError, require
from rec_core.randomness import generator
from rec_core.settings import check_values
from rec_core.training.progress import NoProgress
from rec_core.training.validation import check_metric, validate
from rec_core.types import Split
from rec_srs.models import ModelKind, model_kind
from rec_srs.spaces import Between, OneOf, Range, Space, search_space, stages

if TYPE_CHECKING:
    from rec_core.training import Progress, TrainSettings

KIND = "study"
JOURNAL = "study.journal"


@dataclass(frozen=True, slots=True)
class Trial:
    """One proposal and how it fared.

    index     from 0, in the order of the study; interrupted attempts do not count
    state     "complete" | "pruned" (below the median of earlier trials) | "failed" (diverged, or settings that do not
              fit together)
    values    option -> value tried
    value     best validation value; of a pruned one: so far; None where there is none
    epoch     after which epoch that was; 0 for a closed form
    seconds   spent on it
    note      why it failed, or which trial with the same settings it repeats
    """

    index: int
    state: str
    values: Mapping[str, Any]
    value: float | None
    epoch: int
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """All trials of a search.

    model     what was tuned
    metric    what validation decided by; larger is better unless it ends in "loss"
    space     what was searched
    trials    in order
    best      the best complete trial
    weights   option -> share of the differences between good trials and the rest; {} where trials are too few to say
    """

    model: str
    metric: str
    space: Space
    trials: tuple[Trial, ...]
    best: Trial
    weights: Mapping[str, float]


def tune(
    model: str,
    split: Split,
    settings: Any = None,
    training: TrainSettings | None = None,
    space: Space | None = None,
    *,
    trials: int = 20,
    seed: int = 0,
    metric: str = "ndcg@10",
    timeout: float | None = None,
    prune_after: int = 5,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Study:
    """Try ``trials`` settings of a model, each trained on the train part and measured on the valid part.

    ``settings`` and ``training`` hold what is not searched. The seed and the metric of a model that is trained step by
    step are those of ``training``; ``seed`` and ``metric`` are for closed forms. Proposals come from a seeded TPE
    sampler; floats are rounded to three digits. After ``prune_after`` validations a trial stops when its best value
    lies below the median of the earlier trials at that point (0 = never). A trial that diverges has failed and the
    study goes on; settings that were tried already are not trained again. After ``timeout`` seconds no new trial
    begins. With ``journal`` the study is kept in that file, and goes on where it stands when the file exists: a trial
    that was interrupted is marked as failed and made again.

    Raises :class:`DataError` for a split without a valid part, :class:`SettingsError` for options that do not fit and
    when every trial failed, :class:`MissingExtra` without Optuna, and what training raises about the data.
    """
    optuna = require("optuna", "tune", "rec-srs")
    kind = model_kind(model)
    settings = kind.settings() if settings is None else settings
    if kind.training is not None:
        training = kind.training() if training is None else training
        seed, metric = training.seed, training.metric
    space = search_space(model) if space is None else space
    split = split.for_training()
    _check(kind, split, settings, training, space, metric, trials, timeout, prune_after)
    asked = _asked(kind, split, settings, training, space, seed, metric, prune_after)
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=prune_after - 1)
        if prune_after
        else optuna.pruners.NopPruner()
    )
    with _quiet(optuna):
        study = optuna.create_study(
            storage=None if journal is None else _storage(optuna, journal),
            study_name=KIND,
            direction="minimize" if metric.endswith("loss") else "maximize",
            pruner=pruner,
            load_if_exists=True,
        )
        _continue(optuna, study, asked, journal)
        done = _finished(study)
        progress = progress or NoProgress()
        progress.start(trials, min(len(done), trials))
        if done:
            progress.message(f"{len(done)} trials are there already, {max(0, trials - len(done))} to go")
        started = time.monotonic()
        while len(done) < trials and (timeout is None or time.monotonic() - started < timeout):
            # a sampler of its own per trial: what it draws depends on the trial's place, not on who drew before it
            study.sampler = optuna.samplers.TPESampler(
                seed=int(generator(seed, "tune", len(done)).integers(2**32)), constant_liar=False
            )
            attempt = study.ask({name: _distribution(optuna, choice) for name, choice in space.items()})
            values = {name: _in_range(space[name], value) for name, value in attempt.params.items()}
            trial = _try(optuna, kind, split, settings, training, metric, attempt, values, done)
            attempt.set_user_attr("trial", json.loads(json.dumps(asdict(trial))))
            _tell(optuna, study, attempt.number, trial)
            done.append(trial)
            progress.advance(1, {} if trial.value is None else {metric: trial.value})
            progress.message(_in_words(trial, metric, done))
        complete = [trial for trial in done if trial.state == "complete"]
        if not complete:
            what = f"the last: {done[-1].note}" if done else "the time was over before the first one"
            raise SettingsError(f"no trial of {len(done)} was completed; {what}")
        weights = _weights(optuna, study, complete, space)
    best = _better(complete, metric)[0]
    return Study(model, metric, space, tuple(done), best, weights)


def tune_run(
    data: Path | str,
    output: Path | str,
    *,
    model: str,
    settings: Any = None,
    training: TrainSettings | None = None,
    space: Space | None = None,
    trials: int = 20,
    seed: int = 0,
    metric: str = "ndcg@10",
    timeout: float | None = None,
    prune_after: int = 5,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[Artifact, Study]:
    """Tune a model on the data set at ``data`` and write the study at ``output``; see :func:`tune`.

    While it is unfinished the study lies at ``output + ".partial"``, and ``resume`` goes on with it.
    """
    require("optuna", "tune", "rec-srs")
    require("matplotlib", "tune", "rec-srs")
    kind = model_kind(model)
    settings = kind.settings() if settings is None else settings
    if kind.training is not None:
        training = kind.training() if training is None else training
        seed, metric = training.seed, training.metric
    space = search_space(model) if space is None else space
    check_output(output, overwrite=overwrite, resume=resume)
    dataset = open_artifact(data, "dataset")
    split = read_dataset(dataset).split.for_training()
    _check(kind, split, settings, training, space, metric, trials, timeout, prune_after)
    recorded = {"model": asdict(settings), "space": {name: _shown(choice) for name, choice in space.items()}}
    recorded |= {"trials": trials, "metric": metric, "prune_after": prune_after, "timeout": timeout}
    if training is not None:
        recorded |= {"training": asdict(training)}
    with create(
        output,
        KIND,
        settings=recorded,
        seed=seed,
        inputs=[dataset.as_input("dataset")],
        overwrite=overwrite,
        resumable=True,
        resume=resume,
    ) as out:
        study = tune(
            model,
            split,
            settings,
            training,
            space,
            trials=trials,
            seed=seed,
            metric=metric,
            timeout=timeout,
            prune_after=prune_after,
            journal=out.directory / JOURNAL,
            progress=progress,
        )
        _write(out, study, settings, training)
    return open_artifact(output, KIND, verify=False), study


def _check(
    kind: ModelKind,
    split: Split,
    settings: Any,
    training: TrainSettings | None,
    space: Space,
    metric: str,
    trials: int,
    timeout: float | None,
    prune_after: int,
) -> None:
    """Everything that can be known to go wrong before the first trial."""
    if trials < 1:
        raise SettingsError(f"trials must be at least 1; got {trials}")
    if timeout is not None and not timeout > 0:
        raise SettingsError(f"timeout must be above 0 seconds; got {timeout:g}")
    if prune_after < 0:
        raise SettingsError(f"prune-after must be at least 0; got {prune_after}")
    if training is not None and training.eval_every == 0:
        raise SettingsError("tuning compares validations: eval-every must be at least 1")
    check_metric(metric)
    name, at, k = metric.partition("@")
    if name != "auc" and not (at and k.isdigit() and int(k) >= 1):
        raise SettingsError(f"metric is a name with its cut-off, e.g. 'ndcg@10'; got {metric!r}")
    if not len(split.held_out("valid")):
        raise DataError(
            f"the data set has no valid part to tune on (protocol {split.protocol}); prepare it with one, e.g. "
            f"rec-data prepare --split leave-one-out. The test part is never tuned on"
        )
    for name, choice in space.items():
        for value in choice.ends:
            check_values({name: list(value) if isinstance(value, tuple) else value}, "search space", *stages(kind))
            _check_possible(name, value, settings, training, space)


def _check_possible(name: str, value: Any, settings: Any, training: TrainSettings | None, space: Space) -> None:
    """An end of a range must be taken with the other options as they are, or with some value of one of them."""
    try:
        _with(settings, training, {name: value})
    except SettingsError as error:
        for other, choice in space.items():
            for end in choice.ends if other != name else ():
                try:
                    _with(settings, training, {name: value, other: end})
                except SettingsError:
                    continue
                return
        raise SettingsError(f"the search space reaches values that cannot be: {error}") from error


def _with(settings: Any, training: TrainSettings | None, values: Mapping[str, Any]) -> tuple[Any, TrainSettings | None]:
    """Settings of both stages with some options set."""
    of_model = {field.name for field in fields(settings)}
    ours = {name: value for name, value in values.items() if name in of_model}
    rest = {name: value for name, value in values.items() if name not in of_model}
    return replace(settings, **ours), None if training is None else replace(training, **rest)


def _asked(
    kind: ModelKind,
    split: Split,
    settings: Any,
    training: TrainSettings | None,
    space: Space,
    seed: int,
    metric: str,
    prune_after: int,
) -> dict[str, str]:
    """What a study that goes on must find unchanged, by name."""
    searched = set(space)
    asked = {"model": kind.name, "seed": str(seed), "metric": metric, "prune_after": str(prune_after)}
    for stage in (settings, training):
        if stage is not None:
            asked |= {name: str(value) for name, value in asdict(stage).items() if name not in searched}
    asked |= {f"space of {name}": str(_shown(choice)) for name, choice in space.items()}
    hashes = split.hashes()
    return asked | {f"{part} part": hashes[part][:12] for part in ("train", "valid")}


def _shown(choice: Range) -> Any:
    """A range as JSON."""
    return (
        asdict(choice)
        if isinstance(choice, Between)
        else [list(c) if isinstance(c, tuple) else c for c in choice.choices]
    )


# ---- Optuna ------------------------------------------------------------------------------------------------------


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Our own lines say what happens; Optuna's would say it twice."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _storage(optuna: Any, journal: Path) -> Any:
    """The journal as Optuna's storage, freed of what a killed process left: a torn last line and a lock.

    Whoever holds the artifact's lock is the only writer, so a lock beside the journal is a dead one.
    """
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)  # Optuna would write on behind it, and never read it again
    Path(f"{journal}.lock").unlink(missing_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal))))


def _continue(optuna: Any, study: Any, asked: Mapping[str, str], journal: Path | None) -> None:
    """See that a study found there is the one that is asked for, and mark what was interrupted as failed."""
    began_as = study.user_attrs.get("asked")
    if began_as is None:
        study.set_user_attr("asked", dict(asked))
        return
    for name in (*asked, *(began_as.keys() - asked.keys())):  # the model first: without it nothing else fits
        if began_as.get(name) != asked.get(name):
            raise SettingsError(
                f"the study at {journal} was started with another {name} (then {began_as.get(name, 'none')}, now "
                f"{asked.get(name, 'none')}); keep it, or start a study of its own"
            )
    running = (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING)
    for left in study.get_trials(deepcopy=False, states=running):
        if "trial" in left.user_attrs:  # stopped between its record and its end
            _tell(optuna, study, left.number, Trial(**left.user_attrs["trial"]))
        else:
            study.tell(left.number, state=optuna.trial.TrialState.FAIL)


def _tell(optuna: Any, study: Any, number: int, trial: Trial) -> None:
    """End an attempt as its record says."""
    state = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[trial.state]
    study.tell(number, trial.value if trial.state == "complete" else None, state=optuna.trial.TrialState[state])


def _finished(study: Any) -> list[Trial]:
    """The trials of a study in order; an attempt that was interrupted has no record and is none."""
    return [Trial(**t.user_attrs["trial"]) for t in study.get_trials(deepcopy=False) if "trial" in t.user_attrs]


def _distribution(optuna: Any, choice: Range) -> Any:
    kinds = optuna.distributions
    if isinstance(choice, OneOf):
        return kinds.CategoricalDistribution([json.dumps(c) if isinstance(c, tuple) else c for c in choice.choices])
    whole = isinstance(choice.low, int) and isinstance(choice.high, int)
    return (kinds.IntDistribution if whole else kinds.FloatDistribution)(choice.low, choice.high, log=choice.log)


def _in_range(choice: Range, value: Any) -> Any:
    """A proposal as it is used: three digits are enough for people, and lists are lists again."""
    if isinstance(choice, OneOf):
        return next(c for c in choice.choices if (json.dumps(c) if isinstance(c, tuple) else c) == value)
    return value if isinstance(value, int) else min(max(float(f"{value:.3g}"), choice.low), choice.high)


class _Watch(NoProgress):
    """Tells Optuna each validation, and ends the training when it is told to."""

    def __init__(self, optuna: Any, attempt: Any, metric: str) -> None:
        self.optuna, self.attempt, self.metric = optuna, attempt, metric
        self.seen: list[tuple[float, int]] = []  # value and epoch of each validation

    def validated(self, metrics: Mapping[str, float]) -> None:
        """As of :class:`rec_core.training.Progress`."""
        value = float(metrics[self.metric])
        self.attempt.report(value, len(self.seen))
        self.seen.append((value, int(metrics["epoch"])))
        if self.attempt.should_prune():
            raise self.optuna.TrialPruned


def _try(
    optuna: Any,
    kind: ModelKind,
    split: Split,
    settings: Any,
    training: TrainSettings | None,
    metric: str,
    attempt: Any,
    values: dict[str, Any],
    done: list[Trial],
) -> Trial:
    """Train and validate one proposal, unless it was tried before."""
    same = next((trial for trial in done if dict(trial.values) == _plain(values)), None)
    if same is not None:
        note = same.note if same.note.startswith("same as trial") else f"same as trial {same.index}"
        return replace(same, index=len(done), seconds=0.0, note=note)
    started = time.perf_counter()

    def ended(state: str, value: float | None, epoch: int, note: str = "") -> Trial:
        return Trial(len(done), state, _plain(values), value, epoch, round(time.perf_counter() - started, 3), note)

    try:
        settings, training = _with(settings, training, values)
    except SettingsError as error:  # each value is possible, together they are not
        return ended("failed", None, 0, str(error))
    if training is None:
        return ended("complete", _validate_closed_form(kind, split, settings, metric), 0)
    from rec_core.training import TrainingError
    from rec_srs.train import train_model

    watch = _Watch(optuna, attempt, metric)
    try:
        _, result = train_model(kind.name, split, settings, training, progress=watch)
    except optuna.TrialPruned:
        value, epoch = (min if metric.endswith("loss") else max)(watch.seen, key=lambda pair: pair[0])
        return ended("pruned", value, epoch)
    except TrainingError as error:
        return ended("failed", None, 0, str(error))
    except SettingsError as error:  # does not fit the data: some values of a study that has others, or the whole of it
        if not any(trial.state == "complete" for trial in done):
            raise
        return ended("failed", None, 0, str(error))
    return ended("complete", result.best_value, result.best_epoch)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _validate_closed_form(kind: ModelKind, split: Split, settings: Any, metric: str) -> float:
    train = split.train
    return validate(kind.load()(train, settings), split.held_out("valid"), train, metric)[metric]


def _better(trials: Collection[Trial], metric: str) -> list[Trial]:
    """Best first; the earlier one of two that are equal."""
    sign = 1 if metric.endswith("loss") else -1
    return sorted((t for t in trials if t.value is not None), key=lambda t: (sign * (t.value or 0.0), t.index))


def _weights(optuna: Any, study: Any, complete: list[Trial], space: Space) -> dict[str, float]:
    """PED-ANOVA importance (Watanabe, Bansal & Hutter 2023): what sets the best trials apart from the rest."""
    if len(complete) < 10 or len(space) < 2 or len({trial.value for trial in complete}) < 3:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.3))
    except (ValueError, RuntimeError):  # no option differs between good and bad trials
        return {}
    return {name: round(float(share), 3) for name, share in found.items()}


# ---- what is written and said ------------------------------------------------------------------------------------


def _write(out: Writer, study: Study, settings: Any, training: TrainSettings | None) -> None:
    out.files.append(JOURNAL)  # lies there already: Optuna wrote it
    trials = study.trials
    columns: dict[str, Any] = {
        name: [getattr(trial, name) for trial in trials]
        for name in ("index", "state", "value", "epoch", "seconds", "note")
    }
    for name in study.space:
        tried = [trial.values[name] for trial in trials]
        columns[f"option:{name}"] = [json.dumps(v) for v in tried] if isinstance(tried[0], list) else tried
    out.table("trials", columns)
    out.file("best.toml").write_text(best_settings(study, settings, training), encoding="utf-8")
    from rec_srs.study_picture import draw

    draw(study).savefig(out.file("study.png"), dpi=150, metadata={"Software": None})
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    out.describe(
        model=study.model, metric=study.metric, counts=counts, best=asdict(study.best), importance=dict(study.weights)
    )


def best_settings(study: Study, settings: Any, training: TrainSettings | None) -> str:
    """The best trial as a settings file: what was searched, and what else differs from the defaults."""
    chosen = _with(settings, training, study.best.values)
    lines = [
        f"# trial {study.best.index} of {len(study.trials)}: {study.metric} {study.best.value:.5f} on the valid part",
        f"model = {json.dumps(study.model)}",
    ]
    for stage in chosen:
        if stage is not None:
            usual = {field.name: field.default for field in fields(stage)}
            for name, value in asdict(stage).items():
                if name in study.space or value != usual[name]:
                    lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _in_words(trial: Trial, metric: str, done: list[Trial]) -> str:
    """One line per trial."""
    tried = ", ".join(f"{name} {value}" for name, value in trial.values.items())
    if trial.state == "failed":
        return f"trial {trial.index} failed ({tried}): {trial.note}"
    best = _better([t for t in done if t.state == "complete"], metric)
    mark = "best so far" if best and best[0].index == trial.index else f"best is {best[0].value:.5f}" if best else ""
    after = f" after epoch {trial.epoch}" if trial.epoch else ""
    how = f"{trial.state}, {trial.note}" if trial.note else trial.state
    return f"trial {trial.index} {how}: {metric} {trial.value:.5f}{after} ({mark}); {tried}"


def print_study(study: Study, most: int = 10) -> None:
    """The best trials as a table, and how many there were of each kind."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from rec_core.cli import console

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("trial", study.metric, "epoch", "seconds", *study.space):
        table.add_column(escape(heading), justify="right", overflow="fold")
    complete = _better([trial for trial in study.trials if trial.state == "complete"], study.metric)
    for trial in complete[:most]:
        options = [escape(str(trial.values[name])) for name in study.space]
        table.add_row(str(trial.index), f"{trial.value:.5f}", str(trial.epoch), f"{trial.seconds:.1f}", *options)
    out = console()
    out.print(table)
    counts = {state: sum(trial.state == state for trial in study.trials) for state in ("complete", "pruned", "failed")}
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    out.print(f"{len(study.trials)} trials: {said}", highlight=False, markup=False)
    if study.weights:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in study.weights.items())
        out.print(f"what sets the best apart: {shares}", highlight=False, markup=False, soft_wrap=True)
