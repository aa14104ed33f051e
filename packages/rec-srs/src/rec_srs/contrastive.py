"""Contrastive losses over cosines, in blocks of bounded memory, and the noise that makes two views of one vector."""

# N anchors, M others, D width

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rec_core.training.losses import full_softmax


def contrast(
    anchors_ND: Tensor,
    others_MD: Tensor,
    partners_N: Tensor,
    temperature: float,
    *,
    left_out_N: Tensor | None = None,
    chunk_bytes: int | None = None,
) -> Tensor:
    """Mean over anchors of -log softmax(cos(anchor, others) / temperature)[partner]; 0 for no anchors.

    partners_N    int64, the row of ``others`` that belongs to each anchor; all rows stand in the denominator, the
                  partner's too
    left_out_N    int64, a row per anchor that does not stand there (never the partner)
    chunk_bytes   most scratch for the cosines, as in :func:`rec_core.training.losses.full_softmax`

    Equals that softmax of unit vectors divided by the temperature, so it is computed by it: with its gradients, chunk
    by chunk, the N x M cosines never held at once, the largest subtracted before any exponential. Always in float32 or
    wider, under autocast too: a temperature of 0.05 makes a rounding error of a cosine twenty times larger. A vector
    of zeros has cosine 0 with everything.
    """
    dtype = torch.promote_types(torch.promote_types(anchors_ND.dtype, others_MD.dtype), torch.float32)
    with torch.autocast(anchors_ND.device.type, enabled=False):
        unit_ND = F.normalize(anchors_ND.to(dtype), dim=1)
        unit_MD = F.normalize(others_MD.to(dtype), dim=1)
        return full_softmax(unit_ND / temperature, unit_MD, partners_N, left_out_N=left_out_N, chunk_bytes=chunk_bytes)


def info_nce(view_ND: Tensor, other_ND: Tensor, temperature: float, *, chunk_bytes: int | None = None) -> Tensor:
    """InfoNCE of two views of the same N rows, one direction: row n of the other view is the partner of row n.

    The N - 1 other rows are the negatives. Two orthonormal rows against themselves at temperature 0.2 give
    ln(1 + e^-5) = 0.0067153. The other direction is the same call with the views swapped.
    """
    return contrast(
        view_ND, other_ND, torch.arange(len(view_ND), device=view_ND.device), temperature, chunk_bytes=chunk_bytes
    )


def directed_noise(vectors_ND: Tensor, length: float) -> Tensor:
    """Fresh noise of the given length for each row, in the row's own orthant: length · sign(e) ∘ n / ‖n‖, n ~ U(0, 1).

    Without gradient; a zero entry gets zero, so a row of zeros stays one (SimGCL, arXiv 2112.08679). Drawn from the
    device's global generator, 16 bits per value, so four values of one 64-bit draw: on a CPU drawing is most of the
    cost (69,716 x 64 values take 10 ms instead of 23, and a sparse product over the graph of Yelp2018 takes about 23).
    """
    with torch.no_grad():
        draws = torch.empty(-(-vectors_ND.numel() // 4), dtype=torch.int64, device=vectors_ND.device)
        bits = draws.random_(-(2**63), None).view(torch.int16)[: vectors_ND.numel()]
        noise_ND = bits.view(vectors_ND.shape).to(vectors_ND.dtype).add_(2**15 + 0.5)  # 0.5 .. 65535.5: never zero
        noise_ND.mul_(length / torch.linalg.vector_norm(noise_ND, dim=1, keepdim=True))
        return noise_ND.mul_(vectors_ND.sign())
