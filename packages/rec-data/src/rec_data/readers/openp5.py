"""OpenP5's layout: ``user_sequence.txt``, a line per user, items in time order."""

from __future__ import annotations

from pathlib import Path

from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.files import find
from rec_data.readers.key_maps import datamaps_beside
from rec_data.readers.sequences import read_user_lines

FILE = "user_sequence.txt"


def read_openp5(path: Path, settings: ReadSettings) -> RawData:
    """Read ``user_sequence.txt`` (lines ``user item item ...``) of a directory, or that file.

    OpenP5 takes every user's last item for the test and the one before for validation: the file states no parts,
    ``--split leave-one-out`` makes the same ones. Its indexing files (``user_indexing.txt``,
    ``item_sequential_indexing_*.txt``, ...) are derived from it and not read. Raw keys come from a ``datamaps.json``
    that lies beside it.
    """
    file = (find(path, FILE) or path / FILE) if path.is_dir() else path
    return read_user_lines(file, settings, "openp5", file.resolve().parent.name, datamaps_beside(file))


def is_openp5(path: Path) -> bool:
    """Whether a path is a ``user_sequence.txt`` or a directory that holds one."""
    return path.name.removesuffix(".gz") == FILE if path.is_file() else find(path, FILE) is not None
