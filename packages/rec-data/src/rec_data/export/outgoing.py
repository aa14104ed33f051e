"""The events of a dataset in the order in which they go out, under the names they go out with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.errors import DataError
from rec_core.types import Dataset
from rec_core.types.ids import Bool, Float32, Int32, Int64
from rec_data.export.config import Keys

BLOCK = 1 << 21  # events of a block; a user's are never cut apart
TRAIN, VALID, TEST = 0, 1, 2
PART_NAMES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """Events by user; each user's train events in time order, then its valid events, then its test events.

    So the held-out tail is the end of every sequence wherever generated events were put, and the last two items of a
    leave-one-out layout are the real ones.

    users, items         int64, int32 [n]     dense ids
    part                 uint8 [n]            0, 1, 2
    n_users              users of the dataset
    timestamps, ratings, generated            as in Interactions; None also where nobody asked for them
    moved                users whose events were put in another order
    """

    users: Int64
    items: Int32
    part: npt.NDArray[np.uint8]
    n_users: int
    timestamps: Int64 | None = None
    ratings: Float32 | None = None
    generated: Bool | None = None
    moved: int = 0

    @classmethod
    def in_time(cls, dataset: Dataset) -> Outgoing:
        """All events in the order of the dataset, with their columns."""
        events = dataset.split.interactions
        _check_generated(dataset)
        columns = (events.timestamps, events.ratings, events.generated)
        return cls(events.users, events.items, dataset.split.part, events.n_users, *columns)

    @classmethod
    def of(cls, dataset: Dataset, *, columns: bool = False) -> Outgoing:
        """All events with the held-out ones last, with timestamps, ratings and flags only where ``columns`` asks.

        :class:`DataError` where an event that is held out was generated.
        """
        events, part = dataset.split.interactions, dataset.split.part
        made = cls.in_time(dataset)
        if not columns:
            made = cls(events.users, events.items, part, events.n_users)
        falls = (np.diff(events.users) == 0) & (part[1:] < part[:-1])
        if not falls.any():
            return made
        moved = len(np.unique(events.users[1:][falls]))
        return replace(made._pick(np.lexsort((part, events.users))), moved=moved)  # stable: time stays inside a part

    def __len__(self) -> int:
        return len(self.users)

    def where(self, keep: Bool) -> Outgoing:
        """The events where ``keep`` is True."""
        return self._pick(keep)

    def _pick(self, rows: slice | npt.NDArray[np.int64] | Bool) -> Outgoing:
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            part=self.part[rows],
            timestamps=None if self.timestamps is None else self.timestamps[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            generated=None if self.generated is None else self.generated[rows],
        )

    def blocks(self, size: int = BLOCK) -> Iterator[Outgoing]:
        """All events in runs of at least ``size`` that end where a user ends."""
        start = 0
        while start < len(self):
            stop = len(self)
            if start + size < stop:
                stop = int(np.searchsorted(self.users, self.users[start + size - 1], side="right"))
            yield self._pick(slice(start, stop))
            start = stop

    def counts(self, part: int) -> Int64:
        """Events of a part per user, int64 [n_users]."""
        return np.bincount(self.users[self.part == part], minlength=self.n_users).astype(np.int64)

    def part_counts(self) -> dict[str, int]:
        """Events of each part."""
        counted = np.bincount(self.part, minlength=3)
        return {name: int(counted[code]) for code, name in enumerate(PART_NAMES)}


def _check_generated(dataset: Dataset) -> None:
    events, part = dataset.split.interactions, dataset.split.part
    if events.generated is None:
        return
    held = np.flatnonzero(events.generated & (part > TRAIN))
    if len(held):
        user = dataset.users.ids.keys[int(events.users[held[0]])]
        raise DataError(
            f"{len(held):,} generated events are held out (the first of user {user!r}): generated events may only be "
            f"training data; augment the train part alone"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What users and items are called in the files: String, by dense id.

    first   what dense id 0 is called where the names are numbers; None where they are raw keys
    """

    users: pl.Series
    items: pl.Series
    first: int | None = None

    @classmethod
    def of(cls, dataset: Dataset, keys: Keys, first: int = 0) -> Names:
        """Raw keys, or dense ids counted from ``first``."""
        if keys == "raw":
            return cls(_series(dataset.users.ids.keys), _series(dataset.items.ids.keys))
        users, items = (pl.int_range(first, first + n, eager=True) for n in (len(dataset.users), len(dataset.items)))
        return cls(users.cast(pl.String), items.cast(pl.String), first)

    def check(self, layout: str, pattern: str, what: str) -> None:
        """Raise :class:`DataError` for the first name that holds what the layout uses itself."""
        for kind, names in (("user", self.users), ("item", self.items)):
            wrong = names.str.contains(pattern) | (names == "")
            if wrong.any():
                name = names[int(wrong.arg_max() or 0)]
                raise DataError(
                    f"the raw {kind} key {name!r} {'holds ' + what if name else 'is empty'}, which the {layout} layout "
                    f"cannot express ({int(wrong.sum()):,} such keys)"
                    + ("; pass --keys dense" if self.first is None else "; export as parquet")
                )

    def pairs(self, events: Outgoing) -> pl.DataFrame:
        """Columns ``user`` and ``item``, a row per event."""
        return pl.DataFrame({"user": self.users.gather(events.users), "item": self.items.gather(events.items)})

    def sequences(self, events: Outgoing, between: str = " ") -> pl.DataFrame:
        """Columns ``user`` and ``items`` (the names between ``between``), a row per user that has events."""
        frame = pl.DataFrame({"user": events.users, "items": self.items.gather(events.items)})
        lines = frame.group_by("user", maintain_order=True).agg(pl.col("items").str.join(between))
        return lines.with_columns(self.users.gather(lines["user"]).alias("user"))


def _series(keys: tuple[str, ...]) -> pl.Series:
    return pl.Series(keys, dtype=pl.String)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Users that a leave-one-out layout cannot take, and how many events they have."""

    users: int
    events: int


def one_held_out_each(
    events: Outgoing, dataset: Dataset, layout: str, *, shortest: int = 0
) -> tuple[Outgoing, LeftOut]:
    """The events of users with one valid and one test event, for layouts that hold out a sequence's last two items.

    Users without a held-out event are left out, as their last training items would be taken for one; with ``shortest``
    those with fewer events stay, because the layout's reader leaves such users in train. Any other number of held-out
    events is a :class:`DataError`.
    """
    valid, test = events.counts(VALID), events.counts(TEST)
    total = np.bincount(events.users, minlength=events.n_users)
    none = (valid == 0) & (test == 0)
    wrong = ~none & ((valid != 1) | (test != 1) | (total < shortest))
    if wrong.any():
        user = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"the {layout} layout takes a user's last item for the test and the one before for validation; "
            f"{int(wrong.sum()):,} users have other held-out events (user {dataset.users.ids.keys[user]!r}: "
            f"{valid[user]} valid, {test[user]} test of {total[user]} events; split: {dataset.split.protocol}). "
            f"Prepare with --split leave-one-out, or export as recbole --benchmark pairs, selfrec, lightgcn or parquet"
        )
    gone = none & (total >= max(shortest, 1))
    if not gone.any():
        return events, LeftOut(0, 0)
    keep = ~gone[events.users]
    if not keep.any():
        raise DataError(f"no user has held-out events, and the {layout} layout states them by their place alone")
    return events.where(keep), LeftOut(int(gone.sum()), int((~keep).sum()))


def without_repeated_pairs(events: Outgoing) -> tuple[Outgoing, int]:
    """Each (user, item) pair once in each part, where it is first; and how many events went."""
    n_items = int(events.items.max(initial=0)) + 1
    pair = (events.users * n_items + events.items) * 3 + events.part
    order = np.argsort(pair, kind="stable")
    repeated = np.zeros(len(events), np.bool_)
    repeated[order[1:][np.diff(pair[order]) == 0]] = True
    return (events.where(~repeated) if repeated.any() else events), int(repeated.sum())
