"""Which event is for training, which for validation, which for the test."""

from __future__ import annotations

from typing import Any

import numpy as np

from rec_core.errors import DataError
from rec_core.types import Interactions, Split

TRAIN, VALID, TEST = np.uint8(0), np.uint8(1), np.uint8(2)


def leave_one_out(interactions: Interactions) -> tuple[Split, dict[str, Any]]:
    """Each user's last event is test, the one before it valid, the rest train.

    A user with fewer than three events stays in train whole and is counted in ``users_too_short``. Without timestamps
    the order of the file decides what is last. Raises :class:`DataError` when no user has three events.
    """
    offsets = interactions.offsets
    last = offsets[1:][np.diff(offsets) >= 3] - 1
    if not len(last):
        raise DataError(
            f"leave-one-out needs users with at least 3 events (train, valid, test); the longest of "
            f"{interactions.n_users:,} histories has {int(np.diff(offsets).max(initial=0))}"
        )
    part = np.full(len(interactions), TRAIN)
    part[last] = TEST
    part[last - 1] = VALID
    return Split(interactions, part, "leave_one_out"), {"users_too_short": interactions.n_users - len(last)}


def global_time(interactions: Interactions, valid_share: float, test_share: float) -> tuple[Split, dict[str, Any]]:
    """The newest events of all users are test, those before them valid, the rest train.

    The cuts are quantiles of the timestamps; all events that carry the timestamp of a cut fall on its later side, so
    that no part holds anything as new as what a later part holds. A user may have events in any of the parts. Raises
    :class:`DataError` without timestamps, and when a part comes out empty.
    """
    if interactions.timestamps is None:
        raise DataError("global-time needs timestamps and this data has none; use leave-one-out")
    times, n = interactions.timestamps, len(interactions)
    at = [min(round(n * (1 - valid_share - test_share)), n - 1), min(round(n * (1 - test_share)), n - 1)]
    valid_from, test_from = np.partition(times, at)[at]
    part = (times >= valid_from).astype(np.uint8) + (times >= test_from).astype(np.uint8)
    sizes = np.bincount(part, minlength=3)
    if not sizes.all():
        empty = ("train", "valid", "test")[int(np.argmin(sizes))]
        raise DataError(
            f"global-time leaves nothing for {empty}: {n:,} events with {len(np.unique(times)):,} different timestamps "
            f"are cut at {_utc(valid_from)} and {_utc(test_from)}; use other shares or leave-one-out"
        )
    split = Split(interactions, part, "global_time")
    in_train = np.bincount(interactions.items[part == TRAIN], minlength=interactions.n_items) > 0
    return split, {
        "valid_from": _utc(valid_from),
        "test_from": _utc(test_from),
        "valid_users_without_history": split.held_out("valid").skipped.get("no_history", 0),
        "test_users_without_history": split.held_out("test").skipped.get("no_history", 0),
        "items_without_training": int((~in_train).sum()),
    }


def _utc(seconds: np.int64) -> str:
    return f"{np.datetime64(int(seconds), 's')}Z"
