"""The packages together, through the commands a user types: table in, leaderboard and report out."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from rec_core.randomness import generator

pytest.importorskip("torch")


def command(module: str, *words: object, fails: bool = False) -> str:
    """Run a command as a process of its own; its answer, or its message when it must fail with exit code 2."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == (2 if fails else 0), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def write_views(path: Path) -> None:
    """60 users who walk around rings of ten things, a day apart, each in a week of its own."""
    rows = []
    for user in range(60):
        rng = generator(0, "views", user)
        start, ring = int(rng.integers(10)), user % 4
        for day in range(7):
            rows.append(f"user {user},thing-{ring * 10 + (start + day) % 10},2020-01-{user % 20 + day + 1:02d}")
    path.write_text("who,what,when\n" + "\n".join(rows) + "\n")
    things = "\n".join(f"thing-{i},Thing number {i}" for i in range(40))
    path.with_name("things.csv").write_text(f"what,title\n{things}\n")


def test_a_table_becomes_a_leaderboard_and_answers_with_titles(tmp_path: Path) -> None:
    write_views(tmp_path / "views.csv")
    data = tmp_path / "data"
    columns = ("--user-column", "who", "--item-column", "what", "--timestamp-column", "when")
    things = ("--items-file", tmp_path / "things.csv", "--item-key", "what", "--title-column", "title")
    command("rec_data", "prepare", tmp_path / "views.csv", data, *columns, *things, "--k-core", 2)
    counts = json.loads((data / "manifest.json").read_text())["counts"]
    assert (counts["users"], counts["items"], counts["interactions"]) == (60, 40, 420)

    small = ("--dim", 16, "--epochs", 40, "--learning-rate", 0.01, "--patience", 0, "--seed", 1)
    command("rec_srs", "train", data, tmp_path / "popular", "--model", "popular")
    command("rec_srs", "train", data, tmp_path / "sasrec", "--model", "sasrec", *small)
    for name in ("popular", "sasrec"):
        command("rec_core", "evaluate", tmp_path / name, "--quiet")
    (row,) = json.loads(command("rec_core", "compare", tmp_path / "popular", tmp_path / "sasrec", "--json"))
    assert row["low"] > 0.3
    assert row["p_holm"] < 0.01
    assert row["users"] == 60

    named = ("--history", "Thing number 21", "--history", "Thing number 22", "--k", 1, "--json")
    answer = json.loads(command("rec_srs", "recommend", tmp_path / "sasrec", *named))
    assert answer["recommendations"][0][1] == "Thing number 23"


def test_runs_on_two_test_sets_cannot_be_compared(tmp_path: Path) -> None:
    write_views(tmp_path / "views.csv")
    columns = ("--user-column", "who", "--item-column", "what", "--timestamp-column", "when")
    for name, split in (("a", "leave-one-out"), ("b", "global-time")):
        command(
            "rec_data", "prepare", tmp_path / "views.csv", tmp_path / name, *columns, "--k-core", 2, "--split", split
        )
        command("rec_srs", "train", tmp_path / name, tmp_path / f"run-{name}", "--model", "popular")
        command("rec_core", "evaluate", tmp_path / f"run-{name}", "--quiet")
    message = command("rec_core", "compare", tmp_path / "run-a", tmp_path / "run-b", fails=True)
    assert "another test set" in message


def test_every_recommender_entry_point_loads() -> None:
    points = {point.name: point for point in entry_points(group="rec.recommenders")}
    assert {"popular", "item-knn", "ease", "sasrec"} <= points.keys()
    assert all(callable(point.load()) for point in points.values())


def test_every_sequence_model_entry_point_makes_a_sequence_model_on_any_layer() -> None:
    from rec_core.training import IdEmbeddings, SequenceModel
    from rec_core.types import Histories

    for point in entry_points(group="rec.sequence_models"):
        make = point.load()
        model = make(IdEmbeddings(7, 64), make.settings_type())
        assert isinstance(model, SequenceModel)
        assert model.encode(model.batch(Histories.of([[1, 2], [3]]), np.array([0, 1]), None)).shape == (2, 64)


def test_the_report_is_one_file_that_fetches_nothing_and_shows_untrusted_titles_as_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from rec_core.evaluation import Interval
    from rec_core.evaluation.report import ExampleUser, Report, RunSummary, write_report

    metrics = {"hr@10": 0.2, "ndcg@10": 0.1, "ndcg@10/tail": 0.01, "ndcg@10/head": 0.2, "coverage@10": 0.5}
    curve = [(1, 7.0, 0.05), (2, 6.5, 0.1)]
    runs = [
        RunSummary("Popular", metrics, Interval(0.1, 0.08, 0.12)),
        RunSummary("New <b>", metrics, Interval(0.1, 0.08, 0.12), Interval(0.0, -0.01, 0.01), 1.0, 3.0, 200.0, curve),
    ]
    user = ExampleUser("7", ["<script>alert(1)</script>"], "B", {"Popular": ["A", "B"]}, {"Popular": 2})
    report = Report("A & B", "ndcg@10", "Popular", runs, [user], [("split", "leave-one-out")], ["a note"])
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "A &amp; B" in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "http" not in page.replace("data:image/svg+xml", "")
    assert '<li class="hit">B</li>' in page
