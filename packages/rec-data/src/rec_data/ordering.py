"""The two orders that make a dataset independent of how its file was laid out: of keys, and of events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.types.ids import Bool, Int32, Int64

PARTITION = 1 << 16  # rows that are sorted at a time: row, user and 31 bits of time then share one 64-bit key
_CHUNK = 1 << 22
T = TypeVar("T")
Rows = npt.NDArray[Any]  # int32 or int64


def ordered_keys(keys: pl.Series) -> pl.Series:
    """The different raw keys in id order: plain whole numbers by value, then all other text by code points.

    A plain number has no sign, no leading zero and at most 18 digits: "9" comes before "10", and "0012" is text of
    its own. The order depends on nothing but the keys.
    """
    unique = keys.drop_nulls().unique()
    return unique.gather(key_order(unique))


def key_order(keys: pl.Series) -> Int64:
    """Positions of different keys (String, none missing) in id order, int64 [n]."""
    numbers = keys.cast(pl.Int64, strict=False)
    plain = is_plain_number(keys, numbers)
    by_value, by_text = np.flatnonzero(plain), np.flatnonzero(~plain)
    if len(by_value):
        by_value = by_value[np.argsort(numbers.gather(by_value).to_numpy(), kind="stable")]
    if len(by_text):
        text = keys if len(by_text) == len(keys) else keys.gather(by_text)
        by_text = by_text[text.arg_sort().to_numpy()]
    return np.concatenate([by_value, by_text])


def is_plain_number(keys: pl.Series, numbers: pl.Series | None = None) -> Bool:
    """bool [n]: keys of digits alone, no leading zero, at most 18; ``numbers`` are the keys as Int64 where they fit."""
    numbers = keys.cast(pl.Int64, strict=False) if numbers is None else numbers
    missing = None if not numbers.null_count() else numbers.is_null().to_numpy()
    values = numbers.to_numpy() if missing is None else numbers.fill_null(-1).to_numpy()
    plain = values >= 0
    top = int(values.max()) if len(values) else 0
    wanted = np.ones(len(values), np.uint8)
    for power in range(1, min(len(str(top)), 19)):
        wanted += values >= 10**power
    plain &= keys.str.len_bytes().to_numpy() == wanted
    if top >= 10**18:
        plain &= values < 10**18
    return plain


def digits_of(values: Int64) -> int | None:
    """How many digits all values have together; None where one is negative or has more than 18."""
    if not len(values):
        return 0
    least, top = int(values.min()), int(values.max())
    if least < 0 or top >= 10**18:
        return None
    total = len(values) * len(str(least))
    for power in range(len(str(least)), len(str(top))):
        total += int(np.count_nonzero(values >= 10**power))
    return total


def event_order(users: Int32 | Int64, times: Int64 | None, keep: Bool | None = None) -> Rows:
    """Positions of the rows (of those where ``keep``) by (user, time, row), int32 where that is enough.

    Rows are dealt into ranges of users of about ``PARTITION`` rows, and each range is sorted on one packed integer
    (user, time, row): memory stays at one position per row, and the sort at the speed of a plain ``np.sort``.
    """
    n = len(users)
    counts = user_counts(users, keep)
    rows: Rows = np.empty(int(counts.sum()), np.int32 if n < 2**31 else np.int64)
    starts, range_of = _ranges(counts)
    _deal(rows, users, keep, starts, range_of)
    if times is None:
        first, span = 0, 0
    else:
        first = int(times.min()) if n else 0
        span = (int(times.max()) - first).bit_length() if n else 0

    def sort(start: int, stop: int) -> None:
        part = rows[start:stop]
        if len(part) < 2:
            return
        user = users[part].astype(np.int64)
        user -= user.min()
        time = None if times is None else times[part]
        if time is None and not user.any():
            return  # one user, in the order of the file already
        user_bits, row_bits = int(user.max()).bit_length(), (len(part) - 1).bit_length()
        if user_bits + span + row_bits <= 63:
            user <<= span
            if time is not None:
                user |= time - first
            user <<= row_bits
            user |= np.arange(len(part))
            user.sort()
            user &= (1 << row_bits) - 1
            part[:] = part[user]
        else:
            part[:] = part[np.lexsort((user,) if time is None else (time, user))]

    in_threads(sort, starts[:-1].tolist(), starts[1:].tolist())
    return rows


def in_threads(work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """``list(map(work, *arguments))`` on a few threads; for NumPy code on pieces that do not touch each other."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        return list(threads.map(work, *arguments))


def user_counts(users: Int32 | Int64, keep: Bool | None = None) -> Int64:
    """Rows per user (of those where ``keep``), int64 up to the largest user."""
    size = int(users.max(initial=-1)) + 1
    counts = np.zeros(size, np.int64)
    for chunk in chunks(len(users)):
        some = users[chunk] if keep is None else users[chunk][keep[chunk]]
        counts += np.bincount(some, minlength=size)
    return counts


def chunks(n: int, size: int = _CHUNK) -> Iterator[slice]:
    """Slices that cover 0..n-1: what is worked on at a time, so that temporary arrays stay small."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _ranges(counts: Int64) -> tuple[Int64, npt.NDArray[np.uint16]]:
    """Cut users 0..n-1 into ranges of about ``PARTITION`` rows: first row of each range, and the range of each user."""
    before = np.cumsum(counts) - counts
    total = int(counts.sum())
    size = max(PARTITION, -(-total // 2**15))  # so that 16 bits number the ranges
    range_of = np.unique(before // size, return_inverse=True)[1].astype(np.uint16)
    starts = np.zeros(int(range_of.max(initial=0)) + 2, np.int64)
    np.add.at(starts, range_of.astype(np.int64) + 1, counts)
    return np.cumsum(starts), range_of


def _deal(rows: Rows, users: Int32 | Int64, keep: Bool | None, starts: Int64, range_of: npt.NDArray[np.uint16]) -> None:
    """Fill ``rows`` with row numbers, range by range, in the order of the file inside each."""
    filled = starts[:-1].copy()
    for chunk in chunks(len(users)):
        at = np.arange(chunk.start, chunk.stop) if keep is None else chunk.start + np.flatnonzero(keep[chunk])
        if len(starts) == 2:
            rows[filled[0] : filled[0] + len(at)] = at
            filled[0] += len(at)
            continue
        of = range_of[users[at] if keep is not None else users[chunk]]
        order = np.argsort(of, kind="stable")  # a radix sort for 16 bits
        sizes = np.bincount(of, minlength=len(filled))
        at = at[order]
        stops = np.cumsum(sizes)
        for i in np.flatnonzero(sizes):
            rows[filled[i] : filled[i] + sizes[i]] = at[stops[i] - sizes[i] : stops[i]]
        filled += sizes
