"""LLM-RecSys-ID's layout: ``sequential_data.txt`` with numbers from 1, ``datamaps.json`` with the raw keys."""

from __future__ import annotations

from pathlib import Path

from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.files import find
from rec_data.readers.key_maps import datamaps_beside
from rec_data.readers.sequences import read_user_lines

FILE = "sequential_data.txt"


def read_llm_recsys_id(path: Path, settings: ReadSettings) -> RawData:
    """Read ``sequential_data.txt`` (lines ``user item item ...`` in time order) of a directory, or that file.

    Raw keys come from ``datamaps.json`` where it lies beside it (P5's own data has the same two files). The last item
    of a user is the test, the one before validation: the file states no parts, ``--split leave-one-out`` makes the
    same ones. The renumbered copies (``remapped_sequential_data.txt``, ...) hold the same sequences and are not read.
    """
    file = (find(path, FILE) or path / FILE) if path.is_dir() else path
    return read_user_lines(file, settings, "llm-recsys-id", file.resolve().parent.name, datamaps_beside(file))


def is_llm_recsys_id(path: Path) -> bool:
    """Whether a path is a ``sequential_data.txt`` or a directory that holds one."""
    return path.name.removesuffix(".gz") == FILE if path.is_file() else find(path, FILE) is not None
