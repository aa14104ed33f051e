"""A synthetic world follows its law: lengths, tail, taste and sequence are what it says they are."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import SettingsError
from rec_core.types import Histories
from rec_data import synthetic
from rec_data.pseudo_words import cluster_words, item_texts, style_words, user_texts, words
from rec_data.synthetic import World, small_world

WORLD = World()
BLOCKS = World(users=30_000, items=2_000, interactions=200_000, min_history=2, history_spread=0.5)  # several blocks
COLUMNS = ("users", "items", "timestamps", "ratings")


def gini(counts) -> float:
    """0 when all items are met equally often, near 1 when one item is all that is met."""
    n, ordered = len(counts), np.sort(counts)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


@pytest.fixture(scope="module")
def dataset():
    return small_world(WORLD)


@pytest.fixture(scope="module")
def test_rows(dataset):
    """Histories and the exact probabilities of what comes next, for the first 400 users."""
    held_out = dataset.split.held_out("test").take(np.arange(400))
    histories = held_out.histories
    chances = np.stack([WORLD.next_item_chances(u, histories.row(u)) for u in range(400)])
    return histories, held_out.items, chances


@pytest.fixture(scope="module")
def all_events():
    return BLOCKS.interactions_of(0, BLOCKS.users)


# What a world is made of


def test_there_are_as_many_interactions_as_asked_for():
    for world in (WORLD, BLOCKS, World(users=7, items=100, interactions=101, min_history=3)):
        events = world.interactions_of(0, world.users)
        assert len(events) == world.interactions
        assert events.user_counts().min() >= world.min_history


def test_histories_are_log_normal_above_the_least():
    world = World(users=50_000, items=20_000, interactions=50_000 * 105, min_history=5, history_spread=1.0)
    free = world.history_lengths() - 5
    assert free.sum() == 50_000 * 100
    assert np.median(free) == pytest.approx(
        100 * np.exp(-0.5), rel=0.02
    )  # of mean 100: median = mean / exp(sigma^2 / 2)
    assert np.log(free[free > 0]).std() == pytest.approx(1.0, rel=0.03)
    assert np.ptp(replace(world, history_spread=0.0).history_lengths()) <= 1


def test_nobody_meets_an_item_twice_and_times_rise(all_events):
    events = all_events
    pairs = events.users * BLOCKS.items + events.items
    assert len(np.unique(pairs)) == len(pairs)
    same_user = np.diff(events.users) == 0
    assert (np.diff(events.timestamps)[same_user] > 0).all()
    first = int(np.datetime64("2015-01-01", "s").astype(np.int64))
    assert first <= events.timestamps.min() <= events.timestamps.max() < first + 3650 * 86_400
    assert set(np.unique(events.ratings * 2)) == set(range(1, 11))  # 0.5, 1, ..., 5


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_any_range_of_users_is_the_same_alone(all_events, data):
    start = data.draw(st.integers(0, BLOCKS.users - 1))
    stop = data.draw(st.integers(start + 1, min(start + 9_000, BLOCKS.users)))
    alone, whole = BLOCKS.interactions_of(start, stop), all_events
    inside = (whole.users >= start) & (whole.users < stop)
    assert all(np.array_equal(getattr(alone, name), getattr(whole, name)[inside]) for name in COLUMNS)
    assert np.array_equal(BLOCKS.history_lengths(start, stop), whole.user_counts()[start:stop])
    assert np.array_equal(BLOCKS.user_groups(start, stop), BLOCKS.user_groups()[start:stop])


def test_equal_seeds_make_equal_worlds_and_other_seeds_other_ones(dataset):
    assert small_world(World()).digest() == dataset.digest()
    assert small_world(replace(WORLD, seed=2)).digest() != dataset.digest()


@pytest.mark.parametrize(
    "extreme",
    [
        {"taste": 0.0, "explore": 1.0, "follow": 0.0, "popularity": 0.0, "rating_noise": 0.0},
        {"clusters": 1, "styles": 1, "dim": 1, "vocabulary": 8},
        {"taste": 50.0, "explore": 0.01, "follow": 0.99, "popularity": 5.0, "interactions": 25_000},
        {"clusters": 50, "styles": 5},
        {"users": 1, "interactions": 250, "min_history": 250},
        {"popularity": 1.0, "seed": 2**63},
    ],
)
def test_extreme_worlds_are_whole_too(extreme):
    world = replace(WORLD, **extreme)
    dataset = small_world(world)
    assert len(dataset.split.interactions) == world.interactions
    history = Histories.of([dataset.split.interactions.histories().row(0)[:-1]], users=[0])
    chances = world.next_item_chances(0, history.row(0))
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= 0
    assert (chances[history.items] == 0).all()


def test_a_user_with_half_of_all_items_is_found_them():
    world = World(users=50, items=400, interactions=10_000, min_history=200, popularity=3.0, taste=20.0, follow=0.0)
    assert (world.interactions_of(0, 50).user_counts() == 200).all()


# The law


@pytest.mark.parametrize("asked", [3.0, 0.3])  # proposals per item: mostly enough at once, or in many rounds
@pytest.mark.parametrize("popularity", [0.5, 3.0])
def test_items_come_as_often_as_the_law_says(popularity, asked, monkeypatch):
    monkeypatch.setattr(synthetic, "ASKED", asked)
    monkeypatch.setattr(synthetic, "SPARE", 0)
    # Everybody is alike and meets three of six items: what came next in 40,000 histories, after each beginning.
    world = World(
        users=40_000, items=6, interactions=120_000, min_history=3, history_spread=0.0,
        clusters=1, styles=2, explore=1.0, follow=0.4, popularity=popularity,
    )  # fmt: skip
    histories = world.interactions_of(0, world.users).items.reshape(-1, 3)
    deviations = []
    for known in range(3):
        for beginning in np.unique(histories[:, :known], axis=0):
            after = histories[(histories[:, :known] == beginning).all(axis=1), known]
            expected = len(after) * world.next_item_chances(0, beginning)
            likely = expected > 10
            found = np.bincount(after, minlength=6)[likely]
            deviations.append((found - expected[likely]) / np.sqrt(expected[likely]))
    deviations = np.concatenate(deviations)
    assert np.abs(deviations).max() < 4.5
    assert (deviations**2).mean() < 1.3  # a little below 1, as the counts of one beginning are bound to their sum


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_next_item_chances_solve_the_chain(data):
    """The plain twin: a Markov chain over all items that stops at the first new one, as linear equations."""
    world = World(
        users=20,
        items=data.draw(st.integers(12, 16)),
        interactions=100,
        clusters=data.draw(st.integers(1, 3)),
        styles=data.draw(st.integers(1, 2)),
        follow=data.draw(st.sampled_from([0.0, 0.3, 0.9])),
        history_spread=0.0,
        seed=data.draw(st.integers(0, 99)),
    )
    history = data.draw(st.lists(st.integers(0, world.items - 1), unique=True, max_size=11))
    base = np.exp(world.scores([3])[0])
    assert base.sum() == pytest.approx(1)
    following = np.zeros((world.items, world.items))  # [s, i]: i is the successor of s
    groups = [[item for item in world.item_at if world.item_groups[item] == g] for g in range(world.n_groups)]
    for ring in groups:  # in the order of their ranks
        for rank, item in enumerate(ring):
            following[item, ring[(rank + 1) % len(ring)]] = 1
    steps = world.follow * following + (1 - world.follow) * base
    old = np.isin(np.arange(world.items), history)
    # chances[s, i] = steps[s, i] (i new) + sum over old r of steps[s, r] chances[r, i]
    through_old = np.linalg.inv(np.eye(world.items) - steps * old)
    chances = through_old @ (steps * ~old)
    start = base * ~old + (base * old) @ chances if not history else chances[history[-1]]
    assert world.next_item_chances(3, history) == pytest.approx(start, abs=1e-12)


def test_scores_are_the_logarithms_of_the_first_draw():
    users = [5, 700, 5]
    scores = WORLD.scores(users)
    for row, user in enumerate(users):
        assert np.exp(scores[row]) == pytest.approx(WORLD.next_item_chances(user, []))
    assert np.array_equal(WORLD.scores(users, [7, 3]), scores[:, [7, 3]])


def test_the_best_ranking_hits_as_often_as_it_promises(test_rows):
    histories, targets, chances = test_rows
    best = WORLD.best_ranking(histories, 10)
    for k in (1, 10):
        promised = np.take_along_axis(chances, best.items[:, :k], axis=1).sum(axis=1)  # probability of a hit, per user
        hits = (best.items[:, :k] == targets[:, None]).any(axis=1)
        error = np.sqrt((promised * (1 - promised)).sum())
        assert abs(hits.sum() - promised.sum()) < 4 * error
    assert (np.diff(best.scores, axis=1) <= 0).all()
    assert not any(np.isin(best.items[row], histories.row(row)).any() for row in range(len(histories)))


def test_the_best_ranking_beats_taste_alone_and_popularity_by_far(dataset, test_rows):
    histories, targets, chances = test_rows
    counts = dataset.split.for_training().interactions.item_counts().astype(float)
    taste = np.exp(WORLD.scores(histories.users))
    found = {}
    for name, scores in {"best": chances, "taste": taste, "popular": np.tile(counts, (400, 1))}.items():
        scores = scores.copy()
        for row in range(400):
            scores[row, histories.row(row)] = -1
        place = (scores > scores[np.arange(400), targets][:, None]).sum(axis=1)
        found[name] = np.where(place < 10, 1 / np.log2(place + 2), 0).mean()
    assert found["best"] > 1.5 * found["taste"] > 3 * found["popular"], found


def test_clusters_are_found_again_from_histories_alone(dataset):
    events = dataset.split.interactions
    met = np.zeros((WORLD.users, WORLD.clusters))
    np.add.at(met, (events.users, WORLD.item_clusters[events.items]), 1)
    right = met.argmax(axis=1) == WORLD.user_groups() // WORLD.styles
    assert right.mean() > 0.9  # chance: 1 / 8


@pytest.mark.parametrize(
    ("popularity", "least", "most"), [(0, 0.2, 0.4), (1, 0.58, 0.68), (1.5, 0.77, 0.87), (2, 0.88, 0.95)]
)
def test_the_tail_is_as_long_as_the_exponent_says(popularity, least, most):
    world = World(users=5_000, items=5_000, interactions=200_000, popularity=popularity)
    assert least < gini(world.interactions_of(0, world.users).item_counts()) < most


def test_ratings_tell_taste():
    events = WORLD.interactions_of(0, WORLD.users)
    own = WORLD.item_clusters[events.items] == (WORLD.user_groups() // WORLD.styles)[events.users]
    assert events.ratings[own].mean() > events.ratings[~own].mean() + 0.5


# Texts


def test_words_are_all_different():
    for vocabulary in (60, 4_900, 4_901, 20_000):
        language = words(replace(WORLD, vocabulary=vocabulary))
        assert len(set(language)) == len(language) == vocabulary
    assert words(WORLD) != words(replace(WORLD, seed=2))


def test_text_alone_tells_the_cluster():
    """Nearest class by smoothed word frequencies (naive Bayes), learned on one half of the items."""
    world = replace(WORLD, items=2_000)
    position = {word: i for i, word in enumerate(words(world))}
    texts = item_texts(world)
    for field, least in (("title", 0.75), ("description", 0.9)):
        seen = np.zeros((world.items, world.vocabulary))
        for item, text in enumerate(texts[field]):
            for word in re.findall(r"\w+", text.lower()):
                seen[item, position[word]] += 1
        half = np.arange(world.items) < 1_000
        rates = np.stack([seen[half & (world.item_clusters == c)].sum(axis=0) + 0.1 for c in range(world.clusters)])
        logs = np.log(rates / rates.sum(axis=1, keepdims=True))
        right = (seen[~half] @ logs.T).argmax(axis=1) == world.item_clusters[~half]
        assert right.mean() > least, field  # chance: 1 / 8


def test_words_belong_to_one_cluster_or_style():
    owned = [cluster_words(WORLD, c) for c in range(8)] + [style_words(WORLD, s) for s in range(3)]
    ends = [(words.start, words.stop) for words in owned]
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert ends[-1][1] < WORLD.vocabulary
    language = words(WORLD)
    for item, title in enumerate(item_texts(WORLD)["title"]):
        said = {language.index(word) for word in title.lower().split()}
        assert len(said & set(cluster_words(WORLD, WORLD.item_clusters[item]))) == 1
        assert len(said & set(style_words(WORLD, WORLD.item_groups[item] % 3))) == 1


def test_interests_tell_the_cluster_of_nine_users_of_ten():
    language = words(WORLD)
    texts = user_texts(WORLD)
    cluster = WORLD.user_groups() // WORLD.styles
    right = [
        language.index(word) in cluster_words(WORLD, c) for word, c in zip(texts["interest"], cluster, strict=True)
    ]
    assert np.mean(right) == pytest.approx(0.9 + 0.1 / 8, abs=0.03)
    assert {"interest", "age", "town"} == set(texts)
    assert all(18 <= int(age) < 82 for age in texts["age"])


@settings(deadline=None, max_examples=20)
@given(start=st.integers(0, 499), n=st.integers(1, 500))
def test_texts_of_any_range_are_the_same_alone(start, n):
    for made, size in ((item_texts, WORLD.items), (user_texts, WORLD.users)):
        stop = min(start + n, size)
        assert made(WORLD, start, stop) == {name: texts[start:stop] for name, texts in made(WORLD).items()}


# Bad settings


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"users": 0}, "--users lies between 1 and"),
        ({"follow": 1.0}, "--follow lies between 0 and 0.99; got 1"),
        ({"explore": 0.0}, "--explore lies between 0.01 and 1; got 0"),
        ({"taste": float("nan")}, "--taste lies between 0 and 50; got nan"),
        ({"popularity": -1.0}, "--popularity lies between 0 and 5"),
        ({"seed": -1}, "--seed lies between 0 and"),
        ({"items": 40}, "--items is at least twice the 24 groups"),
        ({"vocabulary": 43}, "44; got 43"),
        ({"interactions": 4_999}, "have 5,000 interactions or more; --interactions is 4,999"),
        ({"history_spread": 2.0}, "different items, more than half of 500"),
        ({"users": 2, "items": 400_000, "interactions": 100_000, "days": 1}, "1 --days are too short"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(SettingsError) as refused:
        replace(WORLD, **wrong)
    assert said in str(refused.value)


def test_users_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="lie in 0:1000; got 990:1001"):
        WORLD.interactions_of(990, 1_001)
