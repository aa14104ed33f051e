"""check_recommender passes an honest recommender and names the promise that a broken one breaks."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest

from rec_core.artifacts import create, open_artifact
from rec_core.errors import UnknownUsers
from rec_core.evaluation import recommend_dense, score_dense
from rec_core.randomness import generator
from rec_core.testing import check_recommender, checkerboard
from rec_core.types import Candidates, Histories, Rankings, Scores, Split


def transitions(split: Split) -> np.ndarray:
    """float32 [n_items, n_items]: how often one item followed another in training."""
    train = split.train
    follows = train.users[1:] == train.users[:-1]
    counts = np.zeros((split.n_items, split.n_items), np.float32)
    np.add.at(counts, (train.items[:-1][follows], train.items[1:][follows]), 1)
    return counts


@dataclass(frozen=True, eq=False)
class Next:
    """Scores an item by how often it followed the last one; honest."""

    counts: np.ndarray
    known_users_only: ClassVar[bool] = False

    @property
    def n_items(self) -> int:
        return len(self.counts)

    def score_all(self, histories: Histories) -> np.ndarray:
        return self.counts[[histories.row(r)[-1] for r in range(len(histories))]].reshape(-1, self.n_items)

    def recommend(self, histories, k, *, exclude=None, among=None) -> Rankings:
        return recommend_dense(self, histories, k, exclude=exclude, among=among)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        return score_dense(self, histories, candidates)


def train_next(split: Split, seed: int) -> Next:
    return Next(transitions(split))


@dataclass(frozen=True, eq=False)
class OfUser:
    """A random but fixed list for each known user; no dense scorer, so lists and scores are made by hand."""

    scores: np.ndarray
    known_users_only: ClassVar[bool] = True

    @property
    def n_items(self) -> int:
        return self.scores.shape[1]

    def recommend(self, histories, k, *, exclude=None, among=None) -> Rankings:
        self.refuse_unknown(histories)
        items = np.full((len(histories), k), -1, np.int64)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        for row, user in enumerate(histories.users):
            allowed = np.ones(self.n_items, bool) if among is None else among.copy()
            if exclude is not None:
                allowed[exclude.row(row)] = False
            best = [item for item in np.argsort(-self.scores[user], kind="stable") if allowed[item]][:k]
            items[row, : len(best)] = best
            scores[row, : len(best)] = self.scores[user, best]
        return Rankings(histories.users, items, scores)

    def score(self, histories: Histories, candidates: Candidates) -> Scores:
        self.refuse_unknown(histories)
        users = np.repeat(histories.users, candidates.lengths)
        return Scores(candidates.offsets, candidates.items, self.scores[users, candidates.items])

    def refuse_unknown(self, histories: Histories) -> None:
        if (histories.users < 0).any():
            raise UnknownUsers("never seen")


def train_of_user(split: Split, seed: int) -> OfUser:
    return OfUser(generator(seed, "scores").random((split.n_users, split.n_items), np.float32))


@pytest.mark.parametrize("train", [train_next, train_of_user])
@pytest.mark.parametrize("k", [1, 5])
def test_an_honest_recommender_passes(train, k):
    check_recommender(train, k=k)


def test_an_honest_recommender_passes_on_a_data_set_of_ones_own():
    check_recommender(train_next, dataset=checkerboard(n_users=12, n_items=10))


def test_a_recommender_that_is_saved_and_loaded_whole_passes(tmp_path):
    def save_and_load(recommender: Next) -> Next:
        with create(tmp_path / "run", "recommender") as out:
            out.array("counts", recommender.counts)
        return Next(open_artifact(tmp_path / "run").array("counts"))

    check_recommender(train_next, save_and_load=save_and_load)


def broken(promise: str) -> pytest.RaisesExc:
    return pytest.raises(AssertionError, match=f"^broken promise: {promise}")


class NoScore:
    known_users_only, n_items = False, 40

    def recommend(self, histories, k, *, exclude=None, among=None): ...


def test_a_recommender_without_score_is_told_so():
    with pytest.raises(AssertionError, match="NoScore has no score"):
        check_recommender(lambda split, seed: NoScore())


def test_a_universe_of_another_size_is_named():
    with pytest.raises(AssertionError, match="n_items is 41; it was trained on a split with 40 items"):
        check_recommender(lambda split, seed: Next(np.ones((41, 41), np.float32)))


class LeaksExcluded(Next):
    def recommend(self, histories, k, *, exclude=None, among=None):
        return super().recommend(histories, k, among=among)


def test_a_recommender_that_ignores_exclude_breaks_a_promise():
    with broken("excluded items never return") as caught:
        check_recommender(lambda split, seed: LeaksExcluded(transitions(split)))
    assert "were excluded" in str(caught.value)


class ExcludesTooLate(Next):
    def recommend(self, histories, k, *, exclude=None, among=None):
        best = super().recommend(histories, k, exclude=exclude)
        return best if among is None else super().recommend(histories, k, among=among)


def test_a_recommender_that_forgets_exclude_beside_among_breaks_a_promise():
    with broken("only items of `among` return, and excluded ones not even then"):
        check_recommender(lambda split, seed: ExcludesTooLate(transitions(split)))


class IgnoresAmong(Next):
    def recommend(self, histories, k, *, exclude=None, among=None):
        return super().recommend(histories, k, exclude=exclude)


def test_a_recommender_that_ignores_among_breaks_a_promise():
    with broken("only items of `among` return"):
        check_recommender(lambda split, seed: IgnoresAmong(transitions(split)))


class CentresTheBatch(Next):
    def score_all(self, histories):
        scores = super().score_all(histories)
        return scores - scores.mean(axis=0, keepdims=True)


def test_a_recommender_that_looks_at_the_batch_breaks_a_promise():
    with broken("answers alone equal answers in a batch") as caught:
        check_recommender(lambda split, seed: CentresTheBatch(transitions(split)))
    assert "in a batch: " in str(caught.value)
    assert "alone: " in str(caught.value)


class RoundsInABatch(Next):
    def score_all(self, histories):
        return super().score_all(histories) + np.float32(1e-7 * len(histories))


def test_rounding_within_the_tolerance_is_forgiven_and_a_tolerance_of_zero_forgives_nothing():
    check_recommender(lambda split, seed: RoundsInABatch(transitions(split)))
    with broken("answers alone equal answers in a batch"):
        check_recommender(lambda split, seed: RoundsInABatch(transitions(split)), tolerance=0)


def test_a_model_that_draws_from_the_global_state_breaks_a_promise():
    state = np.random.RandomState(0)
    with broken("training twice with one seed gives one model"):
        check_recommender(lambda split, seed: Next(state.rand(split.n_items, split.n_items).astype(np.float32)))


def test_a_model_that_reads_test_items_breaks_a_promise():
    def train(split: Split, seed: int) -> Next:
        return Next(transitions(replace(split, part=np.zeros_like(split.part))))

    with broken("changing held-out test items changes nothing") as caught:
        check_recommender(train)
    assert "split.for_training()" in str(caught.value)


class Polite(OfUser):
    def refuse_unknown(self, histories):
        pass


def test_a_model_of_users_that_answers_for_a_stranger_breaks_a_promise():
    with broken("a recommender with known_users_only raises UnknownUsers for a row with user -1"):
        check_recommender(lambda split, seed: Polite(train_of_user(split, seed).scores))


class TiesBackwards(OfUser):
    def recommend(self, histories, k, *, exclude=None, among=None):
        best = super().recommend(histories, self.n_items, exclude=exclude, among=among)
        order = np.lexsort((-best.items, -best.scores))
        rows = np.arange(len(best))[:, None]
        return Rankings(best.users, best.items[rows, order][:, :k], best.scores[rows, order][:, :k])


def test_ties_in_another_order_than_item_id_break_a_promise():
    with broken("equal scores are ordered by item id"):
        check_recommender(lambda split, seed: TiesBackwards(np.ones((split.n_users, split.n_items), np.float32)))


class OtherScores(Next):
    def score(self, histories, candidates):
        scores = super().score(histories, candidates)
        return replace(scores, values=-scores.values)


def test_scores_in_another_order_than_the_lists_break_a_promise():
    with broken("the order of `score` is the order of `recommend`"):
        check_recommender(lambda split, seed: OtherScores(transitions(split)))


class NeverMoreThanAll(OfUser):
    def recommend(self, histories, k, *, exclude=None, among=None):
        return super().recommend(histories, min(k, self.n_items), exclude=exclude, among=among)


def test_a_list_shorter_than_k_breaks_a_promise():
    with broken("k beyond the catalogue is fine"):
        check_recommender(lambda split, seed: NeverMoreThanAll(train_of_user(split, seed).scores))


class Repeats(OfUser):
    def recommend(self, histories, k, *, exclude=None, among=None):
        best = super().recommend(histories, k, exclude=exclude, among=among)
        return Rankings(best.users, best.items[:, :1].repeat(k, 1), best.scores[:, :1].repeat(k, 1))


def test_an_item_given_twice_breaks_a_promise():
    with broken("every row gets k different items of the universe"):
        check_recommender(lambda split, seed: Repeats(train_of_user(split, seed).scores))


class KeepsItsScores(Next):
    def score_all(self, histories):
        if len(histories) not in self.cache:
            self.cache[len(histories)] = super().score_all(histories)
        return self.cache[len(histories)]

    def recommend(self, histories, k, *, exclude=None, among=None):
        return recommend_dense(Next(self.counts), histories, k, exclude=exclude, among=among)

    def score(self, histories, candidates):
        return score_dense(Next(self.counts), histories, candidates)


@dataclass(frozen=True, eq=False)
class Caching(KeepsItsScores):
    cache: dict = field(default_factory=dict)


def test_scores_that_a_caller_may_not_overwrite_break_a_promise():
    with broken("score_all gives a fresh float32 array"):
        check_recommender(lambda split, seed: Caching(transitions(split)))


class Sorts(Next):
    def recommend(self, histories, k, *, exclude=None, among=None):
        answer = super().recommend(histories, k, exclude=exclude, among=among)
        histories.items[:] = np.sort(histories.items)
        return answer


def test_writing_into_the_histories_breaks_a_promise():
    with broken("asking does not change the histories"):
        check_recommender(lambda split, seed: Sorts(transitions(split)))


def test_a_model_that_loses_digits_on_disk_breaks_a_promise():
    def save_and_load(recommender: OfUser) -> OfUser:
        return OfUser(recommender.scores.astype(np.float16).astype(np.float32))

    with broken("saving and loading changes nothing"):
        check_recommender(train_of_user, save_and_load=save_and_load)


def count_calls(train: Callable[[Split, int], Next]) -> tuple[Callable[[Split, int], Next], list[int]]:
    seeds: list[int] = []
    return (lambda split, seed: seeds.append(seed) or train(split, seed)), seeds  # type: ignore[func-returns-value]


def test_a_model_is_trained_three_times_with_one_seed():
    train, seeds = count_calls(train_next)
    check_recommender(train, seed=7)
    assert seeds == [7, 7, 7]
