"""The ``rec-srs`` command: train, evaluate, recommend."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

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
from rec_core.errors import SettingsError
from rec_core.settings import read_settings_file
from rec_core.training.config import TrainSettings
from rec_srs.models import MODELS, ModelKind, model_kind

app = make_app("rec-srs", "Recommenders on item ids: Popular, ItemKNN, EASE, SASRec.")
app.command(evaluate_command, name="evaluate")


def train_command(kind: ModelKind) -> Any:
    """The train command with the options of one model: ``--model`` decides which others exist."""

    def train(
        data: Path,
        output: Path,
        /,
        *,
        model: str = "sasrec",
        config: SettingsFile = None,
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
        """
        from rec_srs.train import train_run

        with Progress(f"train {kind.name}") as progress:
            artifact = train_run(
                data,
                output,
                model=kind.name,
                settings=settings,
                training=training,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
            )
        about = artifact.manifest["training"]
        best = about.get("best")
        found = (
            f", best validation {training.metric} {best[training.metric]:.4f} at epoch {best['epoch']}" if best else ""
        )
        print(f"{artifact.path}: {kind.name} trained in {about['seconds']:.1f} s{found}")

    assert train.__doc__ is not None
    train.__doc__ = train.__doc__.format(models=", ".join(MODELS))
    stages = {"settings": (kind.settings, "Model"), "training": (TrainSettings, "Training")}
    for name, (stage, group) in stages.items():
        train.__annotations__[name] = Annotated[stage, Parameter(name="*", group=group)]
        assert train.__kwdefaults__ is not None
        train.__kwdefaults__[name] = stage()
    if not kind.gradient:  # a closed form has no training options; Python's own way to hide a parameter
        offered = inspect.signature(train)
        shown = [p for name, p in offered.parameters.items() if name != "training"]
        train.__signature__ = offered.replace(parameters=shown)  # type: ignore[attr-defined]
    return train


@app.command
def recommend(
    run: Path,
    /,
    *,
    user: str | None = None,
    history: Annotated[list[str] | None, Parameter(negative=())] = None,
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
    from rec_srs.recommend import named_history, print_answer, recommend, user_history

    if (user is None) == (not history):
        raise SettingsError("name either --user KEY or one --history ITEM per item of the history")
    artifact = open_artifact(run, KIND)
    dataset = read_dataset(artifact.open_input("dataset", data, kind="dataset"))
    asked = user_history(dataset, user, until) if user is not None else named_history(dataset, history or [])
    print_answer(recommend(load_recommender(artifact), dataset, asked, k, seen=seen)[0], as_json=json)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``rec-srs``."""
    run(app, argv, before=_add_train)


def _add_train(words: Sequence[str]) -> None:
    """Offer ``train`` with the options of the model that the command line names."""
    kind = model_kind(_named_model(words) if words[:1] == ["train"] else "sasrec")
    app.config = ()
    if "train" in app:  # a second command line in one process
        del app["train"]
    app.command(train_command(kind), name="train")
    if words[:1] == ["train"]:
        stages = (kind.settings, TrainSettings) if kind.gradient else (kind.settings,)
        use_settings_file(app, words, "train", *stages, also=("model",))


def _named_model(words: Sequence[str]) -> str:
    """What ``--model`` says on the command line, else in the settings file, else the default."""
    named, file = option_in(words, "model"), option_in(words, "config")
    if named is None and file is not None:
        stages = (*(kind.settings for kind in MODELS.values()), TrainSettings)
        named = read_settings_file(file, *stages, also=("model",)).get("model")
    return "sasrec" if named is None else str(named)
