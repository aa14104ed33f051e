"""MovieLens-100K, leave-one-out: settings chosen on validation, then one look at test with three seeds.

    hatch run python tools/reproduce/ml_100k.py tune     every configuration below, validation only: ml_100k/tune.json
    hatch run python tools/reproduce/ml_100k.py final    the chosen ones, seeds 1 2 3, test: ml_100k/final.json

Both are resumable: a configuration that is in the file already is not run again. ``tune`` takes about an hour on two
cores, ``final`` about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import to_json, write_atomically
from rec_core.dataset import read_dataset
from rec_core.evaluation import evaluate, paired_bootstrap, permutation_test
from rec_core.protocols import Recommender
from rec_core.training import SequenceRecommender, TrainSettings
from rec_core.types import Split
from rec_data.config import PrepareSettings
from rec_data.prepare import prepare
from rec_srs import EASESettings, ItemKNNSettings, SASRecSettings, fit_ease, fit_item_knn, fit_popular, train_model

HERE = Path(__file__).parent / "ml_100k"
METRICS = ("hr@10", "ndcg@10", "mrr@10", "ndcg@10/tail", "ndcg@10/head")
BASE = SASRecSettings()
TRAINING = TrainSettings(epochs=150, batch_size=32, micro_batches=4, patience=10, seed=1)


def closed_forms() -> dict[str, Callable[[Split], Recommender]]:
    """Name -> fit, for every configuration of the fitted models."""
    found: dict[str, Callable[[Split], Recommender]] = {"popular": lambda split: fit_popular(split.train)}
    for l2 in (50.0, 100.0, 200.0, 500.0, 1000.0):
        found[f"ease l2={l2:g}"] = lambda split, l2=l2: fit_ease(split.train, EASESettings(l2=l2))  # type: ignore[misc]
    for neighbors in (50, 100, 200):
        for shrink in (0.0, 10.0, 50.0):
            for weighting in ("none", "idf", "bm25"):
                knn = ItemKNNSettings(neighbors, shrink, weighting)  # type: ignore[arg-type]
                name = f"item-knn neighbors={neighbors} shrink={shrink:g} weighting={weighting}"
                found[name] = lambda split, knn=knn: fit_item_knn(split.train, knn)  # type: ignore[misc]
    return found


def sasrecs() -> dict[str, tuple[SASRecSettings, TrainSettings]]:
    """Name -> settings: one change at a time from the base."""
    half = replace(BASE, dropout=0.5)
    start = replace(BASE, positions="from_start")
    decay = replace(TRAINING, weight_decay=0.1)
    return {
        "base": (BASE, TRAINING),
        "batch 128": (BASE, replace(TRAINING, batch_size=128)),
        "dropout 0.5": (half, TRAINING),
        "dropout 0.5, d 128": (replace(half, dim=128), TRAINING),
        "dropout 0.3, weight decay 0.1": (replace(BASE, dropout=0.3), decay),
        "newest window": (replace(BASE, window="last"), TRAINING),
        "length 100": (replace(BASE, max_length=100), TRAINING),
        "length 50": (replace(BASE, max_length=50), TRAINING),
        "positions from start": (start, TRAINING),
        "positions from start, dropout 0.5": (replace(start, dropout=0.5), TRAINING),
        "positions from start, dropout 0.3, weight decay 0.1": (replace(start, dropout=0.3), decay),
        "unscaled embeddings": (replace(BASE, scale_embeddings=False), TRAINING),
        "attention dropout 0.2": (replace(BASE, attention_dropout=0.2), TRAINING),
    }


def measure(recommender: Recommender, split: Split, part: str) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics of interest on one part, and the per-user NDCG@10."""
    result = evaluate(recommender, split.held_out(part), train=split.train, ks=(10,))  # type: ignore[arg-type]
    summary = result.summary()
    return {name: summary[name] for name in METRICS}, result.per_user


def train(split: Split, settings: SASRecSettings, training: TrainSettings) -> tuple[Recommender, dict[str, Any]]:
    """A trained SASRec and how its training went."""
    model, result = train_model("sasrec", split, settings, training)
    about = {"best_epoch": result.best_epoch, "epochs": result.epochs, "seconds": round(result.seconds, 1)}
    return SequenceRecommender(model, split.n_items), about


def load(path: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tune(split: Split, only: str) -> None:
    """Every configuration whose name matches ``only``, on validation; the test part is not read."""
    path = HERE / "tune.json"
    jobs: dict[str, Callable[[], tuple[Recommender, dict[str, Any]]]] = {
        name: (lambda fit=fit: (fit(split), {}))
        for name, fit in closed_forms().items()  # type: ignore[misc]
    }
    for name, (settings, training) in sasrecs().items():
        jobs[f"sasrec {name}"] = lambda s=settings, t=training: train(split, s, t)  # type: ignore[misc]
    for name, job in jobs.items():
        if name in load(path) or not re.search(only, name):
            continue
        recommender, about = job()
        found = {**measure(recommender, split, "valid")[0], **about}
        write_atomically(
            path, to_json(load(path) | {name: found}).encode()
        )  # read again: two processes may share the work
        print(f"{name}: valid ndcg@10 {found['ndcg@10']:.4f} {about}", flush=True)


def final(split: Split, seeds: tuple[int, ...]) -> None:
    """The best configuration of each model by validation, measured on test once per seed."""
    tuned, path = load(HERE / "tune.json"), HERE / "final.json"
    done: dict[str, Any] = load(path)
    best = {
        model: max((name for name in tuned if name.startswith(model)), key=lambda name: tuned[name]["ndcg@10"])
        for model in ("popular", "item-knn", "ease", "sasrec")
    }
    vectors: dict[str, list[np.ndarray[Any, Any]]] = {}
    for model, name in best.items():
        runs = []
        for seed in seeds if model == "sasrec" else seeds[:1]:
            if model == "sasrec":
                settings, training = sasrecs()[name.removeprefix("sasrec ")]
                recommender, about = train(split.for_training(), settings, replace(training, seed=seed))
                about |= {"seed": seed, "settings": asdict(settings), "training": asdict(training)}
            else:
                started = time.perf_counter()
                recommender = closed_forms()[name](split.for_training())
                about = {"seconds": round(time.perf_counter() - started, 2)}
            numbers, per_user = measure(recommender, split, "test")
            vectors.setdefault(model, []).append(per_user["ndcg@10"])
            runs.append({**numbers, **about})
            print(f"{name}: {runs[-1]}", flush=True)
        done[model] = {"configuration": name, "runs": runs}
    for model in ("popular", "item-knn", "ease"):
        gains = np.mean(vectors["sasrec"], axis=0) - vectors[model][0]  # users' mean over seeds
        interval = paired_bootstrap(gains)
        done[f"sasrec less {model}"] = {
            "ndcg@10": {"difference": interval.mean, "low": interval.low, "high": interval.high},
            "p": permutation_test(gains),
        }
    done["versions"] = {package: version(package) for package in ("rec-core", "rec-data", "rec-srs", "torch", "numpy")}
    done["hashes"] = split.hashes()
    write_atomically(path, to_json(done).encode())


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "final"))
    parser.add_argument("--data", default="ml-100k", help="the data set by name, or a directory with the raw files")
    parser.add_argument("--prepared", type=Path, default=Path("runs/reproduce/ml-100k"))
    parser.add_argument("--only", default="", help="tune: a regular expression of the configurations to run")
    given = parser.parse_args()
    if not given.prepared.exists():
        prepare(given.data, given.prepared, PrepareSettings(k_core=5, split="leave-one-out"))
    split = read_dataset(given.prepared).split
    if given.stage == "tune":
        tune(split.for_training(), given.only)
    else:
        final(split, seeds=(1, 2, 3))


if __name__ == "__main__":
    main()
