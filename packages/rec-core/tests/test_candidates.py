"""Frozen candidate lists: whoever reads them asks exactly the rows they were drawn for, and evaluation says so."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from rec_core import runs
from rec_core.artifacts import Artifact, create, open_artifact
from rec_core.candidates import read_candidates, write_candidates
from rec_core.commands import main
from rec_core.dataset import write_dataset
from rec_core.errors import ArtifactError, DataError
from rec_core.evaluation import seen_items
from rec_core.runs import compare_runs, evaluate_run, read_evaluation
from rec_core.testing import planted_clusters
from rec_core.testing.scorers import ScoreTable
from rec_core.types import Candidates

DATASET = planted_clusters(30, 24, n_clusters=2)
SPLIT = DATASET.split


def lists_of(held_out, n: int, seed: int = 0) -> Candidates:
    """Each row's target and n items that it has not seen."""
    rng, seen, rows = np.random.default_rng(seed), seen_items(held_out), []
    for row in range(len(held_out)):
        free = np.setdiff1d(np.arange(SPLIT.n_items), [*seen.row(row), *held_out.row(row)])
        rows.append([*held_out.row(row).tolist(), *rng.choice(free, n, replace=False).tolist()])
    return Candidates.of(rows)


def written(path, held_out, candidates=None, *, part="test", n_items=SPLIT.n_items, **options) -> Artifact:
    lists = lists_of(held_out, 9) if candidates is None else candidates
    return write_candidates(path, lists, held_out, n_items=n_items, part=part, method="test", seed=5, **options)


def test_lists_come_back_as_they_were_written(tmp_path):
    held_out = SPLIT.held_out("test")
    dataset = write_dataset(tmp_path / "ds", DATASET)
    lists = lists_of(held_out, 9)
    artifact = written(tmp_path / "lists", held_out, lists, dataset=dataset)
    again = read_candidates(tmp_path / "lists", held_out, n_items=SPLIT.n_items, part="test")
    assert again.digest() == lists.digest() == artifact.manifest["candidate_hash"]
    about = artifact.manifest
    assert (about["method"], about["seed"], about["part"], about["n_items"]) == ("test", 5, "test", 24)
    assert about["inputs"] == [{"role": "dataset", "path": "../ds", "hash": dataset.hash}]
    assert about["counts"] == {"rows": 30, "candidates": 300, "shortest": 10, "longest": 10}
    assert np.load(tmp_path / "lists" / "users.npy").tolist() == held_out.histories.users.tolist()


def test_labels_come_back_too(tmp_path):
    held_out = SPLIT.held_out("test")
    plain = lists_of(held_out, 3)
    labelled = Candidates(plain.offsets, plain.items, plain.items % 2 == 0)
    written(tmp_path / "lists", held_out, labelled)
    assert read_candidates(tmp_path / "lists", held_out, n_items=24).labels.tolist() == labelled.labels.tolist()


def test_lists_for_other_rows_are_refused(tmp_path):
    held_out = SPLIT.held_out("test")
    written(tmp_path / "lists", held_out)
    with pytest.raises(ArtifactError, match="holds lists for the test part, wanted valid"):
        read_candidates(tmp_path / "lists", SPLIT.held_out("valid"), n_items=24, part="valid")
    for others in (SPLIT.held_out("valid"), held_out.take(np.arange(29)), held_out.take(np.arange(30)[::-1])):
        with pytest.raises(ArtifactError, match="holds lists for other held-out rows"):
            read_candidates(tmp_path / "lists", others, n_items=24)
    with pytest.raises(ArtifactError, match="was drawn from 24 items, here are 25"):
        read_candidates(tmp_path / "lists", held_out, n_items=25)
    write_dataset(tmp_path / "ds", DATASET)
    with pytest.raises(ArtifactError, match="is a 'dataset' artifact, wanted 'candidates'"):
        read_candidates(tmp_path / "ds", held_out, n_items=24)


def test_lists_that_do_not_fit_are_not_written(tmp_path):
    held_out = SPLIT.held_out("test")
    with pytest.raises(DataError, match="29 candidate lists for 30 held-out rows"):
        written(tmp_path / "lists", held_out, lists_of(held_out, 3).take(np.arange(29)))
    with pytest.raises(DataError, match="candidate item 23 is outside the 20 items"):
        written(tmp_path / "lists", held_out, Candidates.of([[23]] * 30), n_items=20)
    assert not (tmp_path / "lists").exists()


# runs measured on them


@dataclass
class _Point:
    """An entry point that reads a table of scores."""

    name: str = "score-table"

    def load(self):
        return lambda artifact: ScoreTable(artifact.array("scores", mmap=False))


@pytest.fixture
def popular_and_random(tmp_path, monkeypatch):
    """Two runs on one data set."""
    monkeypatch.setattr(runs, "entry_points", lambda group: [_Point()])
    dataset = write_dataset(tmp_path / "ds", DATASET)
    random = np.random.default_rng(3).random((SPLIT.n_users, SPLIT.n_items))
    popular = np.tile(SPLIT.train.item_counts(), (SPLIT.n_users, 1))
    for name, scores in (("popular", popular), ("random", random)):
        with create(tmp_path / name, "recommender", inputs=[dataset.as_input("dataset")]) as out:
            out.array("scores", scores.astype(np.float32))
            out.describe(recommender="score-table")
    written(tmp_path / "lists", SPLIT.held_out("test"), dataset=dataset)
    return tmp_path


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def test_a_run_is_measured_on_frozen_lists_beside_the_full_ranking(popular_and_random, capsys):
    folder = popular_and_random
    for options in ((), ("--candidates", folder / "lists")):
        assert command("evaluate", folder / "popular", *options, "--json") == 0
    capsys.readouterr()
    full = json.loads((folder / "popular" / "metrics.json").read_text())
    digest = open_artifact(folder / "lists").manifest["candidate_hash"]
    listed = json.loads((folder / "popular" / f"metrics-candidates-{digest[:8]}.json").read_text())
    assert {"ndcg@10", "hr@5", "ndcg@10/tail"} <= full.keys()
    assert not any("[" in name for name in full)
    assert {"ndcg@10[10 candidates]", "hr@5[10 candidates]", "ndcg@10[10 candidates]/tail"} <= listed.keys()
    assert "ndcg@10" not in listed
    asked = json.loads((folder / "popular" / f"evaluation-candidates-{digest[:8]}.json").read_text())
    assert asked["candidate_hash"] == digest
    assert asked["candidates"] == {"hash": open_artifact(folder / "lists").hash, "method": "test", "seed": 5}

    # popularity by hand: the place of the target among its ten, ties shared out
    held_out, counts = SPLIT.held_out("test"), SPLIT.train.item_counts()
    lists = read_candidates(folder / "lists", held_out, n_items=24)
    found = []
    for row in range(30):
        target, others = held_out.row(row)[0], [item for item in lists.row(row) if item != held_out.row(row)[0]]
        better = sum(counts[item] > counts[target] for item in others)
        tied = sum(counts[item] == counts[target] for item in others)
        found.append(np.mean([better + place < 5 for place in range(tied + 1)]))
    assert listed["hr@5[10 candidates]"] == pytest.approx(np.mean(found))


def test_runs_are_compared_on_the_lists_that_are_named(popular_and_random, capsys):
    folder = popular_and_random
    names = [folder / name for name in ("random", "popular")]
    for run in names:
        evaluate_run(run)
    assert command("compare", *names, "--candidates", folder / "lists") == 2
    error = capsys.readouterr().err
    assert f"was not evaluated on test among {folder / 'lists'} yet" in error
    assert f"run: rec-core evaluate {folder / 'random'} --candidates {folder / 'lists'}" in error
    for run in names:
        evaluate_run(run, candidates=folder / "lists")
    assert command("compare", *names, "--candidates", folder / "lists", "--metric", "hr@5/tail", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["metric"] == "hr@5[10 candidates]/tail"
    means = [read_evaluation(run, candidates=folder / "lists").summary()["hr@5[10 candidates]/tail"] for run in names]
    assert [row["baseline_mean"], row["mean"]] == pytest.approx(means)
    (full,) = compare_runs(names[0], names[1:])
    assert full.metric == "ndcg@10"


def test_lists_of_another_split_are_one_message(popular_and_random, capsys):
    folder = popular_and_random
    written(folder / "valid-lists", SPLIT.held_out("valid"), part="valid")
    assert command("evaluate", folder / "popular", "--candidates", folder / "valid-lists") == 2
    assert "holds lists for the valid part, wanted test" in capsys.readouterr().err
    written(folder / "others", SPLIT.held_out("test").take(np.arange(20)))
    assert command("evaluate", folder / "popular", "--candidates", folder / "others") == 2
    assert "holds lists for other held-out rows" in capsys.readouterr().err
    assert command("evaluate", folder / "popular", "--candidates", folder / "nowhere") == 2
    assert "there is nothing at" in capsys.readouterr().err
    assert not list((folder / "popular").glob("metrics*"))


def test_a_sample_of_users_keeps_their_lists(popular_and_random):
    folder = popular_and_random
    whole = evaluate_run(folder / "popular", candidates=folder / "lists")
    some = evaluate_run(folder / "popular", candidates=folder / "lists", max_users=7)
    name = "ndcg@10[10 candidates]"
    of_whole = dict(zip(whole.users.tolist(), whole.vector(name).tolist(), strict=True))
    assert some.vector(name).tolist() == [of_whole[user] for user in some.users.tolist()]
    assert some.candidate_hash == whole.candidate_hash
