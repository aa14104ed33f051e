"""What a model of sequences is trained to do: tell the next item from others, by one of five losses.

Full softmax, sampled softmax with log-Q correction, binary cross-entropy, its calibrated form gBCE, and BPR. A model
calls :meth:`NextItem.draw` where it makes a batch and :meth:`NextItem.loss` where it has vectors; it need not know
which loss it is.
"""

# B rows, L positions, N targets, C targets of one chunk, K negatives, D width, V items

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rec_core.errors import DataError, SettingsError
from rec_core.training import ItemEmbeddingLayer
from rec_core.training.batching import row_uniforms
from rec_core.training.losses import CHUNK_BYTES_CPU, CHUNK_BYTES_GPU, full_softmax
from rec_core.types import Histories
from rec_core.types.ids import Bool, Int64
from rec_srs.config import SequenceSettings
from rec_srs.negatives import Unseen

# Scoring every item and picking K of them is faster than gathering K vectors up to about this many items per negative.
# Measured forward and backward on one CPU thread, D 64, K 256, 25,600 targets: V 3,416 takes 0.5 against 4.2 s,
# V 12,086 3.5 against 6.6 s.
SCORE_ALL = 100


class Negatives(NamedTuple):
    """Items that targets are told from.

    items   int64 [K], shared by all targets, or [N, K]
    pool    int64, how many items each was drawn from with equal chance: [], or [N]
    """

    items: Tensor
    pool: Tensor


class NextItem:
    """The objective that ``settings`` name (``loss``, ``negatives``, ``negatives_for`` and what belongs to them)."""

    def __init__(self, settings: SequenceSettings) -> None:
        self.settings = settings
        self._unseen: tuple[Histories, Unseen] | None = None

    def draw(
        self,
        histories: Histories,
        rows: Int64,
        mask_BL: Bool,
        n_items: int,
        rng: np.random.Generator,
        inputs_BL: Int64 | None = None,
    ) -> Negatives | None:
        """Negatives for the targets at the True places of ``mask_BL``; None for the full softmax.

        By ``negatives_for``, always uniform and with replacement unless said otherwise:

        - ``batch``: [K] from all items, equal in every micro-batch and process of a step (``rng`` is);
        - ``catalogue``: [N, K] from all items;
        - ``target``: [N, K] from items that the row does not hold in ``histories``;
        - ``row``: [N, 1] from items that are not among the row's inputs, all different within a row. SELFRec draws this
          by trying whole rows until one fits; here the same distribution is drawn at once. It needs ``inputs_BL``, the
          ids before each target.

        [N, K] goes in the order of ``mask_BL.nonzero()`` and depends on the row and the position alone; positions must
        count from the first column (right padding). :class:`DataError` where a row leaves nothing to draw.
        """
        settings = self.settings
        if settings.loss == "softmax":
            return None
        k, width = settings.negatives, mask_BL.shape[1]
        everything = torch.tensor(n_items)
        if settings.negatives_for == "batch":
            return Negatives(torch.from_numpy(rng.integers(n_items, size=k)), everything)
        if settings.negatives_for == "row":
            if inputs_BL is None:
                raise SettingsError("negatives-for row belongs to SASRec; choose batch, target or catalogue here")
            return _distinct(histories, rows, mask_BL, n_items, inputs_BL, row_uniforms(rng, rows, 1)[:, 0])
        uniforms_BLK = row_uniforms(rng, rows, width * k).reshape(len(rows), width, k)
        uniforms_NK = torch.from_numpy(uniforms_BLK[mask_BL])
        if settings.negatives_for == "catalogue":
            return Negatives((uniforms_NK * n_items).to(torch.int64).clamp_(max=n_items - 1), everything)
        unseen = self._unseen_of(histories, n_items)
        row_N = torch.from_numpy(np.repeat(rows, mask_BL.sum(axis=1)))
        return Negatives(unseen.pick(row_N, uniforms_NK), unseen.free(row_N))

    def _unseen_of(self, histories: Histories, n_items: int) -> Unseen:
        found = self._unseen
        if found is None or found[0] is not histories or found[1].n_items != n_items:
            found = self._unseen = histories, Unseen(histories, n_items)
        return found[1]

    def loss(
        self, hidden_ND: Tensor, targets_N: Tensor, negatives: Negatives | None, items: ItemEmbeddingLayer
    ) -> Tensor:
        """Mean over targets; 0 with a gradient of 0 when there is none.

        A negative that is the target itself is left out: where a loss is a mean over terms, of the terms that remain.
        Memory stays bounded: targets are taken in chunks, whose gradients are made together with their loss.
        """
        if len(targets_N) == 0 or self.settings.loss == "softmax":
            return full_softmax(hidden_ND, items.table(), targets_N)
        assert negatives is not None, "draw(...) gives the negatives of every loss but softmax"
        table, targets_N, drawn = _vectors(items, targets_N, negatives.items)
        each = self._each(negatives.items.shape[-1], items.n_items)
        value: Tensor = _Sampled.apply(  # type: ignore[no-untyped-call]
            hidden_ND, table, targets_N, drawn, negatives.pool, each, torch.is_grad_enabled()
        )
        return value

    def _each(self, k: int, n_items: int) -> Each:
        settings = self.settings
        if settings.loss == "sampled_softmax":
            return partial(sampled_softmax, log_q=settings.log_q)
        if settings.loss == "bpr":
            return bpr
        beta = gbce_beta(k, n_items, settings.gbce_t) if settings.loss == "gbce" else 1.0
        return partial(gbce, beta=beta, form=settings.bce_form)


Each = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(positive_N, negative_NK, hit_NK, pool_N1) -> loss of each target [N]; ``hit_NK`` marks negatives to leave out."""


def sampled_softmax(
    positive_N: Tensor, negative_NK: Tensor, hit_NK: Tensor, pool_N1: Tensor, *, log_q: bool = True
) -> Tensor:
    """-log softmax of the target among itself and K negatives, each corrected by -log(K Q), [N].

    With Q = 1 / pool a negative stands for pool / K items; the target, always there, stands for itself. So exp summed
    over negatives is an unbiased estimate of exp summed over the pool without the target (hits count as nothing), and
    with every item drawn once this is the full softmax. A pool of unseen items estimates the softmax over these and the
    target. ``log_q=False`` leaves the correction out.
    """
    if log_q:
        negative_NK = negative_NK + torch.log(pool_N1.to(negative_NK.dtype) / negative_NK.shape[1])
    negative_NK = negative_NK.masked_fill(hit_NK, -torch.inf)
    return torch.logsumexp(torch.cat([positive_N[:, None], negative_NK], dim=1), dim=1) - positive_N


def gbce_beta(k: int, n_items: int, t: float) -> float:
    """beta = alpha (t (1 - 1/alpha) + 1/alpha), alpha = k / (n_items - 1) (gSASRec, arXiv 2308.07192, equation 10).

    t = 0 gives 1 (plain BCE), t = 1 gives alpha, which is at most 1 here: draws that repeat cover no more than all.
    """
    alpha = min(1.0, k / max(n_items - 1, 1))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def gbce(
    positive_N: Tensor,
    negative_NK: Tensor,
    hit_NK: Tensor,
    pool_N1: Tensor,
    *,
    beta: float = 1.0,
    form: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """-log of sigmoid(positive)^beta and of 1 - sigmoid(negative), [N]; ``beta`` 1 is binary cross-entropy.

    ``form`` "mean" is the mean over these terms, hits left out; "sum" the first plus the mean of the others, as SASRec
    and SELFRec have it. -beta log sigmoid(s) needs no float64, which the published transformation of the positive's
    logit, log(1 / (sigmoid(s)^-beta - 1)), does.
    """
    right_N = -beta * F.logsigmoid(positive_N)
    wrong_N = F.softplus(negative_NK).masked_fill(hit_NK, 0.0).sum(dim=1)
    left_N = (~hit_NK).sum(dim=1)
    return right_N + wrong_N / left_N.clamp(min=1) if form == "sum" else (right_N + wrong_N) / (left_N + 1)


def bpr(positive_N: Tensor, negative_NK: Tensor, hit_NK: Tensor, pool_N1: Tensor) -> Tensor:
    """-log sigmoid(positive - negative), mean over the negatives that are no hit, [N] (Rendle et al. 2009).

    A target whose negatives are all hits has nothing to be told from: 0.
    """
    terms_NK = F.softplus(negative_NK - positive_N[:, None]).masked_fill(hit_NK, 0.0)
    return terms_NK.sum(dim=1) / (~hit_NK).sum(dim=1).clamp(min=1)


def _distinct(
    histories: Histories, rows: Int64, mask_BL: Bool, n_items: int, inputs_BL: Int64, uniforms_B: np.ndarray[Any, Any]
) -> Negatives:
    """As many different items per row as it has targets, none of them among its inputs, [N, 1] (``row`` of draw)."""
    place_B = np.arange(len(rows))
    counts_B = mask_BL.sum(axis=1)
    place_N = np.repeat(place_B, counts_B)
    read_BL = np.logical_or.accumulate(mask_BL[:, ::-1], axis=1)[:, ::-1]  # all that stands before the last target
    read_P = np.repeat(place_B, read_BL.sum(axis=1))
    unseen = Unseen.of_pairs(read_P, inputs_BL[read_BL], histories.users[rows], n_items)
    free_B = unseen.free(torch.from_numpy(place_B))
    ranks: list[Int64] = [np.empty(0, np.int64)]
    for place, count, free in zip(place_B.tolist(), counts_B.tolist(), free_B.tolist(), strict=True):
        if count > free:
            raise DataError(
                f"user {histories.users[rows[place]]} has {count} targets and only {free} of {n_items} items outside "
                f"the input: negatives-for row needs as many different ones; choose batch, target or catalogue"
            )
        stream = np.random.default_rng(int(uniforms_B[place] * 2**53))
        ranks.append(stream.choice(free, size=count, replace=False))
    row_N = torch.from_numpy(place_N)
    return Negatives(unseen.at(row_N, torch.from_numpy(np.concatenate(ranks)))[:, None], free_B[row_N])


def _vectors(items: ItemEmbeddingLayer, targets_N: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A table that holds the vectors needed, and targets and negatives as its rows.

    An item layer may be an adapter over wide text embeddings: no vector is then computed twice, and a large catalogue
    is not computed whole for a few of its items.
    """
    if targets_N.numel() + drawn.numel() >= items.n_items:
        return items.table(), targets_N, drawn
    ids, place = torch.unique(torch.cat([targets_N, drawn.flatten()]), return_inverse=True)
    return items(ids), place[: len(targets_N)], place[len(targets_N) :].view(drawn.shape)


class _Sampled(torch.autograd.Function):
    """Mean of ``each`` over targets, chunk by chunk, with its gradients. First derivatives only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        targets_N: Tensor,
        drawn: Tensor,
        pool: Tensor,
        each: Each,
        wants: bool,
    ) -> Tensor:
        wide = torch.promote_types(torch.promote_types(hidden_ND.dtype, table_VD.dtype), torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):  # a softmax over thousands of terms wants float32
            hidden, table = hidden_ND.to(wide), table_VD.to(wide)
            grad_ND = torch.empty_like(hidden) if wants else None
            grad_VD = torch.zeros_like(table) if wants else None
            how, k = _how(drawn, len(table)), drawn.shape[-1]
            numbers = {"shared": k, "all": len(table) + k, "gathered": 2 * k * table.shape[1]}[how]
            budget = CHUNK_BYTES_CPU if hidden.device.type == "cpu" else CHUNK_BYTES_GPU
            rows = max(1, budget // (numbers * hidden.itemsize))
            total = torch.zeros((), dtype=wide, device=hidden.device)
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                hidden_CD, targets_C = hidden[part], targets_N[part]
                target_CD = table[targets_C]
                drawn_CK = drawn[None] if drawn.ndim == 1 else drawn[part]
                pool_C1 = (pool if pool.ndim == 0 else pool[part]).view(-1, 1)
                positive_C = torch.einsum("cd,cd->c", hidden_CD, target_CD)
                negative_CK, vectors = _score(how, hidden_CD, table, drawn_CK)
                hit_CK = drawn_CK == targets_C[:, None]
                with torch.set_grad_enabled(wants):
                    positive_C, negative_CK = positive_C.requires_grad_(wants), negative_CK.requires_grad_(wants)
                    value = each(positive_C, negative_CK, hit_CK, pool_C1).sum() / len(hidden)
                total += value.detach()
                if grad_ND is not None and grad_VD is not None:
                    slope_C, slope_CK = torch.autograd.grad(value, (positive_C, negative_CK))
                    grad_CD = _descend(how, slope_CK, hidden_CD, vectors, drawn_CK, grad_VD)
                    grad_ND[part] = grad_CD.addcmul_(slope_C[:, None], target_CD)
                    grad_VD.index_add_(0, targets_C, slope_C[:, None] * hidden_CD)
        ctx.save_for_backward(grad_ND, grad_VD)
        ctx.dtypes = hidden_ND.dtype, table_VD.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = [(saved * grad).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return (*grads, None, None, None, None, None)


How = Literal["shared", "all", "gathered"]


def _how(drawn: Tensor, n_vectors: int) -> How:
    """How negatives are scored: one product with K shared vectors, a pick from scores of all, or K vectors each."""
    if drawn.ndim == 1:
        return "shared"
    return "all" if n_vectors <= SCORE_ALL * drawn.shape[1] else "gathered"


def _score(how: How, hidden_CD: Tensor, table_VD: Tensor, drawn_CK: Tensor) -> tuple[Tensor, Tensor]:
    """[C, K], and the vectors that were read."""
    if how == "shared":
        vectors_KD = table_VD[drawn_CK[0]]
        return hidden_CD @ vectors_KD.T, vectors_KD
    if how == "all":
        return (hidden_CD @ table_VD.T).gather(1, drawn_CK), table_VD
    vectors_CKD = table_VD[drawn_CK]
    return torch.bmm(vectors_CKD, hidden_CD[:, :, None]).squeeze(2), vectors_CKD


def _descend(
    how: How, slope_CK: Tensor, hidden_CD: Tensor, vectors: Tensor, drawn_CK: Tensor, grad_VD: Tensor
) -> Tensor:
    """What the slopes mean for the chunk's vectors, [C, D]; for the table it is added to ``grad_VD``."""
    if how == "shared":
        grad_VD.index_add_(0, drawn_CK[0], slope_CK.T @ hidden_CD)
        return slope_CK @ vectors
    if how == "all":
        slope_CV = slope_CK.new_zeros(len(slope_CK), len(vectors)).scatter_add_(1, drawn_CK, slope_CK)
        grad_VD.addmm_(slope_CV.T, hidden_CD)
        return slope_CV @ vectors
    grad_VD.index_add_(0, drawn_CK.flatten(), (slope_CK[:, :, None] * hidden_CD[:, None]).flatten(0, 1))
    return torch.bmm(slope_CK[:, None], vectors).squeeze(1)
