"""An item as a short sequence of discrete codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rec_core.errors import DataError
from rec_core.types.ids import Int32, Int64, array_digest


@dataclass(frozen=True, slots=True, eq=False)
class SemanticIds:
    """A semantic id per item: codes from coarse to fine.

    codes        int32 [n_items, levels]   0-based code at each level; -1 after the end of a shorter id
    vocabulary   int64 [levels]            number of codes of each level's codebook
    shared       True when all levels draw from one vocabulary (then all sizes are equal)

    Ids need not be unique here (collisions are a property to report); :meth:`collisions` counts them. Raises
    :class:`DataError` for codes outside their vocabulary, an empty id, or a code after the end of an id.
    """

    codes: Int32
    vocabulary: Int64
    shared: bool = False

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != np.int32 or self.codes.shape[1] < 1:
            raise DataError(f"codes must be int32 [n_items, levels]; got {self.codes.dtype} {list(self.codes.shape)}")
        if self.vocabulary.shape != (self.codes.shape[1],) or self.vocabulary.dtype != np.int64:
            raise DataError(
                f"vocabulary must be int64 [{self.codes.shape[1]}]; got {self.vocabulary.dtype} "
                f"{list(self.vocabulary.shape)}"
            )
        if self.shared and len(set(self.vocabulary.tolist())) > 1:
            raise DataError(f"levels that share one vocabulary have one size; got {self.vocabulary.tolist()}")
        outside = ((self.codes < -1) | (self.codes >= self.vocabulary)).any(axis=1)
        if outside.any():
            item = int(np.flatnonzero(outside)[0])
            raise DataError(f"item {item} has codes {self.codes[item].tolist()} outside {self.vocabulary.tolist()}")
        ended = self.codes == -1
        resumed = ended[:, 0] | (ended[:, :-1] & ~ended[:, 1:]).any(axis=1)
        if resumed.any():
            item = int(np.flatnonzero(resumed)[0])
            raise DataError(f"item {item} has codes {self.codes[item].tolist()}: an id is non-empty, -1 only ends it")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """Length of the longest possible id."""
        return int(self.codes.shape[1])

    def collisions(self) -> int:
        """How many items share their whole id with an item of smaller id."""
        return len(self.codes) - len(np.unique(self.codes, axis=0))

    def digest(self) -> str:
        """SHA-256 of codes and vocabulary."""
        return array_digest(self.codes, self.vocabulary)
