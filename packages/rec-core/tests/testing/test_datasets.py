"""The planted data sets hold what their docstrings say, and the strategies what they promise."""

import numpy as np
import pytest
from hypothesis import given

from rec_core.testing import checkerboard, planted_clusters, with_other_test_items
from rec_core.testing.strategies import histories, interactions, splits
from rec_core.types import Dataset, Split


def next_item_accuracy(split: Split) -> tuple[float, float]:
    """Share of test items named by the most frequent follower of the last item, and by the most popular item."""
    train, held_out = split.train, split.held_out("test")
    follows = np.zeros((split.n_items, split.n_items))
    pairs = train.users[1:] == train.users[:-1]
    np.add.at(follows, (train.items[:-1][pairs], train.items[1:][pairs]), 1)
    last = np.array([held_out.histories.row(r)[-1] for r in range(len(held_out))])
    by_sequence = (follows[last].argmax(axis=1) == held_out.items).mean()
    by_popularity = (train.item_counts().argmax() == held_out.items).mean()
    return float(by_sequence), float(by_popularity)


@pytest.mark.parametrize("make", [checkerboard, planted_clusters])
def test_equal_seeds_give_equal_data_sets_and_other_seeds_others(make):
    assert make(seed=3).digest() == make(seed=3).digest() != make(seed=4).digest()


@pytest.mark.parametrize("dataset", [checkerboard(), planted_clusters()], ids=lambda d: d.name)
def test_every_user_has_one_valid_and_one_test_event_after_training_ones(dataset: Dataset):
    for part in ("valid", "test"):
        held_out = dataset.split.held_out(part)
        assert held_out.single
        assert len(held_out) == dataset.split.n_users
        assert not held_out.skipped


@pytest.mark.parametrize("dataset", [checkerboard(), planted_clusters()], ids=lambda d: d.name)
def test_nobody_meets_an_item_twice(dataset: Dataset):
    events = dataset.split.interactions
    assert len(np.unique(events.users * events.n_items + events.items)) == len(events)


def test_on_the_checkerboard_users_meet_items_of_their_parity_alone():
    events = checkerboard().split.interactions
    assert ((events.users + events.items) % 2 == 0).all()


def test_co_occurrence_ranks_unseen_items_of_the_same_parity_first_on_the_checkerboard():
    split = checkerboard().split
    seen = np.zeros((split.n_users, split.n_items))
    seen[split.train.users, split.train.items] = 1
    scores = np.where(seen > 0, -np.inf, seen @ (seen.T @ seen))
    n_unseen_liked = split.n_items // 2 - int(seen[0].sum())
    best = np.argsort(-scores, axis=1)[:, :n_unseen_liked]
    assert ((best + np.arange(split.n_users)[:, None]) % 2 == 0).all()


def test_a_sequence_model_beats_popularity_on_planted_clusters():
    by_sequence, by_popularity = next_item_accuracy(planted_clusters(n_users=200).split)
    assert by_sequence > 0.5 > 0.1 > by_popularity


def test_users_of_planted_clusters_stay_in_theirs_and_titles_name_it():
    dataset = planted_clusters(n_users=10, n_items=40, n_clusters=4)
    events = dataset.split.interactions
    assert (events.items // 10 == events.users % 4).all()
    assert dataset.items.title(0) == "Amber 0 (1980)"
    assert len(set(dataset.items.fields["title"])) == 40


@pytest.mark.parametrize("events", [(2, 5), (5, 10), (6, 5)])
def test_walks_that_do_not_fit_a_cluster_are_refused(events):
    with pytest.raises(ValueError, match=r"must lie in 3\.\.9"):
        planted_clusters(events=events)


def test_a_checkerboard_user_cannot_meet_more_than_half_of_the_items():
    with pytest.raises(ValueError, match=r"per_user lies in 3\.\.10"):
        checkerboard(n_items=20, per_user=11)


def test_other_test_items_differ_in_every_test_row_and_nowhere_else():
    split = planted_clusters().split
    other = with_other_test_items(split)
    differs = split.interactions.items != other.interactions.items
    assert np.array_equal(differs, split.part == 2)


@given(histories(n_items=3, n_users=2))
def test_drawn_histories_stay_within_their_universes(drawn):
    assert drawn.items.max(initial=0) < 3
    assert ((drawn.users >= 0) & (drawn.users < 2)).all()


@given(interactions(timestamps=True))
def test_drawn_interactions_have_timestamps_when_asked(drawn):
    assert drawn.timestamps is not None


@given(splits(in_order=True))
def test_parts_of_a_split_in_order_never_fall_within_a_user(drawn):
    users, part = drawn.interactions.users, drawn.part.astype(int)
    assert (np.diff(part)[np.diff(users) == 0] >= 0).all()
