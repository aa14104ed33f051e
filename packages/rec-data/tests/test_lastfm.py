"""Last.fm 2K: plays as ratings, tags as a field of the artists."""

import pytest

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.readers.lastfm import read_lastfm


def folder(path, *, tags=True):
    path.mkdir()
    (path / "user_artists.dat").write_text("userID\tartistID\tweight\n2\t51\t13883\n2\t52\t1\n3\t51\t352698\n")
    (path / "artists.dat").write_text(
        'id\tname\turl\tpictureURL\n51\t"Duran" Duran\tx\t\n52\tעברי לידר\thttp://y\thttp://z\n60\tNo One\tu\t\n',
        encoding="utf-8",
    )
    (path / "user_friends.dat").write_text("userID\tfriendID\n2\t3\n3\t2\n")
    if tags:
        given = [(2, 51, 2), (3, 51, 2), (2, 51, 1), (3, 51, 10), (2, 52, 3), (2, 99, 1), (2, 52, 77)]
        rows = "".join(f"{u}\t{a}\t{t}\t1\t4\t1956\n" for u, a, t in given)
        (path / "user_taggedartists.dat").write_text("userID\tartistID\ttagID\tday\tmonth\tyear\n" + rows)
        (path / "tags.dat").write_text("tagID\ttagValue\n1\tpop\n2\t80s\n3\tmágico\n10\tbest\n", encoding="latin-1")
    return path


def test_plays_are_ratings_and_artists_carry_their_tags(tmp_path):
    raw = read_lastfm(folder(tmp_path / "lastfm"), ReadSettings())
    assert raw.rows.frame().rows() == [("2", "51", 13883.0), ("2", "52", 1.0), ("3", "51", 352698.0)]
    assert raw.rows.timestamps is None
    assert raw.items.rows() == [
        ("51", '"Duran" Duran', ["80s", "pop", "best"]),  # two users gave 80s; then by tag id, 1 before 10
        ("52", "עברי לידר", ["mágico"]),
        ("60", "No One", None),
    ]
    assert raw.facts["tag_rows"] == 7
    assert raw.facts["tag_rows_of_unknown_artists"] == 1
    assert raw.facts["tag_rows_of_unknown_tags"] == 1
    assert raw.facts["files_not_used"] == ["user_friends.dat"]


def test_tags_may_be_absent(tmp_path):
    raw = read_lastfm(folder(tmp_path / "lastfm", tags=False), ReadSettings())
    assert raw.items.columns == ["key", "title"]


def test_another_directory_is_no_lastfm(tmp_path):
    with pytest.raises(DataError, match=r"a directory with user_artists\.dat and artists\.dat; .*it holds: nothing"):
        read_lastfm(tmp_path, ReadSettings())
    path = folder(tmp_path / "lastfm")
    with pytest.raises(DataError, match="it is no directory"):
        read_lastfm(path / "tags.dat", ReadSettings())
    (path / "artists.dat").unlink()
    with pytest.raises(DataError, match=r"there is no file .*artists\.dat"):
        read_lastfm(path, ReadSettings())


def test_the_real_files(real_data):
    if not (real_data / "lastfm-hetrec").is_dir():
        pytest.skip(f"no lastfm-hetrec in {real_data}")
    raw = read_lastfm(real_data / "lastfm-hetrec", ReadSettings(strict=True))
    assert (len(raw.rows), len(raw.rows.user_keys), len(raw.rows.item_keys)) == (92_834, 1_892, 17_632)
    assert (raw.items.height, raw.rows.ratings.min(), raw.rows.ratings.max()) == (17_632, 1, 352_698)
    assert raw.facts["tag_rows"] == 186_479
    assert raw.facts["tag_rows_of_unknown_artists"] == 1_538
    assert "tag_rows_of_unknown_tags" not in raw.facts
