"""One picture of a study: the trials in order, and the metric over each option that was searched."""

from __future__ import annotations

from math import ceil, log10
from typing import TYPE_CHECKING, Any

from rec_srs.spaces import Between

if TYPE_CHECKING:
    from rec_srs.tune import Study, Trial

# colours that stay apart for colour-blind readers (Okabe and Ito)
_BLUE, _ORANGE, _RED, _GREY = "#0072b2", "#e69f00", "#d55e00", "#9a9a9a"
_MOST_PANELS = 9
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


def draw(study: Study) -> Any:
    """A matplotlib figure; options by importance where that is known, at most nine of them."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = sorted(study.space, key=lambda name: -study.weights.get(name, 0.0))[:_MOST_PANELS]
    columns = min(3, len(names))
    rows = ceil(len(names) / columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=(10.5, 3.6 + 2.6 * rows), layout="constrained")
        grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.25, *[1.0] * rows])
        _history(figure.add_subplot(grid[0, :]), study)
        for i, name in enumerate(names):
            _slice(figure.add_subplot(grid[1 + i // columns, i % columns]), study, name)
        figure.suptitle(
            f"{study.model}: {study.metric} on the valid part over {len(study.trials)} trials",
            x=0.01,
            ha="left",
            fontweight="bold",
            parse_math=False,
        )
    return figure


def _of(study: Study, state: str) -> list[Trial]:
    return [trial for trial in study.trials if trial.state == state]


def _history(axes: Any, study: Study) -> None:
    smaller = study.metric.endswith("loss")
    complete, pruned, failed = (_of(study, state) for state in ("complete", "pruned", "failed"))
    axes.scatter(
        [t.index for t in complete], [t.value for t in complete], color=_BLUE, s=28, label="complete", zorder=3
    )
    if pruned:
        axes.scatter(
            [t.index for t in pruned],
            [t.value for t in pruned],
            color=_GREY,
            marker="x",
            s=28,
            label="pruned",
            zorder=3,
        )
    best, places, levels = None, [], []
    for trial in complete:
        assert trial.value is not None
        best = trial.value if best is None else (min if smaller else max)(best, trial.value)
        places.append(trial.index)
        levels.append(best)
    axes.step(
        [*places, len(study.trials) - 1], [*levels, best], where="post", color=_ORANGE, lw=1.8, label="best so far"
    )
    for place, trial in enumerate(failed):
        label = "failed" if place == 0 else None
        axes.axvline(trial.index, color=_RED, lw=1.2, ls=":", label=label)
    assert study.best.value is not None
    axes.annotate(
        f"{study.best.value:.4f}",
        (study.best.index, study.best.value),
        (0, -15 if smaller else 7),
        textcoords="offset points",
        ha="center",
        fontweight="bold",
    )
    axes.margins(y=0.22)
    axes.set_xlim(-0.5, len(study.trials) - 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("trial")
    axes.set_ylabel(study.metric)
    axes.legend(ncols=4, loc="lower right" if not smaller else "upper right", fontsize=9)


def _slice(axes: Any, study: Study, name: str) -> None:
    choice = study.space[name]
    share = study.weights.get(name)
    axes.set_title(f"{name}, importance {share:.0%}" if share is not None else name, parse_math=False)
    if isinstance(choice, Between):
        place: Any = lambda value: value  # noqa: E731 - a position on the axis
        room = 0.04
        if choice.log:
            axes.set_xscale("log")
            _log_ticks(axes.xaxis, decades=log10(choice.high / choice.low))
            wider = (choice.high / choice.low) ** room
            axes.set_xlim(choice.low / wider, choice.high * wider)
        else:
            axes.set_xlim(
                choice.low - room * (choice.high - choice.low), choice.high + room * (choice.high - choice.low)
            )
    else:
        shown = [str(list(c) if isinstance(c, tuple) else c) for c in choice.choices]
        place = lambda value: shown.index(str(value))  # noqa: E731
        axes.set_xticks(range(len(shown)), shown)
        axes.set_xlim(-0.5, len(shown) - 0.5)
    for state, colour, marker in (("pruned", _GREY, "x"), ("complete", _BLUE, "o")):
        trials = _of(study, state)
        axes.scatter([place(t.values[name]) for t in trials], [t.value for t in trials], c=colour, marker=marker, s=20)
    axes.scatter(
        [place(study.best.values[name])],
        [study.best.value],
        facecolor="none",
        edgecolor=_ORANGE,
        linewidth=2,
        s=90,
        zorder=4,
    )
    axes.margins(y=0.12)


def _log_ticks(axis: Any, decades: float) -> None:
    """Plain numbers, so few that they do not run into each other."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades < 2 else (1.0,), numticks=6))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
