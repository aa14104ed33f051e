"""The two orders that make a dataset independent of how its file was laid out: of keys, and of events."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.types.ids import Int64


def ordered_keys(keys: pl.Series) -> pl.Series:
    """The different raw keys in id order: plain whole numbers by value, then all other text by code points.

    A plain number has no sign, no leading zero and at most 18 digits: "9" comes before "10", and "0012" is text of
    its own. The order depends on nothing but the keys.
    """
    unique = keys.drop_nulls().unique()
    number = unique.str.extract(r"^(0|[1-9][0-9]{0,17})$", 1).cast(pl.Int64)
    return pl.DataFrame({"key": unique, "number": number}).sort("number", "key", nulls_last=True)["key"]


def codes_of(keys: pl.Series, ordered: pl.Series) -> Int64:
    """Position of each key in ``ordered``, int64; every key must be there."""
    return keys.cast(pl.Enum(ordered)).to_physical().to_numpy().astype(np.int64)


def event_order(users: Int64, timestamps: Int64 | None) -> Int64 | None:
    """Positions of the rows by (user, timestamp, row); None where they lie so already."""
    if timestamps is None:
        return None if (np.diff(users) >= 0).all() else np.argsort(users, kind="stable")
    if not len(users):
        return None
    step = np.diff(users)
    if ((step > 0) | ((step == 0) & (np.diff(timestamps) >= 0))).all():
        return None
    first = int(timestamps.min())
    bits = int(timestamps.max()) - first
    if int(users.max()).bit_length() + bits.bit_length() <= 62:  # one packed key sorts twice as fast as two columns
        return np.argsort((users << bits.bit_length()) | (timestamps - first), kind="stable")
    return np.lexsort((timestamps, users))


def compact(codes: Int64, size: int) -> tuple[Int64, npt.NDArray[np.int64]]:
    """Codes renumbered without gaps in the same order, and the old code of each new one."""
    used = np.flatnonzero(np.bincount(codes, minlength=size))
    new = np.full(size, -1, np.int64)
    new[used] = np.arange(len(used))
    return new[codes], used
