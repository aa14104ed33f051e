"""Draws from unseen items: exact against a loop, uniform, and independent of how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_core.types import Histories
from rec_srs import negatives
from rec_srs.negatives import Unseen

ROWS = st.lists(st.lists(st.integers(0, 7), max_size=12), min_size=1, max_size=5)


def chi_square(counts: np.ndarray) -> float:
    """In standard deviations above its mean: a chi-square with n - 1 degrees has mean n - 1, variance 2 (n - 1)."""
    expected = counts.sum() / len(counts)
    value = ((counts - expected) ** 2 / expected).sum()
    return float((value - (len(counts) - 1)) / (2 * (len(counts) - 1)) ** 0.5)


@pytest.mark.parametrize("listed", [0, 1 << 27])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_every_rank_gives_the_item_that_a_loop_finds(listed: int, rows: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "LISTED", listed)  # 0: by search; else from lists
        unseen = Unseen(Histories.of(rows), 8)
        for r, row in enumerate(rows):
            free = [item for item in range(8) if item not in row]
            assert int(unseen.free(torch.tensor([r]))) == len(free)
            if free:
                ranks = torch.arange(len(free))
                assert unseen.at(torch.full((len(free),), r), ranks).tolist() == free
                assert unseen.at(torch.tensor([r]), ranks[None]).tolist() == [free]  # K draws of one row


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, seed=st.integers(0, 1000))
def test_search_and_lists_draw_the_same_items(rows: list[list[int]], seed: int) -> None:
    rows = [row for row in rows if len(set(row)) < 8] or [[1, 1]]
    rng = np.random.default_rng(seed)
    asked = torch.from_numpy(rng.integers(len(rows), size=20))
    uniforms = torch.from_numpy(rng.random((20, 3)))
    unseen = Unseen(Histories.of(rows), 8)
    drawn = unseen.pick(asked, uniforms)
    ranks = (uniforms * unseen.free(asked)[:, None]).long()
    assert torch.equal(drawn, unseen._search(asked, ranks))
    assert all(item not in rows[r] for r, items in zip(asked.tolist(), drawn.tolist(), strict=True) for item in items)


def test_draws_are_uniform_over_the_unseen_items_whatever_was_met_how_often() -> None:
    rows = [[3, 3, 3, 9], [0], list(range(0, 20, 2)), []]
    unseen = Unseen(Histories.of(rows), 20)
    rng = np.random.default_rng(0)
    for r, row in enumerate(rows):
        drawn = unseen.pick(torch.full((20_000,), r), torch.from_numpy(rng.random(20_000)))
        counts = np.bincount(drawn.numpy(), minlength=20)
        assert counts[sorted(set(row))].sum() == 0
        assert chi_square(counts[[i for i in range(20) if i not in row]]) < 5


def test_the_distribution_is_that_of_rejection_sampling() -> None:
    row, n_items, n = [1, 2, 5], 7, 30_000
    unseen = Unseen(Histories.of([row]), n_items)
    rng = np.random.default_rng(0)
    ours = np.bincount(unseen.pick(torch.zeros(n, dtype=torch.int64), torch.from_numpy(rng.random(n))), minlength=7)
    tries = rng.integers(n_items, size=4 * n)
    theirs = np.bincount(tries[~np.isin(tries, row)][:n], minlength=7)
    assert np.abs(ours - theirs).max() < 5 * (2 * n / 4) ** 0.5  # 4 items; the difference of two counts


def test_the_largest_uniform_number_gives_the_last_unseen_item() -> None:
    unseen = Unseen(Histories.of([[2]]), 3)
    assert unseen.pick(torch.tensor([0]), torch.tensor([1 - 2.0**-53], dtype=torch.float64)).tolist() == [1]
    assert unseen.pick(torch.tensor([0]), torch.tensor([1.0], dtype=torch.float64)).tolist() == [1]  # rounded up


def test_a_user_who_met_every_item_is_named() -> None:
    histories = Histories.of([[0], [0, 1, 2, 2]], users=[17, 42])
    unseen = Unseen(histories, 3)
    assert unseen.pick(torch.tensor([0]), torch.tensor([0.0], dtype=torch.float64)).tolist() == [1]
    with pytest.raises(DataError, match=r"user 42 \(row 1\) has met all 3 items in training"):
        unseen.pick(torch.tensor([0, 1]), torch.tensor([0.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(("items", "worst"), [([0, 3], 3), ([9, 1], 9)])
def test_an_item_beyond_the_catalogue_is_refused(items: list[int], worst: int) -> None:
    with pytest.raises(DataError, match=f"holds item {worst}; the catalogue has items 0..2"):
        Unseen(Histories.of([items]), 3)


def test_nothing_met_and_nothing_asked_are_fine() -> None:
    unseen = Unseen(Histories.of([[], []]), 4)
    assert unseen.free(torch.tensor([0, 1])).tolist() == [4, 4]
    assert unseen.pick(torch.tensor([1]), torch.tensor([0.6], dtype=torch.float64)).tolist() == [2]
    assert unseen.pick(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.float64)).shape == (0,)


def test_pairs_in_any_order_are_the_histories() -> None:
    rows = [[4, 1, 4], [], [0]]
    pairs = [(2, 0), (0, 4), (0, 1)]
    row, item = (np.array(side) for side in zip(*pairs, strict=True))
    ours, theirs = Unseen.of_pairs(row, item, np.arange(3), 6), Unseen(Histories.of(rows), 6)
    assert torch.equal(ours.keys_P, theirs.keys_P)
    assert torch.equal(ours.met_R, theirs.met_R)
