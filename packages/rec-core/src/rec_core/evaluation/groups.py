"""Which items and users count as head or tail, short or long, cold: from observed training events only."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from rec_core.types import HeldOut, Interactions
from rec_core.types.ids import Bool, Int64


@dataclass(frozen=True, slots=True)
class GroupRules:
    """Where the lines are drawn.

    head_share       the most popular share of the catalogue is ``head``, all other items are ``tail``; 0.2 as usual
    short_at_most    users with at most so many training events are ``short``, the others ``long``; None = by quantile
    short_quantile   that quantile of the evaluated users' training events is the line; 0.5 = the median
    """

    head_share: float = 0.2
    short_at_most: int | None = None
    short_quantile: float = 0.5


def observed(train: Interactions) -> Interactions:
    """Training events without those an augmenter wrote, so that slices do not move when a run adds data."""
    return train if train.generated is None else train.where(~train.generated)


def item_groups(counts: Int64, rules: GroupRules) -> dict[str, Bool]:
    """bool [n_items] per group, from training events per item.

    ``head``: the ``ceil(head_share * n_items)`` items with most events, ties at the border by smaller id; ``tail``:
    all others; ``cold``: items of the tail without a single event.
    """
    if not 0 < rules.head_share < 1:
        raise ValueError(f"head_share lies between 0 and 1; got {rules.head_share}")
    n_head = ceil(round(rules.head_share * len(counts), 9))  # 0.2 * 15 is 3.0000000000000004 or so
    head = np.zeros(len(counts), np.bool_)
    head[np.argsort(-counts, kind="stable")[:n_head]] = True
    return {"head": head, "tail": ~head, "cold": counts == 0}


def user_groups(held_out: HeldOut, user_counts: Int64, rules: GroupRules) -> dict[str, Bool]:
    """bool [rows] per group, from training events per user; a user never seen (-1) has none and is ``short``."""
    users = held_out.histories.users
    events = np.where(users >= 0, user_counts[users], 0) if len(user_counts) else np.zeros(len(users), np.int64)
    line = rules.short_at_most
    limit = float(np.quantile(events, rules.short_quantile)) if line is None and len(events) else float(line or 0)
    return {"short": events <= limit, "long": events > limit}
