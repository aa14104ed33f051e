"""A study sees no test item, repeats itself by its seed, survives being stopped, and gives settings to train with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset, write_dataset
from rec_core.errors import ArtifactError, DataError, MissingExtra, SettingsError
from rec_core.testing.datasets import planted_clusters, with_other_test_items
from rec_core.training import TrainingError, TrainSettings
from rec_srs import SASRecSettings, train_run
from rec_srs import tune as tuning
from rec_srs.models import MODELS
from rec_srs.spaces import SPACES, Between, OneOf, search_space
from rec_srs.tune import Study, Trial, tune, tune_run

SPLIT = planted_clusters(n_users=60, n_items=40).split
SMALL = SASRecSettings(dim=8, max_length=6, dropout=0.1)
SHORT = TrainSettings(epochs=2, batch_size=32)


def what_counts(study: Study) -> list[Trial]:
    """The trials without the time they took."""
    return [replace(trial, seconds=0.0) for trial in study.trials]


def refused(**options: Any) -> str:
    with pytest.raises(SettingsError) as stopped:
        tune(**{"model": "ease", "split": SPLIT, **options})
    return str(stopped.value)


# ---- what a study is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["item-knn", "sasrec"])
def test_changing_the_test_items_changes_nothing_in_a_study(model: str) -> None:
    settings, training = (SMALL, SHORT) if model == "sasrec" else (None, None)
    space = {"learning_rate": Between(1e-3, 1e-2, log=True)} if model == "sasrec" else None
    ours, theirs = (
        tune(model, split, settings, training, space, trials=3) for split in (SPLIT, with_other_test_items(SPLIT))
    )
    assert what_counts(ours) == what_counts(theirs)
    assert len({trial.value for trial in ours.trials}) > 1


def test_one_seed_gives_one_study_and_another_seed_another() -> None:
    first, again, other = (tune("item-knn", SPLIT, trials=13, seed=seed) for seed in (5, 5, 6))
    assert what_counts(first) == what_counts(again)
    assert [trial.values for trial in first.trials] != [trial.values for trial in other.trials]


def test_the_first_trials_of_a_longer_study_are_those_of_a_shorter_one() -> None:
    short, long = tune("item-knn", SPLIT, trials=4), tune("item-knn", SPLIT, trials=12)
    assert what_counts(short) == what_counts(long)[:4]


def test_values_lie_in_the_space_and_floats_have_three_digits() -> None:
    study = tune("item-knn", SPLIT, trials=12)
    for trial in study.trials:
        assert 20 <= trial.values["neighbors"] <= 800
        assert isinstance(trial.values["neighbors"], int)
        assert 0 <= trial.values["shrink"] <= 100
        assert trial.values["shrink"] == float(f"{trial.values['shrink']:.3g}")
        assert trial.values["weighting"] in ("none", "idf", "bm25")


def test_the_value_of_a_trial_is_what_training_with_its_settings_reports(prepared: Path, tmp_path: Path) -> None:
    space = {"learning_rate": Between(1e-3, 1e-2, log=True), "heads": OneOf((1, 2))}
    _, study = tune_run(
        prepared, tmp_path / "study", model="sasrec", settings=SMALL, training=SHORT, space=space, trials=2
    )
    values = study.best.values
    run = train_run(
        prepared,
        tmp_path / "run",
        model="sasrec",
        settings=replace(SMALL, heads=values["heads"]),
        training=replace(SHORT, learning_rate=values["learning_rate"]),
    )
    assert run.manifest["training"]["best"]["ndcg@10"] == study.best.value
    assert run.manifest["training"]["best"]["epoch"] == study.best.epoch


def test_the_best_trial_has_the_largest_value_and_the_earlier_one_wins_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.1, 0.3, 0.2, 0.3])
    monkeypatch.setattr(tuning, "_validate_closed_form", lambda *_: next(values))
    assert tune("ease", SPLIT, trials=4).best.index == 1


def test_settings_that_were_tried_are_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[str] = []

    def counted(kind: object, split: object, settings: Any, metric: str) -> float:
        fitted.append(settings.weighting)
        return float(len(settings.weighting))

    monkeypatch.setattr(tuning, "_validate_closed_form", counted)
    study = tune("item-knn", SPLIT, space={"weighting": OneOf(("none", "idf", "bm25"))}, trials=12)
    assert len(study.trials) == 12
    assert sorted(fitted) == sorted(set(fitted))
    first: dict[str, int] = {}
    for trial in study.trials:
        tried = trial.values["weighting"]
        assert trial.note == (f"same as trial {first[tried]}" if tried in first else "")
        assert trial.value == len(tried)
        first.setdefault(tried, trial.index)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "popular"])
def test_every_end_of_every_range_is_taken_by_its_model(model: str) -> None:
    kind = MODELS[model]
    training = None if kind.training is None else kind.training()
    for name, choice in SPACES[model].items():
        for value in choice.ends:
            tuning._check_possible(name, value, kind.settings(), training, SPACES[model])


# ---- trials that end early ---------------------------------------------------------------------------------------


def curves(monkeypatch: pytest.MonkeyPatch, made: list[list[float] | str]) -> None:
    """Let trials validate as stated instead of training; text is the message of one that diverges."""
    told = iter(made)

    class Result:
        def __init__(self, curve: list[float]) -> None:
            self.best_value = max(curve)
            self.best_epoch = curve.index(self.best_value) + 1

    def trained(model: str, split: object, settings: object, training: object, *, progress: Any) -> tuple[None, Result]:
        curve = next(told)
        if isinstance(curve, str):
            raise TrainingError(curve)
        for epoch, value in enumerate(curve, start=1):
            progress.validated({"epoch": epoch, "step": epoch, "ndcg@10": value})
        return None, Result(curve)

    monkeypatch.setattr("rec_srs.train.train_model", trained)


def test_a_trial_stops_where_its_best_lies_below_the_median_of_the_earlier_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5], [0.4, 0.5, 0.6]]  # medians: 0.25, 0.35, 0.45
    slow, early, fine = [0.1, 0.34, 0.9], [0.34, 0.1, 0.9], [0.1, 0.36, 0.5]
    curves(monkeypatch, [*earlier, slow, early, fine])
    study = tune("sasrec", SPLIT, SMALL, SHORT, trials=7, prune_after=2)
    assert [trial.state for trial in study.trials] == [*["complete"] * 4, "pruned", "pruned", "complete"]
    assert [(trial.value, trial.epoch) for trial in study.trials[4:]] == [(0.34, 2), (0.34, 1), (0.5, 3)]
    assert study.best.value == 0.6


def test_without_pruning_every_trial_goes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    curves(monkeypatch, [[0.5, 0.6]] * 5 + [[0.0, 0.1]])
    study = tune("sasrec", SPLIT, SMALL, SHORT, trials=6, prune_after=0)
    assert {trial.state for trial in study.trials} == {"complete"}


def test_a_trial_that_diverges_has_failed_and_the_study_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    curves(monkeypatch, [[0.1], "the loss is nan at step 3", [0.2]])
    study = tune("sasrec", SPLIT, SMALL, SHORT, trials=3)
    assert [trial.state for trial in study.trials] == ["complete", "failed", "complete"]
    assert study.trials[1].note == "the loss is nan at step 3"
    assert study.best.index == 2


def test_settings_that_do_not_fit_together_are_a_failed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    curves(monkeypatch, [[0.1]] * 20)
    space = {"dim": OneOf((4, 6)), "heads": OneOf((2, 4)), "dropout": Between(0.0, 0.5)}
    study = tune("sasrec", SPLIT, SMALL, SHORT, space, trials=12)
    for trial in study.trials:
        assert (trial.state == "failed") == (trial.values["dim"] % trial.values["heads"] != 0)
    notes = {trial.note for trial in study.trials if trial.state == "failed" and "same" not in trial.note}
    assert notes == {"heads (4) must divide dim (6)"}


def test_values_that_the_data_cannot_take_are_failed_trials_unless_none_was_complete() -> None:
    few = {"training": MODELS["ncl"].training(epochs=1, eval_every=1, metric="ndcg@10", seed=2), "trials": 4}
    settings = MODELS["ncl"].settings(dim=4, warmup_epochs=0)
    study = tune("ncl", SPLIT, settings, space={"prototypes": OneOf((3, 5000))}, **few)
    assert study.trials[0].values == {"prototypes": 3}  # had it been the other one, the study would have stopped there
    failed = [trial.note for trial in study.trials if trial.values["prototypes"] == 5000]
    assert failed
    assert failed[0].startswith("prototypes is 5,000, but there are only ")
    with pytest.raises(SettingsError, match="prototypes is 5,000, but there are only"):
        tune("ncl", SPLIT, settings, space={"prototypes": OneOf((5000, 6000))}, **few)


def test_a_study_in_which_every_trial_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    curves(monkeypatch, ["the loss is nan at step 1"] * 2)
    with pytest.raises(SettingsError, match="no trial of 2 was completed; the last: the loss is nan at step 1"):
        tune("sasrec", SPLIT, SMALL, SHORT, trials=2)


def test_a_really_diverging_training_is_a_failed_trial() -> None:
    space = {"learning_rate": OneOf((1e-3, 1e30))}
    study = tune("sasrec", SPLIT, SMALL, replace(SHORT, clip_norm=0.0), space, trials=6)
    states = {trial.values["learning_rate"]: trial.state for trial in study.trials}
    assert states == {1e-3: "complete", 1e30: "failed"}


def test_no_trial_begins_after_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> float:
        time.sleep(0.06)
        return 0.5

    monkeypatch.setattr(tuning, "_validate_closed_form", slow)
    assert len(tune("ease", SPLIT, trials=100, timeout=0.05).trials) == 1


# ---- stopped and resumed -----------------------------------------------------------------------------------------


def test_a_study_that_was_interrupted_goes_on_to_the_trials_it_would_have_made(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = tune_run(prepared, tmp_path / "whole", model="item-knn", trials=13)
    fit, calls = tuning._validate_closed_form, iter(range(100))

    def stopped_at_the_twelfth(*asked: Any) -> float:
        if next(calls) == 11:
            raise KeyboardInterrupt
        return fit(*asked)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_validate_closed_form", stopped_at_the_twelfth)
        with pytest.raises(KeyboardInterrupt):
            tune_run(prepared, tmp_path / "torn", model="item-knn", trials=13)
    assert not (tmp_path / "torn").exists()
    journal = tmp_path / "torn.partial" / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":6,"wor')  # a kill in the middle of a line
    Path(f"{journal}.lock").touch()
    with pytest.raises(ArtifactError, match="--resume goes on with it"):
        tune_run(prepared, tmp_path / "torn", model="item-knn", trials=13)
    artifact, torn = tune_run(prepared, tmp_path / "torn", model="item-knn", trials=13, resume=True)
    assert what_counts(torn) == what_counts(whole)

    import optuna

    storage = tuning._storage(optuna, artifact.path / "study.journal")
    states = [t.state.name for t in optuna.load_study(study_name="study", storage=storage).get_trials()]
    assert states == [*["COMPLETE"] * 11, "FAIL", "COMPLETE", "COMPLETE"]


def test_a_trial_stopped_between_its_record_and_its_end_counts_as_recorded(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = tune_run(prepared, tmp_path / "whole", model="item-knn", trials=4)
    tell, calls = tuning._tell, iter(range(100))

    def stopped_at_the_second(*asked: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        tell(*asked)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_tell", stopped_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            tune_run(prepared, tmp_path / "torn", model="item-knn", trials=4)
    _, torn = tune_run(prepared, tmp_path / "torn", model="item-knn", trials=4, resume=True)
    assert what_counts(torn) == what_counts(whole)


def test_a_study_that_was_killed_goes_on_and_ends_as_one_that_was_not(prepared: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(name: str, *more: str) -> list[str]:
        words = ["tune", str(prepared), str(tmp_path / name), "--model", "item-knn", "--trials", "30", "--json", *more]
        return [sys.executable, "-m", "rec_srs", *words]

    victim = subprocess.Popen(command("torn"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "torn.partial" / "study.journal"
    enough = int(np.random.default_rng().integers(1, 20))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b'"trial":{') >= enough):
        assert victim.poll() is None, "the study ended before it could be killed"
        time.sleep(0.001)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    resumed = subprocess.run(command("torn", "--resume"), check=True, env=environment, capture_output=True).stdout
    torn = [{**trial, "seconds": 0.0} for trial in json.loads(resumed)["trials"]]
    whole = what_counts(tune("item-knn", read_dataset(prepared).split, trials=30))
    assert torn == [asdict(trial) for trial in whole], enough


def test_a_study_is_not_resumed_as_another_one(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_validate_closed_form", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune_run(prepared, tmp_path / "s", model="item-knn", trials=2)
    for changed, message in (
        ({"seed": 1}, r"another seed \(then 0, now 1\)"),
        ({"metric": "hr@5"}, r"another metric \(then ndcg@10, now hr@5\)"),
        ({"space": {"neighbors": Between(20, 30)}}, "another shrink"),
        ({"model": "ease"}, r"another model \(then item-knn, now ease\)"),
    ):
        with pytest.raises(SettingsError, match=message):
            tune_run(prepared, tmp_path / "s", **{"model": "item-knn", "trials": 2, "resume": True, **changed})
    write_dataset(tmp_path / "other", planted_clusters(n_users=50, n_items=40))
    with pytest.raises(SettingsError, match="another train part"):
        tune_run(tmp_path / "other", tmp_path / "s", model="item-knn", trials=2, resume=True)
    _, study = tune_run(prepared, tmp_path / "s", model="item-knn", trials=3, resume=True)  # more trials are fine
    assert len(study.trials) == 3


# ---- what is asked wrongly ---------------------------------------------------------------------------------------


def test_what_cannot_be_tuned_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_try", lambda *_: pytest.fail("a trial began"))
    assert "nothing to tune for popular: it has nothing to set" in refused(model="popular")
    assert "trials must be at least 1; got 0" in refused(trials=0)
    assert "timeout must be above 0 seconds; got -1" in refused(timeout=-1)
    assert "prune-after must be at least 0" in refused(prune_after=-1)
    assert "ranking gives no metric 'ndgc@10'; did you mean 'ndcg'" in refused(metric="ndgc@10")
    assert "metric is a name with its cut-off" in refused(metric="ndcg")
    assert "unknown key 'shrnk'; did you mean 'shrink'?" in refused(
        model="item-knn", space={"shrnk": Between(1.0, 2.0)}
    )
    assert "l2 is a number; got 'much'" in refused(space={"l2": OneOf(("much",))})
    assert "reaches values that cannot be: l2 must be above 0" in refused(space={"l2": Between(0.0, 2.0)})
    assert "neighbors is a whole number; got 1.5" in refused(model="item-knn", space={"neighbors": Between(1.5, 2.0)})
    assert "eval-every must be at least 1" in refused(model="sasrec", training=TrainSettings(eval_every=0))
    valid_is_train = replace(SPLIT, part=np.where(SPLIT.part == 1, 0, SPLIT.part).astype(np.uint8))
    with pytest.raises(DataError, match="has no valid part to tune on"):
        tune("ease", valid_is_train)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rec-srs\[tune\]'"):
        tune("ease", SPLIT)


def test_a_file_states_the_space_and_true_stands_for_the_usual_range(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        "dropout = [0, 0.1]\nlearning-rate = {low = 1e-4, high = 1e-2, log = true}\nblocks = true\n"
        'max_length = {low = 5, high = 9}\nblock = ["classic", "prenorm"]\nbetas = [[0.9, 0.98], [0.9, 0.999]]\n'
    )
    assert search_space("sasrec", file=file) == {
        "dropout": OneOf((0, 0.1)),
        "learning_rate": Between(1e-4, 1e-2, log=True),
        "blocks": SPACES["sasrec"]["blocks"],
        "max_length": Between(5, 9),
        "block": OneOf(("classic", "prenorm")),
        "betas": OneOf(((0.9, 0.98), (0.9, 0.999))),
    }
    study = tune("sasrec", SPLIT, SMALL, SHORT, search_space("sasrec", file=file), trials=2)
    assert {len(trial.values["betas"]) for trial in study.trials} == {2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("droput = [0.1]", "unknown key 'droput'; did you mean 'dropout'?"),
        ("dropout = []", "dropout has no choices"),
        ("dropout = 0.1", "dropout wants {low = ..., high = ...}, a list or true; got 0.1"),
        ("dropout = {low = 0.1}", "dropout needs low and high"),
        ("dropout = {low = 0.3, high = 0.1}", "low (0.3) must lie below high (0.1)"),
        ("dropout = {low = 0.0, high = 0.1, log = true}", "a log scale starts above 0; got 0.0"),
        ("dropout = {low = 0.0, hihg = 0.1}", "no 'hihg'; did you mean 'high'?"),
        ("dropout = {low = 0.0, high = 0.1, log = 1}", "log is true or false; got 1"),
        ("blocks = {low = 1, high = 2.5}", "blocks is a whole number; got 2.5"),
        ("block = {low = 1, high = 2}", "block is one of"),
        ('block = ["clasic"]', "block is one of"),
        ("gbce_t = true", "sasrec has no range for gbce_t of its own"),
        ("seed = [1, 2]", "seed decides how trials are compared"),
        ("dim = [64]", "dim is searched there and fixed by an option"),
        ("", "names nothing to search"),
        ("dropout = ", "Invalid value"),
    ],
)
def test_a_mistake_in_a_space_file_is_one_message(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as stopped:
        search_space("sasrec", file=file, fixed=("dim",))
    assert message in str(stopped.value)
    assert str(file) in str(stopped.value)


# ---- the directory -----------------------------------------------------------------------------------------------


def test_a_study_is_a_directory_with_table_settings_and_picture(prepared: Path, tmp_path: Path) -> None:
    artifact, study = tune_run(prepared, tmp_path / "s", model="item-knn", trials=12)
    opened = open_artifact(tmp_path / "s", "study")
    assert set(opened.manifest["payload"]) == {"study.journal", "best.toml", "trials.parquet", "study.png"}
    table = opened.table("trials")
    assert table["value"] == [trial.value for trial in study.trials]
    assert table["option:weighting"] == [trial.values["weighting"] for trial in study.trials]
    assert opened.manifest["best"]["value"] == max(table["value"]) == study.best.value
    assert opened.manifest["inputs"][0]["hash"] == open_artifact(prepared).hash
    assert sum(study.weights.values()) == pytest.approx(1, abs=0.01)
    assert (artifact.path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_whose_trials_fail_pass_or_are_pruned_is_drawn(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rec_srs.study_picture import draw

    curves(monkeypatch, ["the loss is nan"] + [[0.5, 0.6]] * 4 + [[0.1, 0.2]] * 2)
    space = {"dropout": Between(0.0, 0.5), "learning_rate": Between(1e-4, 1e-2, log=True), "block": OneOf(("ligr",))}
    _, study = tune_run(
        prepared, tmp_path / "s", model="sasrec", settings=SMALL, training=SHORT, space=space, trials=7, prune_after=1
    )
    figure = draw(study)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", *space]
    history = figure.axes[0]
    assert [text.get_text() for text in history.get_legend().get_texts()] == [
        "complete",
        "pruned",
        "best so far",
        "failed",
    ]
    assert [len(dots.get_offsets()) for dots in history.collections] == [4, 2]


def test_a_dataset_without_a_valid_part_leaves_nothing_behind(prepared: Path, tmp_path: Path) -> None:
    dataset = read_dataset(prepared)
    part = np.where(dataset.split.part == 1, 0, dataset.split.part).astype(np.uint8)
    write_dataset(tmp_path / "data", replace(dataset, split=replace(dataset.split, part=part)))
    with pytest.raises(DataError, match="has no valid part to tune on"):
        tune_run(tmp_path / "data", tmp_path / "s", model="ease")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
