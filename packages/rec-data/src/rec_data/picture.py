"""One picture of a dataset: who is active, what is popular, when it happened, how it was rated."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import write_atomically
from rec_core.errors import SettingsError, require

# colours that stay apart for colour-blind readers (Okabe and Ito)
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#767676"
_PART_COLOURS = {"all": _BLUE, "train": _BLUE, "valid": _ORANGE, "test": _GREEN}
ENDINGS = (".png", ".svg")
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 8,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.hashsalt": "rec-data",  # the same data gives the same bytes
}


def check_picture(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a picture that could not be written, before any work is done for it.

    Raises :class:`SettingsError` for another ending than .png or .svg and for a file that exists (unless
    ``overwrite``), and :class:`MissingExtra` where matplotlib is not installed.
    """
    if path.suffix.casefold() not in ENDINGS:
        raise SettingsError(f"--plot {path}: the ending says the kind of picture, {' or '.join(ENDINGS)}")
    if path.is_dir():
        raise SettingsError(f"--plot {path} is a directory; name a file")
    if path.exists() and not overwrite:
        raise SettingsError(f"--plot {path} exists already; choose another file or pass --overwrite")
    require("matplotlib", "plot", "rec-data")


def write_picture(path: Path, stats: Mapping[str, Any], curves: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Draw the curves and write them as PNG or SVG; a reader sees the old file or the whole new one."""
    check_picture(path, overwrite=overwrite)
    figure = draw(stats, curves)
    kind = path.suffix.casefold().lstrip(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    write_atomically(path, buffer.getvalue())


def draw(stats: Mapping[str, Any], curves: Mapping[str, Any]) -> Any:
    """A matplotlib figure of ``dataset_stats`` and ``dataset_curves`` (or those of raw files).

    Panels whose data is not there (times, ratings) are left out, and the line under the title says so.
    """
    from matplotlib.figure import Figure

    panels: list[Callable[[Any, Mapping[str, Any], Mapping[str, Any]], None]] = [_lengths, _popularity, _concentration]
    missing = []
    if curves["over_time"] is not None:
        panels += [_over_time, _gaps]
    else:
        missing.append("no timestamps")
    if curves["ratings"] is not None:
        panels.append(_ratings)
    else:
        missing.append("no ratings")
    columns = {3: 3, 4: 2, 5: 6, 6: 3}[len(panels)]
    rows = 1 if len(panels) == 3 else 2
    with _style():
        figure = Figure(figsize=(4.4 * (2 if columns == 2 else 3), 0.9 + 3.3 * rows), layout="constrained")
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.12, h_pad=0.1)
        grid = figure.add_gridspec(rows, columns)
        # five panels: three above, and two below that are half as wide again
        spans = [grid[0, 2 * i : 2 * i + 2] for i in range(3)] + [grid[1, :3], grid[1, 3:]] if columns == 6 else None
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(spans[i] if spans else grid[i // columns, i % columns])
            panel(axes, stats, curves)
        figure.suptitle(_headline(stats), x=0.012, ha="left", fontsize=14, fontweight="bold", parse_math=False)
        # a second line in a size of its own: the empty line of the title keeps its place
        figure.text(
            0.012, 1 - 0.44 / figure.get_figheight(), _subtitle(stats, missing), ha="left", va="top", color="#444444"
        )
    return figure


def _style() -> Any:
    from matplotlib import rc_context

    return rc_context(_STYLE)


def _headline(stats: Mapping[str, Any]) -> str:
    name = " ".join(str(stats["name"]).split())
    name = name if len(name) <= 60 else f"{name[:59]}…"
    return f"{name}, {(stats['protocol'] or 'raw files').replace('_', ' ')}\n"


def _subtitle(stats: Mapping[str, Any], missing: list[str]) -> str:
    density = stats["density"]
    shown = f"{density:.2%}" if density >= 0.001 else f"{density:.2g}" if density < 1e-6 else f"{density:.4%}"
    sizes = {"user": stats["users"], "item": stats["items"], "event": stats["interactions"]}
    counts = [f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in sizes.items()] + [f"density {shown}"]
    if stats["first_event"] is not None:
        counts.append(f"{stats['first_event'][:10]} to {stats['last_event'][:10]}")
    return "   ·   ".join(counts + missing)


def _lengths(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    curve, length = curves["history_length"], stats["history_length"]
    # the share with at least n events is that of the next length that occurs: a step down after each
    lengths, users = [0.01, *curve["at_least"]], [1.0, *curve["users"]]  # from the edge of the panel on
    axes.step(lengths, users, where="pre", color=_BLUE, lw=2)
    axes.fill_between(lengths, users, step="pre", color=_BLUE, alpha=0.15, lw=0)
    _log(axes.xaxis, curve["at_least"][0], curve["at_least"][-1])
    axes.axvline(max(length["q50"], curve["at_least"][0]), color=_GREY, lw=1, ls="--")
    _say(
        axes, f"half have {length['q50']:,} or more\nmean {length['mean']:,.1f}, most {length['max']:,}", "upper right"
    )
    axes.set(title="How active users are", xlabel="n events", ylabel="users with at least n events", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(_percent)


def _popularity(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    curve = curves["popularity"]
    axes.plot(curve["rank"], curve["events"], color=_BLUE, lw=2, marker="o" if len(curve["rank"]) < 30 else None, ms=4)
    _log(axes.xaxis, 1, curve["rank"][-1])
    _log(axes.yaxis, curve["events"][-1], curve["events"][0])
    popular = stats["item_popularity"]
    _say(axes, f"most popular {popular['max']:,}\nmedian item {popular['q50']:,}", "lower left")
    axes.set(title="How popular items are", xlabel="rank of the item", ylabel="events")


def _concentration(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    curve = curves["concentration"]
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--")
    axes.plot(curve["items"], curve["events"], color=_BLUE, lw=2)
    axes.fill_between(curve["items"], curve["events"], curve["items"], color=_BLUE, alpha=0.15, lw=0)
    lines = []
    for percent in (1, 5, 20):
        share = stats[f"top_{percent}%"]
        axes.plot(percent / 100, np.interp(percent / 100, curve["items"], curve["events"]), "o", color=_BLUE, ms=5)
        lines.append(f"top {percent}% have {share:.0%}")
    _say(axes, "\n".join([*lines, f"Gini {stats['gini']:.2f}"]), "lower right")
    axes.set(
        title="How concentrated events are",
        xlabel="items, most popular first",
        ylabel="share of the events",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)


def _over_time(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    from matplotlib import dates

    curve = curves["over_time"]
    seconds = np.array(curve["edges"], np.int64)
    edges: Any = seconds
    if seconds[0] >= -62_135_596_800 and seconds[-1] < 253_402_300_800:  # the years 1 to 9999
        edges = seconds.astype("datetime64[s]")
    width = _span(int(seconds[1] - seconds[0]))
    sizes = {name: sum(curve[name]) for name in _PART_COLOURS if any(curve.get(name, ()))}
    axes.set(title="When it happened", ylabel=f"events per {width}")
    axes.yaxis.set_major_formatter(_short)
    if len(sizes) == 1:
        events = curve[next(iter(sizes))]
        axes.stairs(events, edges, fill=True, color=_BLUE)
        axes.set_ylim(0, 1.05 * max(events))
        _whole_numbers(axes.yaxis)
    else:  # one held-out event per user would not be seen on a stack of all events: each part by itself
        for name, size in sizes.items():
            shares, label = np.array(curve[name]) / size, f"{name}, {size:,}"
            if name == "train":
                axes.stairs(shares, edges, fill=True, color=_BLUE, alpha=0.3, lw=0, label=label)
            else:
                axes.stairs(shares, edges, color=_PART_COLOURS[name], lw=1.8, baseline=None, label=label)
        axes.set_ylim(bottom=0)
        axes.set(ylabel=f"share of each part, per {width}")
        axes.yaxis.set_major_formatter(_percent)
        axes.legend(loc="best", handlelength=1.2, fontsize=9.5, frameon=True, framealpha=0.8, edgecolor="none")
    if edges is not seconds:
        ticks: Any = dates
        locator = ticks.AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ticks.ConciseDateFormatter(locator))
    axes.grid(axis="x", visible=False)


def _gaps(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    gaps = curves["gaps"]
    total = sum(gaps.values())
    tied = stats["tied_timestamp_share"]
    axes.set(title="Time between a user's events")
    if not total:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no user has two events", ha="center", va="center", color="#444444")
        return
    names, shares = list(gaps), [n / total for n in gaps.values()]
    places = range(len(names))
    axes.barh(places, shares, color=[_RED, *[_BLUE] * (len(names) - 1)], height=0.75)
    for place, share in zip(places, shares, strict=True):
        text = f"{share:.1%}" if share >= 0.001 else "<0.1%" if share else "0%"
        axes.annotate(text, (share, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.18 * max(shares))
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("ties: the file decides their order" if tied else "share of the pairs")


def _ratings(axes: Any, stats: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    curve = curves["ratings"]
    events = np.array(curve["events"], np.float64)
    if "values" in curve:
        values = np.array(curve["values"])
        step = np.diff(values).min() if len(values) > 1 else 1.0
        axes.bar(values, events, width=0.8 * step, color=_BLUE)
        if len(values) <= 11:
            axes.set_xticks(values, [f"{value:g}" for value in values])
    else:
        axes.stairs(events, curve["edges"], fill=True, color=_BLUE)
    axes.axvline(stats["mean_rating"], color=_GREY, lw=1, ls="--")
    axes.set(title=f"How it was rated (mean {stats['mean_rating']:.2f})", xlabel="rating", ylabel="events")
    axes.set_ylim(0, 1.05 * events.max())
    axes.grid(axis="x", visible=False)
    _whole_numbers(axes.yaxis)
    axes.yaxis.set_major_formatter(_short)


def _log(axis: Any, least: float, most: float) -> None:
    """A logarithmic axis with plain numbers on it; a linear one would hide the few that have much."""
    from matplotlib.ticker import FixedLocator, NullLocator

    room = (most / least) ** 0.04 if most > least else 2.0
    low, high = least / room, most * room
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    decades = [10.0**power for power in range(int(np.floor(np.log10(low))), int(np.log10(high)) + 1)]
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [step * decade for decade in decades for step in steps if max(low, 1) <= step * decade <= high]
        if len(ticks) > 2:
            break
    axis.set_major_locator(FixedLocator(ticks or [least]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_short)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 2.5, 5, 10]))


def _say(axes: Any, text: str, corner: str) -> None:
    vertical, horizontal = corner.split()
    x, y = {"left": 0.04, "right": 0.97}[horizontal], {"upper": 0.96, "lower": 0.05}[vertical]
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=horizontal,
        va="top" if vertical == "upper" else "bottom",
        color="#333333",
        fontsize=9.5,
        linespacing=1.4,
        bbox=box,
    )


def _percent(value: float, _: object = None) -> str:
    return f"{value:.0%}"


def _short(value: float, _: object = None) -> str:
    """12,000 as 12k: labels that are read at a glance."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _span(seconds: int) -> str:
    """The width of a bin in words."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            n = seconds / size
            return unit if n == 1 else f"{n:.1f} {unit}s" if n < 10 and n % 1 else f"{n:,.0f} {unit}s"
    return "second"
