"""Figures and curves of a prepared dataset, or of raw files as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rec_core.artifacts import MANIFEST, open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.types import Dataset
from rec_core.types.ids import Float32, Float64, Int64
from rec_core.types.split import PARTS
from rec_data.config import ReadSettings

if TYPE_CHECKING:
    from rich.console import Console

    from rec_data.raw import RawData

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
GAPS = (  # a gap below so many seconds: its name
    (1, "the same timestamp"),
    (60, "under a minute"),
    (3_600, "under an hour"),
    (86_400, "under a day"),
    (7 * 86_400, "under a week"),
    (30 * 86_400, "under 30 days"),
    (365 * 86_400, "under a year"),
    (None, "longer"),
)
_POINTS = 256  # of a curve, however long the data
_BINS = 60  # of time
_BARS = 25  # of ratings: more different values than this are binned
_BLOCK = 1 << 22


def stats_of(source: str, settings: ReadSettings | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and curves of a prepared dataset, of raw files or of a public dataset by its name (fetched if need be).

    ``settings`` say how raw files are read; a prepared dataset takes none (:class:`SettingsError`).
    """
    from rec_data.inspect import RAW_KINDS
    from rec_data.prepare import locate
    from rec_data.readers import read

    if (Path(source) / MANIFEST).exists() and open_artifact(source, verify=False).kind not in RAW_KINDS:
        if settings not in (None, ReadSettings()):
            raise SettingsError(f"{source} is a prepared dataset; options for reading raw files do not apply to it")
        dataset = read_dataset(source)
        return dataset_stats(dataset), dataset_curves(dataset)
    path, asset, settings = locate(source, settings or ReadSettings())
    raw = read(path, settings)
    if asset is not None:
        raw = replace(raw, name=asset.asset.name)
    return raw_stats(raw), raw_curves(raw)


def dataset_stats(dataset: Dataset) -> dict[str, Any]:
    """Counts, density, history lengths, popularity, ties: plain numbers, None where the data cannot tell.

    ``history_length`` and ``item_popularity`` count events of all parts. ``gini`` is 0 when all items are equally
    popular and near 1 when one item has everything; ``top_1%`` is the share of events on the most popular hundredth
    of the items (at least one item). ``repeated_pairs`` are events whose user has met their item before. Raises
    :class:`DataError` for a dataset without events.
    """
    events = _Events.of(dataset)
    sizes = events.part_sizes()
    in_train = np.zeros(events.n_items, np.bool_)
    test_items = []
    for rows in events.blocks():
        part = dataset.split.part[rows]
        in_train[events.items[rows][part == 0]] = True
        test_items.append(events.items[rows][part == 2])
    return {
        "name": dataset.name,
        "protocol": dataset.split.protocol,
        "users": events.n_users,
        "items": events.n_items,
        "cold_items": len(dataset.items) - events.n_items,
        "interactions": len(events),
        **dict(zip(PARTS, sizes, strict=True)),
        **events.figures(),
        "test_targets_not_in_train": int((~in_train[np.concatenate(test_items)]).sum()),
        "user_fields": list(dataset.users.fields),
        "item_fields": list(dataset.items.fields),
    }


def dataset_curves(dataset: Dataset) -> dict[str, Any]:
    """What :func:`rec_data.picture.draw` shows, in some hundred points whatever the size of the data: plain values.

    ``history_length``: ``at_least`` n events have ``users`` (a share); ``popularity``: events of the item at each
    ``rank``; ``concentration``: the share of events on the most popular share of ``items``; ``over_time``: events per
    part between ``edges`` (seconds); ``gaps``: neighbouring events of a user by the time between them; ``ratings``:
    events per value, or between edges where there are many values. None where the data has no times, no ratings.
    """
    return _Events.of(dataset).curves()


def raw_stats(raw: RawData) -> dict[str, Any]:
    """The same figures of raw files, before any filter; ``lines`` equals ``interactions`` plus ``dropped``.

    Raises :class:`DataError` when there are no rows.
    """
    events = _Events.of_raw(raw)
    described = None if raw.items is None else raw.items.height
    return {
        "name": raw.name,
        "protocol": None,
        "users": events.n_users,
        "items": events.n_items,
        "described_items": described,
        "lines": raw.lines,
        "dropped": sum(raw.dropped.values()),
        **{f"dropped_{reason}": n for reason, n in raw.dropped.items()},
        "interactions": len(events),
        **events.figures(),
        "user_fields": [] if raw.users is None else raw.users.columns[1:],
        "item_fields": [] if raw.items is None else raw.items.columns[1:],
    }


def raw_curves(raw: RawData) -> dict[str, Any]:
    """The curves of raw files; events over time are those of all parts."""
    return _Events.of_raw(raw).curves()


def gini(counts: Int64) -> float:
    """Gini coefficient of non-negative counts: mean absolute difference of all pairs over twice the mean."""
    ascending = np.sort(counts).astype(np.float64)
    n, total = len(ascending), ascending.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ascending / (n * total)) if total else 0.0


def top_share(counts: Int64, share: float) -> float:
    """Share of the total that the largest ``share`` of the counts hold; at least one count is taken."""
    top = np.sort(counts)[::-1][: max(1, round(share * len(counts)))]
    return float(top.sum() / counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """Columns by (user, time), from a dataset or from raw rows; ``part`` None for raw rows that state none."""

    users: npt.NDArray[Any]
    items: npt.NDArray[Any]
    n_users: int
    n_items: int
    timestamps: Int64 | None
    ratings: Float32 | None
    part: npt.NDArray[np.uint8] | None

    @classmethod
    def of(cls, dataset: Dataset) -> _Events:
        events = dataset.split.interactions
        if not len(events):
            raise DataError(f"{dataset.name} holds no events, so there are no figures")
        columns = (events.users, events.items, events.n_users, events.n_items, events.timestamps, events.ratings)
        return cls(*columns, dataset.split.part)

    @classmethod
    def of_raw(cls, raw: RawData) -> _Events:
        from rec_data.ordering import event_order

        rows = raw.rows
        if not len(rows):
            raise DataError(f"{raw.name} has no rows, so there are no figures")
        order = event_order(rows.users, rows.timestamps)
        return cls(
            users=rows.users[order],
            items=rows.items[order],
            n_users=len(rows.user_keys),
            n_items=len(rows.item_keys),
            timestamps=None if rows.timestamps is None else rows.timestamps[order],
            ratings=None if rows.ratings is None else rows.ratings[order],
            part=None if rows.part is None else rows.part[order],
        )

    def __len__(self) -> int:
        return len(self.users)

    def blocks(self) -> Iterator[slice]:
        for start in range(0, len(self), _BLOCK):
            yield slice(start, start + _BLOCK)

    def counts(self, column: npt.NDArray[Any], size: int) -> Int64:
        counts = np.zeros(size, np.int64)
        for rows in self.blocks():
            counts += np.bincount(column[rows], minlength=size)
        return counts

    def part_sizes(self) -> list[int]:
        part = self.part
        return [] if part is None else [int(np.count_nonzero(part == code)) for code in range(3)]

    def figures(self) -> dict[str, Any]:
        popularity, lengths = self.counts(self.items, self.n_items), self.counts(self.users, self.n_users)
        gaps, times = self._gaps(), self.timestamps
        neighbours = sum(gaps.values()) if gaps else 0
        tied = None if gaps is None else gaps[GAPS[0][1]] / neighbours if neighbours else 0.0
        return {
            "density": len(self) / (self.n_users * self.n_items),
            "repeated_pairs": self._repeated_pairs(),
            "history_length": _distribution(lengths),
            "item_popularity": _distribution(popularity),
            "gini": gini(popularity),
            **{f"top_{percent}%": top_share(popularity, percent / 100) for percent in (1, 5, 20)},
            "tied_timestamp_share": tied,
            "first_event": None if times is None else _utc(times.min()),
            "last_event": None if times is None else _utc(times.max()),
            "mean_rating": None if self.ratings is None else float(self.ratings.mean(dtype=np.float64)),
        }

    def curves(self) -> dict[str, Any]:
        popularity = np.sort(self.counts(self.items, self.n_items))[::-1]
        popularity = popularity[popularity > 0]
        return {
            "history_length": _at_least(self.counts(self.users, self.n_users)),
            "popularity": _by_rank(popularity),
            "concentration": _concentration(popularity, self.n_items),
            "over_time": self._over_time(),
            "gaps": self._gaps(),
            "ratings": None if self.ratings is None else _ratings(self.ratings),
        }

    def _repeated_pairs(self) -> int:
        """Events whose (user, item) pair an earlier event has."""
        ends = np.flatnonzero(np.diff(self.users)) + 1  # where a user's rows end: blocks are of whole users
        start, repeated = 0, 0
        while start < len(self):
            at = int(np.searchsorted(ends, start + _BLOCK))
            stop = int(ends[at]) if at < len(ends) else len(self)
            pair = self.users[start:stop].astype(np.int64) * self.n_items + self.items[start:stop]
            pair.sort()
            repeated += int(np.count_nonzero(pair[1:] == pair[:-1]))
            start = stop
        return repeated

    def _gaps(self) -> dict[str, int] | None:
        """Neighbouring events of a user by the time between them; None without times."""
        if self.timestamps is None:
            return None
        bounds = [bound for bound, _ in GAPS if bound is not None]
        counts = np.zeros(len(GAPS), np.int64)
        for start in range(0, max(len(self) - 1, 1), _BLOCK):
            rows = slice(start, start + _BLOCK + 1)  # one more: the pair across the edge of the block
            same_user = np.diff(self.users[rows]) == 0
            gap = np.diff(self.timestamps[rows])[same_user]
            counts += np.bincount(np.searchsorted(bounds, gap, side="right"), minlength=len(GAPS))
        return dict(zip((name for _, name in GAPS), counts.tolist(), strict=True))

    def _over_time(self) -> dict[str, Any] | None:
        times, part = self.timestamps, self.part
        if times is None:
            return None
        first, last = int(times.min()), int(times.max())
        width = max(1, -(-(last - first + 1) // _BINS))
        bins = (last - first) // width + 1
        names = ("all",) if part is None else PARTS
        counts = np.zeros((len(names), bins), np.int64)
        for rows in self.blocks():
            code = 0 if part is None else part[rows].astype(np.int64)
            at = (times[rows] - first) // width + code * bins
            counts += np.bincount(at, minlength=counts.size).reshape(counts.shape)
        edges = [first + i * width for i in range(bins + 1)]
        return {"edges": edges, **dict(zip(names, counts.tolist(), strict=True))}


def _at_least(lengths: Int64) -> dict[str, list[float]]:
    """For n of the lengths that occur, the share of users with at least n events."""
    values, users = np.unique(lengths[lengths > 0], return_counts=True)
    at_least = users[::-1].cumsum()[::-1] / users.sum()
    some = _log_spaced(len(values))
    return {"at_least": values[some].tolist(), "users": at_least[some].tolist()}


def _by_rank(descending: Int64) -> dict[str, list[int]]:
    some = _log_spaced(len(descending))
    return {"rank": (some + 1).tolist(), "events": descending[some].tolist()}


def _concentration(descending: Int64, n_items: int) -> dict[str, list[float]]:
    """Share of the events (of the items ordered by popularity) that the first share of the items has."""
    total = np.concatenate([[0], np.cumsum(descending)])
    some = np.union1d(_log_spaced(len(descending)) + 1, np.linspace(0, len(descending), _POINTS).astype(np.int64))
    shares: Float64 = total[some] / total[-1]
    items = (some / n_items).tolist()
    whole = [1.0] if items[-1] < 1 else []
    return {"items": items + whole, "events": shares.tolist() + whole}


def _ratings(ratings: Float32) -> dict[str, list[float]]:
    values, events = np.unique(ratings, return_counts=True)
    if len(values) <= _BARS:
        return {"values": values.astype(np.float64).tolist(), "events": events.tolist()}
    counts, edges = np.histogram(values.astype(np.float64), bins=_BARS, weights=events)
    return {"edges": edges.tolist(), "events": counts.astype(np.int64).tolist()}


def _log_spaced(n: int) -> Int64:
    """Positions 0..n-1, all of them or at most some hundred, dense at the beginning; always the first and the last."""
    if n <= _POINTS:
        return np.arange(n)
    return np.unique(np.round(np.geomspace(1, n, _POINTS)).astype(np.int64)) - 1


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


def print_stats(stats: Mapping[str, Any], console: Console) -> None:
    """Two tables: the figures, and the distributions."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{stats['name']}, {stats['protocol'] or 'raw files'}")
    figures = Table("figure", "value", title=title, title_justify="left")
    for name, value in stats.items():
        if name not in ("name", "protocol") and not isinstance(value, dict):
            figures.add_row(name.replace("_", " "), Text(_text(name, value)))
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
        case float() if 0 < value < 0.001:
            return f"{value:.2g}" if value < 0.000_001 else f"{value:.4%}"
        case float():
            return f"{value:.2%}"
        case int():
            return f"{value:,}"
    return str(value)
