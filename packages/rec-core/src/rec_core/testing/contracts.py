"""What every recommender promises, checked on a small planted data set. Call it in the tests of your own method::

    def test_my_model_keeps_the_contract_of_a_recommender():
        check_recommender(lambda split, seed: train_my_model(split, MySettings(epochs=1, seed=seed)))

A failure is an AssertionError whose first line is the promise that was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from rec_core.errors import UnknownUsers
from rec_core.protocols import DenseScorer, Recommender
from rec_core.randomness import generator
from rec_core.testing.datasets import planted_clusters, with_other_test_items
from rec_core.types import Candidates, Dataset, Histories, Rankings, Split
from rec_core.types.ids import Bool, Float32

Train = Callable[[Split, int], Recommender]


def check_recommender(
    train: Train,
    *,
    dataset: Dataset | None = None,
    seed: int = 1,
    k: int = 5,
    save_and_load: Callable[[Recommender], Recommender] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Check that what ``train(split, seed)`` returns keeps the contract of :class:`rec_core.protocols.Recommender`.

    ``train`` is called three times, on a data set of 60 users and 40 items unless ``dataset`` names another one, so
    give it settings for a small model. ``save_and_load`` writes the recommender somewhere and reads it back. Where the
    shape of a batch may change the rounding, scores may differ by ``tolerance`` times the largest score of the row, and
    items that lie closer than that may change places; everything else is compared exactly.

    Raises AssertionError with the promise that was broken, the row where it was and what probably causes it.
    """
    split = (dataset or planted_clusters()).split
    recommender = train(split, seed)
    _check_attributes(recommender, split)
    known = split.held_out("test").histories.block(0, 24)
    requests = known if recommender.known_users_only else _with_unseen_users(known)
    before = requests.digest()

    answer = recommender.recommend(requests, k)
    if requests.digest() != before:
        _fail("asking does not change the histories", "the arrays that were handed in were written to; copy them first")
    _check_answer(answer, requests, k, recommender.n_items)
    _check_ties(answer)
    _check_alone_equals_in_a_batch(recommender, requests, answer, tolerance)
    _check_excluded_items_never_return(recommender, requests, answer)
    _check_among(recommender, requests, answer)
    _check_k_beyond_the_catalogue(recommender, requests)
    _check_scores_agree(recommender, requests, answer, tolerance)
    _check_unknown_users(recommender, known, k)
    _check_score_all_is_fresh(recommender, requests)

    again = train(split, seed).recommend(requests, k)
    _check_same(
        "training twice with one seed gives one model",
        ("the first model", answer),
        ("the second", again),
        "draw every number from rec_core.randomness.generator(seed, ...), none from a global state or from set order",
    )
    elsewhere = train(with_other_test_items(split), seed).recommend(requests, k)
    _check_same(
        "changing held-out test items changes nothing",
        ("the model", answer),
        ("the one trained beside other test items", elsewhere),
        "training reads the test part; work on split.for_training() or split.train",
    )
    if save_and_load is not None:
        _check_same(
            "saving and loading changes nothing",
            ("before", answer),
            ("after", save_and_load(recommender).recommend(requests, k)),
            "something of the model is not in its files, or is stored with fewer digits",
        )


def _fail(promise: str, *details: str) -> NoReturn:
    raise AssertionError("\n  ".join([f"broken promise: {promise}", *details]))


def _who(histories: Histories, row: int) -> str:
    return f"row {row} (user {histories.users[row]}, history {histories.row(row).tolist()})"


def _check_attributes(recommender: object, split: Split) -> None:
    promise = "a recommender has known_users_only, n_items, recommend and score"
    if not isinstance(recommender, Recommender):
        names = ("known_users_only", "n_items", "recommend", "score")
        missing = [name for name in names if not hasattr(recommender, name)]
        _fail(promise, f"{type(recommender).__name__} has no {', '.join(missing)}")
    if recommender.n_items != split.n_items:
        _fail(promise, f"n_items is {recommender.n_items}; it was trained on a split with {split.n_items} items")


def _check_answer(answer: Rankings, requests: Histories, k: int, n_items: int) -> None:
    promise = "every row gets k different items of the universe, padded with -1"
    if answer.items.shape != (len(requests), k):
        _fail(promise, f"{len(requests)} rows and k = {k} were asked; items have the shape {answer.items.shape}")
    if not np.array_equal(answer.users, requests.users):
        _fail(promise, "users of the answer are not the users of the request, row by row")
    for row, items in enumerate(answer.items):
        given = items[items >= 0]
        if (given >= n_items).any():
            _fail(promise, f"{_who(requests, row)} got item {given.max()}; ids are 0..{n_items - 1}, with no pad id")
        if len(np.unique(given)) < len(given):
            _fail(promise, f"{_who(requests, row)} got an item twice: {items.tolist()}")
        if len(given) == 0:
            _fail(promise, f"{_who(requests, row)} got nothing at all, though {n_items} items could be ranked")
        if (items[: len(given)] < 0).any():
            _fail(promise, f"{_who(requests, row)} got {items.tolist()}; -1 stands at the end")


def _check_ties(answer: Rankings) -> None:
    tied = (answer.scores[:, 1:] == answer.scores[:, :-1]) & (answer.items[:, 1:] >= 0)
    rows = np.flatnonzero((tied & (answer.items[:, 1:] < answer.items[:, :-1])).any(axis=1))
    if len(rows):
        row = rows[0]
        _fail(
            "equal scores are ordered by item id",
            f"row {row}: items {answer.items[row].tolist()} with scores {answer.scores[row].tolist()}",
            "rec_core.evaluation.recommend_dense sorts by (score falling, item rising)",
        )


def _check_alone_equals_in_a_batch(
    recommender: Recommender, requests: Histories, answer: Rankings, tolerance: float
) -> None:
    promise = "answers alone equal answers in a batch"
    cause = "padding, or a neighbour's row, reaches the answer: mask it; or the answer is drawn at random"
    k = answer.k
    alone = [recommender.recommend(requests.take([row]), k) for row in range(len(requests))]
    joined = Rankings(
        np.concatenate([one.users for one in alone]),
        np.concatenate([one.items for one in alone]),
        np.concatenate([one.scores for one in alone]),
    )
    _check_same(promise, ("in a batch", answer), ("alone", joined), cause, tolerance)
    backwards = np.arange(len(requests))[::-1]
    turned = recommender.recommend(requests.take(backwards), k)
    turned = Rankings(turned.users[backwards], turned.items[backwards], turned.scores[backwards])
    _check_same(promise, ("in a batch", answer), ("in the batch turned round", turned), cause, tolerance)
    nobody = recommender.recommend(requests.take([]), k)
    if nobody.items.shape != (0, k):
        _fail(promise, f"no rows were asked; items have the shape {nobody.items.shape}, wanted (0, {k})")


def _check_excluded_items_never_return(recommender: Recommender, requests: Histories, answer: Rankings) -> None:
    promise = "excluded items never return"
    unwanted = [
        np.union1d(requests.row(row), items[items >= 0][:2]) if row % 5 else np.empty(0, np.int64)  # some rows: nothing
        for row, items in enumerate(answer.items)
    ]
    got = recommender.recommend(requests, answer.k, exclude=Candidates.of([row.tolist() for row in unwanted]))
    for row, items in enumerate(got.items):
        back = np.intersect1d(items, unwanted[row])
        if len(back):
            _fail(
                promise,
                f"{_who(requests, row)} got {items.tolist()}, though {back.tolist()} were excluded",
                "take them out before the k best are chosen; exclude[row] belongs to histories[row]",
            )


def _check_among(recommender: Recommender, requests: Histories, answer: Rankings) -> None:
    promise = "only items of `among` return, and excluded ones not even then"
    n_items = recommender.n_items
    among: Bool = generator(0, "among").random(n_items) < 0.5
    among[answer.items[:, 0]] = True
    got = recommender.recommend(requests, answer.k, among=among)
    both = recommender.recommend(requests, answer.k, among=among, exclude=Candidates.of(answer.items[:, :1].tolist()))
    for row in range(len(requests)):
        for asked, items in (("among", got.items[row]), ("among and exclude", both.items[row])):
            outside = [item for item in items[items >= 0].tolist() if not among[item]]
            if outside:
                _fail(promise, f"{_who(requests, row)} asked with {asked} got {outside}, which `among` does not allow")
        if answer.items[row, 0] in both.items[row]:
            _fail(promise, f"{_who(requests, row)} got item {answer.items[row, 0]}, which was excluded")


def _check_k_beyond_the_catalogue(recommender: Recommender, requests: Histories) -> None:
    promise = "k beyond the catalogue is fine: the rest of the row is -1 with score -inf"
    n_items = recommender.n_items
    got = recommender.recommend(requests, n_items + 3)
    if got.items.shape != (len(requests), n_items + 3):
        _fail(promise, f"k = {n_items + 3} was asked; items have the shape {got.items.shape}")
    _check_answer(got, requests, n_items + 3, n_items)
    if (got.items[:, n_items:] != -1).any():
        _fail(promise, f"place {n_items + 1} of a row holds an item, though there are only {n_items}")


def _check_scores_agree(recommender: Recommender, requests: Histories, answer: Rankings, tolerance: float) -> None:
    promise = "the order of `score` is the order of `recommend`"
    lists = [items[items >= 0] for items in answer.items]
    lists[-1] = lists[-1][:0]  # nothing to score is fine too
    candidates = Candidates.of([np.sort(items).tolist() for items in lists])
    scores = recommender.score(requests, candidates)
    if not (np.array_equal(scores.offsets, candidates.offsets) and np.array_equal(scores.items, candidates.items)):
        _fail(promise, "the scores are not aligned with the candidates that were asked")
    for row, items in enumerate(lists):
        in_order = scores.row(row)[np.searchsorted(candidates.row(row), items)]
        if (np.diff(in_order) > _margin(in_order, tolerance)).any():
            _fail(
                promise,
                f"{_who(requests, row)}: recommend gives {items.tolist()}, whose scores are {in_order.tolist()}",
                "both must come from the same numbers; see rec_core.evaluation.score_dense",
            )


def _check_unknown_users(recommender: Recommender, known: Histories, k: int) -> None:
    if not recommender.known_users_only:
        return
    unseen = replace(known, users=np.where(np.arange(len(known)) == 1, -1, known.users))
    candidates = Candidates.of([[0]] * len(unseen))
    asks = (
        ("recommend", lambda: recommender.recommend(unseen, k)),
        ("score", lambda: recommender.score(unseen, candidates)),
    )
    for name, ask in asks:
        try:
            ask()
        except UnknownUsers:
            continue
        _fail(
            "a recommender with known_users_only raises UnknownUsers for a row with user -1",
            f"{name} answered a request whose row 1 has user -1; such an answer is a popular list in disguise",
        )


def _check_score_all_is_fresh(recommender: Recommender, requests: Histories) -> None:
    if not isinstance(recommender, DenseScorer):
        return
    promise = "score_all gives a fresh float32 array [rows, n_items]"
    scores = recommender.score_all(requests)
    if scores.dtype != np.float32 or scores.shape != (len(requests), recommender.n_items):
        _fail(promise, f"got {scores.dtype} {list(scores.shape)}")
    kept = scores.copy()
    if scores.flags.writeable:
        scores[:] = -np.inf
        if not np.array_equal(recommender.score_all(requests), kept):
            _fail(promise, "writing into the array changed the next answer; return a copy")
    else:
        _fail(promise, "the array is read-only; return a copy")


def _with_unseen_users(known: Histories) -> Histories:
    """Known users, the same histories from users never seen, and one of a single event."""
    unseen = replace(known.take(np.arange(min(4, len(known)))), users=np.full(min(4, len(known)), -1, np.int64))
    return _stacked([known, unseen, unseen.take([0]).last(1)])


def _stacked(parts: Sequence[Histories]) -> Histories:
    def column(name: str) -> npt.NDArray[np.generic] | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    lengths = np.concatenate([part.lengths for part in parts])
    return Histories(
        np.concatenate([part.users for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.items for part in parts]),
        *(column(name) for name in ("timestamps", "ratings", "generated")),  # type: ignore[arg-type]
    )


def _margin(scores: Float32, tolerance: float) -> float:
    finite = np.abs(scores[np.isfinite(scores)])
    return tolerance * float(finite.max(initial=0.0))


def _check_same(
    promise: str, one: tuple[str, Rankings], other: tuple[str, Rankings], cause: str, tolerance: float = 0.0
) -> None:
    (one_name, a), (other_name, b) = one, other
    if a.items.shape != b.items.shape:
        _fail(promise, f"{one_name} items have the shape {a.items.shape}, {other_name} {b.items.shape}", cause)
    for row in range(len(a)):
        if not _same_row(a, b, row, tolerance):
            _fail(
                promise,
                f"row {row} (user {a.users[row]})",
                f"{one_name}: {_listed(a, row)}",
                f"{other_name}: {_listed(b, row)}",
                cause,
            )


def _same_row(a: Rankings, b: Rankings, row: int, tolerance: float) -> bool:
    """Equal users and, up to the tolerance, scores and items; items that lie within it of each other may swap."""
    if a.users[row] != b.users[row]:
        return False
    if tolerance == 0:
        return np.array_equal(a.items[row], b.items[row]) and np.array_equal(a.scores[row], b.scores[row])
    scores, margin = a.scores[row], _margin(a.scores[row], tolerance)
    if not np.allclose(scores, b.scores[row], rtol=0, atol=margin):
        return False
    with np.errstate(invalid="ignore"):  # -inf - -inf
        starts = np.flatnonzero(np.concatenate([[True], scores[:-1] - scores[1:] > 2 * margin]))
    edges = [*starts.tolist(), len(scores)]
    cut_off = a.items[row, -1] >= 0  # then the last group may go on beyond the list
    groups = list(pairwise(edges))
    return all(
        set(a.items[row, first:last].tolist()) == set(b.items[row, first:last].tolist())
        for first, last in (groups[:-1] if cut_off else groups)
    )


def _listed(answer: Rankings, row: int) -> str:
    return ", ".join(f"{item} ({score:.6g})" for item, score in zip(answer.items[row], answer.scores[row], strict=True))
