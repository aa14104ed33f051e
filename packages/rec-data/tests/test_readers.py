"""Each layout is read whole, and the layouts of one dataset agree."""

import gzip
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rec_core.errors import DataError, RecError, SettingsError
from rec_data.config import ReadSettings
from rec_data.readers import detect_format, read


def test_the_publishers_layout(raw_files):
    raw = read(raw_files.movielens(), ReadSettings())
    assert raw.name == "ml"
    assert raw.lines == len(raw_files.ratings)
    assert raw.rows.frame().select("user", "item", "rating", "timestamp").rows() == raw_files.ratings
    assert raw.items.to_dict(as_series=False) == {
        "key": list(raw_files.films),
        "title": ["Café au Lait (1993)", "Mirage (1995) (V)", "unknown", "Fargo (1996)", "Nobody Saw It (1997)"],
        "release_year": ["1993", "1995", None, "1996", "1997"],
        "genres": ["Comedy", "Action, Thriller", "unknown", "Crime, Drama, Thriller", None],
    }
    assert raw.users.columns == ["key", "age", "gender", "occupation", "zip_code"]
    assert raw.users.rows() == [(key, *rest.split("|")) for key, rest in raw_files.people.items()]
    assert [path.name for path in raw.files] == ["u.data", "u.item", "u.user"]


def test_the_atomic_layout_reads_the_same(raw_files):
    ours, theirs = read(raw_files.movielens(), ReadSettings()), read(raw_files.recbole(), ReadSettings())
    assert ours.rows.frame().equals(theirs.rows.frame().select(ours.rows.columns))
    assert ours.items.equals(theirs.items)
    assert ours.users.equals(theirs.users)


def test_gzipped_ratings_read_the_same(raw_files):
    path = raw_files.movielens()
    plain = read(path, ReadSettings())
    (path / "u.data.gz").write_bytes(gzip.compress((path / "u.data").read_bytes()))
    (path / "u.data").unlink()
    assert read(path, ReadSettings()).rows.frame().equals(plain.rows.frame())


def test_formats_are_detected_by_what_a_directory_holds(raw_files, tmp_path):
    assert detect_format(raw_files.movielens()) == "movielens"
    assert detect_format(raw_files.recbole()) == "recbole"
    assert detect_format(tmp_path / "atomic" / "films.inter") == "recbole"
    assert detect_format(raw_files.csv()) == "table"
    with pytest.raises(DataError, match=r"shows no layout: it holds .*films\.csv.*name the file: .*films\.csv"):
        detect_format(tmp_path)


def test_an_item_described_twice_is_an_error_that_names_both_lines(raw_files):
    path = raw_files.movielens()
    lines = (path / "u.item").read_text("latin-1").splitlines()
    (path / "u.item").write_text("\n".join([*lines, lines[1]]), "latin-1")
    with pytest.raises(DataError, match=r"line 6: raw item key '10' occurs for the second time \(first: .*line 2\)"):
        read(path, ReadSettings())


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("u.data", ("\t100\n", "\tsoon\n"), "u.data, line 1: timestamp 'soon' is no number"),
        ("u.data", ("1\t10\t5\t", "1\t10\tfive\t"), "u.data, line 1: rating 'five' is no number"),
        ("u.data", ("\t", ","), "one column only when it is cut at a tab.*separated by a comma"),
        ("u.item", ("|0|", "|maybe|"), "u.item, line 1: genre flag .* is 'maybe', wanted 0 or 1"),
        ("u.user", ("24|M", "24"), "u.user, line 1 has 4 fields, wanted 5"),
        ("u.user", ("1|24", "|24"), "u.user, line 1: the user has no key"),
    ],
)
def test_a_broken_publishers_file_is_named(raw_files, file, change, message):
    path = raw_files.movielens()
    (path / file).write_text((path / file).read_text("latin-1").replace(*change), "latin-1")
    with pytest.raises(DataError, match=message):
        read(path, ReadSettings())


def test_a_missing_file_is_named(raw_files):
    path = raw_files.movielens()
    (path / "u.user").unlink()
    with pytest.raises(DataError, match=r"there is no file .*u\.user"):
        read(path, ReadSettings())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id\titem_id\trating\ttimestamp", "column 'user_id' of the header is not NAME:TYPE"),
        ("user_id:text\titem_id:token\trating:float\ttimestamp:float", "'user_id:text' of the header is not NAME:TYPE"),
        ("usr_id:token\titem_id:token\trating:float\ttimestamp:float", "no known user column.*did you mean 'usr_id'"),
    ],
)
def test_a_broken_atomic_header_is_named(raw_files, header, message):
    path = raw_files.recbole() / "films.inter"
    path.write_text(header + "\n" + path.read_text().partition("\n")[2])
    with pytest.raises(DataError, match=message):
        read(path, ReadSettings())


def test_two_atomic_datasets_in_one_directory_must_be_told_apart(raw_files):
    path = raw_files.recbole()
    (path / "more.inter").write_text("")
    with pytest.raises(DataError, match=r"should hold one \.inter file; found films\.inter, more\.inter; name one"):
        read(path, ReadSettings())


def test_options_a_layout_cannot_use_are_refused(raw_files):
    path = raw_files.movielens()
    with pytest.raises(SettingsError, match="the movielens layout states its own columns; leave out --user-column"):
        read(path, ReadSettings(user_column="user"))


def table(path: Path, **settings):
    return read(path, ReadSettings(**settings))


def test_a_csv_finds_its_columns_under_usual_names(raw_files):
    raw = table(raw_files.csv())
    assert raw.name == "films"
    assert raw.facts["columns"] == {"user": "userId", "item": "movieId", "timestamp": "timestamp", "rating": "rating"}
    assert raw.rows.frame().select("user", "item", "rating", "timestamp").rows() == raw_files.ratings


def test_columns_can_be_named_and_left_out(raw_files, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text("when\twho\twhat\tuser\n2014-03-01\tann\t0012\tx\n2014-03-02\tbob\t12\ty\n")
    raw = table(path, user_column="who", item_column="what", timestamp_column="when")
    assert raw.rows.frame().rows() == [("ann", "0012", 1393632000), ("bob", "12", 1393718400)]
    assert raw.facts["timestamp_units"] == {"iso": 2}
    assert table(path, item_column="what").rows.columns == ["user", "item"]
    csv = raw_files.csv()
    assert table(csv, timestamp_column="none", rating_column="none").rows.columns == ["user", "item"]


def test_parquet_reads_like_its_csv(raw_files, tmp_path):
    csv = raw_files.csv()
    pl.read_csv(csv).write_parquet(tmp_path / "films.parquet")
    assert table(tmp_path / "films.parquet").rows.frame().equals(table(csv).rows.frame())
    (tmp_path / "films.parquet").write_bytes((tmp_path / "films.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"films\.parquet is not a whole Parquet file"):
        table(tmp_path / "films.parquet")


def test_rows_without_a_key_and_blank_lines_are_left_out_and_counted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item\na,b\n,b\n\na,\n,\nc,d\n")
    raw = table(path)
    assert raw.rows.frame().rows() == [("a", "b"), ("c", "d")]
    assert raw.dropped == {"missing_user": 2, "missing_item": 1, "blank_line": 1}
    assert raw.lines == 6


def test_an_items_file_gives_titles_and_text_fields(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item\na,1\n")
    items = tmp_path / "items.csv"
    items.write_text('asin,name,brand,title\n1,"Pan, big",Acme,old\n2,Pot,,old\n')
    raw = table(log, items_file=items, title_column="name")
    assert raw.items.to_dict(as_series=False) == {
        "key": ["1", "2"],
        "title": ["Pan, big", "Pot"],
        "brand": ["Acme", None],
    }
    pl.DataFrame({"id": [1, 2], "tags": [["a", "b"], []], "price": [1.5, None]}).write_parquet(tmp_path / "i.parquet")
    raw = table(log, items_file=tmp_path / "i.parquet", item_key="id")
    assert raw.items.to_dict(as_series=False) == {
        "key": ["1", "2"],
        "tags": [["a", "b"], []],
        "price": ["1.5", None],
    }
    items.write_text("asin,name\n1,a\n2,b\n1,c\n")
    with pytest.raises(DataError, match=r"line 4: raw item key '1' occurs for the second time \(first: .*line 2\)"):
        table(log, items_file=items)


def test_a_users_file_gives_profile_fields(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item\na,1\n")
    users = tmp_path / "users.csv"
    users.write_text("id,age\na,24\n")
    raw = table(log, users_file=users, user_key="id")
    assert raw.users.rows() == [("a", "24")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user_column": "userid"}, "has no column 'userid' .user.; it has: 'userId', .*did you mean 'userId'"),
        ({"rating_column": "stars"}, "has no column 'stars' .rating."),
        ({"user_column": "movieId", "item_column": "movieId"}, "one column cannot be two things"),
        ({"separator": ";"}, "one column only when it is cut at a semicolon.*separated by a comma"),
    ],
)
def test_a_wrong_mapping_names_what_there_is(raw_files, settings, message):
    with pytest.raises(DataError, match=message):
        table(raw_files.csv(), **settings)


def test_settings_that_hang_in_the_air_are_refused():
    with pytest.raises(SettingsError, match="name that file too"):
        ReadSettings(item_key="asin")
    with pytest.raises(SettingsError, match=r"--format is one of auto, movielens, .*; got 'movielen'"):
        replace(ReadSettings(), format="movielen")


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compression=st.sampled_from(["uncompressed", "snappy", "zstd"]))
def test_a_damaged_parquet_file_is_an_error_or_whole(tmp_path, data, compression):
    path = tmp_path / "log.parquet"
    log = pl.DataFrame({"user_id": [f"u{i % 7}" for i in range(60)], "item_id": range(60), "timestamp": range(60)})
    log.write_parquet(path, row_group_size=20, compression=compression)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                damaged[at] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[at : at + data.draw(st.integers(1, 9))]
            case "insert":
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    path.write_bytes(damaged)
    try:
        raw = read(path, ReadSettings())
    except RecError:
        return
    assert raw.lines == 60


def test_text_that_is_no_utf8_inside_parquet_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": ["ann"], "item": ["b"]}).write_parquet(path, compression="uncompressed", statistics=False)
    path.write_bytes(path.read_bytes().replace(b"ann", b"an\xff"))
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        read(path, ReadSettings())
