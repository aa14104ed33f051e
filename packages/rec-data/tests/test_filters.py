"""Filters against their plain twins, whatever the size of the ranges they work on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_data import filters, ordering
from rec_data.filters import by_length, k_core, one_per_pair, sessions

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


@pytest.fixture(autouse=True, params=[None, 3], ids=["whole", "in ranges of three rows"])
def ranges(request, monkeypatch):
    if request.param is not None:
        monkeypatch.setattr(filters, "PARTITION", request.param)
        monkeypatch.setattr(ordering, "PARTITION", request.param)
        chunks = ordering.chunks
        monkeypatch.setattr(filters, "chunks", lambda n, size=0: chunks(n, request.param))


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


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_one_pass_counts_once_and_drops_once(pairs, user_core, item_core):
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    want = [users.count(user) >= user_core and items.count(item) >= item_core for user, item in pairs]
    assert k_core(*columns(pairs), user_core, item_core, once=True)[0].tolist() == want


def test_k_core_counts_its_rounds():
    # item 2 goes for want of users; user 1 then has one row left and goes; everyone else has two
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)]
    stays, rounds = k_core(*columns(pairs), 2, 2)
    assert stays.tolist() == [True, True, False, False, True, True, True, True]
    assert rounds == 2
    once = k_core(*columns(pairs), 2, 2, once=True)
    assert once[0].tolist() == [True, True, True, False, True, True, True, True]
    assert once[1] == 1


def test_k_core_of_one_keeps_everyone():
    stays, rounds = k_core(*columns([(0, 0), (1, 1)]), 1, 1)
    assert stays.all()
    assert rounds == 0


@pytest.mark.parametrize("scale", [1, 2**29], ids=["packed", "too wide for one packed key"])
@pytest.mark.parametrize("keep", ["first", "last"])
@given(pairs=PAIRS)
def test_one_row_per_pair_equals_a_dictionary(keep, scale, pairs):
    pairs = sorted(pairs, key=lambda pair: pair[0])
    chosen = {}
    for row, pair in enumerate(pairs):
        if keep == "last" or pair not in chosen:
            chosen[pair] = row
    users, items = columns(pairs)
    assert np.flatnonzero(one_per_pair(users * scale, items * scale, keep)).tolist() == sorted(chosen.values())


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 4), st.none() | st.integers(1, 4))
def test_lengths_are_bounded_from_below_and_the_newest_events_kept(users, least, most):
    users = sorted(users)
    enough, newest = by_length(np.array(users, np.int64), least, most)
    assert enough.tolist() == [users.count(user) >= least for user in users]
    assert newest.tolist() == [most is None or users[row + 1 :].count(user) < most for row, user in enumerate(users)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=30), st.integers(1, 6))
def test_a_session_ends_with_the_user_or_before_a_pause_that_is_too_long(rows, gap):
    rows = sorted(rows)
    want, users = [], []
    for at, (user, time) in enumerate(rows):
        if not at or rows[at - 1][0] != user or time - rows[at - 1][1] > gap:
            users.append(user)
        want.append(len(users) - 1)
    number, user_of = sessions(*columns(rows), gap)
    assert number.tolist() == want
    assert user_of.tolist() == users
