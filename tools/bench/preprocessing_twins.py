"""The same preparation three other ways: in plain Python, with pandas and with polars as one would first write it.

Every twin takes a CSV with the columns user, item, rating, timestamp (under whatever names, in this order) and writes
what ``rec-data prepare`` writes with its defaults:

1. of a repeated (user, item) pair the oldest row stays, of equally old ones the first in the file;
2. users and items with fewer than ``core`` rows go, until there are none;
3. raw keys become ids: plain whole numbers by value, then other text by code points;
4. events in the order (user, timestamp, row of the file), the last of each user for the test, the one before for
   validation.

``items.npy`` int32, ``offsets.npy`` int64, ``timestamps.npy`` int64, ``ratings.npy`` float32, ``boundaries.npy``
int64 [users, 2] (where valid and test begin) and the keys in id order in ``users.parquet`` and ``items.parquet``.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CORE = 5
_PLAIN_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def _id_order(key: str) -> tuple[bool, int, str]:
    number = _PLAIN_NUMBER.fullmatch(key)
    return (number is None, int(key) if number else 0, key)


def _write(out: Path, users: Sequence[str], items: Sequence[str], lengths: Any, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir(parents=True)
    offsets = np.zeros(len(users) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    short = np.diff(offsets) < 3  # stays in train whole
    ends = offsets[1:]
    columns = columns | {
        "offsets": offsets,
        "boundaries": np.column_stack([np.where(short, ends, ends - 2), np.where(short, ends, ends - 1)]),
    }
    for name, column in columns.items():
        np.save(out / f"{name}.npy", column)
    pq.write_table(pa.table({"key": pa.array(users, pa.string())}), out / "users.parquet")
    pq.write_table(pa.table({"key": pa.array(items, pa.string())}), out / "items.parquet")


def python_twin(source: Path, out: Path, *, core: int = CORE, text: bool = True) -> None:
    """Tuples, dicts and counting again in every round, as published research code does it."""
    rows: list[tuple[str, str, float, int]] = []
    with open(source, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        for user, item, rating, timestamp in reader:
            rows.append((user, item, float(rating), int(timestamp)))

    oldest: dict[tuple[str, str], tuple[str, str, float, int]] = {}
    for row in rows:
        found = oldest.get(row[:2])
        if found is None or row[3] < found[3]:
            oldest[row[:2]] = row
    if len(oldest) < len(rows):
        rows = [row for row in rows if oldest[row[:2]] is row]
    del oldest

    while True:
        user_count = Counter(row[0] for row in rows)
        item_count = Counter(row[1] for row in rows)
        left = [row for row in rows if user_count[row[0]] >= core and item_count[row[1]] >= core]
        if len(left) == len(rows):
            break
        rows = left

    histories: dict[str, list[tuple[str, str, float, int]]] = {}
    for row in rows:
        histories.setdefault(row[0], []).append(row)
    users = sorted(user_count, key=_id_order)
    items = sorted(item_count, key=_id_order)
    item_ids = {item: i for i, item in enumerate(items)}
    ids: list[int] = []
    ratings: list[float] = []
    timestamps: list[int] = []
    lengths: list[int] = []
    for user in users:
        history = sorted(histories[user], key=lambda row: row[3])
        lengths.append(len(history))
        for _, item, rating, timestamp in history:
            ids.append(item_ids[item])
            ratings.append(rating)
            timestamps.append(timestamp)
    columns = {
        "items": np.array(ids, np.int32),
        "timestamps": np.array(timestamps, np.int64),
        "ratings": np.array(ratings, np.float32),
    }
    _write(out, users, items, lengths, columns)


def pandas_twin(source: Path, out: Path, *, core: int = CORE, text: bool = True) -> None:
    """A frame, ``groupby(...).transform``, ``sort_values`` and categories.

    Where the keys are plain whole numbers (``text=False``) the columns stay numbers, which is much to the good of it.
    """
    import pandas as pd

    keys = {0: str, 1: str} if text else {0: np.int64, 1: np.int64}
    names = ["user", "item", "rating", "timestamp"]
    frame = pd.read_csv(
        source, header=0, names=names, dtype={"user": keys[0], "item": keys[1], "rating": np.float32},
        keep_default_na=False,
    )  # fmt: skip
    frame = frame.sort_values("timestamp", kind="stable").drop_duplicates(["user", "item"])
    while True:
        before = len(frame)
        frame = frame[frame.groupby("user")["item"].transform("size") >= core]
        frame = frame[frame.groupby("item")["user"].transform("size") >= core]
        if len(frame) == before:
            break
    ordered: dict[str, list[Any]] = {}
    for name in ("user", "item"):
        ordered[name] = sorted(frame[name].unique().tolist(), key=_id_order if text else None)
        frame[name] = pd.Categorical(frame[name], categories=ordered[name]).codes
    frame = frame.sort_values("user", kind="stable")  # its rows stand in the order of time
    columns = {
        "items": frame["item"].to_numpy(np.int32),
        "timestamps": frame["timestamp"].to_numpy(np.int64),
        "ratings": frame["rating"].to_numpy(np.float32),
    }
    lengths = np.bincount(frame["user"].to_numpy(), minlength=len(ordered["user"]))
    _write(out, [str(key) for key in ordered["user"]], [str(key) for key in ordered["item"]], lengths, columns)


def polars_twin(source: Path, out: Path, *, core: int = CORE, text: bool = True) -> None:
    """A frame, ``unique``, window counts, joins with the ids and one sort."""
    import polars as pl

    dtype = pl.String if text else pl.Int64
    schema = {"user": dtype, "item": dtype, "rating": pl.Float32, "timestamp": pl.Int64}
    frame = pl.read_csv(source, has_header=False, skip_rows=1, schema=schema)
    frame = frame.sort("timestamp", maintain_order=True).unique(["user", "item"], keep="first", maintain_order=True)
    while True:
        before = frame.height
        frame = frame.filter(pl.len().over("user") >= core).filter(pl.len().over("item") >= core)
        if frame.height == before:
            break
    ordered: dict[str, pl.DataFrame] = {}
    for name in ("user", "item"):
        keys = frame.select(pl.col(name).unique())
        if text:
            number = pl.col(name).str.extract(r"^(0|[1-9][0-9]{0,17})$").cast(pl.Int64)
            keys = keys.with_columns(number=number).sort("number", name, nulls_last=True).drop("number")
        else:
            keys = keys.sort(name)
        ordered[name] = keys.with_row_index(f"{name}_id")
        frame = frame.join(ordered[name], on=name, how="left", maintain_order="left")
    frame = frame.sort("user_id", "timestamp", maintain_order=True)
    columns = {
        "items": frame["item_id"].cast(pl.Int32).to_numpy(),
        "timestamps": frame["timestamp"].to_numpy(),
        "ratings": frame["rating"].to_numpy(),
    }
    lengths = frame.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    keys_of = {name: keys[name].cast(pl.String).to_list() for name, keys in ordered.items()}
    _write(out, keys_of["user"], keys_of["item"], lengths, columns)


TWINS: dict[str, Callable[..., None]] = {"python": python_twin, "pandas": pandas_twin, "polars": polars_twin}
