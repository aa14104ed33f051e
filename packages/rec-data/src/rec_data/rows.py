"""Raw rows as integer codes: what a reader hands over block by block, and what all later steps work on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.errors import DataError
from rec_core.types.ids import Float32, Int32, Int64
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.ordering import is_plain_number, key_order
from rec_data.values import to_keys, to_ratings, to_seconds

log = logging.getLogger(__name__)

Where = Callable[[int], str]  # row of a block -> "ratings.csv, line 17"
UInt8 = npt.NDArray[np.uint8]
COLUMNS = ("user", "item", "timestamp", "rating", "part")
SILENCE = 5.0  # seconds between two lines that say how far the reading is
_CODES = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class RawRows:
    """Interactions in the order of the files, keys as codes.

    users       int32 [n]    position of the raw key in ``user_keys``
    items       int32 [n]    position of the raw key in ``item_keys``
    user_keys   String, the different raw keys in the order of :func:`rec_data.ordering.ordered_keys`
    item_keys   the same for items
    timestamps  int64 [n]    seconds since 1970; None where the source has none
    ratings     float32 [n]  finite; None where the source has none
    part        uint8 [n]    0 train, 1 valid, 2 test; None unless the source states its own split

    The result does not depend on how the rows were cut into blocks.
    """

    users: Int32
    items: Int32
    user_keys: pl.Series
    item_keys: pl.Series
    timestamps: Int64 | None = None
    ratings: Float32 | None = None
    part: UInt8 | None = None

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, frame: pl.DataFrame) -> RawRows:
        """From whole columns: ``user`` and ``item`` (String), optional ``timestamp`` (Int64), ``rating``, ``part``."""
        collector = RowCollector(ReadSettings(timestamp_unit="seconds"))
        collector.add(frame, lambda row: f"row {row + 1}")
        return collector.finish()

    def without_rows(self) -> RawRows:
        """No rows, the same keys."""
        none = np.empty(0, np.int32)
        return RawRows(none, none, self.user_keys, self.item_keys)

    @property
    def columns(self) -> list[str]:
        """The columns that are there."""
        have = {"timestamp": self.timestamps, "rating": self.ratings, "part": self.part}
        return ["user", "item", *(name for name, column in have.items() if column is not None)]

    def frame(self) -> pl.DataFrame:
        """The rows with their raw keys, for small data and for tests."""
        columns: dict[str, pl.Series | npt.NDArray[np.generic]] = {
            "user": self.user_keys.gather(self.users),
            "item": self.item_keys.gather(self.items),
        }
        for name, column in (("timestamp", self.timestamps), ("rating", self.ratings), ("part", self.part)):
            if column is not None:
                columns[name] = column
        return pl.DataFrame(columns)


class RowCollector:
    """Takes the blocks of a reader, checks every value, and numbers the keys.

    Rows without a user or item key are left out and counted; a time or rating that cannot be read is an error, or
    left out and counted where the settings say ``bad_rows="drop"``.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._unit = settings.timestamp_unit
        self.faults = Faults(settings.bad_rows)
        self.units: dict[str, int] = {}
        self._users, self._items = _KeyCodes(), _KeyCodes()
        self._optional: dict[str, list[npt.NDArray[Any]]] = {}
        self._blocks = self._rows = 0
        self._said = monotonic()

    def add(self, block: pl.DataFrame, where: Where) -> tuple[pl.DataFrame, pl.Series | None]:
        """One block of rows: columns ``user``, ``item`` and, in every block or in none, ``timestamp``, ``rating``
        (text or numbers) and ``part`` (0, 1, 2). Columns are read in the units that the settings name.

        Gives the rows that stay, with times in seconds and ratings as numbers, and which of the block's they are
        (bool, None for all), for what is kept beside them.
        """
        unknown = set(block.columns) - set(COLUMNS)
        if unknown or not {"user", "item"} <= set(block.columns):
            raise ValueError(f"a block has the columns {COLUMNS}; got {block.columns}")
        optional = [name for name in COLUMNS[2:] if name in block.columns]
        if self._blocks and optional != list(self._optional):
            raise ValueError(f"the first block had {list(self._optional)}, this one has {optional}")
        self._blocks += 1
        for column in block.iter_columns():
            if column.dtype.is_nested():
                raise DataError(
                    f"{where(0)}: the column of the {column.name} holds {column.dtype}, wanted single values"
                )
        faults = self.faults.block(block.height, where)
        users = to_keys(block["user"], "user key", faults)
        items = to_keys(block["item"], "item key", faults)
        faults.leave_out(users.is_null(), "missing_user")
        faults.leave_out(items.is_null(), "missing_item")
        values: dict[str, pl.Series] = {}
        if "timestamp" in optional:
            values["timestamp"], units = to_seconds(block["timestamp"], self._unit, faults)
            for unit, n in units.items():
                self.units[unit] = self.units.get(unit, 0) + n
        if "rating" in optional:
            values["rating"] = to_ratings(block["rating"], faults)
        if "part" in optional:
            values["part"] = block["part"].cast(pl.UInt8)
        kept = faults.kept()
        if kept is not None:
            users, items = users.filter(kept), items.filter(kept)
            values = {name: column.filter(kept) for name, column in values.items()}
        with ThreadPoolExecutor(2) as threads:  # polars lets both run
            list(threads.map(_KeyCodes.add, (self._users, self._items), (users, items)))
        self._rows += len(users)
        if monotonic() - self._said >= SILENCE:
            self._said = monotonic()
            log.info("read %s rows", f"{self._rows:,}")
        for name in optional:
            self._optional.setdefault(name, []).append(values[name].to_numpy())
        return pl.DataFrame({"user": users, "item": items, **values}), kept

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rows left out so far, by reason, in the order of the reasons' names."""
        return dict(sorted(self.faults.counts.items()))

    def finish(self) -> RawRows:
        """All rows; the collector is empty afterwards."""
        if len(self.units) > 1:
            found = ", ".join(f"{unit} {n:,}" for unit, n in self.units.items())
            log.warning("timestamps come in several units, each taken as it is: %s", found)
        with ThreadPoolExecutor(2) as threads:
            (users, user_keys), (items, item_keys) = threads.map(_KeyCodes.finish, (self._users, self._items))
        optional = {name: _joined(self._optional, name) for name in list(self._optional)}
        return RawRows(
            users,
            items,
            user_keys,
            item_keys,
            optional.get("timestamp"),
            optional.get("rating"),
            optional.get("part"),
        )


class _KeyCodes:
    """Keys of one kind, block by block, to codes in the final order.

    As long as all keys are plain whole numbers they are kept as numbers; text goes through a polars ``Categories``,
    whose codes stay the same from block to block.
    """

    def __init__(self) -> None:
        self._blocks: list[npt.NDArray[Any]] = []
        self._categories: pl.Categories | None = None
        self._holder: pl.Series | None = None  # polars forgets the codes once no column uses them
        self._known: list[tuple[Int64, pl.Series]] = []  # new codes of each block, and their keys
        self._size = 0

    def add(self, keys: pl.Series) -> None:
        if keys.dtype != pl.String and self._categories is not None:
            keys = keys.cast(pl.String)
        if self._categories is None:
            numbers = keys.to_numpy() if keys.dtype != pl.String else plain_numbers(keys)
            if numbers is not None:
                small = not len(numbers) or numbers.max() <= _CODES
                self._blocks.append(numbers.astype(np.int32) if small else numbers)
                return
            self._categories = pl.Categories.random()
            for i, block in enumerate(self._blocks):
                self._blocks[i] = self._encoded(pl.Series(block).cast(pl.String))
        self._blocks.append(self._encoded(keys))

    def _encoded(self, keys: pl.Series) -> npt.NDArray[np.uint32]:
        assert self._categories is not None
        coded = keys.cast(pl.Categorical(self._categories))
        if self._holder is None:
            self._holder = coded.head(1)
        codes = coded.to_physical().to_numpy().astype(np.uint32, copy=False)
        fresh = np.flatnonzero(codes >= self._size)
        if len(fresh):
            new = codes[fresh] - self._size
            first = np.full(int(new.max()) + 1, -1, np.int64)
            first[new[::-1]] = fresh[::-1]  # the last to be written is the first that occurs
            taken = np.flatnonzero(first >= 0)
            self._known.append((taken + self._size, keys.gather(first[taken])))
            self._size += len(first)
        return codes

    def finish(self) -> tuple[Int32, pl.Series]:
        """Codes of all rows in order, and the keys they stand for."""
        blocks, self._blocks = self._blocks, []
        if self._categories is None:
            return _coded_numbers(blocks)
        code = np.concatenate([new for new, _ in self._known])
        keys = pl.concat([keys for _, keys in self._known])
        order = key_order(keys)
        position = np.full(self._size, -1, np.int32)
        position[code[order]] = np.arange(len(order), dtype=np.int32)
        return _looked_up(blocks, position), keys.gather(order)


def _coded_numbers(blocks: list[npt.NDArray[Any]]) -> tuple[Int32, pl.Series]:
    rows = sum(map(len, blocks))
    top = max((int(block.max()) for block in blocks if len(block)), default=-1)
    if top < max(4 * rows, 1 << 24):
        used = np.zeros(top + 1, np.bool_)
        for block in blocks:
            used[block] = True
        keys = np.flatnonzero(used)
        codes = _looked_up(blocks, (np.cumsum(used) - 1).astype(np.int32))
    else:
        keys = np.unique(np.concatenate([np.unique(block) for block in blocks])).astype(np.int64)
        codes = np.empty(rows, np.int32)
        for at, block in _placed(blocks):
            codes[at] = np.searchsorted(keys, block)
    return codes, pl.Series(keys, dtype=pl.Int64).cast(pl.String)


def _looked_up(blocks: list[npt.NDArray[Any]], position: Int32) -> Int32:
    codes = np.empty(sum(map(len, blocks)), np.int32)
    for at, block in _placed(blocks):
        codes[at] = position[block]
    return codes


def _placed(blocks: list[npt.NDArray[Any]]) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Each block with its place among all rows; a block is let go of once the next is asked for."""
    blocks.reverse()
    start = 0
    while blocks:
        block = blocks.pop()
        yield slice(start, start + len(block)), block
        start += len(block)


def _joined(columns: dict[str, list[npt.NDArray[Any]]], name: str) -> npt.NDArray[Any]:
    blocks = columns.pop(name)
    dtype = {"timestamp": np.int64, "rating": np.float32, "part": np.uint8}[name]
    whole = np.empty(sum(map(len, blocks)), dtype)
    for at, block in _placed(blocks):
        whole[at] = block
    return whole


def plain_numbers(keys: pl.Series) -> Int64 | None:
    """The keys as int64 when each is a plain whole number (no sign, no leading zero, at most 18 digits), else None."""
    if len(keys) and not is_plain_number(keys.head(1))[0]:  # text, as a rule, from the first key on
        return None
    numbers = keys.cast(pl.Int64, strict=False)
    if numbers.null_count() or not is_plain_number(keys, numbers).all():
        return None
    return numbers.to_numpy()
