"""Lines of keys between blanks: a user with all its items, or a fixed number of columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from rec_data.config import ReadSettings
from rec_data.faults import BlockFaults
from rec_data.raw import RawData
from rec_data.readers.key_maps import DataMaps, KeyMap
from rec_data.readers.lines import Lines, blocks_of_lines
from rec_data.rows import RowCollector


def read_user_lines(file: Path, settings: ReadSettings, layout: str, name: str, maps: DataMaps | None) -> RawData:
    """A file with one line ``user item item ...`` per user, items in time order; raw keys from ``maps``."""
    collector = RowCollector(settings)
    read = KeyLines.of(collector, settings, maps).sequences(file, one_line_per_user=True)
    facts = {"format": layout, "rows": {file.name: read}}
    return RawData(
        name=name,
        rows=collector.finish(),
        dropped=collector.dropped,
        facts=facts if maps is None else {**facts, "raw_keys": maps.path.name},
        files=(file,) if maps is None else (file, maps.path),
    )


@dataclass(slots=True)
class KeyLines:
    """Reads files of such lines into a collector; blank lines are counted.

    collector  takes the rows
    encoding   of the files
    users      which raw user keys the numbers stand for; None where the lines hold the keys themselves
    items      the same for items
    """

    collector: RowCollector
    encoding: str = "utf-8"
    users: KeyMap | None = None
    items: KeyMap | None = None
    _owners: list[pl.DataFrame] = field(default_factory=list)

    @classmethod
    def of(cls, collector: RowCollector, settings: ReadSettings, maps: DataMaps | None) -> KeyLines:
        """With both maps of a ``datamaps.json``, or none."""
        users, items = (None, None) if maps is None else (maps.users, maps.items)
        return cls(collector, settings.encoding, users, items)

    def sequences(
        self, path: Path, part: int | None = None, *, one_line_per_user: bool = False, colon: bool = False
    ) -> int:
        """Lines ``user item item ...``, or ``user:item item ...`` with ``colon``; how many items were read.

        A line without items is counted (``no_items``). With ``one_line_per_user`` a second line of a user is a fault
        (``repeated_user``), because the order of its items is then not stated; with ``colon`` so is a line that has
        none or several (``wrong_field_count``).
        """
        read = 0
        self._owners.clear()
        for lines in blocks_of_lines(path, self.encoding, self.collector.faults.bad_rows):
            faults = self.collector.faults.block(len(lines.text), lines.where)
            lines.leave_out(faults)
            if colon:
                parts = lines.text.str.split_exact(":", 2).struct.unnest()
                owner, rest = parts[:, 0].str.strip_chars(), parts[:, 1].str.strip_chars()
                wrong = (lines.text != "") & (rest.is_null() | parts[:, 2].is_not_null())
                faults.refuse(wrong, "wrong_field_count", lambda row, text=lines.text: _not_colon(text[row]))  # type: ignore[misc]
                rest = rest.fill_null("")
            else:
                parts = lines.text.str.replace_all("\t", " ", literal=True).str.splitn(" ", 2).struct.unnest()
                owner, rest = parts[:, 0], parts[:, 1].fill_null("").str.strip_chars_start()
            faults.leave_out((rest == "") & (lines.text != ""), "no_items")
            if one_line_per_user:
                self._refuse_repeated(lines, owner, faults)
            kept = faults.kept()
            at = np.arange(len(owner)) if kept is None else kept.arg_true().to_numpy()
            if kept is not None:
                owner, rest = owner.filter(kept), rest.filter(kept)
            items = _single_blanks(rest).str.split(" ")
            counts = items.list.len().to_numpy()
            frame = pl.DataFrame({"user": owner, "item": items}).explode("item")
            read += self._add(frame, part, lines, np.repeat(at, counts))
        return read

    def columns(self, path: Path, names: tuple[str, ...], part: int | None = None) -> int:
        """Lines with as many keys or numbers as ``names`` (user, item, rating); how many rows were read.

        Another number of fields is a fault (``wrong_field_count``).
        """
        read = 0
        for lines in blocks_of_lines(path, self.encoding, self.collector.faults.bad_rows):
            faults = self.collector.faults.block(len(lines.text), lines.where)
            lines.leave_out(faults)
            text = _single_blanks(lines.text)
            fields = text.str.split_exact(" ", len(names)).struct.unnest()
            last, beyond = fields[:, len(names) - 1], fields[:, len(names)]
            wrong = (last.is_null() | beyond.is_not_null()) & (text != "")

            def message(row: int, text: pl.Series = text) -> str:
                found = text[row].count(" ") + 1
                wanted = f"wanted {len(names)} ({' '.join(names)})"
                return f"{found} field{'s' * (found != 1)}, {wanted}: {text[row][:100]!r}"

            faults.refuse(wrong, "wrong_field_count", message)
            kept = faults.kept()
            at = np.arange(len(text)) if kept is None else kept.arg_true().to_numpy()
            frame = fields[:, : len(names)] if kept is None else fields[:, : len(names)].filter(kept)
            frame.columns = list(names)
            read += self._add(frame, part, lines, at)
        return read

    def _add(self, frame: pl.DataFrame, part: int | None, lines: Lines, at: np.ndarray) -> int:
        """Hand rows over with their raw keys; ``at`` is the line of each within its block."""
        if self.users is not None or self.items is not None:
            faults = self.collector.faults.block(frame.height, lambda row: lines.where(int(at[row])))
            for name, keys in (("user", self.users), ("item", self.items)):
                if keys is not None:
                    frame = frame.with_columns(keys.raw(frame[name], name, faults).alias(name))
            kept = faults.kept()
            if kept is not None:
                frame, at = frame.filter(kept), at[kept.to_numpy()]
        if part is not None:
            frame = frame.with_columns(pl.lit(part, pl.UInt8).alias("part"))
        self.collector.add(frame, lambda row: lines.where(int(at[row])))
        return frame.height

    def _refuse_repeated(self, lines: Lines, owner: pl.Series, faults: BlockFaults) -> None:
        """Lines whose user had one before, in this block or an earlier one of the same file."""
        repeated = ~owner.is_first_distinct() & (owner != "")
        for earlier in self._owners:
            repeated |= owner.is_in(earlier["user"].implode())
        numbers = pl.int_range(lines.first, lines.first + len(owner), eager=True)
        self._owners.append(pl.DataFrame({"user": owner, "line": numbers}).filter(owner != ""))

        def message(row: int) -> str:
            first = next(line for known in self._owners for line in known.filter(user=owner[row])["line"])
            return f"a second line of user {owner[row]!r} (first: line {first}); a user has one line"

        faults.refuse(repeated, "repeated_user", message)


def _not_colon(text: str) -> str:
    return f"{text.count(':')} colons, wanted one, between the user and its items: {text[:100]!r}"


def _single_blanks(text: pl.Series) -> pl.Series:
    """The text with one blank wherever blanks and tabs were."""
    if text.str.contains("\t", literal=True).any():
        text = text.str.replace_all("\t", " ", literal=True)
    if text.str.contains("  ", literal=True).any():
        text = text.str.replace_all(" +", " ")
    return text
