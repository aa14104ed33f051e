"""Every metric against the sum written out, a slow twin, and brute force over the orders of tied items."""

from itertools import permutations
from math import log, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.evaluation import Hits, Ranks
from rec_core.evaluation.metrics import (
    AT_K,
    auc,
    auc_of_labels,
    average_precision,
    coverage,
    hit_rate,
    hit_ratio_micro,
    log_loss,
    log_popularity,
    mrr,
    ndcg,
    popularity_bias,
    popularity_percentile,
    precision,
    recall,
)
from rec_core.types import Candidates, Rankings


def ranks_of(better, tied, competitors):
    return Ranks(*(np.atleast_1d(np.asarray(values, np.int64)) for values in (better, tied, competitors)))


def rankings(items):
    items = np.asarray(items, np.int64)
    scores = np.where(items < 0, -np.inf, -np.arange(items.shape[1], dtype=np.float32)).astype(np.float32)
    return Rankings(np.arange(len(items)), items, scores)


def test_ndcg_with_two_relevant_items_at_ranks_1_and_3():
    gained = 1 / log2(1 + 1) + 1 / log2(3 + 1)
    ideal = 1 / log2(1 + 1) + 1 / log2(2 + 1)
    assert ndcg(Hits.of([[7, 1, 9]], [{7, 9}]), k=3) == pytest.approx([gained / ideal])  # 0.9197


def test_ndcg_is_1_when_more_items_are_relevant_than_the_list_is_long_and_all_places_hit():
    assert ndcg(Hits.of([[1, 2]], [{1, 2, 3}]), k=2) == pytest.approx([1.0])


def test_mrr_looks_at_the_first_hit_only():
    assert mrr(Hits.of([[5, 7, 9], [1, 2, 3]], [{7, 9}, {8}]), k=3) == pytest.approx([1 / 2, 0])


def test_recall_divides_by_the_relevant_items_and_precision_by_k():
    hits = Hits.of([[7, 1, 9, 2]], [{7, 9, 5}])
    assert recall(hits, k=4) == pytest.approx([2 / 3])
    assert precision(hits, k=4) == pytest.approx([2 / 4])
    assert recall(hits, k=2) == pytest.approx([1 / 3])
    assert precision(hits, k=2) == pytest.approx([1 / 2])


def test_precision_of_a_list_that_is_not_full_still_divides_by_k():
    assert precision(Hits.of([[7, -1, -1, -1]], [{7}]), k=4) == pytest.approx([1 / 4])


def test_average_precision_divides_by_all_relevant_items():
    at_first, at_third = 1 / 1, 2 / 3
    assert average_precision(Hits.of([[7, 1, 9]], [{7, 9, 4}]), k=3) == pytest.approx([(at_first + at_third + 0) / 3])


def test_hit_rate_is_1_with_any_hit():
    assert hit_rate(Hits.of([[7, 9], [1, 2], [3, 4]], [{7, 9}, {2}, {8}]), k=2) == pytest.approx([1, 1, 0])


def test_hit_ratio_micro_weighs_users_by_their_items():
    hits = Hits.of([[1], [9]], [{1}, {2, 3, 4}])  # A finds 1 of 1, B 0 of 3
    assert hit_ratio_micro(hits, k=1) == pytest.approx((1 + 0) / (1 + 3))
    assert recall(hits, k=1).mean() == pytest.approx((1 / 1 + 0 / 3) / 2)
    assert hit_rate(hits, k=1).mean() == pytest.approx((1 + 0) / 2)


def test_rows_without_a_relevant_item_are_nan():
    hits = Hits.of([[1, 2], [1, 2]], [{1}, set()])
    for metric in AT_K.values():
        assert np.isnan(metric(hits, 2)).tolist() == [False, True]


def test_a_relevant_item_named_twice_counts_once():
    assert recall(Hits.of([[4, 5]], [[4, 4]]), k=1) == pytest.approx([1.0])


def test_a_list_that_names_an_item_twice_is_refused():
    with pytest.raises(DataError, match="list of row 1 holds item 4 twice"):
        Hits.of([[1, 2, 3], [4, 5, 4]], [{1}, {4}])


def test_a_metric_at_more_places_than_the_list_has_is_refused():
    with pytest.raises(ValueError, match="these have 2"):
        ndcg(Hits.of([[1, 2]], [{1}]), k=3)


def test_ranks_without_ties_give_the_value_of_the_place():
    at = ranks_of([0, 2, 9], [0, 0, 0], [99, 99, 99])
    assert ndcg(at, k=5) == pytest.approx([1, 1 / log2(3 + 1), 0])
    assert mrr(at, k=5) == pytest.approx([1, 1 / 3, 0])
    assert precision(at, k=5) == pytest.approx([1 / 5, 1 / 5, 0])
    for metric in (hit_rate, recall):
        assert metric(at, k=5) == pytest.approx([1, 1, 0])
    assert average_precision(at, k=5) == pytest.approx(mrr(at, k=5))


def test_ties_at_the_border_count_by_the_share_of_their_places_within_k():
    at = ranks_of(better=3, tied=3, competitors=50)  # places 4, 5, 6 and 7 of which 4 and 5 lie within 5
    assert hit_rate(at, k=5) == pytest.approx([2 / 4])
    assert ndcg(at, k=5) == pytest.approx([(1 / log2(4 + 1) + 1 / log2(5 + 1)) / 4])
    assert mrr(at, k=5) == pytest.approx([(1 / 4 + 1 / 5) / 4])
    assert precision(at, k=5) == pytest.approx([2 / 4 / 5])


@given(better=st.integers(0, 4), tied=st.integers(0, 4), behind=st.integers(0, 3), k=st.integers(1, 9))
def test_ties_are_the_mean_over_all_orders_of_the_tied_block(better, tied, behind, k):
    ahead, block = [f"a{i}" for i in range(better)], [f"t{i}" for i in range(tied)]
    last = [f"z{i}" for i in range(max(behind, k - better - tied - 1))]  # lists must be k long
    names = {name: i for i, name in enumerate([*ahead, *block, *last, "target"])}
    orders = [[*ahead, *order, *last] for order in permutations(["target", *block])]
    hits = Hits.of([[names[name] for name in order] for order in orders], [{names["target"]}] * len(orders))
    at = ranks_of(better, tied, better + tied + len(last))
    for name, metric in AT_K.items():
        assert metric(at, k) == pytest.approx([metric(hits, k).mean()], abs=1e-12), name


@given(competitors=st.integers(0, 60), k=st.integers(1, 60))
def test_a_constant_model_scores_exactly_like_random_order(competitors, k):
    places = np.arange(1, competitors + 2)
    constant = ranks_of(0, competitors, competitors)
    gain = np.where(places <= k, 1 / np.log2(places + 1), 0)
    assert hit_rate(constant, k) == pytest.approx([min(k, competitors + 1) / (competitors + 1)])
    assert ndcg(constant, k) == pytest.approx([gain.mean()])
    assert auc(constant) == pytest.approx([0.5] if competitors else [np.nan], nan_ok=True)


def test_a_target_that_is_not_ranked_at_all_gains_nothing_even_beyond_the_catalogue():
    at = ranks_of(better=5, tied=0, competitors=4)
    for metric in AT_K.values():
        assert metric(at, 10) == pytest.approx([0])
    assert auc(at) == pytest.approx([0])


def test_auc_from_ranks_counts_ties_half():
    assert auc(ranks_of([0, 2, 4], [0, 1, 0], [4, 4, 4])) == pytest.approx([1, (1 + 0.5) / 4, 0])


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_every_list_metric_equals_a_plain_loop(rows, depth, seed):
    rng = np.random.default_rng(seed)
    lists = np.array([rng.permutation(12)[:depth] for _ in range(rows)])
    lists[rng.random(lists.shape) < 0.1] = -1
    relevant = [set(rng.choice(12, rng.integers(1, 7), replace=False).tolist()) for _ in range(rows)]
    hits = Hits.of(lists, relevant)
    for k in range(1, depth + 1):
        for row, (ranked, wanted) in enumerate(zip(lists.tolist(), relevant, strict=True)):
            for name, metric in AT_K.items():
                assert metric(hits, k)[row] == pytest.approx(PLAIN[name](ranked[:k], wanted, k)), name


PLAIN = {
    "hr": lambda ranked, wanted, k: float(any(item in wanted for item in ranked)),
    "precision": lambda ranked, wanted, k: sum(item in wanted for item in ranked) / k,
    "recall": lambda ranked, wanted, k: sum(item in wanted for item in ranked) / len(wanted),
    "mrr": lambda ranked, wanted, k: next((1 / r for r, item in enumerate(ranked, 1) if item in wanted), 0.0),
    "ndcg": lambda ranked, wanted, k: (
        sum(1 / log2(r + 1) for r, item in enumerate(ranked, 1) if item in wanted)
        / sum(1 / log2(r + 1) for r in range(1, min(k, len(wanted)) + 1))
    ),
    "map": lambda ranked, wanted, k: (
        sum(sum(i in wanted for i in ranked[:r]) / r for r, item in enumerate(ranked, 1) if item in wanted)
        / len(wanted)
    ),
}


def test_auc_of_labels_is_the_share_of_pairs_in_the_right_order():
    scores = np.array([0.9, 0.8, 0.8, 0.1], np.float32)
    labels = np.array([True, True, False, False])
    won = (1 + 1) + (0.5 + 1)  # 0.9 beats both, 0.8 ties one and beats one
    assert auc_of_labels(scores, labels) == pytest.approx([won / 4])


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8), min_size=1, max_size=4))
def test_auc_of_labels_equals_a_loop_over_pairs_row_by_row(rows):
    scores = np.array([score for row in rows for score, _ in row], np.float32)
    labels = np.array([label for row in rows for _, label in row], np.bool_)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    expected = []
    for row in rows:
        pairs = [(p > n) + (p == n) / 2 for p, is_p in row if is_p for n, is_n in row if not is_n]
        expected.append(np.mean(pairs) if pairs else np.nan)
    assert auc_of_labels(scores, labels, offsets) == pytest.approx(expected, nan_ok=True)


def test_log_loss_is_the_mean_surprise_of_the_row():
    probabilities, labels = np.array([0.8, 0.4, 0.5], np.float32), np.array([True, False, True])
    assert log_loss(probabilities, labels, np.array([0, 2, 3])) == pytest.approx(
        [-(log(0.8) + log(1 - 0.4)) / 2, -log(0.5)], rel=1e-6
    )


def test_log_loss_of_a_certain_mistake_is_finite():
    assert log_loss(np.array([0.0], np.float32), np.array([True])) == pytest.approx([-log(1e-7)])


def test_log_loss_refuses_scores_that_are_no_probabilities():
    with pytest.raises(DataError, match=r"needs probabilities between 0 and 1; position 1 holds 3\.5"):
        log_loss(np.array([0.5, 3.5], np.float32), np.array([True, False]))


def test_labels_must_be_bool_and_aligned():
    with pytest.raises(DataError, match="bool labels"):
        auc_of_labels(np.zeros(2, np.float32), np.array([1, 0]))
    with pytest.raises(DataError, match="position 1 is NaN"):
        auc_of_labels(np.array([0, np.nan], np.float32), np.array([True, False]))


def test_coverage_counts_different_items_over_all_rows():
    assert coverage(rankings([[0, 1, 5], [1, 2, -1]]), n_items=10, k=2) == pytest.approx(len({0, 1, 2}) / 10)


def test_popularity_percentile_is_the_share_of_less_popular_items_and_half_of_the_ties():
    counts = np.array([0, 5, 5, 9])
    assert popularity_percentile(counts) == pytest.approx([0.5 / 4, (1 + 1) / 4, (1 + 1) / 4, 3.5 / 4])
    assert popularity_percentile(counts).mean() == pytest.approx(0.5)


def test_popularity_bias_is_the_mean_over_the_filled_places():
    lists = rankings([[3, 0], [1, -1], [-1, -1]])
    assert popularity_bias(lists, np.array([0.1, 0.2, 0.3, 0.9]), k=2) == pytest.approx([0.5, 0.2, np.nan], nan_ok=True)
    assert log_popularity(np.array([0, 9])) == pytest.approx([0, log(10)])


def test_relevant_items_may_come_as_candidates():
    assert recall(Hits.of(rankings([[1, 2]]), Candidates.of([[2, 3]])), k=2) == pytest.approx([1 / 2])
