"""Transformer blocks over packed events: padding is computed in attention only, and dropout is cheap on a CPU.

Three blocks, one signature: ``block(hidden_TD, layout) -> [T, D]``. ``block(hidden_TD, layout, newest=True)`` gives the
rows' newest events alone, [B, D], for which a last block need not compute the others.
"""

# B rows, L positions, N events, T tokens computed (events, or all B * L places), D width, H heads

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Share of events in a batch above which padding is computed along: copying events out of and into the padded form costs
# more then. Break-even lay between 0.7 and 0.9 (SASRec, D 64 and 256, L 50 and 200, forward and backward, one thread).
PACK_BELOW = 0.8
_CACHED = 1 << 16  # values of a dropout mask made at a time


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the events of a right-padded batch lie, and which of its places are computed.

    mask_BL    bool, True at events
    places_N   int64 row * L + column of each event, in row-major order
    packed     True: tokens are the N events. False: tokens are all B * L places, what stands at pads means nothing
    """

    mask_BL: Tensor
    places_N: Tensor
    packed: bool

    @classmethod
    def of(cls, lengths_B: Tensor, width: int) -> Layout:
        """The layout of rows whose events stand at columns 0..length-1."""
        mask_BL = torch.arange(width, device=lengths_B.device) < lengths_B[:, None]
        places_N = mask_BL.flatten().nonzero().squeeze(1)
        return cls(mask_BL, places_N, len(places_N) < PACK_BELOW * mask_BL.numel())

    @property
    def full(self) -> bool:
        """Whether no place is padding."""
        return len(self.places_N) == self.mask_BL.numel()

    def tokens(self, values_BL: Tensor) -> Tensor:
        """[T] of [B, L], or [T, D] of [B, L, D]."""
        flat = values_BL.reshape(-1, *values_BL.shape[2:])
        return flat.index_select(0, self.places_N) if self.packed else flat

    def events(self, hidden_TD: Tensor) -> Tensor:
        """[N, D] of [T, D]."""
        return hidden_TD if self.packed or self.full else hidden_TD.index_select(0, self.places_N)

    def spread(self, hidden_TD: Tensor) -> Tensor:
        """[B, L, D] of [T, D]; zeros at pads that were not computed."""
        if self.packed:
            places = hidden_TD.new_zeros(self.mask_BL.numel(), hidden_TD.shape[1])
            hidden_TD = places.index_copy(0, self.places_N, hidden_TD)
        return hidden_TD.view(*self.mask_BL.shape, hidden_TD.shape[1])

    def newest(self, hidden_TD: Tensor) -> Tensor:
        """[B, D], each row's last event; an arbitrary token for a row without one."""
        lengths_B = self.mask_BL.sum(dim=1)
        if self.packed:
            last_B = lengths_B.cumsum(0) - 1
        else:
            last_B = torch.arange(len(lengths_B), device=lengths_B.device) * self.mask_BL.shape[1] + lengths_B - 1
        return hidden_TD.index_select(0, last_B.clamp(0, max(len(hidden_TD) - 1, 0)))


def dropout(hidden: Tensor, share: float, training: bool) -> Tensor:
    """``F.dropout``, at a third of its cost on a CPU (14 against 5 ms for 1.6 million values, one thread).

    There the mask comes from 32 bits per value of an SFC64 stream whose seed torch's generator gives: independent
    Bernoulli draws as before (the share is met to 2^-33), and restoring torch's generator repeats them.
    """
    if not training or share == 0:
        return hidden
    if hidden.device.type != "cpu":
        return F.dropout(hidden, share, True)
    stream = np.random.SFC64(int(torch.empty((), dtype=torch.int64).random_()))
    kept = 1.0 - share
    most, scale = np.uint32(min(round(kept * 2**32), 2**32 - 1)), np.float32(1.0 / kept)
    noise = np.empty(hidden.numel(), np.float32)
    for start in range(0, len(noise), _CACHED):  # bits are drawn, compared and scaled before they leave the cache
        part = noise[start : start + _CACHED]
        bits = stream.random_raw((len(part) + 1) // 2).view(np.uint32)[: len(part)]
        np.multiply(bits < most, scale, out=part)
    return hidden * torch.from_numpy(noise).view(hidden.shape).to(hidden.dtype)


def attend(
    query_MD: Tensor,
    key_TD: Tensor,
    value_TD: Tensor,
    layout: Layout,
    *,
    heads: int,
    share: float = 0.0,
    causal: bool = True,
    newest: bool = False,
) -> Tensor:
    """Scaled dot-product attention within each row, [M, D]: queries are all tokens, or (``newest``) one per row.

    ``share`` of the attention weights is dropped. Pads are never seen: a causal mask keeps them out because they stand
    on the right; otherwise a mask of their own does. A row without an event gives a finite vector that means nothing.
    """

    def heads_of(hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD.unflatten(2, (heads, -1)).transpose(1, 2)

    query_BHMK = heads_of(query_MD[:, None] if newest else layout.spread(query_MD))
    key_BHLK, value_BHLK = heads_of(layout.spread(key_TD)), heads_of(layout.spread(value_TD))
    ordered = causal and not newest
    seen: Tensor | None = None
    if not ordered and not layout.full:
        seen = layout.mask_BL[:, None, None, :].clone()
        seen[..., 0] = True  # a row of pads alone would have nothing to see, hence NaN
    if share and query_MD.device.type == "cpu":
        # PyTorch's CPU kernels have no attention dropout: it would draw the mask the slow way (see dropout).
        scores_BHML = (query_BHMK * query_BHMK.shape[-1] ** -0.5) @ key_BHLK.mT
        if ordered:
            seen = torch.ones(scores_BHML.shape[-2:], dtype=torch.bool, device=query_MD.device).tril_()
        if seen is not None:
            scores_BHML = scores_BHML.masked_fill(~seen, -torch.inf)
        mixed_BHMK = dropout(scores_BHML.softmax(dim=-1), share, True) @ value_BHLK
    else:
        mixed_BHMK = F.scaled_dot_product_attention(
            query_BHMK, key_BHLK, value_BHLK, attn_mask=seen, dropout_p=share, is_causal=ordered
        )
    mixed_BMD = mixed_BHMK.transpose(1, 2).flatten(2)
    return mixed_BMD.squeeze(1) if newest else layout.tokens(mixed_BMD)


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """What the three blocks have in common.

    inner               width between the two maps of the feed-forward part
    inner_dropout       whether its inside is dropped too, not only its result
    output_projection   whether a linear map follows the attention's heads
    causal              whether a position sees none after it
    """

    heads: int = 1
    inner: int = 64
    dropout: float = 0.0
    attention_dropout: float = 0.0
    inner_dropout: bool = True
    output_projection: bool = True
    causal: bool = True


class _Attention(nn.Module):
    """The maps around :func:`attend`. Blocks inherit them, so that weights are called ``blocks.0.query.weight``."""

    def __init__(self, dim: int, options: BlockOptions) -> None:
        super().__init__()
        self.options = options
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim) if options.output_projection else None

    def attention(self, query_MD: Tensor, source_TD: Tensor, layout: Layout, newest: bool) -> Tensor:
        """[M, D]: queries from ``query_MD``, keys and values from ``source_TD``."""
        options = self.options
        mixed_MD = attend(
            self.query(query_MD),
            self.key(source_TD),
            self.value(source_TD),
            layout,
            heads=options.heads,
            share=options.attention_dropout if self.training else 0.0,
            causal=options.causal,
            newest=newest,
        )
        return mixed_MD if self.out is None else self.out(mixed_MD)

    def dropped(self, hidden_MD: Tensor, inner: bool = False) -> Tensor:
        """After dropout, in training."""
        share = self.options.dropout if self.options.inner_dropout or not inner else 0.0
        return dropout(hidden_MD, share, self.training)


class ClassicBlock(_Attention):
    """q = LN(h); h = LN(q + attention(q, h, h)); h = h + W2 ReLU(W1 h): the original SASRec's (arXiv 1808.09781).

    Keys and values are not normalised, and the residual starts from the normalised query.
    """

    def __init__(self, dim: int, options: BlockOptions) -> None:
        super().__init__(dim, options)
        self.attention_norm, self.feed_norm = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)
        self.inner, self.outer = nn.Linear(dim, options.inner), nn.Linear(options.inner, dim)

    def forward(self, hidden_TD: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        query_MD = self.attention_norm(layout.newest(hidden_TD) if newest else hidden_TD)
        hidden_MD = self.feed_norm(query_MD + self.attention(query_MD, hidden_TD, layout, newest))
        inner_MF = self.dropped(F.relu(self.inner(hidden_MD)), inner=True)
        return hidden_MD + self.dropped(self.outer(inner_MF))


class PrenormBlock(_Attention):
    """h = h + attention(x, x, x), x = LN(h); h = h + W2 GELU(W1 LN(h)) (arXiv 2002.04745)."""

    def __init__(self, dim: int, options: BlockOptions) -> None:
        super().__init__(dim, options)
        self.attention_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inner, self.outer = nn.Linear(dim, options.inner), nn.Linear(options.inner, dim)

    def forward(self, hidden_TD: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        source_TD = self.attention_norm(hidden_TD)
        hidden_MD, query_MD = (layout.newest(t) if newest else t for t in (hidden_TD, source_TD))
        hidden_MD = hidden_MD + self.dropped(self.attention(query_MD, source_TD, layout, newest))
        inner_MF = self.dropped(F.gelu(self.inner(self.feed_norm(hidden_MD))), inner=True)
        return hidden_MD + self.dropped(self.outer(inner_MF))


class LiGRBlock(_Attention):
    """h = h + sigmoid(G1 h) * attention(x, x, x), x = LN(h); h = h + sigmoid(G2 h) * SwiGLU(LN(h)) (arXiv 2502.03417).

    The gates read h itself, not its normalised form. SwiGLU(x) = W3 (SiLU(W1 x) * W2 x), without biases.
    """

    def __init__(self, dim: int, options: BlockOptions) -> None:
        super().__init__(dim, options)
        self.attention_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention_gate, self.feed_gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.inner_gate = nn.Linear(dim, options.inner, bias=False)
        self.inner = nn.Linear(dim, options.inner, bias=False)
        self.outer = nn.Linear(options.inner, dim, bias=False)

    def forward(self, hidden_TD: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        source_TD = self.attention_norm(hidden_TD)
        hidden_MD, query_MD = (layout.newest(t) if newest else t for t in (hidden_TD, source_TD))
        attended_MD = self.dropped(self.attention(query_MD, source_TD, layout, newest))
        hidden_MD = torch.addcmul(hidden_MD, torch.sigmoid(self.attention_gate(hidden_MD)), attended_MD)
        feed_MD = self.feed_norm(hidden_MD)
        inner_MF = self.dropped(F.silu(self.inner_gate(feed_MD)) * self.inner(feed_MD), inner=True)
        return torch.addcmul(hidden_MD, torch.sigmoid(self.feed_gate(hidden_MD)), self.dropped(self.outer(inner_MF)))


BLOCKS: dict[str, type[ClassicBlock] | type[PrenormBlock] | type[LiGRBlock]] = {
    "classic": ClassicBlock,
    "prenorm": PrenormBlock,
    "ligr": LiGRBlock,
}
"""Block classes by the name that ``block`` of the settings has for them."""
