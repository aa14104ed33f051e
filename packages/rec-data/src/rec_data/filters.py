"""Which rows stay: repeated pairs, the k-core and limits on history lengths, on integer codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from rec_core.types.ids import Bool, Int32, Int64
from rec_data.ordering import PARTITION, chunks, in_threads, user_counts


def one_per_pair(users: Int32 | Int64, items: Int32 | Int64, keep: Literal["first", "last"]) -> Bool:
    """bool [n]: the first (or last) row of each (user, item) pair; ``users`` [n] do not fall."""
    stays = np.ones(len(users), np.bool_)
    item_bits = int(items.max(initial=0)).bit_length()

    def look(rows: slice) -> None:
        user = users[rows].astype(np.int64)
        user -= user[0]
        row_bits = (len(user) - 1).bit_length()
        if int(user[-1]).bit_length() + item_bits + row_bits <= 63:
            user <<= item_bits
            user |= items[rows]
            user <<= row_bits
            user |= np.arange(len(user))
            user.sort()
            order = user & ((1 << row_bits) - 1)
            user >>= row_bits
            repeated = np.flatnonzero(user[1:] == user[:-1])
        else:
            item = items[rows]
            order = np.lexsort((item, user))
            repeated = np.flatnonzero((np.diff(user[order]) == 0) & (np.diff(item[order]) == 0))
        stays[rows.start + order[repeated + 1 if keep == "first" else repeated]] = False

    in_threads(look, _whole_users(users))
    return stays


def _whole_users(users: Int32 | Int64) -> Iterator[slice]:
    """Slices of about ``PARTITION`` rows that never cut a user in two."""
    start = 0
    while start < len(users):
        stop = start + PARTITION
        stop = len(users) if stop >= len(users) else int(np.searchsorted(users, users[stop - 1], side="right"))
        yield slice(start, stop)
        start = stop


def k_core(
    users: Int32 | Int64, items: Int32 | Int64, user_core: int, item_core: int, *, once: bool = False
) -> tuple[Bool, int]:
    """bool [n]: the rows of the largest set in which every user and item has enough rows, and the rounds it took.

    Each round drops all users and items that have too few rows left; the result does not depend on the order in which
    they go. Repeated pairs count each time. With ``once`` users and items are counted in all rows and dropped in one
    round (the rule of LLMEmb's published code), so some may be left with fewer rows.
    """
    stays = np.ones(len(users), np.bool_)
    if user_core <= 1 and item_core <= 1:
        return stays, 0
    of_user, of_item = user_counts(users), user_counts(items)
    rounds = 0
    while True:
        few_users, few_items = _too_few(of_user, user_core), _too_few(of_item, item_core)
        if few_users is None and few_items is None:
            return stays, rounds
        rounds += 1

        def look(chunk: slice, few_users: Bool | None = few_users, few_items: Bool | None = few_items) -> Int64:
            """Rows of a chunk that go in this round."""
            goes = None
            if few_users is not None:
                goes = few_users[users[chunk]]
            if few_items is not None:
                goes = few_items[items[chunk]] if goes is None else goes | few_items[items[chunk]]
            assert goes is not None
            goes &= stays[chunk]
            rows: Int64 = np.flatnonzero(goes) + chunk.start
            return rows

        for rows in in_threads(look, chunks(len(users), 1 << 20)):
            if len(rows):
                stays[rows] = False
                of_user -= np.bincount(users[rows], minlength=len(of_user))
                of_item -= np.bincount(items[rows], minlength=len(of_item))
        if once:
            return stays, rounds


def _too_few(counts: Int64, least: int) -> Bool | None:
    """bool per code: has rows, but fewer than ``least``; None when none has."""
    few = (counts > 0) & (counts < least)
    return few if few.any() else None


def by_length(users: Int32 | Int64, least: int, most: int | None) -> tuple[Bool, Bool]:
    """bool [n] twice: rows of users with at least ``least`` rows, and the newest ``most`` rows of each user.

    ``users`` [n] do not fall and rows of a user are oldest first.
    """
    counts = user_counts(users)
    enough = (counts >= least)[users] if least > 1 else np.ones(len(users), np.bool_)
    newest = np.ones(len(users), np.bool_)
    if most is not None and (counts > most).any():
        first_kept = np.cumsum(counts) - np.minimum(counts, most)
        for chunk in chunks(len(users)):
            newest[chunk] = np.arange(chunk.start, chunk.stop) >= first_kept[users[chunk]]
    return enough, newest


def sessions(users: Int32 | Int64, times: Int64, gap: int) -> tuple[Int64, Int64]:
    """Number of the session of each row, int64 [n] from 0, and the user of each session, int64 [sessions].

    A session ends where the user's next event is more than ``gap`` seconds away. ``users`` do not fall and a user's
    times neither.
    """
    starts = np.ones(len(users), np.bool_)
    if len(users):
        starts[1:] = (np.diff(users) != 0) | (np.diff(times) > gap)
    return np.cumsum(starts) - 1, users[starts].astype(np.int64)
