import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.randomness import generator
from rec_core.training import epoch_order, micro_batches, pad, row_uniforms
from rec_core.training.batching import random_shift
from rec_core.types import Histories

HISTORIES = Histories.of([[5, 6, 7, 8], [], [9], [1, 2]])


def test_pad_right_and_left_show_the_newest_events_oldest_first():
    items, mask = pad(HISTORIES, np.array([3, 0]), max_length=3)
    assert items.tolist() == [[1, 2, 0], [6, 7, 8]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    items, mask = pad(HISTORIES, np.array([3, 0]), max_length=3, side="left")
    assert items.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert mask.tolist() == [[False, True, True], [True, True, True]]


def test_pad_is_trimmed_to_the_longest_of_its_rows_and_never_empty():
    assert pad(HISTORIES, np.array([2]), max_length=50)[0].shape == (1, 1)
    items, mask = pad(HISTORIES, np.array([1, 1]), max_length=50)
    assert items.tolist() == [[0], [0]]
    assert not mask.any()
    assert pad(HISTORIES, np.array([], np.int64), max_length=5)[0].shape == (0, 1)
    assert pad(HISTORIES, np.array([0]), max_length=5)[0].dtype == np.int64


def test_a_random_shift_is_uniform_over_the_windows_a_row_holds_and_depends_on_the_row_alone():
    histories = Histories.of([[1, 2, 3, 4, 5], [1, 2, 3], [1]] * 1000)
    rows = np.arange(3000)
    shifts = random_shift(histories, rows, 3, generator(0, "batch"))
    assert shifts.dtype == np.int64
    counts = np.bincount(shifts[::3])  # five events hold windows of three that pass over 0, 1 or 2
    assert len(counts) == 3
    assert np.abs(counts - 1000 / 3).max() < 5 * (1000 * 2 / 9) ** 0.5
    assert not shifts[rows % 3 > 0].any()
    assert random_shift(histories, rows[7:9], 3, generator(0, "batch")).tolist() == shifts[7:9].tolist()


def test_pad_shift_passes_over_a_rows_newest_events():
    items, mask = pad(HISTORIES, np.array([0, 3]), max_length=2, shift=np.array([2, 5]))
    assert items.tolist() == [[5, 6], [0, 0]]
    assert mask.tolist() == [[True, True], [False, False]]


@given(
    rows=st.lists(st.lists(st.integers(0, 50), max_size=9), min_size=1, max_size=8),
    length=st.integers(1, 10),
    side=st.sampled_from(["left", "right"]),
)
def test_pad_equals_the_plain_loop(rows, length, side):
    items, mask = pad(Histories.of(rows), np.arange(len(rows)), length, side)
    width = max(1, max(min(len(row), length) for row in rows))
    for found, there, row in zip(items.tolist(), mask.tolist(), rows, strict=True):
        newest = row[-length:]
        pads = [0] * (width - len(newest))
        assert found == (newest + pads if side == "right" else pads + newest)
        assert there == ([True] * len(newest) + [False] * len(pads))[:: 1 if side == "right" else -1]


def test_the_order_of_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    rows = np.arange(100, 200)
    first = epoch_order(rows, seed=1, epoch=3)
    assert sorted(first) == rows.tolist()
    assert first.tolist() == epoch_order(rows, seed=1, epoch=3).tolist()
    assert first.tolist() != epoch_order(rows, seed=1, epoch=4).tolist()
    assert first.tolist() != epoch_order(rows, seed=2, epoch=3).tolist()


def padded_area(pieces, lengths):
    return sum(len(piece) * lengths[piece].max() for piece in pieces)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), most=st.integers(1, 5))
def test_micro_batches_hold_every_row_once_with_the_least_padding_possible(lengths, most):
    lengths = np.array(lengths)
    rows = np.arange(len(lengths))
    pieces = micro_batches(rows, lengths, most)
    assert sorted(np.concatenate(pieces)) == rows.tolist()
    assert 1 <= len(pieces) <= most
    by_length = rows[np.argsort(lengths, kind="stable")]
    cuts = itertools.chain.from_iterable(itertools.combinations(rows[1:], n) for n in range(min(most, len(rows))))
    assert padded_area(pieces, lengths) == min(padded_area(np.split(by_length, list(c)), lengths) for c in cuts)


def test_micro_batches_of_skewed_lengths_save_most_of_the_padding():
    lengths = np.minimum(np.random.default_rng(0).geometric(1 / 8, 128) + 1, 50)
    whole = padded_area(micro_batches(np.arange(128), lengths, 1), lengths)
    assert padded_area(micro_batches(np.arange(128), lengths, 4), lengths) < 0.4 * whole


def test_draws_of_a_row_do_not_depend_on_company_order_or_width():
    def draws(rows, width):
        return row_uniforms(generator(1, "batch", 2, 3), np.array(rows), width)

    together = draws([4, 7, 9], 10)
    np.testing.assert_array_equal(draws([9, 4], 6), together[[2, 0], :6])
    rng = generator(1, "batch", 2, 3)
    row_uniforms(rng, np.array([4]), 10)
    assert (row_uniforms(rng, np.array([4]), 10) != together[:1]).all()  # a second call draws anew


@pytest.mark.parametrize("axis", [0, 1])
def test_draws_look_uniform_and_uncorrelated(axis):
    draws = row_uniforms(generator(0, "batch", 0, 0), np.arange(400), 400)
    assert 0 <= draws.min() < draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 8000) ** 2 / 8000).sum() < 43.8  # chi-squared, 19 degrees of freedom, 1 in 1000
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01
    assert draws.mean(axis=axis).std() == pytest.approx(1 / np.sqrt(12 * 400), rel=0.2)
