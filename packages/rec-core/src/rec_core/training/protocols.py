"""What the training loop asks of a sequence model, and a sequence model of its item embeddings.

Importing this module does not import torch; the classes that need it live beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from rec_core.types import Histories
from rec_core.types.ids import Int64

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch: TypeAlias = Any
"""A dict or NamedTuple of tensors (nested is fine), such that it can be moved to a device as one value."""


@runtime_checkable
class ItemEmbeddingLayer(Protocol):
    """A module that turns dense item ids into vectors: a trained table, or text embeddings behind an adapter.

    Ids are 0..n_items-1. There is no row for padding: pad positions carry any valid id (0) and are masked by whoever
    padded. Input, target and candidate vectors of a model all come from its one layer.
    """

    @property
    def n_items(self) -> int:
        """Rows of the table."""
        ...

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    def __call__(self, ids: Tensor) -> Tensor:
        """Vectors [..., dim] of int64 ids [...]."""
        ...

    def table(self) -> Tensor:
        """Vectors of all items [n_items, dim], with gradient: ``table()[ids]`` equals ``layer(ids)``."""
        ...


@runtime_checkable
class SequenceModel(Protocol):
    """A ``torch.nn.Module`` that reads histories and scores item i with ``encode(batch) · items.table()[i]``.

    items        the layer that every item vector comes from
    max_length   how many of a row's newest events it reads

    A model may add a bias to each item's score: a method ``item_bias() -> Tensor | None`` (it may be left out) gives
    them, float [n_items]. :class:`rec_core.training.SequenceRecommender` then appends a 1 to the vectors of rows and
    the bias to those of items, so that a score stays one dot product.

    A model whose loss compares the rows of a step with each other says so with a class attribute ``whole_steps = True``
    (it may be left out). Its ``batch`` is then asked for all rows that a process has in a step at once, whatever
    ``micro_batches`` says (sorting them by length is its own affair), and for no rows at all where there are fewer than
    processes; what stands on other processes comes through ``rec_core.training.gather_rows``.
    """

    @property
    def items(self) -> ItemEmbeddingLayer:
        """The layer that every item vector comes from."""
        ...

    @property
    def max_length(self) -> int:
        """How many of a row's newest events the model reads."""
        ...

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> Batch:
        """Tensors on the CPU for the given rows of ``histories``.

        ``rng`` None asks for a batch to encode (whole histories, nothing drawn, nothing held back as target).
        Otherwise it is a training batch: targets come from the rows themselves. Every micro-batch and every process
        of one step is handed an *equal* generator, so draw per row with ``batching.row_uniforms(rng, rows, width)``;
        then the draws depend neither on how rows are grouped nor on padding nor on a resume.
        """
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(value, target_ids)``: the mean over targets, and the int64 [targets] it was averaged over.

        Targets stand with their repetitions; auxiliary losses read them. A batch without a target gives 0 (with a
        gradient of 0) and an empty ``target_ids``, not NaN.
        """
        ...

    def encode(self, batch: Batch) -> Tensor:
        """One vector per row [rows, dim], in the space of ``items.table()``."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of ``torch.nn.Module``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As of ``torch.nn.Module``."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """As of ``torch.nn.Module``."""
        ...

    def train(self, mode: bool = True) -> Any:
        """As of ``torch.nn.Module``."""
        ...


class AuxiliaryLoss(Protocol):
    """A term added to a model's own loss: collaborative alignment, contrastive views, ...

    Logged under its ``__name__`` (a function) or ``name`` (an object). It is computed per micro-batch; a term that
    compares the targets of a batch with each other therefore wants ``micro_batches=1``. When it is a
    ``torch.nn.Module`` its parameters are trained too.
    """

    def __call__(self, batch: Batch, target_ids: Tensor, model: Any) -> Tensor:
        """A scalar, already multiplied by its weight."""
        ...


class Progress(Protocol):
    """Where the loop tells how far it is. The command line draws a bar; the default writes log lines."""

    def start(self, total: int, done: int = 0) -> None:
        """Called once: ``total`` optimiser steps at most, of which ``done`` were made before a resume."""
        ...

    def advance(self, steps: int, values: Mapping[str, float]) -> None:
        """``steps`` more were made; ``values`` of the last one (loss, learning rate, ...)."""
        ...

    def message(self, text: str) -> None:
        """One line worth reading (an evaluation, an early stop, a resume)."""
        ...

    def validated(self, metrics: Mapping[str, float]) -> None:
        """A validation was made: epoch, step and all metrics. An error raised here ends training (a pruned trial)."""
        ...

    def finish(self) -> None:
        """Called once, also after an error."""
        ...
