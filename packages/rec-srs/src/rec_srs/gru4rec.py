"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939): one recurrent network over the whole history.

The item at t + 1 is predicted at every position t, from the one item table that is also the input (the original reads
and predicts with two tables, session by session). ``targets="last"`` keeps one example per user instead, as the GRU4Rec
of LLMEmb has it.
"""

# B rows, L positions (time comes first: the recurrence reads one contiguous slice per step), D width of an item vector,
# H width of the state, N targets, T steps of a chunk

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from rec_core.training import ItemEmbeddingLayer
from rec_core.training.batching import pad, random_shift
from rec_core.types import Histories
from rec_core.types.ids import Int64
from rec_srs.blocks import dropout
from rec_srs.config import GRU4RecSettings
from rec_srs.objective import Negatives, NextItem

_CHUNK = 16  # steps whose gradient factors are made together: they stay in the cache


class GRU4RecBatch(NamedTuple):
    """Right-padded histories, time first.

    items_LB   int64, 0 at pads
    read_N     int64, places in the flattened [L * B] states: before each target, or each row's newest event
    targets_N  int64, the event after each place, row by row; None when the batch is only encoded
    negatives  see ``NextItem.draw``; None when the loss needs none
    """

    items_LB: Tensor
    read_N: Tensor
    targets_N: Tensor | None
    negatives: Negatives | None


class GRU4Rec(nn.Module):
    """Reads the newest ``max_length`` events; implements ``rec_core.training.SequenceModel`` on any item layer.

    The state at position t has read the events up to t only. Pads stand on the right, where no state that is used
    comes after them, so they need no mask.

    Dropout acts on what enters a layer, not on the last states: dropping these, too, was worse early on (six epochs of
    ML-1M, one seed, validation ndcg@10 0.039 against 0.046).
    """

    settings_type: ClassVar[type[GRU4RecSettings]] = GRU4RecSettings

    def __init__(self, items: ItemEmbeddingLayer, settings: GRU4RecSettings = GRU4RecSettings()) -> None:  # noqa: B008
        super().__init__()
        self.items = items
        self.settings = settings
        self.objective = NextItem(settings)
        width = settings.hidden or items.dim
        self.layers = nn.ModuleList(
            nn.GRU(items.dim if layer == 0 else width, width, bias=settings.gru_bias)
            for layer in range(settings.layers)
        )
        self.out = nn.Identity() if width == items.dim else nn.Linear(width, items.dim)

    @property
    def max_length(self) -> int:
        """Newest events of a history that are read."""
        return self.settings.max_length

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> GRU4RecBatch:
        """Right-padded tensors; with ``rng`` the inputs are a window without its last event, the targets its shift."""
        rows = np.asarray(rows, np.int64)
        if rng is None:
            items, mask = pad(histories, rows, self.max_length)
            read_N = (mask.sum(axis=1) - 1) * len(rows) + np.arange(len(rows))
            return GRU4RecBatch(_time_first(items), torch.from_numpy(read_N), None, None)
        shift = None
        if self.settings.window == "random":
            shift = random_shift(histories, rows, self.max_length + 1, rng)
        items, mask = pad(histories, rows, self.max_length + 1, shift=shift)
        wanted_BL = mask[:, 1:].copy()
        if self.settings.targets == "last":
            wanted_BL[:, :-1] &= ~wanted_BL[:, 1:]
        row_N, place_N = wanted_BL.nonzero()
        return GRU4RecBatch(
            _time_first(items[:, :-1]),
            torch.from_numpy(place_N * len(rows) + row_N),
            torch.from_numpy(items[:, 1:][wanted_BL]),
            self.objective.draw(histories, rows, wanted_BL, self.items.n_items, rng, items[:, :-1]),
        )

    def states(self, items_LB: Tensor) -> Tensor:
        """The state after each event [L, B, H]; values at pads mean nothing."""
        x_LBD = self.items(items_LB)
        if self.settings.scale_embeddings:
            x_LBD = x_LBD * self.items.dim**0.5
        for layer in self.layers:
            x_LBD = dropout(x_LBD, self.settings.dropout, self.training)
            x_LBD = recurrence(x_LBD, cast(nn.GRU, layer))
        return x_LBD

    def _read(self, batch: GRU4RecBatch) -> Tensor:
        states_LBH = self.states(batch.items_LB)
        states_NH = states_LBH.flatten(0, 1).index_select(0, batch.read_N)
        return cast(Tensor, self.out(states_NH))

    def loss(self, batch: GRU4RecBatch) -> tuple[Tensor, Tensor]:
        """The mean loss over the targets, and their ids."""
        assert batch.targets_N is not None, "this batch was made to be encoded; pass an rng to batch(...)"
        value = self.objective.loss(self._read(batch), batch.targets_N, batch.negatives, self.items)
        return value, batch.targets_N

    def encode(self, batch: GRU4RecBatch) -> Tensor:
        """The state after each row's newest event, as wide as an item vector [B, D]."""
        return self._read(batch)


def _time_first(items_BL: Int64) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(items_BL.T))


def recurrence(x_LBD: Tensor, gru: nn.GRU) -> Tensor:
    """The states [L, B, H] of a one-layer ``nn.GRU`` that starts from zeros: on a CPU by the loop below.

    Measured with torch 2.13, one thread, D = H = 64, forward and backward, against ``gru(x_LBD)``: 51 against 63 ms for
    128 rows of 200 events, 16 against 28 ms for 32 rows (``pack_padded_sequence``: 525 and 146 ms).
    """
    if x_LBD.device.type != "cpu":
        return cast(Tensor, gru(x_LBD)[0])
    biases = (gru.bias_ih_l0, gru.bias_hh_l0) if gru.bias else (None, None)
    with torch.autocast("cpu", enabled=False):
        x_LBD = x_LBD.to(gru.weight_ih_l0.dtype)
        return cast(Tensor, _Recurrence.apply(x_LBD, gru.weight_ih_l0, gru.weight_hh_l0, *biases))  # type: ignore[no-untyped-call]


class _Recurrence(torch.autograd.Function):
    """One GRU layer with the order of work that suits a CPU.

    With a = W_ih x + b_ih (one product for all steps) and c = W_hh h + b_hh, gate by gate r, z, n:
    r = s(a_r + c_r), z = s(a_z + c_z), n = tanh(a_n + r c_n), h' = n + z (h - n).

    Backward, every entry of d loss / d c is d loss / d h' times a factor that forward values alone decide, so factors
    are made for many steps at once, the loop over time is left with one small product per step, and the gradients of
    the weights are one product per chunk of steps. First derivatives only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_LBD: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
    ) -> Tensor:
        (L, B, D), H = x_LBD.shape, weight_hh.shape[1]
        flat_ND = x_LBD.reshape(L * B, D)
        if bias_ih is None or bias_hh is None:
            bias_n = weight_hh.new_zeros(H)
            gates_LBG = torch.mm(flat_ND, weight_ih.T).view(L, B, 3 * H)
        else:
            bias_n = bias_hh[2 * H :]
            bias = torch.cat([bias_ih[: 2 * H] + bias_hh[: 2 * H], bias_ih[2 * H :]])
            gates_LBG = torch.addmm(bias, flat_ND, weight_ih.T).view(L, B, 3 * H)
        states = x_LBD.new_zeros(L + 1, B, H)  # states[t] is what step t starts from
        inner_LBH = x_LBD.new_empty(L, B, H)  # c_n
        to_rz, to_n = weight_hh[: 2 * H].T.contiguous(), weight_hh[2 * H :].T.contiguous()
        r_LBH, z_LBH, n_LBH = gates_LBG.split(H, dim=2)
        for rz, r, z, n, inner, before, after in zip(
            *(part.unbind(0) for part in (gates_LBG[:, :, : 2 * H], r_LBH, z_LBH, n_LBH, inner_LBH)),
            states[:-1].unbind(0),
            states[1:].unbind(0),
            strict=True,
        ):
            rz.addmm_(before, to_rz).sigmoid_()
            torch.addmm(bias_n, before, to_n, out=inner)
            n.addcmul_(r, inner).tanh_()
            torch.lerp(n, before, z, out=after)
        ctx.save_for_backward(x_LBD, weight_ih, weight_hh, states, gates_LBG, inner_LBH)
        ctx.biased = bias_ih is not None
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_LBH: Tensor) -> tuple[Tensor | None, ...]:
        x_LBD, weight_ih, weight_hh, states, gates_LBG, inner_LBH = ctx.saved_tensors
        (L, B, D), H = x_LBD.shape, weight_hh.shape[1]
        T = max(1, min(L, _CHUNK))
        grad_x = torch.empty_like(x_LBD, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        grad_ih, grad_hh = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh)
        sum_ih, sum_hh = weight_ih.new_zeros(3 * H), weight_hh.new_zeros(3 * H)
        factors, grads = x_LBD.new_empty(T, B, 3 * H), x_LBD.new_empty(T, B, H)
        through_n, rest = x_LBD.new_empty(T, B, H), x_LBD.new_empty(T, B, H)
        thrice = x_LBD.new_empty(B, 3 * H)
        later = x_LBD.new_zeros(B, H)  # what the steps after this one add to the gradient of its state
        for start in range((L - 1) // T * T, -1, -T):
            end = min(start + T, L)
            k = end - start
            before, h, inner = states[start:end], states[start + 1 : end + 1], inner_LBH[start:end]
            r, z, n = gates_LBG[start:end].split(H, dim=2)
            by_r, by_z, by_n = factors[:k].split(H, dim=2)
            dn, work = through_n[:k], rest[:k]
            torch.mul(n, n, out=dn).sub_(1).mul_(torch.sub(z, 1, out=work))  # d h' / d a_n = (1 - z) (1 - n^2)
            torch.mul(dn, r, out=by_n)
            torch.sub(1, r, out=work)
            torch.mul(by_n, inner, out=by_r).mul_(work)  # dn c_n r (1 - r)
            torch.sub(h, n, out=by_z).mul_(torch.sub(1, z, out=work))  # (h - n) z (1 - z), as h' - n = z (h - n)
            for t in range(k - 1, -1, -1):
                grad = torch.add(grad_LBH[start + t], later, out=grads[t])
                wide = factors[t].mul_(torch.cat((grad, grad, grad), dim=1, out=thrice))
                torch.mul(grad, z[t], out=later).addmm_(wide, weight_hh)
            flat = factors[:k].view(k * B, 3 * H)
            grad_hh.addmm_(flat.T, before.reshape(k * B, H))
            sum_hh += flat.sum(dim=0)
            torch.mul(grads[:k], dn, out=by_n)  # a_n is reached without r; r and z are reached alike
            grad_ih.addmm_(flat.T, x_LBD[start:end].reshape(k * B, D))
            sum_ih += flat.sum(dim=0)
            if grad_x is not None:
                torch.mm(flat, weight_ih, out=grad_x[start:end].view(k * B, D))
        biases = (sum_ih, sum_hh) if ctx.biased else (None, None)
        return grad_x, grad_ih, grad_hh, *biases
