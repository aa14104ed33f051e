"""What an old release wrote, this one still reads: archives made by tools/make_archives.py, one per schema version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rec_core.artifacts import SCHEMA_VERSION, open_artifact
from rec_core.dataset import read_dataset
from rec_core.evaluation import seen_items
from rec_core.runs import load_recommender

ROOT = Path(__file__).parents[1]
ARCHIVES = sorted((ROOT / "tests" / "archives").iterdir())
archives = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)


def expected(archive: Path) -> dict:
    return json.loads((archive / "expected.json").read_text(encoding="utf-8"))


def test_there_is_an_archive_of_the_schema_written_today() -> None:
    assert f"v{SCHEMA_VERSION}" in [archive.name for archive in ARCHIVES]


@archives
def test_every_archived_artifact_opens_whole_with_the_hash_it_had(archive: Path) -> None:
    hashes = expected(archive)["hashes"]
    assert sorted(path.name for path in archive.iterdir() if path.is_dir()) == sorted(hashes)
    for name, digest in hashes.items():
        assert open_artifact(archive / name).hash == digest


@archives
def test_an_archived_data_set_holds_what_its_manifest_says(archive: Path) -> None:
    dataset = read_dataset(archive / "dataset")
    stated = open_artifact(archive / "dataset").manifest
    events, part = dataset.split.interactions, dataset.split.part
    found = {
        "users": len(dataset.users),
        "items": dataset.items.n_interacted,
        "interactions": len(events),
        "cold_items": len(dataset.items) - dataset.items.n_interacted,
        **{name: int((part == code).sum()) for code, name in enumerate(("train", "valid", "test"))},
    }
    assert found == stated["counts"] == expected(archive)["counts"]
    assert {"dataset": dataset.digest(), **dataset.split.hashes()} == stated["content"]
    assert dataset.items.title(0) == "Amber 0 (1980)"
    assert dataset.users.ids.keys[:2] == ("u0", "u1")


@archives
@pytest.mark.parametrize("name", ["popular", "ease"])
def test_an_archived_run_finds_its_data_set_and_answers_as_it_did(archive: Path, name: str) -> None:
    pytest.importorskip("rec_srs")
    pytest.importorskip("scipy")
    run = open_artifact(archive / name, "recommender")
    asked = read_dataset(run.open_input("dataset")).split.held_out("test")
    recorded = expected(archive)["recommendations"][name]
    k = len(recorded["items"][0])
    answer = load_recommender(run).recommend(asked.histories, k, exclude=seen_items(asked))
    assert answer.items.tolist() == recorded["items"]
    np.testing.assert_allclose(answer.scores, recorded["scores"], rtol=1e-5)


def test_the_script_writes_an_archive_of_this_kind_and_never_over_an_old_one(tmp_path: Path) -> None:
    pytest.importorskip("rec_srs")
    pytest.importorskip("scipy")
    command = [sys.executable, str(ROOT / "tools" / "make_archives.py"), str(tmp_path / "new")]
    subprocess.run(command, check=True, timeout=120)
    assert expected(tmp_path / "new").keys() == expected(ROOT / "tests" / "archives" / f"v{SCHEMA_VERSION}").keys()
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 1
    assert "an archive is what a release wrote once and is not replaced" in again.stderr
