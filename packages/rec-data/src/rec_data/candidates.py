"""Candidate lists: a few items per held-out row that every model ranks, drawn once.

Published tables often rank the target among 100 drawn items. Such numbers depend on who was drawn, so the lists are
frozen on disk (:mod:`rec_core.candidates`) and shared by all models. The full ranking is the honest number; sampled
ones may even order two models the other way round (Krichene and Rendle, "On Sampled Metrics for Item Recommendation",
KDD 2020).
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from rec_core.artifacts import Artifact, check_output, open_artifact
from rec_core.candidates import write_candidates
from rec_core.dataset import KIND, read_dataset
from rec_core.errors import DataError
from rec_core.evaluation.groups import observed
from rec_core.types import Candidates, HeldOut, Split
from rec_core.types.ids import Bool, Float64, Int32, Int64
from rec_data.evaluation_config import CandidateSettings
from rec_data.streams import UInt64, draw, hashed, stream_key, uniform

log = logging.getLogger(__name__)

_CELLS = 1 << 27  # one byte per (row, item) of a block: 128 MiB
_MOST_ROWS = 4096
_DRAWS = 16  # per wanted item, before the rest is drawn among what is left
_ANOTHER = np.uint64(0xD6E8FEB86659FD93)  # turns a row's state into that of a second sequence


def candidates(
    data: Path | str, output: Path | str, settings: CandidateSettings | None = None, *, overwrite: bool = False
) -> Artifact:
    """Draw the lists of a prepared dataset and write them; see :func:`draw_candidates`."""
    settings = settings or CandidateSettings()
    check_output(output, overwrite=overwrite, made_from=[Path(data)])
    dataset = open_artifact(data, KIND)
    split = read_dataset(dataset).split
    held_out = split.held_out(settings.part)
    lists = draw_candidates(split, settings, held_out)
    targets = np.unique(_keys(held_out.offsets, held_out.items, split.n_items)) // split.n_items
    wanted = settings.negatives + np.bincount(targets, minlength=len(held_out))
    return write_candidates(
        output,
        lists,
        held_out,
        n_items=split.n_items,
        part=settings.part,
        method=settings.method,
        seed=settings.seed,
        dataset=dataset,
        settings=settings,
        about={"short_lists": int((lists.lengths < wanted).sum())},
        overwrite=overwrite,
    )


def draw_candidates(split: Split, settings: CandidateSettings, held_out: HeldOut | None = None) -> Candidates:
    """For each held-out row its targets and ``negatives`` different other items, ordered by item id.

    Drawn one after the other without replacement from the items that are neither in the row's visible history nor
    among its targets, each time with a chance in proportion to the item's weight: 1 (``uniform``) or its observed
    events (``popularity``; an item without events is then never drawn). At validation the test items of a user can be
    drawn, since nothing visible tells them from others. The list of a user depends on the seed, the method, the part
    and what is known of that user, not on other rows nor on how they are worked on.

    A row for which fewer items are left raises :class:`DataError`, or gets all of them with ``short_lists="keep"``:
    the name of the metric then tells the range of lengths (``ndcg@10[87 to 101 candidates]``). Ordered by id, a list
    does not tell the target by its place, which a model that breaks ties by position would be rewarded for.
    """
    held_out = split.held_out(settings.part) if held_out is None else held_out
    weights = _weights(split, settings)
    key = stream_key(settings.seed, "candidates", settings.method, settings.part)
    height = max(1, min(_MOST_ROWS, _CELLS // max(1, split.n_items)))
    taken = np.zeros((min(height, len(held_out)), split.n_items), np.bool_)
    lists: list[Int32] = []
    lengths = np.zeros(len(held_out), np.int64)
    short: list[tuple[int, int]] = []  # (user, how many are left)
    for start in range(0, len(held_out), height):
        rows = slice(start, min(start + height, len(held_out)))
        block = held_out.take(np.arange(rows.start, rows.stop))
        known = np.concatenate(
            [
                _keys(block.histories.offsets, block.histories.items, split.n_items),
                _keys(block.offsets, block.items, split.n_items),
            ]
        )
        states = hashed(key, block.histories.users)
        drawn = draw_negatives(states, weights, settings.negatives, taken[: len(block)], known)
        found = (drawn >= 0).sum(axis=1)
        few = np.flatnonzero(found < settings.negatives)
        short += zip(block.histories.users[few].tolist(), found[few].tolist(), strict=True)
        listed = drawn + split.n_items * np.arange(len(block))[:, None]
        targets = _keys(block.offsets, block.items, split.n_items)
        of_row, items = np.divmod(np.unique(np.concatenate([listed[drawn >= 0], targets])), split.n_items)
        lengths[rows] = np.bincount(of_row, minlength=len(block))
        lists.append(items.astype(np.int32))
    if short:
        _say_short(short, settings)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Candidates(offsets, np.concatenate([np.empty(0, np.int32), *lists]))


def _weights(split: Split, settings: CandidateSettings) -> Int64:
    if settings.method == "uniform":
        return np.ones(split.n_items, np.int64)
    return observed(split.interactions if settings.popularity_from == "all" else split.train).item_counts()


def draw_negatives(states: UInt64, weights: Int64, n: int, taken: Bool, known: Int64) -> Int64:
    """``n`` different items per row, int64 [rows, n], -1 where no more can be drawn.

    states   uint64 [rows]           start of each row's sequence of random numbers
    weights  int64 [n_items]         chance of each item, in proportion
    taken    bool [rows, n_items]    all False: memory to work in, all False again afterwards
    known    int64 [m]               ``row * n_items + item`` of what must not be drawn

    Items are drawn with replacement and repeats thrown away, which is successive drawing without replacement. What a
    row still lacks after many draws (it has seen nearly all that is popular) is drawn by an exponential race among the
    items left, which continues the same process exactly (Efraimidis and Spirakis, Information Processing Letters 2006).
    """
    n_rows, n_items = taken.shape
    cells = taken.reshape(-1)
    cells[known] = True
    drawn = np.full((n_rows, n), -1, np.int64)
    count = np.zeros(n_rows, np.int64)
    pick = _Picker(weights)
    active = np.arange(n_rows) if pick.total else np.empty(0, np.int64)
    for place in range(_DRAWS * n):
        if not len(active):
            break
        items = pick.items(draw(states[active], place))
        cell = active * n_items + items
        fresh = ~cells[cell]
        rows = active[fresh]
        cells[cell[fresh]] = True
        drawn[rows, count[rows]] = items[fresh]
        count[rows] += 1
        active = active[count[active] < n]
    step = max(1, (1 << 22) // max(1, n_items))
    for rest in (active[i : i + step] for i in range(0, len(active), step)):
        _race(rest, states, weights, taken, drawn, count)
    cells[known] = False
    rows, places = np.nonzero(drawn >= 0)
    taken[rows, drawn[rows, places]] = False
    return drawn


def _race(rest: Int64, states: UInt64, weights: Int64, taken: Bool, drawn: Int64, count: Int64) -> None:
    """Fill up the given rows: of exponential times with the weights as rates, the earliest arrive first."""
    n_items, n = taken.shape[1], drawn.shape[1]
    chance = uniform(hashed((states[rest] ^ _ANOTHER)[:, None], np.arange(n_items)[None, :]))
    with np.errstate(divide="ignore"):
        times = -np.log1p(-chance) / weights
    times[taken[rest] | (weights == 0)] = np.inf
    order = np.argsort(times, axis=1, kind="stable")[:, :n]
    arrives = np.isfinite(np.take_along_axis(times, order, axis=1))
    arrives &= np.arange(order.shape[1]) < (n - count[rest])[:, None]
    rows, places = np.nonzero(arrives)
    drawn[rest[rows], count[rest[rows]] + places] = order[rows, places]
    count[rest] += arrives.sum(axis=1)


class _Picker:
    """Items by inverse transform: equal weights by arithmetic, others by a search in their running total."""

    def __init__(self, weights: Int64) -> None:
        self._running = np.cumsum(weights)
        self.total = int(self._running[-1]) if len(weights) else 0
        self._equal = bool(len(weights)) and bool((weights == weights[0]).all())

    def items(self, chance: Float64) -> Int64:
        if self._equal:
            return (chance * len(self._running)).astype(np.int64)
        return np.searchsorted(self._running, (chance * self.total).astype(np.int64), side="right")


def _keys(offsets: Int64, items: Int32, n_items: int) -> Int64:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * n_items + items


def _say_short(short: list[tuple[int, int]], settings: CandidateSettings) -> None:
    user, least = min(short, key=lambda row: row[1])
    why = "or has no event to be drawn by" if settings.method == "popularity" else "or is a target"
    message = (
        f"{len(short):,} held-out {'row has' if len(short) == 1 else 'rows have'} fewer than {settings.negatives:,} "
        f"other items to draw: user id {user} has {least}, every other item is in its history {why}"
    )
    if settings.short_lists == "error":
        fewer = f"ask for at most --negatives {least}, or " if least else ""
        raise DataError(f"{message}; {fewer}let such lists be shorter with --short-lists keep")
    log.warning("%s; these lists are shorter", message)
