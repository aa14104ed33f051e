"""CL4SRec (Xie et al. 2022, arXiv 2010.14395): SASRec with a second task, telling altered copies of a history apart.

Two views of each training sequence are made by crop, mask or reorder; the vector of a view is what SASRec says at its
newest event, and the two views of a row should be closer to each other than to the views of the step's other rows. By
default an operator is drawn per row and view and the loss is NT-Xent with 2 (B - 1) negatives, as in the paper;
``operators=("crop",)`` and ``negatives_in_batch="other"`` are SELFRec's choices.
"""

# B rows of a process, N rows of the step, L positions, D width, V views

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.training import ItemEmbeddingLayer, gather_rows
from rec_core.training.batching import micro_batches, row_uniforms
from rec_core.types import Histories
from rec_core.types.ids import Int64
from rec_srs.config import CL4SRecSettings
from rec_srs.contrastive import contrast, info_nce
from rec_srs.sasrec import SASRec, SASRecBatch

PIECES = 4  # length-sorted pieces in which a step's rows, and its views, go through the encoder


class CL4SRecBatch(NamedTuple):
    """A whole step of one process, in pieces of similar length.

    sequences    what SASRec is trained on; no piece where the process has no row
    views        both views of every row, to be encoded; items hold ``n_items`` where an event is masked
    restore_V    int64 [2B], which of the encoded views, piece after piece, is the first view of row 0, 1, ..., then the
                 second view of row 0, 1, ...
    """

    sequences: tuple[SASRecBatch, ...]
    views: tuple[SASRecBatch, ...]
    restore_V: Tensor


class Maskable(nn.Module):
    """An item layer with one more vector, its own, for masked events: id ``n_items``. No softmax runs over it."""

    def __init__(self, items: ItemEmbeddingLayer, std: float) -> None:
        super().__init__()
        self.layer = items
        self.mask = nn.Parameter(torch.empty(items.dim))
        nn.init.normal_(self.mask, std=std)

    @property
    def n_items(self) -> int:
        """Items, the mask not among them."""
        return self.layer.n_items

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.layer.dim

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors [..., D] of ids 0..n_items."""
        vectors = self.layer(ids.clamp(max=self.n_items - 1))
        return torch.where((ids == self.n_items).unsqueeze(-1), self.mask.to(vectors.dtype), vectors)

    def table(self) -> Tensor:
        """Vectors of the items [n_items, D]."""
        return self.layer.table()


class CL4SRec(nn.Module):
    """SASRec on any item layer, trained with ``weight`` times the contrastive loss beside its own.

    The contrastive loss compares all rows of a step, of every process (``whole_steps``): a larger ``batch_size`` means
    more negatives, and ``micro_batches`` does not apply. A step with a single row has nothing to tell it from and a
    contrastive loss of 0. Views are made of the sequence that SASRec reads, which is without the last target.
    """

    settings_type: ClassVar[type[CL4SRecSettings]] = CL4SRecSettings
    whole_steps: ClassVar[bool] = True

    def __init__(self, items: ItemEmbeddingLayer, settings: CL4SRecSettings = CL4SRecSettings()) -> None:  # noqa: B008
        super().__init__()
        self.settings = settings
        self.sasrec = SASRec(Maskable(items, settings.initial_std or 0.02), settings)

    @property
    def items(self) -> ItemEmbeddingLayer:
        """The layer that every item vector comes from."""
        layer = self.sasrec.items
        assert isinstance(layer, Maskable)
        return layer.layer

    @property
    def max_length(self) -> int:
        """Newest events of a history that are read."""
        return self.settings.max_length

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> CL4SRecBatch | SASRecBatch:
        """With ``rng`` SASRec's training batch and two views of each row; without it what SASRec encodes."""
        if rng is None:
            return self.sasrec.batch(histories, rows, None)
        lengths_B = np.minimum(histories.lengths[rows], self.max_length + 1)
        pieces = micro_batches(rows, lengths_B, PIECES)
        sequences = tuple(self.sasrec.batch(histories, piece, deepcopy(rng)) for piece in pieces)
        if self.settings.weight == 0 or not pieces:
            return CL4SRecBatch(sequences, (), torch.zeros(0, dtype=torch.int64))
        inputs_BL, lengths_B = _together(sequences)
        order, drawn = np.concatenate(pieces), rng.spawn(1)[0]  # a stream that SASRec does not draw from
        views = [
            altered(inputs_BL, lengths_B, order, self.items.n_items, self.settings, drawn) for _ in ("one", "other")
        ]
        ids_VL, lengths_V = (np.concatenate(parts) for parts in zip(*views, strict=True))
        shares = micro_batches(np.flatnonzero(lengths_V), lengths_V[lengths_V > 0], PIECES)
        place = np.full(len(ids_VL), -1)
        place[np.concatenate([np.zeros(0, np.int64), *shares])] = np.arange(sum(map(len, shares)))
        return CL4SRecBatch(
            sequences,
            tuple(_to_encode(ids_VL[share], lengths_V[share]) for share in shares),
            torch.from_numpy(place[place >= 0]),  # rows without an event have no view: both are missing
        )

    def loss(self, batch: CL4SRecBatch) -> tuple[Tensor, Tensor]:
        """SASRec's loss plus ``weight`` times the contrastive one, and SASRec's targets.

        With several processes each of them must call this for the same step.
        """
        found = [self.sasrec.loss(piece) for piece in batch.sequences]
        if found:
            targets_T = torch.cat([targets for _, targets in found])
            total = torch.stack([value * len(targets) for value, targets in found]).sum()
            value = total / max(len(targets_T), 1)
        else:  # no rows here, but other processes wait for the gradients of every parameter
            targets_T = torch.zeros(0, dtype=torch.int64, device=self.sasrec.positions.weight.device)
            value = torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * 0.0
        if self.settings.weight == 0:
            return value, targets_T
        return value + self.settings.weight * self._contrast(batch), targets_T

    def _contrast(self, batch: CL4SRecBatch) -> Tensor:
        found = [self.sasrec.encode(piece) for piece in batch.views]
        if found:
            view_VD = torch.cat(found).index_select(0, batch.restore_V)
        else:
            view_VD = self.sasrec.positions.weight.new_zeros(0, self.items.dim)
        pair_N2D = gather_rows(view_VD.view(2, -1, self.items.dim).transpose(0, 1).contiguous())
        one_ND, other_ND = pair_N2D.unbind(dim=1)
        if self.settings.negatives_in_batch == "other":
            return info_nce(one_ND, other_ND, self.settings.temperature)
        return nt_xent(one_ND, other_ND, self.settings.temperature)

    def encode(self, batch: SASRecBatch) -> Tensor:
        """SASRec's vector at each row's newest event [B, D]."""
        return self.sasrec.encode(batch)


def nt_xent(one_ND: Tensor, other_ND: Tensor, temperature: float, *, chunk_bytes: int | None = None) -> Tensor:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709): each of the 2N views is told from the 2 (N - 1) of other rows.

    Mean over views of -log softmax(cosines / temperature)[the row's other view], a view's cosine with itself left out.
    In blocks and in float32 or wider, as :func:`rec_srs.contrastive.contrast` does it. Swapping the views changes
    nothing; 0 for a single row and for none.
    """
    view_VD = torch.cat([one_ND, other_ND])
    places_V = torch.arange(len(view_VD), device=view_VD.device)
    partners_V = places_V.roll(len(one_ND))
    return contrast(view_VD, view_VD, partners_V, temperature, left_out_N=places_V, chunk_bytes=chunk_bytes)


# ---- views -------------------------------------------------------------------------------------------------------


def altered(
    items_BL: Int64, lengths_B: Int64, rows: Int64, mask_id: int, settings: CL4SRecSettings, rng: np.random.Generator
) -> tuple[Int64, Int64]:
    """One view of each right-padded sequence, ``(ids [B, L], lengths [B])``, by an operator drawn for each row.

    A sequence of m events and share r: crop keeps floor(r m) + 1 consecutive events, mask puts ``mask_id`` at
    floor(r m) random places, reorder shuffles floor(r m) + 1 consecutive events. What is drawn depends on ``rng`` and
    the row's number alone, neither on its company nor on the padding; another call with the same ``rng`` draws anew.
    """
    width = items_BL.shape[1]
    which_B = (row_uniforms(rng, rows, 1)[:, 0] * len(settings.operators)).astype(np.int64)
    start_B = row_uniforms(rng, rows, 1)[:, 0]
    key_BL = row_uniforms(rng, rows, width)
    views_BL, view_lengths_B = items_BL.copy(), lengths_B.copy()
    for number, operator in enumerate(settings.operators):
        chosen = np.flatnonzero((which_B == number) & (lengths_B > 0))
        if not len(chosen):
            continue
        args = items_BL[chosen], lengths_B[chosen]
        if operator == "crop":
            views_BL[chosen], view_lengths_B[chosen] = crop(*args, settings.crop_share, start_B[chosen])
        elif operator == "mask":
            views_BL[chosen] = mask(*args, settings.mask_share, key_BL[chosen], mask_id)
        else:
            views_BL[chosen] = reorder(*args, settings.reorder_share, start_B[chosen], key_BL[chosen])
    return views_BL, view_lengths_B


def crop(items_BL: Int64, lengths_B: Int64, share: float, start_B: np.ndarray) -> tuple[Int64, Int64]:
    """floor(share m) + 1 consecutive events, from the first column on, and their numbers [B].

    ``start_B`` in [0, 1) chooses among the m - floor(share m) places where such a stretch may begin.
    """
    first_B, kept_B = _stretch(lengths_B, share, start_B)
    columns = np.arange(items_BL.shape[1])
    from_BL = np.minimum(first_B[:, None] + columns, items_BL.shape[1] - 1)
    cropped_BL = np.take_along_axis(items_BL, from_BL, axis=1)
    return np.where(columns < kept_B[:, None], cropped_BL, 0), kept_B


def mask(items_BL: Int64, lengths_B: Int64, share: float, key_BL: np.ndarray, mask_id: int) -> Int64:
    """``mask_id`` at the floor(share m) real places whose keys are the smallest."""
    columns = np.arange(items_BL.shape[1])
    real_BL = np.where(columns < lengths_B[:, None], key_BL, np.inf)
    rank_BL = real_BL.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.where(rank_BL < np.floor(share * lengths_B)[:, None], mask_id, items_BL)


def reorder(items_BL: Int64, lengths_B: Int64, share: float, start_B: np.ndarray, key_BL: np.ndarray) -> Int64:
    """floor(share m) + 1 consecutive events in the order of their keys in [0, 1), the others where they were."""
    first_B, count_B = _stretch(lengths_B, share, start_B)
    columns = np.arange(items_BL.shape[1])
    inside_BL = (columns >= first_B[:, None]) & (columns < (first_B + count_B)[:, None])
    # Inside a stretch from column f on all order keys lie in [f, f + 1), so it stays between its neighbours.
    order_BL = np.where(inside_BL, first_B[:, None] + key_BL, columns).argsort(axis=1, kind="stable")
    return np.take_along_axis(items_BL, order_BL, axis=1)


def _stretch(lengths_B: Int64, share: float, start_B: np.ndarray) -> tuple[Int64, Int64]:
    """(first column, number of events) of a random stretch of floor(share m) + 1 events."""
    short_B = np.floor(share * lengths_B).astype(np.int64)
    return (start_B * (lengths_B - short_B)).astype(np.int64), short_B + 1


def _together(sequences: tuple[SASRecBatch, ...]) -> tuple[Int64, Int64]:
    """(inputs [B, L] of all pieces, padded to the longest; their lengths [B])."""
    width = max(piece.items_BL.shape[1] for piece in sequences)
    inputs = [F.pad(piece.items_BL, (0, width - piece.items_BL.shape[1])) for piece in sequences]
    lengths = [piece.mask_BL.sum(dim=1) for piece in sequences]
    return torch.cat(inputs).numpy(), torch.cat(lengths).numpy()


def _to_encode(ids_VL: Int64, lengths_V: Int64) -> SASRecBatch:
    ids_VL = ids_VL[:, : lengths_V.max()]
    mask_VL = np.arange(ids_VL.shape[1]) < lengths_V[:, None]
    return SASRecBatch(torch.from_numpy(ids_VL.copy()), torch.from_numpy(mask_VL), None)
