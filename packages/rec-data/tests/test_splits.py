"""Splits against their plain twins."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.types import Interactions
from rec_data.splits import global_time, leave_one_out

EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=60)


def interactions(events, timed=True):
    users, items, times = np.array(events, np.int64).reshape(-1, 3).T
    return Interactions.sorted(users, items, timestamps=times if timed else None)


@pytest.mark.parametrize("timed", [True, False])
@given(events=EVENTS)
def test_leave_one_out_holds_out_the_two_last_events_of_every_user_with_three(timed, events):
    made = interactions(events, timed)
    histories = {}
    for row, user in enumerate(made.users.tolist()):
        histories.setdefault(user, []).append(row)
    want = [0] * len(events)
    for rows in histories.values():
        if len(rows) >= 3:
            want[rows[-2]], want[rows[-1]] = 1, 2
    if not any(want):
        with pytest.raises(DataError, match="leave-one-out needs users with at least 3 events"):
            leave_one_out(made)
        return
    split, facts = leave_one_out(made)
    assert split.part.tolist() == want
    assert facts == {"users_too_short": made.n_users - sum(len(rows) >= 3 for rows in histories.values())}
    for part in ("valid", "test"):
        held_out = split.held_out(part)
        assert held_out.single
        assert held_out.skipped == {}


@given(events=EVENTS, valid=st.sampled_from([0.1, 0.25]), test=st.sampled_from([0.1, 0.3]))
def test_global_time_cuts_at_the_quantiles_and_ties_fall_on_the_later_side(events, valid, test):
    made = interactions(events)
    ordered = sorted(made.timestamps.tolist())
    n = len(ordered)
    at_valid, at_test = min(round(n * (1 - valid - test)), n - 1), min(round(n * (1 - test)), n - 1)
    want = [(t >= ordered[at_valid]) + (t >= ordered[at_test]) for t in made.timestamps.tolist()]
    assume(len(set(want)) == 3)
    split, facts = global_time(made, valid, test)
    assert split.part.tolist() == want
    assert sum(part == 2 for part in want) >= math.floor(n * test)
    times = made.timestamps
    assert times[split.part == 0].max() < times[split.part == 1].min()
    assert times[split.part == 1].max() < times[split.part == 2].min()
    seen = set(made.users[split.part < 2].tolist())
    asked = set(made.users[split.part == 2].tolist())
    assert facts["test_users_without_history"] == len(asked - seen)
    trained = set(made.items[split.part == 0].tolist())
    assert facts["items_without_training"] == made.n_items - len(trained)


def test_global_time_with_the_numbers_in_view():
    made = interactions([(0, 0, t) for t in range(8)] + [(1, 1, 8), (1, 2, 9)])
    split, facts = global_time(made, 0.2, 0.1)
    assert split.part.tolist() == [0] * 7 + [1, 1, 2]  # 10 events: 7 train, from t=7 valid, from t=9 test
    assert facts["valid_from"] == "1970-01-01T00:00:07Z"
    assert facts["test_from"] == "1970-01-01T00:00:09Z"
    assert facts["valid_users_without_history"] == 1  # user 1 has nothing before t=7
    assert facts["test_users_without_history"] == 0
    assert facts["items_without_training"] == 2


def test_global_time_refuses_what_it_cannot_cut():
    with pytest.raises(DataError, match="needs timestamps"):
        global_time(interactions([(0, 0, 0)], timed=False), 0.1, 0.1)
    with pytest.raises(DataError, match="leaves nothing for train: 10 events with 1 different timestamps"):
        global_time(interactions([(u, 0, 7) for u in range(10)]), 0.1, 0.1)
