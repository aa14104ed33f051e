"""Paired tests against enumeration, against textbook approximations, and on data where the truth is known."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.evaluation import holm, minimum_detectable_effect, paired_bootstrap, permutation_test


def test_the_permutation_test_of_few_users_counts_every_pattern_of_signs():
    differences = [0.5, 0.2, -0.1]
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((-1, 1), repeat=3)]
    assert permutation_test(differences) == sum(s >= 0.6 - 1e-12 for s in sums) / 8  # 0.8, 0.6, -0.6, -0.8: 4 of 8
    assert permutation_test(differences) == 4 / 8


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.1, 0.3, 1.0]), min_size=1, max_size=9))
def test_the_permutation_test_equals_exact_enumeration(differences):
    values = np.array(differences)
    sums = np.array([abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=len(values))])
    assert permutation_test(values) == pytest.approx((sums >= abs(values.sum()) - 1e-9).mean())


def test_random_signs_agree_with_exact_enumeration():
    rng = np.random.default_rng(0)
    patterns = 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1) - 1
    for differences in (rng.normal(0.25, 1, 18), rng.choice([-0.5, 0.5, 1.0], 18)):
        exact = (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean()
        assert permutation_test(differences, draws=40_000) == pytest.approx(exact, abs=0.01)


def test_the_permutation_test_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, 200)
    theirs = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=9_999, rng=rng
    )
    assert permutation_test(differences) == pytest.approx(theirs.pvalue, abs=0.02)
    assert permutation_test(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_users_without_a_difference_change_nothing():
    differences = np.array([0.5, 0.2, -0.1])
    assert permutation_test(np.append(differences, np.zeros(1_000))) == permutation_test(differences)
    assert permutation_test(np.zeros(9)) == 1.0


def test_p_is_never_zero_and_small_for_a_sure_difference():
    assert permutation_test(np.full(500, 0.1), draws=999) == pytest.approx(1 / 1_000)


def test_p_is_spread_evenly_where_there_is_no_difference():
    rng = np.random.default_rng(2)
    p = [permutation_test(rng.normal(0, 1, 60), draws=400, seed=i) for i in range(300)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)


def test_the_bootstrap_agrees_with_scipy_and_with_the_normal_interval():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    for differences in (rng.normal(0.2, 1, 400), rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.6, 0.3])):
        ours = paired_bootstrap(differences)
        theirs = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=9_999, rng=rng)
        spread = differences.std() / sqrt(400)
        near = 0.08 * spread + 1 / 400  # means of whole numbers come in steps of 1/400
        assert ours.mean == pytest.approx(differences.mean())
        assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=near)
        assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=near)
        assert (ours.high - ours.low) / 2 == pytest.approx(1.96 * spread, rel=0.05)


def test_drawing_equal_values_together_gives_the_same_interval_as_drawing_user_by_user():
    rng = np.random.default_rng(4)
    few = rng.choice([0.0, 0.5, 1.0], 800)
    apart = few + np.linspace(0, 1e-9, 800)  # all different: drawn user by user
    one, other = paired_bootstrap(few, draws=20_000), paired_bootstrap(apart, draws=20_000)
    assert one.low == pytest.approx(other.low, abs=0.002)
    assert one.high == pytest.approx(other.high, abs=0.002)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    inside = []
    for i in range(300):
        differences = rng.exponential(1.0, 80) - 0.7
        interval = paired_bootstrap(differences, draws=500, seed=i)
        inside.append(interval.low <= 0.3 <= interval.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def test_equal_seeds_give_equal_answers_and_others_do_not():
    differences = np.random.default_rng(6).normal(0.05, 1, 100)
    assert paired_bootstrap(differences, seed=1) == paired_bootstrap(differences, seed=1)
    assert paired_bootstrap(differences, seed=1) != paired_bootstrap(differences, seed=2)
    assert permutation_test(differences, seed=1) == permutation_test(differences, seed=1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_exactly_what_the_step_down_procedure_rejects(p):
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[i] * (len(p) - step) > level:
                break
            rejected.add(i)
        assert {i for i, value in enumerate(holm(p)) if value <= level} == rejected


def test_the_detectable_effect_is_found_about_as_often_as_its_power_says():
    rng = np.random.default_rng(7)
    found = []
    for i in range(200):
        noise = rng.normal(0, 1, 150)
        effect = minimum_detectable_effect(noise, power=0.8)
        found.append(permutation_test(noise + effect, draws=400, seed=i) < 0.05)
    assert effect == pytest.approx((1.95996 + 0.84162) * noise.std(ddof=1) / sqrt(150), rel=1e-4)
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def test_one_user_has_no_detectable_effect():
    assert np.isnan(minimum_detectable_effect([0.3]))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="difference of user 1 is nan"):
        paired_bootstrap([0.1, np.nan])
    with pytest.raises(DataError, match="one difference per user"):
        permutation_test([])
