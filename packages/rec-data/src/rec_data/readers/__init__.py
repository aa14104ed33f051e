"""Raw files in, :class:`rec_data.raw.RawData` out: one module per layout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rec_core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from rec_data.config import ReadSettings
    from rec_data.raw import RawData

log = logging.getLogger(__name__)

_COLUMNS = ("user_column", "item_column", "timestamp_column", "rating_column")
_TEXT = ("separator", "column_names")
_BESIDE = ("items_file", "users_file")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files of one layout are told and read.

    module   in this package; its function is ``read_`` and the module's name
    shows    given a directory's file names (folded to lower case, without .gz), whether they show the layout
    looks    what to look for, for the message when nothing fits
    options  options of ReadSettings that the layout takes beside those that all take
    """

    module: str
    shows: Callable[[frozenset[str]], bool] | None
    looks: str
    options: tuple[str, ...] = ()


def detect_format(path: Path) -> str:
    """The layout that a file's name or a directory's content shows.

    Raises :class:`DataError` that lists what was found where nothing fits.
    """
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    if path.is_file():
        return "recbole" if path.suffix == ".inter" else "table"
    names = sorted(file.name for file in path.iterdir())
    folded = frozenset(name.casefold().removesuffix(".gz") for name in names)
    for name, layout in LAYOUTS.items():
        if layout.shows is not None and layout.shows(folded):
            return name
    from rec_data.readers.table import ENDINGS, table_parts

    if table_parts(path):
        return "table"
    tables = [name for name in names if name.casefold().endswith(ENDINGS)]
    hint = f"; to read one of its tables name the file: {path / tables[0]}" if tables else ""
    known = "; ".join(f"{name}: {layout.looks}" for name, layout in LAYOUTS.items() if layout.shows is not None)
    raise DataError(
        f"{path} has no layout known here ({known}); "
        f"it holds: {', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}{hint}"
    )


def read(path: Path, settings: ReadSettings) -> RawData:
    """Read raw files in the layout that the settings name, or that their names show.

    Raises :class:`DataError` for what cannot be read and, with ``strict``, for any line that was left out.
    """
    kind = detect_format(path) if settings.format == "auto" else settings.format
    if not path.exists():
        raise DataError(f"there is no file or directory {path}")
    layout = LAYOUTS[kind]
    _refuse_unused(kind, layout.options, settings)
    read_layout = getattr(import_module(f"{__name__}.{layout.module}"), f"read_{layout.module}")
    raw: RawData = read_layout(path, settings)
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in raw.dropped.items())
    if dropped and settings.strict:
        raise DataError(f"{raw.name}: --strict, and of {raw.lines:,} lines some were left out: {dropped}")
    if dropped:
        log.warning("%s: of %s lines some were left out: %s", raw.name, f"{raw.lines:,}", dropped)
    return raw


_ALL = ("user_column", "item_column", "timestamp_column", "rating_column", *_TEXT, *_BESIDE, "source_version")


def _refuse_unused(kind: str, options: Sequence[str], settings: ReadSettings) -> None:
    """An option that the layout cannot use is a misunderstanding, and would be ignored silently."""
    unused = [option for option in _ALL if option not in options]
    named = [f"--{option.replace('_', '-')}" for option in unused if getattr(settings, option) is not None]
    if settings.reviews and "reviews" not in options:
        named.append("--reviews")
    if named:
        raise SettingsError(f"the {kind} layout states its own columns; leave out {', '.join(named)}")


LAYOUTS: dict[str, Layout] = {
    "movielens": Layout("movielens", lambda names: "u.data" in names, "u.data, u.item"),
    "recbole": Layout("recbole", lambda names: any(n.endswith(".inter") for n in names), "*.inter", _COLUMNS),
    "table": Layout("table", None, "", (*_COLUMNS, *_TEXT, *_BESIDE)),
}
