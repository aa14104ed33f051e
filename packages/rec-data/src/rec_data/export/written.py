"""What an export writes, and what it has to say about it: files, counts, and everything that did not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from rec_core.artifacts import Writer
from rec_core.types import Dataset
from rec_data.export.outgoing import Names, Outgoing

DATAMAPS = "datamaps.json"


@dataclass(slots=True)
class Written:
    """The export under construction; its fields become ``export.json``.

    parts      events of each part in the files
    files      rows (lines of data, or entries) per file
    left_out   what of the dataset is not in the files, by reason
    lost       columns the layout has no place for
    changed    how often a text had to be changed, by reason
    notes      what whoever uses the files should know
    map        the file that gives raw keys back; None where the files hold them
    first_id   what dense id 0 is called; None where the files hold raw keys
    """

    writer: Writer
    parts: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    map: str | None = None
    first_id: int | None = None

    def path(self, name: str) -> Path:
        """Where a new file of the export goes."""
        if name in self.writer.files:
            raise ValueError(f"{name} was written twice")
        self.writer.files.append(name)
        return self.writer.directory / name

    def lines(
        self, name: str, blocks: Iterable[pl.DataFrame], *, header: str | None = None, between: str = " "
    ) -> None:
        """A text file: the columns of each block with ``between`` (one character) in between, line by line."""
        rows = 0
        with self.path(name).open("wb") as file:
            if header is not None:
                file.write(header.encode() + b"\n")
            for frame in blocks:
                if frame.height:
                    frame.write_csv(file, include_header=False, separator=between, quote_style="never")
                rows += frame.height
        self.files[name] = rows

    def json(self, name: str, value: Any, rows: int) -> None:
        """A JSON file of ``rows`` entries."""
        self.path(name).write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
        self.files[name] = rows

    def leave_out(self, reason: str, n: int) -> None:
        """Note what is not in the files."""
        if n:
            self.left_out[reason] = self.left_out.get(reason, 0) + n

    def change(self, reason: str, n: int) -> None:
        """Note texts that had to be changed."""
        if n:
            self.changed[reason] = self.changed.get(reason, 0) + n

    def lose_columns(self, dataset: Dataset, *kept: str) -> None:
        """Note which of timestamps, ratings, generated flags, item and user fields and reviews have no place here."""
        events = dataset.split.interactions
        have = {
            "timestamps": events.timestamps is not None,
            "ratings": events.ratings is not None,
            "generated flags": events.generated is not None,
            "item fields": bool(dataset.items.fields),
            "user fields": bool(dataset.users.fields),
            "reviews": dataset.reviews is not None,
        }
        self.lost += [name for name, there in have.items() if there and name not in kept]

    def datamaps(self, dataset: Dataset, names: Names, items: int, extra: Mapping[str, Any] | None = None) -> None:
        """``datamaps.json`` as LLM-RecSys-ID has it: raw key to number and back, for users and the first items."""
        maps: dict[str, Any] = {}
        columns = {
            "user": (dataset.users.ids.keys, names.users.to_list()),
            "item": (dataset.items.ids.keys[:items], names.items.head(items).to_list()),
        }
        for what, (keys, numbers) in columns.items():
            maps[f"{what}2id"] = dict(zip(keys, numbers, strict=True))
            maps[f"id2{what}"] = dict(zip(numbers, keys, strict=True))
        self.json(DATAMAPS, {**maps, **(extra or {})}, len(dataset.users) + items)
        self.map, self.first_id = DATAMAPS, names.first

    def held_out_moved(self, events: Outgoing) -> None:
        """Say where sequences were put in another order."""
        if events.moved:
            self.notes.append(
                f"{events.moved:,} users had events after a held-out one; the held-out events end their sequences here"
            )
