"""MovieLens-100K as its publisher packs it: u.data, u.item, u.user; tabs and bars, latin-1, no headers."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.raw import RawData, with_unique_keys
from rec_data.rows import RowCollector
from rec_data.text import read_text_table

# fmt: off
GENRES = (  # the order of the flags in u.item, also of u.genre
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_ITEM = ("key", "title", "date", "video_date", "url", *GENRES)
_USER = ("key", "age", "gender", "occupation", "zip_code")


def read_movielens(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds u.data (or u.data.gz), u.item and u.user.

    Items get ``title`` (as published: "Toy Story (1995)"), ``release_year`` (from the title) and ``genres``; the
    release date and the IMDb URL are left out, because other layouts of the same data lack them.
    """
    if not path.is_dir():
        raise DataError(f"the movielens layout is a directory with u.data, u.item and u.user; {path} is not one")
    data = next((path / name for name in ("u.data", "u.data.gz") if (path / name).exists()), path / "u.data")
    events = read_text_table(data, separator="\t", columns=("user", "item", "rating", "timestamp"))
    collector = RowCollector(settings)
    collector.add(events.frame, events.where)
    collector.faults.count("blank_line", events.blank)
    return RawData(
        name=path.resolve().name,
        rows=collector.finish(),
        items=_read_items(path / "u.item"),
        users=_read_users(path / "u.user"),
        dropped=collector.dropped,
        facts={"format": "movielens", "encoding": "latin-1", "timestamp_units": collector.units},
        files=(data, path / "u.item", path / "u.user"),
    )


def _read_items(path: Path) -> pl.DataFrame:
    table = read_text_table(path, separator="|", columns=_ITEM, encoding="latin-1")
    for genre in GENRES:
        wrong = (~table.frame[genre].is_in(["0", "1"])).fill_null(True)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise DataError(f"{table.where(row)}: genre flag {genre} is {table.frame[genre][row]!r}, wanted 0 or 1")
    # separators within concat_str only stand between genres that are there: the others are null
    genres = pl.concat_str(
        [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES], separator=", ", ignore_nulls=True
    )
    title = pl.col("title").str.strip_chars()
    frame = table.frame.select(
        "key", title, year_of(title).alias("release_year"), pl.when(genres != "").then(genres).alias("genres")
    )
    return with_unique_keys(frame, "item", table.where)


def _read_users(path: Path) -> pl.DataFrame:
    table = read_text_table(path, separator="|", columns=_USER, encoding="latin-1")
    return with_unique_keys(table.frame, "user", table.where)


def year_of(title: pl.Expr) -> pl.Expr:
    """The last four digits in round brackets: "Mirage (1995) (V)" gives 1995; null where there are none."""
    return title.str.extract(r"^.*\((\d{4})\)", 1)
