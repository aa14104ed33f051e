"""All editions of MovieLens, as their publisher packs them."""

import gzip
from collections import Counter

import polars as pl
import pytest

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.readers.movielens import AGES, NO_GENRES, OCCUPATIONS, read_movielens

RATINGS = [("1", "10", 5.0, 978300760), ("1", "9", 3.5, 978302109), ("2", "10", 4.0, 978301968)]
ROWS = ["user", "item", "rating", "timestamp"]


def dat(folder, *, users=True, encoding="latin-1"):
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in RATINGS))
    films = f'9::Misérables, Les: The "Film" (1995)::Drama|Musical\n10::Heat (1995)::Action\n11::X::{NO_GENRES}\n'
    (folder / "movies.dat").write_text(films, encoding=encoding)
    if users:
        (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::0::98107-2117\n")
    return folder


def csv(folder, newline="\r\n"):
    folder.mkdir()
    rows = ["userId,movieId,rating,timestamp", *(f"{u},{i},{r},{t}" for u, i, r, t in RATINGS)]
    (folder / "ratings.csv").write_text("".join(row + newline for row in rows), newline="")
    films = [
        "movieId,title,genres",
        '9,"Misérables, Les: The ""Film"" (1995)",Drama|Musical',
        "10,Heat (1995),Action",
        f"11,X,{NO_GENRES}",
    ]
    (folder / "movies.csv").write_text("".join(film + newline for film in films), newline="", encoding="utf-8")
    for name in ("tags.csv", "links.csv", "README.txt"):
        (folder / name).write_text("x\n")
    return folder


FILMS = {
    "key": ["9", "10", "11"],
    "title": ['Misérables, Les: The "Film" (1995)', "Heat (1995)", "X"],
    "release_year": ["1995", "1995", None],
    "genres": ["Drama, Musical", "Action", None],
}


def test_1m_gives_labels_for_the_codes_of_its_users(tmp_path):
    raw = read_movielens(dat(tmp_path / "ml-1m"), ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == RATINGS
    assert raw.items.to_dict(as_series=False) == FILMS
    assert raw.users.rows(named=True) == [
        {"key": "1", "age": "Under 18", "gender": "F", "occupation": "K-12 student", "zip_code": "48067"},
        {"key": "2", "age": "56+", "gender": "M", "occupation": "other", "zip_code": "98107-2117"},
    ]
    assert raw.facts["source_version"] == "1m"
    assert raw.facts["encoding"] == "latin-1"
    assert [file.name for file in raw.files] == ["ratings.dat", "movies.dat", "users.dat"]


def test_10m_is_utf_8_and_has_no_users(tmp_path):
    raw = read_movielens(dat(tmp_path / "ml-10m", users=False, encoding="utf-8"), ReadSettings())
    assert raw.items.to_dict(as_series=False) == FILMS
    assert raw.users is None
    assert (raw.facts["source_version"], raw.facts["encoding"]) == ("10m", "utf-8")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_csv_editions_read_like_the_others(tmp_path, newline):
    raw = read_movielens(csv(tmp_path / "ml-25m", newline), ReadSettings())
    assert raw.rows.frame().select(ROWS).rows() == RATINGS
    assert raw.items.to_dict(as_series=False) == FILMS
    assert raw.facts["files_not_used"] == ["links.csv", "tags.csv"]


@pytest.mark.parametrize(("make", "name"), [(dat, "ratings.dat"), (csv, "ratings.csv")])
def test_gzipped_files_read_the_same(tmp_path, make, name):
    folder = make(tmp_path / "ml")
    plain = read_movielens(folder, ReadSettings())
    (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    (folder / name).unlink()
    packed = read_movielens(folder, ReadSettings())
    assert packed.rows.frame().equals(plain.rows.frame())
    assert packed.files[0].name == f"{name}.gz"


def test_what_belongs_to_no_edition_or_to_two_is_an_error(tmp_path):
    folder = dat(tmp_path / "ml")
    (folder / "u.data").write_text("")
    with pytest.raises(DataError, match=r"one edition in one directory; .* has u\.data and ratings\.dat"):
        read_movielens(folder, ReadSettings())
    with pytest.raises(DataError, match=r"has none of u\.data, ratings\.dat, ratings\.csv; it holds: ml"):
        read_movielens(tmp_path, ReadSettings())
    with pytest.raises(DataError, match="the movielens layout is a directory"):
        read_movielens(folder / "u.data", ReadSettings())
    (folder / "u.data").unlink()
    (folder / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"there is no file .*movies\.dat"):
        read_movielens(folder, ReadSettings())


def test_a_code_without_a_label_is_named(tmp_path):
    folder = dat(tmp_path / "ml")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::57::0::98107\n")
    with pytest.raises(DataError, match=r"users\.dat, line 2: age '57' is none of the codes 1, 18, 25"):
        read_movielens(folder, ReadSettings())
    (folder / "users.dat").write_text("1::F::1::21::48067\n")
    with pytest.raises(DataError, match=r"users\.dat, line 1: occupation '21' is none of the codes 0, 1, 2"):
        read_movielens(folder, ReadSettings())
    assert (len(AGES), len(OCCUPATIONS)) == (7, 21)  # the publisher's README


def test_a_header_without_a_column_is_named(tmp_path):
    folder = csv(tmp_path / "ml")
    (folder / "ratings.csv").write_text("userId,movieID,rating,timestamp\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"has no 'movieId', .*it has: .*; did you mean 'movieID'"):
        read_movielens(folder, ReadSettings())


def test_a_short_row_is_named_or_counted(tmp_path):
    folder = dat(tmp_path / "ml")
    (folder / "ratings.dat").write_text("1::10::5::978300760\n\n1::9::3\n")
    with pytest.raises(DataError, match=r"ratings\.dat, line 3 has 3 fields, wanted 4"):
        read_movielens(folder, ReadSettings())
    raw = read_movielens(folder, ReadSettings(bad_rows="drop"))
    assert (len(raw.rows), raw.dropped) == (1, {"blank_line": 1, "wrong_field_count": 1})


def test_the_real_1m(real_data):
    if not (real_data / "ml-1m").is_dir():
        pytest.skip(f"no ml-1m in {real_data}")
    raw = read_movielens(real_data / "ml-1m", ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (1_000_209, 6_040, 3_706)
    stars = Counter(raw.rows.ratings.tolist())
    assert [stars[star] for star in (1, 2, 3, 4, 5)] == [56_174, 107_557, 261_197, 348_971, 226_310]
    assert (raw.dropped, raw.items.height, raw.users.height) == ({}, 3_883, 6_040)
    assert (int(raw.rows.timestamps.min()), int(raw.rows.timestamps.max())) == (956703932, 1046454590)
    titles = raw.items["title"]
    assert titles.str.contains(r"[^\x00-\x7f]").sum() == 50  # titles with accents
    assert (~raw.users["zip_code"].str.contains(r"^\d{5}$")).sum() == 81
    assert set(raw.users["age"]) == set(AGES.values())
    assert raw.items.null_count().row(0) == (0, 0, 0, 0)
    pairs = raw.rows.frame().select("user", "item")
    assert pairs.n_unique() == pairs.height


def test_the_real_latest_small(real_data):
    if not (real_data / "ml-latest-small").is_dir():
        pytest.skip(f"no ml-latest-small in {real_data}")
    raw = read_movielens(real_data / "ml-latest-small", ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (100_836, 610, 9_724)
    assert (raw.items.height, raw.items["title"].is_duplicated().sum()) == (9_742, 2 * 5)  # 5 titles occur twice
    assert (raw.items["genres"].null_count(), raw.items["release_year"].null_count()) == (34, 13)
    assert (raw.rows.ratings.min(), raw.rows.ratings.max()) == (0.5, 5.0)
    assert raw.items.filter(pl.col("key") == "11")["title"][0] == "American President, The (1995)"


def test_the_real_100k(real_data):
    raw = read_movielens(real_data / "ml-100k", ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (100_000, 943, 1_682)
    assert (raw.items.height, raw.users.height, raw.facts["source_version"]) == (1_682, 943, "100k")
