"""Row vectors of all processes, with gradient: for losses that compare the rows of a step with each other."""

# N rows of all processes, B rows of this one

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from rec_core.processes import WAIT

_groups: list[tuple[Any, Any]] = []  # the processes, and a second channel between them


def gather_rows(rows: Tensor) -> Tensor:
    """The rows [B, ...] of every process below each other, [N, ...], in the order of the processes.

    B may differ, 0 included; everything else must be equal. Every process must call this, and must take the gradient of
    the result if one of them does. With one process the rows come back as they are.

    Gradients of all processes are *summed* over what each makes of a row. The training loop weights the loss of every
    process by its share of the step's targets, and these shares add up to one: when each process computes the same
    value from the gathered rows and adds it to its own loss, the step has the gradient that one process would have.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    if torch.is_grad_enabled() and rows.is_floating_point() and not rows.requires_grad:
        rows = rows.detach().requires_grad_()  # nothing to train here, but the others wait for our half of the sum
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        group, here = _channel(), dist.get_rank()
        counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=rows.device)
        counts[here] = len(rows)
        dist.all_reduce(counts, group=group)
        each = counts.tolist()
        ctx.first, ctx.own = sum(each[:here]), len(rows)
        padded = rows.new_zeros(max(each), *rows.shape[1:])  # equal shapes: gloo knows no other exchange
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in each]
        dist.all_gather(found, padded, group=group)
        return torch.cat([part[:count] for part, count in zip(found, each, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=_channel())
        return summed[ctx.first : ctx.first + ctx.own]


def _channel() -> Any:
    """A group of its own for these exchanges.

    Data-parallel training sends gradients in the background as they become ready, in an order that may differ between
    processes from that of the exchanges here; on one channel the two would be taken for each other.
    """
    world = dist.group.WORLD
    if not _groups or _groups[0][0] is not world:
        _groups[:] = [(world, dist.new_group(timeout=WAIT))]
    return _groups[0][1]
