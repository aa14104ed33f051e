"""The ``rec-core`` command: evaluate, compare, inspect."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rec_core.cli import DataOverride, Json, console, make_app, run
from rec_core.errors import SettingsError

if TYPE_CHECKING:
    from rec_core.evaluation import Comparison

app = make_app("rec-core", "Evaluate, compare and inspect runs of any recommender.")


@app.command
def evaluate(
    run: Path,
    /,
    *,
    data: DataOverride = None,
    part: Literal["valid", "test"] = "test",
    max_users: int | None = None,
    candidates: Path | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> None:
    """Evaluate a run of any method on its data set and write metrics.json and per_user.parquet into it.

    Results on the validation part, or among candidates, go to files of their own (metrics-valid.json, ...).

    Parameters
    ----------
    run
        Directory of a trained recommender.
    part
        valid or test.
    max_users
        Evaluate a seeded sample of users, the same for every run on this data set.
    candidates
        Directory of frozen candidate lists (rec-data candidates) to rank instead of the whole catalogue. The names of
        the metrics say so: ndcg@10[101 candidates].
    quiet
        Write the files and print nothing.
    """
    from rec_core.runs import evaluate_run

    result = evaluate_run(run, data=data, part=part, max_users=max_users, candidates=candidates)
    if not quiet:
        print_metrics(result.summary(), as_json=json)


@app.command
def compare(
    baseline: Path,
    /,
    *runs: Path,
    metric: str = "ndcg@10",
    part: Literal["valid", "test"] = "test",
    candidates: Path | None = None,
    draws: int = 10_000,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Compare evaluated runs with a baseline, user by user.

    Parameters
    ----------
    baseline
        The run the others are held against.
    runs
        One or more evaluated runs on the same users.
    metric
        As in metrics.json: ndcg@10, hr@5, ndcg@10/tail, ...
    part
        valid or test: which evaluation of each run.
    candidates
        Directory of frozen candidate lists: the evaluation of each run on these.
    draws
        Resamples of the interval and of the permutation test.
    """
    from rec_core.runs import compare_runs

    if not runs:
        raise SettingsError("name at least two runs: rec-core compare BASELINE RUN ...")
    rows = compare_runs(baseline, runs, metric=metric, part=part, candidates=candidates, draws=draws, seed=seed)
    print_comparison(rows, as_json=json)


@app.command
def inspect(artifact: Path, /, *, json: Json = False) -> None:
    """Show what an artifact is, what it was made from, and check that it is whole."""
    print_artifact(artifact, as_json=json)


def print_comparison(rows: Sequence[Comparison], *, as_json: bool = False) -> None:
    """Show comparisons as a table, or as JSON for machines."""
    if as_json:
        from rec_core.artifacts import to_json

        plain = [{k: None if isinstance(v, float) and isnan(v) else v for k, v in asdict(row).items()} for row in rows]
        print(to_json(plain), end="")
        return
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    out, first = console(), rows[0]
    title = f"{first.metric} against {first.baseline} ({first.baseline_mean:.4f})"
    out.print(title, highlight=False, markup=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("run", "mean", "difference", "95% interval", "p (Holm)", "detectable", "users"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for row in rows:
        interval = escape(f"[{row.low:+.4f}, {row.high:+.4f}]")
        figures = (f"{row.mean:.4f}", f"{row.difference:+.4f}", interval, f"{row.p_holm:.4f}", f"{row.mde:.4f}")
        table.add_row(escape(row.run), *figures, f"{row.users:,}")
    out.print(table)


def print_metrics(metrics: Mapping[str, float], *, as_json: bool = False) -> None:
    """Show a flat summary as a table, or as JSON for machines."""
    if as_json:
        from rec_core.artifacts import to_json

        print(to_json(metrics), end="")
        return
    from rich.table import Table

    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else f"{value:,}")
    console().print(table)


def print_artifact(path: Path | str, *, as_json: bool = False) -> None:
    """Show a manifest after checking that the artifact is whole."""
    from rec_core.artifacts import open_artifact, to_json

    artifact = open_artifact(path)
    if as_json:
        print(to_json(artifact.manifest), end="")
        return
    shown = {key: value for key, value in artifact.manifest.items() if key not in ("payload", "inputs")}
    out = console()
    out.print(f"{artifact.path}: {artifact.kind}, whole", highlight=False, markup=False)
    for key, value in shown.items():
        for line in _wrapped(key, value, "  ", out.width):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
    for entry in artifact.manifest["inputs"]:
        line = f"  made from {entry['role']}: {entry['path']} ({entry['hash'][:12]})"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    for name, entry in artifact.manifest["payload"].items():
        out.print(f"  {name}: {entry['bytes']:,} bytes", highlight=False, markup=False)


def _wrapped(key: str, value: object, indent: str, width: int) -> Iterator[str]:
    """A value as lines: on one where it fits, else the parts of a mapping each on a line of its own, else wrapped."""
    line = f"{indent}{key}: {jsonlib.dumps(value, ensure_ascii=False)}"
    if len(line) > width and isinstance(value, Mapping) and any(isinstance(part, Mapping) for part in value.values()):
        yield f"{indent}{key}:"
        for name, part in value.items():
            yield from _wrapped(str(name), part, indent + "  ", width)
        return
    if not isinstance(value, Mapping | list):  # a hash stays beside its name
        yield line
        return
    deeper = indent + "    "
    yield from wrap(line, width, subsequent_indent=deeper, break_long_words=False, break_on_hyphens=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``rec-core``."""
    run(app, argv)
