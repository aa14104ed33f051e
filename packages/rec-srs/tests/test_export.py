"""Exported vectors: their dot products are the scores, and they go where embeddings go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset, write_dataset
from rec_core.embeddings import read_embeddings
from rec_core.errors import ArtifactError, SettingsError
from rec_core.evaluation import evaluate
from rec_core.runs import load_recommender
from rec_core.testing.datasets import planted_clusters, with_other_test_items
from rec_core.training import TrainSettings
from rec_core.types import Candidates, Dataset, Histories
from rec_srs import SASRecSettings, train_run
from rec_srs.config import NCLSettings, PairTraining
from rec_srs.export import export_run, vectors_of
from rec_srs.models import MODELS

SMALL = {"settings": SASRecSettings(dim=8, max_length=6), "training": TrainSettings(epochs=1)}


def trained(model: str, data: Path, run: Path) -> Path:
    """A run of the model, small and quick."""
    kind = MODELS[model]
    options = {}
    if kind.training is not None:
        settings = kind.settings(dim=8, **({"max_length": 6} if kind.family == "sequence" else {}))
        if isinstance(settings, NCLSettings):
            settings = replace(settings, prototypes=4, warmup_epochs=0)
        options = {
            "settings": settings,
            "training": PairTraining(epochs=1) if kind.family == "pair" else TrainSettings(epochs=1),
        }
    train_run(data, run, model=model, **options)
    return run


@pytest.fixture(scope="module")
def sasrec(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "sasrec"
    train_run(prepared, path, model="sasrec", **SMALL)
    return path


@pytest.mark.parametrize("model", list(MODELS))
def test_the_dot_product_of_exported_vectors_is_the_score(model: str, prepared: Path, tmp_path: Path) -> None:
    run = trained(model, prepared, tmp_path / "run")
    artifact = export_run(run, tmp_path / "vectors", users=True)
    users, user_vectors = artifact.array("user_ids"), artifact.array("user_vectors")
    item_vectors = read_embeddings(artifact).vectors
    assert (users.dtype, user_vectors.dtype, item_vectors.dtype) == (np.int64, np.float32, np.float32)

    dataset = read_dataset(prepared)
    seen = dataset.split.interactions.where(dataset.split.part < 2)  # the default: all before the test item
    histories = Histories.of([seen.items[seen.users == user] for user in users], users)
    everything = Candidates.of([range(40)] * len(users))
    scores = load_recommender(run).score(histories, everything).values.reshape(len(users), 40)
    ours = user_vectors.astype(np.float64) @ item_vectors.astype(np.float64).T
    np.testing.assert_allclose(ours, scores, rtol=1e-4, atol=1e-5)
    assert np.ptp(scores) > 0


def test_exported_vectors_name_what_made_them(sasrec: Path, prepared: Path, tmp_path: Path) -> None:
    artifact = export_run(sasrec, tmp_path / "vectors")
    found = read_embeddings(artifact, dataset=open_artifact(prepared).hash)
    assert found.provenance["recommender"] == "sasrec"
    assert found.provenance["run"] == open_artifact(sasrec).hash
    assert found.provenance["settings"]["model"]["dim"] == 8
    assert [entry["role"] for entry in artifact.manifest["inputs"]] == ["dataset", "run"]
    assert artifact.open_input("dataset").hash == found.provenance["dataset"]
    assert not artifact.has("user_vectors.npy")


def test_until_says_how_much_the_users_vectors_read(sasrec: Path, prepared: Path, tmp_path: Path) -> None:
    made = {
        until: export_run(sasrec, tmp_path / until, users=True, until=until).array("user_vectors")  # type: ignore[arg-type]
        for until in ("valid", "test", "end")
    }
    dataset, recommender = read_dataset(prepared), load_recommender(sasrec)
    for until, part in (("valid", "valid"), ("test", "test")):
        asked = dataset.split.held_out(part).histories  # type: ignore[arg-type]
        np.testing.assert_array_equal(made[until], recommender.user_vectors(asked))  # type: ignore[attr-defined]
    assert (made["end"] != made["test"]).any(axis=1).all()


def test_other_test_items_change_no_exported_vector(prepared: Path, tmp_path: Path) -> None:
    dataset = read_dataset(prepared)
    write_dataset(tmp_path / "other", replace(dataset, split=with_other_test_items(dataset.split)))
    made = []
    for name, data in (("a", prepared), ("b", tmp_path / "other")):
        train_run(data, tmp_path / name, model="sasrec", **SMALL)
        made.append(export_run(tmp_path / name, tmp_path / f"{name}-vectors", users=True).hash)
    assert made[0] == made[1]


def test_users_without_a_history_are_counted_and_left_out(tmp_path: Path) -> None:
    made = planted_clusters()
    part = made.split.part.copy()
    part[made.split.interactions.users == 7] = 2
    write_dataset(tmp_path / "data", Dataset(made.name, made.users, made.items, replace(made.split, part=part)))
    train_run(tmp_path / "data", tmp_path / "run", model="sasrec", **SMALL)
    artifact = export_run(tmp_path / "run", tmp_path / "vectors", users=True)
    assert artifact.array("user_ids").tolist() == [user for user in range(60) if user != 7]
    assert (artifact.manifest["users"], artifact.manifest["users_without_history"]) == (59, 1)


def test_exported_vectors_are_what_another_model_starts_from(sasrec: Path, prepared: Path, tmp_path: Path) -> None:
    export_run(sasrec, tmp_path / "vectors")
    train_run(
        prepared, tmp_path / "run", model="sasrec", **SMALL, embeddings=tmp_path / "vectors", freeze_embeddings=True
    )
    ours = export_run(tmp_path / "run", tmp_path / "again")
    np.testing.assert_array_equal(read_embeddings(ours).vectors, np.load(tmp_path / "vectors" / "vectors.npy"))


def test_vectors_as_wide_as_the_catalogue_have_a_limit(prepared: Path, tmp_path: Path) -> None:
    train_run(prepared, tmp_path / "run", model="ease")
    items = 4 * 40 * 40 / 2**30
    with pytest.raises(SettingsError, match=r"40 items and 120 users x 40 need 2.38e-05 GiB.*leave out --users"):
        export_run(tmp_path / "run", tmp_path / "v", users=True, memory_limit_gib=items)
    with pytest.raises(SettingsError, match="40 items x 40 need"):
        export_run(tmp_path / "run", tmp_path / "v", memory_limit_gib=items / 2)
    assert not (tmp_path / "v").exists()
    assert export_run(tmp_path / "run", tmp_path / "v", memory_limit_gib=items).manifest["dim"] == 40


def test_what_does_not_score_by_vectors_is_not_exported() -> None:
    class Oracle:
        known_users_only = False
        n_items = 3

    with pytest.raises(SettingsError, match="Oracle does not score by a dot product of vectors"):
        vectors_of(Oracle(), 0)  # type: ignore[arg-type]


def test_item_vectors_need_no_data_set_and_user_vectors_do(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", planted_clusters())
    train_run(tmp_path / "data", tmp_path / "run", model="popular")
    (tmp_path / "data").rename(tmp_path / "moved")
    export_run(tmp_path / "run", tmp_path / "items")
    with pytest.raises(ArtifactError, match="name it with --data"):
        export_run(tmp_path / "run", tmp_path / "all", users=True)
    export_run(tmp_path / "run", tmp_path / "all", users=True, data=tmp_path / "moved")
    with pytest.raises(ArtifactError, match=r"would replace .*run, which it is made from"):
        export_run(tmp_path / "run", tmp_path / "run", overwrite=True)


def test_a_model_answers_alike_by_its_exported_vectors(sasrec: Path, prepared: Path, tmp_path: Path) -> None:
    artifact = export_run(sasrec, tmp_path / "vectors", users=True)
    users, vectors = artifact.array("user_ids"), artifact.array("user_vectors")

    class Exported:
        known_users_only = True
        n_items = 40

        def user_vectors(self, histories: Histories) -> np.ndarray:
            return np.asarray(vectors[np.searchsorted(users, histories.users)])

        def item_vectors(self) -> np.ndarray:
            return np.asarray(artifact.array("vectors"))

    split = read_dataset(prepared).split
    ours, theirs = (
        evaluate(model, split.held_out("test"), train=split.train).summary()  # type: ignore[arg-type]
        for model in (Exported(), load_recommender(sasrec))
    )
    assert ours == theirs
