"""Softmax cross-entropy over the whole catalogue, without the targets × items matrix.

Axes: N targets, V items, D width, C targets of one chunk.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rec_core.errors import SettingsError, nearest

Path = Literal["auto", "plain", "chunked", "native"]

# Logits of one chunk. On a CPU they should stay in the cache: 4 to 16 MiB are within noise of each other, 64 MiB is up
# to 1.5 times slower. On a GPU each chunk costs about a dozen kernel launches, so chunks are large.
CHUNK_BYTES_CPU = 8 << 20
CHUNK_BYTES_GPU = 512 << 20
_TINY = 1 << 17  # logits up to which the plain path is faster or equal (100 targets × 300 items: 0.4 against 0.7 ms)


def full_softmax(
    hidden_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    *,
    left_out_N: Tensor | None = None,
    path: Path = "auto",
    chunk_bytes: int | None = None,
) -> Tensor:
    """Mean over targets of −log softmax(hidden · tableᵀ)[target]; 0 (with a gradient of 0) when there is no target.

    hidden_ND     what the model says before each target
    table_VD      one vector per item; the softmax runs over all V of them
    targets_N     int64 item ids
    left_out_N    int64, one item per target that its softmax does not run over (never the target itself)
    chunk_bytes   most scratch for logits; None = 8 MiB on a CPU, 512 MiB on a GPU. At least one row of V is held

    path:

    - ``plain``: ``F.cross_entropy`` of the whole matrix, the twin that the others are tested against;
    - ``chunked``: gradients are made together with the loss, chunk by chunk, so that memory is the budget plus the two
      gradients. First derivatives only;
    - ``native``: ``F.linear_cross_entropy`` with chunks, in torch releases that have it (:class:`SettingsError` else,
      and with ``left_out_N``, which it does not know);
    - ``auto``: plain for a handful of logits, chunked above.

    Under bfloat16 autocast the matrix products are in bfloat16 and the softmax in float32. Under float16 autocast the
    chunked path multiplies in float32: probabilities over a large catalogue lie below float16's range.
    """
    if targets_N.numel() == 0:
        return hidden_ND.sum() * 0.0 + table_VD.sum() * 0.0
    if path == "auto":
        # Never native: measured with torch 2.13 on two EPYC (Zen 4) cores, one thread, forward and backward at D=64,
        # N=6400, in ms: V=1349 plain 110, native 35, chunked 34; V=12000 plain 2134, native 393, chunked 300.
        # Not yet measured on a GPU.
        path = "plain" if targets_N.numel() * table_VD.shape[0] <= _TINY else "chunked"
    if path == "plain":
        logits_NV = hidden_ND @ table_VD.T
        if left_out_N is not None:
            logits_NV = logits_NV.scatter(1, left_out_N[:, None], -torch.inf)
        return F.cross_entropy(logits_NV, targets_N)
    if path == "native":
        if left_out_N is not None:
            raise SettingsError("linear_cross_entropy runs over all items; use path='chunked' to leave some out")
        if not hasattr(F, "linear_cross_entropy"):
            raise SettingsError(f"torch {torch.__version__} has no linear_cross_entropy; use path='chunked'")
        options = torch.nn.LinearCrossEntropyOptions()
        return F.linear_cross_entropy(hidden_ND, table_VD, targets_N, options=options)
    if path != "chunked":
        raise SettingsError(f"there is no softmax path {path!r}{nearest(path, ('auto', 'plain', 'chunked', 'native'))}")
    if chunk_bytes is None:
        chunk_bytes = CHUNK_BYTES_CPU if hidden_ND.device.type == "cpu" else CHUNK_BYTES_GPU
    loss: Tensor = _ChunkedSoftmax.apply(  # type: ignore[no-untyped-call]
        hidden_ND, table_VD, targets_N, left_out_N, chunk_bytes, torch.is_grad_enabled()
    )
    return loss


def _product_dtype(hidden: Tensor, table: Tensor) -> torch.dtype:
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        return low if low is torch.bfloat16 else torch.float32
    return torch.promote_types(hidden.dtype, table.dtype)


class _ChunkedSoftmax(torch.autograd.Function):
    """d loss / d hidden = (softmax · table − table[target]) / N and d loss / d table likewise, in one pass.

    The softmax's denominator and the 1/N are multiplied into the narrow operands [C, D] instead of the logits [C, V]:
    one pass over the wide matrix less.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        targets_N: Tensor,
        left_out_N: Tensor | None,
        chunk_bytes: int,
        wants: bool,
    ) -> Tensor:
        dtype = _product_dtype(hidden_ND, table_VD)
        wide = torch.promote_types(dtype, torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            hidden, table = hidden_ND.to(dtype), table_VD.to(dtype)
            n, items = len(targets_N), len(table)
            rows = max(1, min(n, chunk_bytes // (items * wide.itemsize)))
            wants_hidden, wants_table = (wants and needed for needed in ctx.needs_input_grad[:2])
            grad_ND = torch.empty(hidden.shape, dtype=wide, device=hidden.device) if wants_hidden else None
            grad_VD = torch.zeros(table.shape, dtype=wide, device=table.device) if wants_table else None
            scratch = torch.empty(rows, items, dtype=dtype, device=hidden.device)
            total = torch.zeros((), dtype=wide, device=hidden.device)
            for start in range(0, n, rows):
                hidden_CD, targets_C = hidden[start : start + rows], targets_N[start : start + rows]
                logits_CV = torch.mm(hidden_CD, table.T, out=scratch[: len(targets_C)]).to(wide)
                if left_out_N is not None:
                    logits_CV.scatter_(1, left_out_N[start : start + rows, None], -torch.inf)
                target_C = logits_CV.gather(1, targets_C[:, None]).squeeze(1)
                top_C = logits_CV.amax(dim=1)
                exp_CV = logits_CV.sub_(top_C[:, None]).exp_()
                sum_C = exp_CV.sum(dim=1)
                total += (sum_C.log() + top_C - target_C).sum()
                share_C1 = (n * sum_C).reciprocal()[:, None]
                exp_CV = exp_CV.to(dtype)
                if grad_ND is not None:
                    torch.mul(torch.mm(exp_CV, table), share_C1, out=grad_ND[start : start + rows])
                if grad_VD is not None:
                    weighted_CD = (hidden_CD * share_C1).to(dtype)
                    if dtype is wide:
                        grad_VD.addmm_(exp_CV.T, weighted_CD)
                    else:
                        grad_VD += torch.mm(exp_CV.T, weighted_CD)
            if grad_ND is not None:
                grad_ND.sub_(table[targets_N].to(wide), alpha=1 / n)
            if grad_VD is not None:
                grad_VD.index_add_(0, targets_N, hidden.to(wide), alpha=-1 / n)
        ctx.save_for_backward(grad_ND, grad_VD)
        ctx.dtypes = hidden_ND.dtype, table_VD.dtype
        return total / n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = [
            None if saved is None else (saved * grad).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*grads, None, None, None, None)
