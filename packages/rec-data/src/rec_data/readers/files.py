"""Which files a publisher's folder holds, and how they are written."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from rec_core.errors import DataError, nearest
from rec_data.text import byte_lines


def find(folder: Path, *names: str) -> Path | None:
    """The first of the names that the folder holds, plain or gzipped; None where it holds none."""
    spelled = (file for name in names for file in (folder / name, folder / f"{name}.gz"))
    return next((file for file in spelled if file.is_file()), None)


def holds(folder: Path) -> str:
    """``it holds: a, b, ...`` for messages."""
    names = sorted(file.name for file in folder.iterdir())
    return f"it holds: {', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}"


def others(folder: Path, read: Collection[Path]) -> list[str]:
    """Names of the folder's other files, for the manifest: what was there and not used."""
    names = (file.name for file in folder.iterdir() if file.is_file() and file not in set(read))
    return sorted(name for name in names if not name.startswith(".") and "readme" not in name.casefold())


def encoding_of(path: Path, *otherwise: str) -> str:
    """utf-8 where the bytes allow it, else the first of the other encodings that can stand for them all."""
    for name in ("utf-8", *otherwise):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            for block in byte_lines(path):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    raise DataError(f"{path} is neither {' nor '.join(('utf-8', *otherwise))}")


def exactly(path: Path, layout: str, *names: str) -> Callable[[Sequence[str]], list[str]]:
    """A check for headers: every one of the names must be there."""

    def wanted(found: Sequence[str]) -> list[str]:
        for name in names:
            if name not in found:
                listed = ", ".join(map(repr, found[:30]))
                raise DataError(
                    f"{path} has no {name!r}, wanted in the {layout} layout; it has: {listed}" + _near(name, found)
                )
        return list(names)

    return wanted


def _near(name: str, found: Sequence[str]) -> str:
    offer = nearest(name, found)
    return offer if "did you mean" in offer else ""


def first_of_each(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """A table of items with one row per ``key``, the first, and what was left out: for sources known to repeat items.

    Rows without a key are left out as well. The counts are for the manifest.
    """
    keyed = frame.filter(pl.col("key").is_not_null())
    unique = keyed.unique("key", keep="first", maintain_order=True)
    counts = {"missing_key": frame.height - keyed.height, "repeated_key": keyed.height - unique.height}
    return unique, {reason: n for reason, n in counts.items() if n}


def without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that hold anything; ``key`` always stays."""
    return frame.select(name for name in frame.columns if name == "key" or frame[name].count())


def noted(**facts: Any) -> dict[str, object]:
    """Facts for the manifest, those that are empty left out."""
    return {name: value for name, value in facts.items() if value not in (None, {}, [], (), 0)}


def joined(names: Iterable[str]) -> str:
    """``a, b and c``."""
    listed = list(names)
    return ", ".join(listed[:-1]) + (" and " if len(listed) > 1 else "") + listed[-1] if listed else "none"
