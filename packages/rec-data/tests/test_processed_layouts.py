"""Readers of layouts that other programs prepared: every line is a row, a reason, or an error that names it."""

import gzip
import json
import os
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, RecError
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.readers import lines
from rec_data.readers.lc_rec import is_lc_rec, read_lc_rec
from rec_data.readers.lightgcn import is_lightgcn, read_lightgcn
from rec_data.readers.llm_recsys_id import is_llm_recsys_id, read_llm_recsys_id
from rec_data.readers.minionerec import is_minionerec, read_minionerec
from rec_data.readers.next_item_rows import NextItemRows, join_rows
from rec_data.readers.openp5 import is_openp5, read_openp5
from rec_data.readers.recbole import read_recbole
from rec_data.readers.s3rec import is_s3rec, read_s3rec
from rec_data.readers.sasrec import is_sasrec, read_sasrec
from rec_data.readers.selfrec import is_selfrec, read_selfrec

DROP = ReadSettings(bad_rows="drop")


def put(folder: Path, **files: str | bytes) -> Path:
    """Files by name, ``__`` for a dot."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def rows(raw):
    """(user, item) or (user, item, part), in order."""
    columns = ["user", "item", *(["part"] if raw.rows.part is not None else [])]
    return raw.rows.frame().select(columns).rows()


@pytest.fixture
def real() -> Path:
    path = Path(os.environ.get("REC_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not (path / "lastfm-hetrec").is_dir():
        pytest.skip(f"no real data in {path}; REC_TEST_DATA names another folder")
    return path


# --- LightGCN and SELFRec


def test_lightgcn_lines_are_a_user_and_its_items_by_part(tmp_path):
    folder = put(tmp_path / "yelp", train__txt="0 5 7\n1 5\n", valid__txt="0 9\n", test__txt="1 7 8\n")
    assert is_lightgcn(folder)
    assert not is_selfrec(folder)
    raw = read_lightgcn(folder, ReadSettings())
    assert raw.name == "yelp"
    assert rows(raw) == [("0", "5", 0), ("0", "7", 0), ("1", "5", 0), ("0", "9", 1), ("1", "7", 2), ("1", "8", 2)]
    assert raw.facts["rows"] == {"train.txt": 3, "valid.txt": 1, "test.txt": 2}
    assert [file.name for file in raw.files] == ["train.txt", "valid.txt", "test.txt"]


def test_crlf_blank_lines_tabs_double_blanks_and_a_missing_last_line_end_change_nothing(tmp_path):
    plain = put(tmp_path / "a", train__txt="0 5 7\n1 5\n", test__txt="1 7\n")
    other = put(tmp_path / "b", train__txt=b"\xef\xbb\xbf0  5\t7 \r\n\r\n1 5", test__txt=gzip.compress(b"\n1 7\n"))
    (other / "test.txt").rename(other / "test.txt.gz")
    raw = read_lightgcn(other, ReadSettings())
    assert rows(raw) == rows(read_lightgcn(plain, ReadSettings()))
    assert raw.dropped == {"blank_line": 2}
    assert raw.lines == 4 + 2  # events and blank lines


def test_a_user_without_items_is_counted(tmp_path):
    folder = put(tmp_path, train__txt="0 5\n1\n", test__txt="2 \n")
    raw = read_lightgcn(folder, ReadSettings())
    assert rows(raw) == [("0", "5", 0)]
    assert raw.dropped == {"no_items": 2}


def test_raw_keys_come_from_the_lists_beside_lightgcn_lines(tmp_path):
    lists = {
        "user_list__txt": "org_id remap_id\nann lee 0\nbob 1\n",
        "item_list__txt": "org_id remap_id\n0012 5\nB000 7\nnever 8\n",
    }
    folder = put(tmp_path, train__txt="0 5 7\n", test__txt="1 7\n", **lists)
    assert rows(read_lightgcn(folder, ReadSettings())) == [
        ("ann lee", "0012", 0),
        ("ann lee", "B000", 0),
        ("bob", "B000", 2),
    ]
    put(tmp_path, test__txt="1 7\n1 6\n")
    with pytest.raises(DataError, match=r"test\.txt, line 2: item '6' has no raw key in item_list\.txt"):
        read_lightgcn(folder, ReadSettings())
    put(tmp_path, test__txt="1 7\n1 6\n2 7\n")
    raw = read_lightgcn(folder, DROP)
    assert raw.dropped == {"unknown_item": 1, "unknown_user": 1}
    put(tmp_path, item_list__txt="org_id remap_id\n0012 5\nB000 5\n")
    with pytest.raises(DataError, match=r"line 3: item number '5' occurs for the second time \(first: .*line 2\)"):
        read_lightgcn(folder, ReadSettings())
    put(tmp_path, item_list__txt="0012 5\n")
    with pytest.raises(DataError, match=r"item_list\.txt starts with '0012 5'; wanted the header 'org_id remap_id'"):
        read_lightgcn(folder, ReadSettings())


def test_lastfm_triples_carry_the_count_as_rating(tmp_path):
    folder = put(tmp_path, data1__txt="1\t51\t13883\r\n2\t52\t3\r\n", test1__txt="1\t52\t7\r\n")
    assert is_lightgcn(folder)
    raw = read_lightgcn(folder, ReadSettings())
    assert rows(raw) == [("1", "51", 0), ("2", "52", 0), ("1", "52", 2)]
    assert raw.rows.ratings.tolist() == [13883, 3, 7]
    put(tmp_path, test1__txt="1\t52\n")
    with pytest.raises(DataError, match=r"test1\.txt, line 1: 2 fields, wanted 3 \(user item rating\): '1 52'"):
        read_lightgcn(folder, ReadSettings())
    put(tmp_path, test1__txt="1\t52\tmany\n1\t52\n1\t53\t2\n")
    raw = read_lightgcn(folder, DROP)
    assert raw.dropped == {"bad_rating": 1, "wrong_field_count": 1}
    assert len(raw.rows) == 3


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(DataError, match=r"the lightgcn layout has a test\.txt; .* holds: train\.txt"):
        read_lightgcn(put(tmp_path, train__txt="0 1\n"), ReadSettings())


def test_selfrec_graph_lines_are_triples_whose_weight_of_one_is_no_rating(tmp_path):
    folder = put(tmp_path, train__txt="a x 1\na y 1\n", test__txt="b x 1\n")
    assert is_selfrec(folder)
    assert not is_lightgcn(folder)
    raw = read_selfrec(folder, ReadSettings())
    assert rows(raw) == [("a", "x", 0), ("a", "y", 0), ("b", "x", 2)]
    assert raw.rows.ratings is None
    put(tmp_path, test__txt="b x 4\n")
    assert read_selfrec(folder, ReadSettings()).rows.ratings.tolist() == [1, 1, 4]
    put(tmp_path, test__txt="b x y 4\n")
    with pytest.raises(DataError, match=r"test\.txt, line 1: 4 fields, wanted 3"):
        read_selfrec(folder, ReadSettings())


def test_selfrec_sequences_have_a_colon_after_the_user(tmp_path):
    folder = put(tmp_path, train__txt="7:3 1 3\n8:2\n", test__txt="7:9\n")
    assert is_selfrec(folder)
    assert rows(read_selfrec(folder, ReadSettings())) == [
        ("7", "3", 0),
        ("7", "1", 0),
        ("7", "3", 0),
        ("8", "2", 0),
        ("7", "9", 2),
    ]
    for wrong, message in (
        ("7 9\n", "0 colons"),
        ("7:9:9\n", "2 colons"),
        ("7:9\n\n7:8\n", "a second line of user '7'"),
    ):
        put(tmp_path, test__txt=wrong)
        with pytest.raises(DataError, match=message):
            read_selfrec(folder, ReadSettings())
    put(tmp_path, test__txt="7 9\n7:9\n7:8\n\n")
    raw = read_selfrec(folder, DROP)
    assert raw.dropped == {"wrong_field_count": 1, "repeated_user": 1, "blank_line": 1}
    assert len(raw.rows) == 5


# --- one sequence per user


def test_openp5_keeps_text_keys_as_they_are(tmp_path):
    folder = put(tmp_path / "Beauty", user_sequence__txt="ann 0012 12 0012\nbób ü\n")
    assert is_openp5(folder)
    assert is_openp5(folder / "user_sequence.txt")
    raw = read_openp5(folder, ReadSettings())
    assert raw.name == "Beauty"
    assert rows(raw) == [("ann", "0012"), ("ann", "12"), ("ann", "0012"), ("bób", "ü")]
    assert raw.rows.part is None


def test_a_second_line_of_a_user_names_the_first_one_also_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK", 8)
    folder = put(tmp_path, user_sequence__txt="a 1 2\n\nb 3 4\nc 5 6\na 7\n")
    with pytest.raises(DataError, match=r"line 5: a second line of user 'a' \(first: line 1\); a user has one line"):
        read_openp5(folder, ReadSettings())
    raw = read_openp5(folder, DROP)
    assert raw.dropped == {"blank_line": 1, "repeated_user": 1}
    assert rows(raw) == [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4"), ("c", "5"), ("c", "6")]


def test_llm_recsys_id_gets_raw_keys_from_its_maps(tmp_path):
    maps = {"user2id": {"ann": "1", "bob": "2"}, "item2id": {"0012": "1", "B0": "2"}, "id2user": {}, "id2item": {}}
    folder = put(tmp_path, sequential_data__txt="1 2 1\n2 1\n", datamaps__json=json.dumps(maps))
    assert is_llm_recsys_id(folder)
    raw = read_llm_recsys_id(folder, ReadSettings())
    assert rows(raw) == [("ann", "B0"), ("ann", "0012"), ("bob", "0012")]
    (folder / "datamaps.json").unlink()
    assert rows(read_llm_recsys_id(folder, ReadSettings())) == [("1", "2"), ("1", "1"), ("2", "1")]
    put(tmp_path, datamaps__json='{"user2id": {"ann": 1}}')
    with pytest.raises(
        DataError, match=r"datamaps\.json has no object 'item2id' \(raw key -> number\); it has: user2id"
    ):
        read_llm_recsys_id(folder, ReadSettings())


def test_sasrec_pairs_keep_the_order_of_the_file(tmp_path):
    folder = put(tmp_path, Beauty__txt="1 2\n2 1\n1 3\n1 2\n", README__txt="about\n")
    assert is_sasrec(folder)
    assert is_sasrec(folder / "Beauty.txt")
    raw = read_sasrec(folder, ReadSettings())
    assert raw.name == "Beauty"
    assert rows(raw) == [("1", "2"), ("2", "1"), ("1", "3"), ("1", "2")]
    put(tmp_path, Beauty__txt="user item\n1 2\n")
    assert not is_sasrec(folder)
    put(tmp_path, Beauty__txt="1 2\n1\n1 2 3\n")
    with pytest.raises(DataError, match=r"line 2: 1 field, wanted 2 \(user item\): '1' \(1 more row like it\)"):
        read_sasrec(folder, ReadSettings())
    put(tmp_path, more__txt="1 2\n")
    with pytest.raises(DataError, match=r"one sasrec text file; found Beauty\.txt, more\.txt; name one"):
        read_sasrec(folder, ReadSettings())


def test_s3rec_attributes_become_a_list_field(tmp_path):
    folder = put(tmp_path, LastFM__txt="1 2 1\n2 1\n", LastFM_item2attributes__json='{"1": [3, 1], "2": []}')
    assert is_s3rec(folder)
    raw = read_s3rec(folder, ReadSettings())
    assert rows(raw) == [("1", "2"), ("1", "1"), ("2", "1")]
    assert raw.items.to_dict(as_series=False) == {"key": ["1", "2"], "attributes": [["3", "1"], None]}
    put(tmp_path, LastFM_item2attributes__json='{"1": 3}')
    with pytest.raises(DataError, match=r"json: '1' holds a JSON number; wanted the list of its attributes"):
        read_s3rec(folder, ReadSettings())


# --- what every text layout does with damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\nb\x00 2\n", r"line 2 holds a NUL byte"),
        ("a 1\ncafé 2\n".encode("latin-1"), r"line 2 is not UTF-8 near 'caf.*name its encoding \(--encoding latin-1"),
        (b"a 1\rb 2\rc 3", r"line 1 holds a bare carriage return"),
        (b"\x1f\x8b\x08\x00broken", r"is not a whole gzip file"),
    ],
)
def test_damaged_text_is_named(tmp_path, content, message):
    folder = put(tmp_path, user_sequence__txt=content)
    with pytest.raises(DataError, match=message):
        read_openp5(folder, ReadSettings())


def test_damaged_lines_can_be_dropped_and_an_encoding_named(tmp_path):
    folder = put(tmp_path, user_sequence__txt=b"a 1\nb\x00 2\ncaf\xe9 3\nd 4\n")
    raw = read_openp5(folder, DROP)
    assert rows(raw) == [("a", "1"), ("d", "4")]
    assert raw.dropped == {"nul_byte": 1, "wrong_encoding": 1}
    put(tmp_path, user_sequence__txt=b"caf\xe9 3\n")
    assert rows(read_openp5(folder, ReadSettings(encoding="latin-1"))) == [("café", "3")]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_result_does_not_depend_on_the_blocks(tmp_path, monkeypatch, size):
    text = "".join(f"u{u} " + " ".join(f"i{(u * 7 + i) % 11}" for i in range(u % 5)) + "\r\n" for u in range(40))
    folder = put(tmp_path, user_sequence__txt=text)
    whole = read_openp5(folder, ReadSettings())
    monkeypatch.setattr(lines, "BLOCK", size)
    cut = read_openp5(folder, ReadSettings())
    assert cut.rows.frame().equals(whole.rows.frame())
    assert cut.dropped == whole.dropped == {"no_items": 8}
    put(tmp_path, user_sequence__txt=text + "\n\nu1 2\n")
    with pytest.raises(DataError, match=r"line 43: a second line of user 'u1' \(first: line 2\)"):
        read_openp5(folder, ReadSettings())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": [1, 2],\n "1": [3', r"D\.inter\.json, line 2, column 9: .*\(the file is cut off\?\)"),
        ('{"0": [1], "0": [2]}', r"the key '0' occurs twice in one object; one of them would be lost"),
        ("[1]", r"holds a JSON list; wanted one object"),
        ('{"0": {"a": 1}}', r"'0' holds a JSON object; wanted the list of its items"),
        ('{"0": [1], "1": [2, null]}', r"the list of '1' holds None; items are text or whole numbers"),
        ('{"0": [1.5]}', r"the list of '0' holds 1\.5"),
        (b'{"0": ["\xff"]}', r"line 1 is not UTF-8 near byte 8"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_lc_rec(put(tmp_path, D__inter__json=content), ReadSettings())


# --- LC-Rec


def lc_rec(folder: Path, **more: str) -> Path:
    items = {
        "0": {"title": "Pan", "description": "A pan.", "brand": "", "categories": "Kitchen"},
        "1": {"title": "Pot", "description": "", "brand": "Acme", "categories": ["Kitchen", "Pots"]},
        "2": {"title": "Lid", "description": ".", "brand": "", "categories": ""},
    }
    files = {
        "D__inter__json": '{"0": [1, 0, 2], "1": [0, 2, 1, 0], "2": []}',
        "D__item__json": json.dumps(items),
        "D__user2id": "ann lee\t0\nbob\t1\neve\t2\n",
        "D__item2id": "B0\t0\n0012\t1\nB2\t2\n",
    }
    return put(folder, **(files | more))


def test_lc_rec_gives_raw_keys_fields_and_no_parts_of_its_own(tmp_path):
    folder = lc_rec(tmp_path)
    assert is_lc_rec(folder)
    raw = read_lc_rec(folder, ReadSettings())
    assert raw.name == "D"
    assert rows(raw)[:4] == [("ann lee", "0012"), ("ann lee", "B0"), ("ann lee", "B2"), ("bob", "B0")]
    assert raw.dropped == {"no_items": 1}
    assert raw.rows.part is None
    assert raw.items.to_dict(as_series=False) == {
        "key": ["B0", "0012", "B2"],
        "title": ["Pan", "Pot", "Lid"],
        "description": ["A pan.", None, "."],
        "brand": [None, "Acme", None],
        "categories": [["Kitchen"], ["Kitchen", "Pots"], []],
    }


def test_lc_rec_parts_come_from_its_inter_files_and_must_agree(tmp_path):
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    parts = {
        "D__train__inter": header + "1\t0\t2\n",
        "D__valid__inter": header + "0\t1\t0\n1\t0 2\t1\n",
        "D__test__inter": header + "0\t1 0\t2\n1\t0 2 1\t0\n",
    }
    raw = read_lc_rec(lc_rec(tmp_path, **parts), ReadSettings())
    assert rows(raw) == [
        *[("ann lee", "0012", 0), ("ann lee", "B0", 1), ("ann lee", "B2", 2)],
        *[("bob", "B0", 0), ("bob", "B2", 0), ("bob", "0012", 1), ("bob", "B0", 2)],
    ]
    put(tmp_path, D__test__inter=header + "0\t1 0\t1\n1\t0 2 1\t0\n")
    with pytest.raises(
        DataError, match=r"differ: of user '0' the event 1 from the end is item 2 in one and 1 in the other"
    ):
        read_lc_rec(tmp_path, ReadSettings())


def test_lc_rec_reviews_and_preferences(tmp_path):
    more = {
        "D__review__json": json.dumps(
            {"(0, 1)": {"review": "fine", "summary": ""}, "(1, 0)": {"review": "", "summary": "x"}}
        ),
        "D__user__json": json.dumps(
            {"user_explicit_preference": {"1": ["likes pans", "", "lids"]}, "user_vague_intention": {}}
        ),
    }
    raw = read_lc_rec(lc_rec(tmp_path, **more), ReadSettings(reviews=True))
    assert raw.reviews.rows() == [("ann lee", "0012", "fine", None)]
    assert raw.users.rows() == [("bob", "likes pans", None, "lids")]
    assert raw.facts["not_read"] == "user_vague_intention of D.user.json"
    assert read_lc_rec(tmp_path, ReadSettings()).reviews is None
    put(tmp_path, D__review__json='{"0, 1": {"review": "fine"}}')
    with pytest.raises(DataError, match=r"the key '0, 1' is not a pair such as '\(3, 17\)'"):
        read_lc_rec(tmp_path, ReadSettings(reviews=True))


def test_an_index_of_other_items_is_refused_and_semantic_ids_stay_out_of_the_texts(tmp_path):
    index = {"0": ["<a_1>", "<b_2>"], "1": ["<a_1>", "<b_2>"], "2": ["<a_0>", "<b_2>"]}
    raw = read_lc_rec(lc_rec(tmp_path, D__index__json=json.dumps(index)), ReadSettings())
    assert raw.facts["semantic_ids"] == {"file": "D.index.json", "items": 3, "levels": 2, "different": 2}
    assert not any("<a_" in str(value) for row in raw.items.rows() for value in row)
    put(tmp_path, D__index__json=json.dumps({**index, "3": ["<a_1>", "<b_3>"]}))
    with pytest.raises(DataError, match=r"D\.index\.json knows an item '3', unlike the items file \(1 such items\)"):
        read_lc_rec(tmp_path, ReadSettings())


# --- rows of histories


HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def test_recbole_parts_are_read_as_one(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    folder = put(
        tmp_path,
        x__train__inter=header + "a\tp\t1\nb\tq\t1\n",
        x__valid__inter=header + "a\tq\t2\n",
        x__test__inter=header + "\na\tr\t3\n",
        x__item="item_id:token\ttitle:token_seq\np\tA pan\n",
    )
    for path in (folder, folder / "x.valid.inter"):
        raw = read_recbole(path, ReadSettings())
        assert rows(raw) == [("a", "p", 0), ("b", "q", 0), ("a", "q", 1), ("a", "r", 2)]
        assert raw.rows.timestamps.tolist() == [1, 1, 2, 3]
        assert raw.dropped == {"blank_line": 1}
        assert raw.items.rows() == [("p", "A pan")]
        assert raw.name == "x"
    put(tmp_path, x__test__inter="user_id:token\titem_id:token\na\tr\n")
    with pytest.raises(DataError, match="differ in their columns"):
        read_recbole(folder, ReadSettings())
    put(tmp_path, x__test__inter=HEADER + "a\tp q\tr\n")
    with pytest.raises(DataError, match=r"only x\.test\.inter of the parts .* has a column item_id_list"):
        read_recbole(folder, ReadSettings())
    put(tmp_path, x__inter=header)
    with pytest.raises(DataError, match=r"should hold one \.inter file; found x\.inter, x\.test\.inter, .*name one"):
        read_recbole(folder, ReadSettings())


def test_recbole_histories_are_put_together_again(tmp_path):
    folder = put(
        tmp_path,
        x__train__inter=HEADER + "a\tp q\tr\na\tp\tq\nb\t\tp\n",
        x__valid__inter=HEADER + "a\tp q r\ts\n",
        x__test__inter=HEADER + "a\tp q r s\tp\nb\tp\tq\n",
    )
    raw = read_recbole(folder, ReadSettings())
    assert rows(raw) == [
        *[("a", "p", 0), ("a", "q", 0), ("a", "r", 0), ("a", "s", 1), ("a", "p", 2)],
        *[("b", "p", 0), ("b", "q", 2)],
    ]
    assert raw.facts["events_from_histories"] == 1  # a's first


def test_a_title_that_has_its_year_is_not_given_it_again(tmp_path):
    items = "item_id:token\ttitle:token_seq\trelease_year:token\np\tFargo (1996)\t1996\nq\tFargo\t1996\n"
    folder = put(tmp_path, x__inter="user_id:token\titem_id:token\na\tp\n", x__item=items)
    assert read_recbole(folder, ReadSettings()).items["title"].to_list() == ["Fargo (1996)", "Fargo (1996)"]


def joined(table, bad_rows="error"):
    """join_rows over (user, history, target, part) tuples: per user the (item, part) list."""
    users, histories, targets, parts = (list(column) for column in zip(*table, strict=True))
    rows_in = NextItemRows(
        pl.Series(users, dtype=pl.String),
        pl.Series([list(history) for history in histories], dtype=pl.List(pl.String)),
        pl.Series(targets, dtype=pl.String),
        pl.Series(parts, dtype=pl.UInt8).to_numpy(),
        lambda row: f"row {row}",
    )
    faults = Faults(bad_rows)
    made = join_rows(rows_in, faults)
    found = {}
    for user, item, part in made.events.rows():
        found.setdefault(user, []).append((item, part))
    return found, made, faults.counts


def test_histories_before_the_first_row_are_train():
    found, made, _ = joined([("u", "ab", "c", 1), ("u", "abc", "d", 2), ("v", "x", "y", 2)])
    assert found == {"u": [("a", 0), ("b", 0), ("c", 1), ("d", 2)], "v": [("x", 0), ("y", 2)]}
    assert (made.from_histories, made.gaps) == (3, 0)


def test_a_cut_history_that_reaches_further_back_extends_the_beginning():
    table = [("u", "cd", "e", 1), ("u", "abcde", "f", 2), ("v", "rs", "t", 1), ("w", "abcde", "f", 2)]
    found, made, _ = joined(table)  # valid rows are cut to 2 items, test rows to 5
    assert found["u"] == [("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 1), ("f", 2)]
    assert made.gaps == 0


def test_items_between_two_rows_take_the_part_of_the_event_before_them():
    found, made, _ = joined([("u", "a", "b", 0), ("u", "abcd", "e", 2)])
    assert found == {"u": [("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 2)]}
    assert (made.from_histories, made.gaps) == (3, 2)
    found, made, _ = joined([("u", "a", "b", 1), ("u", "abc", "e", 2)])
    assert found["u"] == [("a", 0), ("b", 1), ("c", 1), ("e", 2)]


@pytest.mark.parametrize(
    "second",
    [
        ("u", "abx", "d", 2),  # another last item
        ("u", "xbc", "d", 2),  # another first one
        ("u", "b", "d", 2),  # shorter, though longer ones exist
        ("u", "ab", "c", 2),  # the same row again
    ],
)
def test_rows_that_contradict_each_other_are_named(second):
    table = [("u", "ab", "c", 1), ("v", "mnop", "q", 2), second]
    with pytest.raises(
        DataError, match=r"row 2: the history of user 'u' ends with .*; after row 0 it should end with a, b, c"
    ):
        joined(table)
    found, _, dropped = joined(table, "drop")
    assert found["u"] == [("a", 0), ("b", 0), ("c", 1)]
    assert dropped == {"contradicting_history": 1}


sequences = st.lists(st.lists(st.sampled_from("abcde"), min_size=2, max_size=9), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(sequences=sequences, longest=st.integers(1, 10), backwards=st.booleans(), missing=st.sampled_from([None, 0]))
def test_any_sequences_cut_into_rows_come_back(sequences, longest, backwards, missing):
    table, wanted = [], {}
    for user, items in enumerate(sequences):
        parts = [0] * (len(items) - 2) + [1, 2]
        cut = [(str(user), items[max(at - longest, 0) : at], items[at], parts[at]) for at in range(1, len(items))]
        rows_left = [row for row in cut if row[3] != missing]
        table += reversed(rows_left) if backwards else rows_left
        first = max(len(items) - len(rows_left) - longest, 0)  # what the first row that is left still shows
        shown = items if missing is None else items[first:]
        wanted[str(user)] = list(zip(shown, parts[len(parts) - len(shown) :], strict=True))
        if len(items) == 2:  # its first event is of the valid part, which only the history of its test row shows
            wanted[str(user)][0] = (items[0], 0)
    table.sort(key=lambda row: row[3])
    found, made, _ = joined(table)
    assert found == wanted
    assert made.gaps == 0


def csv_part(*records: tuple[str, str, str, str]) -> str:
    lines_out = ["user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid"]
    return "\n".join([*lines_out, *(f'{u},"[]",{title},"{h}",{i},"[]",<a_1>' for u, h, i, title in records)]) + "\n"


def test_minionerec_rows_items_and_index(tmp_path):
    items = {
        str(i): {"title": f"t{i}", "description": "['One.', ' Two']", "brand": "", "categories": ""} for i in range(4)
    }
    items["3"]["description"] = "['He said 'no'.', 'Two']"
    folder = put(
        tmp_path,
        train__csv=csv_part(("A", "[0]", "1", "t1"), ("A", "[0, 1]", "2", "t2")),
        valid__csv=csv_part(("A", "[0, 1, 2]", "0", "t0")),
        test__csv__gz=gzip.compress(csv_part(("A", "[0, 1, 2, 0]", "1", "t1"), ("B", "[2]", "0", "t0")).encode()),
        D__item__json=json.dumps(items),
        D__index__json=json.dumps({str(i): ["<a_1>", "<b_0>", f"<c_{i}>"] for i in range(4)}),
    )
    assert is_minionerec(folder)
    raw = read_minionerec(folder, ReadSettings())
    assert raw.name == "D"
    assert rows(raw) == [
        *[("A", "0", 0), ("A", "1", 0), ("A", "2", 0), ("A", "0", 1), ("A", "1", 2)],
        *[("B", "2", 0), ("B", "0", 2)],
    ]
    assert raw.items["description"].to_list() == ["One. Two", "One. Two", "One. Two", "He said 'no'. Two"]
    assert raw.facts["semantic_ids"] == {"file": "D.index.json", "items": 4, "levels": 3, "different": 4}
    (folder / "train.csv").unlink()
    assert rows(read_minionerec(folder, ReadSettings())) == rows(raw)  # the histories of valid and test tell train


def test_minionerec_faults_are_named(tmp_path):
    folder = put(
        tmp_path, test__csv=csv_part(("A", "[0]", "1", "t"), ("A", "[0 1]", "2", "t"), ("A", "[0, 1]", "2", "t"))
    )
    with pytest.raises(DataError, match=r"test\.csv, line 3: history_item_id '\[0 1\]' is not a list of item ids"):
        read_minionerec(folder, ReadSettings())
    raw = read_minionerec(folder, DROP)
    assert raw.dropped == {"bad_history": 1}
    assert rows(raw) == [("A", "0", 0), ("A", "1", 2), ("A", "2", 2)]
    put(tmp_path, test__csv=csv_part(("A", "[0]", "1", "t"), ("B", "[5, 6]", "7", "t"), ("A", "[2, 1]", "2", "t")))
    with pytest.raises(DataError, match=r"test\.csv, line 4: the history of user 'A' ends with 2, 1; after .*line 2"):
        read_minionerec(folder, ReadSettings())
    put(tmp_path, test__csv="user_id,item_id\nA,1\n")
    with pytest.raises(DataError, match="no known history_item_id column"):
        read_minionerec(folder, ReadSettings())
    with pytest.raises(DataError, match=r"has no train\.csv, valid\.csv or test\.csv"):
        read_minionerec(put(tmp_path / "empty"), ReadSettings())


def test_an_item_file_of_other_data_is_refused(tmp_path):
    other = json.dumps({str(i): {"title": f"other {i}"} for i in range(3)})
    folder = put(tmp_path, test__csv=csv_part(("A", "[0]", "1", "t1"), ("A", "[0, 1]", "2", "t2")), D__item__json=other)
    with pytest.raises(DataError, match=r"is of other data: item '[12]' is 'other [12]' there and 't[12]' in the rows"):
        read_minionerec(folder, ReadSettings())


# --- whatever the bytes


WHOLE = {
    read_lightgcn: {"train.txt": "0 5 7\n1 5\n", "test.txt": "1 7\n", "item_list.txt": "org_id remap_id\na 5\nb 7\n"},
    read_selfrec: {"train.txt": "a x 1\na y 1\n", "test.txt": "b x 1\n"},
    read_openp5: {"user_sequence.txt": "a x y\nb y\n"},
    read_llm_recsys_id: {
        "sequential_data.txt": "1 2 1\n2 1\n",
        "datamaps.json": '{"user2id": {"a": "1", "b": "2"}, "item2id": {"x": "1", "y": "2"}}',
    },
    read_sasrec: {"x.txt": "1 2\n1 3\n2 2\n"},
    read_s3rec: {"x.txt": "1 2 3\n2 2\n", "x_item2attributes.json": '{"2": [1, 4], "3": []}'},
    read_lc_rec: {
        "D.inter.json": '{"0": [0, 1, 2], "1": [2, 1]}',
        "D.item2id": "a\t0\nb\t1\nc\t2\n",
        "D.item.json": '{"0": {"title": "t", "n": 3, "l": [["a"], "b"]}, "1": {}, "2": {"title": ""}}',
        "D.test.inter": HEADER + "0\t0 1\t2\n1\t2\t1\n",
    },
    read_recbole: {"x.train.inter": HEADER + "0\t0\t1\n", "x.test.inter": HEADER + "0\t0 1\t2\n1\t2\t1\n"},
    read_minionerec: {
        "valid.csv": csv_part(("A", "[0]", "1", "t1")),
        "test.csv": csv_part(("A", "[0, 1]", "2", "t2"), ("B", "[2]", "0", "t0")),
        "D.item.json": '{"0": {"title": "t0", "description": "[\'a\']"}, "1": {"title": "t1"}, "2": {"title": "t2"}}',
        "D.index.json": '{"0": ["<a_1>"], "1": ["<a_2>"], "2": ["<a_2>"]}',
    },
}


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_that_speaks_or_leaves_rows(tmp_path, data):
    read = data.draw(st.sampled_from(list(WHOLE)))
    files = {name: content.encode() for name, content in WHOLE[read].items()}
    name = data.draw(st.sampled_from(sorted(files)))
    start = data.draw(st.integers(0, len(files[name])))
    stop = data.draw(st.integers(start, min(start + 6, len(files[name]))))
    junk = data.draw(
        st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b"\t", b'"', b"[", b":", b"0", b"\r\n", b","])
    )
    files[name] = files[name][:start] + junk + files[name][stop:]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    for file, content in files.items():
        (folder / file).write_bytes(content)
    for chosen in (ReadSettings(), DROP):
        raw, said = None, ""
        try:
            raw = read(folder, chosen)
        except RecError as error:
            said = str(error)
        if raw is None:
            assert str(folder) in said or name.partition(".")[0] in said
        else:
            assert raw.lines == len(raw.rows) + sum(raw.dropped.values())
            assert raw.rows.frame().null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize(
    ("read", "files", "message"),
    [
        (read_openp5, {"user_sequence__txt": ""}, None),
        (read_minionerec, {"test__csv": "user_id,history_item_id,item_id\n"}, None),
        (read_minionerec, {"test__csv": ""}, r"test\.csv is empty"),
        (read_lc_rec, {"D__inter__json": "{}", "D__item__json": "{}", "D__user__json": "{}"}, None),
        (
            read_lc_rec,
            {"D__inter__json": '{"a": [1]}', "D__user2id": ""},
            r"D\.user2id is empty; wanted a line per user",
        ),
        (read_recbole, {"x__train__inter": HEADER}, None),
        (read_recbole, {"x__train__inter": ""}, r"x\.train\.inter is empty"),
    ],
)
def test_nothing_in_a_file_is_no_rows_or_an_error(tmp_path, read, files, message):
    folder = put(tmp_path, **files)
    if message is None:
        assert len(read(folder, ReadSettings()).rows) == 0
    else:
        with pytest.raises(DataError, match=message):
            read(folder, ReadSettings())


# --- real data


def test_real_lastfm_has_the_published_figures(real):
    raw = read_lightgcn(real / "lastfm-hetrec" / "lightgcn-format", ReadSettings())
    assert raw.facts["rows"] == {"data1.txt": 42_135, "test1.txt": 10_533}
    assert (len(raw.rows.user_keys), len(raw.rows.item_keys)) == (1_880, 4_489)
    assert raw.dropped == {}
    assert (raw.rows.ratings.min(), raw.rows.ratings.max()) == (1, 324_660)


def test_real_office_rows_agree_with_each_other(real):
    raw = read_minionerec(real / "amazon-office-2018", ReadSettings())
    assert is_minionerec(real / "amazon-office-2018")
    assert raw.facts["events_between_rows"] == 0
    assert [int((raw.rows.part == part).sum()) for part in range(3)] == [12_715, 4_866, 4_866]
    assert len(raw.rows.user_keys) == 3_231
    assert raw.items.height == 3_459
    assert raw.facts["semantic_ids"] == {
        "file": "Office_Products.index.json",
        "items": 3_459,
        "levels": 3,
        "different": 3_444,
    }
    assert "titles_that_differ" not in raw.facts
