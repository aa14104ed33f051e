"""Raw files in, :class:`rec_data.raw.RawData` out: one module per layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rec_core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from rec_data.config import ReadSettings
    from rec_data.raw import RawData

TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz")


def detect_format(path: Path) -> str:
    """movielens, recbole or table, from the name of a file or the content of a directory.

    Raises :class:`DataError` that lists what was found where nothing fits.
    """
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    if path.is_file():
        return "recbole" if path.suffix == ".inter" else "table"
    names = sorted(file.name for file in path.iterdir())
    if {"u.data", "u.data.gz"} & set(names):
        return "movielens"
    if any(name.endswith(".inter") for name in names):
        return "recbole"
    tables = [name for name in names if name.casefold().endswith(TABLE_ENDINGS)]
    hint = f"; to read one of its tables name the file: {path / tables[0]}" if tables else ""
    raise DataError(
        f"{path} has no layout known here (movielens: u.data, u.item; recbole: *.inter); "
        f"it holds: {', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}{hint}"
    )


def read(path: Path, settings: ReadSettings) -> RawData:
    """Read raw files in the layout that the settings name, or that their names show."""
    kind = detect_format(path) if settings.format == "auto" else settings.format
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    _refuse_unused(kind, settings)
    match kind:
        case "movielens":
            from rec_data.readers.movielens import read_movielens

            return read_movielens(path, settings)
        case "recbole":
            from rec_data.readers.recbole import read_recbole

            return read_recbole(path, settings)
        case _:
            from rec_data.readers.table import read_table

            return read_table(path, settings)


_TABLE_ONLY = ("separator", "items_file", "users_file")
_COLUMNS = ("user_column", "item_column", "timestamp_column", "rating_column")


def _refuse_unused(kind: str, settings: ReadSettings) -> None:
    """An option that the layout cannot use is a misunderstanding, and would be ignored silently."""
    unused = {"movielens": _TABLE_ONLY + _COLUMNS, "recbole": _TABLE_ONLY}.get(kind, ())
    named = [f"--{option.replace('_', '-')}" for option in unused if getattr(settings, option) is not None]
    if named:
        raise SettingsError(f"the {kind} layout states its own columns; leave out {', '.join(named)}")
