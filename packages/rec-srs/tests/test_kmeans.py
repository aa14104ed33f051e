"""k-means against a plain twin, and its edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from rec_core.errors import SettingsError
from rec_srs import kmeans as module
from rec_srs.kmeans import kmeans


def plain_lloyd(points: Tensor, centres: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """All distances at once, one cluster after the other; none may become empty."""
    cluster = torch.cdist(points, centres).argmin(dim=1)
    for _ in range(rounds):
        centres = torch.stack([points[cluster == c].mean(dim=0) for c in range(len(centres))])
        before, cluster = cluster, torch.cdist(points, centres).argmin(dim=1)
        if torch.equal(before, cluster):
            break
    return centres, cluster


@pytest.mark.parametrize("block_bytes", [1, 300, 16 << 20])  # a point at a time, some, all
@pytest.mark.parametrize("rounds", [0, 1, 25])
def test_from_the_same_start_it_equals_the_plain_twin(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int, rounds: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    torch.manual_seed(0)
    points = torch.randn(60, 3, dtype=torch.float64)
    found = kmeans(points, 5, start_KD=points[:5], rounds=rounds)
    centres, cluster = plain_lloyd(points, points[:5], rounds)
    torch.testing.assert_close(found.centres_KD, centres)
    assert torch.equal(found.cluster_N, cluster)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_lie_apart_are_found_whatever_the_seed(seed: int) -> None:
    torch.manual_seed(seed)
    true = torch.arange(6).repeat(7)
    points = 100 * torch.eye(6)[true] + torch.randn(42, 6)
    found = kmeans(points, 6).cluster_N
    assert {frozenset(torch.nonzero(found == c).flatten().tolist()) for c in range(6)} == {
        frozenset(torch.nonzero(true == c).flatten().tolist()) for c in range(6)
    }


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), k=st.integers(1, 40), seed=st.integers(0, 999))
def test_every_cluster_has_points_and_every_point_the_nearest_centre(n: int, k: int, seed: int) -> None:
    k = min(k, n)
    torch.manual_seed(seed)
    points = torch.randn(n, 2, dtype=torch.float64)
    centres, cluster = kmeans(points, k, rounds=100)
    distances = torch.cdist(points, centres)
    torch.testing.assert_close(distances.gather(1, cluster[:, None])[:, 0], distances.amin(dim=1))
    assert len(torch.unique(cluster)) == k
    for c in range(k):
        torch.testing.assert_close(centres[c], points[cluster == c].mean(dim=0))


def test_a_cluster_that_loses_its_points_takes_the_one_furthest_from_its_mean() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    found = kmeans(points, 2, start_KD=torch.tensor([[1.0], [1e6]]))
    assert found.cluster_N.tolist() == [0, 0, 0, 1]
    assert found.centres_KD.flatten().tolist() == [1.0, 30.0]


def test_points_that_coincide_may_leave_clusters_empty_and_nothing_is_nan() -> None:
    found = kmeans(torch.ones(6, 2), 3)
    assert torch.equal(found.centres_KD, torch.ones(3, 2))
    assert len(torch.unique(found.cluster_N)) == 1


def test_equal_seeds_give_equal_clusters_and_a_start_draws_nothing() -> None:
    points = torch.randn(200, 4)
    torch.manual_seed(5)
    first = kmeans(points, 20)
    state = torch.get_rng_state()
    assert torch.equal(kmeans(points, 20, start_KD=first.centres_KD).cluster_N, first.cluster_N)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    again = kmeans(points, 20)
    assert torch.equal(again.centres_KD, first.centres_KD)
    assert torch.equal(again.cluster_N, first.cluster_N)
    torch.manual_seed(6)
    assert not torch.equal(kmeans(points, 20).cluster_N, first.cluster_N)


def test_seeds_are_drawn_far_apart_so_that_a_small_distant_group_is_not_missed() -> None:
    torch.manual_seed(0)
    points = torch.cat([torch.randn(500, 2), torch.randn(2, 2) + 1000])  # a uniform draw of 2 misses it 99 times of 100
    for _ in range(10):
        assert (kmeans(points, 2, rounds=0).centres_KD.amax(dim=1) > 900).sum() == 1


def test_the_next_seed_is_drawn_in_proportion_to_the_squared_distance() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    torch.manual_seed(0)
    pairs = torch.stack([module._seeds(points, 2)[:, 0] for _ in range(3000)]).long()
    first = torch.bincount(pairs[:, 0], minlength=11)[[0, 1, 2, 10]]
    assert stats.chisquare(first.numpy()).pvalue > 1e-3
    after_2 = torch.bincount(pairs[pairs[:, 0] == 2, 1], minlength=11)  # squares from 2: 4, 1, 0 and 64
    expected = torch.tensor([4, 1, 64], dtype=torch.float64) / 69 * after_2.sum()
    assert after_2[2] == 0
    assert stats.chisquare(after_2[[0, 1, 10]].numpy(), expected.numpy()).pvalue > 1e-3


def test_distances_are_summed_as_whole_numbers_which_every_device_does_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = torch.Tensor.cumsum, []
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda x, dim: (seen.append(x), plain(x, dim))[1])
    kmeans(torch.randn(3000, 4), 5)
    assert len(seen) == 5
    assert all(x.dtype == torch.int64 and x.min() >= 0 and x.sum() > 0 for x in seen)


@pytest.mark.parametrize("k", [0, 4])
def test_more_clusters_than_points_is_an_error_that_names_both(k: int) -> None:
    with pytest.raises(SettingsError, match=rf"{k} clusters of 3 points"):
        kmeans(torch.zeros(3, 2), k)
