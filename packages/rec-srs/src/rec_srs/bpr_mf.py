"""BPR-MF: matrix factorisation with a pairwise loss (Rendle et al. 2009, arXiv 1205.2618)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_srs.config import BPRMFSettings
from rec_srs.graph import InteractionGraph
from rec_srs.pairs import PairBatch, bpr_of_vectors, l2_of_step


class BPRMF(nn.Module):
    """A vector per user and item; the score is their dot product. Someone never seen has no vector and no answer.

    The paper draws pairs with replacement and updates after each; here an epoch visits every pair once, in batches
    and with Adam, as in SELFRec, whose own loss is ``bpr_form="log_epsilon"`` with ``l2_form="norm"``.
    """

    settings_type = BPRMFSettings

    def __init__(self, graph: InteractionGraph, settings: BPRMFSettings) -> None:
        super().__init__()
        self.graph, self.settings = graph, settings
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_users, settings.dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.n_items, settings.dim)))

    @property
    def splits_steps(self) -> bool:
        """A norm that is not squared belongs to the whole step."""
        return self.settings.l2_form == "squared" or self.settings.l2 == 0

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """BPR and the penalty on the vectors of the step."""
        settings = self.settings
        user_ND = F.embedding(batch.users_N, self.users)
        positive_ND, negative_ND = F.embedding(torch.stack([batch.positives_N, batch.negatives_N]), self.items)
        ranking = bpr_of_vectors(user_ND, positive_ND, negative_ND, settings.bpr_form)
        penalty = l2_of_step(settings, user_ND, positive_ND, negative_ND)
        return ranking + penalty, {"bpr": ranking.detach(), "l2": penalty.detach()}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The two tables."""
        return self.users, self.items

    def fold_in(self) -> Tensor | None:
        """None: someone never seen has no vector."""
        return None

    def begin_epoch(self, epoch: int) -> None:
        """Nothing."""
