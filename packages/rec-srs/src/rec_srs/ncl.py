"""NCL: LightGCN whose nodes agree with neighbours in graph and meaning (Lin et al. 2022, arXiv 2202.06200)."""

# U users, I items, M = U + I nodes (users first), D width, N pairs of a step, K prototypes

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.errors import SettingsError
from rec_srs.config import NCLSettings
from rec_srs.contrastive import contrast, info_nce
from rec_srs.graph import InteractionGraph
from rec_srs.kmeans import kmeans
from rec_srs.pairs import PairBatch, bpr_of_vectors, l2_norms, l2_squared


class NCL(nn.Module):
    """E(k+1) = A_hat E(k) from the tables E(0); the vectors are the mean of layers 0 to L.

    Two losses join the ranking, both over cosines and summed over the pairs of a step, users and items apart; a node
    that occurs twice counts twice:

    - structure: a node's layer 2h should find the node's own layer 0 among the layer 0 of *all* users (items). An even
      layer mixes nodes of one kind only: those that share neighbours;
    - prototypes: a node's layer 0 should find the centre of its cluster among all centres. The clusters are made by
      k-means of layer 0 when an epoch begins, from ``warmup_epochs`` on (the E-step of expectation maximisation; the
      steps are the M-step). The first clustering seeds itself, each later one starts from the centres of the last.

    Clusters are buffers, so a run that resumes within an epoch goes on with the same ones. Nodes without a training
    pair are not clustered. Raises :class:`SettingsError` for more prototypes than users or items with a training pair.
    """

    settings_type = NCLSettings
    user_centres_KD: Tensor
    user_cluster_U: Tensor
    item_centres_KD: Tensor
    item_cluster_I: Tensor
    clustered: Tensor

    def __init__(self, graph: InteractionGraph, settings: NCLSettings) -> None:
        super().__init__()
        self.graph, self.settings = graph, settings
        self.trained = {"user": graph.user_degrees_U > 0, "item": graph.item_degrees_I > 0}
        smaller = min(int(trained.sum()) for trained in self.trained.values())
        self.prototypes = settings.prototypes or max(1, min(2000, smaller // 10))
        if settings.prototype_weight:
            for kind, trained in self.trained.items():
                if self.prototypes > (nodes := int(trained.sum())):
                    raise SettingsError(
                        f"prototypes is {self.prototypes:,}, but there are only {nodes:,} {kind}s with a training "
                        f"pair to cluster: lower --prototypes, or switch the prototypes off with --prototype-weight 0"
                    )
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_users, settings.dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_items, settings.dim)))
        if settings.prototype_weight:
            self.register_buffer("clustered", torch.tensor(False))
            self.register_buffer("user_centres_KD", torch.zeros(self.prototypes, settings.dim))
            self.register_buffer("user_cluster_U", torch.zeros(graph.n_users, dtype=torch.int64))
            self.register_buffer("item_centres_KD", torch.zeros(self.prototypes, settings.dim))
            self.register_buffer("item_cluster_I", torch.zeros(graph.n_items, dtype=torch.int64))

    @property
    def splits_steps(self) -> bool:
        """Never: both losses are sums over a step, and prototypes of the batch are each other's negatives."""
        return False

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """BPR on the vectors, the penalty, and the two losses with their weights.

        The penalty is on layer 0; in the form ``norm`` it is SELFRec's, on the vectors, over the pairs once more.
        """
        settings, graph = self.settings, self.graph
        layers = [torch.cat([self.users, self.items])]
        for _ in range(settings.layers):
            layers.append(graph.propagate(layers[-1]))
        nodes_3N = torch.stack([batch.users_N, batch.positives_N + graph.n_users, batch.negatives_N + graph.n_users])
        user_ND, positive_ND, negative_ND = F.embedding(nodes_3N, sum(layers[1:], start=layers[0])) / len(layers)
        ranking = bpr_of_vectors(user_ND, positive_ND, negative_ND, settings.bpr_form)
        if settings.l2_form == "squared":
            penalty = l2_squared(settings.l2, *F.embedding(nodes_3N, layers[0]))
        else:
            penalty = l2_norms(settings.l2, user_ND, positive_ND, negative_ND) / len(user_ND)
        loss, parts = ranking + penalty, {"bpr": ranking.detach(), "l2": penalty.detach()}
        if settings.structure_weight:
            structure = self.structure_loss(batch, layers[2 * settings.hops])
            loss, parts["structure"] = loss + settings.structure_weight * structure, structure.detach()
        if settings.prototype_weight and bool(self.clustered):
            prototypes = self.prototype_loss(batch)
            loss, parts["prototypes"] = loss + settings.prototype_weight * prototypes, prototypes.detach()
        return loss, parts

    def structure_loss(self, batch: PairBatch, context_MD: Tensor) -> Tensor:
        """Sum over the pairs of -log softmax(cos(context of u, layer 0 of all users) / tau)[u], and of the items' too.

        The items' part counts ``item_weight`` times.
        """
        settings, graph = self.settings, self.graph
        context_ND = F.embedding(batch.users_N, context_MD)
        loss = contrast(context_ND, self.users, batch.users_N, settings.temperature)
        if settings.item_weight:
            context_ND = F.embedding(batch.positives_N + graph.n_users, context_MD)
            items = contrast(context_ND, self.items, batch.positives_N, settings.temperature)
            loss = loss + settings.item_weight * items
        return loss * len(batch.users_N)

    def prototype_loss(self, batch: PairBatch) -> Tensor:
        """Sum over the pairs of -log softmax(cos(layer 0 of u, centres) / tau)[cluster of u], and of the items' too.

        The softmax runs over all centres, or with ``prototype_negatives="batch"`` over those of the step's rows, each
        as often as it occurs there: two rows of one cluster are then each other's negatives.
        """
        temperature = self.settings.temperature
        losses = []
        for table_D, ids_N, centres_KD, cluster in (
            (self.users, batch.users_N, self.user_centres_KD, self.user_cluster_U),
            (self.items, batch.positives_N, self.item_centres_KD, self.item_cluster_I),
        ):
            rows_ND, cluster_N = F.embedding(ids_N, table_D), cluster[ids_N]
            if self.settings.prototype_negatives == "all":
                losses.append(contrast(rows_ND, centres_KD, cluster_N, temperature))
            else:
                losses.append(info_nce(rows_ND, centres_KD[cluster_N], temperature))
        return torch.stack(losses).sum() * len(batch.users_N)

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Cluster both tables, from the first epoch after the warm-up on."""
        if not self.settings.prototype_weight:
            return
        if epoch < self.settings.warmup_epochs:
            self.clustered.fill_(False)
            return
        for table_D, trained, centres_KD, cluster in (
            (self.users, self.trained["user"], self.user_centres_KD, self.user_cluster_U),
            (self.items, self.trained["item"], self.item_centres_KD, self.item_cluster_I),
        ):
            nodes_N = torch.nonzero(trained).flatten().to(table_D.device)
            start_KD = centres_KD if bool(self.clustered) else None
            found = kmeans(table_D[nodes_N], self.prototypes, start_KD=start_KD)
            centres_KD.copy_(found.centres_KD)
            cluster[nodes_N] = found.cluster_N
        self.clustered.fill_(True)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Mean of layers 0 to L: users [U, D], items [I, D]."""
        mean_MD = self.graph.mean_of_layers(torch.cat([self.users, self.items]), self.settings.layers)
        return mean_MD[: self.graph.n_users], mean_MD[self.graph.n_users :]

    def fold_in(self) -> Tensor | None:
        """:meth:`InteractionGraph.fold_in`: a user of the graph gets exactly her own vector less p_u / (L + 1)."""
        return self.graph.fold_in(torch.cat([self.users, self.items]), self.settings.layers)
