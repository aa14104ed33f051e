"""Filters against their plain twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_data.filters import k_core, one_per_pair

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


def columns(pairs):
    return np.array(pairs, np.int64).reshape(-1, 2).T


def plain_k_core(pairs, user_core, item_core):
    """Drop one row that has to go, look again."""
    rows = list(range(len(pairs)))
    while True:
        users, items = [pairs[r][0] for r in rows], [pairs[r][1] for r in rows]
        poor = [r for r in rows if users.count(pairs[r][0]) < user_core or items.count(pairs[r][1]) < item_core]
        if not poor:
            return rows
        rows.remove(poor[0])


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_equals_dropping_one_row_after_the_other(pairs, user_core, item_core):
    stays, rounds = k_core(*columns(pairs), user_core, item_core)
    assert np.flatnonzero(stays).tolist() == plain_k_core(pairs, user_core, item_core)
    assert (rounds == 0) == bool(stays.all())


def test_k_core_counts_its_rounds():
    # item 2 goes for want of users; user 1 then has one row left and goes; everyone else has two
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)]
    stays, rounds = k_core(*columns(pairs), 2, 2)
    assert stays.tolist() == [True, True, False, False, True, True, True, True]
    assert rounds == 2


def test_k_core_of_one_keeps_everyone():
    stays, rounds = k_core(*columns([(0, 0), (1, 1)]), 1, 1)
    assert stays.all()
    assert rounds == 0


@pytest.mark.parametrize("keep", ["first", "last"])
@given(pairs=PAIRS)
def test_one_row_per_pair_equals_a_dictionary(keep, pairs):
    chosen = {}
    for row, pair in enumerate(pairs):
        if keep == "last" or pair not in chosen:
            chosen[pair] = row
    assert np.flatnonzero(one_per_pair(*columns(pairs), keep)).tolist() == sorted(chosen.values())
