"""Models of user-item pairs: their batches, losses, training and answers."""

# U users, I items, D width, N pairs of a step, P training pairs, R rows of a request

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rec_core.errors import DataError, SettingsError
from rec_core.randomness import torch_generator
from rec_core.training import FitResult, Progress, Step, StepLoss, TrainSettings, fit
from rec_core.training.validation import check_metric, validate
from rec_core.types import Candidates, HeldOut, Histories, Rankings, Scores, Split
from rec_core.types.ids import Bool, Float32
from rec_srs.config import PairSettings
from rec_srs.graph import InteractionGraph
from rec_srs.negatives import Unseen

if TYPE_CHECKING:
    from accelerate import Accelerator


class PairBatch(NamedTuple):
    """Some training pairs, each with one item that its user has not met; int64 [N] each, on the model's device."""

    users_N: Tensor
    positives_N: Tensor
    negatives_N: Tensor


class PairModel(Protocol):
    """A ``torch.nn.Module`` that scores a pair by the dot product of two vectors.

    graph          what it was built on
    settings       its settings
    splits_steps   whether its loss is a mean over pairs that do not look at each other; where it is not, a step cannot
                   be divided into micro-batches or among processes
    """

    @property
    def graph(self) -> InteractionGraph:
        """What it was built on."""
        ...

    @property
    def settings(self) -> PairSettings:
        """Its settings."""
        ...

    @property
    def splits_steps(self) -> bool:
        """Whether a step may be divided."""
        ...

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the batch's pairs with gradient, and its parts without, for the log."""
        ...

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The vectors that answer: users [U, D], items [I, D]; nothing drawn."""
        ...

    def fold_in(self) -> Tensor | None:
        """float [I, D]: someone never seen has the sum of her distinct items' rows, over the root of their number.

        None where the model has no such form and knows its training users only.
        """
        ...

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch (from 0), and not on a resume in the middle of one."""
        ...


# ---- an epoch's pairs --------------------------------------------------------------------------------------------


class PairSampler:
    """All training pairs in an order of each epoch, each with a uniform item that its user has not met.

    Order and negatives depend on the seed and the epoch alone (and on the kind of device). The graph must have no user
    who met every item. A negative is first drawn among all items; where the user has met it, a second draw is made
    among exactly those that she has not. Both draws are uniform on the latter, so their mixture is; it costs a third of
    drawing there at once, and there is no loop that might not end.
    """

    def __init__(self, graph: InteractionGraph, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed, self.n_items = seed, graph.n_items
        self.users_P, self.items_P = graph.users_P.to(device), graph.items_P.to(device)
        self.first_P = self.users_P * graph.n_items
        self.keys_P = self.first_P + self.items_P  # sorted, each once
        self.unseen = Unseen(graph.histories, graph.n_items, device)
        # Most draws hit nothing that was met. A coarse map of the keys, 16 to 32 bytes per pair, says so in one look.
        cells = graph.n_users * graph.n_items
        self.shift = max(0, (cells // (32 * len(self.keys_P))).bit_length())
        self.near = torch.zeros((cells >> self.shift) + 1, dtype=torch.bool, device=device)
        self.near[self.keys_P >> self.shift] = True

    def epoch(self, epoch: int) -> PairBatch:
        """All pairs of one epoch in its order, on the device."""
        device, n = self.keys_P.device, len(self.keys_P)
        rng = torch_generator(self.seed, "pairs", epoch, device=str(device))
        negatives_P = torch.randint(self.n_items, (n,), device=device, generator=rng)
        drawn_P = self.first_P + negatives_P
        suspects = torch.nonzero(self.near.index_select(0, drawn_P >> self.shift)).flatten()
        found = torch.searchsorted(self.keys_P, drawn_P[suspects]).clamp_(max=n - 1)
        met = suspects[self.keys_P[found] == drawn_P[suspects]]
        uniforms = torch.rand(len(met), dtype=torch.float64, device=device, generator=rng)
        negatives_P[met] = self.unseen.pick(self.users_P[met], uniforms)
        order_P = torch.randperm(n, device=device, generator=rng)
        columns = (self.users_P, self.items_P, negatives_P)
        return PairBatch(*(column.index_select(0, order_P) for column in columns))


# ---- losses that the models share --------------------------------------------------------------------------------


def bpr(positive_N: Tensor, negative_N: Tensor, form: str = "softplus") -> Tensor:
    """Mean of -log sigmoid(x) for x = positive - negative score (Rendle et al. 2009).

    ``softplus`` is exact for every x. ``log_epsilon`` is SELFRec's -log(1e-5 + sigmoid(x)), whose gradient dies for x
    far below 0. At x = 1: 0.3132617 and 0.3132480.
    """
    return _bpr(positive_N - negative_N, form)


def bpr_of_vectors(user_ND: Tensor, positive_ND: Tensor, negative_ND: Tensor, form: str = "softplus") -> Tensor:
    """:func:`bpr` of dot products, as user · (positive - negative): one product per pair instead of two."""
    return _bpr((user_ND * (positive_ND - negative_ND)).sum(dim=1), form)


def _bpr(margin_N: Tensor, form: str) -> Tensor:
    if form == "softplus":
        return F.softplus(-margin_N).mean()
    return -torch.log(1e-5 + torch.sigmoid(margin_N)).mean()


def l2_squared(strength: float, *rows: Tensor) -> Tensor:
    """strength / 2N times the sum of all squares: LightGCN's penalty on the layer-0 rows of a step's N pairs."""
    squares = [torch.dot(row_ND.flatten(), row_ND.flatten()) for row_ND in rows]
    return strength / (2 * len(rows[0])) * torch.stack(squares).sum()


def l2_norms(strength: float, *rows: Tensor) -> Tensor:
    """strength times the sum over matrices of Frobenius norm / number of rows: SELFRec's penalty, nothing squared."""
    return strength * torch.stack([torch.linalg.vector_norm(row_ND) / len(row_ND) for row_ND in rows]).sum()


def l2_of_step(settings: PairSettings, user_ND: Tensor, positive_ND: Tensor, negative_ND: Tensor) -> Tensor:
    """The penalty of BPR-MF and LightGCN in the form that ``settings`` name, on the layer-0 rows of a step.

    SELFRec divides its norms by the batch size once more for these models, which makes them vanish; kept in that form.
    """
    rows = (user_ND, positive_ND, negative_ND)
    if settings.l2_form == "squared":
        return l2_squared(settings.l2, *rows)
    return l2_norms(settings.l2, *rows) / len(user_ND)


# ---- training ----------------------------------------------------------------------------------------------------


def fit_pair_model(
    model: PairModel,
    split: Split,
    settings: TrainSettings,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
    fingerprint: Mapping[str, str] | None = None,
) -> FitResult:
    """Train ``model`` on the train pairs of ``split`` and leave the best epoch's weights in it.

    The test rows are removed first. An epoch visits every distinct train pair once, in an order and with one negative
    per pair that depend on the seed and the epoch alone; a negative is uniform over the items that the user has not met
    in training. Validation ranks the whole catalogue for the users of the valid part, seen items excluded.

    Everything else is as in :func:`rec_core.training.fit_sequence_model`. Raises :class:`DataError` when there is no
    train pair, when a user has met every item, and when the model's graph was built from other pairs;
    :class:`SettingsError` for micro-batches or processes that the model's loss cannot be divided into.
    """
    if not isinstance(model, nn.Module):
        raise SettingsError(f"a pair model is a torch.nn.Module; got {type(model).__name__}")
    task = _PairTask(model, split.for_training(), settings, fingerprint or {})
    return fit(task, settings, run_dir, resume=resume, progress=progress, accelerator=accelerator)


class _Loss(nn.Module):
    """The model's loss as a module's forward: what data-parallel training has to see."""

    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = cast(nn.Module, model)

    def forward(self, batch: PairBatch) -> StepLoss:
        loss, parts = cast(PairModel, self.model).loss(batch)
        return StepLoss(loss, torch.tensor(len(batch.users_N), device=loss.device), parts)


class _PairTask:
    """The train pairs of a split as steps, and ranking its valid rows as evaluation."""

    def __init__(self, model: PairModel, split: Split, settings: TrainSettings, also: Mapping[str, str]) -> None:
        check_metric(settings.metric)
        self.model, self.split, self.settings, self.also = model, split, settings, also
        self.module = _Loss(model)
        self.train = split.train
        graph = InteractionGraph.of(self.train)
        if (graph.n_users, graph.n_items) != (model.graph.n_users, model.graph.n_items) or not (
            torch.equal(graph.users_P, model.graph.users_P) and torch.equal(graph.items_P, model.graph.items_P)
        ):
            raise DataError(
                f"the model's graph has {len(model.graph.users_P):,} pairs of {model.graph.n_users:,} users and "
                f"{model.graph.n_items:,} items, the train part {len(graph.users_P):,} of {graph.n_users:,} and "
                f"{graph.n_items:,}, or others: build it with InteractionGraph.of(split.train)"
            )
        full = torch.nonzero(graph.user_degrees_U == graph.n_items).flatten().tolist()
        if full:
            named = ", ".join(str(user) for user in full[:10]) + (", ..." if len(full) > 10 else "")
            raise DataError(
                f"users that have met all {graph.n_items} items in training: {len(full)} ({named}); there is no "
                f"negative to draw for them, leave them out of the train part"
            )
        if not model.splits_steps and settings.micro_batches > 1:
            raise SettingsError(
                f"micro_batches is {settings.micro_batches}, but {_whole_step(model)}: set micro_batches 1"
            )
        self.graph = graph
        self.counts = {
            "pairs": len(graph.users_P),
            "repeated": len(self.train) - len(graph.users_P),
            "users_without_pairs": int((graph.user_degrees_U == 0).sum()),
            "items_without_pairs": int((graph.item_degrees_I == 0).sum()),
        }

    @cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """Hashes of the rows trained and validated on, and what the caller added."""
        hashes = self.split.hashes()
        return {**self.also, **{f"{part} part": hashes[part] for part in ("train", "valid")}}

    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be smaller."""
        return -(-len(self.graph.users_P) // self.settings.batch_size)

    @cached_property
    def _sampler(self) -> PairSampler:
        device = next(cast(nn.Module, self.model).parameters()).device  # known when the first step is asked
        return PairSampler(self.graph, self.settings.seed, device)

    def steps(self, epoch: int, start: int, process: int, processes: int) -> Iterator[Step]:
        """Each process takes every ``processes``-th pair of the step."""
        size = self.settings.batch_size
        if processes > 1 and not self.model.splits_steps:
            raise SettingsError(
                f"{processes} processes would each take a share of a step, but {_whole_step(self.model)}: train it "
                f"with one process"
            )
        if start == 0:
            self.model.begin_epoch(epoch)
        pairs = self._sampler.epoch(epoch)
        for i in range(start, self.steps_per_epoch()):
            whole = PairBatch(*(column[i * size : (i + 1) * size] for column in pairs))
            mine = PairBatch(*(column[process::processes] for column in whole))
            counts = len(mine.users_N) > 0
            if not counts:  # run for nothing, in step with the other processes
                mine = PairBatch(*(column[:1] for column in whole))
            n = min(self.settings.micro_batches, len(mine.users_N))
            pieces = [PairBatch(*(column[m::n] for column in mine)) for m in range(n)]
            yield Step(
                pieces=pieces,
                expected=float(len(whole.users_N)),
                counts=counts,
                users=whole.users_N[:11].tolist(),  # a message names ten and says that there are more
                divisible=self.model.splits_steps and n == self.settings.micro_batches,
            )

    @cached_property
    def _held_out(self) -> HeldOut:
        return self.split.held_out("valid")

    def evaluate(self) -> dict[str, float]:
        """Full ranking of the valid part, seen items excluded."""
        return validate(PairRecommender.of(self.model), self._held_out, self.train, self.settings.metric)


def _whole_step(model: PairModel) -> str:
    return (
        f"the loss of {type(model).__name__} reads a step as a whole (it compares its pairs with each other, or takes "
        f"norms that are not squared), so that a step cannot be divided"
    )


# ---- answers -----------------------------------------------------------------------------------------------------


class PairRecommender:
    """Answers with the vectors of a fitted pair model: Recommender, Dense- and VectorScorer.

    user_vectors    float32 [U, D]
    item_vectors    float32 [I, D]
    fold_in         float32 [I, D] or None, as of :meth:`PairModel.fold_in`
    trained_users   bool [U], False for users without a training event; None = all were trained

    A known user is answered by its own vector, whatever history the row shows. A user never seen (-1) is folded in from
    its history; without a fold-in table such a row raises ``UnknownUsers``. A user of the data set without a training
    event has no vector that was learnt, so it is folded in too, and without a table all its scores are 0: it is never
    ranked by the random vector it started with. An empty history folds in to zeros.
    """

    def __init__(
        self,
        user_vectors: Float32,
        item_vectors: Float32,
        fold_in: Float32 | None = None,
        trained_users: Bool | None = None,
    ) -> None:
        self.user_vectors_of_known = user_vectors
        self._item_vectors = item_vectors
        self.fold_in = fold_in
        self.trained_users = np.ones(len(user_vectors), np.bool_) if trained_users is None else trained_users
        self.known_users_only = fold_in is None

    @classmethod
    def of(cls, model: PairModel) -> PairRecommender:
        """The recommender of a model as it stands; its weights may change afterwards."""
        module = cast(nn.Module, model)
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                users_UD, items_ID = model.vectors()
                fold_in_ID = model.fold_in()
        finally:
            module.train(training)

        def plain(vectors: Tensor) -> Float32:
            return vectors.detach().float().cpu().numpy().copy()  # on a CPU it would share the weights

        trained_U = (model.graph.user_degrees_U > 0).numpy()
        return cls(plain(users_UD), plain(items_ID), None if fold_in_ID is None else plain(fold_in_ID), trained_U)

    @property
    def n_items(self) -> int:
        """Items ranked."""
        return len(self._item_vectors)

    def item_vectors(self) -> Float32:
        """float32 [n_items, dim]."""
        return self._item_vectors

    def user_vectors(self, histories: Histories) -> Float32:
        """float32 [rows, dim]."""
        from rec_core.evaluation.blocks import check_known

        check_known(self, histories)
        users_R = histories.users
        if len(users_R) and users_R.max() >= len(self.user_vectors_of_known):
            raise DataError(
                f"the histories hold user {users_R.max()}, the model knows 0..{len(self.user_vectors_of_known) - 1}; "
                f"were histories and model made from the same data set?"
            )
        known_R = (users_R >= 0) & self.trained_users[users_R]
        vectors_RD = np.zeros((len(users_R), self._item_vectors.shape[1]), np.float32)
        vectors_RD[known_R] = self.user_vectors_of_known[users_R[known_R]]
        others = np.flatnonzero(~known_R)
        if self.fold_in is not None and len(others):
            vectors_RD[others] = self._folded_in(histories.take(others), self.fold_in)
        return vectors_RD

    def _folded_in(self, histories: Histories, fold_in_ID: Float32) -> Float32:
        if len(histories.items) and histories.items.max() >= self.n_items:
            raise DataError(
                f"a history holds item {histories.items.max()}, the model knows 0..{self.n_items - 1}; "
                f"were histories and model made from the same data set?"
            )
        from rec_srs.item_knn import binary_matrix

        met = binary_matrix(histories, self.n_items)
        counts_R = np.maximum(np.diff(met.indptr), 1)
        return np.asarray((met @ fold_in_ID) / np.sqrt(counts_R)[:, None], np.float32)

    def score_all(self, histories: Histories) -> Float32:
        """float32 [rows, n_items], a fresh array."""
        return self.user_vectors(histories) @ self._item_vectors.T

    def recommend(
        self, histories: Histories, k: int, *, exclude: Candidates | None = None, among: Bool | None = None
    ) -> Rankings:
        """The k best items of each row, best first; equal scores by item id."""
        from rec_core.evaluation import recommend_dense

        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        """One score per candidate, row by row."""
        from rec_core.evaluation import score_dense

        return score_dense(self, histories, candidates)
