"""Raw files of the real layouts, made up here, and a command line that reports what a person would see."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rec_data.cli import main

RATINGS = [  # user, item, rating, timestamp: user 2 likes nothing, item 4 is liked by nobody else
    *[("1", "10", 5, 100), ("1", "9", 4, 101), ("1", "11", 3, 101), ("1", "30", 5, 105)],
    *[("7", "9", 2, 90), ("7", "10", 4, 91), ("7", "11", 1, 92)],
    *[("20", "9", 5, 200), ("20", "10", 5, 150), ("20", "11", 4, 300)],
]
FILMS = {  # id: (title, year as the atomic file has it, genres)
    "9": ("Café au Lait", "1993", "Comedy"),
    "10": ("Mirage (1995)", "V", "Action Thriller"),
    "11": ("unknown", "", "unknown"),
    "30": ("Fargo", "1996", "Crime Drama Thriller"),
    "31": ("Nobody Saw It", "1997", ""),
}
PEOPLE = {"1": "24|M|writer|00501", "7": "53|F|other|94043", "20": "33|M|student|T8H1N"}


@dataclass
class RawFiles:
    """The same made-up films in every layout, each in a folder or file of its own."""

    folder: Path
    ratings = RATINGS
    films = FILMS
    people = PEOPLE

    def movielens(self) -> Path:
        """The publisher's layout."""
        from rec_data.readers.movielens import GENRES

        path = self.folder / "ml"
        path.mkdir()
        (path / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS))
        with (path / "u.item").open("w", encoding="latin-1") as file:
            for key, (title, year, genres) in FILMS.items():
                flags = "|".join("1" if genre in genres.split() else "0" for genre in GENRES)
                full = f"{title} ({year}) " if year else title  # the publisher leaves a blank at some ends
                file.write(f"{key}|{full}|01-Jan-1995||http://example.org|{flags}\n")
        (path / "u.user").write_text("".join(f"{key}|{rest}\n" for key, rest in PEOPLE.items()))
        return path

    def recbole(self) -> Path:
        """Atomic files."""
        path = self.folder / "atomic"
        path.mkdir()
        rows = "".join(f"{u}\t{i}\t{r}\t{t}.0\n" for u, i, r, t in RATINGS)
        (path / "films.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
        rows = "".join(
            f"{key}\t{title if year else 'unkonwn'}\t{year or 'unkonwn'}\t{genres}\n"
            for key, (title, year, genres) in FILMS.items()
        )
        header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        (path / "films.item").write_text(header + rows, encoding="utf-8")
        rows = "".join(f"{key}\t" + rest.replace("|", "\t") + "\n" for key, rest in PEOPLE.items())
        header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        (path / "films.user").write_text(header + rows)
        return path

    def csv(self) -> Path:
        """The interactions alone, as a CSV."""
        path = self.folder / "films.csv"
        rows = "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in RATINGS)
        path.write_text("userId,movieId,rating,timestamp\n" + rows)
        return path


@pytest.fixture
def raw_files(tmp_path) -> RawFiles:
    return RawFiles(tmp_path)


@dataclass
class Said:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def rec_data(capsys) -> Callable[..., Said]:
    """The command line, in this process: a traceback would surface as an exception here."""

    def run(*words: object) -> Said:
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return run


@pytest.fixture
def real_data() -> Path:
    """A folder with real raw data: REC_TEST_DATA, else shared/data beside the repository."""
    path = Path(os.environ.get("REC_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not (path / "ml-100k").is_dir():
        pytest.skip(f"no raw ml-100k in {path}; REC_TEST_DATA names another folder")
    return path
