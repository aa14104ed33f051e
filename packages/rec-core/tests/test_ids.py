"""Raw keys become dense ids once; arrays are hashed by what they hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.errors import DataError, UnknownKeys
from rec_core.types import IdMap
from rec_core.types.ids import array_digest, check_ids, check_offsets, whole_numbers

FILMS = IdMap(("Heat", "Fargo", "Alien"), "item")


def test_ids_follow_the_order_of_the_keys_and_lead_back():
    assert [FILMS.id(key) for key in FILMS.keys] == [0, 1, 2]
    assert FILMS.ids(["Alien", "Heat", "Alien"]).tolist() == [2, 0, 2]
    assert FILMS.ids([]).dtype == np.int64
    assert FILMS.keys_of(np.array([2, 0])) == ["Alien", "Heat"]
    assert len(FILMS) == 3
    assert "Fargo" in FILMS
    assert "fargo" not in FILMS


@given(st.lists(st.text(), unique=True))
def test_every_key_comes_back_from_its_id(keys):
    ids = IdMap(keys)
    assert ids.keys_of(ids.ids(keys)) == keys


def test_an_unknown_key_is_an_error_that_names_the_nearest():
    with pytest.raises(UnknownKeys, match="no item with raw key 'Fargp'; did you mean 'Fargo'"):
        FILMS.id("Fargp")
    with pytest.raises(UnknownKeys, match="no item with raw key 'Xanadu'; there is: Heat, Fargo, Alien"):
        FILMS.ids(["Heat", "Xanadu"])


@pytest.mark.parametrize("item", [-1, 3])
def test_an_id_outside_the_map_has_no_key_and_minus_one_is_not_the_last_item(item):
    with pytest.raises(DataError, match=f"item id {item} at position 1 is outside 0..2"):
        FILMS.keys_of([0, item])


def test_a_key_that_occurs_twice_is_refused_by_name():
    with pytest.raises(DataError, match="raw user 'b' occurs twice in the id map"):
        IdMap(("a", "b", "c", "b", "a"), "user")


@pytest.mark.parametrize("key", [7, None, ["a"]])
def test_a_key_that_is_not_text_is_refused(key):
    with pytest.raises(DataError, match="raw keys are text; got"):
        IdMap(("a", key))


def test_maps_are_equal_when_their_keys_are_in_the_same_order():
    assert IdMap(("a", "b")) == IdMap(("a", "b"), "user")
    assert IdMap(("a", "b")) != IdMap(("b", "a"))


def test_the_digest_knows_where_a_key_ends():
    digests = {IdMap(keys).digest() for keys in [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ("2:ab", "c"), ()]}
    assert len(digests) == 6


def test_the_digest_of_arrays_depends_on_values_dtype_shape_and_absence_alone():
    a = np.arange(6, dtype=np.int32)
    assert array_digest(a) == array_digest(a.astype(">i4")) == array_digest(np.arange(12, dtype=np.int32)[::2] // 2)
    others = [a + 1, a.astype(np.int64), a.reshape(2, 3), a[:0], None]
    assert len({array_digest(a), *(array_digest(other) for other in others)}) == 6
    assert array_digest(a, None) != array_digest(None, a)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([], r"offsets must be int64 \[rows \+ 1\]; got int64 \(0,\)"),
        ([1, 4], "offsets run from 1 to 4, wanted 0 to 4"),
        ([0, 3], "offsets run from 0 to 3, wanted 0 to 4"),
        ([0, 3, 2, 4], r"offsets fall at row 1 \(3 to 2\)"),
    ],
)
def test_offsets_begin_at_zero_never_fall_and_end_at_the_values(offsets, message):
    with pytest.raises(DataError, match=f"^lists: {message}"):
        check_offsets(np.array(offsets, np.int64), 4, "lists")


def test_offsets_of_another_dtype_are_refused():
    with pytest.raises(DataError, match="got int32"):
        check_offsets(np.array([0, 4], np.int32), 4, "lists")


def test_the_first_id_outside_its_universe_is_named():
    with pytest.raises(DataError, match=r"item 9 at position 2 is outside 0\.\.4"):
        check_ids(np.array([0, 4, 9, -1]), 5, "item")
    check_ids(np.array([-1, 4]), 5, "item", least=-1)
    check_ids(np.array([], np.int64), 0, "item")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2**31], "items must fit int32; got 2147483648..2147483648"),
        (np.array([0, -(2**40)]), "items must fit int32; got -1099511627776..0"),
        ([1.5], "items must be whole numbers; got float64"),
        (["7"], "items must be whole numbers; got <U1"),
        ([True], "items must be whole numbers; got bool"),
    ],
)
def test_numbers_that_a_cast_would_wrap_or_cut_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        whole_numbers(values, np.int32, "items")


def test_whole_numbers_of_any_integer_type_are_converted():
    for values in ([], [3, 4], np.array([3, 4], np.uint8), np.array([3, 4], ">i8")):
        converted = whole_numbers(values, np.int32, "items")
        assert converted.dtype == np.dtype(np.int32)
        assert converted.tolist() == list(values)
