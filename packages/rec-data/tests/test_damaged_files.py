"""Whatever happens to the bytes of a publisher's files: an error that says so, or every line accounted for."""

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rec_core.errors import RecError
from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.amazon import read_amazon
from rec_data.readers.book_crossing import read_book_crossing
from rec_data.readers.huggingface import read_huggingface
from rec_data.readers.lastfm import read_lastfm
from rec_data.readers.movielens import GENRES, read_movielens
from rec_data.readers.steam import read_steam
from rec_data.readers.yelp import read_yelp

Files = dict[str, bytes]  # the first holds the interactions


@dataclass(frozen=True)
class Source:
    """A small valid set of files and its reader; the first line is no row while it has a name of the ``header``."""

    read: Callable[[Path, ReadSettings], RawData]
    files: Files
    header: frozenset[str] = frozenset()
    reviews: bool = False


def lines(rows: Sequence[object]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def crlf(rows: Sequence[object]) -> bytes:
    return "".join(f"{row}\r\n" for row in rows).encode()


def packed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


PAIRS = [(u, i) for u in range(4) for i in range(3)]
ASIN = "B00000000{}".format
FLAGS = "|".join("1" if genre in ("Comedy", "Drama") else "0" for genre in GENRES)
OLD_REVIEWS = [
    {
        "reviewerID": f"A{u:013}",
        "asin": ASIN(i),
        "helpful": [0, 1],
        "reviewText": f'so "{u}" it\'s \\ café',
        "overall": 4.5,
        "summary": "ok",
        "unixReviewTime": 1400000000 + u,
    }
    for u, i in PAIRS
]
OLD_METADATA = [
    {"asin": ASIN(i), "title": 'it\'s \\ "a" café', "categories": [["Beauty", "Hair"]], "price": 9.5} for i in range(3)
]
NEW_REVIEWS = [
    {
        "user_id": f"AE{u}",
        "parent_asin": ASIN(i),
        "asin": ASIN(i),
        "rating": 5.0,
        "title": "t",
        "text": "😀",
        "timestamp": 1600000000000 + u,
    }
    for u, i in PAIRS
]
NEW_METADATA = [
    {"parent_asin": ASIN(i), "title": f"t{i}", "categories": ["a"], "details": {"a": [1]}, "price": None}
    for i in range(3)
]
YELP = [{"user_id": f"u{u}", "business_id": f"b{i}", "stars": 4, "date": "2012-01-02", "votes": {}} for u, i in PAIRS]
BUSINESSES = [{"business_id": f"b{i}", "name": f"n{i}", "categories": ["a", "b"], "city": "c"} for i in range(3)]
STEAM = [
    {"username": f"it's {u}", "product_id": str(i), "date": "2017-12-17", "text": 'a\n"b" \xe9', "early_access": False}
    for u, i in PAIRS
]
GAMES = [{"id": str(i), "app_name": f"g{i}", "genres": ["a"], "price": None} for i in range(3)]

SOURCES = {
    "100k": Source(
        read_movielens,
        {
            "u.data": lines([f"{u}\t{i}\t5\t88{u}" for u, i in PAIRS]),
            "u.item": "".join(f"{i}|Amélie {i} (1995)|01-Jan-1995||x|{FLAGS}\n" for i in range(3)).encode("latin-1"),
            "u.user": lines([f"{u}|24|M|writer|00501" for u in range(4)]),
        },
    ),
    "1m": Source(
        read_movielens,
        {
            "ratings.dat.gz": packed(lines([f"{u}::{i}::5::88{u}" for u, i in PAIRS])),
            "movies.dat": "".join(f"{i}::Amélie: {i} (1995)::Comedy|Drama\n" for i in range(3)).encode("latin-1"),
            "users.dat": lines([f"{u}::M::25::3::00501" for u in range(4)]),
        },
    ),
    "latest": Source(
        read_movielens,
        {
            "ratings.csv": crlf(["userId,movieId,rating,timestamp", *(f"{u},{i},4.5,9{u}" for u, i in PAIRS)]),
            "movies.csv": crlf(["movieId,title,genres", *(f'{i},"A, ""b"" (1995)",Comedy' for i in range(3))]),
        },
        header=frozenset({"userId"}),
    ),
    "amazon ratings": Source(
        read_amazon,
        {
            "ratings_Toys.csv": lines([f"A{u:013},{ASIN(i)},5.0,140000000{u}" for u, i in PAIRS]),
            "meta_Toys.json.gz": packed(lines([repr(row) for row in OLD_METADATA])),
        },
    ),
    "amazon 2014": Source(
        read_amazon,
        {
            "reviews_Toys.json.gz": packed(lines([json.dumps(row) for row in OLD_REVIEWS])),
            "meta_Toys.json": lines([repr(row) for row in OLD_METADATA]),
        },
        reviews=True,
    ),
    "amazon 2014, literals": Source(
        read_amazon,
        {"reviews_Toys.json": lines([repr(row) for row in OLD_REVIEWS])},
        reviews=True,
    ),
    "amazon 2023": Source(
        read_amazon,
        {
            "Toys.jsonl": lines([json.dumps(row) for row in NEW_REVIEWS]),
            "meta_Toys.jsonl": lines([json.dumps(row) for row in NEW_METADATA]),
        },
        reviews=True,
    ),
    "amazon 2023 csv": Source(
        read_amazon,
        {
            "Toys.csv": lines(
                ["user_id,parent_asin,rating,timestamp", *(f"A{u},{ASIN(i)},5.0,160000000000{u}" for u, i in PAIRS)]
            )
        },
        header=frozenset({"user_id", "parent_asin"}),
    ),
    "yelp": Source(
        read_yelp,
        {
            "yelp_training_set_review.json": lines([json.dumps(row) for row in YELP]),
            "yelp_training_set_business.json": lines([json.dumps(row) for row in BUSINESSES]),
        },
    ),
    "book-crossing": Source(
        read_book_crossing,
        {
            "BX-Book-Ratings.csv.gz": packed(crlf([f'"{u}";"00{i}X";"{i}"' for u, i in PAIRS])),
            "BX-Books.csv": "".join(f'"00{i}X";"\\"É\\" &amp; b";"c";"1999";"d"\n' for i in range(3)).encode("latin-1"),
            "BX-Users.csv": lines(["User-ID;Location;Age", *(f'{u};"a, \\b\\"", c""";NULL' for u in range(4))]),
        },
    ),
    "steam": Source(
        read_steam,
        {
            "steam_reviews.json": lines([repr(row) for row in STEAM]),
            "steam_games.json.gz": packed(lines([repr(row) for row in GAMES])),
        },
        reviews=True,
    ),
    "lastfm": Source(
        read_lastfm,
        {
            "user_artists.dat": lines(["userID\tartistID\tweight", *(f"{u}\t{i}\t77" for u, i in PAIRS)]),
            "artists.dat": lines(["id\tname\turl\tpictureURL", *(f'{i}\tn"{i}\tu\t' for i in range(3))]),
            "user_taggedartists.dat": lines(["userID\tartistID\ttagID\tday", *(f"{u}\t{i}\t{i}\t1" for u, i in PAIRS)]),
            "tags.dat": "tagID\ttagValue\n0\té\n1\tb\n2\tc\n".encode("latin-1"),
        },
        header=frozenset({"userID"}),
    ),
}  # fmt: skip

SNIPPETS = [
    b"\0",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b"\r\n",
    b"\xff",
    b"\\",
    b"{",
    b"]",
    b",",
    b";",
    b"::",
    b"\t",
    b"|",
    b"\x1f",
]
SNIPPETS += [
    b" ",
    b"\\u",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    "\u2028".encode(),
    b"NaN",
    b"1e999",
    b"-",
    b"\\\n",
]
DAMAGE = st.tuples(
    st.sampled_from(["flip", "insert", "cut", "end"]),
    st.integers(0, 10**6),
    st.sampled_from(SNIPPETS),
    st.integers(1, 40),
)


def damaged(data: bytes, damages: Sequence[tuple[str, int, bytes, int]]) -> bytes:
    changed = bytearray(data)
    for kind, place, snippet, length in damages:
        at = place % (len(changed) + 1)
        if kind == "flip" and at < len(changed):
            changed[at] ^= 1 << length % 8
        elif kind == "insert":
            changed[at:at] = snippet
        elif kind == "cut":
            del changed[at : at + length]
        elif kind == "end":
            del changed[at:]
    return bytes(changed)


def outcome(read: Callable[[Path, ReadSettings], RawData], path: Path, settings: ReadSettings) -> RawData | str:
    """What was read, or the message of the error."""
    try:
        return read(path, settings)
    except RecError as error:
        return str(error)


def rows_of(source: Source, name: str, data: bytes) -> int:
    """Physical lines without the header."""
    text = gzip.decompress(data) if name.endswith(".gz") else data
    first = text.partition(b"\n")[0].decode("utf-8-sig", "replace")
    headed = not source.header.isdisjoint(name.strip() for name in re.split(r"[,\t]", first))
    return text.count(b"\n") + (len(text) > 0 and not text.endswith(b"\n")) - headed


@pytest.mark.parametrize("name", SOURCES)
def test_the_whole_files_are_read(name, tmp_path):
    source = SOURCES[name]
    for file, content in source.files.items():
        (tmp_path / file).write_bytes(content)
    raw = source.read(tmp_path, ReadSettings(reviews=source.reviews))
    assert (len(raw.rows), raw.dropped) == (len(PAIRS), {})
    assert raw.items is None or raw.items.height == 3
    assert raw.reviews is None or raw.reviews.height == len(PAIRS)


@pytest.mark.parametrize("name", SOURCES)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), damages=st.lists(DAMAGE, min_size=1, max_size=3), drop=st.booleans(), inside=st.booleans())
def test_damaged_files_are_an_error_or_accounted_for_line_by_line(name, tmp_path, data, damages, drop, inside):
    source = SOURCES[name]
    hurt = data.draw(st.sampled_from([*source.files, next(iter(source.files))]))
    files = dict(source.files)
    if hurt.endswith(".gz") and inside:
        files[hurt] = packed(damaged(gzip.decompress(files[hurt]), damages))
    else:
        files[hurt] = damaged(files[hurt], damages)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    raw = outcome(source.read, tmp_path, ReadSettings(reviews=source.reviews, bad_rows="drop" if drop else "error"))
    if isinstance(raw, str):
        assert str(tmp_path) in raw
        return
    first = next(iter(files))
    assert raw.lines == rows_of(source, first, files[first])
    assert raw.items is None or raw.items["key"].n_unique() == raw.items.height
    assert raw.reviews is None or raw.reviews.height <= len(raw.rows)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=st.lists(DAMAGE, min_size=1, max_size=3), streaming=st.booleans())
def test_a_damaged_arrow_file_never_shows_a_traceback(tmp_path, damages, streaming):
    frame = pl.DataFrame({"user_id": [f"u{u}" for u, _ in PAIRS], "item_id": [i for _, i in PAIRS], "timestamp": 5})
    path = tmp_path / "data.arrow"
    if streaming:
        frame.write_ipc_stream(path)
    else:
        frame.write_ipc(path)
    path.write_bytes(damaged(path.read_bytes(), damages))
    raw = outcome(read_huggingface, path, ReadSettings())
    # Arrow has no checksums: a changed length or character may pass for data
    assert str(tmp_path) in raw if isinstance(raw, str) else raw.lines <= len(PAIRS)
