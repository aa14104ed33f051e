"""One self-contained HTML page about a comparison: table, plots, example users. Needs ``rec-core[report]``."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import write_atomically
from rec_core.errors import require
from rec_core.evaluation.significance import Interval

# A palette that stays apart for colour-blind readers (Okabe and Ito); the recommenders keep their colour on all plots.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7a00", "#555555")


@dataclass(frozen=True, slots=True, eq=False)
class RunSummary:
    """One recommender as the page shows it.

    name         as in the table
    metrics      flat summary of its evaluation, ``{"ndcg@10": 0.08, "ndcg@10/tail": ...}``
    interval     the main metric with its interval over users
    difference   the main metric less the baseline's, paired over users; None for the baseline itself
    p_value      of that difference, Holm-corrected; None for the baseline
    seconds      of training
    peak_memory_mib  of the training process; None where unknown
    curve        (epoch, training loss or None, validation metric or None) of each epoch; empty for closed forms
    """

    name: str
    metrics: Mapping[str, float]
    interval: Interval
    difference: Interval | None = None
    p_value: float | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None
    curve: Sequence[tuple[int, float | None, float | None]] = ()


@dataclass(frozen=True, slots=True)
class ExampleUser:
    """What one user met, what came next, and what each recommender would have said."""

    user: str
    history: Sequence[str]
    target: str
    recommended: Mapping[str, Sequence[str]]
    rank: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything on the page.

    title      headline
    metric     the main metric's name
    baseline   name of the run the others are held against
    runs       in the order of the table, best last or first as you like
    examples   users to show
    facts      (label, text) lines: data set, split, counts, hashes, versions, seeds
    notes      sentences under the table, e.g. that this was a quick run
    """

    title: str
    metric: str
    baseline: str
    runs: Sequence[RunSummary]
    examples: Sequence[ExampleUser] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


def write_report(path: Path | str, report: Report) -> None:
    """Write the page; pictures are inside, nothing is fetched when it is opened."""
    jinja2 = require("jinja2", "report")
    pictures = {
        "metric": _picture(plot_metric, report),
        "curve": _picture(plot_curves, report) if any(run.curve for run in report.runs) else None,
        "slices": _picture(plot_slices, report),
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    template = files("rec_core.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(template).render(report=report, pictures=pictures, columns=_columns(report))
    write_atomically(Path(path), page.encode())


def _columns(report: Report) -> list[tuple[str, str]]:
    """(heading, metric name) of the numbers that every run has."""
    wanted = [
        ("HR@10", "hr@10"),
        ("NDCG@10", "ndcg@10"),
        ("tail NDCG@10", "ndcg@10/tail"),
        ("coverage@10", "coverage@10"),
    ]
    return [(head, name) for head, name in wanted if all(name in run.metrics for run in report.runs)]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else "n/a" if np.isnan(value) else f"{value:.{digits}f}"


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    require("matplotlib", "report")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")  # no pyplot: no global state, no display
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    yield figure, axes


def _picture(plot: Any, report: Report) -> str:
    buffer = io.BytesIO()
    plot(report).savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def plot_metric(report: Report) -> Any:
    """A matplotlib figure: the main metric of each run with its 95% interval over users."""
    with _figure(8.0, 0.9 + 0.5 * len(report.runs)) as (figure, axes):
        for place, run in enumerate(reversed(report.runs)):
            colour = COLOURS[(len(report.runs) - 1 - place) % len(COLOURS)]
            reach = [[run.interval.mean - run.interval.low], [run.interval.high - run.interval.mean]]
            axes.errorbar(
                run.interval.mean, place, xerr=reach, fmt="o", color=colour, capsize=4, markersize=7, linewidth=2
            )
            axes.annotate(
                f"{run.interval.mean:.4f}",
                (run.interval.mean, place),
                (0, 8),
                textcoords="offset points",
                ha="center",
            )
        axes.set_yticks(range(len(report.runs)), [run.name for run in reversed(report.runs)])
        axes.set_ylim(-0.6, len(report.runs) - 0.3)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{report.metric.upper()} on test, with the 95% interval over users")
        axes.grid(axis="x", alpha=0.3)
    return figure


def plot_curves(report: Report) -> Any:
    """A matplotlib figure: training loss (dashed) and validation metric over epochs; dotted lines are fitted models."""
    with _figure(8.0, 3.6) as (figure, axes):
        right = axes.twinx()
        right.spines[["top"]].set_visible(False)
        for place, run in enumerate(report.runs):
            colour = COLOURS[place % len(COLOURS)]
            losses = [(epoch, loss) for epoch, loss, _ in run.curve if loss is not None]
            values = [(epoch, value) for epoch, _, value in run.curve if value is not None]
            if losses:
                axes.plot(*zip(*losses, strict=True), color=colour, linestyle="--", alpha=0.8)
            if values:
                right.plot(*zip(*values, strict=True), color=colour, linewidth=2, label=run.name)
                best = max(values, key=lambda pair: pair[1])
                right.plot(*best, marker="o", color=colour)
                right.annotate(f"best {best[1]:.4f}", best, (0, 7), textcoords="offset points", ha="center", fontsize=9)
        for run in report.runs:
            if not run.curve and f"valid {report.metric}" in run.metrics:
                place = list(report.runs).index(run)
                level = run.metrics[f"valid {report.metric}"]
                right.axhline(level, color=COLOURS[place % len(COLOURS)], linewidth=1, linestyle=":", label=run.name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss (dashed)")
        right.set_ylabel(f"validation {report.metric.upper()}")
        right.set_ylim(bottom=0)
        right.margins(y=0.15)
        figure.legend(loc="outside upper center", ncols=len(report.runs), frameon=False, fontsize=9)
    return figure


def plot_slices(report: Report) -> Any:
    """A matplotlib figure: the main metric on slices of items and users."""
    slices = [
        (f"{report.metric}/head", "head items"),
        (f"{report.metric}/tail", "tail items"),
        (f"{report.metric}/short", "short histories"),
        (f"{report.metric}/long", "long histories"),
    ]
    slices = [(name, label) for name, label in slices if any(name in run.metrics for run in report.runs)]
    with _figure(8.0, 3.2) as (figure, axes):
        width = 0.8 / max(len(report.runs), 1)
        for place, run in enumerate(report.runs):
            heights = [run.metrics.get(name, float("nan")) for name, _ in slices]
            where = np.arange(len(slices)) + (place - (len(report.runs) - 1) / 2) * width
            axes.bar(where, heights, width * 0.92, color=COLOURS[place % len(COLOURS)], label=run.name)
        axes.set_xticks(range(len(slices)), [label for _, label in slices])
        axes.set_ylabel(report.metric.upper())
        axes.grid(axis="y", alpha=0.3)
        figure.legend(loc="outside upper center", ncols=len(report.runs), frameon=False, fontsize=9)
    return figure
