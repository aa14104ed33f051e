"""Small data sets made in code, equal on every machine: what a model should find in them is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rec_core.randomness import generator
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Split, UserCatalog
from rec_core.types.ids import Int64

_NAMES = ("Amber", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Heath", "Island", "Jade")
_DAY = 86_400


def checkerboard(n_users: int = 40, n_items: int = 20, *, per_user: int | None = None, seed: int = 0) -> Dataset:
    """Users like the items of their parity: user u meets items i with u + i even, and never another one.

    Each user meets ``per_user`` of the liked items (default: all but two) in an order of its own, the last two as
    valid and test. A recommender that learned anything ranks the unseen items of the same parity above all others,
    while popularity, equal for all, finds nothing. (An idea of the tests of ``implicit``.)
    """
    per_user = n_items // 2 - 2 if per_user is None else per_user
    if not 3 <= per_user <= n_items // 2:
        raise ValueError(f"per_user lies in 3..{n_items // 2}, half of the items; got {per_user}")
    rows = [
        generator(seed, "checkerboard", user).permutation(np.arange(user % 2, n_items, 2))[:per_user]
        for user in range(n_users)
    ]
    titles = [f"{'White' if item % 2 else 'Black'} {item // 2}" for item in range(n_items)]
    return _dataset("checkerboard", rows, {"title": titles}, n_items)


def planted_clusters(
    n_users: int = 60,
    n_items: int = 40,
    *,
    n_clusters: int = 4,
    events: tuple[int, int] = (5, 8),
    follow: float = 0.8,
    seed: int = 0,
) -> Dataset:
    """Users walk through the items of one cluster, mostly in the same order: a Markov chain over items.

    The clusters are runs of ``n_items // n_clusters`` ids. A user starts anywhere in its cluster (u mod ``n_clusters``)
    and meets ``events`` (least, most) items, none twice: with probability ``follow`` the next unseen one around the
    cluster's ring, else any unseen one of it. A sequence model can name the next item, a model of co-occurrence the
    cluster, popularity neither. The titles tell the cluster (``Amber 3 (1983)``), the last two events are valid and
    test, and there are timestamps and ratings.
    """
    size = n_items // n_clusters
    least, most = events
    if not 3 <= least <= most < size:
        raise ValueError(f"events {events} must lie in 3..{size - 1}: at least 3, fewer than the {size} of a cluster")
    rows = []
    for user in range(n_users):
        rng = generator(seed, "planted clusters", user)
        walk = [int(rng.integers(size))]
        for _ in range(int(rng.integers(least, most + 1)) - 1):
            unseen = [step for step in ((walk[-1] + 1 + i) % size for i in range(size)) if step not in walk]
            walk.append(unseen[0] if rng.random() < follow else unseen[int(rng.integers(len(unseen)))])
        rows.append(np.array(walk) + size * (user % n_clusters))
    cluster = np.minimum(np.arange(n_items) // size, n_clusters - 1)
    names = [f"{_NAMES[c % len(_NAMES)]}{'' if c < len(_NAMES) else c // len(_NAMES) + 1}" for c in cluster]
    titles = [
        f"{name} {item - size * c} ({1980 + item % 40})"
        for item, (name, c) in enumerate(zip(names, cluster, strict=True))
    ]
    return _dataset("planted-clusters", rows, {"title": titles, "genre": names}, n_items)


def with_other_test_items(split: Split, seed: int = 0) -> Split:
    """The same split with another item (and rating) in every test row: whatever sees the difference leaks."""
    events, test = split.interactions, split.part == 2
    if events.n_items < 2:
        raise ValueError("with a single item there is no other one")
    rng = generator(seed, "other test items")
    items = events.items.copy()
    items[test] = (items[test] + rng.integers(1, events.n_items, int(test.sum()))) % events.n_items
    ratings = events.ratings
    if ratings is not None:
        ratings = np.where(test, ratings.max(initial=0) - ratings, ratings)
    return replace(split, interactions=replace(events, items=items, ratings=ratings))


def _dataset(name: str, rows: list[npt.NDArray[np.int64]], fields: dict[str, list[str]], n_items: int) -> Dataset:
    """Rows of items per user, a day apart, the last two events as valid and test."""
    lengths: Int64 = np.array([len(row) for row in rows], np.int64)
    at = np.concatenate([np.arange(length) for length in lengths])
    items = np.concatenate(rows).astype(np.int32)
    part = np.concatenate([np.repeat([0, 1, 2], [length - 2, 1, 1]) for length in lengths]).astype(np.uint8)
    events = Interactions(
        users=np.repeat(np.arange(len(rows)), lengths),
        items=items,
        n_users=len(rows),
        n_items=n_items,
        timestamps=1_000_000_000 + _DAY * at,
        ratings=(3 + (items + at) % 3).astype(np.float32),
    )
    return Dataset(
        name=name,
        users=UserCatalog(IdMap(tuple(f"u{user}" for user in range(len(rows))), "user")),
        items=ItemCatalog(IdMap(tuple(f"i{item}" for item in range(n_items)), "item"), fields),
        split=Split(events, part, "leave_one_out"),
    )
