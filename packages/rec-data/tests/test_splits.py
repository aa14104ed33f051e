"""Splits against their plain twins, and what each of them keeps from leaking."""

import logging
from collections import Counter
from math import floor

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.types import Interactions
from rec_data import splits
from rec_data.config import PrepareSettings
from rec_data.splits import given as given_split
from rec_data.splits import global_ratio, global_time, leave_last_n, leave_one_out, make_split, ratio
from rec_data.splits import temporal_user_groups as by_groups

EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=60)
MANY = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 30)), min_size=25, max_size=60)
SHARES = {"valid": st.sampled_from([0.1, 0.25]), "test": st.sampled_from([0.1, 0.3])}


def interactions(events, timed=True):
    users, items, times = np.array(events, np.int64).reshape(-1, 3).T
    return Interactions.sorted(users, items, timestamps=times if timed else None)


def histories(made) -> dict[int, list[int]]:
    """Rows of each user, in order."""
    rows: dict[int, list[int]] = {}
    for row, user in enumerate(made.users.tolist()):
        rows.setdefault(user, []).append(row)
    return rows


def events_of(n_per_user, seed=0):
    """Users with so many events at different seconds, in a drawn order of time over all users."""
    at = np.random.default_rng(seed).permutation(sum(n_per_user))
    users = np.repeat(np.arange(len(n_per_user)), n_per_user)
    return interactions(np.column_stack([users, at % 7, at]))


def where_possible(split):
    """What the split gives; data that it must refuse is no example."""
    try:
        return split()
    except DataError:
        assume(False)


def assert_no_user_has_training_events_after_held_out_ones(split):
    for rows in histories(split.interactions).values():
        assert (np.diff(split.part[rows].astype(int)) >= 0).all()


# the last events of each user


@pytest.mark.parametrize("timed", [True, False])
@given(events=EVENTS)
def test_leave_one_out_holds_out_the_two_last_events_of_every_user_with_three(timed, events):
    made = interactions(events, timed)
    want = [0] * len(events)
    for rows in histories(made).values():
        if len(rows) >= 3:
            want[rows[-2]], want[rows[-1]] = 1, 2
    if not any(want):
        with pytest.raises(DataError, match="leave-one-out needs users with at least 3 events"):
            leave_one_out(made)
        return
    split, facts = leave_one_out(made)
    assert split.part.tolist() == want
    assert facts == {"users_too_short": made.n_users - sum(len(rows) >= 3 for rows in histories(made).values())}
    assert_no_user_has_training_events_after_held_out_ones(split)
    for part in ("valid", "test"):
        held_out = split.held_out(part)
        assert held_out.single
        assert held_out.skipped == {}


@given(events=EVENTS, n=st.integers(1, 4))
def test_leave_last_n_holds_out_twice_n_events_of_every_user_with_one_more(events, n):
    made = interactions(events)
    want, short = [0] * len(events), made.n_users
    for rows in histories(made).values():
        if len(rows) >= 2 * n + 1:
            short -= 1
            for row in rows[-2 * n : -n]:
                want[row] = 1
            for row in rows[-n:]:
                want[row] = 2
    if not any(want):
        with pytest.raises(DataError, match=f"leave-last-n needs users with at least {2 * n + 1} events"):
            leave_last_n(made, n)
        return
    split, facts = leave_last_n(made, n)
    assert split.part.tolist() == want
    assert facts == {"held_out": n, "users_too_short": short}
    assert split.protocol == "leave_last_n"
    assert_no_user_has_training_events_after_held_out_ones(split)


def test_leave_last_one_is_leave_one_out():
    made = events_of([3, 1, 8, 2, 5])
    assert np.array_equal(leave_last_n(made, 1)[0].part, leave_one_out(made)[0].part)


# one order of time for all users


@given(events=EVENTS, **SHARES)
def test_global_time_cuts_at_the_quantiles_and_ties_fall_on_the_later_side(events, valid, test):
    made = interactions(events)
    ordered = sorted(made.timestamps.tolist())
    n = len(ordered)
    at_valid, at_test = min(round(n * (1 - valid - test)), n - 1), min(round(n * (1 - test)), n - 1)
    want = [(t >= ordered[at_valid]) + (t >= ordered[at_test]) for t in made.timestamps.tolist()]
    assume(len(set(want)) == 3)
    wish = PrepareSettings(split="global-time", valid_share=valid, test_share=test)
    split, facts = make_split(made, wish)
    assert split.part.tolist() == want
    assert sum(part == 2 for part in want) >= floor(n * test)
    times = made.timestamps
    assert times[split.part == 0].max() < times[split.part == 1].min()
    assert times[split.part == 1].max() < times[split.part == 2].min()
    assert_facts_hold(split, facts)


def assert_facts_hold(split, facts):
    users, items = split.interactions.users, split.interactions.items
    for part, code in (("valid", 1), ("test", 2)):
        without = set(users[split.part == code].tolist()) - set(users[split.part < code].tolist())
        assert facts[f"{part}_users_without_history"] == len(without)
        assert split.held_out(part).skipped.get("no_history", 0) == len(without)
    trained = set(items[split.part == 0].tolist())
    assert facts["items_without_training"] == split.interactions.n_items - len(trained)


def test_global_time_with_the_numbers_in_view():
    made = interactions([(0, 0, t) for t in range(8)] + [(1, 1, 8), (1, 2, 9)])
    split, facts = make_split(made, PrepareSettings(split="global-time", valid_share=0.2, test_share=0.1))
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


@given(events=EVENTS, least=st.integers(0, 6), **SHARES)
def test_global_ratio_cuts_the_samples_of_all_users_by_number_in_one_order_of_time(events, least, valid, test):
    made = interactions(events)
    users, times = made.users.tolist(), made.timestamps.tolist()
    in_order = sorted(range(len(users)), key=lambda row: (times[row], users[row], row))
    walked: Counter[int] = Counter()
    samples = []
    for row in in_order:  # as the authors do: walk forward, a sample is an event with enough behind it
        if walked[users[row]] >= least:
            samples.append(row)
        walked[users[row]] += 1
    n_train, n_valid = floor(round((1 - valid - test) * len(samples), 6)), floor(valid * len(samples))
    if not (n_train and n_valid and n_train + n_valid < len(samples)):
        with pytest.raises(DataError, match=f"global-ratio cuts {len(samples)} samples"):
            global_ratio(made, valid, test, min_history=least)
        return
    cuts = [in_order.index(samples[n_train]), in_order.index(samples[n_train + n_valid])]
    want = [0] * len(users)
    for place, row in enumerate(in_order):
        want[row] = (place >= cuts[0]) + (place >= cuts[1])
    split, facts = make_split(
        made, PrepareSettings(split="global-ratio", valid_share=valid, test_share=test, min_history=least)
    )
    assert split.part.tolist() == want
    n_test = len(samples) - n_train - n_valid
    assert facts["samples"] == {"train": n_train, "valid": n_valid, "test": n_test}
    assert [int((split.part[samples] == code).sum()) for code in range(3)] == [n_train, n_valid, n_test]
    others = [want[row] for row in set(in_order) - set(samples)]
    assert list(facts["events_before_min_history"].values()) == [others.count(code) for code in range(3)]
    assert_facts_hold(split, facts)


@given(events=MANY)
def test_global_ratio_trains_on_nothing_newer_than_what_it_holds_out(events):
    made = interactions(events)
    split, _ = where_possible(lambda: global_ratio(made, 0.2, 0.2, min_history=2))
    times = made.timestamps
    assert times[split.part == 0].max() <= times[split.part == 1].min()
    assert times[split.part == 1].max() <= times[split.part == 2].min()
    assert_no_user_has_training_events_after_held_out_ones(split)


def test_the_first_events_of_a_late_user_are_no_training_data_of_global_ratio():
    early = [(user, item, 10 * item + user) for user in range(2) for item in range(10)]
    late = [(2, item, 1000 + item) for item in range(3)]
    split, facts = global_ratio(interactions(early + late), 0.1, 0.1, min_history=2)
    # 2 x 8 + 1 samples: floor(0.8 * 17) = 13 train, floor(0.1 * 17) = 1 valid, 3 test
    assert facts["samples"] == {"train": 13, "valid": 1, "test": 3}
    assert split.part[20:].tolist() == [2, 2, 2]  # user 2 comes after everything, two of its events are no samples
    assert facts["events_before_min_history"] == {"train": 4, "valid": 0, "test": 2}


def test_global_ratio_needs_timestamps():
    with pytest.raises(DataError, match="global-ratio needs timestamps"):
        global_ratio(interactions([(0, 0, 0)], timed=False), 0.1, 0.1)


# shares of each user


@pytest.mark.parametrize("order", ["random", "time"])
@given(events=EVENTS, **SHARES)
def test_ratio_holds_out_the_floor_of_a_share_of_each_user_and_at_least_one_event(order, events, valid, test):
    made = interactions(events)
    sizes = {}
    for user, rows in histories(made).items():
        n_valid, n_test = (max(1, floor(round(share * len(rows), 9))) for share in (valid, test))
        fits = len(rows) - n_valid - n_test >= 1
        sizes[user] = (len(rows) - n_valid - n_test, n_valid, n_test) if fits else (len(rows), 0, 0)
    if not any(n_test for _, _, n_test in sizes.values()):
        with pytest.raises(DataError, match="ratio needs users with at least 3 events"):
            ratio(made, valid, test, order=order)
        return
    split, facts = ratio(made, valid, test, order=order)
    for user, rows in histories(made).items():
        parts = split.part[rows]
        assert tuple(np.bincount(parts, minlength=3).tolist()) == sizes[user]
        if order == "time":
            assert (np.diff(parts.astype(int)) >= 0).all()
    absent = made.n_users - len(sizes)
    assert facts["users_too_short"] == absent + sum(not n_test for _, _, n_test in sizes.values())


@pytest.mark.parametrize("timed", [True, False])
@given(data=st.data(), events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=7, max_size=40))
def test_a_random_ratio_split_is_the_same_for_a_shuffled_file(timed, data, events):
    rows = [(user, item, i // 3) for i, (user, item) in enumerate(events)]  # ties in time, repeated pairs
    shuffled = data.draw(st.permutations(rows))
    one, _ = ratio(interactions(rows, timed), 0.2, 0.2)  # one of three users has three of seven events
    other, _ = ratio(interactions(shuffled, timed), 0.2, 0.2)
    assert contents(one) == contents(other)


def contents(split) -> Counter:
    made = split.interactions
    times = [0] * len(made) if made.timestamps is None else made.timestamps.tolist()
    return Counter(zip(made.users.tolist(), made.items.tolist(), times, split.part.tolist(), strict=True))


def test_a_random_ratio_split_does_not_depend_on_the_blocks_it_is_made_in(monkeypatch):
    made = events_of(list(range(1, 60)))
    whole = ratio(made, 0.1, 0.2)[0].part
    for block in (1, 7, 500):
        monkeypatch.setattr(splits, "_BLOCK", block)
        assert np.array_equal(ratio(made, 0.1, 0.2)[0].part, whole)
    monkeypatch.setattr(splits, "_MOST_USERS", 3)
    assert np.array_equal(ratio(made, 0.1, 0.2)[0].part, whole)


def test_a_random_ratio_split_draws_every_place_of_a_history_alike():
    made = events_of([10] * 6000)
    part = ratio(made, 0.1, 0.1)[0].part.reshape(6000, 10)
    for code in (1, 2):  # 6,000 draws of one place in ten: 600 per place, standard deviation 23
        per_place = (part == code).sum(axis=0)
        assert per_place.sum() == 6000
        assert abs(per_place - 600).max() < 5 * 23
    assert not np.array_equal(part, ratio(made, 0.1, 0.1, seed=2)[0].part.reshape(6000, 10))


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(DataError, match="the longest of 2 histories has 2"):
        ratio(events_of([2, 2]), 0.1, 0.1)
    assert ratio(events_of([3, 2]), 0.1, 0.1)[1]["users_too_short"] == 1


# groups of users after one cut


@given(events=MANY, seed=st.integers(0, 3), **SHARES)
def test_groups_are_cut_once_in_time_and_share_no_user(events, seed, valid, test):
    made = interactions(events)
    wish = PrepareSettings(split="temporal-user-groups", valid_share=valid, test_share=test, seed=seed)
    split, facts = where_possible(lambda: make_split(made, wish))
    ordered = sorted(made.timestamps.tolist())
    cut = ordered[min(round(len(ordered) * (1 - valid - test)), len(ordered) - 1)]
    assert ((split.part > 0) == (made.timestamps >= cut)).all()
    asked = [set(made.users[split.part == code].tolist()) for code in (1, 2)]
    assert not asked[0] & asked[1]
    assert [facts["valid_users"], facts["test_users"]] == [len(users) for users in asked]
    assert made.timestamps[split.part == 0].max() < made.timestamps[split.part > 0].min()
    assert_facts_hold(split, facts)


def test_the_groups_have_the_proportion_of_the_shares_and_depend_on_user_and_seed_alone():
    made = events_of([5] * 4000)
    split, facts = by_groups(made, 0.1, 0.3)
    after = facts["valid_users"] + facts["test_users"]
    assert abs(facts["valid_users"] / after - 0.25) < 5 * (0.25 * 0.75 / after) ** 0.5
    fewer = made.where(made.users < 1000)
    again, _ = by_groups(fewer, 0.1, 0.3)
    both = (split.part[: len(fewer)] > 0) & (again.part > 0)  # the cut in time may lie elsewhere
    assert both.sum() > 1000
    assert np.array_equal(split.part[: len(fewer)][both], again.part[both])
    assert not np.array_equal(split.part, by_groups(made, 0.1, 0.3, seed=2)[0].part)


def test_groups_need_timestamps_and_users_on_both_sides():
    with pytest.raises(DataError, match="temporal-user-groups needs timestamps"):
        by_groups(interactions([(0, 0, 0)], timed=False), 0.1, 0.1)
    with pytest.raises(DataError, match=r"leaves nothing for (valid|test): 20 events of 1 users"):
        by_groups(events_of([20]), 0.1, 0.1)


# what the source states


def test_a_given_split_is_taken_as_it_is_and_says_what_it_leaks():
    made = events_of([4, 3, 2])
    part = np.array([0, 2, 0, 0, 0, 1, 2, 0, 0], np.uint8)
    split, facts = make_split(made, PrepareSettings(split="given"), given_part=part)
    assert split.part.tolist() == part.tolist()
    assert facts["train_after_held_out"] == 2  # the last two of user 0
    assert (split.protocol, "order" in facts) == ("given", False)


@given(events=EVENTS, data=st.data())
def test_training_events_after_held_out_ones_are_counted_as_a_loop_would(events, data):
    made = interactions(events)
    part = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events))), np.uint8)
    assume({0, 2} <= set(part.tolist()))
    want = 0
    for rows in histories(made).values():
        held_out = False
        for row in rows:
            held_out |= part[row] > 0
            want += held_out and part[row] == 0
    split, facts = make_split(made, PrepareSettings(split="given"), given_part=part)
    assert facts["train_after_held_out"] == want
    assert_facts_hold(split, facts)


def test_a_given_split_without_validation_is_allowed_and_said(caplog):
    caplog.set_level(logging.WARNING)
    split, facts = given_split(interactions([(0, 0, 0), (0, 1, 1)], timed=False), np.array([0, 2], np.uint8))
    assert facts == {"train_after_held_out": None, "empty": ["valid"]}
    assert "has no validation part" in caplog.text
    assert len(split.held_out("valid")) == 0


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (None, "states no split of its own"),
        ([0, 1, 0], "has no test events left (2 / 1 / 0)"),
        ([2, 1, 2], "has no train events left"),
    ],
)
def test_a_given_split_without_train_or_test_is_an_error(part, message):
    made = interactions([(0, 0, 0), (0, 1, 1), (1, 0, 0)])
    with pytest.raises(DataError) as error:
        given_split(made, None if part is None else np.array(part, np.uint8))
    assert message in str(error.value)


# all of them


def test_the_order_of_the_file_is_said_where_it_decides(caplog):
    caplog.set_level(logging.INFO)
    made = interactions([(0, item, 0) for item in range(5)] + [(1, 0, 0)], timed=False)
    _, facts = make_split(made, PrepareSettings())
    assert facts == {"users_too_short": 1, "items_without_training": 2, "order": "file"}
    assert "the order of the file stands for the order in time" in caplog.text
    assert "1 user has too few events" in caplog.text
    caplog.clear()
    assert make_split(made, PrepareSettings(split="ratio"))[1]["order"] == "file"
    assert make_split(made, PrepareSettings(order="random"))[1]["order"] == "random"
    assert "the order of the file" not in caplog.text


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"split": "leave-last-n", "held_out": 2},
        {"split": "global-time"},
        {"split": "global-ratio", "min_history": 1},
        {"split": "ratio", "ratio_order": "time"},
        {"split": "temporal-user-groups"},
    ],
)
def test_changing_the_items_of_held_out_events_changes_no_part(wish):
    made = events_of([12] * 30)
    settings = PrepareSettings(**wish)
    split, _ = make_split(made, settings)
    items = made.items.copy()
    items[split.part > 0] = (items[split.part > 0] + 3) % made.n_items
    changed = Interactions(made.users, items, made.n_users, made.n_items, made.timestamps)
    assert np.array_equal(make_split(changed, settings)[0].part, split.part)
