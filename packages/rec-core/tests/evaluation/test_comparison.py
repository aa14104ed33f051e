"""Runs against a baseline: the numbers, the correction, and what must not be compared."""

from dataclasses import replace

import numpy as np
import pytest

from rec_core.errors import DataError, SettingsError
from rec_core.evaluation import Evaluation, compare, holm, paired_bootstrap, permutation_test

RNG = np.random.default_rng(0)
BASE = RNG.random(60)
RUNS = {"base": BASE, "same": BASE.copy(), "better": BASE + 0.2 + RNG.normal(0, 0.1, 60)}


def evaluation(values, **changes):
    made = Evaluation(
        users=np.arange(len(values)),
        per_user={"ndcg@10": np.asarray(values), "hr@10": np.round(values)},
        groups={"tail": np.arange(len(values)) % 2 == 0},
        test_hash="a" * 64,
    )
    return replace(made, **changes)


def test_rows_hold_means_differences_intervals_and_corrected_p():
    rows = compare(RUNS, "base", "ndcg@10")
    assert [row.run for row in rows] == ["same", "better"]
    same, better = rows
    assert (same.difference, same.p, same.p_holm) == (0, 1, 1)
    differences = RUNS["better"] - BASE
    interval = paired_bootstrap(differences)
    assert (better.difference, better.low, better.high) == (interval.mean, interval.low, interval.high)
    assert better.mean - better.baseline_mean == pytest.approx(better.difference)
    assert better.p == permutation_test(differences)
    assert [row.p_holm for row in rows] == pytest.approx(holm([row.p for row in rows]))
    assert better.users == 60
    assert better.difference > better.mde > 0


def test_the_correction_runs_over_all_rows_of_the_call():
    runs = {name: evaluation(values) for name, values in RUNS.items()}
    rows = compare(runs, "base", ["ndcg@10", "hr@10", "ndcg@10/tail"])
    assert [row.metric for row in rows[::2]] == ["ndcg@10", "hr@10", "ndcg@10/tail"]
    assert [row.p_holm for row in rows] == pytest.approx(holm([row.p for row in rows]))
    assert rows[5].users == 30


def test_users_without_a_value_in_either_run_are_left_out():
    hollow = BASE.copy()
    hollow[:10] = np.nan
    (row,) = compare({"base": BASE, "hollow": hollow}, "base", "auc")
    assert (row.users, row.difference) == (50, 0)
    with pytest.raises(DataError, match="defined for no user"):
        compare({"base": BASE, "hollow": np.full(60, np.nan)}, "base", "auc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_hash": "b" * 64}, "another test set"),
        ({"candidate_hash": "c" * 64}, "other candidates than 'base' .cccccccc, full ranking"),
        ({"protocol": "seen kept"}, "two protocols"),
        ({"users": np.arange(60) + 1}, "same --max-users and seed"),
    ],
)
def test_what_was_measured_differently_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        compare({"base": evaluation(BASE), "other": evaluation(BASE, **changes)}, "base", "ndcg@10")


def test_unknown_runs_and_metrics_offer_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'better'"):
        compare(RUNS, "beter", "ndcg@10")
    with pytest.raises(SettingsError, match=r"did you mean 'ndcg@10'"):
        compare({"base": evaluation(BASE), "other": evaluation(BASE)}, "base", "ndcg@11")


def test_vectors_of_different_lengths_and_kinds_are_refused():
    with pytest.raises(DataError, match="values of 59 users"):
        compare({"base": BASE, "short": BASE[1:]}, "base", "x")
    with pytest.raises(DataError, match="vectors with vectors"):
        compare({"base": BASE, "other": evaluation(BASE)}, "base", "ndcg@10")
