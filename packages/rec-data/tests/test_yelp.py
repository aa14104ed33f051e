"""Yelp: the training set of 2013 and the current dataset."""

import gzip
import json

import pytest

from rec_core.errors import DataError, SettingsError
from rec_data.config import ReadSettings
from rec_data.readers.yelp import read_yelp

ROWS = ["user", "item", "rating", "timestamp"]
EXPECTED = [("u1", "b1", 5.0, 1296000000), ("u2", "b2", 1.0, 1325376000 + 3600)]  # 2011-01-26; 2012-01-01 01:00


def write(path, rows):
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def old(folder, prefix="yelp_training_set_"):
    folder.mkdir()
    reviews = [
        {
            "votes": {"funny": 0},
            "user_id": "u1",
            "review_id": "r1",
            "stars": 5,
            "date": "2011-01-26",
            "text": "good\nfood",
        }
        | {"type": "review", "business_id": "b1"},
        {
            "votes": {"funny": 0},
            "user_id": "u2",
            "stars": 1,
            "date": "2012-01-01 01:00:00",
            "text": "",
            "business_id": "b2",
        },
    ]
    businesses = [
        {"business_id": "b1", "full_address": "1 Main St\nPhoenix", "open": True, "categories": ["Food", "Bars"]}
        | {"city": "Phoenix", "review_count": 3, "name": "Joe's", "neighborhoods": [], "state": "AZ", "stars": 4.0}
        | {"longitude": -112.0, "latitude": 33.6, "type": "business"},
        {
            "business_id": "b2",
            "full_address": "",
            "categories": [],
            "city": "Phoenix",
            "name": "B",
            "neighborhoods": ["N"],
        },
    ]
    write(folder / f"{prefix}review.json", reviews)
    write(folder / f"{prefix}business.json", businesses)
    write(folder / f"{prefix}user.json", [{"user_id": "u1", "name": "Jim"}])
    return folder


def current(folder):
    folder.mkdir()
    reviews = [
        {"review_id": "r1", "user_id": "u1", "business_id": "b1", "stars": 5.0, "useful": 0, "text": "good\nfood"}
        | {"date": "2011-01-26 00:00:00"},
        {"review_id": "r2", "user_id": "u2", "business_id": "b2", "stars": 1.0, "useful": 0, "text": "bad"}
        | {"date": "2012-01-01 01:00:00"},
    ]
    businesses = [
        {"business_id": "b1", "name": "Joe's", "address": "1 Main St", "city": "Phoenix", "state": "AZ", "stars": 4.0}
        | {"categories": "Food, Bars", "attributes": {"WiFi": "free"}, "hours": None, "is_open": 1, "latitude": 33.6},
        {"business_id": "b2", "name": "B", "address": "", "city": "Phoenix", "state": "AZ", "categories": None},
    ]
    write(folder / "yelp_academic_dataset_review.json.gz", reviews)
    write(folder / "yelp_academic_dataset_business.json", businesses)
    return folder


def test_the_training_set_of_2013(tmp_path):
    raw = read_yelp(old(tmp_path / "yelp"), ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == EXPECTED
    assert raw.items.to_dict(as_series=False) == {
        "key": ["b1", "b2"],
        "title": ["Joe's", "B"],
        "categories": [["Food", "Bars"], []],
        "neighborhoods": [[], ["N"]],
        "city": ["Phoenix", "Phoenix"],
        "state": ["AZ", None],
        "address": ["1 Main St\nPhoenix", None],
    }
    assert (raw.facts["source_version"], raw.users, raw.reviews) == ("2013", None, None)
    left_out = ["open", "review_count", "stars", "longitude", "latitude", "type"]
    assert raw.facts["item_fields_left_out"] == left_out
    assert raw.facts["files_not_used"] == ["yelp_training_set_user.json"]


def test_the_current_dataset(tmp_path):
    raw = read_yelp(current(tmp_path / "yelp"), ReadSettings(reviews=True))
    assert raw.rows.frame().select(ROWS).rows() == EXPECTED
    assert raw.items.to_dict(as_series=False) == {
        "key": ["b1", "b2"],
        "title": ["Joe's", "B"],
        "categories": [["Food", "Bars"], None],
        "city": ["Phoenix", "Phoenix"],
        "state": ["AZ", "AZ"],
        "address": ["1 Main St", None],
    }
    assert raw.facts["source_version"] == "current"
    texts = ["good\nfood", "bad"]
    assert raw.reviews.rows() == [(u, i, text, t, r) for (u, i, r, t), text in zip(EXPECTED, texts, strict=True)]


def test_a_review_without_text_is_an_event_all_the_same(tmp_path):
    raw = read_yelp(old(tmp_path / "yelp"), ReadSettings(reviews=True))
    assert (len(raw.rows), raw.reviews["text"].to_list()) == (2, ["good\nfood"])
    assert raw.facts["reviews_without_text"] == 1


def test_files_may_lack_the_prefix_or_be_named(tmp_path):
    folder = old(tmp_path / "yelp", prefix="")
    assert read_yelp(folder, ReadSettings()).facts["source_version"] == "2013"
    assert len(read_yelp(folder / "review.json", ReadSettings()).rows) == 2


def test_the_edition_that_is_named_must_agree(tmp_path):
    with pytest.raises(
        DataError, match=r"looks like the edition 2013 \(votes in one object\), but --source-version says c"
    ):
        read_yelp(old(tmp_path / "old"), ReadSettings(source_version="current"))
    with pytest.raises(DataError, match=r"looks like the edition current .* --source-version says 2013"):
        read_yelp(current(tmp_path / "new"), ReadSettings(source_version="2013"))
    with pytest.raises(SettingsError, match="--source-version of yelp is 2013 or current; got '2014'"):
        read_yelp(tmp_path / "new", ReadSettings(source_version="2014"))


def test_missing_files_and_keys_are_named(tmp_path):
    folder = old(tmp_path / "yelp")
    (folder / "yelp_training_set_business.json").rename(folder / "x.json")
    with pytest.raises(DataError, match=r"has yelp_training_set_review\.json but no yelp_training_set_business\.json"):
        read_yelp(folder, ReadSettings())
    with pytest.raises(DataError, match=r"a directory with yelp_training_set_review\.json .* has no \*review\.json"):
        read_yelp(tmp_path, ReadSettings())
    write(folder / "yelp_training_set_business.json", [{"business_id": "b1"}])
    with pytest.raises(DataError, match="has no 'name', wanted in the yelp layout; it has: 'business_id'"):
        read_yelp(folder, ReadSettings())
    write(
        folder / "yelp_training_set_review.json", [{"user_id": "u", "business": "b", "stars": 1, "date": "2011-01-26"}]
    )
    with pytest.raises(DataError, match=r"has no 'business_id', .*did you mean 'business'"):
        read_yelp(folder, ReadSettings())
