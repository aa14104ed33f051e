"""Layouts of train and test for graph recommenders: SELFRec's triples, LightGCN's adjacency lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from rec_core.types import Dataset
from rec_data.export.config import ExportSettings
from rec_data.export.outgoing import PART_NAMES, TEST, TRAIN, VALID, Names, Outgoing, without_repeated_pairs
from rec_data.export.written import Written

BLANK = r"[\s\p{Cc}]"


def write_selfrec(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """SELFRec's graph data: ``train.txt`` and ``test.txt`` with lines ``user item 1``.

    A pair occurs once in each file, as a repeated line would double its edge. SELFRec leaves out test pairs whose user
    or item its train file does not have; they are written, and counted in ``export.json``.
    """
    names = Names.of(dataset, settings.chosen_keys)
    if settings.chosen_keys == "raw":
        names.check("selfrec", BLANK, "a blank")
    events = _parts(out, dataset, settings)

    def lines(part: Outgoing) -> Iterator[pl.DataFrame]:
        for block in part.blocks():
            yield names.pairs(block).with_columns(pl.lit("1"))

    for code, name in enumerate(PART_NAMES):
        if (part := events.where(events.part == code)) or code != VALID:
            out.lines(f"{name}.txt", lines(part))
    if settings.chosen_keys == "dense":
        out.datamaps(dataset, names, dataset.items.n_interacted)


def write_lightgcn(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """LightGCN's data: ``train.txt`` and ``test.txt`` with lines ``user item item ...`` of ids from 0.

    A user without events in a part has no line there, since LightGCN stops at a line without items. ``user_list.txt``
    and ``item_list.txt`` give the raw keys.
    """
    names = Names.of(dataset, "dense")
    raw = Names.of(dataset, "raw")
    raw.check("lightgcn", r"[\n\r\x00]|^\s|\s$", "a line end, or a blank at one end")
    events = _parts(out, dataset, settings)
    for code, name in enumerate(PART_NAMES):
        if (part := events.where(events.part == code)) or code != VALID:
            out.lines(f"{name}.txt", (names.sequences(block) for block in part.blocks()))
    n_items = dataset.items.n_interacted
    for what, keys, ids in (("user", raw.users, names.users), ("item", raw.items[:n_items], names.items[:n_items])):
        table = pl.DataFrame({"org_id": keys, "remap_id": ids})
        out.lines(f"{what}_list.txt", [table], header="org_id remap_id")
    out.map, out.first_id = "user_list.txt, item_list.txt", names.first


def _parts(out: Written, dataset: Dataset, settings: ExportSettings) -> Outgoing:
    """The events, each pair once in its part, and what these layouts make of them."""
    events = Outgoing.of(dataset)
    if settings.valid == "train":
        events = replace(events, part=np.where(events.part == VALID, np.uint8(TRAIN), events.part))
    events, repeated = without_repeated_pairs(events)
    out.leave_out("repeated_pairs", repeated)
    out.parts = events.part_counts()
    out.lose_columns(dataset)
    out.leave_out("cold_items", len(dataset.items) - dataset.items.n_interacted)
    program = "LightGCN" if settings.format == "lightgcn" else "SELFRec"
    if (events.part == VALID).any():
        out.notes.append(
            f"the {events.part_counts()['valid']:,} validation events are in valid.txt, which {program} does "
            f"not read: put it in the place of test.txt to tune, or export with --valid train for the last run"
        )
    train, test = events.where(events.part == TRAIN), events.where(events.part == TEST)
    known_users, known_items = (np.zeros(size, np.bool_) for size in (dataset.split.n_users, dataset.split.n_items))
    known_users[train.users], known_items[train.items] = True, True
    unknown = int((~(known_users[test.users] & known_items[test.items])).sum())
    if unknown:
        what = "SELFRec leaves them out of its metrics" if settings.format == "selfrec" else "no model can score them"
        out.notes.append(f"{unknown:,} test pairs have a user or an item without training events; {what}")
    return events
