"""XSimGCL: one noisy pass that ranks and is contrasted with one of its layers (Yu et al. 2022, arXiv 2209.02544)."""

# U users, I items, M = U + I nodes (users first), D width, N pairs of a step, K distinct nodes of a step

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_srs.config import XSimGCLSettings
from rec_srs.contrastive import directed_noise, info_nce
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch, bpr_of_vectors, l2_norms, l2_squared


class XSimGCL(nn.Module):
    """E(k+1) = A_hat E(k) + noise from the tables E(0); the vectors are the mean of layers 1 to L.

    In training that one pass (L products forward, L backward) gives both what ranks and the contrast: the mean against
    layer ``contrast_layer``, the distinct users and the distinct positive items of the step each among themselves.
    Noise is :func:`rec_srs.contrastive.directed_noise` of each layer, and what comes out feeds the next one. Answers
    come from a pass without noise.
    """

    settings_type = XSimGCLSettings

    def __init__(self, graph: InteractionGraph, settings: XSimGCLSettings) -> None:
        super().__init__()
        self.graph, self.settings = graph, settings
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_users, settings.dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_items, settings.dim)))

    @property
    def splits_steps(self) -> bool:
        """Never: the nodes of a step are each other's negatives."""
        return False

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """BPR on the noisy vectors, the penalty, and InfoNCE of the noisy vectors with those of one layer.

        The penalty is on layer 0; in the form ``norm`` it is SELFRec's, on the noisy vectors of users and positives.
        """
        settings, graph = self.settings, self.graph
        tables_MD = torch.cat([self.users, self.items])
        layers = self._noisy_layers(tables_MD)
        total_MD, view_MD = sum(layers[2:], start=layers[1]), layers[settings.contrast_layer]
        pairs_3N = torch.stack([batch.users_N, batch.positives_N + graph.n_users, batch.negatives_N + graph.n_users])
        users_K, items_K = torch.unique(batch.users_N), torch.unique(batch.positives_N) + graph.n_users
        sizes = [len(users_K), len(items_K)]
        rows_D = F.embedding(torch.cat([pairs_3N.flatten(), users_K, items_K]), total_MD) / settings.layers
        user_ND, positive_ND, negative_ND, *final = rows_D.split([len(batch.users_N)] * 3 + sizes)

        ranking = bpr_of_vectors(user_ND, positive_ND, negative_ND, settings.bpr_form)
        if settings.l2_form == "squared":
            penalty = l2_squared(settings.l2, *F.embedding(pairs_3N, tables_MD))
        else:
            penalty = l2_norms(settings.l2, user_ND, positive_ND)
        loss, parts = ranking + penalty, {"bpr": ranking.detach(), "l2": penalty.detach()}
        if settings.weight:
            view = F.embedding(torch.cat([users_K, items_K]), view_MD).split(sizes)
            agreement = torch.stack(
                [info_nce(a_KD, b_KD, settings.temperature) for a_KD, b_KD in zip(final, view, strict=True)]
            ).sum()
            loss, parts["contrast"] = loss + settings.weight * agreement, agreement.detach()
        return loss, parts

    def _noisy_layers(self, tables_MD: Tensor) -> list[Tensor]:
        """The tables and the L layers of a noisy pass, [M, D] each."""
        layers = [tables_MD]
        for _ in range(self.settings.layers):
            layer_MD = self.graph.propagate(layers[-1])
            layers.append(layer_MD + directed_noise(layer_MD, self.settings.noise))
        return layers

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Mean of layers 1 to L of a pass without noise: users [U, D], items [I, D]."""
        tables_MD = torch.cat([self.users, self.items])
        mean_MD = self.graph.mean_of_layers(tables_MD, self.settings.layers, first=1)
        return mean_MD[: self.graph.n_users], mean_MD[self.graph.n_users :]

    def fold_in(self) -> Tensor | None:
        """:meth:`InteractionGraph.fold_in`: a user of the graph gets exactly her own vector, which has no layer 0."""
        return self.graph.fold_in(torch.cat([self.users, self.items]), self.settings.layers, first=1)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing."""
