"""Which event is for training, which for validation, which for the test.

Every function takes interactions ordered by (user, time, row) and gives the split with plain facts about it for the
manifest. Memory: one byte per event for the parts, plus at most one copy of the timestamps; no loop over users.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import floor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types import Interactions, Split
from rec_core.types.ids import Bool, Int64
from rec_data.config import PrepareSettings
from rec_data.ordering import chunks
from rec_data.streams import hashed, stream_key, uniform

log = logging.getLogger(__name__)

TRAIN, VALID, TEST = np.uint8(0), np.uint8(1), np.uint8(2)
UInt8 = npt.NDArray[np.uint8]
Facts = dict[str, Any]

_BLOCK = 1 << 21  # events that are put in a drawn order at a time
_MOST_USERS = 1 << 16  # in such a block: their numbers fit 16 bits, which NumPy sorts by radix


def make_split(
    interactions: Interactions, settings: PrepareSettings, *, given_part: UInt8 | None = None
) -> tuple[Split, Facts]:
    """The split that the settings ask for, and what is to be known about it: plain values for the manifest.

    ``given_part``: uint8 [n], the parts that the source states, aligned with the interactions. Beside the facts of
    each protocol there are always ``items_without_training`` and, where it can happen, how many users have held-out
    events and nothing before them (they cannot be evaluated), and ``order`` where it is not that of time. Raises
    :class:`DataError` when the data does not allow the split.
    """
    match settings.split:
        case "leave-one-out":
            split, facts = leave_one_out(interactions)
        case "leave-last-n":
            split, facts = leave_last_n(interactions, settings.held_out)
        case "global-time":
            split, facts = global_time(interactions, settings.valid_share, settings.test_share)
        case "global-ratio":
            split, facts = global_ratio(
                interactions, settings.valid_share, settings.test_share, min_history=settings.min_history
            )
        case "ratio":
            split, facts = ratio(
                interactions, settings.valid_share, settings.test_share, order=settings.ratio_order, seed=settings.seed
            )
        case "temporal-user-groups":
            split, facts = temporal_user_groups(
                interactions, settings.valid_share, settings.test_share, seed=settings.seed
            )
        case "given":
            split, facts = given(interactions, given_part)
    if given_part is not None and settings.split != "given":
        log.info("the source states a split of its own, which --split given keeps; here it is %s", settings.split)
    if short := facts.get("users_too_short"):
        who = "1 user has" if short == 1 else f"{short:,} users have"
        log.info("%s too few events to hold any out and stay%s in train whole", who, "s" * (short == 1))
    facts |= _coverage(split)
    if interactions.timestamps is None:
        facts["order"] = "random" if settings.order == "random" else "file"
        indifferent = settings.split == "given" or (settings.split == "ratio" and settings.ratio_order == "random")
        if facts["order"] == "file" and not indifferent:
            log.warning("the data has no timestamps: the order of the file stands for the order in time")
    return split, facts


def leave_one_out(interactions: Interactions) -> tuple[Split, Facts]:
    """Each user's last event is test, the one before it valid, the rest train.

    A user with fewer than three events stays in train whole and is counted in ``users_too_short``. Without timestamps
    the order of the file decides what is last. No event of a user is newer than its own held-out ones; events of other
    users may be (the protocol looks at one user at a time). Raises :class:`DataError` when no user has three events.
    """
    part, users_too_short = _last_events(interactions, 1, "leave-one-out")
    return Split(interactions, part, "leave_one_out"), {"users_too_short": users_too_short}


def leave_last_n(interactions: Interactions, n: int) -> tuple[Split, Facts]:
    """Each user's last ``n`` events are test, the ``n`` before them valid, the rest train.

    As :func:`leave_one_out`, which it equals for n = 1; a user needs 2n + 1 events to be held out at all.
    """
    part, users_too_short = _last_events(interactions, n, "leave-last-n")
    return Split(interactions, part, "leave_last_n"), {"held_out": n, "users_too_short": users_too_short}


def _last_events(interactions: Interactions, n: int, protocol: str) -> tuple[UInt8, int]:
    least = 2 * n + 1
    lengths = np.diff(interactions.offsets)
    long = lengths >= least
    if not long.any():
        parts = "train, valid, test" if n == 1 else f"{n} for the test, {n} before them and one to train on"
        raise DataError(
            f"{protocol} needs users with at least {least} events ({parts}); the longest of "
            f"{interactions.n_users:,} histories has {int(lengths.max(initial=0))}"
        )
    return _runs(lengths, n * long, n * long), int((~long).sum())


def _runs(lengths: Int64, valid: Int64, test: Int64) -> UInt8:
    """Parts of rows that lie user by user: all but the last ``valid + test`` of a user train, then valid, then test."""
    sizes = np.stack([lengths - valid - test, valid, test], axis=1)
    return np.repeat(np.tile(np.arange(3, dtype=np.uint8), len(sizes)), sizes.ravel())


def global_time(interactions: Interactions, valid_share: float, test_share: float) -> tuple[Split, Facts]:
    """The newest events of all users are test, those before them valid, the rest train.

    The cuts are quantiles of the timestamps; all events that carry the timestamp of a cut fall on its later side, so
    that every training event is older than every validation event, and that older than every test event. A user may
    have events in any of the parts. Raises :class:`DataError` without timestamps, and when a part comes out empty.
    """
    times, n = _times(interactions, "global-time"), len(interactions)
    at = [min(round(n * (1 - valid_share - test_share)), n - 1), min(round(n * (1 - test_share)), n - 1)]
    valid_from, test_from = np.partition(times, at)[at]
    part = (times >= valid_from).view(np.uint8)
    part += times >= test_from
    _refuse_empty(
        part,
        f"global-time leaves nothing for {{part}}: {n:,} events with {{different}} different timestamps "
        f"are cut at {_utc(valid_from)} and {_utc(test_from)}; use other shares or leave-one-out",
        times,
    )
    return Split(interactions, part, "global_time"), {"valid_from": _utc(valid_from), "test_from": _utc(test_from)}


def global_ratio(
    interactions: Interactions, valid_share: float, test_share: float, *, min_history: int = 5
) -> tuple[Split, Facts]:
    """The samples of click prediction, all users in one order of time, cut by their number (ReLLa, arXiv 2308.11131).

    A sample is an event with at least ``min_history`` earlier events of its user. In the order of (time, user, row) the
    first ``floor(share * samples)`` are train, the next ``floor(valid_share * samples)`` valid, all others test.
    Events that are no samples go to the part of the period they lie in: were the first events of late users put into
    train, training would see the items and tastes of the test period. They are few, are history and never targets for
    :class:`rec_core.types.Samples`, and are counted in ``events_before_min_history``.

    No training event is newer than a validation event, no validation event newer than a test event; of events in the
    very second of a cut some may lie on each side, the smaller user ids on the earlier one. Where the authors order
    tied events of one user by item, the order of rows stands here, as in every split. Raises :class:`DataError`
    without timestamps, and when a part has no sample.
    """
    times = _times(interactions, "global-ratio")
    is_sample = with_history(interactions, min_history)
    n = int(np.count_nonzero(is_sample))
    n_train, n_valid = whole_part((1 - valid_share - test_share) * n), whole_part(valid_share * n)
    if not (n_train and n_valid and n_train + n_valid < n):
        raise DataError(
            f"global-ratio cuts {n:,} samples (events with at least {min_history} earlier ones of their user) into "
            f"{n_train:,} / {n_valid:,} / {n - n_train - n_valid:,}, and no part may be empty; use other shares or a "
            f"smaller --min-history"
        )
    cuts = _in_time_order(times, is_sample, [n_train, n_train + n_valid])
    part = np.zeros(len(interactions), np.uint8)
    for first in cuts:  # an event is past the cut when it is newer, or as new and not before it in (user, row) order
        part += times > times[first]
        part[first:] += times[first:] == times[first]
    counts = np.bincount(part[~is_sample], minlength=3).tolist()
    return Split(interactions, part, "global_ratio"), {
        "valid_from": _utc(times[cuts[0]]),
        "test_from": _utc(times[cuts[1]]),
        "min_history": min_history,
        "samples": {"train": n_train, "valid": n_valid, "test": n - n_train - n_valid},
        "events_before_min_history": dict(zip(("train", "valid", "test"), counts, strict=True)),
    }


def with_history(interactions: Interactions, least: int) -> Bool:
    """bool [n]: events with at least so many earlier ones of their user."""
    offsets = interactions.offsets
    enough = np.ones(len(interactions), np.bool_)
    for place in range(min(least, int(np.diff(offsets).max(initial=0)))):
        first = offsets[:-1] + place
        enough[first[first < offsets[1:]]] = False
    return enough


def _in_time_order(times: Int64, chosen: Bool, places: list[int]) -> list[int]:
    """Positions of the events that stand at the given places among the chosen ones in (time, position) order."""
    of_chosen = times[chosen]
    found = []
    for place, time in zip(places, np.partition(of_chosen, places)[places], strict=True):
        before = int(np.count_nonzero(of_chosen < time))
        found.append(int(np.flatnonzero(chosen & (times == time))[place - before]))
    return found


def ratio(
    interactions: Interactions,
    valid_share: float,
    test_share: float,
    *,
    order: Literal["random", "time"] = "random",
    seed: int = 1,
) -> tuple[Split, Facts]:
    """Of each user's n events ``max(1, floor(share * n))`` are valid and as many test, the rest train.

    ``order="random"`` draws them (the split of collaborative filtering; LLM4REC, arXiv 2402.09617): training then holds
    events that are newer than held-out ones, so it is not for models of sequences, and its train part must not be told
    in order of time. The draw is a function of seed, user, item and time: a shuffled file gives the same split.
    ``order="time"`` takes the newest: no event of a user is newer than its own held-out ones. A user for whom nothing
    would be left to train on (fewer than three events, with small shares) stays in train whole and is counted in
    ``users_too_short``. Raises :class:`DataError` when that is everyone.
    """
    lengths = np.diff(interactions.offsets)
    valid, test = (
        np.maximum(1, np.floor(np.round(share * lengths, 9))).astype(np.int64) for share in (valid_share, test_share)
    )
    long = lengths - valid - test >= 1
    if not long.any():
        raise DataError(
            f"ratio needs users with at least 3 events (train, valid, test) and shares that leave one to train on; "
            f"the longest of {interactions.n_users:,} histories has {int(lengths.max(initial=0))}"
        )
    part = _runs(lengths, valid * long, test * long)
    if order == "random":
        _deal_at_random(part, interactions, stream_key(seed, "ratio split"))
    return Split(interactions, part, "ratio"), {"ratio_order": order, "users_too_short": int((~long).sum())}


def _deal_at_random(part: UInt8, interactions: Interactions, key: np.uint64) -> None:
    """Deal out the parts of each user among its events, in the order of a hash of each event."""
    offsets = interactions.offsets
    for first, last in _user_blocks(offsets):
        rows = slice(int(offsets[first]), int(offsets[last]))
        users = interactions.users[rows]
        columns: list[npt.NDArray[np.integer]] = [users, interactions.items[rows]]
        if interactions.timestamps is not None:
            columns.append(interactions.timestamps[rows])
        drawn = np.argsort(hashed(key, *columns), kind="stable")  # of equal events, the order of rows
        drawn = drawn[np.argsort((users - first).astype(np.uint16)[drawn], kind="stable")]
        dealt = np.empty(len(drawn), np.uint8)
        dealt[drawn] = part[rows]
        part[rows] = dealt


def _user_blocks(offsets: Int64) -> Iterator[tuple[int, int]]:
    """Ranges of users (first, last + 1) with some ``_BLOCK`` events each."""
    first, n_users = 0, len(offsets) - 1
    while first < n_users:
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), first + _MOST_USERS, n_users)
        yield first, last
        first = last


def temporal_user_groups(
    interactions: Interactions, valid_share: float, test_share: float, *, seed: int = 1
) -> tuple[Split, Facts]:
    """One cut in time: all before it is train; after it some users are valid and the others test.

    The cut is the quantile of the timestamps that leaves ``valid_share + test_share`` of the events, ties on its later
    side. A user belongs to the valid or the test group by a hash of seed and user id, in the proportion of the two
    shares. So validation and test cover the same period, which no training event reaches, and share no user. Raises
    :class:`DataError` without timestamps, and when a part comes out empty.
    """
    times, n = _times(interactions, "temporal-user-groups"), len(interactions)
    at = min(round(n * (1 - valid_share - test_share)), n - 1)
    held_out_from = np.partition(times, at)[at]
    chance = uniform(hashed(stream_key(seed, "user groups"), np.arange(interactions.n_users)))
    group = np.where(chance < valid_share / (valid_share + test_share), VALID, TEST)
    part = np.repeat(group, np.diff(interactions.offsets))
    part *= times >= held_out_from
    _refuse_empty(
        part,
        f"temporal-user-groups leaves nothing for {{part}}: {n:,} events of {interactions.n_users:,} users are cut at "
        f"{_utc(held_out_from)}; use other shares, another seed or leave-one-out",
        times,
    )
    present = _present(interactions.users, interactions.n_users, part)
    return Split(interactions, part, "temporal_user_groups"), {
        "held_out_from": _utc(held_out_from),
        "valid_users": int(present[VALID].sum()),
        "test_users": int(present[TEST].sum()),
    }


def given(interactions: Interactions, part: UInt8 | None) -> tuple[Split, Facts]:
    """The split that the source states.

    Valid may be empty, which is said in the log and in ``empty``. ``train_after_held_out`` counts training events that
    follow a held-out one of the same user: what the split leaks about the future (None where there are no times).
    Raises :class:`DataError` when the source states no split, or nothing for train or test.
    """
    if part is None:
        raise DataError("the source states no split of its own (--split given); choose another --split")
    sizes = _sizes(part)
    for code, name in ((TRAIN, "train"), (TEST, "test")):
        if not sizes[code]:
            raise DataError(
                f"the split that the source states has no {name} events left ({sizes[0]:,} / {sizes[1]:,} / "
                f"{sizes[2]:,}); do the filters take them away, or does it lack that file?"
            )
    facts: Facts = {"train_after_held_out": None}
    if not sizes[VALID]:
        log.warning("the split that the source states has no validation part: nothing to choose settings by")
        facts["empty"] = ["valid"]
    if interactions.timestamps is not None:
        offsets = interactions.offsets
        held_out = np.flatnonzero(part)
        first = np.full(interactions.n_users, len(part), np.int64)
        owner = interactions.users[held_out]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        first[owner[starts]] = held_out[starts]
        later = offsets[1:] - np.minimum(first, offsets[1:])
        n_held_out = np.bincount(owner, minlength=interactions.n_users)
        facts["train_after_held_out"] = int((later - n_held_out).sum())
    return Split(interactions, part, "given"), facts


def _coverage(split: Split) -> Facts:
    """Items that no training event teaches, and users who have held-out events and nothing before them."""
    events, part = split.interactions, split.part
    in_train = _present(events.items, events.n_items, part)[TRAIN]
    facts: Facts = {}
    if split.protocol not in ("leave_one_out", "leave_last_n", "ratio"):  # there everyone has training events
        train, valid, test = _present(events.users, events.n_users, part)
        facts["valid_users_without_history"] = int((valid & ~train).sum())
        facts["test_users_without_history"] = int((test & ~(train | valid)).sum())
    return facts | {"items_without_training": int((~in_train).sum())}


def _present(ids: npt.NDArray[Any], size: int, part: UInt8) -> Bool:
    """bool [3, size]: which ids have events in which part."""
    present = np.zeros((3, size), np.bool_)
    for rows in chunks(len(ids)):
        present[part[rows], ids[rows]] = True
    return present


def _times(interactions: Interactions, protocol: str) -> Int64:
    if interactions.timestamps is None:
        raise DataError(f"{protocol} needs timestamps and this data has none; use leave-one-out or ratio")
    if not len(interactions):
        raise DataError(f"{protocol} has no events to cut")
    return interactions.timestamps


def _refuse_empty(part: UInt8, message: str, times: Int64) -> None:
    sizes = _sizes(part)
    if not all(sizes):
        empty = ("train", "valid", "test")[sizes.index(0)]
        raise DataError(message.format(part=empty, different=f"{len(np.unique(times)):,}"))


def _sizes(part: UInt8) -> list[int]:
    return [int(np.count_nonzero(part == code)) for code in range(3)]


def whole_part(number: float) -> int:
    """The floor of a share of a number of events, whatever the last binary digits of the share."""
    return floor(round(number, 6))  # 0.8 * 10 is 8.000000000000002 or 7.999999999999999, as shares add up


def _utc(seconds: np.int64) -> str:
    return f"{np.datetime64(int(seconds), 's')}Z"
