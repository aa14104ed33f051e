"""The ``rec-srs`` command: train, tune, evaluate, recommend, export."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rec_core.cli import (
    DataOverride,
    Json,
    Overwrite,
    Progress,
    Resume,
    SettingsFile,
    make_app,
    option_in,
    run,
    use_settings_file,
)
from rec_core.commands import evaluate as evaluate_command
from rec_core.errors import SettingsError, nearest
from rec_core.processes import is_main_process, process_count
from rec_core.settings import read_settings_file
from rec_srs.models import MODELS, ModelKind, model_kind
from rec_srs.spaces import SPACES, stages

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

app = make_app("rec-srs", f"Recommenders on item ids: {', '.join(MODELS)}.")
app.command(evaluate_command, name="evaluate")


def train_command(kind: ModelKind) -> Callable[..., None]:
    """The train command with the options of one model: ``--model`` decides which others exist."""

    def train(
        data: Path,
        output: Path,
        /,
        *,
        model: str = "sasrec",
        preset: str | None = None,
        config: SettingsFile = None,
        embeddings: Path | None = None,
        freeze_embeddings: Annotated[bool, Parameter(negative=())] = False,
        overwrite: Overwrite = False,
        resume: Resume = False,
        settings: Any = None,
        training: Any = None,
    ) -> None:
        """Train a recommender on a prepared data set.

        Parameters
        ----------
        data
            Directory made by rec-data prepare.
        output
            Directory of the run.
        model
            One of {models}. Decides which options there are: add --help to see them.
        preset
            A published setup to start from: {presets}. Options on the command line and in the file win over it.
        embeddings
            Directory of item embeddings (rec-srs export and others make them) that the item table starts from.
        freeze_embeddings
            Keep that table as it is.
        """
        from rec_srs.train import train_run

        with Progress(f"train {kind.name}") as progress:
            artifact = train_run(
                data,
                output,
                model=kind.name,
                settings=settings,
                training=training,
                embeddings=embeddings,
                freeze_embeddings=freeze_embeddings,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
            )
        if not is_main_process():
            return
        about = artifact.manifest["training"]
        best = about.get("best")
        found = (
            f", best validation {training.metric} {best[training.metric]:.4f} at epoch {best['epoch']}" if best else ""
        )
        print(f"{artifact.path}: {kind.name} trained in {about['seconds']:.1f} s{found}")

    _offer(train, kind, hide=() if kind.family == "sequence" else ("embeddings", "freeze_embeddings"))
    return train


def tune_command(kind: ModelKind, given: set[str]) -> Callable[..., None]:
    """The tune command with the options of one model; those in ``given`` were given, so they are not searched."""

    def tune(
        data: Path,
        output: Path,
        /,
        *,
        model: str = "sasrec",
        trials: int = 20,
        timeout: float | None = None,
        space: Path | None = None,
        prune_after: int = 5,
        seed: int = 0,
        metric: str = "ndcg@10",
        preset: str | None = None,
        config: SettingsFile = None,
        overwrite: Overwrite = False,
        resume: Resume = False,
        json: Json = False,
        settings: Any = None,
        training: Any = None,
    ) -> None:
        """Search for settings of a model on the validation part; the test part is never looked at.

        An option given here or in the settings file is fixed and not searched. The best settings go into
        OUTPUT/best.toml, for rec-srs train --config. Needs the extra rec-srs[tune].

        Parameters
        ----------
        data
            Directory made by rec-data prepare.
        output
            Directory of the study.
        model
            One of {models}. Decides which options there are: add --help to see them.
        trials
            How many settings to try.
        timeout
            Seconds after which no new trial begins.
        space
            TOML file with what to search instead of: {space}. There, dropout = [0.1, 0.3] gives choices,
            learning_rate = {{low = 1e-4, high = 1e-2, log = true}} a range, and dim = true the usual range.
        prune_after
            Validations after which a trial below the median of the earlier ones stops; 0 = never.
        seed
            Decides the proposals.
        metric
            What validation decides by.
        preset
            A published setup to start from: {presets}.
        """
        from rec_srs.tune import print_study, search_space, tune_run

        searched = search_space(kind.name, file=space, fixed=given)
        with Progress(f"tune {kind.name}") as progress:
            artifact, study = tune_run(
                data,
                output,
                model=kind.name,
                settings=settings,
                training=training,
                space=searched,
                trials=trials,
                seed=seed,
                metric=metric,
                timeout=timeout,
                prune_after=prune_after,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
            )
        if json:
            from rec_core.artifacts import to_json

            print(to_json({"best": study.best, "trials": study.trials, "importance": study.weights}), end="")
            return
        print_study(study)
        print(f"{artifact.path}: rec-srs train {data} RUN --config {artifact.path / 'best.toml'}")

    _offer(tune, kind, remove=("seed", "metric") if kind.gradient else ())
    return tune


_HIDDEN: dict[str, Any] = {
    "preset": Annotated[str | None, Parameter(show=False)],
    "embeddings": Annotated[Path | None, Parameter(show=False)],
    "freeze_embeddings": Annotated[bool, Parameter(show=False, negative=())],
}


def _offer(command: Any, kind: ModelKind, *, hide: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
    """Give a command the options of one model.

    Options to ``hide`` mean nothing to this model; they are understood all the same, so that an error can say why.
    Those to ``remove`` are gone: the model's training settings have options of these names.
    """
    command.__doc__ = command.__doc__.format(
        models=", ".join(MODELS),
        presets=", ".join(kind.presets),
        space=", ".join(SPACES[kind.name]) or "nothing",
    )
    settings = {"settings": (kind.settings, "Model")} if fields(kind.settings) else {}
    if kind.training is not None:  # a closed form has no training options
        settings["training"] = (kind.training, "Training")
    for name, (stage, group) in settings.items():
        command.__annotations__[name] = Annotated[stage, Parameter(name="*", group=group, negative_iterable=())]
        command.__kwdefaults__[name] = stage()
    for name in (*hide, *(() if kind.presets else ("preset",))):
        command.__annotations__[name] = _HIDDEN[name]
    gone = {"settings", "training", *remove} - settings.keys()
    offered = inspect.signature(command)  # Python's own way to hide a parameter
    shown = [p for name, p in offered.parameters.items() if name not in gone]
    command.__signature__ = offered.replace(parameters=shown)


@app.command
def recommend(
    run: Path,
    /,
    *,
    user: str | None = None,
    history: Annotated[list[str] | None, Parameter(negative=())] = None,
    histories: Path | None = None,
    k: int = 10,
    until: Literal["end", "test", "valid"] = "end",
    seen: Annotated[bool, Parameter(negative=())] = False,
    data: DataOverride = None,
    json: Json = False,
) -> None:
    """Recommend items, with titles, to a user of the data set or to a history given here.

    Parameters
    ----------
    run
        Directory of a trained recommender.
    user
        Raw key of a known user.
    history
        An item by raw key or exact title, oldest first; repeat the option per item.
    histories
        File with many histories, one JSON list of items per line. The answer is one JSON object per line.
    k
        How many items.
    until
        How much of a known user's history to read: all of it, or up to the test or validation part.
    seen
        Let items of the history return.
    """
    from rec_core.artifacts import open_artifact
    from rec_core.dataset import read_dataset
    from rec_core.runs import KIND, load_recommender
    from rec_srs.recommend import (
        check_answerable,
        histories_of_file,
        named_history,
        print_answer,
        recommend,
        user_history,
    )

    if (user is not None) + bool(history) + (histories is not None) != 1:
        raise SettingsError(
            "name either --user KEY or one --history ITEM per item of the history, or a file with --histories"
        )
    artifact = open_artifact(run, KIND)
    dataset = read_dataset(artifact.open_input("dataset", data, kind="dataset"))
    if histories is not None:
        asked = histories_of_file(dataset, histories)
    else:
        asked = user_history(dataset, user, until) if user is not None else named_history(dataset, history or [])
    recommender = load_recommender(artifact)
    check_answerable(recommender, str(artifact.manifest["recommender"]), asked, user, until)
    for answer in recommend(recommender, dataset, asked, k, seen=seen):
        print_answer(answer, as_json=json or histories is not None)


@app.command
def export(
    run: Path,
    output: Path,
    /,
    *,
    users: Annotated[bool, Parameter(negative=())] = False,
    until: Literal["end", "test", "valid"] = "test",
    memory_limit_gib: float = 4.0,
    data: DataOverride = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the vectors of a trained run: the score of an item is the user's vector times the item's.

    OUTPUT holds vectors.npy (float32, one row per item), readable by NumPy as it is, and goes into
    rec-srs train --embeddings.

    Parameters
    ----------
    run
        Directory of a trained recommender.
    output
        Directory of the embeddings.
    users
        Write user_vectors.npy and user_ids.npy too, for every user with an event to read.
    until
        What the users' vectors read: all events, those before the test item, or the train part alone.
    memory_limit_gib
        Refuse vectors as wide as the catalogue (ease, item-knn) that would need more than this.
    """
    from rec_srs.export import export_run

    artifact = export_run(
        run,
        output,
        users=users,
        until=until,
        data=data,
        memory_limit_gib=memory_limit_gib,
        overwrite=overwrite,
    )
    about = artifact.manifest
    of_users = f" and of {about['users']:,} users" if users else ""
    print(f"{artifact.path}: vectors of {about['n_items']:,} items{of_users}, {about['dim']} wide")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``rec-srs``."""
    run(app, argv, before=_add_commands)


def _add_commands(words: Sequence[str]) -> None:
    """Offer ``train`` and ``tune`` with the options of the model that the command line names."""
    if (count := process_count()) > 1 and words and words[0] in ("tune", "evaluate", "recommend", "export"):
        raise SettingsError(
            f"rec-srs {words[0]} is the work of one process, and {count} were started; launch only train as several"
        )
    verb = words[0] if words[:1] in (["train"], ["tune"]) else None
    kind = model_kind(_named(words, "model") or "sasrec") if verb else MODELS["sasrec"]
    given: set[str] = set()
    app.config = ()
    commands = {"train": train_command(kind), "tune": tune_command(kind, given)}
    for name, command in commands.items():
        if name in app:  # a second command line in one process
            del app[name]
        app.command(command, name=name)
    if verb is None:
        return
    _refuse_options_of_others(words, kind, commands[verb])
    use_settings_file(app, words, verb, *stages(kind), also=("model", "preset"))
    preset = _named(words, "preset")
    app.config = (*(app.config or ()), _note(given))
    if preset is not None:
        from cyclopts.config import Dict

        # Asked last of all: whatever the command line or the file says has been said by then.
        app.config = (*app.config, Dict({verb: preset_values(kind, preset)}, source=f"preset {preset}"))


def _refuse_options_of_others(words: Sequence[str], kind: ModelKind, command: Callable[..., None]) -> None:
    """Say whose an option is that this model does not have: whoever gives it has another model in mind."""
    owners: dict[str, list[str]] = {}
    for other in MODELS.values():
        for name in (field.name for stage in stages(other) for field in fields(stage)):
            owners.setdefault(name, []).append(other.name)
    own = inspect.signature(command).parameters
    for word in words[: words.index("--") if "--" in words else None]:
        name = word.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        if word.startswith("--") and name in owners and name not in own and kind.name not in owners[name]:
            option = word.partition("=")[0]
            raise SettingsError(f"{kind.name} has no option {option}; it belongs to --model {' | '.join(owners[name])}")


def _note(given: set[str]) -> Callable[[App, tuple[str, ...], ArgumentCollection], None]:
    """Remember which options were given, on the command line or in a file."""

    def note(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        given.update(argument.keys[0] for argument in arguments if argument.tokens and argument.keys)

    return note


def preset_values(kind: ModelKind, preset: str) -> dict[str, Any]:
    """Option -> value wherever a preset of a model differs from its defaults."""
    if preset not in kind.presets:
        raise SettingsError(f"{kind.name} has no preset {preset!r}{nearest(preset, kind.presets)}")
    values: dict[str, Any] = {}
    for stage in kind.presets[preset]():
        if stage is not None:
            usual = {field.name: field.default for field in fields(stage)}
            for name, value in asdict(stage).items():
                if value != usual[name]:
                    values[name.replace("_", "-")] = list(value) if isinstance(value, tuple) else value
    return values


def _named(words: Sequence[str], option: Literal["model", "preset"]) -> str | None:
    """What ``--model`` or ``--preset`` says on the command line, else in the settings file."""
    named, file = option_in(words, option), option_in(words, "config")
    if named is None and file is not None:
        every = [stage for kind in MODELS.values() for stage in stages(kind)]
        named = read_settings_file(file, *every, also=("model", "preset")).get(option)
    return None if named is None else str(named)
