"""Batches, losses, training and answers that all pair models share."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rec_core.errors import DataError, SettingsError, UnknownUsers
from rec_core.testing.datasets import planted_clusters, with_other_test_items
from rec_core.training import NoProgress
from rec_core.types import Histories, Interactions, Split
from rec_srs import pairs as pairs_module
from rec_srs.bpr_mf import BPRMF
from rec_srs.config import BPRMFSettings, LightGCNSettings, PairTraining
from rec_srs.graph import InteractionGraph
from rec_srs.lightgcn import LightGCN
from rec_srs.pairs import (
    PairBatch,
    PairRecommender,
    PairSampler,
    bpr,
    bpr_of_vectors,
    fit_pair_model,
    l2_norms,
    l2_of_step,
    l2_squared,
)

# ---- an epoch's pairs --------------------------------------------------------------------------------------------


def split_of(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Split:
    users, items = zip(*pairs, strict=True)
    events = Interactions.sorted(users, items, n_users=n_users, n_items=n_items)
    return Split(events, np.zeros(len(events), np.uint8), "given")


def random_graph(n_users: int, n_items: int, n_pairs: int, seed: int = 0) -> InteractionGraph:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(n_users, size=n_pairs), rng.integers(n_items, size=n_pairs)
    return InteractionGraph.of(Interactions.sorted(users, items, n_users=n_users, n_items=n_items))


def keys(batch: PairBatch, n_items: int) -> list[int]:
    return (batch.users_N * n_items + batch.positives_N).tolist()


@pytest.mark.parametrize(("n_users", "n_items", "n_pairs"), [(30, 12, 200), (5, 400, 900), (300, 3, 500), (1, 9, 5)])
def test_an_epoch_visits_every_pair_once_and_never_draws_what_its_user_has_met(n_users, n_items, n_pairs):
    graph = random_graph(n_users, n_items, n_pairs)
    full = graph.user_degrees_U == n_items
    kept = ~full[graph.users_P]
    graph = InteractionGraph(graph.users_P[kept], graph.items_P[kept], n_users, n_items)
    met = set(zip(graph.users_P.tolist(), graph.items_P.tolist(), strict=True))
    sampler = PairSampler(graph, seed=3)
    for epoch in range(4):
        batch = sampler.epoch(epoch)
        assert sorted(zip(batch.users_N.tolist(), batch.positives_N.tolist(), strict=True)) == sorted(met)
        drawn = set(zip(batch.users_N.tolist(), batch.negatives_N.tolist(), strict=True))
        assert not drawn & met
        assert 0 <= int(batch.negatives_N.min()) <= int(batch.negatives_N.max()) < n_items


def test_negatives_are_uniform_over_what_the_user_has_not_met_whoever_met_little_or_nearly_all():
    met = {0: [0, 1, 2, 3, 4, 5, 6], 1: [4], 2: [1, 3, 5, 7]}  # of 9 items: 2, 8 and 5 are free
    rows = [(user, item) for user, items in met.items() for item in items]
    sampler = PairSampler(InteractionGraph.of(split_of(rows, 4, 9).train), seed=0)
    epochs = [sampler.epoch(epoch) for epoch in range(1200)]
    users = torch.cat([batch.users_N for batch in epochs]).numpy()
    positives = torch.cat([batch.positives_N for batch in epochs]).numpy()
    negatives = torch.cat([batch.negatives_N for batch in epochs]).numpy()
    for user, items in met.items():
        counts = np.bincount(negatives[users == user], minlength=9)
        free = np.delete(np.arange(9), items)
        assert counts[items].sum() == 0
        assert stats.chisquare(counts[free]).pvalue > 1e-3
    # and they do not depend on the positive beside them
    table = [
        np.bincount(negatives[(users == 2) & (positives == item)], minlength=9)[[0, 2, 4, 6, 8]] for item in met[2]
    ]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_pairs_come_in_a_uniformly_random_order():
    sampler = PairSampler(InteractionGraph.of(split_of([(0, 0), (1, 1), (2, 2)], 3, 4).train), seed=0)
    orders = [tuple(sampler.epoch(epoch).users_N.tolist()) for epoch in range(1200)]
    _, counts = np.unique(np.array(orders), axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_epoch_depends_on_the_seed_and_its_number_alone():
    graph = random_graph(30, 40, 300)
    first, other = PairSampler(graph, seed=5), PairSampler(graph, seed=5)
    other.epoch(0)
    torch.manual_seed(99)
    for a, b in zip(first.epoch(7), other.epoch(7), strict=True):
        assert torch.equal(a, b)
    assert keys(first.epoch(7), 40) != keys(first.epoch(8), 40)
    assert keys(first.epoch(7), 40) != keys(PairSampler(graph, seed=6).epoch(7), 40)


# ---- losses ------------------------------------------------------------------------------------------------------


def test_both_forms_of_bpr_have_the_values_of_the_formula_at_a_margin_of_one():
    positive, negative = torch.tensor([2.5], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    sigmoid = 1 / (1 + exp(-1))
    assert bpr(positive, negative).item() == pytest.approx(-log(sigmoid), abs=1e-9)  # 0.3132617
    assert bpr(positive, negative, "log_epsilon").item() == pytest.approx(-log(1e-5 + sigmoid), abs=1e-9)  # 0.3132480
    assert bpr(positive, negative).item() == pytest.approx(0.3132617, abs=5e-8)
    assert bpr(positive, negative, "log_epsilon").item() == pytest.approx(0.3132480, abs=5e-8)


def test_far_below_zero_softplus_pushes_with_full_force_and_the_other_form_not_at_all():
    for form, expected in (("softplus", -1.0), ("log_epsilon", 0.0)):
        positive = torch.tensor([-40.0], requires_grad=True)
        bpr(positive, torch.zeros(1), form).backward()
        assert positive.grad.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["softplus", "log_epsilon"])
def test_bpr_of_vectors_is_bpr_of_their_dot_products(form):
    torch.manual_seed(0)
    user, positive, negative = torch.randn(3, 50, 8, dtype=torch.float64)
    plain = bpr((user * positive).sum(1), (user * negative).sum(1), form)
    torch.testing.assert_close(bpr_of_vectors(user, positive, negative, form), plain)


def test_the_squared_penalty_is_half_the_mean_over_pairs_of_all_three_squares():
    user, positive, negative = torch.tensor(
        [[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]]]
    )
    squares = (1 + 4 + 1) + 9 + (4 + 1 + 1)
    assert l2_squared(0.1, user, positive, negative).item() == pytest.approx(0.1 / (2 * 2) * squares)


def test_the_penalty_of_norms_takes_one_root_per_matrix_and_divides_by_its_rows():
    user, positive = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[1.0, 0.0]])
    assert l2_norms(0.1, user, positive).item() == pytest.approx(0.1 * (sqrt(9 + 16) / 2 + 1 / 1))


def test_the_penalty_of_a_step_divides_norms_by_the_pairs_once_more():
    rows = torch.randn(3, 4, 5, dtype=torch.float64)
    norms = sum(float(row.norm()) / 4 for row in rows)
    found = l2_of_step(BPRMFSettings(l2=0.3, l2_form="norm"), *rows)
    assert found.item() == pytest.approx(0.3 * norms / 4)
    assert l2_of_step(BPRMFSettings(l2=0.3), *rows).item() == pytest.approx(0.3 / (2 * 4) * float(rows.square().sum()))


# ---- training ----------------------------------------------------------------------------------------------------

SPLIT = planted_clusters().split
QUICK = PairTraining(epochs=6, batch_size=64, learning_rate=0.01, eval_every=2)


def model_of(split: Split, seed: int = 0, **options: object) -> LightGCN:
    torch.manual_seed(seed)
    return LightGCN(InteractionGraph.of(split.train), LightGCNSettings(dim=8, layers=2, **options))  # type: ignore[arg-type]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_validates_every_few_epochs_and_keeps_the_best_weights(tmp_path):
    model = model_of(SPLIT)
    result = fit_pair_model(model, SPLIT, replace(QUICK, epochs=20), run_dir=tmp_path, progress=NoProgress())
    assert [e["epoch"] for e in result.evaluations] == list(range(2, 21, 2))
    values = [e["ndcg@20"] for e in result.evaluations]
    assert result.best_value == max(values) > values[0]
    # the weights left in the model are those of the best epoch: measured again they give its value
    task = pairs_module._PairTask(model, SPLIT.for_training(), QUICK, {})
    assert task.evaluate()["ndcg@20"] == result.best_value
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert steps[0]["loss"] == pytest.approx(steps[0]["bpr"] + steps[0]["l2"])
    epochs = [line["epoch_loss"] for line in lines if line["event"] == "epoch"]
    assert epochs[0] == pytest.approx(log(2), abs=0.05)  # Xavier: scores near 0
    assert epochs[-1] < 0.7 * epochs[0]


def test_without_a_valid_part_all_epochs_are_trained_and_the_last_weights_kept():
    split = SPLIT.for_training()
    split = Split(split.interactions.where(split.part == 0), split.part[split.part == 0], split.protocol)
    model = model_of(split)
    result = fit_pair_model(model, split, QUICK, progress=NoProgress())
    assert (result.epochs, result.stopped, result.best_epoch, result.evaluations) == (6, "epochs", 0, [])
    again = model_of(split)
    fit_pair_model(again, split, replace(QUICK, eval_every=0), progress=NoProgress())
    assert same(weights(model), weights(again))


@pytest.mark.parametrize("cut", [3, 5, 12])  # 5 steps an epoch: inside one, at its end, and after a validation
def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(tmp_path, cut):
    assert model_of(SPLIT).graph.users_P.numel() == 275  # 64 x 4 + 19
    whole = model_of(SPLIT)
    expected = fit_pair_model(whole, SPLIT, QUICK, run_dir=tmp_path / "whole", progress=NoProgress())
    fit_pair_model(
        model_of(SPLIT), SPLIT, replace(QUICK, max_steps=cut), run_dir=tmp_path / "cut", progress=NoProgress()
    )
    resumed = model_of(SPLIT, seed=1)  # what it started with does not matter
    result = fit_pair_model(resumed, SPLIT, QUICK, run_dir=tmp_path / "cut", resume=True, progress=NoProgress())
    assert same(weights(resumed), weights(whole))
    assert (result.steps, result.best_epoch) == (expected.steps, expected.best_epoch)


def test_other_test_items_change_nothing():
    models = []
    for split in (SPLIT, with_other_test_items(SPLIT)):
        models.append(model_of(split.for_training()))
        fit_pair_model(models[-1], split, QUICK, progress=NoProgress())
    assert same(weights(models[0]), weights(models[1]))


def test_repeated_events_train_as_one_pair_and_are_counted():
    events = SPLIT.interactions
    rows = np.sort(np.concatenate([np.arange(len(events)), np.flatnonzero(SPLIT.part == 0)[::3]]))
    t = events.timestamps
    assert t is not None
    again = Interactions(events.users[rows], events.items[rows], events.n_users, events.n_items, t[rows])
    repeated = Split(again, SPLIT.part[rows], SPLIT.protocol)
    plain, doubled = model_of(SPLIT), model_of(repeated)
    first = fit_pair_model(plain, SPLIT, QUICK, progress=NoProgress())
    second = fit_pair_model(doubled, repeated, QUICK, progress=NoProgress())
    assert same(weights(plain), weights(doubled))
    assert (first.counts["pairs"], first.counts["repeated"]) == (275, 0)
    assert (second.counts["pairs"], second.counts["repeated"]) == (275, 92)  # every third of 275


def test_the_start_of_an_epoch_is_told_to_the_model_and_the_middle_is_not():
    told: list[int] = []

    class Told(BPRMF):
        def begin_epoch(self, epoch: int) -> None:
            told.append(epoch)

    model = Told(InteractionGraph.of(SPLIT.train), BPRMFSettings(dim=4))
    task = pairs_module._PairTask(model, SPLIT.for_training(), QUICK, {})
    assert len(list(task.steps(3, 0, 0, 1))) == 5
    whole, rest = list(task.steps(4, 0, 0, 1)), list(task.steps(4, 2, 0, 1))
    assert told == [3, 4]
    assert [keys(s.pieces[0], 40) for s in whole[2:]] == [keys(s.pieces[0], 40) for s in rest]


@pytest.mark.parametrize("kind", [(BPRMF, BPRMFSettings), (LightGCN, LightGCNSettings)])
def test_shares_of_processes_and_micro_batches_are_the_step_and_give_its_gradient(kind):
    network, settings = kind
    torch.manual_seed(0)
    model = network(InteractionGraph.of(SPLIT.train), settings(dim=8, l2=0.1)).double()
    task = pairs_module._PairTask(model, SPLIT.for_training(), replace(QUICK, micro_batches=2), {})
    plain = pairs_module._PairTask(model, SPLIT.for_training(), QUICK, {})
    for step, *shares in zip(plain.steps(0, 0, 0, 1), *(task.steps(0, 0, p, 3) for p in range(3)), strict=True):
        (whole,) = step.pieces
        pieces = [piece for share in shares for piece in share.pieces]
        assert sorted(k for piece in pieces for k in keys(piece, 40)) == sorted(keys(whole, 40))
        assert all(share.expected == len(whole.users_N) for share in shares)
        wanted = torch.autograd.grad(model.loss(whole)[0], list(model.parameters()))
        total = sum(model.loss(piece)[0] * len(piece.users_N) for piece in pieces) / len(whole.users_N)
        torch.testing.assert_close(torch.autograd.grad(total, list(model.parameters())), wanted)


def test_a_process_without_a_pair_runs_for_nothing():
    split = split_of([(0, 0), (1, 1)], 2, 3)
    model = BPRMF(InteractionGraph.of(split.train), BPRMFSettings(dim=2))
    task = pairs_module._PairTask(model, split, QUICK, {})
    assert [[step.counts for step in task.steps(0, 0, process, 3)] for process in range(3)] == [[True], [True], [False]]


@pytest.mark.parametrize("kind", [(BPRMF, BPRMFSettings), (LightGCN, LightGCNSettings)])
def test_a_loss_that_reads_a_step_as_a_whole_is_neither_divided_into_pieces_nor_among_processes(kind):
    network, settings = kind
    model = network(InteractionGraph.of(SPLIT.train), settings(dim=4, l2_form="norm"))
    with pytest.raises(SettingsError, match=r"micro_batches is 2.*set micro_batches 1"):
        fit_pair_model(model, SPLIT, replace(QUICK, micro_batches=2))
    task = pairs_module._PairTask(model, SPLIT.for_training(), QUICK, {})
    with pytest.raises(SettingsError, match=r"2 processes would each take a share.*train it with one process"):
        next(task.steps(0, 0, 1, 2))
    assert network(model.graph, settings(dim=4, l2_form="norm", l2=0)).splits_steps


def test_users_who_met_everything_are_named():
    split = split_of([(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (4, 0), (4, 1), (4, 2)], 5, 3)
    model = BPRMF(InteractionGraph.of(split.train), BPRMFSettings(dim=2))
    with pytest.raises(DataError, match=r"all 3 items in training: 2 \(1, 4\)"):
        fit_pair_model(model, split, QUICK)


def test_a_graph_of_other_pairs_is_refused():
    changed = InteractionGraph.of(SPLIT.train.where(np.arange(len(SPLIT.train)) != 5))
    with pytest.raises(DataError, match=r"274 pairs.*the train part 275.*InteractionGraph.of"):
        fit_pair_model(BPRMF(changed, BPRMFSettings(dim=2)), SPLIT, QUICK)
    test_too = InteractionGraph.of(SPLIT.interactions)
    with pytest.raises(DataError, match="the train part 275"):
        fit_pair_model(BPRMF(test_too, BPRMFSettings(dim=2)), SPLIT, QUICK)


def test_a_metric_that_ranking_does_not_give_is_refused_before_training():
    with pytest.raises(SettingsError, match="no metric 'ndgc@20'; did you mean 'ndcg'"):
        fit_pair_model(model_of(SPLIT), SPLIT, replace(QUICK, metric="ndgc@20"))


def test_a_resume_with_other_training_pairs_is_refused(tmp_path):
    fit_pair_model(model_of(SPLIT), SPLIT, replace(QUICK, max_steps=5), run_dir=tmp_path, progress=NoProgress())
    part = SPLIT.part.copy()
    part[np.flatnonzero(part == 1)[0]] = 0
    other = replace(SPLIT, part=part)
    with pytest.raises(SettingsError, match="another train part"):
        fit_pair_model(model_of(other), other, QUICK, run_dir=tmp_path, resume=True, progress=NoProgress())


def test_a_resume_with_another_of_the_callers_fingerprints_is_refused(tmp_path):
    def go(l2: str, **more: object) -> None:
        fit_pair_model(
            model_of(SPLIT), SPLIT, replace(QUICK, max_steps=5), run_dir=tmp_path, progress=NoProgress(),
            fingerprint={"l2": l2}, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    go("0.1")
    with pytest.raises(SettingsError, match="another l2"):
        go("0.2", resume=True)


# ---- answers -----------------------------------------------------------------------------------------------------


def answers(fold_in: bool) -> PairRecommender:
    users = np.array([[1, 0], [0, 1], [9, 9]], np.float32)  # user 2 was never trained
    items = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
    table = np.array([[1, 0], [0, 2], [0, 0], [3, 3]], np.float32) if fold_in else None
    return PairRecommender(users, items, table, np.array([True, True, False]))


def test_known_users_have_their_own_vectors_whatever_their_history():
    histories = Histories.of([[0], [1, 2, 3], []], users=[1, 0, 1])
    for fold_in in (True, False):
        vectors = answers(fold_in).user_vectors(histories)
        assert vectors.tolist() == [[0, 1], [1, 0], [0, 1]]
        assert vectors.dtype == np.float32
        assert answers(fold_in).score_all(histories)[0].tolist() == [2, 4, 6, 8]


def test_someone_never_seen_is_folded_in_from_her_distinct_items():
    histories = Histories.of([[0, 1, 0, 0], [3], [1, 2], []], users=[-1, -1, 2, -1])
    root = sqrt(2)
    expected = [[1 / root, 2 / root], [3, 3], [0, 2 / root], [0, 0]]  # item 2 has no row but counts
    np.testing.assert_allclose(answers(True).user_vectors(histories), expected, rtol=1e-6)


def test_without_a_fold_in_table_someone_never_seen_is_an_error_and_an_untrained_user_has_zeros():
    recommender = answers(False)
    assert recommender.known_users_only
    assert not answers(True).known_users_only
    with pytest.raises(UnknownUsers, match="row 1 is a user never seen"):
        recommender.user_vectors(Histories.of([[0], [1]], users=[0, -1]))
    with pytest.raises(UnknownUsers):
        recommender.score_all(Histories.of([[0]]))
    assert recommender.user_vectors(Histories.of([[0, 1]], users=[2])).tolist() == [[0, 0]]


def test_users_and_items_of_another_data_set_are_named():
    with pytest.raises(DataError, match=r"user 7, the model knows 0\.\.2"):
        answers(True).user_vectors(Histories.of([[0]], users=[7]))
    with pytest.raises(DataError, match=r"item 4, the model knows 0\.\.3"):
        answers(True).user_vectors(Histories.of([[4]]))


def test_a_recommender_does_not_change_with_the_model_it_was_taken_from():
    model = model_of(SPLIT)
    model.train()
    recommender = PairRecommender.of(model)
    assert model.training
    before = recommender.user_vectors_of_known.copy(), recommender.item_vectors().copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert np.array_equal(before[0], recommender.user_vectors_of_known)
    assert np.array_equal(before[1], recommender.item_vectors())
    mf = BPRMF(model.graph, BPRMFSettings(dim=4))
    table = PairRecommender.of(mf).item_vectors()
    assert not np.shares_memory(table, mf.items.detach().numpy())


def test_users_without_a_training_event_are_marked_as_untrained():
    split = split_of([(0, 0), (2, 1)], 4, 3)
    recommender = PairRecommender.of(BPRMF(InteractionGraph.of(split.train), BPRMFSettings(dim=2)))
    assert recommender.trained_users.tolist() == [True, False, True, False]
