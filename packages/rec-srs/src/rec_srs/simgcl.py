"""SimGCL: LightGCN without layer 0, and two noisy passes that should agree (Yu et al. 2022, arXiv 2112.08679)."""

# U users, I items, M = U + I nodes (users first), D width, N pairs of a step, K distinct nodes of a step

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_srs.config import SimGCLSettings
from rec_srs.contrastive import directed_noise, info_nce
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch, bpr_of_vectors, l2_norms, l2_squared


class SimGCL(nn.Module):
    """E(k+1) = A_hat E(k) from the tables E(0); the vectors are the mean of layers 1 to L.

    A noisy pass is E(k+1) = A_hat E(k) + noise, noise as :func:`rec_srs.contrastive.directed_noise` makes it for that
    very layer, and what comes out feeds the next layer. A step ranks with the clean pass and contrasts two noisy ones,
    the distinct users and the distinct positive items of the step each among themselves.

    Propagation is linear and noise has no gradient, so a noisy pass is the clean one plus what its noise has become:
    the gradient of all three passes flows back through the clean one alone, and both noisy passes are carried side by
    side as matrices of width 2D from the second layer on. Three passes are 3 L products forward and as many backward;
    this makes L, L - 1 of double width, and L backward.
    """

    settings_type = SimGCLSettings

    def __init__(self, graph: InteractionGraph, settings: SimGCLSettings) -> None:
        super().__init__()
        self.graph, self.settings = graph, settings
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_users, settings.dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_items, settings.dim)))

    @property
    def splits_steps(self) -> bool:
        """Never: the nodes of a step are each other's negatives."""
        return False

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """BPR on the clean vectors, the penalty, and InfoNCE of the noisy vectors of users and of items.

        The penalty is on layer 0; in the form ``norm`` it is SELFRec's, on the clean vectors of users and positives.
        """
        settings, graph = self.settings, self.graph
        tables_MD = torch.cat([self.users, self.items])
        layers = [graph.propagate(tables_MD)]
        while len(layers) < settings.layers:
            layers.append(graph.propagate(layers[-1]))
        pairs_3N = torch.stack([batch.users_N, batch.positives_N + graph.n_users, batch.negatives_N + graph.n_users])
        users_K, items_K = torch.unique(batch.users_N), torch.unique(batch.positives_N) + graph.n_users
        sizes = [len(users_K), len(items_K)]
        total_MD = sum(layers[1:], start=layers[0])
        rows_D = F.embedding(torch.cat([pairs_3N.flatten(), users_K, items_K]), total_MD) / len(layers)
        user_ND, positive_ND, negative_ND, *clean = rows_D.split([len(batch.users_N)] * 3 + sizes)

        ranking = bpr_of_vectors(user_ND, positive_ND, negative_ND, settings.bpr_form)
        if settings.l2_form == "squared":
            penalty = l2_squared(settings.l2, *F.embedding(pairs_3N, tables_MD))
        else:
            penalty = l2_norms(settings.l2, user_ND, positive_ND)
        loss, parts = ranking + penalty, {"bpr": ranking.detach(), "l2": penalty.detach()}
        if settings.weight:
            drifts = self._drifts(layers, torch.cat([users_K, items_K])).split(sizes)
            agreement = torch.stack(
                [
                    info_nce(clean_KD + drift_K2D[:, 0], clean_KD + drift_K2D[:, 1], settings.temperature)
                    for clean_KD, drift_K2D in zip(clean, drifts, strict=True)
                ]
            ).sum()
            loss, parts["contrast"] = loss + settings.weight * agreement, agreement.detach()
        return loss, parts

    @torch.no_grad()
    def _drifts(self, layers: list[Tensor], nodes_K: Tensor) -> Tensor:
        """By how much the vectors of two independent noisy passes differ from the clean ones, [K, 2, D]."""
        nodes, dim = layers[0].shape
        drift_M2D = layers[0].new_zeros(nodes, 2, dim)
        total_K2D = layers[0].new_zeros(len(nodes_K), 2, dim)
        for k, layer_MD in enumerate(layers):
            if k:  # before the first layer nothing has drifted
                drift_M2D = self.graph.propagate(drift_M2D.view(nodes, 2 * dim)).view(nodes, 2, dim)
            if k < len(layers) - 1:
                drift_M2D = self._drawn(layer_MD, drift_M2D)
                total_K2D += drift_M2D[nodes_K]
            else:  # no layer follows, so that the noise of other nodes is not needed
                total_K2D += self._drawn(layer_MD[nodes_K], drift_M2D[nodes_K])
        return total_K2D / len(layers)

    def _drawn(self, layer_RD: Tensor, drift_R2D: Tensor) -> Tensor:
        """The drifts of some nodes after the noise of a layer."""
        noisy_R2D = layer_RD[:, None, :] + drift_R2D
        return drift_R2D + directed_noise(noisy_R2D.flatten(0, 1), self.settings.noise).view_as(noisy_R2D)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Mean of layers 1 to L of the clean pass: users [U, D], items [I, D]."""
        tables_MD = torch.cat([self.users, self.items])
        mean_MD = self.graph.mean_of_layers(tables_MD, self.settings.layers, first=1)
        return mean_MD[: self.graph.n_users], mean_MD[self.graph.n_users :]

    def fold_in(self) -> Tensor | None:
        """:meth:`InteractionGraph.fold_in`: a user of the graph gets exactly her own vector, which has no layer 0."""
        return self.graph.fold_in(torch.cat([self.users, self.items]), self.settings.layers, first=1)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing."""
