"""Popular, ItemKNN and EASE against golden values and plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, SettingsError
from rec_core.types import Histories, Interactions
from rec_srs import EASESettings, ItemKNNSettings, fit_ease, fit_item_knn, fit_popular, item_knn


def interactions_of(rows: list[list[int]], n_items: int) -> Interactions:
    users = [u for u, row in enumerate(rows) for _ in row]
    return Interactions.sorted(users, [i for row in rows for i in row], n_users=len(rows), n_items=n_items)


def test_popular_scores_an_item_by_its_training_interactions_whatever_the_history() -> None:
    model = fit_popular(interactions_of([[0, 1], [1, 2], [1]], n_items=4))
    scores = model.score_all(Histories.of([[3], [0, 1]]))
    assert scores.tolist() == [[1, 3, 1, 0], [1, 3, 1, 0]]


def test_ease_of_two_users_is_the_closed_form_computed_by_hand() -> None:
    # X = [[1,1,0],[0,1,1]], λ = 1: G + λI = [[2,1,0],[1,3,1],[0,1,2]], P its inverse, B_ij = -P_ij / P_jj
    model = fit_ease(interactions_of([[0, 1], [1, 2]], n_items=3), EASESettings(l2=1.0))
    np.testing.assert_allclose(model.weights, [[0, 0.5, -0.2], [0.4, 0, 0.4], [-0.2, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(model.score_all(Histories.of([[0]])), [[0, 0.5, -0.2]], atol=1e-6)


def test_a_repeated_event_counts_once_for_ease_and_item_knn() -> None:
    once, twice = interactions_of([[0, 1], [1, 2]], 3), interactions_of([[0, 1, 1, 0], [1, 2, 2]], 3)
    np.testing.assert_array_equal(fit_ease(once).weights, fit_ease(twice).weights)
    np.testing.assert_array_equal(fit_item_knn(once).similarity.toarray(), fit_item_knn(twice).similarity.toarray())
    model = fit_ease(once)
    np.testing.assert_array_equal(model.score_all(Histories.of([[0]])), model.score_all(Histories.of([[0, 0]])))


def test_ease_refuses_a_catalogue_beyond_its_memory_limit_and_names_the_size() -> None:
    train = Interactions.sorted([0, 0], [0, 1], n_users=1, n_items=12_000)
    with pytest.raises(SettingsError, match=r"12,000 x 12,000 items: 2\.1 GiB, more than the limit of 1 GiB"):
        fit_ease(train, EASESettings(memory_limit_gib=1.0))


@pytest.mark.parametrize("fit", [fit_ease, fit_item_knn])
def test_an_empty_training_part_is_an_error(fit: object) -> None:
    with pytest.raises(DataError, match="training part is empty"):
        fit(Interactions.sorted([], [], n_users=2, n_items=3))  # type: ignore[operator]


def plain_item_knn(rows: list[list[int]], n_items: int, neighbors: int, shrink: float) -> np.ndarray:
    """s_ij = shared users / (|x_i||x_j| + shrink), zero diagonal, the best of each column; loops in float64."""
    users = [set(row) for row in rows]
    similarity = np.zeros((n_items, n_items))
    for i in range(n_items):
        for j in range(n_items):
            both = sum(i in u and j in u for u in users)
            norm = (sum(i in u for u in users) * sum(j in u for u in users)) ** 0.5 + shrink
            similarity[i, j] = both / norm if i != j and norm > 0 else 0.0
    for j in range(n_items):
        for i in sorted(range(n_items), key=lambda i: (-similarity[i, j], i))[neighbors:]:
            similarity[i, j] = 0.0
    return similarity


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=6), min_size=1, max_size=8),
    neighbors=st.integers(1, 9),
    shrink=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_item_knn_equals_its_plain_twin(rows: list[list[int]], neighbors: int, shrink: float) -> None:
    model = fit_item_knn(interactions_of(rows, 8), ItemKNNSettings(neighbors=neighbors, shrink=shrink))
    expected = plain_item_knn(rows, 8, neighbors, shrink)
    # ties at the cut may be told apart by float32 rounding: compare what is kept by value, column by column
    np.testing.assert_allclose(
        np.sort(model.similarity.toarray(), axis=0), np.sort(expected, axis=0), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("width", [1, 7, 49])
def test_item_knn_in_blocks_of_columns_is_the_same(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train = interactions_of([rng.choice(50, 8, replace=False).tolist() for _ in range(300)], 50)
    whole = fit_item_knn(train, ItemKNNSettings(neighbors=10)).similarity.toarray()
    monkeypatch.setattr(item_knn, "_BLOCK_BYTES", width * 50 * 4 * 6)
    np.testing.assert_array_equal(fit_item_knn(train, ItemKNNSettings(neighbors=10)).similarity.toarray(), whole)
    assert ((whole > 0).sum(axis=0) == 10).all()


@pytest.mark.parametrize("weighting", ["idf", "bm25"])
def test_weighting_lets_a_user_who_met_everything_say_less(weighting: str) -> None:
    # items 0 and 1 are shared by a focused user, items 0 and 2 by one who met all ten items
    rows = [[0, 1], list(range(10)), [3], [4]]
    plain = fit_item_knn(interactions_of(rows, 10), ItemKNNSettings(shrink=0)).similarity.toarray()
    weighted = fit_item_knn(interactions_of(rows, 10), ItemKNNSettings(shrink=0, weighting=weighting)).similarity  # type: ignore[arg-type]
    weighted = weighted.toarray()
    assert weighted[1, 0] / weighted[2, 0] > plain[1, 0] / plain[2, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EASESettings(l2=0), "l2 must be above 0"),
        (lambda: ItemKNNSettings(neighbors=0), "neighbors must be at least 1"),
        (lambda: ItemKNNSettings(shrink=-1), "shrink must be at least 0"),
        (lambda: ItemKNNSettings(weighting="tfidf"), "weighting is none, idf or bm25; got 'tfidf'"),  # type: ignore[arg-type]
    ],
)
def test_settings_outside_their_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()  # type: ignore[operator]
