"""LightGCN: vectors smoothed over the user-item graph, and nothing else (He et al. 2020, arXiv 2002.02126)."""

# U users, I items, M = U + I nodes, D width, N pairs of a step

from __future__ import annotations

import torch
from torch import Tensor, nn

from rec_srs.config import LightGCNSettings
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch, bpr_of_vectors, l2_of_step


class LightGCN(nn.Module):
    """E(k+1) = A_hat E(k) from the tables E(0); the vectors are the mean of layers 0 to L (equations 3, 4 and 8).

    The penalty is on layer 0 (equation 15). The official code draws users uniformly; here an epoch visits every pair
    once, as in SELFRec, whose own loss is ``bpr_form="log_epsilon"`` with ``l2_form="norm"``.
    """

    settings_type = LightGCNSettings

    def __init__(self, graph: InteractionGraph, settings: LightGCNSettings) -> None:
        super().__init__()
        self.graph, self.settings = graph, settings
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_users, settings.dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_items, settings.dim)))

    @property
    def splits_steps(self) -> bool:
        """A norm that is not squared belongs to the whole step."""
        return self.settings.l2_form == "squared" or self.settings.l2 == 0

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """BPR on the smoothed vectors and the penalty on the layer-0 vectors of the step."""
        settings, graph = self.settings, self.graph
        nodes_3N = torch.stack([batch.users_N, batch.positives_N + graph.n_users, batch.negatives_N + graph.n_users])
        mean_3ND, rows_3ND = graph.rows_of_mean(torch.cat([self.users, self.items]), nodes_3N, settings.layers)
        user_ND, positive_ND, negative_ND = mean_3ND
        ranking = bpr_of_vectors(user_ND, positive_ND, negative_ND, settings.bpr_form)
        penalty = l2_of_step(settings, *rows_3ND)
        return ranking + penalty, {"bpr": ranking.detach(), "l2": penalty.detach()}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Mean of layers 0 to L: users [U, D], items [I, D]."""
        mean_MD = self.graph.mean_of_layers(torch.cat([self.users, self.items]), self.settings.layers)
        return mean_MD[: self.graph.n_users], mean_MD[self.graph.n_users :]

    def fold_in(self) -> Tensor | None:
        """:meth:`InteractionGraph.fold_in`: a user of the graph gets exactly her own vector less p_u / (L + 1)."""
        return self.graph.fold_in(torch.cat([self.users, self.items]), self.settings.layers)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing."""
