"""Which rows stay: repeated pairs and the k-core, on integer codes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rec_core.types.ids import Bool, Int64


def one_per_pair(users: Int64, items: Int64, keep: Literal["first", "last"]) -> Bool:
    """bool [n]: the first (or last) row of each (user, item) pair, in the order given."""
    pair = users * (int(items.max(initial=0)) + 1) + items
    order = np.argsort(pair, kind="stable")
    repeated = np.flatnonzero(np.diff(pair[order]) == 0)
    stays = np.ones(len(users), np.bool_)
    stays[order[repeated + 1] if keep == "first" else order[repeated]] = False
    return stays


def k_core(users: Int64, items: Int64, user_core: int, item_core: int) -> tuple[Bool, int]:
    """bool [n]: the rows of the largest set in which every user and item has enough rows, and the rounds it took.

    Each round drops all users and items that have too few rows left; the result does not depend on the order in which
    they go. Repeated pairs count each time.
    """
    stays = np.ones(len(users), np.bool_)
    if user_core <= 1 and item_core <= 1:
        return stays, 0
    rows = np.arange(len(users))
    rounds = 0
    while len(rows):
        enough = (np.bincount(users) >= user_core)[users] & (np.bincount(items) >= item_core)[items]
        if enough.all():
            break
        stays[rows[~enough]] = False
        users, items, rows = users[enough], items[enough], rows[enough]
        rounds += 1
    return stays, rounds
