"""MovieLens as its publisher packs it, in all three forms: 100K, 1M and 10M, and everything since 20M.

100K is u.data, u.item and u.user, with tabs and bars; 1M and 10M are ratings.dat, movies.dat and, in 1M, users.dat,
with ``::``; 20M, 25M, 32M, latest and latest-small are ratings.csv and movies.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.raw import RawData, with_unique_keys
from rec_data.readers.files import encoding_of, exactly, find, holds, others
from rec_data.rows import RowCollector, Where
from rec_data.text import read_text_table, text_blocks

# fmt: off
GENRES = (  # the order of the flags in u.item, also of u.genre
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
AGES = {  # the codes of users.dat
    "1": "Under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}
OCCUPATIONS = (  # the number is the place
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)
# fmt: on
NO_GENRES = "(no genres listed)"
_ITEM = ("key", "title", "date", "video_date", "url", *GENRES)
_USER = ("key", "age", "gender", "occupation", "zip_code")


def read_movielens(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds the files of one edition, gzipped or not.

    Items get ``title`` (as published: "Toy Story (1995)"), ``release_year`` (from the title) and ``genres``
    ("Comedy, Drama"); 100K's release date and IMDb URL are left out, because the other editions lack them. Users of
    100K and 1M get ``age``, ``gender``, ``occupation`` and ``zip_code``, where 1M's codes become the labels that the
    publisher gives for them.
    """
    if not path.is_dir():
        raise DataError(
            f"the movielens layout is a directory with u.data, ratings.dat or ratings.csv and what belongs to it; "
            f"{path} is not one"
        )
    editions = {"100k": "u.data", "dat": "ratings.dat", "csv": "ratings.csv"}
    found = {edition: file for edition, name in editions.items() if (file := find(path, name)) is not None}
    if len(found) != 1:
        names = " and ".join(file.name for file in found.values()) or "none of " + ", ".join(editions.values())
        raise DataError(f"the movielens layout is one edition in one directory; {path} has {names}; {holds(path)}")
    ((edition, ratings),) = found.items()
    source: _100K | _Dat | _Csv
    if edition == "100k":
        source = _100K(_beside(path, "u.item"), _beside(path, "u.user"))
    elif edition == "dat":
        source = _Dat(_beside(path, "movies.dat"), find(path, "users.dat"))
    else:
        source = _Csv(_beside(path, "movies.csv"))
    collector = RowCollector(settings)
    for frame, where in ahead(source.rows(ratings, collector)):
        collector.add(frame, where)
    files = (ratings, source.items_file, *([source.users_file] if source.users_file else []))
    return RawData(
        name=path.resolve().name,
        rows=collector.finish(),
        items=source.items(),
        users=source.users(),
        dropped=collector.dropped,
        facts={
            "format": "movielens",
            "source_version": source.version,
            "encoding": source.encoding,
            "timestamp_units": collector.units,
            "files_not_used": others(path, files),
        },
        files=files,
    )


@dataclass(frozen=True)
class _100K:
    items_file: Path
    users_file: Path | None
    version = "100k"
    encoding = "latin-1"

    def rows(self, ratings: Path, collector: RowCollector) -> Iterator[tuple[pl.DataFrame, Where]]:
        columns = ("user", "item", "rating", "timestamp")
        for block in text_blocks(ratings, collector.faults, separator="\t", columns=columns, numbers=True):
            yield block.frame, block.where

    def items(self) -> pl.DataFrame:
        table = read_text_table(self.items_file, separator="|", columns=_ITEM, encoding=self.encoding)
        for genre in GENRES:
            wrong = (~table.frame[genre].is_in(["0", "1"])).fill_null(True)
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise DataError(f"{table.where(row)}: genre flag {genre} is {table.frame[genre][row]!r}, wanted 0 or 1")
        # separators within concat_str only stand between genres that are there: the others are null
        genres = pl.concat_str(
            [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES], separator=", ", ignore_nulls=True
        )
        return _films(table.frame, pl.when(genres != "").then(genres), table.where)

    def users(self) -> pl.DataFrame | None:
        assert self.users_file is not None
        table = read_text_table(self.users_file, separator="|", columns=_USER, encoding=self.encoding)
        return with_unique_keys(table.frame, "user", table.where)


@dataclass(frozen=True)
class _Dat:
    items_file: Path
    users_file: Path | None

    @property
    def version(self) -> str:
        return "1m" if self.users_file is not None else "10m"

    @property
    def encoding(self) -> str:  # 1M is latin-1, 10M is UTF-8
        return encoding_of(self.items_file, "latin-1")

    def rows(self, ratings: Path, collector: RowCollector) -> Iterator[tuple[pl.DataFrame, Where]]:
        columns = ("user", "item", "rating", "timestamp")
        for block in text_blocks(ratings, collector.faults, separator="::", columns=columns, numbers=True):
            yield block.frame, block.where

    def items(self) -> pl.DataFrame:
        columns = ("key", "title", "genres")
        table = read_text_table(self.items_file, separator="::", columns=columns, encoding=self.encoding)
        return _films(table.frame, _barred_genres(), table.where)

    def users(self) -> pl.DataFrame | None:
        if self.users_file is None:
            return None
        columns = ("key", "gender", "age", "occupation", "zip_code")
        table = read_text_table(self.users_file, separator="::", columns=columns, encoding="latin-1")
        frame = table.frame
        for column, labels in (("age", AGES), ("occupation", dict(zip(map(str, range(21)), OCCUPATIONS, strict=True)))):
            label = frame[column].replace_strict(labels, default=None)
            wrong = label.is_null() & frame[column].is_not_null()
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise DataError(
                    f"{table.where(row)}: {column} {frame[column][row]!r} is none of the codes {', '.join(labels)}"
                )
            frame = frame.with_columns(label.alias(column))
        return with_unique_keys(frame.select(_USER), "user", table.where)


@dataclass(frozen=True)
class _Csv:
    items_file: Path
    users_file: Path | None = None
    version = "20m or later, latest or latest-small"
    encoding = "utf-8"

    def rows(self, ratings: Path, collector: RowCollector) -> Iterator[tuple[pl.DataFrame, Where]]:
        wanted = exactly(ratings, "movielens", "userId", "movieId", "rating", "timestamp")
        names = ("user", "item", "rating", "timestamp")
        for block in text_blocks(ratings, collector.faults, separator=",", wanted=wanted, numbers=True):
            yield block.frame.rename(dict(zip(block.frame.columns, names, strict=True))), block.where

    def items(self) -> pl.DataFrame:
        wanted = exactly(self.items_file, "movielens", "movieId", "title", "genres")
        table = read_text_table(self.items_file, separator=",", wanted=wanted, quotes=True)
        return _films(table.frame.rename({"movieId": "key"}), _barred_genres(), table.where)

    def users(self) -> pl.DataFrame | None:
        return None


def _beside(folder: Path, name: str) -> Path:
    return find(folder, name) or folder / name  # reading says that it is not there


def _barred_genres() -> pl.Expr:
    return pl.col("genres").replace(NO_GENRES, None).str.replace_all("|", ", ", literal=True)


def _films(frame: pl.DataFrame, genres: pl.Expr, where: Where) -> pl.DataFrame:
    title = pl.col("title").str.strip_chars()
    films = frame.select("key", title, year_of(title).alias("release_year"), genres.alias("genres"))
    return with_unique_keys(films, "item", where)


def year_of(title: pl.Expr) -> pl.Expr:
    """The last four digits in round brackets: "Mirage (1995) (V)" gives 1995; null where there are none."""
    return title.str.extract(r"^.*\((\d{4})\)", 1)
