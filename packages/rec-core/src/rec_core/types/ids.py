"""Raw keys become dense ids in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError, UnknownKeys, nearest

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class IdMap:
    """Raw keys (what the file said, as text) <-> dense ids 0..n-1.

    keys   tuple of str, all different; ``keys[i]`` is the raw key of id ``i``

    Idea: ``IdMap`` of RecTools. There is no padding id: padding is a mask, made by the batching code alone.
    Raises :class:`DataError` for a key that is not text or occurs twice.
    """

    keys: tuple[str, ...]
    what: str = "key"
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.keys))
        if not set(map(type, self.keys)) <= {str}:
            for key in self.keys:
                if not isinstance(key, str):
                    raise DataError(f"raw {self.what}s are text; got {key!r} of type {type(key).__name__}")
        index = {key: i for i, key in enumerate(self.keys)}
        object.__setattr__(self, "_index", index)
        if len(index) != len(self.keys):
            seen: set[str] = set()
            twice = next(k for k in self.keys if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise DataError(f"raw {self.what} {twice!r} occurs twice in the id map; raw keys must be unique")

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.keys == other.keys

    def id(self, key: str) -> int:
        """The dense id of one raw key; :class:`UnknownKeys` names the nearest one that exists."""
        try:
            return self._index[key]
        except KeyError:
            raise UnknownKeys(f"no {self.what} with raw key {key!r}{nearest(str(key), self.keys[:100_000])}") from None

    def ids(self, keys: Iterable[str]) -> Int64:
        """Dense ids int64 of many raw keys; the first unknown one raises :class:`UnknownKeys`."""
        return np.fromiter((self.id(key) for key in keys), np.int64)

    def keys_of(self, ids: Sequence[int] | npt.NDArray[Any]) -> list[str]:
        """Raw keys of dense ids, in the order asked; :class:`DataError` for an id outside 0..n-1 (-1 is no item)."""
        asked = np.asarray(ids, np.int64)
        check_ids(asked, len(self.keys), f"{self.what} id")
        return [self.keys[i] for i in asked]

    def digest(self) -> str:
        """SHA-256 of the keys in id order."""
        h = sha256(f"{len(self.keys)}\n".encode())
        for start in range(0, len(self.keys), 10_000):
            raw = [key.encode() for key in self.keys[start : start + 10_000]]
            h.update(b"".join([b"%d:%b" % (len(key), key) for key in raw]))
        return h.hexdigest()


Masked = tuple[npt.NDArray[Any], Bool]
_CHUNK = 1 << 18


def array_digest(*arrays: npt.NDArray[Any] | Masked | None) -> str:
    """SHA-256 over dtype, shape and bytes of arrays; None (an absent column) counts as itself.

    A pair (array [n], mask [n]) stands for ``array[mask]``, which is not made as a whole.
    """
    h = sha256()
    for array in arrays:
        if array is None:
            h.update(b"absent;")
            continue
        array, mask = array if isinstance(array, tuple) else (array, None)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if mask is None:
            h.update(f"{little.dtype.str}{little.shape};".encode())
            h.update(np.ascontiguousarray(little).data)
            continue
        h.update(f"{little.dtype.str}{(int(np.count_nonzero(mask)),)};".encode())
        for start in range(0, len(mask), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            h.update(np.ascontiguousarray(little[chunk][mask[chunk]]).data)
    return h.hexdigest()


def check_offsets(offsets: Int64, n_values: int, what: str) -> None:
    """CSR offsets start at 0, never fall and end at the number of values; :class:`DataError` else."""
    if offsets.ndim != 1 or len(offsets) < 1 or offsets.dtype != np.int64:
        raise DataError(f"{what}: offsets must be int64 [rows + 1]; got {offsets.dtype} {offsets.shape}")
    if offsets[0] != 0 or offsets[-1] != n_values:
        raise DataError(f"{what}: offsets run from {offsets[0]} to {offsets[-1]}, wanted 0 to {n_values} (the values)")
    if len(offsets) > 1 and (np.diff(offsets) < 0).any():
        row = int(np.flatnonzero(np.diff(offsets) < 0)[0])
        raise DataError(f"{what}: offsets fall at row {row} ({offsets[row]} to {offsets[row + 1]}); they never may")


def check_column(array: npt.NDArray[Any] | None, n: int, dtype: Any, what: str) -> None:
    """A column is a 1-D array of the stated dtype and length, or None; :class:`DataError` else."""
    if array is not None and (array.shape != (n,) or array.dtype != dtype):
        raise DataError(f"{what} must be {np.dtype(dtype).name} [{n}]; got {array.dtype} {list(array.shape)}")


def check_ids(ids: npt.NDArray[Any], n: int, what: str, least: int = 0) -> None:
    """Dense ids lie in ``least .. n-1``; :class:`DataError` names the first position that does not."""
    if len(ids) and (ids.min() < least or ids.max() >= n):
        at = int(np.flatnonzero((ids < least) | (ids >= n))[0])
        raise DataError(f"{what} {ids.flat[at]} at position {at} is outside {least}..{n - 1}")


def whole_numbers(values: npt.ArrayLike, dtype: type[np.signedinteger[Any]], what: str) -> npt.NDArray[Any]:
    """Values as integers of a dtype; :class:`DataError` where NumPy would cut a fraction or wrap a large number."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise DataError(f"{what} must be whole numbers; got {array.dtype}")
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise DataError(f"{what} must fit {limits.dtype}; got {array.min()}..{array.max()}")
    return array.astype(dtype, copy=False)
