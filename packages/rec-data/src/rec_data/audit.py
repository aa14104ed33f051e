"""Leak audit of a prepared dataset: what training can see of the answers, and what is decided by accident."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError, SettingsError, nearest
from rec_core.types import Dataset, Interactions, Reviews
from rec_core.types.ids import Bool, Float64, Int64
from rec_core.types.split import PARTS
from rec_data import leaky_texts as texts
from rec_data.catalog_text import CO_PURCHASES, STATISTICS, WORDS_TOO, folded

if TYPE_CHECKING:
    from rich.console import Console

Verdict = Literal["ok", "note", "leak"]
Rows = npt.NDArray[np.int64]

TRAIN, VALID, TEST = 0, 1, 2
# parts of which the first must be older than the second, whoever the user is; elsewhere only a user's own time counts
_PROMISED = {
    "global_time": ((TRAIN, VALID), (TRAIN, TEST), (VALID, TEST)),
    "global_ratio": ((TRAIN, VALID), (TRAIN, TEST), (VALID, TEST)),
    "temporal_user_groups": ((TRAIN, VALID), (TRAIN, TEST)),
}
_BLOCK = 1 << 21  # rows that are looked at together, whole users at a time


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Bounds of one's own: a share above them is a leak, without one it is a note at most."""

    max_tied_share: float | None = None
    """Largest share of a user's neighbouring events that may have one timestamp."""
    max_tie_decided_share: float | None = None
    """Largest share of users whose test (or valid) event may be an accident of the order of the file."""
    max_cold_share: float | None = None
    """Largest share of held-out events whose item may have no training event."""
    accept: tuple[str, ...] = ()
    """Checks whose leaks are known and accepted: they become notes."""
    examples: int = 3
    """Examples per finding."""

    def __post_init__(self) -> None:
        for option in ("max_tied_share", "max_tie_decided_share", "max_cold_share"):
            value = getattr(self, option)
            if value is not None and not 0 <= value <= 1:
                raise SettingsError(f"--{option.replace('_', '-')} is a share from 0 to 1; got {value:g}")
        for check in self.accept:
            if check not in CHECKS:
                raise SettingsError(f"--accept: there is no check {check!r}{nearest(check, CHECKS)}")
        if self.examples < 0:
            raise SettingsError(f"--examples is at least 0; got {self.examples}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    check     its name
    verdict   ok, note (known weakness of the data or the protocol, to be stated with results), leak
    count     how often; ``of`` how many were looked at
    text      one sentence
    details   further figures, plain values
    examples  a few cases
    """

    check: str
    verdict: Verdict
    count: int
    of: int
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """``count`` of ``of``."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Audit:
    """All findings about one dataset, in the order of :data:`CHECKS`."""

    name: str
    protocol: str
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that are leaks."""
        return tuple(finding for finding in self.findings if finding.verdict == "leak")

    def __getitem__(self, check: str) -> Finding:
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "protocol": self.protocol,
            "leaks": [finding.check for finding in self.leaks],
            "findings": {
                f.check: {
                    "verdict": f.verdict,
                    "count": f.count,
                    "of": f.of,
                    "text": f.text,
                    "details": dict(f.details),
                    "examples": list(f.examples),
                }
                for f in self.findings
            },
        }


def audit(dataset: Dataset, settings: AuditSettings | None = None) -> Audit:
    """Look for leaks in a prepared dataset.

    Nothing is trained: every check is a count over events, fields and reviews. Checks of time are left out for data
    without timestamps. Time grows with the number of events (25 million take seconds), memory with a block of them.
    Raises :class:`DataError` for a dataset without events.
    """
    settings = settings or AuditSettings()
    data = _Audited(dataset, settings)
    if not len(data.events):
        raise DataError(f"{dataset.name} holds no events; there is nothing to audit")
    findings = (
        _accepted(check(data, name), settings) for name, check in CHECKS.items() if data.timed or name not in _NEED_TIME
    )
    return Audit(dataset.name, dataset.split.protocol, tuple(findings))


def _accepted(finding: Finding, settings: AuditSettings) -> Finding:
    if finding.verdict != "leak" or finding.check not in settings.accept:
        return finding
    return replace(finding, verdict="note", text=f"{finding.text} (accepted)")


class _Audited:
    """The dataset, and what several checks want to know about it."""

    def __init__(self, dataset: Dataset, settings: AuditSettings) -> None:
        self.dataset, self.settings = dataset, settings
        self.events: Interactions = dataset.split.interactions
        self.part = dataset.split.part
        self.protocol = dataset.split.protocol
        self.reviews: Reviews | None = dataset.reviews
        self.timed = self.events.timestamps is not None

    @cached_property
    def offsets(self) -> Int64:
        return self.events.offsets

    @cached_property
    def times(self) -> Int64:
        assert self.events.timestamps is not None
        return self.events.timestamps

    @cached_property
    def sizes(self) -> list[int]:
        """Events per part."""
        return [int(np.count_nonzero(self.part == code)) for code in range(3)]

    @cached_property
    def user_parts(self) -> Int64:
        """int64 [n_users, 3]: events per user and part."""
        counts = np.empty((self.events.n_users, 3), np.int64)
        for block in self.blocks():
            local = block.users * 3 + self.part[block.rows]
            counts[block.start : block.stop] = np.bincount(local, minlength=3 * block.n_users).reshape(-1, 3)
        return counts

    @cached_property
    def held_out(self) -> Rows:
        """Rows of valid and test."""
        return np.flatnonzero(self.part)

    @cached_property
    def pairs(self) -> _Pairs:
        """What repeats."""
        return _pairs(self)

    @cached_property
    def mean_ratings(self) -> tuple[Float64, Float64] | None:
        """Mean rating per item over all parts, and over train; NaN where there are none."""
        if self.events.ratings is None:
            return None
        n, means = self.events.n_items, []
        for rows in (slice(None), self.part == TRAIN):
            items = self.events.items[rows]
            sums = np.bincount(items, self.events.ratings[rows], n)
            counts = np.bincount(items, minlength=n).astype(np.float64)
            means.append(np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0))
        return means[0], means[1]

    @cached_property
    def item_counts(self) -> Int64:
        """Events per item over all parts, int64 [n_items]."""
        return self.events.item_counts()

    @cached_property
    def train_item_counts(self) -> Int64:
        """Training events per item, int64 [n_items]."""
        return np.bincount(self.events.items[self.part == TRAIN], minlength=self.events.n_items).astype(np.int64)

    def blocks(self) -> Iterator[_Block]:
        """All rows, some whole users at a time."""
        start, n = 0, self.events.n_users
        while start < n:
            reach = int(np.searchsorted(self.offsets, self.offsets[start] + _BLOCK, side="right")) - 1
            stop = max(start + 1, reach)
            rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
            yield _Block(start, stop, rows, self.events.users[rows] - start)
            start = stop

    def event(self, row: int) -> str:
        """One event for a reader."""
        user = self.dataset.users.ids.keys[int(self.events.users[row])]
        item = int(self.events.items[row])
        title = self.dataset.items.title(item)
        key = self.dataset.items.ids.keys[item]
        what = f"item {key!r}" + ("" if title == f"[{key}]" else f" ({title})")
        return f"user {user!r}, {PARTS[self.part[row]]} {what}"

    def limited(self, share: float, most: float | None) -> Verdict:
        """A share that is a note unless a bound was set for it."""
        return "ok" if not share else "leak" if most is not None and share > most else "note"


@dataclass(frozen=True, slots=True)
class _Block:
    """Users ``start .. stop - 1``: their rows, and their numbers within the block."""

    start: int
    stop: int
    rows: slice
    users: Int64

    @property
    def n_users(self) -> int:
        return self.stop - self.start


class _Examples:
    """The first few rows that something was found at."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows: list[int] = []

    def add(self, rows: npt.NDArray[Any], start: int) -> None:
        self.rows += [start + int(row) for row in rows[: self._most - len(self.rows)]]


def _future_in_history(data: _Audited, name: str) -> Finding:
    """Events of an earlier part that are newer than an event the same user has in a later part."""
    lags, examples = [], _Examples(data.settings.examples)
    users = 0
    by_part = [0, 0]
    never = np.iinfo(np.int64).max
    for block in data.blocks():
        time, part = data.times[block.rows], data.part[block.rows]
        first = np.full((2, block.n_users), never)  # the user's first valid, first test event
        for code in (VALID, TEST):
            rows = np.flatnonzero(part == code)
            owner = block.users[rows]
            starts = np.flatnonzero(np.diff(owner, prepend=-1))
            first[code - 1, owner[starts]] = time[rows[starts]]
        limits = (first.min(axis=0), first[1])
        found = []
        for code, limit in zip((TRAIN, VALID), limits, strict=True):
            rows = np.flatnonzero((part == code) & (time > limit[block.users]))
            by_part[code] += len(rows)
            lags.append(time[rows] - limit[block.users[rows]])
            users += len(np.unique(block.users[rows])) if code == TRAIN else 0
            found.append(rows)
        examples.add(np.sort(np.concatenate(found)), block.rows.start)
    late = np.concatenate(lags)
    hint = ""
    if len(late) and data.protocol == "ratio":
        hint = "; the split drew them at random, which is not for models of sequences (--ratio-order time)"
    text = "no event of a history is newer than what its user is asked for"
    if len(late):
        text = f"events of train or valid are newer than a held-out event of their own user{_how_far(late)}{hint}"
    return Finding(
        name,
        "leak" if len(late) else "ok",
        len(late),
        data.sizes[TRAIN] + data.sizes[VALID],
        text,
        {"train": by_part[TRAIN], "valid": by_part[VALID], "users_of_train": users, **_lag_details(late)},
        tuple(f"{data.event(row)} on {_utc(data.times[row])}" for row in examples.rows),
    )


def _train_after_test(data: _Audited, name: str) -> Finding:
    """Events of an earlier part that are newer than the oldest event, of anyone, in a later part."""
    promised = _PROMISED.get(data.protocol)
    pairs = promised or ((TRAIN, TEST),)
    oldest: list[int | None] = [
        int(data.times[data.part == code].min()) if data.sizes[code] else None for code in range(3)
    ]
    lags: list[Int64] = []
    counts: dict[str, int] = {}
    for code in (TRAIN, VALID):
        limits = [oldest[late] for early, late in pairs if early == code]
        known = [limit for limit in limits if limit is not None]
        if not known:
            continue
        time = data.times[data.part == code]
        lag = time[time > min(known)] - min(known)
        lags.append(lag)
        counts[PARTS[code]] = len(lag)
    late_events = np.concatenate(lags) if lags else np.empty(0, np.int64)
    if not len(late_events):
        verdict: Verdict = "ok"
        text = "no event of an earlier part is newer than the oldest of a later part"
    elif promised:
        verdict = "leak"
        text = f"events are newer than the oldest event of a later part{_how_far(late_events)}"
    else:
        verdict = "note"
        text = (
            f"training events of all users are newer than the oldest test event{_how_far(late_events)}: what became "
            "popular later is known, as in every split by user; global-time avoids it"
        )
    of = sum(data.sizes[code] for code in (TRAIN, VALID) if PARTS[code] in counts)
    return Finding(name, verdict, len(late_events), of, text, {**counts, **_lag_details(late_events)})


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What repeats: pairs across parts by which two, targets that the history holds, exact copies."""

    across: dict[str, int]
    pairs: int
    across_any: int
    seen: tuple[int, int]
    copies: int
    copies_across: int
    examples: tuple[int, ...]


def _pairs(data: _Audited) -> _Pairs:
    across = {"train_and_valid": 0, "train_and_test": 0, "valid_and_test": 0}
    masks = {"train_and_valid": 0b011, "train_and_test": 0b101, "valid_and_test": 0b110}
    pairs = across_any = copies = copies_across = 0
    seen = [0, 0]
    examples = _Examples(data.settings.examples)
    for block in data.blocks():
        part = data.part[block.rows]
        pair = block.users * data.events.n_items + data.events.items[block.rows]
        key = np.sort((pair << 2) | part)  # a pair's events side by side, train first
        starts = np.flatnonzero(np.diff(key >> 2, prepend=-1))
        sizes = np.diff(starts, append=len(key))
        code = (key & 3).astype(np.uint8)
        present = np.bitwise_or.reduceat(np.uint8(1) << code, starts) if len(starts) else np.empty(0, np.uint8)
        pairs += len(starts)
        for what, mask in masks.items():
            across[what] += int(np.count_nonzero((present & mask) == mask))
        mixed = (present & (present - 1)) > 0  # more than one bit
        across_any += int(np.count_nonzero(mixed))
        around = np.repeat(present, sizes)
        seen[0] += int(np.count_nonzero((code == VALID) & ((around & 0b001) > 0)))
        seen[1] += int(np.count_nonzero((code == TEST) & ((around & 0b011) > 0)))
        repeated = key[starts[sizes > 1]] >> 2
        if not len(repeated):
            continue
        rows = np.flatnonzero(_is_in(pair, repeated))
        if mixed.any():
            held_out = rows[(part[rows] > TRAIN) & _is_in(pair[rows], key[starts[mixed]] >> 2)]
            examples.add(held_out, block.rows.start)
        if data.timed:
            time = data.times[block.rows][rows]
            order = np.lexsort((part[rows], time, pair[rows]))
            rows, time = rows[order], time[order]
            same = (np.diff(pair[rows]) == 0) & (np.diff(time) == 0)
            copies += int(np.count_nonzero(same))
            copies_across += int(np.count_nonzero(same & (np.diff(part[rows]) != 0)))
    return _Pairs(across, pairs, across_any, (seen[0], seen[1]), copies, copies_across, tuple(examples.rows))


def _is_in(values: Int64, sorted_values: Int64) -> Bool:
    at = np.searchsorted(sorted_values, values)
    at[at == len(sorted_values)] = 0
    return np.asarray(sorted_values[at] == values)


def _pairs_across_parts(data: _Audited, name: str) -> Finding:
    found = data.pairs
    text = "no (user, item) pair is in two parts"
    if found.across_any:
        text = (
            "(user, item) pairs are in two parts, so the answer is in the history; keep one row of a pair "
            "(--duplicates first), or accept it where repeated consumption is what is asked for"
        )
    examples = tuple(data.event(row) for row in found.examples)
    verdict: Verdict = "leak" if found.across_any else "ok"
    return Finding(name, verdict, found.across_any, found.pairs, text, found.across, examples)


def _repeated_events(data: _Audited, name: str) -> Finding:
    found = data.pairs
    verdict: Verdict = "leak" if found.copies_across else "note" if found.copies else "ok"
    text = "no (user, item, timestamp) occurs twice"
    if found.copies:
        text = "events are exact copies of another: same user, item and timestamp"
        text += f", {found.copies_across:,} of them in another part" if found.copies_across else ", in the same part"
    return Finding(name, verdict, found.copies, len(data.events), text, {"across_parts": found.copies_across})


def _seen_targets(data: _Audited, name: str) -> Finding:
    seen, of = data.pairs.seen, data.sizes[VALID] + data.sizes[TEST]
    text = "no target is in the history it is asked for"
    if sum(seen):
        text = "targets are items that the history shows: guaranteed misses where seen items are left out of a ranking"
    return Finding(name, "note" if sum(seen) else "ok", sum(seen), of, text, {"valid": seen[0], "test": seen[1]})


def _tied_timestamps(data: _Audited, name: str) -> Finding:
    neighbours = tied = 0
    for block in data.blocks():
        same_user = np.diff(block.users) == 0
        neighbours += int(np.count_nonzero(same_user))
        tied += int(np.count_nonzero(same_user & (np.diff(data.times[block.rows]) == 0)))
    share = tied / neighbours if neighbours else 0.0
    text = "no two events of a user share a timestamp"
    if tied:
        text = f"neighbouring events of a user share a timestamp ({_percent(share)}): the file decides their order"
    return Finding(name, data.limited(share, data.settings.max_tied_share), tied, neighbours, text)


def _tie_decided_targets(data: _Audited, name: str) -> Finding:
    """Users with a held-out event whose timestamp an event of another part has too."""
    users, most = [0, 0], data.settings.max_tie_decided_share
    examples = _Examples(data.settings.examples)
    for block in data.blocks():
        time, part = data.times[block.rows], data.part[block.rows]
        starts = np.flatnonzero((np.diff(block.users, prepend=-1) != 0) | (np.diff(time, prepend=0) != 0))
        if not len(starts):
            continue
        mixed = np.minimum.reduceat(part, starts) != np.maximum.reduceat(part, starts)
        in_mixed = np.repeat(mixed, np.diff(starts, append=len(part)))
        for code in (VALID, TEST):
            rows = np.flatnonzero(in_mixed & (part == code))
            users[code - 1] += len(np.unique(block.users[rows]))
            if code == TEST:
                examples.add(rows, block.rows.start)
    of = [int(np.count_nonzero(data.user_parts[:, code])) for code in (VALID, TEST)]
    shares = [n / total if total else 0.0 for n, total in zip(users, of, strict=True)]
    text = "no held-out event has the timestamp of an event in another part"
    if any(users):
        told = [f"{n:,} of {total:,} users ({_percent(n / max(total, 1))})" for n, total in zip(users, of, strict=True)]
        text = (
            "held-out events have the timestamp of an event in another part, so that the order of the file decides "
            f"which is the target: test of {told[1]}, valid of {told[0]}"
        )
    details = {"valid": users[0], "valid_of": of[0], "test": users[1], "test_of": of[1]}
    verdict = data.limited(max(shares), most)
    return Finding(name, verdict, users[1], of[1], text, details, tuple(map(data.event, examples.rows)))


def _cold_targets(data: _Audited, name: str) -> Finding:
    cold = data.train_item_counts == 0
    counts = [0, 0]
    for code in (VALID, TEST):
        counts[code - 1] = int(np.count_nonzero(cold[data.events.items[data.part == code]]))
    of = data.sizes[VALID] + data.sizes[TEST]
    share = sum(counts) / of if of else 0.0
    text = "every held-out item has a training event"
    if sum(counts):
        text = f"held-out items have no training event ({_percent(share)}): a model of ids cannot know them"
    verdict = data.limited(share, data.settings.max_cold_share)
    details = {"valid": counts[0], "test": counts[1], "items": int(np.count_nonzero(cold))}
    return Finding(name, verdict, sum(counts), of, text, details)


def _users_without_history(data: _Audited, name: str) -> Finding:
    train, valid, test = (data.user_parts[:, code] > 0 for code in range(3))
    nothing = {"valid": int((valid & ~train).sum()), "test": int((test & ~train & ~valid).sum())}
    targets = int((valid | test).sum())
    never = data.events.n_users - targets
    count = int(((valid & ~train) | (test & ~train & ~valid)).sum())
    text = "everyone with a held-out event has a history before it"
    if count:
        text = "users have a held-out event and no event before it: evaluation leaves them out"
    details = {**nothing, "users_without_target": never}
    return Finding(name, "note" if count else "ok", count, targets, text, details)


def _generated_in_held_out(data: _Audited, name: str) -> Finding:
    generated, held_out = data.events.generated, data.sizes[VALID] + data.sizes[TEST]
    if generated is None:
        return Finding(name, "ok", 0, held_out, "no event was generated", {"generated": 0})
    rows = data.held_out[generated[data.held_out]]
    text = "generated events are in train alone"
    if len(rows):
        text = "held-out events were generated: results would be measured against what a model made up"
    examples = tuple(map(data.event, rows[: data.settings.examples]))
    details = {"generated": int(np.count_nonzero(generated))}
    return Finding(name, "leak" if len(rows) else "ok", len(rows), held_out, text, details, examples)


def _empty_parts(data: _Audited, name: str) -> Finding:
    empty = [part for part, size in zip(PARTS, data.sizes, strict=True) if not size]
    text = f"the split has no {' and no '.join(empty)} events" if empty else "every part has events"
    details: dict[str, int] = dict(zip(PARTS, data.sizes, strict=True))
    return Finding(name, "note" if empty else "ok", len(empty), 3, text, details)


def _titles_in_user_fields(data: _Audited, name: str) -> Finding:
    users, items = data.events.users[data.held_out], data.events.items[data.held_out]
    titles = data.dataset.items.fields.get("title")
    found = texts.Mentions.none()
    by_field = {}
    if titles is not None and len(users):
        for what, values in data.dataset.users.fields.items():
            in_field = texts.mentions(values, titles, users, items)
            by_field[what] = in_field.count
            found += in_field
    text = "no field of a user names an item that is held out from the user"
    if not found.checked:
        text = "there are no fields of users beside titles of items"
    if found.count:
        text = f"fields of users hold the title of an item that is held out from the same user{found.by_chance_text}"
    examples = tuple(
        f"{data.event(int(data.held_out[row]))}: its title stands in a field of the user"
        for row in found.rows[: data.settings.examples]
    )
    return Finding(name, found.verdict, found.count, found.checked, text, {**by_field, **found.details}, examples)


def _titles_in_reviews(data: _Audited, name: str) -> Finding:
    titles = data.dataset.items.fields.get("title")
    found = texts.Mentions.none()
    if data.reviews is not None and titles is not None:
        found = texts.mentions_in_reviews(data.reviews, titles, data.events, data.part)
    text = "no review names an item that is held out from its writer"
    if not found.checked:
        text = "there are no reviews of other items beside titles"
    if found.count:
        text = (
            "reviews of other items hold the title of an item that is held out from their writer, and are not older "
            f"than that event{found.by_chance_text}"
        )
    examples = tuple(data.event(int(row)) for row in found.rows[: data.settings.examples])
    return Finding(name, found.verdict, found.count, found.checked, text, found.details, examples)


def _held_out_reviews(data: _Audited, name: str) -> Finding:
    if data.reviews is None:
        return Finding(name, "ok", 0, 0, "the dataset holds no reviews")
    rows = texts.held_out_reviews(data.reviews, data.events, data.part)
    counts = {part: len(rows[part]) for part in ("valid", "test")}
    both = np.concatenate([rows["test"], rows["valid"]])
    text = "no review is about a held-out event"
    if len(both):
        text = "reviews were written about held-out events: no text that training or a prompt sees may hold them"
    titles = data.dataset.items.fields.get("title")
    naming = 0 if titles is None else texts.reviews_naming_their_item(data.reviews, titles, both)
    users, items = data.dataset.users.ids.keys, data.dataset.items.ids.keys
    examples = tuple(
        f"user {users[int(data.reviews.users[row])]!r} on item {items[int(data.reviews.items[row])]!r}"
        for row in both[: data.settings.examples]
    )
    details = {**counts, "naming_their_item": naming}
    return Finding(name, "leak" if len(both) else "ok", len(both), len(data.reviews), text, details, examples)


def _item_statistics(data: _Audited, name: str) -> Finding:
    """Fields that tell how frequent or how liked an item is, by their name or by their values."""
    fields = data.dataset.items.fields
    leaks: dict[str, str] = {}
    follows: dict[str, float] = {}
    n = data.events.n_items
    for what, values in fields.items():
        inside = [f"{key!r} of {n:,} items" for key, n in texts.json_keys(values).items() if folded(key) in STATISTICS]
        if inside:
            leaks[what] = f"holds {', '.join(inside)}"
            continue
        numbers = texts.numbers(values[:n])
        if not np.isfinite(numbers).any() and not _is_statistic(what, values):
            continue
        counts, in_train, means = data.item_counts, data.train_item_counts, data.mean_ratings
        if texts.equal_share(numbers, in_train) > texts.SAME:
            continue  # whatever its name, it was counted on train
        if texts.equal_share(numbers, counts) > texts.SAME:
            leaks[what] = "equals the events of the item in all parts"
        elif means is not None and texts.equal_share(numbers, means[0], 0.0051) > max(
            texts.SAME, texts.equal_share(numbers, means[1], 0.0051)
        ):
            leaks[what] = "equals the mean rating of the item in all parts"
        elif _is_statistic(what, values):
            leaks[what] = "a statistic of popularity by its name, over the test period too"
        elif (rank := texts.rank_correlation(numbers, counts)) is not None and abs(rank) >= texts.FOLLOWS:
            follows[what] = round(rank, 3)
    text = "no field of the items tells how frequent or liked an item was"
    if leaks:
        others = ",".join(name for name in fields if name not in leaks) or "none"
        text = f"fields of items hold statistics that include the test period: {', '.join(leaks)}; prepare with "
        text += f"--item-fields {others}"
    elif follows:
        text = f"numbers in fields of items follow popularity: {', '.join(follows)}; do they include the test period?"
    verdict: Verdict = "leak" if leaks else "note" if follows else "ok"
    return Finding(name, verdict, len(leaks or follows), len(fields), text, {**leaks, **follows})


def _is_statistic(name: str, values: texts.Texts) -> bool:
    name = folded(name)
    return name in STATISTICS and (texts.mostly_numbers(values) if name in WORDS_TOO else any(values))


def _co_purchases(data: _Audited, name: str) -> Finding:
    """Fields that list items met by the same people, by their name or because raw keys of other items stand in them."""
    fields, keys = data.dataset.items.fields, data.dataset.items.ids.keys
    details: dict[str, Any] = {}
    leaks: list[str] = []
    mentions: list[str] = []
    for what, values in fields.items():
        names = [what, *texts.json_keys(values)]
        named = any(values) and any(folded(name) in CO_PURCHASES for name in names)
        links = texts.key_links(values, keys)
        if not named and not len(links.pairs):
            continue
        linked = texts.linked_targets(links, data.events, data.part)
        details[what] = {
            "items_with_keys_of_others": links.items,
            "items_checked": links.checked,
            "held_out_linked_to_history": linked.count,
            "by_chance": linked.by_chance,
        }
        (leaks if named or linked.verdict == "leak" else mentions).append(what)
    text = "no field of the items names other items by their keys"
    if leaks:
        others = ",".join(name for name in fields if name not in leaks) or "none"
        text = f"fields of items list what the same people met: {', '.join(leaks)}; prepare with --item-fields {others}"
    elif mentions:
        text = f"fields of items name other items by their keys, not those that are held out: {', '.join(mentions)}"
    verdict: Verdict = "leak" if leaks else "note" if mentions else "ok"
    return Finding(name, verdict, len(leaks or mentions), len(fields), text, details)


def _timestamps(data: _Audited, name: str) -> Finding:
    if data.timed:
        return Finding(name, "ok", 0, len(data.events), "every event has a timestamp")
    text = f"no timestamps: the order of the file stands for that of time, and {len(_NEED_TIME)} checks are left out"
    return Finding(name, "note", len(data.events), len(data.events), text, {"left_out": list(_NEED_TIME)})


CHECKS: dict[str, Callable[[_Audited, str], Finding]] = {
    "future_in_history": _future_in_history,
    "train_after_test": _train_after_test,
    "pairs_across_parts": _pairs_across_parts,
    "repeated_events": _repeated_events,
    "seen_targets": _seen_targets,
    "generated_in_held_out": _generated_in_held_out,
    "held_out_reviews": _held_out_reviews,
    "titles_in_reviews": _titles_in_reviews,
    "titles_in_user_fields": _titles_in_user_fields,
    "item_statistics": _item_statistics,
    "co_purchases": _co_purchases,
    "timestamps": _timestamps,
    "tied_timestamps": _tied_timestamps,
    "tie_decided_targets": _tie_decided_targets,
    "cold_targets": _cold_targets,
    "users_without_history": _users_without_history,
    "empty_parts": _empty_parts,
}
_NEED_TIME = ("future_in_history", "train_after_test", "repeated_events", "tied_timestamps", "tie_decided_targets")


def _how_far(lags: Int64) -> str:
    return f", by {_span(lags.max())} at most (median {_span(np.median(lags))})"


def _lag_details(lags: Int64) -> dict[str, float]:
    if not len(lags):
        return {}
    return {"seconds_median": float(np.median(lags)), "seconds_most": int(lags.max())}


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%" if share else "0%"


def _span(seconds: float | np.floating[Any] | np.integer[Any]) -> str:
    """A length of time in its largest unit."""
    for size, unit in ((31_556_952, "years"), (86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} seconds"


def _utc(seconds: np.int64) -> str:
    return f"{np.datetime64(int(seconds), 's')}Z"


def print_audit(audit: Audit, console: Console) -> None:
    """Leaks first, then notes, each with examples; one line for every check that found nothing; a last line for all."""
    from rich.table import Table
    from rich.text import Text  # titles and names may hold square brackets

    console.print(Text(f"{audit.name}, {audit.protocol}", style="italic"))
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column()
    colours = {"leak": "bold red", "note": "yellow", "ok": "green"}
    order = ("leak", "note", "ok")
    for finding in sorted(audit.findings, key=lambda finding: order.index(finding.verdict)):
        told = Text(finding.check, style="bold" if finding.verdict != "ok" else "")
        if finding.verdict == "ok":
            told.append(f": {finding.text}", style="not bold")
        else:
            told.append(f": {finding.count:,} of {finding.of:,}\n{finding.text}", style="not bold")
            told.append("".join(f"\ne.g. {example}" for example in finding.examples), style="not bold dim")
        lines.add_row(Text(finding.verdict, style=colours[finding.verdict]), told)
    console.print(lines)
    console.print(Text(summary(audit)))


def summary(audit: Audit) -> str:
    """One line: how many leaks and notes."""
    notes = sum(finding.verdict == "note" for finding in audit.findings)
    names = ", ".join(finding.check for finding in audit.leaks)
    leaks = f"{len(audit.leaks)} leak{'s' if len(audit.leaks) != 1 else ''} ({names})" if names else "no leak"
    return f"{leaks}, {notes} note{'s' if notes != 1 else ''}, {len(audit.findings)} checks"
