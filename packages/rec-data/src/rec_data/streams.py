"""Random numbers that are a function of what they belong to, for many rows at once.

:func:`rec_core.randomness.generator` makes one generator per purpose; where every user or event needs numbers of its
own, millions of generators would take minutes. Here a row's number is a hash of its ids: the same whatever rows stand
beside it, in whatever blocks they are worked on. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), and a row's sequence is SplitMix64 itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rec_core.randomness import generator
from rec_core.types.ids import Float64

UInt64 = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio, odd


def stream_key(seed: int, *stream: int | str) -> np.uint64:
    """The key of one purpose: raw bits, whose sequence NumPy keeps for ever (unlike that of its distributions)."""
    return np.uint64(generator(seed, *stream).bit_generator.random_raw())


def hashed(key: np.uint64 | UInt64, *columns: npt.NDArray[np.integer]) -> UInt64:
    """uint64: well-mixed bits of a key and of one whole number per column, all broadcast against each other."""
    state = np.asarray(key, np.uint64)
    for column in columns:
        step = column.astype(np.uint64)  # wraps negative numbers, one to one
        step += np.uint64(1)
        step *= _STEP
        with np.errstate(over="ignore"):  # modulo 2**64, as the generator is defined
            state = _mix(step + state)
    return state


def draw(state: UInt64, place: int) -> Float64:
    """float64 [rows] in [0, 1): number ``place`` (0, 1, ...) of the sequence that starts at each row's state."""
    with np.errstate(over="ignore"):  # modulo 2**64, as the generator is defined
        return uniform(_mix(state + np.uint64(place + 1) * _STEP))


def uniform(bits: UInt64) -> Float64:
    """float64 in [0, 1) from the upper 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(bits: UInt64) -> UInt64:
    """Finalise in place."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
