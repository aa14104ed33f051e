"""How a model is used, whatever it is and however it was trained.

Training is an ordinary function per method with its own honest signature; these protocols describe what comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from rec_core.types import Candidates, Generated, Histories, ItemEmbeddings, Neighbors, Rankings, Scores, Split
from rec_core.types.ids import Bool, Float32, check_ids


@runtime_checkable
class Recommender(Protocol):
    """Answers histories with ranked items.

    ``known_users_only``: True when the model can only answer users of its training set; a row with user -1 then
    raises :class:`rec_core.errors.UnknownUsers`, never a silent popular list.
    """

    known_users_only: bool

    @property
    def n_items(self) -> int:
        """Size of the item universe it ranks."""
        ...

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k best items of each row, best first.

        ``exclude``: items per row that must not return; None excludes nothing. ``among``: bool [n_items], rank only
        these. Where fewer than k items are left, the rest of the row is -1 with score -inf. Equal scores are ordered
        by item id.
        """
        ...

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """One score per candidate, row by row; comparable within a row."""
        ...


@runtime_checkable
class DenseScorer(Protocol):
    """A recommender that can score the whole universe for a block of requests; core derives the rest from it."""

    known_users_only: bool

    @property
    def n_items(self) -> int:
        """Size of the item universe it scores."""
        ...

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items] for one block of histories, a fresh array that the caller may overwrite."""
        ...


@runtime_checkable
class VectorScorer(Protocol):
    """A dense scorer whose score is a dot product; core then scores in tiles and never holds a whole row block.

    The score of a pair is the dot product of its two float32 vectors, taken in float64 and rounded to float32; core
    finds the order of exactly these numbers, whatever tiles it works in.
    """

    known_users_only: bool

    @property
    def n_items(self) -> int:
        """Size of the item universe it scores: rows of :meth:`item_vectors`."""
        ...

    def user_vectors(self, histories: Histories) -> Float32:
        """float32 [rows, dim]."""
        ...

    def item_vectors(self) -> Float32:
        """float32 [n_items, dim]."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Text to vectors."""

    dim: int

    def encode(self, texts: Sequence[str]) -> Float32:
        """float32 [n, dim], row by row as asked."""
        ...


@runtime_checkable
class SequenceEncoder(Protocol):
    """Histories to vectors in the space of its item embeddings."""

    def encode(self, histories: Histories) -> Float32:
        """float32 [rows, dim]."""
        ...

    def item_embeddings(self) -> ItemEmbeddings:
        """The item side of the same space."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Nearest items of a vector."""

    def search(self, vectors: Float32, k: int, allow: Bool | None = None) -> Neighbors:
        """The k best items for each row of ``vectors`` [n, d]; ``allow`` bool [n_items] restricts the answer."""
        ...


@runtime_checkable
class Augmenter(Protocol):
    """Writes extra interactions for a training set."""

    def augment(self, train: Split, seed: int) -> Generated:
        """Only the new rows; equal seeds give equal rows."""
        ...


def as_mask(items: Sequence[int], n_items: int) -> Bool:
    """bool [n_items], True at the given ids: the form in which ``among`` and ``allow`` are asked."""
    mask, ids = np.zeros(n_items, np.bool_), np.asarray(items, np.int64)
    check_ids(ids, n_items, "item id")
    mask[ids] = True
    return mask
