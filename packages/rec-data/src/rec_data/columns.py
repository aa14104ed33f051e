"""Which column of a table is the user, the item, the time, the rating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rec_core.errors import DataError, nearest

USER = ("user", "user_id", "userid", "uid", "user_key", "reviewerid", "reviewer_id", "visitorid", "session_id")
ITEM = (
    *("item", "item_id", "itemid", "iid", "item_key", "movieid", "movie_id", "parent_asin", "asin", "product_id"),
    *("productid", "book_id", "isbn", "business_id", "track_id", "song_id", "game_id", "app_id", "artist_id"),
)
TIMESTAMP = ("timestamp", "time", "unixreviewtime", "unix_timestamp", "datetime", "date", "ts", "created_at")
RATING = ("rating", "ratings", "overall", "score", "stars", "book-rating", "book_rating", "bookrating")
TITLE = ("title", "movie_title", "item_title", "name", "item_name", "book-title", "book_title", "product_title")
NONE = "none"


def choose(path: Path, found: Sequence[str], known: Sequence[str], asked: str | None, what: str) -> str | None:
    """The column asked for, else the first of the known names that the table has, in any case; else None.

    ``what`` names it as the option does: ``user`` for ``--user-column``. Raises :class:`DataError` when the column
    asked for is not there.
    """
    if asked == NONE:
        return None
    if asked is not None:
        if asked not in found:
            raise DataError(f"{path} has no column {asked!r} ({what}); it has: {_list(found)}{_offer(asked, found)}")
        return asked
    folded = {name.casefold().replace(" ", "_"): name for name in reversed(found)}
    return next((folded[name] for name in known if name in folded), None)


def require(path: Path, found: Sequence[str], known: Sequence[str], asked: str | None, what: str, option: str) -> str:
    """Like :func:`choose`, but :class:`DataError` when there is none."""
    chosen = choose(path, found, known, asked, what)
    if chosen is None:
        if asked == NONE:
            raise DataError(f"{path}: {option} {NONE} cannot be: every row needs a {what}")
        near = next((f"{offer} Name it" for name in known[:3] if (offer := _offer(name, found))), "; name it")
        header = any(name.replace(".", "", 1).isdigit() for name in found)
        hint = "; if it has no header line, name all its columns with --column-names" if header else ""
        raise DataError(f"{path} has no known {what} column; it has: {_list(found)}{near} with {option}{hint}")
    return chosen


def check_different(path: Path, chosen: Mapping[str, str]) -> None:
    """:class:`DataError` when one column was chosen for two things."""
    for what, column in chosen.items():
        first = next(other for other in chosen if chosen[other] == column)
        if first != what:
            raise DataError(f"{path}: one column cannot be two things: {column!r} is taken for {first} and {what}")


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:30]) + (", ..." if len(names) > 30 else "")


def _offer(name: str, found: Sequence[str]) -> str:
    offer = nearest(name, found)
    return offer if "did you mean" in offer else ""
