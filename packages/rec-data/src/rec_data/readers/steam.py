"""Steam reviews as the McAuley Lab publishes them: steam_reviews.json and steam_games.json, Python literals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.json_lines import json_blocks, read_json_lines
from rec_data.raw import RawData
from rec_data.readers.files import exactly, find, first_of_each, holds, noted, others, without_empty
from rec_data.readers.reviews import ReviewCollector
from rec_data.rows import RowCollector

_COLUMNS = {"user": "username", "item": "product_id", "timestamp": "date"}
# metascore, sentiment and the discounted price were taken after the last review
_FIELDS = ("genres", "tags", "specs", "developer", "publisher", "release_date", "price")


def read_steam(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds steam_reviews.json and steam_games.json, gzipped or not.

    A user is a ``username`` (only some reviews have a user id), times are dates, and there are no ratings: every
    review is an event; ``--rating-column hours`` takes the hours played as the rating. Items get ``title``
    (``app_name``, else ``title``), ``genres``, ``tags`` and ``specs`` (lists), ``developer``, ``publisher``,
    ``release_date`` and ``price``; games without an id, or listed again, are left out and counted in the manifest.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    reviews_file, games_file = find(folder, "steam_reviews.json"), find(folder, "steam_games.json")
    if reviews_file is None:
        older = find(folder, "australian_user_reviews.json", "australian_users_items.json")
        hint = f"; {older.name} is of the first version, which is not read here" if older is not None else ""
        raise DataError(
            f"the steam layout is a directory with steam_reviews.json (.gz); {folder}: {holds(folder)}{hint}"
        )
    columns = dict(_COLUMNS)
    if settings.rating_column is not None and settings.rating_column != "none":
        columns["rating"] = settings.rating_column
    if settings.reviews:
        columns["text"] = "text"

    def wanted(found: Sequence[str]) -> list[str]:
        return exactly(reviews_file, "steam", *columns.values())(found)

    collector = RowCollector(settings)
    reviews = ReviewCollector() if settings.reviews else None
    for frame, where in ahead(json_blocks(reviews_file, collector.faults, wanted=wanted, literals=True)):
        block = frame.select(pl.col(name).alias(what) for what, name in columns.items())
        added = collector.add(block.drop("text", strict=False), where)
        if reviews is not None:
            reviews.add(added, block)
    items, item_facts = (None, {}) if games_file is None else _items(games_file, settings)
    files = (reviews_file, *([games_file] if games_file is not None else []))
    return RawData(
        name=folder.resolve().name,
        rows=collector.finish(),
        items=items,
        reviews=None if reviews is None else reviews.finish(),
        dropped=collector.dropped,
        facts={
            "format": "steam",
            "encoding": "utf-8",
            "columns": columns,
            "timestamp_units": collector.units,
            **noted(
                reviews_without_text=reviews.without_text if reviews is not None else None,
                files_not_used=others(folder, files),
            ),
            **item_facts,
        },
        files=files,
    )


def _items(path: Path, settings: ReadSettings) -> tuple[pl.DataFrame, dict[str, object]]:
    faults = Faults(settings.bad_rows)
    used = ("id", "app_name", "title", *_FIELDS)
    table = read_json_lines(path, wanted=used, literals=True, faults=faults)
    exactly(path, "steam", "id")(table.keys)
    frame = table.frame
    titles = [name for name in ("app_name", "title") if name in frame.columns]
    for name in ("id", *titles):
        if frame[name].dtype != pl.String:
            raise DataError(f"{path}: {name!r} holds lists; wanted a text")
    fields = [name for name in _FIELDS if name in frame.columns]
    items, left_out = first_of_each(
        frame.select(
            pl.col("id").alias("key"), *([pl.coalesce(titles).alias("title")] if titles else []), *map(pl.col, fields)
        )
    )
    return without_empty(items), noted(
        item_fields={"title": " or ".join(titles)} if titles else None,
        item_fields_left_out=[name for name in table.keys if name not in used],
        item_rows_left_out=dict(Counter(left_out) + Counter(faults.counts)),
    )
