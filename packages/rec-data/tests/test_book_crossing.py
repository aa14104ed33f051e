"""Book-Crossing: the dump and what others made of it."""

import csv
import gzip
import io

import polars as pl
import pytest

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.readers.book_crossing import age_group, country_of, read_book_crossing

RATINGS = [("276725", "034545104X", 0.0), ("276726", "0155061224", 5.0), ("276726", '"8804501367"', 10.0)]


def dump(folder, *, header=True, crlf=True):
    """As dumped: every field quoted, quotes escaped by backslashes, latin-1, entities with semicolons."""
    folder.mkdir()
    end = "\r\n" if crlf else "\n"
    ratings = ['"User-ID";"ISBN";"Book-Rating"'] * header
    ratings += [r'"276725";"034545104X";"0"', r'"276726";"0155061224";"5"', r'"276726";"\"8804501367\"";"10"']
    (folder / "BX-Book-Ratings.csv").write_bytes(end.join(ratings).encode())  # no newline at the end
    urls = '"http://s";"http://m";"http://l"'
    books = [
        '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S";"Image-URL-M";"Image-URL-L"'
    ]
    books = books * header + [
        rf'"034545104X";"Flesh &amp; \"Blood\", Æon\\";"M. Núñez";"1999";"Knopf";{urls}',
        rf'"0155061224";"R";"n/a";"0";"N/A";{urls}',
        rf'"078946697X";"DK Readers (Level 4)\";Michael Teitelbaum";"2000";"DK Publishing Inc";{urls}',
        rf'"000000000X";"– dash";"x";"19x";"y";{urls}',
    ]
    (folder / "BX-Books.csv").write_bytes("".join(row + end for row in books).encode("cp1252"))
    users = ['"User-ID";"Location";"Age"'] * header
    users += ['"276725";"méxico, , méxico";NULL', '"276726";"st. john\'s, newfoundland, canada";"18"']
    users += ['"5";"x";"244"', '"6";"a, b, c, usa";"0"', '"7";"lagos, nigeria";"60"']
    (folder / "BX-Users.csv").write_bytes("".join(row + end for row in users).encode("latin-1"))
    return folder


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("crlf", [True, False])
def test_the_dump(tmp_path, header, crlf):
    raw = read_book_crossing(dump(tmp_path / "bx", header=header, crlf=crlf), ReadSettings(strict=True))
    assert raw.rows.frame().rows() == RATINGS
    assert (raw.rows.timestamps, raw.dropped, raw.facts["rows_with_rating_0"]) == (None, {}, 1)
    assert raw.items.rows() == [
        ("034545104X", 'Flesh &amp; "Blood", Æon\\', "M. Núñez", "1999", "Knopf"),
        ("0155061224", "R", None, None, None),
        ("078946697X", "DK Readers (Level 4)", "Michael Teitelbaum", "2000", "DK Publishing Inc"),
        ("000000000X", "– dash", "x", None, "y"),
    ]
    assert raw.items.columns == ["key", "title", "author", "year", "publisher"]
    assert raw.users.rows(named=True) == [
        {"key": "276725", "location": "méxico, , méxico", "city": "méxico", "state": None, "country": "Mexico"}
        | {"age": None, "age_group": "unknown"},
        {"key": "276726", "location": "st. john's, newfoundland, canada", "city": "st. john's", "state": "newfoundland"}
        | {"country": "Canada", "age": "18", "age_group": "18-24"},
        {"key": "5", "location": "x", "city": None, "state": None, "country": "unknown", "age": "244"}
        | {"age_group": "unknown"},
        {"key": "6", "location": "a, b, c, usa", "city": "a, b", "state": "c", "country": "USA", "age": "0"}
        | {"age_group": "unknown"},
        {"key": "7", "location": "lagos, nigeria", "city": "lagos", "state": None, "country": "Nigeria", "age": "60"}
        | {"age_group": "60+"},
    ]
    assert raw.facts["encoding"]["BX-Books.csv"] == "cp1252"
    assert raw.facts["texts_with_mended_quotes"] == 1
    assert raw.facts["item_fields_left_out"] == ["image_s", "image_m", "image_l"]


def subset(folder):
    """Re-exported by a reader that did not know the escapes."""
    folder.mkdir()
    (folder / "BX-Ratings.csv.gz").write_bytes(
        gzip.compress(b"User-ID,ISBN,Book-Rating\n8,0449003787,7\n9,002005018x,5")
    )
    books = [
        "ISBN,Book-Title,Book-Author,Year-Of-Publication,Book-Publisher",
        r'0449003787,"\O\"" Is for Outlaw""",SUE GRAFTON,2001,"Ballantine, Books"',
        "002005018x,Das Mädchen,B,0,C",
    ]
    (folder / "BX-Books.csv").write_text("\n".join(books), encoding="utf-8")
    users = [
        "User-ID,User-City,User-State,User-Country,User-Age",
        '8,timmins, ontario," canada""",',
        r'9,zurich," \""n/a\"""," switzerland""","14"""',
    ]
    (folder / "BX-Users.csv").write_text("\n".join(users))
    return folder


def test_the_subset_with_stray_quotes(tmp_path):
    raw = read_book_crossing(subset(tmp_path / "bx"), ReadSettings())
    assert raw.rows.frame().rows() == [("8", "0449003787", 7.0), ("9", "002005018x", 5.0)]
    assert raw.items.rows() == [
        ("0449003787", '"O" Is for Outlaw', "SUE GRAFTON", "2001", "Ballantine, Books"),
        ("002005018x", "Das Mädchen", "B", None, "C"),
    ]
    assert raw.users.rows() == [
        ("8", "timmins, ontario, canada", "timmins", "ontario", "Canada", None, "unknown"),
        ("9", "zurich, , switzerland", "zurich", None, "Switzerland", "14", "under 18"),
    ]


def test_a_second_set_is_read_when_its_ratings_are_named(tmp_path):
    folder = subset(tmp_path / "bx")
    (folder / "BX-NewBooksRatings.csv").write_text("User-ID,ISBN,Book-Rating\n8,1,7\n")
    (folder / "BX-NewBooks.csv").write_text(
        "ISBN,Book-Title,Book-Author,Year-Of-Publication,Book-Publisher\n1,t,a,1999,p\n"
    )
    raw = read_book_crossing(folder / "BX-NewBooksRatings.csv", ReadSettings())
    assert (len(raw.rows), raw.items["title"].to_list(), raw.users) == (1, ["t"], None)
    assert len(read_book_crossing(folder, ReadSettings()).rows) == 2


def test_countries_are_told_from_the_last_part():
    given = [
        "usa",
        " U.S.A.",
        'united kingdom"',
        "england",
        "españa",
        "",
        "x",
        "a@b",
        "n/a",
        "??",
        "&#304;stanbul",
        None,
    ]
    expected = ["USA", "USA", "UK", "England", "Spain", *["unknown"] * 7]
    assert pl.select(country_of(pl.lit(pl.Series(given, dtype=pl.String)))).to_series().to_list() == expected


def test_ages_fall_into_eleven_groups():
    ages = ["4", "5", "17", "18", "24", "25", "29", "54", "55", "59", "60", "100", "101", "x", None]
    groups = pl.select(age_group(pl.lit(pl.Series(ages, dtype=pl.String)))).to_series().to_list()
    young, old = ["unknown", "under 18", "under 18", "18-24", "18-24", "25-29", "25-29"], ["50-54", "55-59", "55-59"]
    assert groups == [*young, *old, "60+", "60+", "unknown", "unknown", "unknown"]
    every = pl.select(age_group(pl.lit(pl.Series(map(str, range(120)), dtype=pl.String)))).to_series()
    assert every.n_unique() == 11  # unknown, under 18, 18-24, seven of five years, 60+


@pytest.mark.parametrize(
    ("line", "message", "reason"),
    [
        ('"1";"2"', "line 3 has 2 fields, wanted 3: ", "wrong_field_count"),
        ('"1";"2;"3"', "line 3 has an unbalanced quote, or one inside a field", "unbalanced_quote"),
        ('"1";"2', "line 3 has an unbalanced quote", "unbalanced_quote"),
        ('"1";"2\0";"3"', "line 3 holds a NUL byte", "nul_byte"),
        ('"1";"2";"great"', "line 3: rating 'great' is no number", "bad_rating"),
    ],
)
def test_a_broken_line_is_named_or_counted_and_cannot_swallow_the_next(tmp_path, line, message, reason):
    folder = dump(tmp_path / "bx")
    path = folder / "BX-Book-Ratings.csv"
    path.write_text(f'"User-ID";"ISBN";"Book-Rating"\n"1";"0155061224";"5"\n{line}\n"2";"0155061224";"5"\n')
    with pytest.raises(DataError, match=message):
        read_book_crossing(folder, ReadSettings())
    raw = read_book_crossing(folder, ReadSettings(bad_rows="drop"))
    assert (len(raw.rows), raw.dropped) == (2, {reason: 1})


def test_missing_files_and_other_headers_are_named(tmp_path):
    folder = dump(tmp_path / "bx")
    with pytest.raises(DataError, match=r"a directory with BX-Book-Ratings\.csv or .*it holds: bx"):
        read_book_crossing(tmp_path, ReadSettings())
    (folder / "BX-Ratings.csv").write_text("x")
    with pytest.raises(DataError, match=r"it has BX-Book-Ratings\.csv and BX-Ratings\.csv; name one of them"):
        read_book_crossing(folder, ReadSettings())
    (folder / "BX-Ratings.csv").unlink()
    (folder / "BX-Book-Ratings.csv").write_text("ISBN;User-ID;Book-Rating\n1;2;3\n")
    with pytest.raises(DataError, match="the header has 'ISBN' where user was wanted"):
        read_book_crossing(folder, ReadSettings())
    (folder / "BX-Book-Ratings.csv").write_text("a;b\n")
    with pytest.raises(DataError, match="line 1 has 2 fields cut at ';': 'a;b'; wanted user, item, rating"):
        read_book_crossing(folder, ReadSettings())
    (folder / "BX-Books.csv").unlink()
    with pytest.raises(DataError, match=r"has BX-Book-Ratings\.csv but no BX-Books\.csv"):
        read_book_crossing(folder, ReadSettings())


def the_real(real_data, *names):
    if not (real_data / "book-crossing").is_dir():
        pytest.skip(f"no book-crossing in {real_data}")
    return real_data.joinpath("book-crossing", *names)


def test_the_real_subset(real_data):
    raw = read_book_crossing(the_real(real_data), ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (204_164, 48_299, 18_185)
    assert (raw.items.height, raw.users.height, raw.facts["rows_with_rating_0"]) == (18_185, 48_299, 0)
    assert (raw.items["year"].null_count(), raw.users["age"].null_count()) == (314, 18_952)
    assert raw.items.filter(pl.col("key").str.ends_with("x")).height == 1
    frame = raw.rows.frame()
    assert frame["item"].value_counts()["count"].min() == 4
    assert set(raw.rows.item_keys) == set(raw.items["key"])
    assert set(raw.rows.user_keys) == set(raw.users["key"])
    assert not raw.users["country"].str.contains('"').any()
    assert raw.users["age"].drop_nulls().cast(pl.Int64).max() == 244


def test_the_real_second_set(real_data):
    raw = read_book_crossing(the_real(real_data, "BX-NewBooksRatings.csv"), ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (26_772, 11_980, 8_924)
    assert (raw.items.height, raw.users.height) == (8_924, 8_520)


def test_the_real_pieces_of_the_dump(real_data):
    folder = the_real(real_data, "dump-format")
    raw = read_book_crossing(folder, ReadSettings(strict=True))
    text = gzip.decompress((folder / "BX-Book-Ratings.csv.gz").read_bytes()).decode("latin-1")
    plain = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=";", escapechar="\\")]
    assert [(u, i, f"{r:g}") for u, i, r in raw.rows.frame().rows()] == plain
    assert (len(raw.rows), len(raw.rows.user_keys)) == (39_268, 4_287)
    assert round(raw.facts["rows_with_rating_0"] / 39_268, 3) == 0.615
    assert (raw.items.height, raw.users.height) == (15_780, 99_999)
    assert round(raw.users["age"].null_count() / 99_999, 2) == 0.40
    joined = raw.rows.frame()["item"].is_in(raw.items["key"].implode())
    assert round(float(joined.mean()), 3) == 0.445
    assert set(raw.rows.user_keys) <= set(raw.users["key"])
