"""BPR-MF, LightGCN, SimGCL, XSimGCL and NCL on Last.fm (the split of LightGCN's authors), Recall@20 and NDCG@20.

    hatch run python tools/reproduce/lastfm_graphs.py tune      configurations on validation: lastfm_graphs/tune.json
    hatch run python tools/reproduce/lastfm_graphs.py final     five seeds, test: lastfm_graphs/final.json

The split states no validation part: a tenth of every user's training pairs is held out for it (seeded, the same for all
models). Configurations and the number of epochs are chosen there; the final models are then trained on all training
pairs for that many epochs, and test is looked at once per seed. Both stages go on where they stopped.
"""

from __future__ import annotations

import argparse
import re
import statistics
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from row import read_json

from rec_core.artifacts import to_json, write_atomically
from rec_core.dataset import read_dataset
from rec_core.evaluation import evaluate, paired_bootstrap, permutation_test
from rec_core.randomness import generator
from rec_core.training import NoProgress
from rec_core.types import Split
from rec_data.config import PrepareSettings
from rec_data.prepare import prepare
from rec_srs import (
    BPRMFSettings,
    LightGCNSettings,
    NCLSettings,
    PairRecommender,
    PairTraining,
    SimGCLSettings,
    XSimGCLSettings,
    fit_popular,
    train_model,
)

HERE = Path(__file__).parent / "lastfm_graphs"
METRICS = ("recall@20", "ndcg@20")
TRAINING = PairTraining(epochs=1500, batch_size=2048, learning_rate=1e-3, eval_every=10, patience=12)
PATIENCE = {"simgcl": 30}  # its validation falls for a hundred epochs before it climbs
SEEDS = (1, 2, 3, 4, 5)


def configurations() -> dict[str, tuple[str, Any]]:
    """Name -> (model, settings)."""
    found: dict[str, tuple[str, Any]] = {}
    for l2 in (1e-4, 1e-3, 1e-2):
        found[f"bpr-mf, l2 {l2:g}"] = "bpr-mf", BPRMFSettings(l2=l2)
        found[f"lightgcn, l2 {l2:g}"] = "lightgcn", LightGCNSettings(l2=l2)
    for weight in (0.05, 0.2, 0.5):
        found[f"simgcl, weight {weight:g}"] = "simgcl", SimGCLSettings(weight=weight)
        found[f"xsimgcl, weight {weight:g}"] = "xsimgcl", XSimGCLSettings(weight=weight)
    for weight in (1e-7, 1e-6, 1e-5):
        for prototypes in (50, 200):
            settings = NCLSettings(structure_weight=weight, prototypes=prototypes)
            found[f"ncl, structure {weight:g}, {prototypes} prototypes"] = "ncl", settings
    return found


def training_of(model: str, seed: int) -> PairTraining:
    """How a model is trained."""
    return replace(TRAINING, seed=seed, patience=PATIENCE.get(model, TRAINING.patience))


def with_validation(split: Split, share: float = 0.1) -> Split:
    """The same split with a seeded share of every user's training pairs as validation; one pair at least stays."""
    part = split.part.copy()
    rows = np.flatnonzero(part == 0)
    users = split.interactions.users[rows]
    order = np.lexsort((generator(0, "validation").random(len(rows)), users))
    counts = np.bincount(users, minlength=split.interactions.n_users)
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[users[order]]
    held = place < np.minimum(np.ceil(share * counts), counts - 1)[users[order]]
    part[rows[order[held]]] = 1
    return replace(split, part=part)


def tune(split: Split, only: str) -> None:
    """Every configuration whose name matches ``only``, seed 1, on validation."""
    path = HERE / "tune.json"
    for name, (model, settings) in configurations().items():
        if name in read_json(path) or not re.search(only, name):
            continue
        _, result = train_model(model, split, settings, training_of(model, 1), progress=NoProgress())
        found = {**result.best, "epochs": result.epochs, "seconds": round(result.seconds, 1)}
        write_atomically(path, to_json(read_json(path) | {name: found}).encode())  # two processes may share the work
        print(f"{name}: {found}", flush=True)


def measure(recommender: Any, split: Split) -> tuple[dict[str, float], np.ndarray[Any, Any]]:
    """Test metrics over the users with both parts, and each user's NDCG@20."""
    held_out = split.held_out("test")
    held_out = held_out.take(np.flatnonzero(held_out.histories.lengths > 0))
    result = evaluate(recommender, held_out, train=split.train, ks=(20,), metrics=("recall", "ndcg"))
    summary = result.summary()
    return {**{name: summary[name] for name in METRICS}, "users": len(held_out)}, result.per_user["ndcg@20"]


def final(split: Split, validated: Split) -> None:
    """The best configuration of each model by validation, trained on all training pairs, five seeds."""
    tuned, path = read_json(HERE / "tune.json"), HERE / "final.json"
    per_user: dict[str, list[np.ndarray[Any, Any]]] = {}
    numbers, gains = measure(fit_popular(split.train), split)
    done: dict[str, Any] = {"popular": numbers}
    for model in ("bpr-mf", "lightgcn", "simgcl", "xsimgcl", "ncl"):
        name = max((n for n in tuned if n.startswith(f"{model},")), key=lambda n: tuned[n]["ndcg@20"])
        settings, runs = configurations()[name][1], []
        for seed in SEEDS:
            training = training_of(model, seed)
            _, chosen = train_model(model, validated, settings, training, progress=NoProgress())
            training = replace(training, epochs=chosen.best_epoch, eval_every=0)
            network, result = train_model(model, split, settings, training, progress=NoProgress())
            numbers, gains = measure(PairRecommender.of(network), split)
            per_user.setdefault(model, []).append(gains)
            runs.append(
                {"seed": seed, "epochs": chosen.best_epoch, "seconds": round(result.seconds, 1), **numbers}
                | {"valid": {m: chosen.best[m] for m in METRICS if m in chosen.best}}
            )
            print(f"{name}: {runs[-1]}", flush=True)
        done[model] = {
            "configuration": name,
            "settings": asdict(settings),
            "runs": runs,
            "mean": {m: statistics.fmean(run[m] for run in runs) for m in METRICS},
            "standard deviation": {m: statistics.stdev(run[m] for run in runs) for m in METRICS},
        }
        write_atomically(path, to_json(done).encode())
    base = np.mean(per_user["bpr-mf"], axis=0)
    for model, vectors in per_user.items():
        if model != "bpr-mf":
            difference = np.mean(vectors, axis=0) - base
            interval = paired_bootstrap(difference)
            done[f"{model} less bpr-mf"] = {
                "ndcg@20": {"difference": interval.mean, "low": interval.low, "high": interval.high},
                "p": permutation_test(difference),
                "recall@20 ratio": done[model]["mean"]["recall@20"] / done["bpr-mf"]["mean"]["recall@20"],
            }
    done["training"] = asdict(TRAINING)
    done["versions"] = {package: version(package) for package in ("rec-core", "rec-data", "rec-srs", "torch", "numpy")}
    done["hashes"] = split.hashes()
    write_atomically(path, to_json(done).encode())


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "final"))
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="the folder that holds lastfm-hetrec/"
    )
    parser.add_argument("--prepared", type=Path, default=Path("runs/reproduce/lastfm"))
    parser.add_argument("--only", default="", help="tune: a regular expression of the configurations to run")
    given = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    if not given.prepared.exists():
        raw = given.data / "lastfm-hetrec" / "lightgcn-format"
        prepare(raw, given.prepared, PrepareSettings(k_core=1, split="given"))
    split = read_dataset(given.prepared).split
    validated = with_validation(split)
    if given.stage == "tune":
        tune(validated.for_training(), given.only)
    else:
        final(split, validated.for_training())


if __name__ == "__main__":
    main()
