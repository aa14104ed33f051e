"""Every physical line of a text table is a row, a blank line or an error that names it."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError
from rec_data import text
from rec_data.faults import Faults
from rec_data.text import read_text_table, text_blocks


@pytest.fixture
def table(tmp_path):
    def read(data: bytes | str, name: str = "ratings.csv", **options):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return read_text_table(path, **options)

    return read


def test_keys_stay_text(table):
    frame = table("user,item\n0012,1e5\n12, x \n").frame
    assert frame.rows() == [("0012", "1e5"), ("12", " x ")]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_byte_order_mark_and_a_missing_last_newline_change_nothing(table, newline):
    lines = ["user,item", "a,b", "c,", "d,é"]
    want = [("a", "b"), ("c", None), ("d", "é")]
    for start in ("", "\ufeff"):
        for end in ("", newline):
            read = table(start + newline.join(lines) + end)
            assert read.frame.columns == ["user", "item"]
            assert read.frame.rows() == want


def test_blank_lines_are_counted_and_line_numbers_stay_physical(table):
    read = table("user,item\na,b\n\n\r\nc,d\n\n")
    assert read.frame.rows() == [("a", "b"), ("c", "d")]
    assert read.blank == 3
    assert [read.line(row) for row in range(2)] == [2, 5]


def test_a_file_without_a_header_takes_the_names_it_is_given(table):
    read = table("1\t2\n3\t4\n", columns=("user", "item"), separator="\t")
    assert read.frame.rows() == [("1", "2"), ("3", "4")]
    assert read.where(1).endswith("ratings.csv, line 2")


def test_gzip_is_unpacked_whatever_the_file_is_called(table):
    assert table(gzip.compress(b"user,item\na,b\n")).frame.rows() == [("a", "b")]


def test_a_few_of_many_columns_are_kept_in_the_order_asked(table):
    data = "a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n,,,,,,\n"
    assert table(data, wanted=lambda names: ["f", "b"]).frame.to_dict(as_series=False) == {
        "f": ["6", None],
        "b": ["2", None],
    }
    with pytest.raises(DataError, match="line 4 has 6 fields, wanted 7"):
        table(data + "1,2,3,4,5,6\n1,2,3,4,5,6,7,8\n", wanted=lambda names: ["f", "b"])


def test_columns_that_are_not_wanted_are_not_kept_and_still_counted(table):
    data = "text,item,user\nhello,i,u\n"
    assert table(data, wanted=lambda names: ["user", "item"]).frame.rows() == [("u", "i")]
    with pytest.raises(DataError, match="line 3 has 2 fields, wanted 3"):
        table(data + "u,i\n", wanted=lambda names: ["user", "item"])
    with pytest.raises(DataError, match="line 3 has 4 fields, wanted 3"):
        table(data + "x,y,u,i\n", wanted=lambda names: ["user", "item"])


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
def test_the_separator_is_guessed_from_the_header(table, separator):
    assert table(separator.join(["user", "item", "a b"]) + "\n" + separator.join("xyz")).frame.rows() == [tuple("xyz")]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("", {}, "is empty"),
        ("\nuser,item\n", {}, "starts with a blank line"),
        ("user\na\n", {}, "has one column only: 'user'; name what separates it with --separator"),
        ("user;item\na;b\n", {"separator": ","}, r"cut at a comma.*separated by a semicolon \(--separator ';'\)"),
        ("user\titem\na\tb\n", {"separator": ","}, r"separated by a tab \(--separator tab\)"),
        ("user,item,user\na,b,c\n", {}, "names column 'user' twice"),
        ("user,item\na,b\nc\n", {}, "line 3 has 1 field, wanted 2: 'c'"),
        ("user,item\na,b\nc,d,e\n", {}, "line 3 has 3 fields, wanted 2: 'c,d,e'"),
        ("u,i,t\na,b\nc,d,e,f\n", {}, "line 2 has 2 fields, wanted 3"),  # one short, one long: the sum is right
        ("u,i,t\n\n\na,b\n", {}, "line 4 has 2 fields, wanted 3"),
        ("u::i::t\na::b\n", {}, "line 2 has 2 fields, wanted 3"),
        ("user,item\na,b\0\n", {}, "line 2 holds a NUL byte"),
        (b"user,caf\xe9\na,b\n", {}, "line 1 is not UTF-8 near 'user,caf"),
        (b"user,item\na,b\nc,caf\xe9\n", {}, r"line 3 is not UTF-8 near 'c,caf.*--encoding latin-1"),
        ("user,item\rA,b\r", {}, "bare carriage returns"),
        (gzip.compress(b"user,item\na,b\n" * 99)[:-9], {}, "is not a whole gzip file"),
        ("1\t2\t3\n", {"columns": ("user", "item"), "separator": "\t"}, "line 1 has 3 fields, wanted 2"),
        ('user,item\na,"b\nc,d\n', {"quotes": True}, "line 2: a quote is unbalanced"),
        ('user,item\na,b\nc,"d"e\n', {"quotes": True}, "line 3: a quote is unbalanced or stands inside a field"),
        ('user,item\n"a,b\nc",d\n', {"quotes": True}, "line 2: a quote opened there goes on to line 3"),
        ('user,item\n"a",b\nc\n', {"quotes": True}, "line 3 has 1 field, wanted 2"),
        ('user::item\n"a"::b\n', {"quotes": True}, "pass --no-quotes"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_place(table, data, options, message):
    with pytest.raises(DataError, match=message):
        table(data, **options)


def test_another_encoding_is_read_when_it_is_named(table):
    assert table("user,item\na,café\n".encode("latin-1"), encoding="latin-1").frame["item"].to_list() == ["café"]
    with pytest.raises(DataError, match="line 2 is not ascii"):
        table("user,item\na,café\n", encoding="ascii")


def test_quotes_protect_separators_and_in_texts_line_ends(table):
    data = 'key,title\n1,"Seven, the ""film"""\n\n2,"two\nlines"\n3,plain\n'
    read = table(data, quotes=True, one_line_rows=False)
    assert read.frame.rows() == [("1", 'Seven, the "film"'), ("2", "two\nlines"), ("3", "plain")]
    assert read.blank == 1
    assert [read.line(row) for row in range(3)] == [2, 4, 6]


def test_quotes_are_ordinary_characters_when_they_are_switched_off(table):
    assert table('key,title\n1,"Weird Al\n', quotes=False).frame.rows() == [("1", '"Weird Al')]


def test_a_field_may_be_longer_than_the_standard_library_allows(table):
    long = "x" * 200_000
    assert table(f'key,title\n1,"{long}"\n', quotes=True).frame["title"].to_list() == [long]


def test_counts_do_not_depend_on_where_a_file_is_cut_into_chunks(table, monkeypatch):
    data = "user,item\n" + "a,b\n" * 50 + "\n" + "c,d\n" * 50 + "e\n"
    for chunk in (3, 4, 5, 7, 64):
        monkeypatch.setattr(text, "BLOCK", chunk)
        with pytest.raises(DataError, match="line 103 has 1 field, wanted 2: 'e'"):
            table(data)
        assert table(data[:-2]).blank == 1


FIELD = st.text(st.characters(exclude_characters="\0\x1f\r\n", exclude_categories=["Cs"]), max_size=6)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=8))
def test_what_the_csv_module_writes_comes_back(tmp_path_factory, rows):
    written = io.StringIO()
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows([("a", "b", "c"), *rows])
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_text(written.getvalue(), encoding="utf-8")
    read = read_text_table(path, separator=",", quotes=True)
    assert read.blank == 0
    assert read.frame.rows() == [tuple(field or None for field in row) for row in rows]


@settings(deadline=None, max_examples=200)
@given(
    body=st.lists(st.sampled_from([b"a", b",", b"\n", b"\r\n", b'"', b"\xc3\xa9", b"\xe9", b"\0", b" "]), max_size=25)
)
@pytest.mark.parametrize("quotes", [False, True])
def test_random_bytes_give_an_error_or_every_line(tmp_path_factory, body, quotes):
    path = tmp_path_factory.mktemp("fuzz") / "table.csv"
    path.write_bytes(b"user,item\n" + b"".join(body))
    try:
        read = read_text_table(path, quotes=quotes)
    except DataError:
        return
    physical = path.read_bytes().removesuffix(b"\n").count(b"\n")
    assert read.frame.height + read.blank == physical


@settings(deadline=None, max_examples=200)
@given(
    body=st.lists(st.sampled_from([b"a", b",", b"\n", b"\r\n", b'"', b"\xc3\xa9", b"\xe9", b"\0", b"\xef\xbb\xbf"])),
    size=st.integers(4, 40),
)
@pytest.mark.parametrize("quotes", [False, True])
def test_lines_that_cannot_be_read_are_left_out_and_counted_when_asked(tmp_path_factory, body, size, quotes):
    path = tmp_path_factory.mktemp("fuzz") / "table.csv"
    path.write_bytes(b"user,item\n" + b"".join(body))
    faults = Faults("drop")
    try:
        blocks = list(text_blocks(path, faults, quotes=quotes, block_bytes=size))
    except DataError:
        if not quotes:
            raise
        return  # nobody can say where a row with an unbalanced quote ends
    rows = sum(block.frame.height for block in blocks)
    assert rows + sum(faults.counts.values()) == path.read_bytes().removesuffix(b"\n").count(b"\n")
    lines = [block.line(row) for block in blocks for row in range(block.frame.height)]
    assert lines == sorted(set(lines))
    for block in blocks:
        for row, fields in enumerate(block.frame.rows()):
            line = path.read_bytes().split(b"\n")[block.line(row) - 1].decode().removesuffix("\r")
            want = next(csv.reader([line], strict=True)) if quotes else line.split(",")
            assert [field or "" for field in fields] == want


def test_blocks_of_a_gzip_file_and_another_encoding_say_the_right_line(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(
        gzip.compress("user;item\n".encode("utf-16") + "".join(f"ü{i};x\n" for i in range(50)).encode("utf-16-le"))
    )
    blocks = list(text_blocks(path, Faults(), encoding="utf-16", block_bytes=33))
    assert len(blocks) > 5
    rows = [(block.line(row), *fields) for block in blocks for row, fields in enumerate(block.frame.rows())]
    assert rows == [(i + 2, f"ü{i}", "x") for i in range(50)]
