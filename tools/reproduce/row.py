"""One row of a published table, run again: configurations compared on validation, the best one measured on test.

Every (configuration, seed) is a run directory under ``--runs``, trained with what a user would call
(:func:`rec_srs.train_run`); a run that was stopped is taken up where it stood, a finished one is not run again. What
ends up beside the script is small: ``tune.json`` (validation only), ``final.json`` (test, per seed, with settings,
versions and hashes) and the epoch lines of every final run's log.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rec_core.artifacts import Artifact, open_artifact, to_json, write_atomically
from rec_core.cli import Progress
from rec_core.dataset import read_dataset
from rec_core.runs import evaluate_run
from rec_core.training import TrainSettings
from rec_data.config import PrepareSettings
from rec_data.prepare import prepare
from rec_srs import train_run

Configuration = tuple[Any, TrainSettings]
METRICS = ("hr@10", "ndcg@10", "mrr@10", "ndcg@10/tail", "ndcg@10/head")


@dataclass(frozen=True)
class Row:
    """What is run again.

    name            of the folder beside the script
    data            folder of the raw files under ../shared/data or --data
    prepare         how they are prepared
    model           as ``rec-srs train --model`` has it
    configurations  name -> (settings, training); compared with seed 1 on validation
    published       what others report, for the JSON file
    bar             metric -> what our mean should reach
    seeds           of the final runs
    """

    name: str
    data: str
    prepare: PrepareSettings
    model: str
    configurations: Mapping[str, Configuration]
    published: Mapping[str, Any]
    bar: Mapping[str, float]
    seeds: tuple[int, ...] = (1, 2, 3)


def read_json(path: Path) -> dict[str, Any]:
    """What was written before; {} when nothing was."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def trained(row: Row, name: str, seed: int, data: Path, runs: Path) -> Artifact:
    """The run of one configuration and seed: as it lies there, gone on with, or trained from the beginning."""
    settings, training = row.configurations[name]
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    target = runs / row.name / f"{slug}-seed{seed}"
    if not (target / "manifest.json").exists():
        with Progress(f"{row.name}: {name}, seed {seed}") as progress:
            train_run(
                data,
                target,
                model=row.model,
                settings=settings,
                training=replace(training, seed=seed),
                resume=target.with_name(f"{target.name}.partial").exists(),
                progress=progress,
            )
    return open_artifact(target)


def tune(row: Row, data: Path, runs: Path, here: Path, only: str) -> None:
    """Every configuration whose name matches ``only``, seed 1, on validation; the test part is not read."""
    for name in row.configurations:
        if re.search(only, name):
            about = trained(row, name, 1, data, runs).manifest["training"]
            found = {**about["best"], "epochs": about["epochs"], "seconds": round(about["seconds"], 1)}
            write_atomically(here / "tune.json", to_json(read_json(here / "tune.json") | {name: found}).encode())
            print(f"{name}: {found}", flush=True)


def final(row: Row, data: Path, runs: Path, here: Path) -> None:
    """The configuration that validation preferred, measured on test once per seed."""
    tuned = read_json(here / "tune.json")
    name = max(row.configurations, key=lambda n: tuned.get(n, {}).get("ndcg@10", -1.0))
    measured = []
    for seed in row.seeds:
        run = trained(row, name, seed, data, runs)
        summary = evaluate_run(run.path, ks=(5, 10)).summary()
        about = run.manifest["training"]
        measured.append(
            {
                "seed": seed,
                **{metric: summary[metric] for metric in METRICS},
                "valid ndcg@10": about["best"]["ndcg@10"],
                "best epoch": about["best"]["epoch"],
                "epochs": about["epochs"],
                "seconds": round(about["seconds"], 1),
                "peak MiB": about["peak_memory_mib"],
            }
        )
        epochs = [
            line for line in (run.path / "log.jsonl").read_text().splitlines() if json.loads(line)["event"] == "epoch"
        ]
        write_atomically(here / f"log-seed{seed}.jsonl", ("\n".join(epochs) + "\n").encode())
        print(f"{name}: {measured[-1]}", flush=True)
    means = {metric: statistics.fmean(m[metric] for m in measured) for metric in METRICS}
    spread = {
        metric: statistics.stdev(m[metric] for m in measured) if len(measured) > 1 else None for metric in METRICS
    }
    found = {
        "configuration": name,
        "runs": measured,
        "mean": means,
        "standard deviation": spread,
        "bar": dict(row.bar),
        "reached": {metric: means[metric] >= value for metric, value in row.bar.items()},
        "published": dict(row.published),
        "settings": dict(run.settings),
        "versions": {package: version(package) for package in ("rec-core", "rec-data", "rec-srs", "torch", "numpy")},
        "hashes": read_dataset(data).split.hashes(),
    }
    write_atomically(here / "final.json", to_json(found).encode())
    print(to_json({"mean": means, "reached": found["reached"]}), flush=True)


def main(row: Row, description: str | None) -> None:
    """Run one stage of a row from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "final"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"the folder that holds {row.data}/")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where run directories go")
    parser.add_argument("--only", default="", help="tune: a regular expression of the configurations to run")
    given = parser.parse_args()
    here = Path(__file__).parent / row.name
    here.mkdir(exist_ok=True)
    data = given.runs / row.data
    if not data.exists():
        prepare(given.data / row.data, data, row.prepare)
    if given.stage == "tune":
        tune(row, data, given.runs, here, given.only)
    else:
        final(row, data, given.runs, here)
