"""S3-Rec's layout: one line per user in time order, ids from 1, and the attributes of the items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.raw import RawData
from rec_data.readers.files import find
from rec_data.readers.json_files import ragged_keys, read_json_object
from rec_data.readers.key_maps import DataMaps, datamaps_beside
from rec_data.readers.sasrec import bare_name, data_files, the_text_file
from rec_data.readers.sequences import read_user_lines

ATTRIBUTES = "_item2attributes.json"


def read_s3rec(path: Path, settings: ReadSettings) -> RawData:
    """Read S3-Rec's ``NAME.txt`` (lines ``user item item ...`` in time order) and ``NAME_item2attributes.json``.

    The numbers of an item's attributes become the item field ``attributes``, a list; their names where a
    ``datamaps.json`` with ``id2attribute`` lies beside them. As with SASRec the last two items are held out.
    """
    file = the_text_file(path, "s3rec")
    maps = datamaps_beside(file)
    raw = read_user_lines(file, settings, "s3rec", bare_name(file), maps)
    beside = find(file.parent, bare_name(file) + ATTRIBUTES)
    if beside is None:
        return raw
    return replace(raw, items=_attributes(beside, maps, settings), files=(*raw.files, beside))


def _attributes(path: Path, maps: DataMaps | None, settings: ReadSettings) -> pl.DataFrame:
    """``key`` and the list ``attributes`` of every item of the JSON file."""
    lists = read_json_object(path)
    counts, flat = ragged_keys(path, lists, "attribute")
    keys = pl.Series("key", list(lists), dtype=pl.String)
    if maps is not None:
        faults = Faults(settings.bad_rows).block(len(keys), lambda row: f"{path}, {keys[row]!r}")
        keys = maps.items.raw(keys, "item", faults).alias("key")
        names = maps.rest.get("id2attribute")
        if isinstance(names, dict):
            flat = flat.replace(list(names), list(map(str, names.values())))
    row = np.repeat(np.arange(len(keys)), counts)
    lists_of_names = pl.DataFrame({"row": row, "attributes": flat}).group_by("row").agg("attributes")
    table = pl.DataFrame({"row": np.arange(len(keys)), "key": keys}).join(lists_of_names, on="row", how="left")
    return table.sort("row").select("key", "attributes").drop_nulls("key")


def is_s3rec(path: Path) -> bool:
    """Whether a directory, or a text file's, holds that file together with its ``NAME_item2attributes.json``."""
    files = [path] if path.is_file() else data_files(path)
    return any(find(file.parent, bare_name(file) + ATTRIBUTES) is not None for file in files)
