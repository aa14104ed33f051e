"""Hypothesis strategies for the core types: small, with the corners that break code (empty rows, ties, repeats)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from rec_core.types import Histories, Interactions, Split
from rec_core.types.split import PROTOCOLS


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    n_items: int = 12,
    n_users: int | None = None,
    max_rows: int = 6,
    max_length: int = 6,
    optional_columns: bool = True,
) -> Histories:
    """Histories with empty rows, repeated items, users in several rows and, where ``n_users`` is None, unknown ones.

    ``optional_columns``: timestamps, ratings and generated flags may be there, each on its own.
    """
    users = st.integers(-1, 5) if n_users is None else st.integers(0, n_users - 1)
    rows = draw(
        st.lists(st.tuples(users, st.lists(st.integers(0, n_items - 1), max_size=max_length)), max_size=max_rows)
    )
    plain = Histories.of([items for _, items in rows], [user for user, _ in rows])
    if not optional_columns:
        return plain
    n = len(plain.items)
    times, ratings, generated = (draw(st.none() | column) for column in _columns(n))
    return Histories(plain.users, plain.offsets, plain.items, times, ratings, generated)


@st.composite
def interactions(
    draw: st.DrawFn, *, max_users: int = 5, max_items: int = 8, max_events: int = 24, timestamps: bool | None = None
) -> Interactions:
    """Interactions in order, with users and items nobody meets, tied timestamps and repeated pairs.

    ``timestamps`` True or False forces the column to be there or not.
    """
    n_users, n_items = draw(st.integers(1, max_users)), draw(st.integers(1, max_items))
    pairs = draw(st.lists(st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1)), max_size=max_events))
    times, ratings, generated = _columns(len(pairs))
    return Interactions.sorted(
        np.array([user for user, _ in pairs], np.int64),
        np.array([item for _, item in pairs], np.int32),
        timestamps=None if timestamps is False else draw(times if timestamps else st.none() | times),
        ratings=draw(st.none() | ratings),
        generated=draw(st.none() | generated),
        n_users=n_users,
        n_items=n_items,
    )


@st.composite
def splits(
    draw: st.DrawFn, *, in_order: bool = False, max_users: int = 5, max_items: int = 8, max_events: int = 24
) -> Split:
    """Splits with any part for any event; ``in_order``: every user's train comes before valid before test."""
    events = draw(interactions(max_users=max_users, max_items=max_items, max_events=max_events))
    part = np.array(draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events))), np.uint8)
    if in_order:
        part = part[np.lexsort((part, events.users))]
    return Split(events, part, draw(st.sampled_from(PROTOCOLS)))


def _columns(n: int) -> tuple[st.SearchStrategy[np.ndarray], ...]:
    """Timestamps with ties, ratings and generated flags of n events."""

    def column(values: st.SearchStrategy[Any], dtype: type[np.generic]) -> st.SearchStrategy[np.ndarray]:
        return st.lists(values, min_size=n, max_size=n).map(lambda drawn: np.array(drawn, dtype))

    return (
        column(st.integers(-2, 3), np.int64),
        column(st.sampled_from([0.5, 1.0, 4.5, 5.0]), np.float32),
        column(st.booleans(), np.bool_),
    )
