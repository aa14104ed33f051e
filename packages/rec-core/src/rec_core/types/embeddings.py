"""One vector per item, with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rec_core.errors import DataError
from rec_core.types.ids import Float32, array_digest


@dataclass(frozen=True, slots=True, eq=False)
class ItemEmbeddings:
    """One vector per item, row = dense item id. (The trainable module is an ``ItemEmbeddingLayer``.)

    vectors      float32 [n_items, dim]   finite
    provenance   what made them: model name and hash, pooling, prompt, catalog hash, ... (JSON values)

    Raises :class:`DataError` for another dtype or rank and for NaN or infinite values (the first item is named).
    """

    vectors: Float32
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise DataError(
                f"item embeddings must be float32 [n_items, dim]; got {self.vectors.dtype} {list(self.vectors.shape)}"
            )
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)
            raise DataError(f"{len(bad)} item embeddings hold NaN or infinity; the first is item {bad[0]}")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.vectors.shape[1])

    def digest(self) -> str:
        """SHA-256 of the vectors."""
        return array_digest(self.vectors)
