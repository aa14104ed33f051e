"""The usual ways, written plainly: RecBole's network and its prefixes, padded training, and SELFRec's LightGCN.

Three uses. They stand in where a peer cannot be installed; RecBole's network, as a model of ours, carries the same
weights through both evaluations and both losses; and SELFRec, which is no package, is measured through its twin.
"""

# B rows, L positions, T tokens, M tokens asked for, D width, V items, N targets

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from rec_core.training import IdEmbeddings
from rec_core.training.batching import pad
from rec_core.training.losses import full_softmax
from rec_core.types import HeldOut, Histories
from rec_core.types.ids import Int64
from rec_srs.blocks import Layout, attend, dropout

# ---- RecBole's SASRec ------------------------------------------------------------------------------------------------


class PostNormBatch(NamedTuple):
    """Right-padded ids, where events are, and the next events (None to encode)."""

    items_BL: Tensor
    mask_BL: Tensor
    targets_BL: Tensor | None


class PostNormBlock(nn.Module):
    """h = LN(h + out(attention(h))); h = LN(h + W2 GELU(W1 h))."""

    def __init__(self, dim: int, heads: int, inner: int, share: float) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.inner, self.outer = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.attention_norm, self.feed_norm = (nn.LayerNorm(dim, eps=1e-12) for _ in range(2))

    def forward(self, hidden_TD: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        from_MD = layout.newest(hidden_TD) if newest else hidden_TD
        key_TD, value_TD = self.key(hidden_TD), self.value(hidden_TD)
        mixed_MD = attend(self.query(from_MD), key_TD, value_TD, layout, heads=self.heads, newest=newest)
        hidden_MD = self.attention_norm(from_MD + dropout(self.out(mixed_MD), self.share, self.training))
        fed_MD = self.outer(F.gelu(self.inner(hidden_MD)))
        return self.feed_norm(hidden_MD + dropout(fed_MD, self.share, self.training))

    def plain(self, hidden_BLD: Tensor) -> Tensor:
        """The same in the usual way: scores written out, a mask added to them, weights dropped too."""
        B, L, D = hidden_BLD.shape
        query_BHLK, key_BHLK, value_BHLK = (
            linear(hidden_BLD).view(B, L, self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        ahead_LL = torch.ones(L, L, dtype=torch.bool).triu(1) * -10_000.0
        weights_BHLL = (query_BHLK @ key_BHLK.mT / (D // self.heads) ** 0.5 + ahead_LL).softmax(dim=-1)
        mixed_BHLK = F.dropout(weights_BHLL, self.share, self.training) @ value_BHLK
        mixed_BLD = self.out(mixed_BHLK.transpose(1, 2).reshape(B, L, D))
        hidden_BLD = self.attention_norm(hidden_BLD + F.dropout(mixed_BLD, self.share, self.training))
        fed_BLD = self.outer(F.gelu(self.inner(hidden_BLD)))
        return self.feed_norm(hidden_BLD + F.dropout(fed_BLD, self.share, self.training))


class PostNormSASRec(nn.Module):
    """RecBole 1.2's SASRec as a ``rec_core.training.SequenceModel``: the same function of the same weights.

    What is packed and what the last block leaves out is as in ``rec_srs.sasrec``. In training, attention weights are
    dropped in the usual way only.
    RecBole has a row for padding among the classes of its softmax; the table may therefore end with one row more than
    there are items.
    """

    def __init__(
        self, items: IdEmbeddings, *, max_length: int, layers: int, heads: int, inner: int, share: float
    ) -> None:
        super().__init__()
        self.items, self.max_length, self.share = items, max_length, share
        self.positions = nn.Embedding(max_length, items.dim)
        self.norm = nn.LayerNorm(items.dim, eps=1e-12)
        self.blocks = nn.ModuleList(PostNormBlock(items.dim, heads, inner, share) for _ in range(layers))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def batch(self, histories: Histories, rows: Int64, rng: np.random.Generator | None) -> PostNormBatch:
        """The newest events; in training all but the last are inputs."""
        if rng is None:
            items, mask = pad(histories, rows, self.max_length)
            return PostNormBatch(torch.from_numpy(items), torch.from_numpy(mask), None)
        items, mask = pad(histories, rows, self.max_length + 1)
        return PostNormBatch(
            torch.from_numpy(items[:, :-1]), torch.from_numpy(mask[:, 1:].copy()), torch.from_numpy(items[:, 1:])
        )

    def tokens(self, items_BL: Tensor, layout: Layout, newest: bool = False) -> Tensor:
        """Vectors [T, D], or [B, D] of the newest events; positions count from the first event of the window."""
        place_BL = torch.arange(items_BL.shape[1]).expand_as(items_BL)
        hidden_TD = self.items(layout.tokens(items_BL)) + self.positions(layout.tokens(place_BL))
        hidden_TD = dropout(self.norm(hidden_TD), self.share, self.training)
        for i, block in enumerate(self.blocks):
            hidden_TD = block(hidden_TD, layout, newest and i == len(self.blocks) - 1)
        return hidden_TD

    def padded(self, items_BL: Tensor) -> Tensor:
        """Vectors [B, L, D] in the usual way: pads are computed like events."""
        hidden_BLD = self.norm(self.items(items_BL) + self.positions.weight[: items_BL.shape[1]])
        hidden_BLD = F.dropout(hidden_BLD, self.share, self.training)
        for block in self.blocks:
            hidden_BLD = block.plain(hidden_BLD)
        return hidden_BLD

    def loss(self, batch: PostNormBatch) -> tuple[Tensor, Tensor]:
        """All next events at once."""
        assert batch.targets_BL is not None
        layout = Layout.of(batch.mask_BL.sum(dim=1), batch.items_BL.shape[1])
        targets_N = batch.targets_BL[batch.mask_BL]
        hidden_ND = layout.events(self.tokens(batch.items_BL, layout))
        return full_softmax(hidden_ND, self.items.table(), targets_N), targets_N

    def encode(self, batch: PostNormBatch) -> Tensor:
        """The vector at the newest event."""
        layout = Layout.of(batch.mask_BL.sum(dim=1), batch.items_BL.shape[1])
        return self.tokens(batch.items_BL, layout, newest=True)

    def as_recbole(self) -> dict[str, np.ndarray]:
        """Weights under RecBole's names; the table is called ``items``."""
        names = {
            "query": "multi_head_attention.query", "key": "multi_head_attention.key",
            "value": "multi_head_attention.value", "out": "multi_head_attention.dense",
            "attention_norm": "multi_head_attention.LayerNorm", "inner": "feed_forward.dense_1",
            "outer": "feed_forward.dense_2", "feed_norm": "feed_forward.LayerNorm",
        }  # fmt: skip
        found = {"items": self.items.weight, "position_embedding.weight": self.positions.weight}
        found |= {f"LayerNorm.{name}": value for name, value in self.norm.named_parameters()}
        for i, block in enumerate(self.blocks):
            for ours, theirs in names.items():
                for name, value in getattr(block, ours).named_parameters():
                    found[f"trm_encoder.layer.{i}.{theirs}.{name}"] = value
        return {name: value.detach().numpy() for name, value in found.items()}


# ---- the usual ways of training --------------------------------------------------------------------------------------


def prefix_steps(model: PostNormSASRec, histories: Histories, batch: int, rate: float, seed: int) -> Iterator[Any]:
    """RecBole's way: one padded row per prefix, all made beforehand, the loss at its last place only."""
    L = model.max_length
    rows: list[tuple[int, int]] = [(u, end) for u in range(len(histories)) for end in range(1, histories.lengths[u])]
    items = torch.zeros(len(rows), L, dtype=torch.int64)
    lengths, targets = torch.zeros(len(rows), dtype=torch.int64), torch.zeros(len(rows), dtype=torch.int64)
    for i, (u, end) in enumerate(rows):
        history = histories.items[histories.offsets[u] : histories.offsets[u + 1]]
        prefix = history[max(0, end - L) : end]
        items[i, : len(prefix)] = torch.from_numpy(prefix.astype(np.int64))
        lengths[i], targets[i] = len(prefix), int(history[end])
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    while True:
        for chosen in torch.randperm(len(rows), generator=generator).split(batch):
            yield "before"
            optimiser.zero_grad()
            hidden_BD = model.padded(items[chosen])[torch.arange(len(chosen)), lengths[chosen] - 1]
            loss = F.cross_entropy(hidden_BD @ model.items.table().T, targets[chosen])
            loss.backward()
            optimiser.step()
            yield len(chosen), loss.item()


def padded_steps(model: PostNormSASRec, histories: Histories, batch: int, rate: float, seed: int) -> Iterator[Any]:
    """RecTools' way: rows padded to the full length, logits of every place, pads ignored by the loss."""
    L = model.max_length
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    rows = np.flatnonzero(histories.lengths >= 2)
    model.train()
    while True:
        order = rng.permutation(rows)
        for start in range(0, len(order), batch):
            yield "before"
            chosen = order[start : start + batch]
            x, y = np.zeros((len(chosen), L), np.int64), np.full((len(chosen), L), -100)
            for i, u in enumerate(chosen):
                window = histories.items[histories.offsets[u] : histories.offsets[u + 1]][-(L + 1) :]
                x[i, : len(window) - 1], y[i, : len(window) - 1] = window[:-1], window[1:]
            optimiser.zero_grad()
            logits_BLV = model.padded(torch.from_numpy(x)) @ model.items.table().T
            loss = F.cross_entropy(logits_BLV.transpose(1, 2), torch.from_numpy(y), ignore_index=-100)
            loss.backward()
            optimiser.step()
            yield int((y >= 0).sum()), loss.item()


@torch.no_grad()
def plain_evaluation(model: PostNormSASRec, held_out: HeldOut, n_items: int, batch: int) -> dict[str, float]:
    """RecBole's way: padded rows, the whole score matrix, top 10, and a matrix of its size with the targets in it."""
    histories, L, found = held_out.histories, model.max_length, []
    table = model.items.table()[:n_items]
    for start in range(0, len(histories), batch):
        users = range(start, min(start + batch, len(histories)))
        x, last_B = torch.zeros(len(users), L, dtype=torch.int64), torch.zeros(len(users), dtype=torch.int64)
        for i, u in enumerate(users):
            window = histories.items[histories.offsets[u] : histories.offsets[u + 1]][-L:]
            x[i, : len(window)], last_B[i] = torch.from_numpy(window.astype(np.int64)), len(window) - 1
        row_B = torch.arange(len(users))
        scores_BV = model.padded(x)[row_B, last_B] @ table.T
        top_BK = scores_BV.topk(10, dim=1).indices
        targets_BV = torch.zeros_like(scores_BV, dtype=torch.int32)
        targets_BV[row_B, torch.from_numpy(held_out.items[start : users.stop].astype(np.int64))] = 1
        found.append(targets_BV.gather(1, top_BK))
    hits_BK = torch.cat(found).double()
    gain_K = 1 / torch.log2(torch.arange(10, dtype=torch.float64) + 2)
    return {"hr@10": float(hits_BK.sum(1).mean()), "ndcg@10": float((hits_BK * gain_K).sum(1).mean())}


# ---- SELFRec's LightGCN ----------------------------------------------------------------------------------------------


class PairData:
    """What SELFRec's data object holds: raw keys, dictionaries from keys to ids, and each user's items as a dict."""

    def __init__(self, pairs: Int64) -> None:
        self.training_data = [(f"u{u}", f"i{i}") for u, i in pairs.tolist()]
        self.user: dict[str, int] = {}
        self.item: dict[str, int] = {}
        self.training_set_u: dict[str, dict[str, int]] = {}
        for user, item in self.training_data:
            self.user.setdefault(user, len(self.user))
            self.item.setdefault(item, len(self.item))
            self.training_set_u.setdefault(user, {})[item] = 1

    def adjacency(self) -> Tensor:
        """D^-1/2 A D^-1/2 as a COO tensor that is not coalesced."""
        rows = np.array([self.user[u] for u, _ in self.training_data])
        columns = np.array([self.item[i] for _, i in self.training_data]) + len(self.user)
        n = len(self.user) + len(self.item)
        half = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(n, n))
        whole = half + half.T
        scale = sparse.diags(np.power(np.asarray(whole.sum(1)).ravel(), -0.5))
        coo = (scale @ whole @ scale).tocoo()
        index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        return torch.sparse_coo_tensor(index, torch.from_numpy(coo.data.astype(np.float32)), coo.shape)


def selfrec_batches(data: PairData, batch: int, rng: random.Random) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Lists of user, positive and negative ids: shuffled pairs, one negative each, drawn until it is not the user's."""
    pairs = data.training_data
    rng.shuffle(pairs)
    for start in range(0, len(pairs), batch):
        end = min(start + batch, len(pairs))
        keys = [pairs[place][0] for place in range(start, end)]
        items = [pairs[place][1] for place in range(start, end)]
        users, positives, negatives = [], [], []
        names = list(data.item.keys())
        for place, user in enumerate(keys):
            positives.append(data.item[items[place]])
            users.append(data.user[user])
            drawn = rng.choice(names)
            while drawn in data.training_set_u[user]:
                drawn = rng.choice(names)
            negatives.append(data.item[drawn])
        yield users, positives, negatives


class SelfrecLightGCN(nn.Module):
    """Tables of users and items; the mean of layers 0 to L, over the whole graph in every step."""

    def __init__(self, data: PairData, dim: int, layers: int) -> None:
        super().__init__()
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(data.user), dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(data.item), dim)))
        self.layers, self.adjacency = layers, data.adjacency()

    def forward(self) -> tuple[Tensor, Tensor]:
        ego = torch.cat([self.users, self.items], 0)
        every = [ego]
        for _ in range(self.layers):
            ego = torch.sparse.mm(self.adjacency, ego)
            every.append(ego)
        mean = torch.stack(every, dim=1).mean(dim=1)
        return torch.split(mean, [len(self.users), len(self.items)])  # type: ignore[return-value]

    def loss(self, users: list[int], positives: list[int], negatives: list[int], l2: float) -> Tensor:
        """-log(1e-5 + sigmoid(difference)), and norms (not squared) of layer 0 over rows and over the batch size."""
        user_table, item_table = self()
        u, i, j = user_table[users], item_table[positives], item_table[negatives]
        difference = (u * i).sum(dim=1) - (u * j).sum(dim=1)
        loss = torch.mean(-torch.log(1e-5 + torch.sigmoid(difference)))
        ego = (self.users[users], self.items[positives], self.items[negatives])
        return loss + sum(l2 * torch.norm(x, p=2) / len(x) for x in ego) / len(users)
