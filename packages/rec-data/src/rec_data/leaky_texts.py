"""Where a text or a number in the catalogs tells what is held out: titles, reviews, statistics, keys of other items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal
from unicodedata import category

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.types import Interactions, Reviews
from rec_core.types.ids import Float64, Int64

Texts = Sequence[str | None]
Part = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

SHORTEST_TITLE = 8  # bytes of UTF-8: eight Latin letters, four Greek or Cyrillic, three Chinese; "It" is everywhere
SAME = 0.9  # share of items that must agree for a column to be called equal to a count
FOLLOWS = 0.8  # rank correlation with popularity that is worth a note
_SHIFTS = 8  # wrong pairings that are tried for every right one
_MOST_PAIRS = 5_000_000
_MOST_WRONG = 200_000
_MOST_TEXTS = 200_000
_MOST_TARGETS = 1_000_000
_HISTORY = 20
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class Mentions:
    """How often a text of a user tells of that user's own held-out event.

    rows       int64, the events it was found at (positions in what was asked about)
    checked    how many (text, event) pairs could be looked at
    by_chance  how many one would expect where texts and events had nothing to do with each other: the same texts
               beside other users' events
    too_short  events left out because their title says too little
    earlier    found in texts older than the event: they give nothing away, and are not in ``rows``
    """

    rows: Rows
    checked: int
    by_chance: float
    too_short: int = 0
    earlier: int = 0

    @classmethod
    def none(cls) -> Mentions:
        """Nothing looked at."""
        return cls(np.empty(0, np.int64), 0, 0.0)

    def __add__(self, other: Mentions) -> Mentions:
        return Mentions(
            np.concatenate([self.rows, other.rows]),
            self.checked + other.checked,
            self.by_chance + other.by_chance,
            self.too_short + other.too_short,
            self.earlier + other.earlier,
        )

    @property
    def count(self) -> int:
        """How many were found."""
        return len(self.rows)

    @property
    def verdict(self) -> Literal["ok", "note", "leak"]:
        """A leak is more than chance gives: beyond its expectation and three standard deviations of a Poisson count."""
        if not self.count:
            return "ok"
        return "leak" if self.count > self.by_chance + 3 * sqrt(self.by_chance) else "note"

    @property
    def by_chance_text(self) -> str:
        """What goes into a sentence."""
        return f" ({self.by_chance:,.1f} would be expected by chance)"

    @property
    def details(self) -> dict[str, float]:
        """Plain values."""
        found: dict[str, float] = {"by_chance": round(self.by_chance, 2), "titles_too_short": self.too_short}
        return found | ({"in_earlier_reviews": self.earlier} if self.earlier else {})


def mentions(values: Texts, titles: Texts, users: Int64, items: npt.NDArray[np.int32]) -> Mentions:
    """Events (user, item) whose title stands in the text of their user, word for word.

    ``values`` holds one text per user, ``titles`` one per item. A title must have :data:`SHORTEST_TITLE` bytes and
    stand there by itself, not inside a longer word.
    """
    text, title = pl.Series(values, dtype=pl.String), pl.Series(titles, dtype=pl.String)
    usable = (title.str.len_bytes() >= SHORTEST_TITLE).fill_null(False).to_numpy()
    there = text.is_not_null().to_numpy()[users]
    rows = np.flatnonzero(usable[items] & there)
    too_short = int(np.count_nonzero(~usable[items] & there & title.is_not_null().to_numpy()[items]))
    found = _found(text, users[rows], title, items[rows])

    def wrong(pairs: Rows, others: Rows) -> tuple[Rows, Rows]:
        u, i = users[rows[pairs]], items[rows[others]]
        apart = (u != users[rows[others]]) & (i != items[rows[pairs]])
        return u[apart], i[apart]

    chance = _by_chance(len(rows), wrong, lambda u, i: len(_found(text, u, title, i)))
    return Mentions(rows[found], len(rows), chance, too_short)


def mentions_in_reviews(reviews: Reviews, titles: Texts, events: Interactions, part: Part) -> Mentions:
    """Held-out events whose title stands in a review that their user wrote about another item, and not before.

    ``rows`` are rows of ``events``. Of more than some million (review, event) pairs evenly spaced ones are looked at.
    """
    text, title = pl.Series(reviews.texts, dtype=pl.String), pl.Series(titles, dtype=pl.String)
    held_out = np.flatnonzero(part)
    first = np.searchsorted(events.users[held_out], np.arange(events.n_users + 1))
    per_review = np.diff(first)[reviews.users]
    upto = np.cumsum(per_review)
    total = int(upto[-1]) if len(upto) else 0
    pair = evenly(total, _MOST_PAIRS)
    review = np.searchsorted(upto, pair, side="right")
    row = held_out[first[reviews.users[review]] + pair - (upto[review] - per_review[review])]
    items = events.items[row]
    usable = (title.str.len_bytes() >= SHORTEST_TITLE).fill_null(False).to_numpy()
    other = reviews.items[review] != items
    too_short = int(np.count_nonzero(other & ~usable[items]))
    chosen = np.flatnonzero(other & usable[items])
    review, row = review[chosen], row[chosen]
    hits = _found(text, review, title, events.items[row])
    early = np.zeros(len(hits), np.bool_)
    if reviews.timestamps is not None and events.timestamps is not None:
        early = reviews.timestamps[review[hits]] < events.timestamps[row[hits]]

    def wrong(pairs: Rows, others: Rows) -> tuple[Rows, Rows]:
        r, e = review[pairs], row[others]
        apart = (reviews.users[r] != events.users[e]) & (reviews.items[r] != events.items[e])
        apart &= events.items[e] != events.items[row[pairs]]
        return r[apart], events.items[e[apart]]

    chance = _by_chance(len(row), wrong, lambda r, i: len(_found(text, r, title, i)))
    return Mentions(np.unique(row[hits[~early]]), len(row), chance, too_short, int(early.sum()))


def held_out_reviews(reviews: Reviews, events: Interactions, part: Part) -> dict[str, Rows]:
    """Rows of reviews about events of valid or of test, and not of train.

    A review is about the event of its user, item and time; where there is no event of that time, or there are no times,
    about all events of its user and item.
    """
    about = reviews.users * events.n_items + reviews.items
    about[reviews.items >= events.n_items] = -1  # a cold item
    pairs = events.users * events.n_items + events.items
    parts = [np.isin(about, pairs[part == code]) for code in range(3)]
    if reviews.timestamps is not None and events.timestamps is not None:
        asked = pl.DataFrame({"row": np.arange(len(about)), "pair": about, "time": reviews.timestamps})
        then = np.zeros((3, len(about)), np.bool_)
        for code in range(3):
            there = pl.DataFrame({"pair": pairs, "time": events.timestamps}).filter(pl.Series(part == code))
            then[code, asked.join(there, on=["pair", "time"], how="semi")["row"].to_numpy()] = True
        parts = list(np.where(then.any(axis=0), then, parts))
    train, valid, test = parts
    return {"valid": np.flatnonzero(valid & ~train & ~test), "test": np.flatnonzero(test & ~train)}


def reviews_naming_their_item(reviews: Reviews, titles: Texts, rows: Rows) -> int:
    """How many of these reviews hold the title of the item that they are about."""
    text, title = pl.Series(reviews.texts, dtype=pl.String), pl.Series(titles, dtype=pl.String)
    long = (title.str.len_bytes() >= SHORTEST_TITLE).fill_null(False).to_numpy()
    rows = rows[long[reviews.items[rows]]]
    return len(_found(text, rows, title, reviews.items[rows]))


def evenly(n: int, most: int) -> Rows:
    """Numbers 0..n-1, at most so many, evenly spaced."""
    return np.arange(n) if n <= most else (np.arange(most) * n) // most


def _found(text: pl.Series, at: Rows, title: pl.Series, of: npt.NDArray[Any]) -> Rows:
    """Positions where ``title[of]`` stands by itself in ``text[at]``."""
    hits = []
    for start in range(0, len(at), _CHUNK):
        pairs = pl.DataFrame(
            {"text": text.gather(at[start : start + _CHUNK]), "title": title.gather(of[start : start + _CHUNK])}
        )
        rows = pairs.select(pl.col("text").str.contains(pl.col("title"), literal=True)).to_series().arg_true()
        close = pairs[rows]
        alone = [stands_alone(one, other) for one, other in zip(close["text"], close["title"], strict=True)]
        hits.append(start + rows.to_numpy().astype(np.int64)[np.array(alone, np.bool_)])
    return np.concatenate(hits) if hits else np.empty(0, np.int64)


def stands_alone(text: str, title: str) -> bool:
    """Whether a title occurs in a text and not as a part of a longer word or number.

    Letters of scripts without blanks between words (Chinese, Thai, ...) are no part of a longer word.
    """
    at = text.find(title)
    while at >= 0:
        end = at + len(title)
        before = at > 0 and _in_word(text[at - 1]) and _in_word(title[0])
        after = end < len(text) and _in_word(text[end]) and _in_word(title[-1])
        if not before and not after:
            return True
        at = text.find(title, at + 1)
    return False


def _in_word(character: str) -> bool:
    return category(character) in ("Lu", "Ll", "Lt", "Nd")


def _by_chance(n: int, wrong: Callable[[Rows, Rows], tuple[Rows, Rows]], count: Callable[[Rows, Rows], int]) -> float:
    """Expected number among ``n`` pairs if each text stood beside another user's event."""
    tried = hits = 0
    for shift in range(1, _SHIFTS + 1):
        pairs = evenly(n, _MOST_WRONG)
        others = (pairs + (n * shift) // (_SHIFTS + 1)) % max(n, 1)
        at, of = wrong(pairs, others)
        tried += len(at)
        hits += count(at, of)
    return n * hits / tried if tried else 0.0


def json_keys(values: Texts) -> dict[str, int]:
    """Names inside values that are JSON objects, and how many values have each (of evenly spaced ones at most)."""
    text = pl.Series("text", values, dtype=pl.String)
    objects = text.filter(text.str.starts_with("{").fill_null(False))
    if not len(objects):
        return {}
    objects = objects.gather(evenly(len(objects), _MOST_TEXTS))
    names = objects.str.extract_all(r'"[^"\\]{1,60}"\s*:').list.unique().explode()
    found = names.str.strip_chars_end(": \t").str.strip_chars('"').drop_nulls().value_counts(sort=True)
    return dict(found.iter_rows())


def numbers(values: Texts) -> Float64:
    """The values as numbers, NaN where they are none; all NaN unless at least half of those present are numbers."""
    text = pl.Series(values, dtype=pl.String)
    found = text.str.strip_chars().cast(pl.Float64, strict=False)
    present = len(text) - text.null_count()
    if not present or (len(found) - found.null_count()) < present / 2:
        return np.full(len(text), np.nan)
    return np.asarray(found.to_numpy(), np.float64)


def mostly_numbers(values: Texts) -> bool:
    """Whether at least half of the values that are there hold a digit of any script."""
    text = pl.Series(values, dtype=pl.String).drop_nulls()
    return len(text) > 0 and int(text.str.contains(r"\p{Nd}").sum()) >= len(text) / 2


def equal_share(values: Float64, wanted: npt.NDArray[np.generic], tolerance: float = 0.0) -> float:
    """Share of the numbers that are what is wanted; 0 where too little varies to tell."""
    there = np.isfinite(values)
    asked = np.asarray(wanted, np.float64)[there]
    if len(asked) < 5 or len(np.unique(asked[np.isfinite(asked)])) < 3:
        return 0.0
    return float((np.abs(values[there] - asked) <= tolerance).mean())


def rank_correlation(values: Float64, counts: Int64) -> float | None:
    """Spearman's rank correlation, ties by their mean rank; None for fewer than 50 items or 10 different values."""
    there = np.isfinite(values)
    if there.sum() < 50 or len(np.unique(values[there])) < 10:
        return None
    a, b = _ranks(values[there]), _ranks(counts[there])
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else None


def _ranks(values: npt.NDArray[np.generic]) -> Float64:
    _, at, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float64 = np.cumsum(sizes) - (sizes - 1) / 2
    return ranks[at]


@dataclass(frozen=True, slots=True)
class KeyLinks:
    """Which items name which others by their raw keys.

    pairs    int64, sorted: ``a * size + b`` in both directions
    size     items of the catalog
    items    how many items name another
    checked  how many items were looked at
    """

    pairs: Int64
    size: int
    items: int = 0
    checked: int = 0


def key_links(values: Texts, keys: Sequence[str]) -> KeyLinks:
    """Raw keys of other items among the words of a text field.

    Only keys count that are no ordinary words or numbers: letters and digits mixed from six characters on, digits
    alone from eight, anything from sixteen.
    """
    none = KeyLinks(np.empty(0, np.int64), len(keys))
    key = pl.Series("word", keys, dtype=pl.String)
    size = key.str.len_chars()
    mixed = key.str.contains(r"\p{L}") & key.str.contains(r"\p{Nd}")
    telling = ((size >= 6) & mixed) | ((size >= 8) & key.str.contains(r"^\p{Nd}+$")) | (size >= 16)
    text = pl.Series("text", values, dtype=pl.String)
    described = np.flatnonzero(text.is_not_null().to_numpy())
    if not telling.any() or not len(described):
        return none
    described = described[evenly(len(described), _MOST_TEXTS)]
    known = pl.DataFrame({"word": key.filter(telling), "other": np.flatnonzero(telling.to_numpy())})
    shortest = int(known["word"].str.len_chars().to_numpy().min())
    found = []
    for start in range(0, len(described), _CHUNK):
        rows = described[start : start + _CHUNK]
        words = text.gather(rows).str.extract_all(rf"""[^\s,;|"'\[\]{{}}()<>]{{{shortest},}}""")
        one = pl.DataFrame({"item": rows, "word": words}).explode("word")
        one = one.with_columns(pl.col("word").str.strip_chars(".:!?")).join(known, on="word")
        found.append(one.filter(pl.col("item") != pl.col("other")).select("item", "other"))
    links = pl.concat(found)
    a, b = links["item"].to_numpy().astype(np.int64), links["other"].to_numpy().astype(np.int64)
    pairs = np.unique(np.concatenate([a * len(keys) + b, b * len(keys) + a]))
    return KeyLinks(pairs, len(keys), links["item"].n_unique(), len(described))


def linked_targets(links: KeyLinks, events: Interactions, part: Part) -> Mentions:
    """Held-out events whose item names, or is named by, one of the last 20 items in the history of their user."""
    if not len(links.pairs):
        return Mentions.none()
    found = Mentions.none()
    for code in (1, 2):
        visible = np.flatnonzero(part < code)
        upto = np.searchsorted(events.users[visible], np.arange(events.n_users + 1))
        targets = np.flatnonzero(part == code)
        targets = targets[evenly(len(targets), _MOST_TARGETS)]
        targets = targets[np.diff(upto)[events.users[targets]] > 0]

        def linked(users: Rows, items: Rows, visible: Rows = visible, upto: Rows = upto) -> Rows:
            hits = [start + _linked(links, events, visible, upto, u, i) for start, u, i in _chunks(users, items)]
            return np.concatenate(hits) if hits else np.empty(0, np.int64)

        def wrong(pairs: Rows, others: Rows, targets: Rows = targets) -> tuple[Rows, Rows]:
            u, i = events.users[targets[pairs]], events.items[targets[others]]
            apart = (u != events.users[targets[others]]) & (i != events.items[targets[pairs]])
            return u[apart], i[apart].astype(np.int64)

        rows = linked(events.users[targets], events.items[targets].astype(np.int64))
        chance = _by_chance(len(targets), wrong, lambda u, i, linked=linked: len(linked(u, i)))  # type: ignore[misc]
        found += Mentions(targets[rows], len(targets), chance)
    return found


def _chunks(users: Rows, items: Rows) -> Iterator[tuple[int, Rows, Rows]]:
    for start in range(0, len(users), _CHUNK):
        yield start, users[start : start + _CHUNK], items[start : start + _CHUNK]


def _linked(links: KeyLinks, events: Interactions, visible: Rows, upto: Rows, users: Rows, items: Rows) -> Rows:
    at = upto[users + 1][:, None] - 1 - np.arange(_HISTORY)
    there = at >= upto[users][:, None]
    before = events.items[visible[np.where(there, at, 0)]].astype(np.int64)
    code = before * links.size + items[:, None]
    place = np.minimum(np.searchsorted(links.pairs, code), len(links.pairs) - 1)
    return np.flatnonzero(((links.pairs[place] == code) & there).any(axis=1))
