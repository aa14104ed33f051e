"""The command line: help at once, answers with titles, one clear message and exit code 2 for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rec_core.dataset import write_dataset
from rec_core.testing.datasets import planted_clusters
from rec_core.types import Dataset, ItemCatalog
from rec_srs.cli import main
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
    assert "lower --dim or --max-length" in message
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
