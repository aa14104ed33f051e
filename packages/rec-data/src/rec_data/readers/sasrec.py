"""SASRec's layout: one text file of pairs in time order, ids from 1."""

from __future__ import annotations

from pathlib import Path

from rec_core.errors import DataError
from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.key_maps import datamaps_beside
from rec_data.readers.lines import first_lines
from rec_data.readers.sequences import KeyLines
from rec_data.rows import RowCollector

_NOT_DATA = ("_neg", "_sample")  # S3-Rec's drawn negatives lie beside its data


def read_sasrec(path: Path, settings: ReadSettings) -> RawData:
    """Read SASRec's ``NAME.txt``, or the one in a directory: lines ``user item``, every user's in time order.

    SASRec holds out every user's last item for the test and the one before for validation: the file states no parts,
    ``--split leave-one-out`` makes the same ones. Raw keys come from a ``datamaps.json`` that lies beside it.
    """
    file = the_text_file(path, "sasrec")
    maps = datamaps_beside(file)
    collector = RowCollector(settings)
    lines = KeyLines.of(collector, settings, maps)
    facts = {"format": "sasrec", "rows": {file.name: lines.columns(file, ("user", "item"))}}
    return RawData(
        name=bare_name(file),
        rows=collector.finish(),
        dropped=collector.dropped,
        facts=facts if maps is None else {**facts, "raw_keys": maps.path.name},
        files=(file,) if maps is None else (file, maps.path),
    )


def bare_name(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".txt")


def the_text_file(path: Path, layout: str) -> Path:
    if path.is_file():
        return path
    found = data_files(path)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{path} should hold one {layout} text file; found {names}" + ("; name one" if found else ""))
    return found[0]


def data_files(folder: Path) -> list[Path]:
    """The text files of a directory that may be data: not drawn negatives, not a readme."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.removesuffix(".gz").endswith(".txt")
        and not bare_name(file).endswith(_NOT_DATA)
        and "readme" not in file.name.casefold()
    )


def is_sasrec(path: Path) -> bool:
    """Whether a text file, or the only one of a directory, begins with lines of two whole numbers and no header."""
    files = [path] if path.is_file() else data_files(path)
    if len(files) != 1 or not files[0].name.removesuffix(".gz").endswith(".txt"):
        return False
    fields = [line.split(" ") for line in first_lines(files[0])]
    return bool(fields) and all(len(line) == 2 and line[0].isdecimal() and line[1].isdecimal() for line in fields)
