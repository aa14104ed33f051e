"""Last.fm 2K of the HetRec 2011 workshop: how often users played artists, and the tags they gave them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData, with_unique_keys
from rec_data.readers.files import encoding_of, exactly, find, holds, noted, others
from rec_data.rows import RowCollector
from rec_data.text import TextTable, read_text_table, text_blocks
from rec_data.values import to_keys


def read_lastfm(path: Path, settings: ReadSettings) -> RawData:
    """Read the directory that holds user_artists.dat, artists.dat and, for tags, user_taggedartists.dat and tags.dat.

    The rating is the number of plays. There are no times: only tags are dated, and by the day they were given. Items
    get ``title`` (the artist's name) and ``tags``, a list with those that most users gave first (ties by tag id).
    Links, pictures and the friends of users are left out.
    """
    plays = find(path, "user_artists.dat") if path.is_dir() else None
    if plays is None:
        there = holds(path) if path.is_dir() else "it is no directory"
        raise DataError(f"the lastfm layout is a directory with user_artists.dat and artists.dat; {path}: {there}")
    collector = RowCollector(settings)
    names = ("userID", "artistID", "weight")
    for block in text_blocks(plays, collector.faults, separator="\t", wanted=exactly(plays, "lastfm", *names)):
        collector.add(block.frame.rename(dict(zip(names, ("user", "item", "rating"), strict=True))), block.where)
    artists_file = find(path, "artists.dat") or path / "artists.dat"
    artists = _table(artists_file, "id", "name")
    items = with_unique_keys(artists.frame.rename({"id": "key", "name": "title"}), "item", artists.where)
    given_file, tags_file = find(path, "user_taggedartists.dat"), find(path, "tags.dat")
    tag_facts: dict[str, object] = {}
    files = [plays, artists_file]
    if given_file is not None and tags_file is not None:
        tags, tag_facts = _tags(given_file, tags_file, items["key"])
        items = items.join(tags, on="key", how="left", maintain_order="left")
        files += [given_file, tags_file]
    return RawData(
        name=path.resolve().name,
        rows=collector.finish(),
        items=items,
        dropped=collector.dropped,
        facts={
            "format": "lastfm",
            "encoding": encoding_of(artists_file, "latin-1"),
            "rating": "plays",
            "item_fields_left_out": ["url", "pictureURL"],
            **tag_facts,
            **noted(files_not_used=others(path, files)),
        },
        files=tuple(files),
    )


def _table(path: Path, *names: str) -> TextTable:
    wanted = exactly(path, "lastfm", *names)
    encoding = encoding_of(path, "latin-1") if path.exists() else "utf-8"
    return read_text_table(path, separator="\t", wanted=wanted, encoding=encoding)


def _tags(given_file: Path, tags_file: Path, artists: pl.Series) -> tuple[pl.DataFrame, dict[str, object]]:
    """``key`` and ``tags`` (List(String)) of every artist that has any."""
    given = _table(given_file, "artistID", "tagID")
    tags = _table(tags_file, "tagID", "tagValue")
    faults = Faults().block(tags.frame.height, tags.where)
    names = pl.DataFrame(
        {"key": to_keys(tags.frame["tagID"], "tag key", faults), "tag": tags.frame["tagValue"].str.strip_chars()}
    )
    names = with_unique_keys(names, "tag", tags.where)
    rows = given.frame.rename({"artistID": "key"})
    known = rows.filter(pl.col("key").is_in(artists.implode()))
    counted = known.group_by("key", "tagID").agg(users=pl.len())
    named = counted.join(names, left_on="tagID", right_on="key", how="inner").filter(pl.col("tag").is_not_null())
    number = pl.col("tagID").cast(pl.Int64, strict=False)
    ordered = named.sort("key", -pl.col("users").cast(pl.Int64), number, "tagID", nulls_last=True)
    unnamed = known.height - int(named["users"].sum())
    return ordered.group_by("key", maintain_order=True).agg(tags=pl.col("tag")), noted(
        tag_rows=rows.height,
        tag_rows_of_unknown_artists=rows.height - known.height or None,
        tag_rows_of_unknown_tags=unnamed or None,
    )
