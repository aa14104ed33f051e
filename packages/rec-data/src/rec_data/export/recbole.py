"""RecBole's atomic files: NAME.inter or a file per part, NAME.item, NAME.user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from rec_core.types import Dataset
from rec_data.export.config import ExportSettings
from rec_data.export.histories import history_rows
from rec_data.export.lc_rec import HEADER
from rec_data.export.outgoing import PART_NAMES, Names, Outgoing, one_held_out_each
from rec_data.export.sequences import note_left_out
from rec_data.export.written import Written

_NUMBER = r"^-?(?:\d+\.\d+|\d+)$"
_BLANK_SEPARATED = ("genres", "genre", "class")


def write_recbole(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """``NAME.inter`` with ``user_id:token``, ``item_id:token`` and, where there are such, ``rating:float``,
    ``timestamp:float`` and ``generated:token`` (0 or 1); ``NAME.item`` and ``NAME.user`` with the fields.

    With ``benchmark`` the events go to ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter`` instead
    (RecBole: ``benchmark_filename: [train, valid, test]``): ``pairs`` keeps these columns, ``histories`` writes
    ``item_id_list:token_seq`` and the next ``item_id:token`` for leave-one-out splits. A field whose texts hold no
    blank is a ``token``, one of decimal numbers a ``float``, any other a ``token_seq``. Tabs and line ends in texts
    become blanks; genres, which RecBole separates by blanks, lose their commas.
    """
    names = Names.of(dataset, settings.chosen_keys)
    listed = settings.benchmark == "histories"
    if settings.chosen_keys == "raw":
        holds = "a blank, or a quote at its start" if listed else "a tab, a line end, or a quote at its start"
        names.check("recbole", r'\s|^"|\x00' if listed else r'[\t\n\r\x00]|^"', holds)
    events = Outgoing.of(dataset, columns=not listed)
    if listed:
        events, left = one_held_out_each(events, dataset, "recbole --benchmark histories")
        note_left_out(out, left)
        for code, part in enumerate(PART_NAMES):
            rows = history_rows(events, names, code, settings.history)
            out.lines(f"{settings.name}.{part}.inter", rows, header=HEADER, between="\t")
        out.lose_columns(dataset, "item fields", "user fields")
        out.held_out_moved(events)
    else:
        header = "\t".join(_event_columns(events))
        if settings.benchmark == "pairs":
            for code, part in enumerate(PART_NAMES):
                rows = _event_rows(events.where(events.part == code), names)
                out.lines(f"{settings.name}.{part}.inter", rows, header=header, between="\t")
        else:
            rows = _event_rows(Outgoing.in_time(dataset), names)
            out.lines(f"{settings.name}.inter", rows, header=header, between="\t")
            out.notes.append(
                f"{settings.name}.inter does not say which part an event is of ({dataset.split.protocol}); "
                f"--benchmark pairs writes a file per part"
            )
        out.lose_columns(dataset, "timestamps", "ratings", "generated flags", "item fields", "user fields")
    out.parts = events.part_counts()
    n_items = len(dataset.items) if settings.cold_items else dataset.items.n_interacted
    out.leave_out("cold_items", len(dataset.items) - n_items)
    if dataset.items.fields or settings.cold_items:
        _write_fields(out, f"{settings.name}.item", "item_id", names.items.head(n_items), dataset.items.fields)
    if dataset.users.fields:
        _write_fields(out, f"{settings.name}.user", "user_id", names.users, dataset.users.fields)
    if settings.chosen_keys == "dense":
        out.datamaps(dataset, names, n_items)


def _event_columns(events: Outgoing) -> list[str]:
    optional = {
        "rating:float": events.ratings,
        "timestamp:float": events.timestamps,
        "generated:token": events.generated,
    }
    return ["user_id:token", "item_id:token", *(name for name, column in optional.items() if column is not None)]


def _event_rows(events: Outgoing, names: Names) -> Iterator[pl.DataFrame]:
    for block in events.blocks():
        frame = names.pairs(block)
        if block.ratings is not None:
            frame = frame.with_columns(pl.Series("rating", block.ratings))
        if block.timestamps is not None:
            frame = frame.with_columns(pl.Series("timestamp", block.timestamps))
        if block.generated is not None:
            frame = frame.with_columns(pl.Series("generated", block.generated.astype(np.uint8)))
        yield frame


def _write_fields(
    out: Written, file: str, key: str, keys: pl.Series, fields: Mapping[str, Sequence[str | None]]
) -> None:
    columns, header = {key: keys}, [f"{key}:token"]
    for name, values in fields.items():
        text = pl.Series(name, values[: len(keys)], dtype=pl.String)
        text = _one_line(out, text, name)
        if name in _BLANK_SEPARATED:
            text = text.str.replace_all(", ", " ", literal=True)
        columns[name] = text
        header.append(f"{name}:{_type_of(text)}")
    out.lines(file, [pl.DataFrame(columns)], header="\t".join(header), between="\t")


def _one_line(out: Written, text: pl.Series, name: str) -> pl.Series:
    """Text without tabs and line ends, and without a quote at its start, which would begin a quoted field."""
    broken = text.str.contains(r"[\t\n\r\x00]").fill_null(False)
    if broken.any():
        out.change(f"{name}: tabs or line ends became blanks", int(broken.sum()))
        text = text.str.replace_all(r"[\t\n\r\x00]+", " ")
    quoted = text.str.starts_with('"').fill_null(False)
    if quoted.any():
        out.change(f"{name}: double quotes became single ones", int(quoted.sum()))
        text = pl.select(pl.when(quoted).then(text.str.replace_all('"', "'", literal=True)).otherwise(text)).to_series()
    return text


def _type_of(text: pl.Series) -> str:
    there = text.drop_nulls()
    if len(there) and there.str.contains(_NUMBER).all() and there.str.contains(".", literal=True).any():
        return "float"
    return "token_seq" if there.str.contains(" ", literal=True).any() else "token"
