"""The three editions of the Amazon reviews, as the McAuley Lab publishes them."""

import gzip
import json
import logging

import pytest

from rec_core.errors import DataError, SettingsError
from rec_data.config import ReadSettings
from rec_data.readers import read
from rec_data.readers.amazon import read_amazon

USERS = ("A1KLRMWW2FWPL4", "A00126503SUWI86KZBMIN")
ITEMS = ("B0000ABCDE", "0205616461", "978007212X")  # an ASIN and two ISBNs, one with leading zero, one ending in X
PAIRS = [
    (USERS[0], ITEMS[0], 5.0, 1369699200),
    (USERS[0], ITEMS[1], 4.0, 1355443200),
    (USERS[1], ITEMS[2], 1.0, 1404691200),
]
ROWS = ["user", "item", "rating", "timestamp"]


def write(path, *lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def old_review(user, item, rating, time, **more):
    base = {"reviewerID": user, "asin": item, "reviewerName": "J. O'Neil", "overall": rating, "unixReviewTime": time}
    return {**base, "reviewText": f"about {item}", "summary": "ok", "reviewTime": "05 28, 2013", **more}


OLD_METADATA = [  # 2014: Python literals
    {
        "asin": ITEMS[0],
        "title": 'Kid\'s "Pan"',
        "price": 9.99,
        "imUrl": "http://x",
        "related": {"also_bought": [ITEMS[1]]},
        "salesRank": {"Toys": 1},
        "brand": "Acme",
        "categories": [["Toys", "Pans"], ["Home"]],
        "description": "big",
    },
    {"asin": ITEMS[1], "categories": [["Books"]]},
]
MID_METADATA = [  # 2018
    {
        "category": ["Toys", "Pans"],
        "description": ["big", "round"],
        "title": "Pan",
        "also_buy": [ITEMS[1]],
        "brand": "by\n\nAcme",
        "feature": ["steel"],
        "rank": "1 in Toys",
        "main_cat": "Toys",
        "price": "$9.99",
        "asin": ITEMS[0],
        "imageURL": [],
        "details": {"ASIN": "x"},
    },
    {"asin": ITEMS[1], "title": "Book", "price": ".a-box-inner{background-color:#fff}", "category": []},
    {"asin": ITEMS[0], "title": "Pan again"},
]
NEW_METADATA = [  # 2023
    {
        "main_category": "Toys",
        "title": "Pan",
        "average_rating": 4.5,
        "rating_number": 7,
        "features": ["steel"],
        "description": [],
        "price": 9.99,
        "images": [{"large": "x"}],
        "videos": [],
        "store": "Acme",
        "categories": ["Toys", "Pans"],
        "details": {"Best Sellers Rank": {"Toys": 1}},
        "parent_asin": ITEMS[0],
        "bought_together": None,
    },
    {"parent_asin": ITEMS[1], "title": "Book", "price": "—", "categories": [], "store": None},
]


def test_the_ratings_of_2014_are_user_first(tmp_path):
    write(tmp_path / "ratings_Toys.csv", *(f"{u},{i},{r},{t}" for u, i, r, t in PAIRS))
    write(tmp_path / "meta_Toys.json.gz", *map(repr, OLD_METADATA))
    raw = read_amazon(tmp_path, ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    assert raw.facts["source_version"] == "2014"
    assert raw.items.to_dict(as_series=False) == {
        "key": [ITEMS[0], ITEMS[1]],
        "title": ['Kid\'s "Pan"', None],
        "brand": ["Acme", None],
        "categories": [[["Toys", "Pans"], ["Home"]], [["Books"]]],
        "description": ["big", None],
        "price": ["9.99", None],
    }
    assert raw.facts["item_fields_left_out"] == ["imUrl", "related", "salesRank"]
    assert [file.name for file in raw.files] == ["ratings_Toys.csv", "meta_Toys.json.gz"]


def test_the_ratings_of_2018_are_item_first(tmp_path):
    path = write(tmp_path / "Toys.csv", *(f"{i},{u},{r},{t}" for u, i, r, t in PAIRS))
    write(tmp_path / "meta_Toys.json.gz", *map(json.dumps, MID_METADATA))
    write(tmp_path / "meta_Books.json.gz", "{}")
    raw = read_amazon(path, ReadSettings())
    assert raw.name == "Toys"
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    assert raw.facts["source_version"] == "2018"
    assert raw.items.to_dict(as_series=False) == {
        "key": [ITEMS[0], ITEMS[1]],
        "title": ["Pan", "Book"],
        "brand": ["by\n\nAcme", None],
        "main_category": ["Toys", None],
        "categories": [["Toys", "Pans"], []],
        "features": [["steel"], None],
        "description": [["big", "round"], None],
        "price": ["$9.99", None],
    }
    assert raw.facts["item_rows_left_out"] == {"repeated_key": 1}
    assert raw.facts["prices_without_a_number"] == 1
    assert raw.facts["item_fields"] == {"main_category": "main_cat", "categories": "category", "features": "feature"}
    assert raw.facts["files_not_used"] == ["meta_Books.json.gz"]


@pytest.mark.parametrize(("version", "flipped"), [("2014", False), ("2018", True)])
def test_the_edition_that_is_named_must_agree_with_the_order(tmp_path, version, flipped):
    path = write(tmp_path / "x.csv", *(f"{i},{u},{r},{t}" if flipped else f"{u},{i},{r},{t}" for u, i, r, t in PAIRS))
    raw = read_amazon(path, ReadSettings(source_version=version))
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    other = "2018" if version == "2014" else "2014"
    with pytest.raises(DataError, match=f"looks like the edition of {version} .* --source-version says {other}"):
        read_amazon(path, ReadSettings(source_version=other))


def test_an_order_that_does_not_show_has_to_be_named(tmp_path):
    path = write(tmp_path / "x.csv", "u1,i1,5,1369699200", "u2,i2,4,1369699201")
    with pytest.raises(DataError, match="does not show which column is the item; say --source-version 2014"):
        read_amazon(path, ReadSettings())
    rows = read_amazon(path, ReadSettings(source_version="2014")).rows.frame().select("user", "item").rows()
    assert rows == [("u1", "i1"), ("u2", "i2")]
    rows = read_amazon(path, ReadSettings(source_version="2018")).rows.frame().select("user", "item").rows()
    assert rows == [("i1", "u1"), ("i2", "u2")]
    with pytest.raises(SettingsError, match="--source-version of amazon is one of 2014, 2018, 2023; got '2013'"):
        read_amazon(path, ReadSettings(source_version="2013"))


def test_the_csv_of_2023_has_a_header_and_milliseconds(tmp_path):
    path = write(
        tmp_path / "Toys.csv.gz",
        "user_id,parent_asin,rating,timestamp",
        *(f"{u},{i},{r},{t}123" for u, i, r, t in PAIRS),
    )
    raw = read_amazon(path, ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    assert raw.facts["source_version"] == "2023"
    assert raw.facts["timestamp_units"] == {"milliseconds": 3}
    with pytest.raises(DataError, match=r"edition of 2023 \(a header: user_id,parent_asin"):
        read_amazon(path, ReadSettings(source_version="2014"))


def test_the_parts_of_a_split_are_kept(tmp_path):
    header = "user_id,parent_asin,rating,timestamp,history"
    for part, (u, i, r, t) in zip(("train", "valid", "test"), PAIRS, strict=True):
        write(tmp_path / f"Toys.{part}.csv", header, f"{u},{i},{r},{t}000,{ITEMS[0]} {ITEMS[1]}")
    write(tmp_path / "meta_Toys.jsonl", *map(json.dumps, NEW_METADATA))
    for path in (tmp_path, tmp_path / "Toys.valid.csv"):
        raw = read_amazon(path, ReadSettings())
        assert raw.rows.frame().select(*ROWS, "part").rows() == [(*pair, part) for part, pair in enumerate(PAIRS)]
        assert raw.items.to_dict(as_series=False) == {
            "key": [ITEMS[0], ITEMS[1]],
            "title": ["Pan", "Book"],
            "brand": ["Acme", None],
            "main_category": ["Toys", None],
            "categories": [["Toys", "Pans"], []],
            "features": [["steel"], None],
            "description": [[], None],
            "price": ["9.99", None],
        }
    assert raw.facts["item_fields"] == {"brand": "store"}
    assert {"average_rating", "rating_number", "details", "bought_together"} <= set(raw.facts["item_fields_left_out"])
    (tmp_path / "Toys.test.csv").unlink()
    with pytest.raises(DataError, match=r"has Toys\.train\.csv and Toys\.valid\.csv but no Toys\.test\.csv"):
        read_amazon(tmp_path, ReadSettings())


REVIEWS = {
    "2014": [old_review(*pair, helpful=[0, 1]) for pair in PAIRS],
    "2018": [old_review(*pair, verified=True, style={"Size:": "L"}) for pair in PAIRS],
    "2023": [
        {"rating": r, "title": "ok", "text": f"about {i}", "images": [], "asin": "B000VARIANT"[:10], "parent_asin": i}
        | {"user_id": u, "timestamp": t * 1000, "helpful_vote": 0, "verified_purchase": True}
        for u, i, r, t in PAIRS
    ],
}


@pytest.mark.parametrize("version", REVIEWS)
@pytest.mark.parametrize("ending", [".json.gz", ".jsonl"])
def test_reviews_are_read_with_their_texts_on_request(tmp_path, version, ending):
    path = write(tmp_path / f"Toys_5{ending}", *map(json.dumps, REVIEWS[version]))
    raw = read_amazon(path, ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    assert (raw.name, raw.reviews, raw.facts["source_version"]) == ("Toys", None, version)
    raw = read_amazon(path, ReadSettings(reviews=True))
    assert raw.rows.frame().select(ROWS).rows() == PAIRS
    assert raw.reviews.columns == ["user", "item", "text", "summary", "timestamp", "rating"]
    assert raw.reviews.rows() == [(u, i, f"about {i}", "ok", t, r) for u, i, r, t in PAIRS]
    with pytest.raises(DataError, match=f"edition of {version}"):
        read_amazon(path, ReadSettings(source_version="2018" if version != "2018" else "2014"))


def test_reviews_may_be_python_literals(tmp_path):
    path = write(tmp_path / "reviews_Toys.json", *map(repr, REVIEWS["2014"]))
    assert read_amazon(path, ReadSettings()).rows.frame().select(ROWS).rows() == PAIRS


def test_reviews_without_text_or_key_are_counted(tmp_path):
    bare = {key: value for key, value in REVIEWS["2018"][1].items() if key != "reviewText"}
    keyless = {**REVIEWS["2018"][2], "asin": ""}
    path = write(tmp_path / "Toys.json", *map(json.dumps, [REVIEWS["2018"][0], bare, keyless]))
    raw = read_amazon(path, ReadSettings(reviews=True))
    assert (len(raw.rows), raw.dropped) == (2, {"missing_item": 1})
    assert (raw.reviews.height, raw.facts["reviews_without_text"]) == (1, 1)


def test_an_edition_that_does_not_show_is_said(tmp_path):
    path = write(tmp_path / "Toys.json", *(json.dumps(old_review(*pair)) for pair in PAIRS))
    assert read_amazon(path, ReadSettings()).facts["source_version"] == "2014 or 2018"
    assert read_amazon(path, ReadSettings(source_version="2018")).facts["source_version"] == "2018"
    with pytest.raises(DataError, match="--source-version 2023 has user_id and parent_asin"):
        read_amazon(path, ReadSettings(source_version="2023"))


def test_which_file_is_meant_must_be_clear(tmp_path):
    with pytest.raises(DataError, match=r"one file of ratings or reviews in a directory.* has none; it holds: nothing"):
        read_amazon(tmp_path, ReadSettings())
    write(tmp_path / "ratings_Toys.csv", *(f"{u},{i},{r},{t}" for u, i, r, t in PAIRS))
    with pytest.raises(DataError, match="one file of reviews in a directory"):
        read_amazon(tmp_path, ReadSettings(reviews=True))
    with pytest.raises(SettingsError, match=r"--reviews wants the file of reviews \(JSON lines\)"):
        read_amazon(tmp_path / "ratings_Toys.csv", ReadSettings(reviews=True))
    write(tmp_path / "reviews_Toys_5.json", *map(json.dumps, REVIEWS["2014"]))
    with pytest.raises(DataError, match=r"holds ratings_Toys\.csv and reviews_Toys_5\.json; name one of them"):
        read_amazon(tmp_path, ReadSettings())
    assert read_amazon(tmp_path, ReadSettings(reviews=True)).reviews.height == 3
    with pytest.raises(DataError, match="there is no file or directory"):
        read_amazon(tmp_path / "Toys", ReadSettings())


def test_metadata_of_another_edition_are_refused(tmp_path):
    path = write(tmp_path / "Toys.csv", *(f"{i},{u},{r},{t}" for u, i, r, t in PAIRS))
    meta = write(tmp_path / "meta_Toys.json", *map(repr, OLD_METADATA))
    with pytest.raises(
        DataError, match=r"looks like metadata of 2014 .* the interactions are of 2018; .* --items-file"
    ):
        read_amazon(path, ReadSettings())
    assert read_amazon(path, ReadSettings(items_file=meta)).items.height == 2  # meant so
    write(meta, *map(json.dumps, NEW_METADATA))
    with pytest.raises(DataError, match="looks like metadata of 2023"):
        read_amazon(path, ReadSettings(items_file=meta))


def test_a_category_without_metadata_is_said_in_the_log(tmp_path, caplog):
    path = write(tmp_path / "Toys.csv", *(f"{i},{u},{r},{t}" for u, i, r, t in PAIRS))
    write(tmp_path / "meta_Books.json", *map(json.dumps, MID_METADATA))
    with caplog.at_level(logging.WARNING):
        assert read_amazon(path, ReadSettings()).items is None
    assert "no metadata (meta_Toys) beside" in caplog.text


def test_a_broken_line_of_metadata_is_named_or_counted(tmp_path):
    path = write(tmp_path / "Toys.csv", *(f"{i},{u},{r},{t}" for u, i, r, t in PAIRS))
    write(tmp_path / "meta_Toys.json", json.dumps(MID_METADATA[0]), '{"asin": "B0', "", '{"title": "no key"}')
    with pytest.raises(DataError, match=r"meta_Toys\.json, line 2 is neither a JSON object nor a Python literal"):
        read_amazon(path, ReadSettings())
    raw = read_amazon(path, ReadSettings(bad_rows="drop"))
    assert (len(raw.rows), raw.dropped) == (3, {})
    assert raw.facts["item_rows_left_out"] == {"missing_key": 1, "bad_json": 1, "blank_line": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", r"line 1 has 1 field: 'x'; the amazon layout has user,item,rating,timestamp \(2014\)"),
        ("A1KLRMWW2FWPL4,B0000ABCDE,5.0", "line 1 has 3 fields"),
        ("A1KLRMWW2FWPL4,B0000ABCDE,great,1369699200", "rating 'great' is no number"),
    ],
)
def test_a_csv_of_another_form_is_an_error(tmp_path, line, message):
    path = write(tmp_path / "ratings_Toys.csv", line)
    with pytest.raises(DataError, match=message):
        read_amazon(path, ReadSettings())


def test_json_of_another_form_is_an_error(tmp_path):
    path = write(tmp_path / "Toys.json", '{"user": 1, "item": 2}')
    with pytest.raises(DataError, match=r"holds no reviews of the amazon layout .* it has: 'user', 'item'"):
        read_amazon(path, ReadSettings())


def test_the_real_sample_of_2023_as_a_table(real_data):
    folder = real_data / "amazon-2023-small"
    if not folder.is_dir():
        pytest.skip(f"no amazon-2023-small in {real_data}")
    raw = read(folder, ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (25_023, 3_744, 3_700)
    assert raw.items.height == 10_000
    pairs = raw.rows.frame().select("user", "item")
    assert pairs.height - pairs.n_unique() == 588  # repeated pairs
    assert raw.facts["timestamp_units"] == {"milliseconds": 25_023}
    assert (raw.items["price"].null_count(), raw.items["brand"].null_count()) == (6_676, 355)


def test_the_real_beauty_of_2014_as_a_table(real_data):
    folder = real_data / "amazon-beauty-2014"
    if not folder.is_dir():
        pytest.skip(f"no amazon-beauty-2014 in {real_data}")
    raw = read(folder, ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (198_215, 22_332, 12_086)
    assert (raw.rows.timestamps % 86_400 == 0).all()  # days
    assert set(raw.rows.item_keys) == set(raw.items["key"])
    assert raw.rows.frame().select("user", "item").is_duplicated().sum() == 0
