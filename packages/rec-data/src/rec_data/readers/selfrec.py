"""SELFRec's two text layouts: triples for graph models, sequences for sequential ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.key_maps import datamaps_beside
from rec_data.readers.lightgcn import has_triples, parts_of
from rec_data.readers.lines import first_lines
from rec_data.readers.sequences import KeyLines
from rec_data.rows import RowCollector


def read_selfrec(path: Path, settings: ReadSettings) -> RawData:
    """Read ``train.txt``, ``test.txt`` and, where there is one, ``valid.txt`` of a directory.

    Lines are ``user item weight`` (graph) or ``user:item item ...`` (sequential, in time order); the first line of
    ``train.txt`` tells which. Weights become ratings unless all of them are 1. Where a ``datamaps.json`` lies beside
    them, raw keys come from there.
    """
    folder = path if path.is_dir() else path.parent
    files = parts_of(folder, "selfrec")
    sequential = ":" in next(iter(first_lines(files[0][0], 1)), "")
    maps = datamaps_beside(files[0][0])
    collector = RowCollector(settings)
    reader = KeyLines.of(collector, settings, maps)
    counts = {}
    for file, part in files:
        if sequential:
            counts[file.name] = reader.sequences(file, part, one_line_per_user=True, colon=True)
        else:
            counts[file.name] = reader.columns(file, ("user", "item", "rating"), part)
    rows = collector.finish()
    if rows.ratings is not None and bool((rows.ratings == np.float32(1)).all()):
        rows = replace(rows, ratings=None)
    return RawData(
        name=folder.resolve().name,
        rows=rows,
        dropped=collector.dropped,
        facts={
            "format": "selfrec",
            "form": "user:item item ..." if sequential else "user item weight",
            "rows": counts,
        },
        files=(*(file for file, _ in files), *([maps.path] if maps is not None else [])),
    )


def is_selfrec(path: Path) -> bool:
    """Whether a directory holds ``train.txt`` and ``test.txt`` whose lines have a colon, or are triples."""
    if not path.is_dir():
        return False
    names = {file.name.removesuffix(".gz") for file in path.iterdir()}
    if not {"train.txt", "test.txt"} <= names:
        return False
    train = next(file for file in (path / "train.txt", path / "train.txt.gz") if file.is_file())
    start = first_lines(train, 20)
    return (bool(start) and all(line.count(":") == 1 for line in start)) or has_triples(path)
