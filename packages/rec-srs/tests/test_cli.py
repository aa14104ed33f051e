"""The command line: help at once, answers with titles, one clear message and exit code 2 for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rec_core.dataset import write_dataset
from rec_core.embeddings import write_embeddings
from rec_core.testing.datasets import planted_clusters
from rec_core.training import TrainSettings
from rec_core.types import Dataset, ItemCatalog, ItemEmbeddings
from rec_srs import SASRecSettings
from rec_srs.cli import main, preset_values
from rec_srs.models import MODELS, ModelKind
from rec_srs.spaces import stages
from rec_srs.train import train_run


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The message of a command that must fail with exit code 2 and without a traceback."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def answers(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command prints that must succeed."""
    try:
        main([str(word) for word in words])
    except SystemExit as stopped:
        if stopped.code:
            raise
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "ease"
    train_run(prepared, path, model="ease")
    return path


def test_training_and_evaluation_write_a_run_with_flat_metrics(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = answers(capsys, "train", prepared, tmp_path / "knn", "--model", "item-knn", "--neighbors", 7)
    assert "item-knn trained in" in out
    printed = json.loads(answers(capsys, "evaluate", tmp_path / "knn", "--json"))
    stored = json.loads((tmp_path / "knn" / "metrics.json").read_text())
    assert printed == stored
    assert 0 < stored["ndcg@10"] <= stored["hr@10"] <= 1
    manifest = json.loads((tmp_path / "knn" / "manifest.json").read_text())
    assert manifest["settings"]["model"]["neighbors"] == 7


def test_a_settings_file_gives_defaults_and_the_command_line_wins(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text('max_length = 10\ndim = 8\nepochs = 2\nmetric = "hr@5"\n')
    answers(capsys, "train", prepared, tmp_path / "run", "--config", tmp_path / "run.toml", "--dim", 4)
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert (settings["model"]["dim"], settings["model"]["max_length"]) == (4, 10)
    assert (settings["training"]["epochs"], settings["training"]["metric"]) == (2, "hr@5")


def test_recommendations_for_a_known_user_come_with_titles(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(answers(capsys, "recommend", run, "--user", "u0", "--k", 3, "--json"))
    assert all(title.startswith("Amber") for _, title, _ in answer["recommendations"][:1])
    assert not {key for key, _ in answer["history"]} & {key for key, _, _ in answer["recommendations"]}
    table = answers(capsys, "recommend", run, "--user", "u0", "--k", 3)
    assert answer["recommendations"][0][1] in table


def test_until_cuts_what_a_known_user_shows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lengths = [
        len(json.loads(answers(capsys, "recommend", run, "--user", "u0", "--until", until, "--json"))["history"])
        for until in ("valid", "test", "end")
    ]
    assert lengths == [lengths[2] - 2, lengths[2] - 1, lengths[2]]


def test_a_history_is_named_by_raw_keys_or_exact_titles(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("recommend", run, "--history", "Amber 1 (1981)", "--history", "i2", "--k", 2, "--json")
    answer = json.loads(answers(capsys, *words))
    assert answer["history"] == [["i1", "Amber 1 (1981)"], ["i2", "Amber 2 (1982)"]]
    assert len(answer["recommendations"]) == 2


def test_an_ambiguous_title_lists_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = planted_clusters()
    titles = ["Twins" if i in (3, 8) else title for i, title in enumerate(made.items.fields["title"])]
    dataset = Dataset(made.name, made.users, ItemCatalog(made.items.ids, {"title": titles}), made.split)
    write_dataset(tmp_path / "data", dataset)
    train_run(tmp_path / "data", tmp_path / "run", model="popular")
    message = fails(capsys, "recommend", tmp_path / "run", "--history", "Twins")
    assert "'Twins' belongs to 2 items" in message
    assert "'i3', 'i8'" in message


def test_what_is_not_there_is_named_with_the_nearest_that_is(
    run: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'Amber 1 (1981)'" in fails(capsys, "recommend", run, "--history", "Amber 1 (1981)x")
    assert "no user with raw key 'nobody'" in fails(capsys, "recommend", run, "--user", "nobody")
    assert "name either --user KEY or one --history" in fails(capsys, "recommend", run)
    assert "did you mean 'sasrec'" in fails(capsys, "train", prepared, tmp_path / "x", "--model", "sasrek")
    assert "Did you mean --dropout" in fails(capsys, "train", prepared, tmp_path / "x", "--dropuot", 0.1)
    (tmp_path / "bad.toml").write_text("learning_rat = 1\n")
    message = fails(capsys, "train", prepared, tmp_path / "x", "--config", tmp_path / "bad.toml")
    assert "unknown key 'learning_rat'; did you mean 'learning_rate'?" in message
    assert not list(tmp_path.glob("x*"))


def test_values_outside_their_range_are_one_message(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "dropout lies in [0, 1)" in fails(capsys, "train", prepared, tmp_path / "x", "--dropout", 1.5)
    assert "learning_rate must be above 0" in fails(capsys, "train", prepared, tmp_path / "x", "--learning-rate", 0)
    assert "k must be at least 1" in fails(
        capsys, "recommend", ensure_run(prepared, tmp_path), "--user", "u0", "--k", 0
    )


def test_a_table_that_does_not_fit_into_memory_names_the_options_to_lower(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, "train", prepared, tmp_path / "x", "--max-length", 10**15)
    assert "no memory for a sasrec of 40 items with dim 64, max-length 1,000,000,000,000,000" in message
    assert not list(tmp_path.iterdir())


def test_a_closed_form_has_nothing_to_resume(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, "train", prepared, tmp_path / "x", "--model", "ease", "--resume")
    assert "there is nothing to --resume" in message


def ensure_run(prepared: Path, tmp_path: Path) -> Path:
    train_run(prepared, tmp_path / "popular", model="popular")
    return tmp_path / "popular"


def test_a_damaged_run_is_named_and_left_alone(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is nothing at" in fails(capsys, "train", tmp_path / "none", tmp_path / "x", "--model", "ease")
    run = ensure_run(prepared, tmp_path)
    counts = run / "counts.npy"
    whole = counts.read_bytes()
    counts.write_bytes(whole[:-1])
    assert "counts.npy has" in fails(capsys, "evaluate", run)
    counts.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "was changed after it was written" in fails(capsys, "recommend", run, "--user", "u0")
    counts.write_bytes(whole)
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99'))
    message = fails(capsys, "evaluate", run)
    assert "schema version 99" in message
    assert "Upgrade rec-core" in message
    assert sorted(path.name for path in run.iterdir()) == ["counts.npy", "manifest.json"]


def test_a_dataset_is_no_run_and_a_run_is_no_dataset(
    run: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is a 'dataset' artifact, wanted 'recommender'" in fails(capsys, "evaluate", prepared)
    assert "is a 'recommender' artifact, wanted 'dataset'" in fails(capsys, "train", run, tmp_path / "x")


def test_help_and_version_need_no_torch() -> None:
    code = (
        "import sys, rec_srs.cli\n"
        "try: rec_srs.cli.main(['train', '--model', 'sasrec', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'polars', 'scipy', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--max-length" in shown.stdout
    assert "--learning-rate" in shown.stdout


def test_a_settings_file_may_name_the_model(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text('model = "ease"\nl2 = 7\n')
    answers(capsys, "train", prepared, tmp_path / "ease", "--config", tmp_path / "run.toml")
    manifest = json.loads((tmp_path / "ease" / "manifest.json").read_text())
    assert (manifest["recommender"], manifest["settings"]["model"]["l2"]) == ("ease", 7)
    (tmp_path / "run.toml").write_text('model = "ease"\n')
    answers(capsys, "train", prepared, tmp_path / "popular", "--config", tmp_path / "run.toml", "--model", "popular")
    assert json.loads((tmp_path / "popular" / "manifest.json").read_text())["recommender"] == "popular"
    (tmp_path / "run.toml").write_text('model = "eas"\n')
    assert "did you mean 'ease'" in fails(capsys, "train", prepared, tmp_path / "x", "--config", tmp_path / "run.toml")


def test_asking_for_more_items_than_there_are_asks_the_model_for_all_of_them(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rec_srs import EASE

    asked: list[int] = []
    recommend = EASE.recommend

    def spy(self: EASE, histories: object, k: int, **options: object) -> object:
        asked.append(k)
        return recommend(self, histories, min(k, 40), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(EASE, "recommend", spy)
    answer = json.loads(answers(capsys, "recommend", run, "--history", "i1", "--k", 10**9, "--json"))
    assert asked == [40]
    assert len(answer["recommendations"]) == 39


def test_a_run_is_not_resumed_with_another_model_setting(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", prepared, tmp_path / "run", "--dim", 4, "--max-length", 5, "--epochs", 2)

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rec_core.artifacts.Writer.torch_tensors", broken)  # trained, with checkpoints, not written
        with pytest.raises(SystemExit):
            main([str(word) for word in words])
    message = fails(capsys, *words, "--resume", "--dropout", 0.4)
    assert "another dropout (then 0.2, now 0.4)" in message
    answers(capsys, *words, "--resume")


def test_a_mistake_found_before_the_first_step_leaves_no_unfinished_run(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'ndcg'" in fails(capsys, "train", prepared, tmp_path / "x", "--metric", "ndgc@10")
    assert not list(tmp_path.iterdir())


def test_weights_can_be_read_by_others_like_every_other_file(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(capsys, "train", prepared, tmp_path / "run", "--dim", 4, "--max-length", 5, "--epochs", 1)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "run").iterdir() if file.is_file()}
    assert modes["weights.safetensors"] == modes["manifest.json"] == 0o644


def test_an_evaluation_that_was_changed_is_not_compared(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet as pq

    from rec_core.commands import main as rec_core
    from rec_core.runs import evaluate_run

    for name in ("popular", "ease"):
        train_run(prepared, tmp_path / name, model=name)
        evaluate_run(tmp_path / name)
    file = tmp_path / "ease" / "per_user.parquet"
    table = pq.read_table(file)
    better = [value * 1.1 for value in table["value"].to_pylist()]
    pq.write_table(table.set_column(2, "value", [better]), file)
    with pytest.raises(SystemExit) as stopped:
        rec_core(["compare", str(tmp_path / "popular"), str(tmp_path / "ease")])
    assert stopped.value.code == 2
    assert "per_user.parquet was changed" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--draws", "0"), ("--seed", "-1")])
def test_draws_and_seed_out_of_range_are_one_message(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    from rec_core.commands import main as rec_core

    with pytest.raises(SystemExit) as stopped:
        rec_core(["compare", "a", "b", *words])
    assert stopped.value.code == 2
    assert "draws must be at least 1 and a seed at least 0" in capsys.readouterr().err


# ---- presets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """SASRec with a preset that changes both of its stages."""
    settings = SASRecSettings(dim=8, max_length=6, dropout=0.4, window="last", scale_embeddings=False)
    training = TrainSettings(epochs=2, batch_size=32, betas=(0.9, 0.98), metric="hr@5")
    kind = replace(
        MODELS["sasrec"], presets={"published": lambda: (settings, training), "tiny": lambda: (settings, None)}
    )
    monkeypatch.setitem(MODELS, "sasrec", kind)


def settings_of(run: Path) -> dict[str, Any]:
    recorded = json.loads((run / "manifest.json").read_text())["settings"]
    return {**recorded["model"], **recorded["training"]}


@pytest.mark.usefixtures("published")
def test_a_preset_gives_defaults_and_only_options_that_were_given_win(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(capsys, "train", prepared, tmp_path / "plain", "--preset", "published")
    plain = settings_of(tmp_path / "plain")
    assert (plain["dim"], plain["dropout"], plain["window"], plain["scale_embeddings"]) == (8, 0.4, "last", False)
    assert (plain["epochs"], plain["batch_size"], plain["betas"], plain["metric"]) == (2, 32, [0.9, 0.98], "hr@5")
    usual = {**asdict(SASRecSettings()), **asdict(TrainSettings())}
    changed = {"dim", "max_length", "dropout", "window", "scale_embeddings", "epochs", "batch_size", "betas", "metric"}
    assert {name for name, value in plain.items() if value != json.loads(json.dumps(usual[name]))} == changed

    (tmp_path / "run.toml").write_text('preset = "published"\nbatch_size = 16\ndropout = 0.3\n')
    words = ("--config", tmp_path / "run.toml", "--dropout", 0.2, "--window", "random", "--epochs", 1)
    answers(capsys, "train", prepared, tmp_path / "mixed", *words)
    mixed = settings_of(tmp_path / "mixed")
    assert (mixed["dropout"], mixed["window"], mixed["epochs"]) == (0.2, "random", 1)  # also where it is the default
    assert (mixed["batch_size"], mixed["dim"], mixed["betas"]) == (16, 8, [0.9, 0.98])


@pytest.mark.usefixtures("published")
def test_presets_are_listed_and_the_nearest_one_is_offered(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "published, tiny" in " ".join(answers(capsys, "train", "--help").split())
    message = fails(capsys, "train", prepared, tmp_path / "x", "--preset", "publishd")
    assert "sasrec has no preset 'publishd'; did you mean 'published'?" in message
    message = fails(capsys, "train", prepared, tmp_path / "x", "--model", "ease", "--preset", "published")
    assert "ease has no preset 'published'; there is none" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", MODELS.values(), ids=list(MODELS))
def test_every_preset_can_be_named_on_the_command_line(kind: ModelKind) -> None:
    for name, preset in kind.presets.items():
        wanted = [stage for stage in preset() if stage is not None]
        for stage in wanted:
            values = {k.replace("-", "_"): v for k, v in preset_values(kind, name).items()}
            own = {field.name: values[field.name] for field in fields(stage) if field.name in values}
            assert type(stage)(**own) == stage


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_offers_its_own_options(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = MODELS[model]
    for verb in ("train", "tune"):
        shown = answers(capsys, verb, "--model", model, "--help")
        for stage in stages(kind):
            for field in fields(stage):
                assert f"--{field.name.replace('_', '-')}" in shown
        assert ("--learning-rate" in shown) == kind.gradient
    shown = answers(capsys, "train", "--model", model, "--help")
    assert ("--embeddings" in shown) == (kind.family == "sequence")


def test_a_model_has_its_own_training_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    for model, metric in (("lightgcn", "ndcg@20"), ("sasrec", "ndcg@10")):
        shown = answers(capsys, "train", "--model", model, "--help").replace("│", " ")
        assert f"[default: {metric}]" in " ".join(shown.split())


# ---- embeddings --------------------------------------------------------------------------------------------------


def test_vectors_of_one_run_start_another(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--max-length", 6, "--epochs", 1)
    answers(capsys, "train", prepared, tmp_path / "first", *small, "--dim", 8)
    shown = answers(capsys, "export", tmp_path / "first", tmp_path / "vectors", "--users")
    assert "vectors of 40 items and of 120 users, 8 wide" in shown
    words = ("--embeddings", tmp_path / "vectors", "--freeze-embeddings", "--dim", 8)
    answers(capsys, "train", prepared, tmp_path / "second", *small, *words)
    answers(capsys, "export", tmp_path / "second", tmp_path / "again")
    assert (tmp_path / "again" / "vectors.npy").read_bytes() == (tmp_path / "vectors" / "vectors.npy").read_bytes()
    manifest = json.loads((tmp_path / "second" / "manifest.json").read_text())
    assert [entry["role"] for entry in manifest["inputs"]] == ["dataset", "embeddings"]


def test_embeddings_that_do_not_fit_are_one_message(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(rows: int, columns: int) -> Path:
        path = tmp_path / f"{rows}x{columns}"
        write_embeddings(path, ItemEmbeddings(np.ones((rows, columns), np.float32)))
        return path

    def refused(*words: object) -> str:
        message = fails(capsys, "train", prepared, tmp_path / "x", *words)
        assert not list(tmp_path.glob("x*"))
        return message

    assert "have 39 rows, the data set has 40 items" in refused("--embeddings", table(39, 64))
    assert "are 12 wide and dim is 64: set --dim 12" in refused("--embeddings", table(40, 12))
    assert "there is nothing at" in refused("--embeddings", tmp_path / "none")
    assert "is a 'recommender' artifact, wanted 'embeddings'" in refused("--embeddings", run)
    assert "name them with --embeddings" in refused("--freeze-embeddings")
    for model in ("ease", "lightgcn"):
        words = ("--embeddings", table(40, 64 + len(model)), "--model", model)
        assert f"{model} has no table of item embeddings" in refused(*words)
    vectors = table(40, 64) / "vectors.npy"
    holed = np.load(vectors)
    holed[3] = np.nan
    np.save(vectors, holed)
    assert "was changed after it was written" in refused("--embeddings", vectors.parent)


# ---- tuning ------------------------------------------------------------------------------------------------------


def test_a_study_gives_settings_that_train_takes(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "item-knn", "--trials", 3, "--shrink", 5, "--seed", 2)
    shown = answers(capsys, "tune", prepared, tmp_path / "study", *words)
    assert "3 trials: 3 complete" in shown
    assert "shrink" not in shown  # it was given, so it is not searched
    best = tmp_path / "study" / "best.toml"
    assert f"rec-srs train {prepared} RUN --config {best}" in shown
    answers(capsys, "train", prepared, tmp_path / "run", "--config", best)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    found = json.loads((tmp_path / "study" / "manifest.json").read_text())["best"]["values"]
    assert manifest["recommender"] == "item-knn"
    assert manifest["settings"]["model"] == {"shrink": 5.0, **found}


@pytest.mark.usefixtures("published")
def test_what_is_given_is_fixed_and_a_preset_is_only_a_start(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fixed.toml").write_text("heads = 1\n")
    words = ("--preset", "published", "--config", tmp_path / "fixed.toml", "--dim", 4, "--trials", 1, "--epochs", 1)
    answer = json.loads(answers(capsys, "tune", prepared, tmp_path / "study", *words, "--json"))
    searched = {"blocks", "dropout", "learning_rate", "weight_decay"}
    assert answer["best"]["values"].keys() == searched  # dropout too, although the preset has a value for it
    settings = tomllib.loads((tmp_path / "study" / "best.toml").read_text())
    assert settings.keys() == searched | {
        "model",
        "dim",
        "max_length",
        "window",
        "scale_embeddings",
        "epochs",
        "batch_size",
        "betas",
        "metric",
    }
    assert (settings["dim"], settings["epochs"], settings["metric"]) == (4, 1, "hr@5")


def test_a_study_that_cannot_be_is_one_message(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        message = fails(capsys, "tune", prepared, tmp_path / "x", *words)
        assert not list(tmp_path.glob("x*"))
        return message

    assert "nothing to tune for popular" in refused("--model", "popular")
    assert "all that is searched is fixed: l2" in refused("--model", "ease", "--l2", 5)
    assert "trials must be at least 1" in refused("--model", "ease", "--trials", 0)
    assert "no model called 'sasrek' is installed; did you mean 'sasrec'?" in refused("--model", "sasrek")
    assert "No such file" in refused("--space", tmp_path / "none.toml")
    assert "ranking gives no metric 'ndgc@10'" in refused("--metric", "ndgc@10")
    (tmp_path / "space.toml").write_text("droput = [0.1]\n")
    assert "unknown key 'droput'; did you mean 'dropout'?" in refused("--space", tmp_path / "space.toml")
    assert "there is no unfinished run" in refused("--resume")
    assert "there is nothing at" in fails(capsys, "tune", tmp_path / "none", tmp_path / "x", "--model", "ease")
    assert "wanted 'dataset'" in fails(capsys, "tune", run, tmp_path / "x", "--model", "ease")
    assert "exists already" in fails(capsys, "tune", prepared, run, "--model", "ease")


# ---- export, and who can be answered -----------------------------------------------------------------------------


def test_an_export_that_cannot_be_is_one_message(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is nothing at" in fails(capsys, "export", tmp_path / "none", tmp_path / "x")
    assert "is a 'dataset' artifact, wanted 'recommender'" in fails(capsys, "export", prepared, tmp_path / "x")
    assert "more than the limit of 1e-09 GiB" in fails(
        capsys, "export", run, tmp_path / "x", "--memory-limit-gib", "1e-9"
    )
    assert "memory-limit-gib must be above 0" in fails(capsys, "export", run, tmp_path / "x", "--memory-limit-gib", 0)
    assert "exists already" in fails(capsys, "export", run, prepared)
    assert not list(tmp_path.iterdir())


def test_who_was_never_seen_is_answered_from_the_history_or_told_what_can(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("bpr-mf", "lightgcn"):
        answers(capsys, "train", prepared, tmp_path / model, "--model", model, "--dim", 8, "--epochs", 1)
    words = ("--history", "i1", "--history", "i2", "--k", 3, "--json")
    assert len(json.loads(answers(capsys, "recommend", tmp_path / "lightgcn", *words))["recommendations"]) == 3
    message = fails(capsys, "recommend", tmp_path / "bpr-mf", *words)
    assert "bpr-mf has a vector for each user of its training and none for a history alone" in message
    assert "item-knn, ease, gru4rec, sasrec" in message
    assert len(json.loads(answers(capsys, "recommend", tmp_path / "bpr-mf", "--user", "u0", "--json"))["history"]) > 2


def test_a_user_with_nothing_to_read_is_named_by_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = planted_clusters()
    part = made.split.part.copy()
    part[made.split.interactions.users == 7] = 2
    write_dataset(tmp_path / "data", replace(made, split=replace(made.split, part=part)))
    answers(capsys, "train", tmp_path / "data", tmp_path / "run", "--dim", 8, "--max-length", 6, "--epochs", 1)
    message = fails(capsys, "recommend", tmp_path / "run", "--user", "u7", "--until", "test")
    assert "user 'u7' has no event before the test part" in message
    assert "--until end reads all" in message
    answers(capsys, "recommend", tmp_path / "run", "--user", "u7")


def test_a_file_of_histories_is_answered_line_by_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('["Amber 1 (1981)", "i2"]\n["i30"]\n')
    told = [json.loads(line) for line in answers(capsys, "recommend", run, "--histories", file, "--k", 4).splitlines()]
    alone = [
        json.loads(answers(capsys, "recommend", run, *words, "--k", 4, "--json"))
        for words in (("--history", "i1", "--history", "i2"), ("--history", "i30"))
    ]
    assert [[key for key, *_ in one["recommendations"]] for one in told] == [
        [key for key, *_ in one["recommendations"]] for one in alone
    ]
    for text, message in (
        ('["i1"]\n["Ambr 1 (1981)"]', "line 2: no item has the raw key or exact title 'Ambr 1 (1981)'; did you mean"),
        ('["i1"', "line 1: wanted a JSON list of items"),
        ('["i1"]\n\n["i2"]', "line 2: wanted a JSON list of items"),
        ("[1]", "line 1: wanted a JSON list of items"),
        ("[]", "line 1: wanted a JSON list of items"),
        ("", "the file is empty"),
    ):
        file.write_text(text)
        assert message in fails(capsys, "recommend", run, "--histories", file)
    assert "No such file" in fails(capsys, "recommend", run, "--histories", tmp_path / "none")
    assert "name either" in fails(capsys, "recommend", run, "--histories", file, "--user", "u0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model", "lightgcn", "--blocks", 2],
            "lightgcn has no option --blocks; it belongs to --model sasrec | bert",
        ),
        (
            ["--layers", 3],
            "sasrec has no option --layers; it belongs to --model lightgcn | simgcl | xsimgcl | ncl | gru",
        ),
        (["--model", "popular", "--epochs", 3], "popular has no option --epochs; it belongs to --model bpr-mf | "),
        (["--model", "gru4rec", "--no-causal"], "gru4rec has no option --no-causal; it belongs to --model sasrec | "),
        (["--model=ease", "--dim=8"], "ease has no option --dim; it belongs to --model bpr-mf | "),
    ],
)
def test_an_option_of_another_model_says_whose_it_is(
    words: list[object], message: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, "train", prepared, tmp_path / "run", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "option"),
    [
        ("ease", "l2"),
        ("item-knn", "shrink"),
        ("lightgcn", "l2"),
        ("simgcl", "temperature"),
        ("sasrec", "initial-std"),
        ("cl4srec", "weight"),
    ],
)
def test_an_infinite_setting_is_refused_before_anything_is_done(
    model: str, option: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, "train", prepared, tmp_path / "run", "--model", model, f"--{option}", "inf")
    assert message == f"error: {option} is a finite number; got inf\n"
    assert not list(tmp_path.iterdir())


def test_help_shows_nothing_that_a_model_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    popular, cl4srec = (answers(capsys, "train", "--model", model, "--help") for model in ("popular", "cl4srec"))
    assert "Settings" not in popular
    assert "--preset" not in popular
    assert "--preset" not in answers(capsys, "train", "--model", "ease", "--help")
    assert "--operators" in cl4srec
    assert "--betas" in cl4srec
    assert "--empty" not in cl4srec  # an empty pair of numbers means nothing


def test_titles_cannot_move_or_colour_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clusters = planted_clusters()
    titles = [
        "\x1b[31mred",
        "two\nlines",
        "[bold]é",
        *(f"日本語の題名 {i}" for i in range(clusters.items.n_interacted - 3)),
    ]
    items = ItemCatalog(clusters.items.ids, {"title": titles}, clusters.items.n_interacted)
    write_dataset(tmp_path / "data", replace(clusters, items=items))
    train_run(tmp_path / "data", tmp_path / "run", model="popular")
    asked = ("recommend", tmp_path / "run", "--history", titles[0], "--history", titles[5], "--k", 40)
    shown = answers(capsys, *asked)
    assert "\x1b" not in shown
    assert shown.startswith("after  [31mred, 日本語の題名 2\n")
    assert "two lines" in shown
    assert "[bold]é" in shown
    for_machines = json.loads(answers(capsys, *asked, "--json"))
    assert for_machines["history"][0] == ["i0", "\x1b[31mred"]


def test_only_training_is_launched_as_several_processes(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    ended: list[int] = []
    monkeypatch.setattr("os._exit", lambda code: ended.append(code) or (_ for _ in ()).throw(SystemExit(code)))
    message = fails(capsys, "recommend", run, "--user", "u0")
    assert message.startswith("error: rec-srs recommend is the work of one process, and 2 were started")
    assert ended == [2]
