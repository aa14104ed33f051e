"""Numbers by row: what plain integers give, whatever stands beside a row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rec_data.streams import draw, hashed, stream_key, uniform

MASK = 2**64 - 1
INT64 = st.integers(-(2**63), 2**63 - 1)


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(key=st.integers(0, MASK), rows=st.lists(st.tuples(INT64, st.integers(-(2**31), 2**31 - 1)), max_size=5))
def test_a_hash_is_that_of_plain_integers(key, rows):
    want = []
    for row in rows:
        state = key
        for value in row:
            state = mixed((state + (value + 1) * 0x9E3779B97F4A7C15) & MASK)
        want.append(state)
    columns = np.array([a for a, _ in rows], np.int64), np.array([b for _, b in rows], np.int32)
    assert hashed(np.uint64(key), *columns).tolist() == want
    assert hashed(np.uint64(key), columns[0][::-1], columns[1][::-1]).tolist() == want[::-1]


@given(states=st.lists(st.integers(0, MASK), min_size=1, max_size=5), place=st.integers(0, 1000))
def test_a_sequence_is_splitmix64(states, place):
    want = [(mixed((state + (place + 1) * 0x9E3779B97F4A7C15) & MASK) >> 11) * 2.0**-53 for state in states]
    given_states = np.array(states, np.uint64)
    assert draw(given_states, place).tolist() == want
    assert given_states.tolist() == states  # they stay as they are


def test_uniform_numbers_lie_in_0_to_1_without_1():
    assert uniform(np.array([0, MASK], np.uint64)).tolist() == [0.0, 1 - 2.0**-53]


def test_keys_differ_by_purpose_and_seed_and_stay_what_they_are():
    keys = [int(stream_key(seed, what)) for seed in (0, 1) for what in ("a", "b")]
    assert len(set(keys)) == 4
    assert keys[0] == int(stream_key(0, "a"))
    assert int(stream_key(1, "x")) == 278368745900497341  # frozen: splits on disk were drawn with such keys
