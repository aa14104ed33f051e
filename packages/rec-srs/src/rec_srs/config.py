"""Settings of each model: one frozen dataclass with defaults that work. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rec_core.errors import SettingsError


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


@dataclass(frozen=True, slots=True)
class PopularSettings:
    """Popular has nothing to set."""


@dataclass(frozen=True, slots=True)
class ItemKNNSettings:
    """Item-to-item cosine neighbours."""

    neighbors: int = 100
    """Neighbours kept per item, the most similar ones."""
    shrink: float = 10.0
    """Added to the product of norms, so that a few shared users count for less."""
    weighting: Literal["none", "idf", "bm25"] = "none"
    """How the user-item matrix is weighted before the cosine."""

    def __post_init__(self) -> None:
        _check(self.neighbors >= 1, f"neighbors must be at least 1; got {self.neighbors}")
        _check(self.shrink >= 0, f"shrink must be at least 0; got {self.shrink}")
        _check(self.weighting in ("none", "idf", "bm25"), f"weighting is none, idf or bm25; got {self.weighting!r}")


@dataclass(frozen=True, slots=True)
class EASESettings:
    """The closed-form linear autoencoder."""

    l2: float = 500.0
    """Ridge penalty on the item-item weights."""
    memory_limit_gib: float = 8.0
    """Refuse a catalogue whose dense inverse would need more than this."""

    def __post_init__(self) -> None:
        _check(self.l2 > 0, f"l2 must be above 0 (the Gram matrix alone may be singular); got {self.l2}")
        _check(self.memory_limit_gib > 0, f"memory-limit-gib must be above 0; got {self.memory_limit_gib}")


@dataclass(frozen=True, slots=True)
class SASRecSettings:
    """Self-attention over the history, trained with full softmax at every position."""

    dim: int = 64
    """Width of an item vector."""
    blocks: int = 2
    """Transformer blocks."""
    heads: int = 1
    """Attention heads; divides dim."""
    max_length: int = 200
    """Newest events of a history that are read."""
    dropout: float = 0.2
    """Dropout on embeddings and feed-forward."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; above 0 the fused attention of a CPU is lost (a step takes about twice as long)."""
    positions: Literal["from_end", "from_start"] = "from_end"
    """What a position counts from: the newest event (as the original's left padding does) or the window's first."""
    window: Literal["last", "random"] = "random"
    """Which max_length + 1 events of a longer training history are used in an epoch: the newest, or a random window."""
    scale_embeddings: bool = True
    """Multiply item vectors by the square root of dim before positions are added."""

    def __post_init__(self) -> None:
        _check(self.dim >= 1, f"dim must be at least 1; got {self.dim}")
        _check(self.blocks >= 1, f"blocks must be at least 1; got {self.blocks}")
        _check(self.heads >= 1 and self.dim % self.heads == 0, f"heads ({self.heads}) must divide dim ({self.dim})")
        _check(self.max_length >= 1, f"max-length must be at least 1; got {self.max_length}")
        _check(0 <= self.dropout < 1, f"dropout lies in [0, 1); got {self.dropout}")
        _check(0 <= self.attention_dropout < 1, f"attention-dropout lies in [0, 1); got {self.attention_dropout}")
        _check(
            self.positions in ("from_end", "from_start"), f"positions: from_end or from_start; got {self.positions!r}"
        )
        _check(self.window in ("last", "random"), f"window is last or random; got {self.window!r}")


def classic_sasrec() -> SASRecSettings:
    """The settings of Klenitskiy & Vasilev's SASRec with full softmax on MovieLens (arXiv 2309.07602)."""
    return SASRecSettings(dropout=0.1, attention_dropout=0.1, window="last")
