"""Exact ranks and lists: equal to the obvious loop, for every tile, block and budget."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, UnknownUsers
from rec_core.evaluation import (
    blocks,
    n_competitors,
    ranks,
    ranks_and_top_k,
    recommend_dense,
    score_dense,
    seen_items,
    top_k,
)
from rec_core.evaluation.blocks import count_rows, pair_scores
from rec_core.protocols import DenseScorer, Recommender, VectorScorer, as_mask
from rec_core.testing.scorers import ListsOnly, ScoreTable, VectorTable
from rec_core.types import Candidates, HeldOut, Histories

BUDGETS = (1, 2_000, 20_000, 300_000, 2**26)


def make_held_out(histories, targets, users=None):
    rows = Candidates.of([[t] if np.isscalar(t) else t for t in targets])
    return HeldOut(Histories.of(histories, range(len(histories)) if users is None else users), rows.offsets, rows.items)


def random_held_out(rng, n_users, n_items, most_targets=1, longest=12):
    histories = [rng.integers(0, n_items, rng.integers(1, longest)).tolist() for _ in range(n_users)]
    targets = [rng.choice(n_items, rng.integers(1, most_targets + 1), replace=False).tolist() for _ in range(n_users)]
    return make_held_out(histories, targets)


def random_vectors(rng, n_users, n_items, dim, kind):
    """Vectors whose scores have no ties, exact ties, ties only by equal vectors, or nothing but ties."""
    users, items = rng.standard_normal((n_users, dim)), rng.standard_normal((n_items, dim))
    if kind == "whole numbers":
        users, items = np.rint(users * 2), np.rint(items * 2)
    if kind == "twins":
        items = items[rng.integers(0, max(1, n_items // 5), n_items)]
    if kind == "constant":
        items[:] = items[0] / 3
    if kind == "zero":
        users[:] = 0
    return VectorTable(users, items)


KINDS = ("random", "whole numbers", "twins", "constant", "zero")


def plain_ranks(scores, held_out, exclude_seen=True):
    """The definition, target by target."""
    better, tied = [], []
    for r in range(len(held_out)):
        gone = set(held_out.row(r).tolist()) | (set(held_out.histories.row(r).tolist()) if exclude_seen else set())
        rivals = [i for i in range(scores.shape[1]) if i not in gone]
        for target in held_out.row(r):
            better.append(int((scores[r, rivals] > scores[r, target]).sum()))
            tied.append(int((scores[r, rivals] == scores[r, target]).sum()))
    return better, tied


def plain_lists(scores, k, excluded):
    """Sorted by (score falling, item id), -1 where nothing is left."""
    lists = []
    for row, gone in zip(scores, excluded, strict=True):
        left = [i for i in range(len(row)) if i not in set(gone) and row[i] > -np.inf]
        best = sorted(left, key=lambda i: (-row[i], i))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return lists


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most_targets", [1, 4])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ranks_equal_the_definition_for_every_budget_and_both_kinds_of_scorer(kind, most_targets, exclude_seen):
    rng = np.random.default_rng(KINDS.index(kind))
    held_out = random_held_out(rng, 23, 400, most_targets)
    vectors = random_vectors(rng, 23, 400, 13, kind)
    expected = plain_ranks(vectors.defined_scores(), held_out, exclude_seen)
    for scorer in (vectors, ScoreTable(vectors.defined_scores())):
        for budget in BUDGETS:
            better, tied = ranks(scorer, held_out, exclude_seen=exclude_seen, budget=budget)
            assert (better.tolist(), tied.tolist()) == expected, (type(scorer), budget)
            assert better.dtype == tied.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS)
def test_lists_equal_a_stable_sort_for_every_budget_and_both_kinds_of_scorer(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    held_out = random_held_out(rng, 17, 300)
    vectors = random_vectors(rng, 17, 300, 8, kind)
    scores = vectors.defined_scores()
    exclude = Candidates(held_out.histories.offsets, held_out.histories.items)
    for k in (1, 7, 299, 310):
        expected = plain_lists(scores, k, [exclude.row(r) for r in range(17)])
        for scorer in (vectors, ScoreTable(scores)):
            for budget in BUDGETS:
                lists = top_k(scorer, held_out.histories, k, exclude=exclude, budget=budget)
                assert lists.items.tolist() == expected, (type(scorer), k, budget)
                there = lists.items >= 0
                rows = np.nonzero(there)[0]
                assert np.array_equal(lists.scores[there], scores[rows, lists.items[there]])  # bit for bit


def test_large_tiles_and_odd_shapes_give_the_same_ranks_as_pair_by_pair_scores():
    rng = np.random.default_rng(7)
    vectors = random_vectors(rng, 530, 4_103, 9, "random")  # more rows than a block, several ragged tiles
    held_out = random_held_out(rng, 530, 4_103)
    scores = vectors.defined_scores()
    own = scores[np.arange(530), held_out.items]
    above = scores > own[:, None]
    for r in range(530):
        above[r, held_out.histories.row(r)] = False
    for budget in (100_000, 2**26):
        better, _ = ranks(vectors, held_out, budget=budget)
        assert np.array_equal(better, above.sum(axis=1))


def test_items_with_equal_vectors_tie_exactly_wherever_they_stand():
    rng = np.random.default_rng(3)
    items = np.repeat(rng.standard_normal((70, 33)), 30, axis=0)[rng.permutation(2_100)]
    vectors = VectorTable(rng.standard_normal((40, 33)), items)
    held_out = make_held_out([[]] * 40, rng.integers(0, 2_100, 40).tolist())
    for budget in BUDGETS[1:]:
        better, tied = ranks(vectors, held_out, budget=budget)
        assert (tied == 29).all()
        assert (better % 30 == 0).all()


def test_a_model_of_equal_scores_ties_the_target_with_every_unseen_item():
    held_out = make_held_out([[0, 1, 1], [2]], [3, 4])
    better, tied = ranks(ScoreTable(np.ones((2, 10))), held_out)
    assert better.tolist() == [0, 0]
    assert tied.tolist() == n_competitors(held_out, 10).tolist() == [10 - 3, 10 - 2]


def test_the_target_is_never_excluded_even_when_the_user_met_it_before():
    held_out = make_held_out([[3, 1, 0]], [3])
    scorer = ScoreTable([[9, 8, 7, 6, 5]])
    better, _, lists = ranks_and_top_k(scorer, held_out, 5)
    assert better.tolist() == [1]  # only item 2 is better: 0 and 1 are seen
    assert lists.items.tolist() == [[2, 3, 4, -1, -1]]
    assert [seen_items(held_out).row(0).tolist()] == [[1, 0]]


def test_a_target_scored_minus_infinity_stands_behind_the_whole_catalogue():
    held_out = make_held_out([[0], [0]], [2, 1])
    scorer = ScoreTable([[0, 1, -np.inf, -np.inf], [0, 1, -np.inf, -np.inf]])
    better, tied, lists = ranks_and_top_k(scorer, held_out, 3)
    assert (better.tolist(), tied.tolist()) == ([4, 0], [0, 0])
    assert lists.items.tolist() == [[1, -1, -1], [1, -1, -1]]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(2, 60), k=st.integers(1, 70), kind=st.sampled_from(KINDS))
def test_excluded_items_never_return_and_only_the_allowed_are_ranked(seed, n_items, k, kind):
    rng = np.random.default_rng(seed)
    vectors = random_vectors(rng, 3, n_items, 4, kind)
    histories = Histories.of([[]] * 3, range(3))
    exclude = Candidates.of([rng.integers(0, n_items, rng.integers(0, n_items)).tolist() for _ in range(3)])
    among = rng.random(n_items) < 0.7
    gone = [set(exclude.row(r).tolist()) | set(np.flatnonzero(~among).tolist()) for r in range(3)]
    for scorer in (vectors, ScoreTable(vectors.defined_scores())):
        lists = top_k(scorer, histories, k, exclude=exclude, among=among)
        assert lists.items.tolist() == plain_lists(vectors.defined_scores(), k, gone)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_renaming_the_items_changes_no_rank_ties_included(seed, kind):
    rng = np.random.default_rng(seed)
    held_out = random_held_out(rng, 5, 40, most_targets=3)
    vectors = random_vectors(rng, 5, 40, 6, kind)
    new_name = rng.permutation(40).astype(np.int32)
    old_name = np.argsort(new_name)
    history = held_out.histories
    renamed = HeldOut(
        Histories(history.users, history.offsets, new_name[history.items]), held_out.offsets, new_name[held_out.items]
    )
    before = ranks(vectors, held_out)
    after = ranks(VectorTable(vectors.users, vectors.items[old_name]), renamed)
    assert np.array_equal(before, after)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), budget=st.integers(1, 10**6), kind=st.sampled_from(KINDS))
def test_the_budget_never_changes_an_answer(seed, budget, kind):
    rng = np.random.default_rng(seed)
    held_out = random_held_out(rng, 9, 150, most_targets=2)
    vectors = random_vectors(rng, 9, 150, 5, kind)
    usual, odd = (ranks_and_top_k(vectors, held_out, 12, budget=b) for b in (2**26, budget))
    assert np.array_equal(usual[:2], odd[:2])
    assert np.array_equal(usual[2].items, odd[2].items)
    assert np.array_equal(usual[2].scores, odd[2].scores)


@pytest.mark.parametrize("dim", [1, 30, 64, 700])
def test_the_number_of_threads_never_changes_an_answer(dim, monkeypatch):
    rng = np.random.default_rng(dim)
    held_out = random_held_out(rng, 301, 2_111, most_targets=2)
    vectors = random_vectors(rng, 301, 2_111, dim, "twins")
    answers = []
    for threads in (1, 4):
        monkeypatch.setattr(blocks, "usable_threads", lambda n=threads: n)
        answers.append(ranks_and_top_k(vectors, held_out, 9, budget=2**23))
    (better, tied, lists), (better_too, tied_too, lists_too) = answers
    assert np.array_equal((better, tied), (better_too, tied_too))
    assert np.array_equal(lists.items, lists_too.items)
    assert np.array_equal(lists.scores, lists_too.scores)
    expected = top_k(ScoreTable(vectors.defined_scores()), held_out.histories, 9, exclude=seen_items(held_out))
    assert np.array_equal(lists.items, expected.items)


def test_openmp_settings_limit_the_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert blocks.usable_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= blocks.usable_threads() <= 4


@pytest.mark.parametrize("kind", ["random", "constant", "zero"])
def test_scratch_memory_stays_within_the_budget_even_when_everything_ties(kind):
    rng = np.random.default_rng(1)
    budget = 2**22
    held_out = random_held_out(rng, 70, 30_000)
    vectors = random_vectors(rng, 70, 30_000, 4, kind)
    dense = ScoreTable(vectors.users @ vectors.items.T)
    for scorer in (vectors, dense):
        tracemalloc.start()
        ranks_and_top_k(scorer, held_out, 20, budget=budget)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < budget, f"{type(scorer).__name__}: {peak / 2**20:.1f} MiB"


def test_ranks_and_lists_together_equal_each_alone():
    rng = np.random.default_rng(5)
    held_out = random_held_out(rng, 31, 200, most_targets=3)
    for kind in KINDS:
        vectors = random_vectors(rng, 31, 200, 7, kind)
        better, tied, lists = ranks_and_top_k(vectors, held_out, 15)
        assert np.array_equal((better, tied), ranks(vectors, held_out))
        alone = top_k(vectors, held_out.histories, 15, exclude=seen_items(held_out))
        assert np.array_equal(lists.items, alone.items)


def test_scores_of_candidates_are_the_scores_of_the_lists():
    rng = np.random.default_rng(11)
    vectors = random_vectors(rng, 9, 80, 10, "random")
    histories = Histories.of([[1]] * 9, range(9))
    for scorer in (vectors, ScoreTable(vectors.defined_scores())):
        lists = recommend_dense(scorer, histories, 6)
        again = score_dense(scorer, histories, Candidates.of(lists.items.tolist()), budget=1_000)
        assert np.array_equal(again.values.reshape(9, 6), lists.scores)


def test_the_score_of_a_pair_depends_on_its_two_vectors_alone():
    rng = np.random.default_rng(2)
    for dim in (1, 3, 50, 64, 131):
        users = rng.standard_normal((5, dim)).astype(np.float32)
        items = rng.standard_normal((3_000, dim)).astype(np.float32)
        rows, at = rng.integers(0, 5, 9_000), rng.integers(0, 3_000, 9_000)
        together = pair_scores(users, items, rows, at)
        alone = [pair_scores(users, items, rows[i : i + 1], at[i : i + 1])[0] for i in range(0, 9_000, 450)]
        assert np.array_equal(together[::450], alone)


def test_flags_are_counted_for_every_width():
    rng = np.random.default_rng(0)
    for width in (1, 7, 8, 2_040, 2_041, 2_048):
        flags = rng.random((3, width)) < 0.9
        assert np.array_equal(count_rows(flags), flags.sum(axis=1))
    assert np.array_equal(count_rows(np.ones((2, 2_040), np.bool_)), [2_040, 2_040])


def test_no_rows_give_empty_answers():
    empty = make_held_out([], [])
    for scorer in (ScoreTable(np.ones((1, 4))), VectorTable(np.ones((1, 2)), np.ones((4, 2)))):
        better, tied, lists = ranks_and_top_k(scorer, empty, 3)
        assert len(better) == len(tied) == len(lists) == 0
        assert lists.items.shape == (0, 3)


def test_a_nan_score_names_the_user():
    scores = np.zeros((3, 5))
    scores[2, 4] = np.nan
    with pytest.raises(DataError, match=r"a score of user 2 \(row 2\) is NaN"):
        ranks(ScoreTable(scores), make_held_out([[0]] * 3, [1, 1, 1]), budget=1)
    users = np.ones((3, 2))
    users[1] = np.nan
    with pytest.raises(DataError, match=r"the vector of user 1 \(row 1\) is NaN"):
        top_k(VectorTable(users, np.ones((5, 2))), Histories.of([[0]] * 3, range(3)), 2)
    items = np.ones((5, 2))
    items[3, 0] = np.inf
    with pytest.raises(DataError, match="the vector of item 3 holds NaN or infinity"):
        ranks(VectorTable(np.ones((3, 2)), items), make_held_out([[0]] * 3, [1, 1, 1]))


def test_vectors_whose_scores_overflow_are_refused():
    huge = VectorTable(np.full((1, 2), 1e30), np.full((4, 2), 1e30))
    with pytest.raises(DataError, match="so long that its scores overflow"):
        ranks(huge, make_held_out([[0]], [1]))


def test_a_user_never_seen_is_refused_by_a_model_that_knows_only_its_own():
    stranger = make_held_out([[0], [1]], [2, 2], users=[0, -1])
    scorer = ScoreTable(np.ones((1, 4)))
    for ask in (
        lambda: ranks(scorer, stranger),
        lambda: recommend_dense(scorer, stranger.histories, 2),
        lambda: top_k(ListsOnly(scorer), stranger.histories, 2),
        lambda: score_dense(scorer, stranger.histories, Candidates.of([[0], [1]])),
    ):
        with pytest.raises(UnknownUsers, match="row 1 is a user never seen"):
            ask()


def test_wrong_shapes_and_ids_are_named():
    held_out = make_held_out([[0], [1]], [2, 9])
    scorer = ScoreTable(np.ones((2, 4)))
    with pytest.raises(DataError, match="target item 9 is outside the 4 items"):
        ranks(scorer, held_out)
    with pytest.raises(DataError, match="1 rows of items to exclude for 2 histories"):
        top_k(scorer, held_out.histories, 2, exclude=Candidates.of([[1]]))
    with pytest.raises(DataError, match=r"among must be bool \[4\]"):
        top_k(scorer, held_out.histories, 2, among=as_mask([1], 5))
    with pytest.raises(ValueError, match="k is at least 1"):
        top_k(scorer, held_out.histories, 0)
    with pytest.raises(DataError, match="candidates: item id 7"):
        score_dense(scorer, held_out.histories, Candidates.of([[1], [7]]))
    wide = ScoreTable(np.ones((2, 4)))
    wide.score_all = lambda histories: np.ones((2, 4))  # float64
    with pytest.raises(DataError, match=r"score_all of ScoreTable must give float32 \[2, 4\]; got float64"):
        top_k(wide, held_out.histories, 2)


def test_the_test_models_satisfy_the_protocols():
    table, vectors = ScoreTable(np.ones((1, 2))), VectorTable(np.ones((1, 2)), np.ones((3, 2)))
    assert isinstance(table, DenseScorer)
    assert not isinstance(table, VectorScorer)
    assert isinstance(vectors, VectorScorer)
    assert isinstance(ListsOnly(table), Recommender)
    assert not isinstance(ListsOnly(table), DenseScorer | VectorScorer)
