"""Run directories: what is trained is what is loaded, and every model keeps the recommender's contract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset
from rec_core.embeddings import write_embeddings
from rec_core.errors import ArtifactError, DataError, SettingsError
from rec_core.evaluation import evaluate
from rec_core.protocols import Recommender
from rec_core.runs import load_recommender
from rec_core.testing.contracts import check_recommender
from rec_core.testing.datasets import with_other_test_items
from rec_core.training import SequenceRecommender, TrainSettings, fit_sequence_model
from rec_core.types import Histories, Interactions, ItemEmbeddings, Split
from rec_srs import (
    NCLSettings,
    PairRecommender,
    PairTraining,
    SASRecSettings,
    fit_ease,
    fit_item_knn,
    fit_popular,
    load,
    train_model,
    train_run,
)
from rec_srs.models import MODELS

SMALL = SASRecSettings(dim=16, max_length=10, dropout=0.1)
SHORT = TrainSettings(epochs=25, batch_size=32, learning_rate=5e-3, patience=0, seed=3)
SEQUENCE = [name for name, kind in MODELS.items() if kind.family == "sequence"]
PAIR = [name for name, kind in MODELS.items() if kind.family == "pair"]


def small(model: str, seed: int = 1) -> dict[str, Any]:
    """Settings under which the model trains in well under a second."""
    kind = MODELS[model]
    if kind.family == "closed form":
        return {}
    settings = kind.settings(dim=16, **({"max_length": 10} if kind.family == "sequence" else {}))
    if isinstance(settings, NCLSettings):
        settings = replace(settings, prototypes=4, warmup_epochs=0)
    training = TrainSettings(epochs=2, batch_size=16, seed=seed)
    return {"settings": settings, "training": PairTraining(epochs=2, seed=seed) if kind.family == "pair" else training}


def trained(model: str, split: Split, seed: int) -> Recommender:
    if MODELS[model].family == "closed form":
        fit = {"popular": fit_popular, "item-knn": fit_item_knn, "ease": fit_ease}[model]
        fitted: Recommender = fit(split.train)  # type: ignore[operator]
        return fitted
    network, _ = train_model(model, split, **small(model, seed))
    return PairRecommender.of(network) if model in PAIR else SequenceRecommender(network, split.n_items)


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_keeps_the_contract_of_a_recommender(model: str) -> None:
    check_recommender(lambda split, seed: trained(model, split, seed))


@pytest.mark.parametrize("model", list(MODELS))
def test_a_loaded_run_answers_as_the_trained_model_did(model: str, prepared: Path, tmp_path: Path) -> None:
    artifact = train_run(prepared, tmp_path / "run", model=model, **small(model))
    assert artifact.manifest["recommender"] == model
    split = read_dataset(prepared).split
    histories = split.held_out("test").histories
    loaded = load_recommender(tmp_path / "run")
    again = load(open_artifact(tmp_path / "run"))
    fresh = trained(model, split, seed=1).recommend(histories, 5)
    ranked, twice = loaded.recommend(histories, 5), again.recommend(histories, 5)
    np.testing.assert_array_equal(ranked.items, twice.items)
    np.testing.assert_array_equal(ranked.items, fresh.items)
    np.testing.assert_allclose(ranked.scores, fresh.scores, rtol=1e-6)


def test_sasrec_finds_the_next_item_where_item_models_find_only_the_cluster(prepared: Path) -> None:
    split = read_dataset(prepared).split
    held_out = split.held_out("test")

    def ndcg(model: Recommender) -> float:
        return evaluate(model, held_out, train=split.train).summary()["ndcg@5"]

    model, result = train_model("sasrec", split, SMALL, SHORT)
    ours, linear = ndcg(SequenceRecommender(model, split.n_items)), ndcg(fit_ease(split.train))
    assert result.evaluations[-1]["ndcg@10"] > result.evaluations[0]["ndcg@10"]
    assert ours > linear + 0.1
    assert linear > ndcg(fit_popular(split.train)) + 0.1


@pytest.mark.parametrize("model", list(MODELS))
def test_changing_the_test_items_changes_no_weight(model: str, prepared: Path, tmp_path: Path) -> None:
    from rec_core.dataset import write_dataset

    dataset = read_dataset(prepared)
    other = tmp_path / "other"
    write_dataset(other, replace(dataset, split=with_other_test_items(dataset.split)))
    hashes = [
        train_run(data, tmp_path / name, model=model, **small(model)).hash
        for name, data in (("a", prepared), ("b", other))
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("model", list(MODELS))
def test_an_augmentation_that_generated_nothing_changes_no_answer_and_one_that_did_changes_no_target(
    model: str, prepared: Path
) -> None:
    split = read_dataset(prepared).split
    events = split.interactions
    none = replace(split, interactions=replace(events, generated=np.zeros(len(events), np.bool_)))
    histories = split.held_out("valid").histories

    def scores(of: Split) -> Any:
        return trained(model, of, 1).score_all(histories)  # type: ignore[attr-defined]

    expected = scores(split)
    np.testing.assert_array_equal(scores(none), expected)
    # a generated train event for every user: learnt from, asked for nowhere, no item of its own
    first = np.flatnonzero(np.diff(events.users, prepend=-1) > 0)
    rows = np.sort(np.concatenate([np.arange(len(events)), first]))
    twice = np.diff(rows, prepend=-1) == 0
    items = np.where(twice, (events.items[rows] + 20) % split.n_items, events.items[rows]).astype(np.int32)
    times = None if events.timestamps is None else events.timestamps[rows]
    more = Interactions(events.users[rows], items, split.n_users, split.n_items, times, generated=twice)
    augmented = Split(more, np.where(twice, 0, split.part[rows]).astype(np.uint8), split.protocol)
    for part in ("valid", "test"):
        assert augmented.held_out(part).items.tolist() == split.held_out(part).items.tolist()  # type: ignore[arg-type]
    assert not np.array_equal(scores(augmented), expected)


def test_loading_a_run_draws_nothing_from_the_global_generator(prepared: Path, tmp_path: Path) -> None:
    run = train_run(prepared, tmp_path / "run", model="sasrec", **small("sasrec"))
    before = torch.get_rng_state()
    load(run)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model", SEQUENCE)
def test_a_table_may_start_from_given_vectors_and_stay_frozen(model: str, prepared: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 16)) * 0.1).astype(np.float32)
    data = open_artifact(prepared)
    write_embeddings(tmp_path / "emb", ItemEmbeddings(vectors), inputs=[data.as_input("dataset")])
    frozen = train_run(
        prepared, tmp_path / "frozen", model=model, embeddings=tmp_path / "emb", freeze_embeddings=True, **small(model)
    )
    recommender = load(frozen)
    assert isinstance(recommender, SequenceRecommender)
    np.testing.assert_array_equal(recommender.item_vectors()[:, :16], vectors)
    assert recommender.item_embeddings().provenance["run"] == frozen.hash
    tuned = load(train_run(prepared, tmp_path / "tuned", model=model, embeddings=tmp_path / "emb", **small(model)))
    assert isinstance(tuned, SequenceRecommender)
    moved = np.abs(tuned.item_vectors()[:, :16] - vectors)
    assert 0 < moved.max() < 0.1  # two epochs from there, not from a fresh draw


class Adapter(nn.Module):
    """Another item layer than a table: fixed wide vectors behind a map."""

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("wide", torch.randn(n_items, 24))
        self.map = nn.Linear(24, dim)

    @property
    def n_items(self) -> int:
        return len(self.wide)

    @property
    def dim(self) -> int:
        return self.map.out_features

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.map(self.wide[ids])
        return vectors

    def table(self) -> Tensor:
        vectors: Tensor = self.map(self.wide)
        return vectors


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("model", SEQUENCE)
def test_models_of_sequences_take_any_item_layer_and_any_loss(model: str, loss: str, prepared: Path) -> None:
    split, kind = read_dataset(prepared).split, MODELS[model]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Adapter(40, 16)
        network = kind.load()(layer, kind.settings(dim=16, max_length=10, dropout=0.0, loss=loss, negatives=8))
    wide, started = layer.wide.clone(), layer.map.weight.detach().clone()
    assert not [name for name, p in network.named_parameters() if p.ndim == 2 and 40 in p.shape]  # no table of its own
    fit_sequence_model(network, split, TrainSettings(epochs=1, batch_size=16, learning_rate=0.01))
    assert torch.equal(layer.wide, wide)
    assert (layer.map.weight != started).all()
    vectors = SequenceRecommender(network, 40).item_vectors()[:, :16]
    np.testing.assert_allclose(vectors, layer.table().detach(), rtol=1e-5, atol=1e-6)


def test_embeddings_that_do_not_fit_are_refused_by_name(prepared: Path, tmp_path: Path) -> None:
    def start(rows: int, dim: int, **options: Any) -> None:
        path = tmp_path / f"emb-{rows}-{dim}"
        write_embeddings(path, ItemEmbeddings(np.zeros((rows, dim), np.float32)))
        train_run(prepared, tmp_path / "run", model="sasrec", embeddings=path, **small("sasrec"), **options)

    with pytest.raises(DataError, match="have 39 rows, the data set has 40 items"):
        start(39, 16)
    with pytest.raises(SettingsError, match=r"are 12 wide and dim is 16: set --dim 12"):
        start(40, 12)
    with pytest.raises(SettingsError, match="no embeddings to freeze"):
        train_run(prepared, tmp_path / "run", model="sasrec", freeze_embeddings=True, **small("sasrec"))
    with pytest.raises(SettingsError, match="ease has no table of item embeddings"):
        train_run(prepared, tmp_path / "run", model="ease", embeddings=tmp_path / "emb-40-12")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused_before_anything_is_trained(prepared: Path, tmp_path: Path) -> None:
    first = train_run(prepared, tmp_path / "run", model="popular")
    with pytest.raises(ArtifactError, match="exists already; choose another output or pass --overwrite"):
        train_run(prepared, tmp_path / "run", model="ease")
    assert open_artifact(tmp_path / "run").hash == first.hash
    second = train_run(prepared, tmp_path / "run", model="ease", overwrite=True)
    assert second.manifest["recommender"] == "ease"


def test_a_run_on_a_data_set_that_changed_since_is_refused(prepared: Path, tmp_path: Path) -> None:
    from rec_core.dataset import write_dataset
    from rec_core.runs import evaluate_run
    from rec_core.testing.datasets import checkerboard

    train_run(prepared, tmp_path / "run", model="popular")
    write_dataset(tmp_path / "other", checkerboard())
    with pytest.raises(ArtifactError, match="must not be mixed"):
        evaluate_run(tmp_path / "run", data=tmp_path / "other")


@pytest.mark.parametrize("model", [fit_popular, fit_item_knn, fit_ease])
def test_a_history_item_outside_the_catalogue_is_named(model: object, prepared: Path) -> None:
    fitted = model(read_dataset(prepared).split.train)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"item id 40 at position 1 is outside 0\.\.39"):
        fitted.recommend(Histories.of([[3, 40]]), 2)


def test_an_unknown_model_is_answered_with_the_nearest_one(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'sasrec'"):
        train_run(prepared, tmp_path / "run", model="sasrek")
    assert not (tmp_path / "run").exists()


def test_an_empty_history_is_an_error_for_sasrec_and_fine_for_closed_forms(prepared: Path) -> None:
    split = read_dataset(prepared).split
    empty = Histories.of([[]])
    assert fit_ease(split.train).recommend(empty, 3).items.tolist() == [[0, 1, 2]]  # all scores 0: by item id
    with pytest.raises(DataError, match="empty history"):
        trained("sasrec", split, 0).recommend(empty, 3)


def test_a_run_killed_in_the_middle_and_resumed_is_byte_equal_to_one_that_was_not(
    prepared: Path, tmp_path: Path
) -> None:
    options = ["--dim", "16", "--max-length", "10", "--epochs", "25", "--batch-size", "16", "--seed", "5"]
    options += ["--checkpoint-every-steps", "7", "--patience", "0", "--schedule", "cosine", "--weight-decay", "0.01"]
    command = [sys.executable, "-m", "rec_srs", "train", str(prepared)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole"), *options], check=True, env=environment, capture_output=True)

    victim = subprocess.Popen(
        [*command, str(tmp_path / "torn"), *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "torn.partial" / "log.jsonl"
    random_step = int(np.random.default_rng().integers(3, 150))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_bytes().count(b'"step": ') >= random_step):
        assert victim.poll() is None, "training ended before it could be killed"
        time.sleep(0.005)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "torn").exists(), "an unfinished run must not look finished"

    refused = subprocess.run(
        [*command, str(tmp_path / "torn"), *options], env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "--resume goes on with it" in refused.stderr
    subprocess.run(
        [*command, str(tmp_path / "torn"), *options, "--resume"], check=True, env=environment, capture_output=True
    )
    for file in ("weights.safetensors",):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "torn" / file).read_bytes(), random_step

    def losses(run: str) -> list[object]:
        lines = (tmp_path / run / "log.jsonl").read_text().splitlines()
        return [(e["step"], e["loss"]) for e in map(json.loads, lines) if e["event"] == "step"]

    assert losses("torn") == losses("whole")
