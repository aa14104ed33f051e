"""The demo: MovieLens-100K in, four recommenders trained, an honest leaderboard and a report out.

    hatch run demo              about two minutes on two cores
    hatch run demo --quick      under one minute; SASRec stops early and the table says so

Each step is the command a user would type, run as a process of its own, so that seconds and peak memory are those of
that step alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import RecError
from rec_core.evaluation import Interval, paired_bootstrap, ranks
from rec_core.evaluation.report import ExampleUser, Report, RunSummary, write_report
from rec_core.randomness import generator
from rec_core.runs import compare_runs, load_recommender, read_evaluation
from rec_core.types import Candidates, Dataset

METRIC = "ndcg@10"


@dataclass(frozen=True)
class Contender:
    """One row of the table: its name, its ``rec-srs train`` options."""

    title: str
    run: str
    options: tuple[str, ...]


def contenders(quick: bool) -> list[Contender]:
    """Each with the settings that tools/reproduce/ml_100k.py chose on validation.

    SASRec gets 50 epochs here; trained until validation stops improving, it takes 50 to 80 (see RESULTS.md there).
    """
    chosen = ("--dropout", "0.3", "--weight-decay", "0.1", "--batch-size", "32")
    neighbours = ("--neighbors", "50", "--shrink", "50", "--weighting", "idf")
    short = ("--max-length", "50", "--epochs", "20") if quick else ("--epochs", "50")
    return [
        Contender("Popular", "popular", ("--model", "popular")),
        Contender("ItemKNN", "item-knn", ("--model", "item-knn", *neighbours)),
        Contender("EASE", "ease", ("--model", "ease", "--l2", "100")),
        Contender("SASRec", "sasrec", ("--model", "sasrec", *chosen, *short)),
    ]


def command(console: Console, *words: str | Path) -> None:
    """Run one of our commands as a process of its own and show it as it would be typed."""
    module, *rest = [str(word) for word in words]
    console.print(f"[dim]$[/dim] {module.replace('_', '-')} {escape(' '.join(rest))}", highlight=False, soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", module, *rest], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def learning_curve(log: Path) -> Iterator[tuple[int, float | None, float | None]]:
    """(epoch, mean training loss, validation metric) from a run's log.jsonl; nothing for a fitted model."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    for entry in map(json.loads, lines):
        if entry["event"] == "epoch":
            yield entry["epoch"], entry["epoch_loss"], entry.get("metrics", {}).get(METRIC)


def examples(dataset: Dataset, runs: dict[str, Path], count: int, seed: int) -> list[ExampleUser]:
    """A seeded draw of test users: their newest events, the held-out one, and every recommender's first five."""
    held_out = dataset.split.held_out("test")
    rows = np.sort(generator(seed, "examples").choice(len(held_out), size=min(count, len(held_out)), replace=False))
    asked = held_out.take(rows)
    seen = Candidates(asked.histories.offsets, asked.histories.items)
    models = {name: load_recommender(run) for name, run in runs.items()}
    answers = {name: model.recommend(asked.histories, 5, exclude=seen) for name, model in models.items()}
    places = {name: ranks(model, asked)[0] + 1 for name, model in models.items()}  # type: ignore[arg-type]
    return [
        ExampleUser(
            user=dataset.users.ids.keys[int(asked.histories.users[r])],
            history=[dataset.items.title(int(item)) for item in asked.histories.row(r)[-8:]],
            target=dataset.items.title(int(asked.row(r)[0])),
            recommended={
                name: [dataset.items.title(int(item)) for item in ranking.items[r] if item >= 0]
                for name, ranking in answers.items()
            },
            rank={name: int(place[r]) for name, place in places.items()},
        )
        for r in range(len(asked))
    ]


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under one minute: SASRec reads 50 events, 20 epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where runs and the report go")
    parser.add_argument("--data", default="ml-100k", help="a data set by name, or a directory with the raw files")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    console = Console()
    started = time.perf_counter()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    data = out / "ml-100k"

    command(
        console, "rec_data", "prepare", given.data, data, "--k-core", "5", "--split", "leave-one-out", "--overwrite"
    )
    chosen = contenders(given.quick)
    runs = {c.title: out / c.run for c in chosen}
    for c in chosen:
        seed = ("--seed", str(given.seed)) if c.run == "sasrec" else ()
        command(console, "rec_srs", "train", data, out / c.run, *c.options, *seed, "--overwrite")
    for run in runs.values():
        command(console, "rec_core", "evaluate", run, "--part", "valid", "--quiet")
        command(console, "rec_core", "evaluate", run, "--quiet")
    report = summarise(open_artifact(data).manifest, read_dataset(data), runs, given.quick, given.seed)
    write_report(out / "report.html", report)
    console.print(leaderboard(report))
    for note in report.notes:
        console.print(note, highlight=False)
    console.print(f"\n{time.perf_counter() - started:.0f} s in all; pictures and ten users: {out / 'report.html'}")


def summarise(manifest: Any, dataset: Dataset, runs: dict[str, Path], quick: bool, seed: int) -> Report:
    """Gather what the run directories hold. The strongest baseline is named by validation, not by test."""
    valid = {name: read_evaluation(run, "valid").summary() for name, run in runs.items()}
    test = {name: read_evaluation(run) for name, run in runs.items()}
    baseline = max((name for name in runs if name != "SASRec"), key=lambda name: valid[name][METRIC])
    rows = compare_runs(runs[baseline], [run for name, run in runs.items() if name != baseline], metric=METRIC)
    versus = dict(zip([name for name in runs if name != baseline], rows, strict=True))
    summaries = []
    for name, run in runs.items():
        about = open_artifact(run, verify=False).manifest["training"]
        row = versus.get(name)
        summaries.append(
            RunSummary(
                name=name,
                metrics={**test[name].summary(), f"valid {METRIC}": valid[name][METRIC]},
                interval=paired_bootstrap(test[name].vector(METRIC)),
                difference=None if row is None else Interval(row.difference, row.low, row.high),
                p_value=None if row is None else row.p_holm,
                seconds=about["seconds"],
                peak_memory_mib=about["peak_memory_mib"],
                curve=list(learning_curve(run / "log.jsonl")),
            )
        )
    counts = manifest["counts"]
    notes = [
        f"Every user's last event is the test item; it is ranked among those of the {counts['items']:,} items that the "
        f"user has not met. {counts['tied_timestamp_share']:.0%} of a user's neighbouring events carry one timestamp: "
        f"there the order of the file decides which comes last.",
        f"{baseline} is the baseline because its {METRIC} on validation is the best of the simple models. The smallest "
        f"difference that the paired test finds in 4 of 5 tries is {max(row.mde for row in rows):.4f}.",
    ]
    if quick:
        notes.append("Quick run: SASRec reads only the newest 50 events and was stopped after 20 epochs.")
    facts = [
        (
            "data set",
            f"{manifest['name']}: " + ", ".join(f"{counts[n]:,} {n}" for n in ("users", "items", "interactions")),
        ),
        ("split", "leave-one-out: last event test, the one before validation"),
        ("content hash", manifest["content"]["dataset"]),
        ("test hash", test[baseline].test_hash),
        ("seed", str(seed)),
        ("versions", ", ".join(f"{p} {version(p)}" for p in ("rec-core", "rec-data", "rec-srs", "torch", "numpy"))),
    ]
    return Report(
        title="Four recommenders on MovieLens-100K",
        metric=METRIC,
        baseline=baseline,
        runs=summaries,
        examples=examples(dataset, runs, 10, seed),
        facts=facts,
        notes=notes,
    )


def leaderboard(report: Report) -> Table:
    """The report's table for a terminal."""
    title = "MovieLens-100K, leave-one-out, full ranking, seen items excluded"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    versus = f"NDCG@10 − {report.baseline}’s\n[95% interval]"
    for heading in ("HR@10", "NDCG@10", "tail\nNDCG@10", versus, "seconds", "peak\nMiB"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    best = max(run.metrics[METRIC] for run in report.runs)
    for run in report.runs:
        d = run.difference
        table.add_row(
            run.name,
            f"{run.metrics['hr@10']:.4f}",
            f"{run.metrics[METRIC]:.4f}",
            f"{run.metrics[f'{METRIC}/tail']:.4f}",
            "baseline" if d is None else escape(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"),
            f"{run.seconds:.1f}" if run.seconds is not None else "",
            f"{run.peak_memory_mib:.0f}" if run.peak_memory_mib is not None else "",
            style="bold" if run.metrics[METRIC] == best else None,
        )
    return table


if __name__ == "__main__":
    try:
        main()
    except RecError as error:
        sys.exit(f"error: {error}")
