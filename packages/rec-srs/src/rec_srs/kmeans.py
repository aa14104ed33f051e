"""k-means of the rows of a tensor on its own device: k-means++ seeds, Lloyd's rounds in blocks of bounded memory."""

# N points, K clusters, D width, C points of one block

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rec_core.errors import SettingsError

_BLOCK_BYTES = 16 << 20  # distances held at once


class Clusters(NamedTuple):
    """Where the clusters are and who belongs to which.

    centres_KD   the mean of each cluster's points
    cluster_N    int64, the nearest centre of each point
    """

    centres_KD: Tensor
    cluster_N: Tensor


@torch.no_grad()
def kmeans(points_ND: Tensor, k: int, *, start_KD: Tensor | None = None, rounds: int = 25) -> Clusters:
    """Partition points so that each lies with the nearest of k means (Lloyd), for at most ``rounds`` rounds.

    It stops as soon as a round moves no point. ``start_KD`` are the means to start from, such as those found before the
    points moved a little; None draws seeds by k-means++ (Arthur & Vassilvitskii 2007) from torch's global generator of
    the CPU, so that equal seeds give equal clusters. A cluster that loses all its points takes the point that lies
    furthest from its own mean; only where points coincide may clusters stay empty.

    Never holds all N x K distances. Raises :class:`SettingsError` for more clusters than points.
    """
    if not 1 <= k <= len(points_ND):
        raise SettingsError(f"{k:,} clusters of {len(points_ND):,} points: the number lies in 1..{len(points_ND):,}")
    centres_KD = _seeds(points_ND, k) if start_KD is None else start_KD
    cluster_N, distance_N = _nearest(points_ND, centres_KD)
    for _ in range(rounds):
        centres_KD = _means(points_ND, cluster_N, distance_N, centres_KD)
        before_N = cluster_N
        cluster_N, distance_N = _nearest(points_ND, centres_KD)
        if torch.equal(cluster_N, before_N):
            break
    return Clusters(centres_KD, cluster_N)


def _seeds(points_ND: Tensor, k: int) -> Tensor:
    """Each next seed is a point drawn in proportion to its squared distance from the nearest seed so far."""
    square_N = points_ND.square().sum(dim=1)
    chosen_K = torch.zeros(k, dtype=torch.int64, device=points_ND.device)
    distance_N = torch.ones_like(square_N)
    finest = (1 << 62) // len(points_ND)  # what the largest distance counts, so that no sum exceeds int64
    for i, uniform in enumerate(torch.rand(k, dtype=torch.float64).tolist()):
        # Summed as whole numbers: float32 loses points of a long sum, and on a GPU no sum of floats is deterministic.
        share_N = distance_N / distance_N.max().clamp(min=torch.finfo(distance_N.dtype).tiny)
        cumulated_N = (share_N * 2.0 ** (finest.bit_length() - 1)).to(torch.int64).cumsum(0)
        drawn = torch.tensor([int(uniform * int(cumulated_N[-1]))], device=cumulated_N.device)
        # right: a point at distance 0 does not raise the sum, so it is never the first above
        at = torch.searchsorted(cumulated_N, drawn, right=True).clamp_(max=len(points_ND) - 1)[0]
        chosen_K[i] = at
        to_seed_N = (square_N + square_N[at] - 2 * (points_ND @ points_ND[at])).clamp_(min=0)
        distance_N = to_seed_N if i == 0 else torch.minimum(distance_N, to_seed_N)
        distance_N[at] = 0
    return points_ND[chosen_K]


def _nearest(points_ND: Tensor, centres_KD: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each point, and the squared distance to it."""
    square_K = centres_KD.square().sum(dim=1)
    rows = max(1, _BLOCK_BYTES // (len(centres_KD) * points_ND.element_size()))
    clusters, distances = [], []
    for points_CD in points_ND.split(rows):
        # without the point's own square, which is the same for all centres
        least_C, cluster_C = torch.addmm(square_K, points_CD, centres_KD.T, alpha=-2).min(dim=1)
        clusters.append(cluster_C)
        distances.append(least_C + points_CD.square().sum(dim=1))
    return torch.cat(clusters), torch.cat(distances)


def _means(points_ND: Tensor, cluster_N: Tensor, distance_N: Tensor, before_KD: Tensor) -> Tensor:
    """Means of the clusters; those without points go to the points furthest from their own mean."""
    size_K = torch.bincount(cluster_N, minlength=len(before_KD))
    sum_KD = torch.zeros_like(before_KD).index_add_(0, cluster_N, points_ND)
    mean_KD = sum_KD / size_K.clamp(min=1)[:, None]
    empty = torch.nonzero(size_K == 0).squeeze(1)
    mean_KD[empty] = points_ND[distance_N.topk(len(empty)).indices]
    return mean_KD
