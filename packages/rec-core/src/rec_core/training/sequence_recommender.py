"""A fitted sequence model as a recommender, scorer and encoder of the core protocols."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from rec_core.errors import DataError
from rec_core.training.memory import OutOfMemory, is_shortage
from rec_core.training.protocols import SequenceModel
from rec_core.types import Candidates, Histories, ItemEmbeddings, Rankings, Scores
from rec_core.types.ids import Bool, Float32, Int64

logger = logging.getLogger("rec_core.training")


_EVENTS = {True: 12_800, False: 128_000}  # on a CPU, on other devices


class SequenceRecommender:
    """Answers histories with a fitted :class:`SequenceModel`: Recommender, Dense- and VectorScorer, SequenceEncoder.

    model        its weights must not change any more: item vectors are computed once, on first use
    n_items      how many items are ranked, the first ones of the model's table; None = all of it. A table may go on
                 with cold items, which are ranked only on request
    provenance   goes into :meth:`item_embeddings`
    batch_rows   rows per forward pass, halved (with a warning) where memory does not suffice; rows are sorted by length
                 first, so little is spent on padding. None = as many as hold some 12,800 events on a CPU (what fits its
                 cache: 64 rows of 200 take half the time per row that 512 take), ten times that on a GPU

    A model with ``item_bias()`` gets vectors of width dim + 1: the bias of each item, and a 1 in every row.

    Users need not be known: a row's history is all that counts. A row with an *empty* history raises
    :class:`DataError` that names it, since a model of sequences has nothing to read there and would rank by accident;
    whoever serves such users wants a popularity list for them, and should say so.
    """

    known_users_only = False

    def __init__(
        self,
        model: SequenceModel,
        n_items: int | None = None,
        *,
        provenance: Mapping[str, Any] | None = None,
        batch_rows: int | None = None,
    ) -> None:
        self.model = model
        self._n_items = model.items.n_items if n_items is None else n_items
        if not 0 < self._n_items <= model.items.n_items:
            raise DataError(f"{self._n_items} items are to be ranked, the model's table has {model.items.n_items}")
        self.provenance = dict(provenance or {})
        self.batch_rows = batch_rows
        self._item_vectors: Float32 | None = None

    @property
    def n_items(self) -> int:
        """Items ranked."""
        return self._n_items

    def user_vectors(self, histories: Histories) -> Float32:
        """float32 [rows, dim (+ 1)]; :class:`DataError` for a row with an empty history.

        :class:`OutOfMemory` where memory does not suffice for a single row.
        """
        self._check(histories)
        dim = self.model.items.dim
        vectors = np.ones((len(histories), dim + (_item_bias(self.model) is not None)), np.float32)
        lengths = np.minimum(histories.lengths, self.model.max_length)
        order = np.argsort(lengths, kind="stable")
        with _inference(self.model) as device:
            start, at_once = 0, self.batch_rows or len(order)
            while start < len(order):
                if self.batch_rows is None:
                    at_once = min(at_once, _rows_within(lengths[order[start:]], _EVENTS[device.type == "cpu"]))
                rows = order[start : start + at_once]
                try:
                    batch = _to(self.model.batch(histories, rows, None), device)
                    vectors[rows, :dim] = self.model.encode(batch).float().cpu().numpy()
                except (MemoryError, RuntimeError) as error:
                    if not is_shortage(error):
                        raise
                    if len(rows) == 1:
                        length = min(int(histories.lengths[rows[0]]), self.model.max_length)
                        raise OutOfMemory(
                            f"out of memory on {device} while encoding a single history of {length} events "
                            f"(rows per pass were halved down to 1); take a smaller model or max_length"
                        ) from error
                    at_once = len(rows) // 2
                    logger.warning("not enough memory to encode %d histories at once: trying %d", len(rows), at_once)
                    continue
                start += len(rows)
        return vectors

    def encode(self, histories: Histories) -> Float32:
        """The same as :meth:`user_vectors`, under the name a SequenceEncoder has it."""
        return self.user_vectors(histories)

    def item_vectors(self) -> Float32:
        """float32 [n_items, dim (+ 1)]."""
        if self._item_vectors is None:
            with _inference(self.model):
                table, bias = self.model.items.table()[: self._n_items], _item_bias(self.model)
                if bias is not None:
                    table = torch.cat([table, bias[: self._n_items, None].to(table.dtype)], dim=1)
                self._item_vectors = table.float().cpu().numpy().copy()  # a copy: on a CPU it would share the weights
        return self._item_vectors

    def item_embeddings(self) -> ItemEmbeddings:
        """The item side of the space that :meth:`encode` maps to."""
        return ItemEmbeddings(self.item_vectors(), self.provenance)

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items], a fresh array."""
        return self.user_vectors(histories) @ self.item_vectors().T

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k best items of each row, best first; equal scores by item id."""
        from rec_core.evaluation import recommend_dense

        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """One score per candidate, row by row."""
        from rec_core.evaluation import score_dense

        return score_dense(self, histories, candidates)

    def _check(self, histories: Histories) -> None:
        empty = np.flatnonzero(histories.lengths == 0)
        if len(empty):
            row = int(empty[0])
            raise DataError(
                f"row {row} (user {histories.users[row]}) has an empty history ({len(empty)} of {len(histories)} rows "
                f"have): a sequence model needs at least one event; serve such users with a popularity list"
            )
        if len(histories.items) and histories.items.max() >= self.model.items.n_items:
            raise DataError(
                f"a history holds item {histories.items.max()}, the model knows 0..{self.model.items.n_items - 1}; "
                f"were histories and model made from the same data set?"
            )


def _rows_within(lengths: Int64, events: int) -> int:
    """How many of these rows, shortest first, make a rectangle of at most ``events`` places; at least 1."""
    counts = range(1, len(lengths) + 1)
    return max(1, bisect_right(counts, events, key=lambda rows: rows * int(lengths[rows - 1])))


@contextmanager
def _inference(model: SequenceModel) -> Iterator[torch.device]:
    """Eval mode without gradients, and the mode it was in afterwards; gives the model's device."""
    module = cast(nn.Module, model)
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield next(module.parameters()).device
    finally:
        module.train(training)


def _item_bias(model: SequenceModel) -> torch.Tensor | None:
    bias = getattr(model, "item_bias", None)
    return None if bias is None else bias()


def _to(batch: Any, device: torch.device) -> Any:
    from accelerate.utils import send_to_device

    return send_to_device(batch, device)
