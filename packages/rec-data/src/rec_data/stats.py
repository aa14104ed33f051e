"""Figures of a prepared dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rec_core.types import Dataset
from rec_core.types.ids import Int64

if TYPE_CHECKING:
    from rich.console import Console

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def dataset_stats(dataset: Dataset) -> dict[str, Any]:
    """Counts, density, history lengths, popularity, ties: plain numbers, None where the data cannot tell.

    ``history_length`` and ``item_popularity`` count events of all parts. ``gini`` is 0 when all items are equally
    popular and near 1 when one item has everything; ``top_1%`` is the share of events on the most popular hundredth
    of the items (at least one item).
    """
    events = dataset.split.interactions
    popularity = events.item_counts()
    parts = np.bincount(dataset.split.part, minlength=3)
    in_train = np.bincount(events.items[dataset.split.part == 0], minlength=events.n_items) > 0
    test_items = events.items[dataset.split.part == 2]
    tied = events.tied_share
    return {
        "name": dataset.name,
        "protocol": dataset.split.protocol,
        "users": events.n_users,
        "items": events.n_items,
        "cold_items": len(dataset.items) - events.n_items,
        "interactions": len(events),
        "train": int(parts[0]),
        "valid": int(parts[1]),
        "test": int(parts[2]),
        "density": len(events) / (events.n_users * events.n_items),
        "history_length": _distribution(events.user_counts()),
        "item_popularity": _distribution(popularity),
        "gini": gini(popularity),
        **{f"top_{percent}%": top_share(popularity, percent / 100) for percent in (1, 5, 20)},
        "test_targets_not_in_train": int((~in_train[test_items]).sum()),
        "tied_timestamp_share": None if np.isnan(tied) else tied,
        "first_event": None if events.timestamps is None else _utc(events.timestamps.min()),
        "last_event": None if events.timestamps is None else _utc(events.timestamps.max()),
        "mean_rating": None if events.ratings is None else float(events.ratings.mean(dtype=np.float64)),
        "user_fields": list(dataset.users.fields),
        "item_fields": list(dataset.items.fields),
    }


def gini(counts: Int64) -> float:
    """Gini coefficient of non-negative counts: mean absolute difference of all pairs over twice the mean."""
    ascending = np.sort(counts).astype(np.float64)
    n, total = len(ascending), ascending.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ascending / (n * total)) if total else 0.0


def top_share(counts: Int64, share: float) -> float:
    """Share of the total that the largest ``share`` of the counts hold; at least one count is taken."""
    top = np.sort(counts)[::-1][: max(1, round(share * len(counts)))]
    return float(top.sum() / counts.sum())


def _distribution(counts: Int64) -> dict[str, float]:
    quantiles = np.quantile(counts, QUANTILES, method="inverted_cdf")
    return {
        "min": int(counts.min()),
        **{f"q{int(q * 100):02d}": int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        "max": int(counts.max()),
        "mean": float(counts.mean()),
    }


def _utc(seconds: np.int64) -> str:
    return f"{np.datetime64(int(seconds), 's')}Z"


def print_stats(stats: dict[str, Any], console: Console) -> None:
    """Two tables: the figures, and the distributions."""
    from rich.table import Table

    figures = Table("figure", "value", title=f"{stats['name']}, {stats['protocol']}", title_justify="left")
    for name, value in stats.items():
        if name not in ("name", "protocol") and not isinstance(value, dict):
            figures.add_row(name.replace("_", " "), _text(name, value))
    console.print(figures)
    columns = list(stats["history_length"])
    distributions = Table("events per", *columns, title="distributions", title_justify="left")
    for name, label in (("history_length", "user"), ("item_popularity", "item")):
        values = stats[name].items()
        distributions.add_row(label, *(f"{n:,.1f}" if column == "mean" else f"{n:,}" for column, n in values))
    console.print(distributions)


def _text(name: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case list():
            return ", ".join(value) or "-"
        case float() if name in ("gini", "mean_rating"):
            return f"{value:.3f}"
        case float():
            return f"{value:.2%}"
        case int():
            return f"{value:,}"
    return str(value)
