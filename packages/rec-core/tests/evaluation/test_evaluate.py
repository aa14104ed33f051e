"""One evaluation from end to end: paths that must agree, names that carry the protocol, groups, samples, refusals."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, SettingsError, UnknownUsers
from rec_core.evaluation import GroupRules, evaluate, evaluate_labels, held_out_digest, item_groups, user_groups
from rec_core.testing.scorers import ListsOnly, ScoreTable, VectorTable
from rec_core.types import Candidates, HeldOut, Histories, Interactions, Rankings, Split

N_USERS, N_ITEMS = 30, 50


def planted(seed=0, targets_per_user=1, n_users=N_USERS, n_items=N_ITEMS):
    """A split with skewed popularity and a vector model without ties."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, n_items + 1)
    users, items, part = [], [], []
    for user in range(n_users):
        met = rng.choice(n_items, rng.integers(5, 16), replace=False, p=weight / weight.sum())
        users += [user] * len(met)
        items += met.tolist()
        part += [0] * (len(met) - targets_per_user) + [2] * targets_per_user
    split = Split(
        Interactions.sorted(users, items, n_users=n_users, n_items=n_items), np.array(part, np.uint8), "given"
    )
    model = VectorTable(rng.standard_normal((n_users, 6)), rng.standard_normal((n_items, 6)))
    return split.train, split.held_out("test"), model


def all_unseen(held_out, n_items=N_ITEMS):
    rows = []
    for r in range(len(held_out)):
        seen = set(held_out.histories.row(r).tolist()) - set(held_out.row(r).tolist())
        rows.append([i for i in range(n_items) if i not in seen])
    return Candidates.of(rows)


def same(one, other, rename=lambda name: name):
    """Equal vectors under all metrics that both have, at least the six at k."""
    names = [name for name in one.per_user if rename(name) in other.per_user]
    assert len(names) >= 18
    for name in names:
        assert np.array_equal(one.vector(name), other.vector(rename(name)), equal_nan=True), name


def test_one_user_by_hand():
    train = Interactions.sorted([0, 0, 1, 1, 1], [0, 1, 0, 2, 3], n_items=6)
    held_out = HeldOut(train.histories(), np.array([0, 1, 2]), np.array([2, 4], np.int32))
    model = ScoreTable([[9, 9, 5, 7, 5, 1], [0, 3, 0, 0, 3, 9]])
    result = evaluate(model, held_out, train=train, ks=(1, 2))
    # user 0: item 3 is better, item 4 ties: places 2 and 3; user 1: item 5 is better, item 1 ties
    assert result.vector("hr@1") == pytest.approx([0, 0])
    assert result.vector("hr@2") == pytest.approx([1 / 2, 1 / 2])
    assert result.vector("ndcg@2") == pytest.approx([1 / log2(3) / 2] * 2)
    assert result.vector("auc") == pytest.approx([(3 - 1 - 0.5) / 3, (2 - 1 - 0.5) / 2])
    summary = result.summary()
    assert summary["hr@2"] == pytest.approx(1 / 2)
    assert summary["coverage@1"] == pytest.approx(len({3, 5}) / 6)
    assert summary["users"] == 2
    assert result.ties == "expected"
    assert result.users.tolist() == [0, 1]


def test_ndcg_and_all_others_from_ranks_equal_those_from_lists():
    train, held_out, model = planted()
    from_ranks = evaluate(model, held_out, train=train)
    from_lists = evaluate(ListsOnly(model), held_out, train=train)
    assert (from_ranks.ties, from_lists.ties) == ("expected", "item id")
    same(from_ranks, from_lists)
    assert from_ranks.overall == from_lists.overall
    for name in ("ndcg@10/tail", "hr@5/head", "mrr@20/short"):
        assert np.array_equal(from_ranks.vector(name), from_lists.vector(name), equal_nan=True)


def test_a_dense_scorer_gives_the_numbers_of_its_vectors():
    train, held_out, model = planted()
    same(evaluate(model, held_out, train=train), evaluate(ScoreTable(model.defined_scores()), held_out, train=train))


def test_one_candidate_list_of_all_items_equals_full_ranking():
    for targets in (1, 3):
        train, held_out, model = planted(targets_per_user=targets)
        everything = Candidates.of([range(N_ITEMS)] * len(held_out))
        full = evaluate(model, held_out, train=train)
        for recommender in (model, ListsOnly(model)):
            listed = evaluate(recommender, held_out, train=train, candidates=everything)
            same(full, listed, lambda name: f"{name}[50 candidates]")
        kept = evaluate(model, held_out, train=train, exclude_seen=False)
        listed = evaluate(model, held_out, train=train, candidates=everything, exclude_seen=False)
        same(kept, listed, lambda name: name.replace("[seen kept]", "[50 candidates, seen kept]"))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_candidates_with_ties_count_by_expectation(seed):
    rng = np.random.default_rng(seed)
    train, held_out, _ = planted(seed=seed % 7)
    model = ScoreTable(rng.integers(0, 4, (N_USERS, N_ITEMS)))
    full = evaluate(model, held_out, train=train)
    listed = evaluate(ListsOnly(model), held_out, train=train, candidates=all_unseen(held_out))
    assert listed.ties == "expected"
    same(full, listed, lambda name: f"{name}[{listed.protocol}]")


def test_a_constant_model_gets_the_score_of_random_order():
    train, held_out, _ = planted()
    result = evaluate(ScoreTable(np.zeros((N_USERS, N_ITEMS))), held_out, train=train, ks=(10,))
    left = np.array([N_ITEMS - len(set(held_out.histories.row(r)) - set(held_out.row(r))) for r in range(N_USERS)])
    assert result.vector("hr@10") == pytest.approx(10 / left)
    assert result.vector("ndcg@10") == pytest.approx((1 / np.log2(np.arange(2, 12))).sum() / left)
    assert result.vector("auc") == pytest.approx(np.full(N_USERS, 0.5))


def test_metric_names_carry_the_protocol():
    train, held_out, model = planted()
    assert "ndcg@10" in evaluate(model, held_out, train=train).per_user
    assert "ndcg@10[seen kept]" in evaluate(model, held_out, train=train, exclude_seen=False).summary()
    lists = Candidates.of([[int(held_out.items[r]), (int(held_out.items[r]) + 1) % N_ITEMS] for r in range(N_USERS)])
    assert "ndcg@10[2 candidates]/tail" in evaluate(model, held_out, train=train, candidates=lists).summary()
    ragged = Candidates.of([[int(t)] if r else [int(t), 0, 1] for r, t in enumerate(held_out.items)])
    assert "hr@5[1 to 3 candidates]" in evaluate(model, held_out, train=train, candidates=ragged).per_user


def test_a_target_missing_from_its_candidates_is_a_miss_and_is_counted():
    train, held_out, model = planted()
    lists = [[int(t)] for t in held_out.items]
    lists[4] = [(lists[4][0] + 1) % N_ITEMS]
    lists[7] = []
    result = evaluate(model, held_out, train=train, candidates=Candidates.of(lists))
    assert result.vector("hr@5[0 to 1 candidates]")[[3, 4, 7]] == pytest.approx([1, 0, 0])
    assert result.summary()["targets_outside_candidates"] == 2


def test_several_targets_are_measured_from_lists_and_auc_from_exact_ranks():
    train, held_out, model = planted(targets_per_user=3)
    result = evaluate(model, held_out, train=train, ks=(5, 20))
    scores = model.defined_scores()
    for r in range(5):
        wanted, seen = set(held_out.row(r).tolist()), set(held_out.histories.row(r).tolist())
        left = [i for i in np.argsort(-scores[r]) if i not in seen]
        assert result.vector("recall@5")[r] == pytest.approx(len(wanted & set(left[:5])) / 3)
        others = [i for i in left if i not in wanted]
        pairs = [scores[r, t] > scores[r, i] for t in wanted for i in others]
        assert result.vector("auc")[r] == pytest.approx(np.mean(pairs))
    hits = result.vector("recall@20") * 3
    assert result.summary()["hit_ratio_micro@20"] == pytest.approx(hits.sum() / (3 * len(held_out)))


def test_a_group_of_items_cuts_the_relevant_items_and_keeps_the_lists():
    train, held_out, model = planted(targets_per_user=3)
    result = evaluate(model, held_out, train=train, ks=(10,))
    tail = item_groups(train.item_counts(), GroupRules())["tail"]
    lists = ListsOnly(model).recommend(held_out.histories, 10, exclude=None)
    assert len(lists) == N_USERS
    scores = model.defined_scores()
    for r in range(N_USERS):
        seen = set(held_out.histories.row(r).tolist())
        best = [i for i in np.argsort(-scores[r]) if i not in seen][:10]
        wanted = [t for t in held_out.row(r) if tail[t]]
        expected = sum(t in best for t in wanted) / len(wanted) if wanted else np.nan
        assert result.vector("recall@10/tail")[r] == pytest.approx(expected, nan_ok=True)
    assert result.groups["tail"].tolist() == [bool(tail[held_out.row(r)].any()) for r in range(N_USERS)]


def test_group_means_are_over_the_users_whose_target_is_in_the_group():
    train, held_out, model = planted()
    result = evaluate(model, held_out, train=train)
    summary = result.summary()
    in_tail = item_groups(train.item_counts(), GroupRules())["tail"][held_out.items]
    assert summary["ndcg@10/tail"] == pytest.approx(result.vector("ndcg@10")[in_tail].mean())
    assert summary["users/tail"] + summary["users/head"] == summary["users"] == N_USERS
    assert summary["users/short"] + summary["users/long"] == N_USERS
    long = train.user_counts() > np.median(train.user_counts())
    assert summary["ndcg@10/long"] == pytest.approx(result.vector("ndcg@10")[long].mean())


def test_head_is_the_most_popular_fifth_with_ties_by_id_and_cold_has_no_event():
    groups = item_groups(np.array([0, 3, 5, 3, 3, 0, 1, 1, 2, 2]), GroupRules())
    assert np.flatnonzero(groups["head"]).tolist() == [1, 2]
    assert np.array_equal(groups["tail"], ~groups["head"])
    assert np.flatnonzero(groups["cold"]).tolist() == [0, 5]
    assert item_groups(np.arange(15), GroupRules())["head"].sum() == 3


def test_users_are_short_up_to_the_line_and_strangers_are_short():
    held_out = HeldOut(Histories.of([[1]] * 4, [0, 1, 2, -1]), np.arange(5), np.zeros(4, np.int32))
    counts = np.array([2, 5, 9])
    assert user_groups(held_out, counts, GroupRules(short_at_most=5))["short"].tolist() == [True, True, False, True]
    assert user_groups(held_out, counts, GroupRules(short_quantile=0.25))["long"].tolist() == [True, True, True, False]


def test_generated_events_move_no_group_and_no_popularity():
    train, held_out, model = planted()
    more = Interactions.sorted(
        np.concatenate([train.users, np.zeros(200, np.int64)]),
        np.concatenate([train.items, np.full(200, N_ITEMS - 1)]),
        n_users=N_USERS,
        n_items=N_ITEMS,
        generated=np.arange(len(train) + 200) >= len(train),
    )
    before, after = (evaluate(model, held_out, train=events) for events in (train, more))
    assert before.summary() == after.summary()
    assert before.test_hash == after.test_hash


def test_a_sample_of_users_is_the_same_for_every_model_and_follows_the_seed():
    train, held_out, model = planted()
    whole = evaluate(model, held_out, train=train)
    sample = evaluate(model, held_out, train=train, max_users=8)
    other = evaluate(ListsOnly(ScoreTable(model.defined_scores())), held_out, train=train, max_users=8)
    again = evaluate(model, held_out, train=train, max_users=8, seed=1)
    assert len(sample) == 8
    assert sample.users.tolist() == other.users.tolist() == sorted(sample.users.tolist())
    assert sample.users.tolist() != again.users.tolist()
    assert sample.test_hash == whole.test_hash
    rows = sample.users  # user id = row here
    assert np.array_equal(sample.vector("ndcg@10"), whole.vector("ndcg@10")[rows])
    assert np.array_equal(sample.groups["short"], whole.groups["short"][rows])
    listed = evaluate(model, held_out, train=train, max_users=8, candidates=all_unseen(held_out))
    assert np.array_equal(listed.vector(f"ndcg@10[{listed.protocol}]"), sample.vector("ndcg@10"))


def test_the_test_hash_covers_users_targets_and_catalogue_and_not_the_histories():
    base = HeldOut(Histories.of([[1], [2]], [0, 1]), np.arange(3), np.array([3, 4], np.int32))
    longer = HeldOut(Histories.of([[1, 0], [2]], [0, 1]), np.arange(3), np.array([3, 4], np.int32))
    users = HeldOut(Histories.of([[1], [2]], [0, 2]), np.arange(3), np.array([3, 4], np.int32))
    target = HeldOut(Histories.of([[1], [2]], [0, 1]), np.arange(3), np.array([3, 5], np.int32))
    digest = held_out_digest(base, 9)
    assert held_out_digest(longer, 9) == digest
    assert len({digest, held_out_digest(users, 9), held_out_digest(target, 9), held_out_digest(base, 10)}) == 4


def test_without_list_metrics_no_lists_are_made_and_the_rest_is_equal():
    train, held_out, model = planted()
    whole = evaluate(model, held_out, train=train)
    lean = evaluate(model, held_out, train=train, ks=(10,), metrics=("ndcg", "auc"))
    assert set(lean.per_user) == {"ndcg@10", "auc"}
    assert np.array_equal(lean.vector("ndcg@10"), whole.vector("ndcg@10"))
    assert not lean.overall


def test_popularity_of_a_popular_model_is_high_and_its_coverage_low():
    train, held_out, model = planted()
    popular = evaluate(ScoreTable(np.tile(train.item_counts(), (N_USERS, 1))), held_out, train=train)
    random = evaluate(model, held_out, train=train)
    assert popular.summary()["popularity@5"] > 0.8 > random.summary()["popularity@5"]
    assert popular.summary()["coverage@5"] < random.summary()["coverage@5"]


def test_no_rows_at_all_give_an_empty_evaluation():
    train, held_out, model = planted()
    summary = evaluate(model, held_out.take(np.arange(0)), train=train).summary()
    assert summary["users"] == 0
    assert "ndcg@10" not in summary


def test_skipped_users_are_in_the_summary():
    train, held_out, model = planted()
    skipped = HeldOut(held_out.histories, held_out.offsets, held_out.items, {"no_history": 3})
    assert evaluate(model, skipped, train=train).summary()["skipped/no_history"] == 3


def test_unknown_names_offer_the_nearest():
    train, held_out, model = planted()
    with pytest.raises(SettingsError, match="did you mean 'ndcg'"):
        evaluate(model, held_out, train=train, metrics=("ndgc",))
    result = evaluate(model, held_out, train=train)
    with pytest.raises(SettingsError, match="did you mean 'ndcg@10'"):
        result.vector("ndgc@10")
    with pytest.raises(SettingsError, match=r"no group called 'tale'.*did you mean 'tail'"):
        result.vector("ndcg@10/tale")


def test_lists_that_break_the_contract_are_refused():
    train, held_out, model = planted()

    class Careless(ListsOnly):
        def recommend(self, histories, k, *, exclude=None, among=None):
            return super().recommend(histories, k, exclude=None)

    with pytest.raises(DataError, match="which it had to exclude"):
        evaluate(Careless(model), held_out, train=train)

    class Repeating(ListsOnly):
        def recommend(self, histories, k, *, exclude=None, among=None):
            lists = super().recommend(histories, k, exclude=exclude)
            lists.items[3, 1] = lists.items[3, 0]
            return lists

    with pytest.raises(DataError, match=r"list of row 3 holds item .* twice"):
        evaluate(Repeating(model), held_out, train=train)

    class Short(ListsOnly):
        def recommend(self, histories, k, *, exclude=None, among=None):
            lists = super().recommend(histories, k, exclude=exclude)
            return Rankings(lists.users, lists.items[:, :3], lists.scores[:, :3])

    with pytest.raises(DataError, match="must answer 30 rows of 20 items"):
        evaluate(Short(model), held_out, train=train)


def test_models_and_candidates_of_another_data_set_are_refused():
    train, held_out, model = planted()
    with pytest.raises(DataError, match="ranks 49 items, the training data has 50"):
        evaluate(VectorTable(model.users, model.items[:-1]), held_out, train=train)
    with pytest.raises(DataError, match="2 candidate lists for 30 held-out rows"):
        evaluate(model, held_out, train=train, candidates=Candidates.of([[1], [2]]))
    with pytest.raises(DataError, match="candidates of row 2 name item 4 twice"):
        evaluate(model, held_out, train=train, candidates=Candidates.of([[1, 4], [4], [4, 1, 4], *[[1]] * 27]))
    with pytest.raises(DataError, match="candidate item 50 is outside"):
        evaluate(model, held_out, train=train, candidates=Candidates.of([[50], *[[1]] * 29]))


def test_users_never_seen_are_refused_by_a_model_that_knows_only_its_own():
    train, held_out, model = planted()
    users = held_out.histories.users.copy()
    users[5] = -1
    history = Histories(users, held_out.histories.offsets, held_out.histories.items)
    strangers = HeldOut(history, held_out.offsets, held_out.items)
    for recommender in (model, ListsOnly(model)):
        with pytest.raises(UnknownUsers):
            evaluate(recommender, strangers, train=train)


def test_labels_are_measured_per_user_and_pooled():
    histories = Histories.of([[0]] * 5, [0, 0, 1, -1, -1])  # user 0 fills two rows
    candidates = Candidates.of([[1], [2], [1, 2], [3], [1]])
    labels = np.array([True, False, False, True, True, False])
    labelled = Candidates(candidates.offsets, candidates.items, labels)
    scores = np.tile(np.float32([0, 0.9, 0.2, 0.6]), (5, 1))
    model = ScoreTable(scores)
    model.known_users_only = False
    result = evaluate_labels(model, histories, labelled, probabilities=True)
    assert result.users.tolist() == [0, 1, -1, -1]
    assert result.vector("auc") == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert result.vector("log_loss")[0] == pytest.approx(-(np.log(0.9) + np.log(1 - 0.2)) / 2, rel=1e-6)
    pairs = [(p > n) + (p == n) / 2 for p in (0.9, 0.2, 0.6) for n in (0.2, 0.9, 0.9)]
    assert result.summary()["auc_pooled"] == pytest.approx(np.mean(pairs))
    assert result.summary()["positives"] == pytest.approx(3 / 6)


def test_labels_belong_to_evaluate_labels_and_lists_to_evaluate():
    train, held_out, model = planted()
    lists = all_unseen(held_out)
    labelled = Candidates(lists.offsets, lists.items, np.zeros(len(lists.items), np.bool_))
    with pytest.raises(DataError, match="evaluate_labels"):
        evaluate(model, held_out, train=train, candidates=labelled)
    with pytest.raises(DataError, match="needs candidates with labels"):
        evaluate_labels(model, held_out.histories, lists)


@pytest.mark.parametrize("ks", [(), (0,), (-1, 5)])
def test_list_lengths_below_one_or_none_at_all_are_refused(ks):
    train, held_out, model = planted()
    with pytest.raises(SettingsError, match="ks are one or more list lengths of at least 1"):
        evaluate(model, held_out, train=train, ks=ks)
