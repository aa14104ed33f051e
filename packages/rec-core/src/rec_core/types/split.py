"""Train, valid and test parts of one set of interactions, under a named protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types.ids import Int32, Int64, array_digest, check_column, check_offsets
from rec_core.types.interactions import Histories, Interactions

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
PROTOCOLS = (
    "leave_one_out",
    "leave_last_n",
    "global_time",
    "global_ratio",
    "ratio",
    "temporal_user_groups",
    "given",
)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What evaluation asks: the history each user shows, and the items it really met next.

    histories  one row per user with at least one target and one visible event
    offsets    int64 [rows + 1]   row r's targets are ``items[offsets[r]:offsets[r + 1]]``
    items      int32 [targets]    dense item ids, oldest first
    skipped    users left out, by reason (``no_history``: nothing visible before the target)
    """

    histories: Histories
    offsets: Int64
    items: Int32
    skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_offsets(self.offsets, len(self.items), "held-out targets")
        check_column(self.items, len(self.items), np.int32, "held-out targets: items")
        if len(self.items) and self.items.min() < 0:
            raise DataError("held-out targets: item ids are dense and 0-based; a negative one was found")
        if len(self.offsets) != len(self.histories) + 1:
            raise DataError(f"{len(self.offsets) - 1} rows of targets for {len(self.histories)} histories")
        if len(self) and np.diff(self.offsets).min() < 1:
            raise DataError("every held-out row needs at least one target")

    def __len__(self) -> int:
        return len(self.histories)

    def row(self, r: int) -> Int32:
        """The targets of one row, a view."""
        return self.items[self.offsets[r] : self.offsets[r + 1]]

    @property
    def single(self) -> bool:
        """True when every row has exactly one target (leave-one-out): ranks alone then give every metric."""
        return len(self.items) == len(self) and bool((np.diff(self.offsets) == 1).all())

    def take(self, rows: npt.NDArray[np.int64]) -> HeldOut:
        """The given rows, in that order."""
        as_histories = Histories(self.histories.users, self.offsets, self.items).take(rows)
        return HeldOut(self.histories.take(rows), as_histories.offsets, as_histories.items, dict(self.skipped))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """All interactions and, for each, the part it belongs to.

    interactions  every event, ordered by (user, timestamp, original row)
    part          uint8 [n]    0 train, 1 valid, 2 test
    protocol      how the parts were chosen, one of :data:`PROTOCOLS`

    Models never see test: training is handed :meth:`for_training`, from which the test rows are gone. The history at
    valid time is train, at test time train + valid; test labels are read by evaluation only.
    """

    interactions: Interactions
    part: npt.NDArray[np.uint8]
    protocol: str

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise DataError(f"unknown split protocol {self.protocol!r}; there is: {', '.join(PROTOCOLS)}")
        if self.part.shape != (len(self.interactions),) or self.part.dtype != np.uint8:
            raise DataError(f"part must be uint8 [{len(self.interactions)}]; got {self.part.dtype} {self.part.shape}")
        if len(self.part) and self.part.max() > 2:
            raise DataError(f"parts are 0 (train), 1 (valid), 2 (test); got {self.part.max()}")

    @property
    def n_users(self) -> int:
        """Size of the user universe."""
        return self.interactions.n_users

    @property
    def n_items(self) -> int:
        """Size of the item universe that ranking covers."""
        return self.interactions.n_items

    @property
    def train(self) -> Interactions:
        """The training rows (copied once per call: keep the result)."""
        return self.interactions.where(self.part == 0)

    def events(self, part: Part) -> Interactions:
        """The rows of one part."""
        return self.interactions.where(self.part == PARTS.index(part))

    def for_training(self) -> Split:
        """The same split with the test rows physically gone: all that a model may be handed."""
        keep = self.part < 2
        return Split(self.interactions.where(keep), self.part[keep], self.protocol)

    def held_out(self, part: Part) -> HeldOut:
        """Histories and targets of ``"valid"`` or ``"test"``, ordered by user id.

        The history of a row is all its earlier parts in time order; users without a target are not rows, users
        without a visible event are counted in ``skipped["no_history"]``.
        """
        if part == "train":
            raise ValueError("train is not held out; use split.train")
        code = PARTS.index(part)
        seen = self.interactions.where(self.part < code).histories()
        wanted = self.interactions.where(self.part == code)
        counts = wanted.user_counts()
        rows = np.flatnonzero((counts > 0) & (seen.lengths > 0))
        keep = np.zeros(self.n_users, np.bool_)
        keep[rows] = True
        targets = wanted.items[keep[wanted.users]]
        offsets = np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int64)
        skipped = int(((counts > 0) & (seen.lengths == 0)).sum())
        return HeldOut(seen.take(rows), offsets, targets, {"no_history": skipped} if skipped else {})

    def hashes(self) -> dict[str, str]:
        """One SHA-256 per part, that of ``events(part)``; no part is copied for it."""
        events = self.interactions
        sizes = np.array([events.n_users, events.n_items], np.int64)
        columns = (events.users, events.items, events.timestamps, events.ratings, events.generated)
        return {
            part: array_digest(sizes, *(None if c is None else (c, self.part == code) for c in columns))
            for code, part in enumerate(PARTS)
        }
