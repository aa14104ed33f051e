"""The layout of LightGCN and of the graph recommenders after it: train and test as lines of ids."""

from __future__ import annotations

from pathlib import Path

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.files import find
from rec_data.readers.key_maps import read_two_columns
from rec_data.readers.lines import first_lines
from rec_data.readers.sequences import KeyLines
from rec_data.rows import RowCollector

PARTS = {"train": 0, "valid": 1, "test": 2}
HEADER = ("org_id", "remap_id")
_TRIPLES = {"data1.txt": 0, "test1.txt": 2}  # as Last.fm comes with LightGCN


def read_lightgcn(path: Path, settings: ReadSettings) -> RawData:
    """Read ``train.txt``, ``test.txt`` and, where there is one, ``valid.txt`` of a directory.

    A line is a user and all its items of that part, ``user item item ...``. Last.fm comes with LightGCN in another
    form, ``data1.txt`` and ``test1.txt`` with lines ``user item count``; the count becomes the rating. Where
    ``user_list.txt`` and ``item_list.txt`` (``org_id remap_id``) lie beside them, raw keys come from there. Nothing in
    this layout is a time: the order of items in a line need not be one.
    """
    folder = path if path.is_dir() else path.parent
    files = [(file, part) for name, part in _TRIPLES.items() if (file := find(folder, name)) is not None]
    triples = len(files) == len(_TRIPLES)
    if not triples:
        files = parts_of(folder, "lightgcn")
    maps = {
        what: read_two_columns(file, what, header=HEADER)
        for what in ("user", "item")
        if (file := find(folder, f"{what}_list.txt")) is not None
    }
    collector = RowCollector(settings)
    reader = KeyLines(collector, settings.encoding, maps.get("user"), maps.get("item"))
    rows = {}
    for file, part in files:
        if triples:
            rows[file.name] = reader.columns(file, ("user", "item", "rating"), part)
        else:
            rows[file.name] = reader.sequences(file, part)
    return RawData(
        name=folder.resolve().name,
        rows=collector.finish(),
        dropped=collector.dropped,
        facts={"format": "lightgcn", "form": "user item count" if triples else "user item item ...", "rows": rows}
        | ({"raw_keys": sorted(file.path.name for file in maps.values())} if maps else {}),
        files=(*(file for file, _ in files), *(known.path for known in maps.values())),
    )


def parts_of(folder: Path, layout: str) -> list[tuple[Path, int]]:
    """``train.txt``, ``valid.txt`` and ``test.txt`` with their part, gzipped or not; train and test must be there."""
    found = []
    for name, part in PARTS.items():
        there = [file for file in (folder / f"{name}.txt", folder / f"{name}.txt.gz") if file.is_file()]
        if len(there) > 1:
            raise DataError(f"{folder} holds {there[0].name} and {there[1].name}; which one counts? remove the other")
        if not there and name != "valid":
            names = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
            raise DataError(f"the {layout} layout has a {name}.txt; {folder} holds: {names}")
        found += [(file, part) for file in there]
    return found


def is_lightgcn(path: Path) -> bool:
    """Whether a directory holds Last.fm's pair of files, or ``train.txt`` and ``test.txt`` with one line per user.

    SELFRec's graph data has the same file names and three columns: a user there fills several lines.
    """
    if not path.is_dir():
        return False
    names = {file.name.removesuffix(".gz") for file in path.iterdir()}
    if set(_TRIPLES) <= names:
        return True
    if not {"train.txt", "test.txt"} <= names:
        return False
    return not _has_colon(path) and not has_triples(path)


def _has_colon(folder: Path) -> bool:
    return any(":" in line for line in _start(folder, 20))


def has_triples(folder: Path) -> bool:
    """Whether the first lines of ``train.txt`` are ``user item weight`` with a user on several of them, or end in 1."""
    fields = [line.split() for line in _start(folder, 200)]
    if not fields or any(len(line) != 3 or not _is_number(line[2]) for line in fields):
        return False
    return len({line[0] for line in fields}) < len(fields) or len({line[2] for line in fields}) == 1


def _start(folder: Path, n: int) -> list[str]:
    for name in ("train.txt", "train.txt.gz"):
        if (folder / name).is_file():
            return first_lines(folder / name, n)
    return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
