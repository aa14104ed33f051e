"""Figures of a dataset, with the arithmetic in view."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.dataset import read_dataset
from rec_data.config import PrepareSettings
from rec_data.prepare import prepare
from rec_data.stats import dataset_stats, gini, top_share

approx = pytest.approx


def test_gini_is_zero_for_equals_and_nearly_one_for_a_monopoly():
    assert gini(np.array([3, 3, 3])) == approx(0)
    assert gini(np.array([0, 0, 0, 8])) == approx(3 / 4)
    assert gini(np.array([0, 0])) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs_over_twice_the_mean(counts):
    differences = [abs(a - b) for a in counts for b in counts]
    assert gini(np.array(counts)) == approx(np.mean(differences) / (2 * np.mean(counts)))


@pytest.mark.parametrize(("share", "want"), [(0.01, 5 / 12), (0.5, 9 / 12), (1.0, 1.0)])
def test_the_top_share_takes_at_least_one(share, want):
    assert top_share(np.array([1, 5, 2, 4]), share) == approx(want)


def test_the_figures_of_the_made_up_films(raw_files, tmp_path):
    artifact = prepare(raw_files.movielens(), tmp_path / "out", PrepareSettings(k_core=1))
    stats = dataset_stats(read_dataset(artifact))
    assert stats["density"] == approx(10 / (3 * 4))
    lengths = {"min": 3, "q05": 3, "q25": 3, "q50": 3, "q75": 4, "q95": 4, "max": 4, "mean": 10 / 3}
    assert stats["history_length"] == lengths
    assert stats["item_popularity"]["max"] == 3
    assert stats["top_1%"] == approx(3 / 10)
    assert stats["test_targets_not_in_train"] == 3  # 30, 11 and 11: neither has an event in train
    assert stats["first_event"] == "1970-01-01T00:01:30Z"
    assert stats["mean_rating"] == approx((5 + 4 + 3 + 5 + 2 + 4 + 1 + 5 + 5 + 4) / 10)
    assert stats["cold_items"] == 1
