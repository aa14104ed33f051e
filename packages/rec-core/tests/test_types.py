"""The contract of every type: what it accepts, and what it refuses with which words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.errors import DataError, UnknownKeys
from rec_core.protocols import as_mask
from rec_core.testing import with_other_test_items
from rec_core.testing.strategies import histories, interactions, splits
from rec_core.types import (
    Candidates,
    Dataset,
    Generated,
    HeldOut,
    Histories,
    IdMap,
    Interactions,
    ItemCatalog,
    ItemEmbeddings,
    Neighbors,
    Rankings,
    Reviews,
    Scores,
    SemanticIds,
    Split,
    UserCatalog,
)

I32, I64, F32 = np.int32, np.int64, np.float32


def ids(*values: int) -> np.ndarray:
    return np.array(values, I32)


def longs(*values: int) -> np.ndarray:
    return np.array(values, I64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, F32)


# histories


def as_lists(histories: Histories) -> list[tuple]:
    """One tuple (user, items, timestamps, ratings, generated) per row, in plain Python."""
    columns = (histories.items, histories.timestamps, histories.ratings, histories.generated)
    edges = histories.offsets.tolist()
    return [
        (user, *(None if column is None else column.tolist()[first:last] for column in columns))
        for user, first, last in zip(histories.users.tolist(), edges, edges[1:], strict=False)
    ]


@given(histories(), st.data())
def test_taking_rows_equals_taking_them_from_a_list(drawn, data):
    rows = data.draw(st.lists(st.integers(0, len(drawn) - 1), max_size=8)) if len(drawn) else []
    assert as_lists(drawn.take(rows)) == [as_lists(drawn)[row] for row in rows]


@given(histories(), st.integers(0, 8), st.integers(0, 8))
def test_a_block_equals_a_slice_of_a_list(drawn, start, length):
    assert as_lists(drawn.block(start, start + length)) == as_lists(drawn)[start : start + length]


@given(histories(), st.integers(0, 8))
def test_the_last_events_equal_the_ends_of_lists(drawn, n):
    def end(column):
        return None if column is None else column[max(len(column) - n, 0) :]

    assert as_lists(drawn.last(n)) == [(user, *map(end, columns)) for user, *columns in as_lists(drawn)]


@given(histories())
def test_rows_and_lengths_equal_those_of_the_lists(drawn):
    assert [drawn.row(r).tolist() for r in range(len(drawn))] == [items for _, items, *_ in as_lists(drawn)]
    assert drawn.lengths.tolist() == [len(items) for _, items, *_ in as_lists(drawn)]


def test_a_block_shares_its_arrays_and_taken_rows_do_not():
    drawn = Histories.of([[1, 2], [3]])
    assert np.shares_memory(drawn.block(0, 1).items, drawn.items)
    assert not np.shares_memory(drawn.take([0]).items, drawn.items)


def test_histories_of_plain_lists_belong_to_users_never_seen_unless_these_are_named():
    assert Histories.of([[3, 1], []]).users.tolist() == [-1, -1]
    assert Histories.of([[3, 1], []], [4, 4]).users.tolist() == [4, 4]
    assert len(Histories.of([])) == 0


def test_a_mask_is_not_mistaken_for_row_numbers():
    drawn = Histories.of([[1], [2], [3]])
    for take in (drawn.take, Candidates.of([[1], [2], [3]]).take):
        with pytest.raises(TypeError, match=r"got a mask, whose rows np\.flatnonzero\(mask\) gives"):
            take(np.array([False, True, True]))


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_refused(row):
    with pytest.raises(IndexError, match=r"there are rows 0\.\.2"):
        Histories.of([[1], [2], [3]]).take([0, row])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": longs(1, 2, 3)}, r"histories: items must be int32 \[3\]; got int64 \[3\]"),
        ({"users": ids(0, 1)}, r"histories: users must be int64 \[2\]; got int32 \[2\]"),
        ({"users": longs(0)}, r"histories: users must be int64 \[2\]; got int64 \[1\]"),
        ({"users": longs(0, -2)}, "or -1 for a user never seen"),
        ({"items": ids(1, -1, 3)}, r"a negative one was found \(padding is a mask\)"),
        ({"offsets": longs(0, 1, 2)}, "offsets run from 0 to 2, wanted 0 to 3"),
        ({"timestamps": longs(1, 2)}, r"histories: timestamps must be int64 \[3\]"),
        ({"ratings": np.zeros(3)}, r"histories: ratings must be float32 \[3\]; got float64"),
        ({"generated": ids(0, 0, 1)}, r"histories: generated must be bool \[3\]; got int32"),
    ],
)
def test_histories_refuse_what_breaks_their_contract(change, message):
    whole = Histories(longs(0, 1), longs(0, 2, 3), ids(1, 2, 3))
    with pytest.raises(DataError, match=message):
        replace(whole, **change)


def test_the_digest_of_histories_covers_every_column():
    whole = Histories(longs(0, 1), longs(0, 2, 3), ids(1, 2, 3), longs(1, 2, 3), floats(1, 2, 3), np.ones(3, bool))
    others = [
        replace(whole, users=longs(0, -1)),
        replace(whole, offsets=longs(0, 1, 3)),
        replace(whole, items=ids(1, 2, 4)),
        replace(whole, timestamps=None),
        replace(whole, ratings=floats(1, 2, 4)),
        replace(whole, generated=np.zeros(3, bool)),
    ]
    assert len({whole.digest(), *(other.digest() for other in others)}) == 7


# interactions


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-2, 2)), max_size=20), st.booleans())
def test_sorting_is_stable_and_equals_a_plain_sort_of_tuples(events, timed):
    made = Interactions.sorted(
        [user for user, _, _ in events],
        [item for _, item, _ in events],
        timestamps=[time for _, _, time in events] if timed else None,
        ratings=list(range(len(events))),
    )
    plain = sorted(range(len(events)), key=lambda row: (events[row][0], events[row][2] if timed else 0))
    assert made.ratings.tolist() == plain  # the rating of a row is its place in the file
    assert made.users.tolist() == [events[row][0] for row in plain]
    assert made.items.tolist() == [events[row][1] for row in plain]
    assert (made.timestamps is not None) == timed


def test_universes_are_as_large_as_the_largest_id_asks_unless_they_are_named():
    made = Interactions.sorted([2, 0], [4, 1])
    assert (made.n_users, made.n_items) == (3, 5)
    assert Interactions.sorted([], []).n_users == 0
    assert Interactions.sorted([0], [0], n_users=7, n_items=9).item_counts().tolist() == [1] + [0] * 8


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"items": [0, 1, 2, 3]}, r"items have the shape \(4,\), users \(3,\)"),
        ({"timestamps": [1, 2]}, r"timestamps have the shape \(2,\), users \(3,\)"),
        ({"ratings": [1.0]}, r"ratings have the shape \(1,\)"),
        ({"items": [0, 1, 2**31]}, "items must fit int32"),
        ({"timestamps": [0.5, 1, 2]}, "timestamps must be whole numbers; got float64"),
        ({"users": ["a", "b", "c"]}, "users must be whole numbers"),
    ],
)
def test_columns_that_do_not_fit_are_refused_before_they_are_sorted(columns, message):
    with pytest.raises(DataError, match=message):
        Interactions.sorted(**{"users": [0, 1, 1], "items": [0, 1, 2], **columns})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": longs(0, 1, 2)}, r"interactions: user id 2 at position 2 is outside 0\.\.1"),
        ({"items": ids(0, -1, 2)}, r"interactions: item id -1 at position 1 is outside 0\.\.2"),
        ({"n_items": 2}, r"interactions: item id 2 at position 2 is outside 0\.\.1"),
        ({"users": longs(1, 0, 0)}, r"rows must be ordered by user; use Interactions\.sorted"),
        ({"timestamps": longs(5, 9, 3)}, r"rows of a user must be ordered by timestamp; use Interactions\.sorted"),
        ({"ratings": floats(1, np.nan, 2)}, "rating nan at row 1 is not a finite number"),
        ({"ratings": floats(1, 2, np.inf)}, "rating inf at row 2 is not a finite number"),
        ({"items": longs(0, 1, 2)}, "interactions: items must be int32"),
        ({"generated": np.zeros(2, bool)}, r"interactions: generated must be bool \[3\]; got bool \[2\]"),
    ],
)
def test_interactions_refuse_what_breaks_their_contract(change, message):
    whole = Interactions(longs(0, 1, 1), ids(0, 1, 2), 2, 3, timestamps=longs(9, 3, 5))
    with pytest.raises(DataError, match=message):
        replace(whole, **change)


@given(interactions())
def test_the_histories_of_interactions_hold_every_user_and_every_event_in_order(drawn):
    made = drawn.histories()
    assert made.users.tolist() == list(range(drawn.n_users))
    for user in range(drawn.n_users):
        assert made.row(user).tolist() == drawn.items[drawn.users == user].tolist()
    assert np.array_equal(made.offsets, drawn.offsets)


@given(interactions())
def test_counts_equal_plain_counts(drawn):
    assert drawn.item_counts().tolist() == [drawn.items.tolist().count(item) for item in range(drawn.n_items)]
    assert drawn.user_counts().tolist() == [drawn.users.tolist().count(user) for user in range(drawn.n_users)]


@given(interactions(timestamps=True))
def test_the_tied_share_equals_a_plain_count_of_neighbours(drawn):
    pairs = [
        (drawn.timestamps[i] == drawn.timestamps[i + 1])
        for i in range(len(drawn) - 1)
        if drawn.users[i] == drawn.users[i + 1]
    ]
    assert drawn.tied_share == (sum(pairs) / len(pairs) if pairs else 0.0)


def test_there_is_no_tied_share_without_timestamps():
    assert np.isnan(Interactions.sorted([0, 0], [0, 1]).tied_share)


# splits


def plain_held_out(split: Split, code: int) -> tuple[list[tuple[int, list[int], list[int]]], int]:
    """(user, history, targets) of every row, and how many users have targets but no history."""
    events, rows, skipped = split.interactions, [], 0
    for user in range(split.n_users):
        mine = [(int(item), int(part)) for u, item, part in zip(events.users, events.items, split.part) if u == user]  # noqa: B905
        history = [item for item, part in mine if part < code]
        targets = [item for item, part in mine if part == code]
        if targets and history:
            rows.append((user, history, targets))
        skipped += bool(targets) and not history
    return rows, skipped


@pytest.mark.parametrize(("part", "code"), [("valid", 1), ("test", 2)])
@given(split=splits())
def test_held_out_rows_equal_those_of_a_plain_loop(part, code, split):
    held_out = split.held_out(part)
    rows, skipped = plain_held_out(split, code)
    made = [
        (int(held_out.histories.users[r]), held_out.histories.row(r).tolist(), held_out.row(r).tolist())
        for r in range(len(held_out))
    ]
    assert made == rows
    assert held_out.skipped == ({"no_history": skipped} if skipped else {})
    assert held_out.single == all(len(targets) == 1 for _, _, targets in rows)


@given(splits())
def test_for_training_the_test_rows_are_gone_and_validation_is_what_it_was(split):
    handed = split.for_training()
    assert not (handed.part == 2).any()
    assert len(handed.interactions) == int((split.part < 2).sum())
    assert not np.shares_memory(handed.interactions.items, split.interactions.items)
    before, after = split.held_out("valid"), handed.held_out("valid")
    assert before.histories.digest() == after.histories.digest()
    assert np.array_equal(before.items, after.items)
    assert np.array_equal(before.offsets, after.offsets)
    assert before.skipped == after.skipped
    assert handed.train.digest() == split.train.digest()
    assert (handed.n_users, handed.n_items) == (split.n_users, split.n_items)


@given(splits(), st.integers(0, 3))
def test_changing_test_items_at_will_changes_the_hash_of_test_alone(split, seed):
    if split.n_items < 2:
        return
    before, after = split.hashes(), with_other_test_items(split, seed).hashes()
    assert (after["train"], after["valid"]) == (before["train"], before["valid"])
    assert (after["test"] == before["test"]) == (not (split.part == 2).any())


@given(splits(in_order=True), st.data())
def test_taking_held_out_rows_equals_taking_them_from_a_list(split, data):
    held_out = split.held_out("test")
    rows = data.draw(st.lists(st.integers(0, len(held_out) - 1), max_size=6)) if len(held_out) else []
    taken = held_out.take(np.array(rows, I64))
    assert as_lists(taken.histories) == [as_lists(held_out.histories)[row] for row in rows]
    assert [taken.row(r).tolist() for r in range(len(taken))] == [held_out.row(row).tolist() for row in rows]
    assert taken.skipped == held_out.skipped


def test_the_train_part_is_not_held_out():
    split = Split(Interactions.sorted([0], [0]), np.zeros(1, np.uint8), "given")
    with pytest.raises(ValueError, match="train is not held out"):
        split.held_out("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "leave_two_out"}, "unknown split protocol 'leave_two_out'; there is: leave_one_out"),
        ({"part": np.zeros(2, np.uint8)}, r"part must be uint8 \[3\]"),
        ({"part": np.zeros(3, I64)}, r"part must be uint8 \[3\]; got int64"),
        ({"part": np.array([0, 1, 3], np.uint8)}, r"0 \(train\), 1 \(valid\), 2 \(test\); got 3"),
    ],
)
def test_splits_refuse_what_breaks_their_contract(change, message):
    whole = Split(Interactions.sorted([0, 0, 1], [0, 1, 0]), np.array([0, 2, 0], np.uint8), "leave_one_out")
    with pytest.raises(DataError, match=message):
        replace(whole, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": longs(0, 2)}, "1 rows of targets for 2 histories"),
        ({"offsets": longs(0, 0, 2)}, "every held-out row needs at least one target"),
        ({"items": longs(4, 5)}, "held-out targets: items must be int32"),
        ({"items": ids(4, -1)}, "held-out targets: item ids are dense and 0-based"),
    ],
)
def test_held_out_rows_refuse_what_breaks_their_contract(change, message):
    whole = HeldOut(Histories.of([[1], [2]]), longs(0, 1, 2), ids(4, 5))
    with pytest.raises(DataError, match=message):
        replace(whole, **change)


# rankings, candidates, scores, neighbours


@pytest.mark.parametrize("make", [lambda i, s: Rankings(longs(0), i, s), Neighbors], ids=["rankings", "neighbors"])
@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([[1, 2]], [[1.0, 2.0]], "scores must not rise along a row; row 0 does"),
        ([[1, 2]], [[1.0, np.nan]], "row 0 holds a NaN score"),
        ([[1, -1]], [[1.0, 0.0]], "a missing item is -1 with score -inf"),
        ([[1, -2]], [[1.0, -np.inf]], "a missing item is -1 with score -inf"),
        ([[1, 2]], [[1.0]], r"one shape \[n, k\]; got \(1, 2\) and \(1, 1\)"),
        ([1, 2], [1.0, 0.0], r"one shape \[n, k\]"),
    ],
)
def test_lists_refuse_what_is_not_best_first(make, items, scores, message):
    with pytest.raises(DataError, match=message):
        make(np.array(items, I64), np.array(scores, F32))


def test_lists_may_hold_ties_and_end_with_missing_items():
    lists = Rankings(longs(-1, 3), np.array([[4, 2, -1], [1, 0, 5]]), np.array([[1, 1, -np.inf], [3, 2, 2]], F32))
    assert (len(lists), lists.k) == (2, 3)


def test_lists_of_another_dtype_or_length_are_refused():
    items, scores = np.array([[1, 2]]), np.array([[2, 1]], F32)
    with pytest.raises(DataError, match="items are int64 and scores float32; got int32 and float32"):
        Neighbors(items.astype(I32), scores)
    with pytest.raises(DataError, match="items are int64 and scores float32; got int64 and float64"):
        Neighbors(items, scores.astype(float))
    with pytest.raises(DataError, match=r"rankings: users must be int64 \[1\]; got int64 \[2\]"):
        Rankings(longs(0, 1), items, scores)


rows_of_items = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5)


@given(rows_of_items, st.integers(0, 6), st.integers(0, 6), st.data())
def test_candidates_equal_the_lists_they_were_made_from(rows, start, length, data):
    made = Candidates.of(rows)
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    assert [made.row(r).tolist() for r in range(len(made))] == rows
    assert made.lengths.tolist() == [len(row) for row in rows]
    block, taken = made.block(start, start + length), made.take(np.array(picked, I64))
    assert [block.row(r).tolist() for r in range(len(block))] == rows[start : start + length]
    assert [taken.row(r).tolist() for r in range(len(taken))] == [rows[r] for r in picked]


def test_labels_follow_their_candidates():
    labelled = Candidates(longs(0, 1, 3), ids(7, 8, 9), np.array([True, False, True]))
    assert labelled.take(longs(1, 0)).labels.tolist() == [False, True, True]
    assert labelled.block(1, 2).labels.tolist() == [False, True]
    assert len({labelled.digest(), Candidates(labelled.offsets, labelled.items).digest()}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": ids(7, -1, 9)}, "candidates: item ids are dense and 0-based"),
        ({"labels": ids(0, 1, 0)}, r"candidates: labels must be bool \[3\]"),
        ({"offsets": longs(0, 2)}, "candidates: offsets run from 0 to 2"),
    ],
)
def test_candidates_refuse_what_breaks_their_contract(change, message):
    with pytest.raises(DataError, match=message):
        replace(Candidates(longs(0, 1, 3), ids(7, 8, 9)), **change)


def test_a_score_may_be_infinite_but_never_nan():
    scores = Scores(longs(0, 1, 3), ids(7, 8, 9), floats(1, -np.inf, np.inf))
    assert scores.row(1).tolist() == [-np.inf, np.inf]
    assert len(scores) == 2
    with pytest.raises(DataError, match=r"the score of item 8 \(position 1\) is NaN"):
        replace(scores, values=floats(1, np.nan, 2))
    with pytest.raises(DataError, match=r"scores: values must be float32 \[3\]; got float64"):
        replace(scores, values=np.zeros(3))


def generated_rows() -> Generated:
    return Generated(longs(0, 1), ids(3, 4), ids(0, 1), ids(2, 1), floats(-0.5, np.nan), ("", "seen"))


def test_generated_rows_are_kept_when_they_have_no_reason_against_them():
    assert generated_rows().kept.tolist() == [True, False]
    assert len(generated_rows()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reason": ("",)}, "1 reasons for 2 rows"),
        ({"users": longs(0, -1)}, "generated: user and item ids are dense and 0-based"),
        ({"rank": longs(0, 1)}, "generated: rank must be int32"),
        ({"votes": ids(1)}, r"generated: votes must be int32 \[2\]"),
        ({"log_probability": np.zeros(2)}, "generated: log_probability must be float32"),
    ],
)
def test_generated_rows_refuse_what_breaks_their_contract(change, message):
    with pytest.raises(DataError, match=message):
        replace(generated_rows(), **change)


def test_a_mask_is_true_at_the_given_items_alone():
    assert as_mask([2, 0, 2], 4).tolist() == [True, False, True, False]
    assert as_mask([], 2).tolist() == [False, False]
    for item in (-1, 4):
        with pytest.raises(DataError, match=f"item id {item} at position 1 is outside"):
            as_mask([0, item], 4)


# catalogs, reviews, data sets

FILMS = ItemCatalog(IdMap(("1", "2", "3", "Heat"), "item"), {"title": ["Heat", "Chasing Amy", None, "Heat"]}, 3)


def test_an_item_is_found_by_raw_key_or_by_exact_title_and_the_key_wins():
    assert FILMS.find("3") == 2
    assert FILMS.find("Chasing Amy") == 1
    assert FILMS.find("Heat") == 3


def test_an_ambiguous_title_lists_the_keys_that_carry_it():
    films = replace(FILMS, ids=IdMap(("1", "2", "3", "4"), "item"))
    with pytest.raises(UnknownKeys, match="the title 'Heat' belongs to 2 items; name one by its raw key: '1', '4'"):
        films.find("Heat")


def test_an_unknown_title_names_the_nearest_and_without_titles_the_nearest_key():
    with pytest.raises(UnknownKeys, match="exact title 'chasing amy'; did you mean 'Chasing Amy'"):
        FILMS.find("chasing amy")
    with pytest.raises(UnknownKeys, match="exact title 'chas'; did you mean 'Chasing Amy'"):
        FILMS.find("chas")
    years = ItemCatalog(IdMap(("1", "2", "3")), {"title": ["Alien (1979)", "Alien 3 (1992)", "Heat (1995)"]})
    with pytest.raises(UnknownKeys, match=r"'Alien'; there is: Alien \(1979\), Alien 3 \(1992\)$"):
        years.find("Alien")
    with pytest.raises(UnknownKeys, match=r"exact title ''; there is: Alien \(1979\), Alien 3 \(1992\), Heat"):
        years.find("")
    with pytest.raises(UnknownKeys, match="did you mean 'item-17'"):
        ItemCatalog(IdMap(("item-17", "x"))).find("item-71")


def test_an_item_without_a_title_shows_its_raw_key():
    assert [FILMS.title(item) for item in range(4)] == ["Heat", "Chasing Amy", "[3]", "Heat"]
    assert ItemCatalog(IdMap(("a",))).title(0) == "[a]"


@pytest.mark.parametrize("item", [-1, 4])
def test_no_item_has_no_title(item):
    with pytest.raises(DataError, match=rf"item id {item} is outside 0\.\.3"):
        FILMS.title(item)


def test_a_catalog_counts_all_its_items_as_interacted_unless_told_otherwise():
    assert ItemCatalog(IdMap(("a", "b"))).n_interacted == 2
    assert FILMS.n_interacted == 3
    assert len(FILMS) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": {"title": ["one"]}}, "item field 'title' has 1 values for 4 rows"),
        ({"fields": {"year": [1995, 1997, 1998, 1999]}}, "item field 'year' holds 1995; values are text, or None"),
        ({"n_interacted": 5}, r"n_interacted is 5, wanted 0\.\.4"),
        ({"n_interacted": -2}, "n_interacted is -2"),
    ],
)
def test_catalogs_refuse_what_breaks_their_contract(change, message):
    with pytest.raises(DataError, match=message):
        replace(FILMS, **change)


def test_user_fields_have_one_text_per_user():
    users = UserCatalog(IdMap(("a", "b"), "user"), {"age": ["31", None]})
    assert len(users) == 2
    assert users.fields["age"] == ("31", None)
    with pytest.raises(DataError, match="user field 'age' has 3 values for 2 rows"):
        UserCatalog(users.ids, {"age": ["1", "2", "3"]})


def test_the_digest_of_a_catalog_covers_keys_fields_and_the_cold_boundary_but_not_the_order_of_fields():
    fields = {"title": ["a", "b"], "genre": ["x", None]}
    whole = ItemCatalog(IdMap(("1", "2")), fields)
    assert whole.digest() == replace(whole, fields=dict(reversed(fields.items()))).digest()
    others = [
        replace(whole, ids=IdMap(("2", "1"))),
        replace(whole, fields={"title": ["a", "b"]}),
        replace(whole, fields={**fields, "genre": ["x", ""]}),
        replace(whole, n_interacted=1),
    ]
    assert len({whole.digest(), *(other.digest() for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": longs(0)}, r"reviews: users must be int64 \[2\]; got int64 \[1\]"),
        ({"items": longs(0, 1)}, "reviews: items must be int32"),
        ({"items": ids(0, -1)}, "reviews: user and item ids are dense and 0-based"),
        ({"timestamps": ids(0, 1)}, "reviews: timestamps must be int64"),
    ],
)
def test_reviews_refuse_what_breaks_their_contract(change, message):
    whole = Reviews(longs(0, 1), ids(2, 3), ("good", "bad"))
    assert len(whole) == 2
    assert whole.digest() != replace(whole, texts=("good", "bad ")).digest()
    with pytest.raises(DataError, match=message):
        replace(whole, **change)


def test_a_data_set_refuses_catalogs_of_another_size_than_its_split():
    split = Split(Interactions.sorted([0, 1], [0, 1]), np.zeros(2, np.uint8), "given")
    users, items = UserCatalog(IdMap(("a", "b"))), ItemCatalog(IdMap(("x", "y", "cold")), {}, 2)
    assert Dataset("small", users, items, split).items.n_interacted == 2
    with pytest.raises(DataError, match="1 users in the catalog, 2 in the split"):
        Dataset("small", UserCatalog(IdMap(("a",))), items, split)
    with pytest.raises(DataError, match="3 interacted items in the catalog, 2 in the split"):
        Dataset("small", users, replace(items, n_interacted=3), split)


# embeddings and semantic ids


def test_embeddings_are_finite_float32_rows():
    whole = ItemEmbeddings(np.zeros((3, 2), F32), {"model": "tiny"})
    assert (len(whole), whole.dim) == (3, 2)
    assert whole.digest() == ItemEmbeddings(np.zeros((3, 2), F32)).digest()
    with pytest.raises(DataError, match=r"must be float32 \[n_items, dim\]; got float64 \[3, 2\]"):
        ItemEmbeddings(np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"got float32 \[3\]"):
        ItemEmbeddings(np.zeros(3, F32))
    with pytest.raises(DataError, match="2 item embeddings hold NaN or infinity; the first is item 1"):
        ItemEmbeddings(np.array([[0, 0], [0, np.nan], [np.inf, 0]], F32))


def test_semantic_ids_may_be_shorter_than_the_longest_and_collide():
    made = SemanticIds(np.array([[1, 0, 2], [1, 0, -1], [1, 0, 2], [0, -1, -1]], I32), longs(2, 1, 3))
    assert (len(made), made.levels, made.collisions()) == (4, 3, 1)


@pytest.mark.parametrize(
    ("codes", "vocabulary", "shared", "message"),
    [
        ([[0, 3]], [3, 3], False, r"item 0 has codes \[0, 3\] outside \[3, 3\]"),
        ([[0, 0], [-2, 0]], [3, 3], False, "item 1 has codes"),
        ([[0, 0], [-1, -1]], [3, 3], False, "item 1 .*an id is non-empty"),
        ([[0, -1, 2]], [3, 3, 3], False, "-1 only ends it"),
        ([[0, 1]], [3], False, r"vocabulary must be int64 \[2\]; got int64 \[1\]"),
        ([[0, 1]], [3, 4], True, r"levels that share one vocabulary have one size; got \[3, 4\]"),
        ([0, 1], [3, 3], False, r"codes must be int32 \[n_items, levels\]"),
    ],
)
def test_semantic_ids_refuse_what_breaks_their_contract(codes, vocabulary, shared, message):
    with pytest.raises(DataError, match=message):
        SemanticIds(np.array(codes, I32), np.array(vocabulary, I64), shared)
