"""Numbers depend on what they are for, and on nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from rec_core.randomness import generator, torch_generator


def test_equal_streams_give_equal_numbers_in_another_process():
    code = "from rec_core.randomness import generator; print(generator(3, 'views', 2, 5).integers(2**62))"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(elsewhere.stdout) == generator(3, "views", 2, 5).integers(2**62)


def test_streams_that_differ_anywhere_give_other_numbers():
    streams = [(), ("a",), ("b",), ("a", 0), ("a", 0, 0), ("a", 1), ("a", "b"), ("b", "a"), (0,), (0, 0), (2**40,)]
    numbers = {int(generator(seed, *stream).integers(2**62)) for seed in (0, 1, 2**40) for stream in streams}
    assert len(numbers) == 3 * len(streams)


def test_the_order_of_calls_does_not_matter():
    first, second = generator(1, "a"), generator(1, "b")
    late = second.random()
    first.random()
    assert generator(1, "b").random() == late


def test_numpy_integers_name_the_same_stream_as_plain_ones():
    assert generator(np.int64(1), "epoch", np.int32(4)).random() == generator(1, "epoch", 4).random()


def test_the_numbers_of_a_stream_stay_the_same_between_releases():
    assert generator(1, "golden", 2).integers(0, 1000, 5).tolist() == [818, 443, 121, 506, 738]


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="a seed is a non-negative integer; got -1"):
        generator(-1)


def test_torch_numbers_depend_on_the_stream_and_leave_the_global_state_alone():
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    a, b, c = (torch.rand(3, generator=torch_generator(5, *s)) for s in [("mask",), ("mask",), ("mask", 0)])
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)
