"""Samples of click prediction: an event whose rating is to be told, given all that came before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.types.ids import Bool, Int64, array_digest, check_column, check_ids
from rec_core.types.interactions import Histories, Interactions, row_numbers
from rec_core.types.rankings import Candidates
from rec_core.types.split import PARTS, Part


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Targets among the events of a data set, each with a label and a part; several per user.

    events   int64 [n]   position of each target in the interactions of the data set
    labels   bool [n]    True where the user liked it
    part     uint8 [n]   0 train, 1 valid, 2 test

    The history of a sample is all earlier events of its user, liked or not, at full length; it is made when asked for
    (:meth:`histories`, :meth:`blocks`), since all of them together are many times the size of the data. The parts are
    the samples' own: they may differ from the split of the data set they point into.

    Raises :class:`DataError` when a column has another dtype or length or a value is outside its range.
    """

    events: Int64
    labels: Bool
    part: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        n = len(self.events)
        check_column(self.events, n, np.int64, "samples: events")
        check_column(self.labels, n, np.bool_, "samples: labels")
        check_column(self.part, n, np.uint8, "samples: part")
        if n and self.events.min() < 0:
            raise DataError("samples: events are positions in the interactions, from 0; a negative one was found")
        if n and self.part.max() > 2:
            raise DataError(f"samples: parts are 0 (train), 1 (valid), 2 (test); got {self.part.max()}")

    def __len__(self) -> int:
        return len(self.events)

    def of(self, part: Part) -> Samples:
        """The samples of one part, in their order."""
        return self.take(np.flatnonzero(self.part == PARTS.index(part)))

    def take(self, rows: Int64) -> Samples:
        """The given samples, copied, in the order given."""
        rows = row_numbers(rows, len(self))
        return Samples(self.events[rows], self.labels[rows], self.part[rows])

    def histories(self, interactions: Interactions, *, last: int | None = None) -> Histories:
        """One row per sample: all earlier events of its user, oldest first, or the ``last`` so many of them."""
        return self._histories(interactions, interactions.offsets, last)

    def candidates(self, interactions: Interactions) -> Candidates:
        """One labelled candidate per sample, the target: what :func:`rec_core.evaluation.evaluate_labels` asks."""
        check_ids(self.events, len(interactions), "samples: event")
        return Candidates(np.arange(len(self) + 1), interactions.items[self.events], self.labels)

    def blocks(
        self, interactions: Interactions, rows: int = 1024, *, last: int | None = None
    ) -> Iterator[tuple[Samples, Histories, Candidates]]:
        """The samples in their order, ``rows`` at a time, with histories and candidates: memory for one block only."""
        if rows < 1:
            raise ValueError(f"a block has at least 1 row; got {rows}")
        offsets = interactions.offsets
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            block = Samples(self.events[part], self.labels[part], self.part[part])
            yield block, block._histories(interactions, offsets, last), block.candidates(interactions)

    def _histories(self, interactions: Interactions, offsets: Int64, last: int | None) -> Histories:
        check_ids(self.events, len(interactions), "samples: event")
        users = interactions.users[self.events]
        lengths = self.events - offsets[users]
        if last is not None:
            if last < 0:
                raise ValueError(f"last is how many events to keep, at least 0; got {last}")
            lengths = np.minimum(lengths, last)
        of_rows = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(of_rows[-1]) + np.repeat(self.events - lengths - of_rows[:-1], lengths)
        columns = (interactions.timestamps, interactions.ratings, interactions.generated)
        times, ratings, generated = (None if column is None else column[at] for column in columns)
        return Histories(np.asarray(users, np.int64), of_rows, interactions.items[at], times, ratings, generated)

    def digest(self) -> str:
        """SHA-256 of all columns."""
        return array_digest(self.events, self.labels, self.part)
