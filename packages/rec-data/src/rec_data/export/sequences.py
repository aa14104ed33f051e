"""Layouts of one sequence per user: SELFRec's sequential data, SASRec, S3-Rec, OpenP5 and LLM-RecSys-ID."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from rec_core.errors import DataError, SettingsError, nearest
from rec_core.types import Dataset
from rec_core.types.ids import Int64
from rec_data.export.config import ExportSettings
from rec_data.export.outgoing import TEST, TRAIN, VALID, LeftOut, Names, Outgoing, one_held_out_each
from rec_data.export.pairs import BLANK
from rec_data.export.written import Written

ATTRIBUTES = ("attributes", "categories", "category", "genres", "genre", "tags")


def write_openp5(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """OpenP5's ``user_sequence.txt``: lines ``user item item ...``; its last item is the test, the one before valid."""
    names = Names.of(dataset, settings.chosen_keys)
    if settings.chosen_keys == "raw":
        names.check("openp5", BLANK, "a blank")
    events = _leave_one_out(out, dataset, settings)
    out.lines("user_sequence.txt", (names.sequences(block) for block in events.blocks()))
    if settings.chosen_keys == "dense":
        out.datamaps(dataset, names, dataset.items.n_interacted)
    short = int((np.bincount(events.users) == 3).sum())
    if short:
        out.notes.append(f"{short:,} users have three events; OpenP5 makes no training sample of fewer than four")


def write_llm_recsys_id(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """LLM-RecSys-ID's ``sequential_data.txt``, ``remapped_sequential_data.txt`` and ``datamaps.json``.

    Lines are ``user item item ...``. In the first file a number is the dense id and one; in the second items are
    numbered from 1 as they first occur in the train parts, user after user, and items that are only held out follow:
    numbers that follow whole sequences would tell the test item, being the largest so far.
    """
    names = Names.of(dataset, "dense", first=1)
    events = _leave_one_out(out, dataset, settings)
    out.lines("sequential_data.txt", (names.sequences(block) for block in events.blocks()))
    number = by_first_appearance(events, len(dataset.items))
    renumbered = Names(names.users, pl.Series(number).cast(pl.String), 1)
    out.lines("remapped_sequential_data.txt", (renumbered.sequences(block) for block in events.blocks()))
    out.datamaps(dataset, names, dataset.items.n_interacted)


def by_first_appearance(events: Outgoing, n_items: int) -> Int64:
    """int64 [n_items]: numbers from 1 in the order of first appearance in train, then of items only held out.

    Items without events get the numbers after those.
    """
    order = np.concatenate([events.items[events.part == TRAIN], events.items[events.part != TRAIN]])
    first = np.full(n_items, len(order), np.int64)
    first[order[::-1]] = np.arange(len(order))[::-1]  # of repeated positions the last one written stays
    number = np.empty(n_items, np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(1, n_items + 1)
    return number


def write_sasrec(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """SASRec's ``NAME.txt``: lines ``user item`` in time order, ids from 1; users of fewer than three are all train."""
    names = Names.of(dataset, "dense", first=1)
    events = _leave_one_out(out, dataset, settings, shortest=3)
    out.lines(f"{settings.name}.txt", (names.pairs(block) for block in events.blocks()))
    out.datamaps(dataset, names, dataset.items.n_interacted)


def write_s3rec(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """S3-Rec's ``NAME.txt`` (lines ``user item item ...``, ids from 1) and ``NAME_item2attributes.json``.

    Attributes are numbered from 1 as they first occur over the items in id order; ``datamaps.json`` has their names.
    """
    names = Names.of(dataset, "dense", first=1)
    events = _leave_one_out(out, dataset, settings)
    out.lines(f"{settings.name}.txt", (names.sequences(block) for block in events.blocks()))
    n_items = dataset.items.n_interacted
    field = _attribute_field(dataset, settings.attributes)
    lists: list[list[str]] = [[] for _ in range(n_items)]
    if field is None:
        out.notes.append("no item field holds attributes: every item's list is empty (--attributes names a field)")
    else:
        texts = dataset.items.fields[field][:n_items]
        lists = [list(dict.fromkeys(filter(None, map(str.strip, (text or "").split(","))))) for text in texts]
        out.notes.append(f"attributes are the item field {field!r}, cut at commas")
    number: dict[str, int] = {}
    numbered = [[number.setdefault(name, len(number) + 1) for name in attributes] for attributes in lists]
    by_item = dict(zip(names.items.head(n_items).to_list(), numbered, strict=True))
    out.json(f"{settings.name}_item2attributes.json", by_item, n_items)
    attributes = {"attribute2id": number, "id2attribute": {str(n): name for name, n in number.items()}}
    out.datamaps(dataset, names, n_items, attributes if number else None)
    if field is not None:
        left = [name for name in dataset.items.fields if name != field]
        out.lost = [("item fields other than " + field) if name == "item fields" else name for name in out.lost]
        out.lost = [name for name in out.lost if left or not name.startswith("item fields")]


def _attribute_field(dataset: Dataset, asked: str | None) -> str | None:
    fields = dataset.items.fields
    if asked is None:
        return next((name for name in ATTRIBUTES if name in fields), None)
    if asked not in fields:
        raise SettingsError(f"--attributes {asked!r} is no item field of {dataset.name}{nearest(asked, fields)}")
    return asked


def write_selfrec_sequential(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """SELFRec's sequential data: ``train.txt`` with lines ``user:item item ...``, ``test.txt`` with ``user:item``.

    SELFRec leaves out train sequences of one item, and stops when a longer one has no test line: such users are left
    out. With ``valid="train"`` the validation item ends the train sequence, as in the data that SELFRec brings along.
    """
    names = Names.of(dataset, settings.chosen_keys)
    if settings.chosen_keys == "raw":
        names.check("selfrec-sequential", r"[\s\p{Cc}:]", "a blank or a colon")
    events = Outgoing.of(dataset)
    tested = events.counts(TEST)
    if tested.max(initial=0) > 1:
        user = int(np.argmax(tested))
        raise DataError(
            f"the selfrec-sequential layout has one test item per user, and user {dataset.users.ids.keys[user]!r} has "
            f"{tested[user]:,}; prepare with --split leave-one-out, or export as selfrec"
        )
    whole = events.part == TRAIN if settings.valid == "file" else events.part != TEST
    in_train = np.bincount(events.users[whole], minlength=events.n_users)
    gone = (tested == 0) & (in_train > 1)
    keep = ~gone[events.users]
    out.leave_out("users_without_test", int(gone.sum()))
    out.leave_out("events_of_those_users", int((~keep).sum()))
    events, whole = events.where(keep), whole[keep]
    skipped = int(((tested > 0) & (in_train < 2)).sum())
    if skipped:
        out.notes.append(f"{skipped:,} users with a test item have fewer than two train items; SELFRec skips them")

    def lines(part: Outgoing) -> Iterator[pl.DataFrame]:
        for block in part.blocks():
            yield names.sequences(block).select(pl.format("{}:{}", "user", "items"))

    out.lines("train.txt", lines(events.where(whole)))
    if (valid := events.where(~whole & (events.part == VALID))).users.size:
        out.lines("valid.txt", lines(valid))
        out.notes.append(
            f"the {len(valid):,} validation events are in valid.txt, which SELFRec does not read: put it in the place "
            f"of test.txt to tune; --valid train puts them at the end of the train sequences for the last run"
        )
    out.lines("test.txt", lines(events.where(events.part == TEST)))
    out.parts = {
        "train": int(whole.sum()),
        "valid": int((~whole & (events.part == VALID)).sum()),
        "test": int((events.part == TEST).sum()),
    }
    out.lose_columns(dataset)
    out.leave_out("cold_items", len(dataset.items) - dataset.items.n_interacted)
    out.held_out_moved(events)
    if settings.chosen_keys == "dense":
        out.datamaps(dataset, names, dataset.items.n_interacted)


def _leave_one_out(out: Written, dataset: Dataset, settings: ExportSettings, *, shortest: int = 0) -> Outgoing:
    """The events of users whose last two items are one valid and one test event, with all that is said about them."""
    events, left = one_held_out_each(Outgoing.of(dataset), dataset, settings.format, shortest=shortest)
    note_left_out(out, left)
    out.parts = events.part_counts()
    out.lose_columns(dataset)
    out.leave_out("cold_items", len(dataset.items) - dataset.items.n_interacted)
    out.held_out_moved(events)
    return events


def note_left_out(out: Written, left: LeftOut) -> None:
    """Users whose last items would be taken for held-out ones."""
    out.leave_out("users_without_held_out_events", left.users)
    out.leave_out("events_of_those_users", left.events)
