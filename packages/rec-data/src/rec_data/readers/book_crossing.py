r"""Book-Crossing: the dump of 2004 and the CSV files that others made of it.

The dump separates by ``;``, quotes every field and escapes quotes by backslashes; it is latin-1 (with the printable
characters of cp1252) and holds entities such as ``&amp;``, whose ``;`` are no separators. Re-exports double the quotes,
and many were made by a reader that did not know the escapes, which turns ``"\"A\" is for Alibi"`` into
``\A\" is for Alibi"``; such texts are mended. Each line is one record, so a broken one cannot swallow the next.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData, with_unique_keys
from rec_data.readers.files import encoding_of, find, holds, noted, others
from rec_data.rows import RowCollector, Where
from rec_data.text import byte_lines

# ratings, books, users; the last is a set of other books that is read when its ratings are named
_NAMES = (
    ("BX-Book-Ratings.csv", "BX-Books.csv", "BX-Users.csv"),
    ("BX-Ratings.csv", "BX-Books.csv", "BX-Users.csv"),
    ("Ratings.csv", "Books.csv", "Users.csv"),
    ("BX-NewBooksRatings.csv", "BX-NewBooks.csv", "BX-NewBooksUsers.csv"),
)
_RATINGS = (("user", "item", "rating"),)
_BOOKS = (
    ("key", "title", "author", "year", "publisher", "image_s", "image_m", "image_l"),
    ("key", "title", "author", "year", "publisher"),
)
_USERS = (("key", "location", "age"), ("key", "city", "state", "country", "age"))
_HEADERS = {
    "user-id": ("user", "key"),
    "isbn": ("item", "key"),
    "book-rating": ("rating",),
    "book-title": ("title",),
    "book-author": ("author",),
    "year-of-publication": ("year",),
    "publisher": ("publisher",),
    "book-publisher": ("publisher",),
    "image-url-s": ("image_s",),
    "image-url-m": ("image_m",),
    "image-url-l": ("image_l",),
    "location": ("location",),
    "age": ("age",),
    "user-city": ("city",),
    "user-state": ("state",),
    "user-country": ("country",),
    "user-age": ("age",),
}
UNKNOWN = "unknown"
# spellings of a few names that are common in the dump, title-cased; other names stay as users wrote them
_COUNTRIES = {
    **dict.fromkeys(("Us", "U.S.", "U.S", "U.S.A.", "U.S.A", "Usa", "America", "United States"), "USA"),
    **dict.fromkeys(("United States Of America", "U.S. Of A.", "The United States", "Usa.", "Us Of A"), "USA"),
    **dict.fromkeys(("Uk", "U.K.", "U.K", "United Kingdom", "Great Britain", "Uk."), "UK"),
    **dict.fromkeys(("España", "EspaÃ±A", "Espaã±A", "Espana"), "Spain"),
    **dict.fromkeys(("México", "MÃ©Xico", "Mã©Xico"), "Mexico"),
    **dict.fromkeys(("Algérie",), "Algeria"),
    **dict.fromkeys(("Deutschland",), "Germany"),
    **dict.fromkeys(("Italia",), "Italy"),
    **dict.fromkeys(("Brasil",), "Brazil"),
    **dict.fromkeys(("Suisse", "Schweiz", "Svizzera"), "Switzerland"),
    **dict.fromkeys(("Österreich",), "Austria"),
    **dict.fromkeys(("Nederland", "The Netherlands", "Holland"), "Netherlands"),
    **dict.fromkeys(("La Chine Éternelle!", "La Chine Éternelle !", "P.R.China", "P.R. China"), "China"),
}
_LINES = 100_000  # parsed at a time


def read_book_crossing(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds the ratings, the books and, where there is one, the file of users; or the ratings.

    The rating 0 stands for "met, not rated" and is kept (``--min-rating 1`` keeps what users rated). There are no
    times. Items get ``title``, ``author``, ``year`` (0 and what is no year are missing) and ``publisher``; links to
    pictures are left out. Users get what they wrote, ``location`` (with its parts ``city`` and ``state``) and ``age``,
    and what ReLLa makes of it: ``country`` (the last part, title-cased, a few spellings as one) and ``age_group`` (11
    labels), "unknown" where that cannot be told. ISBNs are text: some of them are none.
    """
    ratings_file, books_file, users_file = _files(path)
    collector = RowCollector(settings)
    ratings = _Table.open(ratings_file, _RATINGS, collector.faults)
    zeros = 0
    for frame, where in ratings.blocks():
        collector.add(frame, where)
        zeros += int(frame["rating"].is_in(["0"]).sum())
    books = _Table.open(books_file, _BOOKS, Faults(settings.bad_rows))
    items = _books(books)
    tables, users = [ratings, books], None
    if users_file is not None:
        people = _Table.open(users_file, _USERS, Faults(settings.bad_rows))
        users = _people(people)
        tables.append(people)
    files = tuple(table.path for table in tables)
    return RawData(
        name=path.resolve().name if path.is_dir() else path.name.partition(".")[0],
        rows=collector.finish(),
        items=items,
        users=users,
        dropped=collector.dropped,
        facts={
            "format": "book-crossing",
            "encoding": {table.path.name: table.encoding for table in tables},
            "rows_with_rating_0": zeros,
            "item_fields_left_out": [name for name in books.names if name.startswith("image")],
            **noted(
                texts_with_mended_quotes=sum(table.mended for table in tables) or None,
                item_rows_left_out=dict(books.faults.counts),
                user_rows_left_out=dict(tables[-1].faults.counts) if users_file else None,
                files_not_used=others(files[0].parent, files),
            ),
        },
        files=files,
    )


def _files(path: Path) -> tuple[Path, Path, Path | None]:
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    folder = path if path.is_dir() else path.parent
    there = [names for names in _NAMES if find(folder, names[0]) is not None]
    if path.is_file():
        there = [names for names in there if path.name in (names[0], f"{names[0]}.gz")]
    elif len(there) > 1:
        there = [names for names in there if names is not _NAMES[-1]]
    if len(there) != 1:
        wanted = " or ".join(names[0] for names in _NAMES[:3])
        named = f"it has {' and '.join(names[0] for names in there)}; name one of them" if there else holds(folder)
        raise DataError(f"the book-crossing layout is a directory with {wanted}, and the books; {path}: {named}")
    ratings, books, users = there[0]
    ratings_file = path if path.is_file() else find(folder, ratings)
    books_file = find(folder, books)
    assert ratings_file is not None
    if books_file is None:
        raise DataError(f"{folder} has {ratings_file.name} but no {books}; {holds(folder)}")
    return ratings_file, books_file, find(folder, users)


@dataclass
class _Table:
    """One of the three files; ``mended`` counts as its blocks are read."""

    path: Path
    encoding: str
    names: tuple[str, ...]
    header: bool
    dialect: dict[str, Any]
    faults: Faults
    mended: int = field(default=0)

    @classmethod
    def open(cls, path: Path, layouts: Sequence[tuple[str, ...]], faults: Faults) -> _Table:
        """What the first line shows: separator, escapes, columns."""
        encoding = encoding_of(path, "cp1252", "latin-1")
        head = next(byte_lines(path, 1 << 16), b"").removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
        first = head.decode(encoding, "replace").rstrip("\r")
        if not first.strip():
            raise DataError(f"{path} is empty or starts with a blank line")
        separator = ";" if first.count(";") >= max(first.count(","), 1) else ","
        escaped = separator == ";" and first.startswith('"')
        dialect = {"delimiter": separator, "escapechar": "\\" if escaped else None, "strict": True}
        fields = (_parsed([first], dialect) or [[]])[0]
        layout = next((names for names in layouts if len(names) == len(fields)), None)
        if layout is None:
            wanted = " or ".join(", ".join(names) for names in layouts)
            raise DataError(
                f"{path}, line 1 has {len(fields)} fields cut at {separator!r}: {first[:100]!r}; wanted {wanted}"
            )
        known = [_HEADERS.get(name.strip().casefold().replace("_", "-"), ()) for name in fields]
        header = any(known) or fields == [str(i) for i in range(len(fields))]
        if any(known):
            wrong = [name for name, ours, its in zip(fields, layout, known, strict=True) if ours not in its]
            if wrong:
                raise DataError(
                    f"{path}: the header has {wrong[0]!r} where {layout[fields.index(wrong[0])]} was wanted"
                )
        return cls(path, encoding, layout, header, dialect, faults)

    def blocks(self) -> Iterator[tuple[pl.DataFrame, Where]]:
        """Blocks of rows with all columns as text, an empty field null; at least one, which may be empty."""
        number = 1
        for data in byte_lines(self.path):
            text = data.decode(self.encoding)
            if number == 1:
                text = text.removeprefix("\ufeff")
            lines = text.split("\n")
            if not lines[-1]:
                lines.pop()
            lines = [line[:-1] if line.endswith("\r") else line for line in lines]
            skipped = int(self.header and number == 1)
            for start in range(skipped, max(len(lines), skipped + 1), _LINES):
                yield self._block(lines[start : start + _LINES], number + start)
            number += len(lines)

    def _block(self, lines: list[str], first: int) -> tuple[pl.DataFrame, Where]:
        rows = None if any("\0" in line for line in lines) else _parsed(lines, self.dialect)
        numbers: Sequence[int] = range(first, first + len(lines))
        if rows is None or set(map(len, rows)) - {len(self.names)}:
            rows, numbers = self._one_by_one(lines, first)
        columns = list(zip(*rows, strict=True)) or [()] * len(self.names)
        frame = pl.DataFrame(
            {name: pl.Series(values, dtype=pl.String) for name, values in zip(self.names, columns, strict=True)}
        )
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
        return frame, lambda row: f"{self.path}, line {numbers[row]}"

    def _one_by_one(self, lines: list[str], first: int) -> tuple[list[list[str]], list[int]]:
        rows, numbers = [], []
        for number, line in enumerate(lines, start=first):
            if not line.strip():
                self.faults.count("blank_line", 1)
                continue
            parsed = None if "\0" in line else _parsed([line], self.dialect)
            fields = parsed[0] if parsed else None
            if fields is not None and len(fields) == len(self.names) - 1 and '";' in fields[1]:
                # "Title\";Author" holds a quote too many: three books of the dump
                title, _, author = fields[1].partition('";')
                fields[1:2] = [title, author.removesuffix('"')]
                self.mended += 1
            if fields is not None and len(fields) == len(self.names):
                rows.append(fields)
                numbers.append(number)
                continue
            if "\0" in line:
                reason, problem = "nul_byte", "holds a NUL byte: this is not a text table, or it is damaged"
            elif fields is None:
                reason, problem = "unbalanced_quote", f"has an unbalanced quote, or one inside a field: {line[:100]!r}"
            else:
                reason = "wrong_field_count"
                problem = f"has {len(fields)} fields, wanted {len(self.names)}: {line[:100]!r}"
            if self.faults.bad_rows == "error":
                raise DataError(f"{self.path}, line {number} {problem}")
            self.faults.count(reason, 1)
        return rows, numbers

    def whole(self, what: str) -> pl.DataFrame:
        """All rows of a table whose ``key`` is unique, texts mended."""
        blocks = list(self.blocks())
        starts = np.cumsum([0, *(block.height for block, _ in blocks)])

        def where(row: int) -> str:
            at = int(np.searchsorted(starts, row, side="right")) - 1
            return blocks[at][1](row - int(starts[at]))

        frame = pl.concat([block for block, _ in blocks])
        if self.dialect["escapechar"] is None:
            texts = [name for name in self.names if name != "key"]
            broken = [_is_broken(pl.col(name)) for name in texts]
            self.mended += int(frame.select(pl.sum_horizontal(cut.sum() for cut in broken)).item())
            frame = frame.with_columns(_mended(pl.col(name)) for name in texts)
        return with_unique_keys(frame, what, where)


def _parsed(lines: list[str], dialect: dict[str, Any]) -> list[list[str]] | None:
    """Fields of each line; None when one has unbalanced quotes."""
    try:
        rows = list(csv.reader(lines, **dialect))
    except csv.Error:
        return None
    return rows if len(rows) == len(lines) else None


def _is_broken(text: pl.Expr) -> pl.Expr:
    r"""Whether a text lost its quotes to a reader that does not know ``\"``: it ends in the one that closed it."""
    return text.str.contains("\\", literal=True) & text.str.ends_with('"')


def _mended(text: pl.Expr) -> pl.Expr:
    r"""``\A\" is for Alibi"`` to ``"A" is for Alibi``."""
    whole = (
        text.str.strip_suffix('"').str.replace_all('\\"', '"', literal=True).str.replace_all("\\", '"', literal=True)
    )
    return pl.when(_is_broken(text)).then(whole).otherwise(text)


def _books(table: _Table) -> pl.DataFrame:
    frame = table.whole("item")
    year = pl.col("year").str.strip_chars()
    author, publisher = (
        pl.when(pl.col(name).str.to_lowercase() != "n/a").then(pl.col(name)) for name in ("author", "publisher")
    )
    return frame.select(
        "key", "title", author, pl.when(year.str.contains(r"^[1-9]\d{3}$")).then(year).alias("year"), publisher
    )


def _people(table: _Table) -> pl.DataFrame:
    frame = table.whole("user")
    city: pl.Expr
    state: pl.Expr
    if "location" in table.names:
        location = pl.col("location")
        parts = location.str.split(",")
        many = parts.list.len() > 2
        whole_city = parts.list.head(parts.list.len().cast(pl.Int64) - 2).list.join(",")
        city = pl.when(many).then(whole_city).when(parts.list.len() == 2).then(parts.list.first())
        state = pl.when(many).then(parts.list.get(-2, null_on_oob=True))
        country = parts.list.last()
    else:
        city, state, country = (pl.col(name) for name in ("city", "state", "country"))
        location = pl.concat_str([_place(part).fill_null("") for part in (city, state, country)], separator=", ")
    age = pl.col("age").str.strip_chars(' "')
    known_age = pl.when(~age.is_in(["NULL", ""])).then(age)
    return frame.select(
        "key",
        location=location.str.strip_chars(),
        city=_place(city),
        state=_place(state),
        country=country_of(country),
        age=known_age,
        age_group=age_group(known_age),
    )


def _place(part: pl.Expr) -> pl.Expr:
    """A part of a location without the blanks and stray quotes around it; null where it says nothing."""
    bare = part.str.strip_chars(' "\\`')
    return pl.when((bare != "") & ~bare.str.to_lowercase().str.contains("n/a")).then(bare)


def country_of(part: pl.Expr) -> pl.Expr:
    """The last part of a location, title-cased; "unknown" where it is empty, one character, or holds what no name does.

    The rule of ReLLa's preparation; its table of spellings is not copied, ours is short.
    """
    bare = part.str.strip_chars(' "\\`')
    name = bare.str.to_titlecase().replace(_COUNTRIES)
    unknown = (bare.str.len_chars() <= 1) | bare.str.contains(r"[?@*]|&#") | bare.str.to_lowercase().str.contains("n/a")
    return pl.when(unknown | bare.is_null()).then(pl.lit(UNKNOWN)).otherwise(name)


def age_group(age: pl.Expr) -> pl.Expr:
    """One of ReLLa's 11 labels: unknown (below 5, over 100, no number), under 18, 18-24, 25-29, ..., 55-59, 60+."""
    years = age.cast(pl.Int64, strict=False)
    low = years // 5 * 5
    return (
        pl.when(years.is_null() | (years < 5) | (years > 100))
        .then(pl.lit(UNKNOWN))
        .when(years < 18)
        .then(pl.lit("under 18"))
        .when(years < 25)
        .then(pl.lit("18-24"))
        .when(years < 60)
        .then(pl.format("{}-{}", low, low + 4))
        .otherwise(pl.lit("60+"))
    )
