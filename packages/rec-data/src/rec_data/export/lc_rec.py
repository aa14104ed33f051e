"""LC-Rec's files of a data set D (arXiv 2311.09049): sequences, items, reviews, raw keys, and parts for RecBole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from rec_core.types import Dataset
from rec_data.export.config import ExportSettings
from rec_data.export.histories import history_rows
from rec_data.export.outgoing import PART_NAMES, Names, Outgoing, one_held_out_each
from rec_data.export.sequences import note_left_out
from rec_data.export.written import Written
from rec_data.leaky_texts import held_out_reviews

FIELDS = ("title", "description", "brand", "categories")
HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token"


def write_lc_rec(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """``D.inter.json``, ``D.item.json``, ``D.review.json``, the maps of raw keys, and ``D.{train,valid,test}.inter``.

    Ids are the dense ones; ``D.user2id`` and ``D.item2id`` give their raw keys. An item has the four fields that LC-Rec
    reads, empty where the data set lacks them, and then all others. Rows of a part hold up to ``settings.history``
    items of history. ``D.index.json`` and embeddings are made by the quantiser and the encoder, ``D.user.json`` by a
    language model: they are not here.
    """
    names = Names.of(dataset, "dense")
    raw = Names.of(dataset, "raw")
    raw.check("lc-rec", r"[\t\n\r\x00]|^\s|\s$", "a tab, a line end, or a blank at one end")
    name = settings.name
    events, left = one_held_out_each(Outgoing.of(dataset), dataset, "lc-rec")
    note_left_out(out, left)
    out.parts = events.part_counts()
    _sequences(out, f"{name}.inter.json", events, names)
    for code, part in enumerate(PART_NAMES):
        rows = history_rows(events, names, code, settings.history)
        out.lines(f"{name}.{part}.inter", rows, header=HEADER, between="\t")
    n_items = len(dataset.items) if settings.cold_items else dataset.items.n_interacted
    out.leave_out("cold_items", len(dataset.items) - n_items)
    _items(out, f"{name}.item.json", dataset, n_items)
    for what, keys, ids in (("user", raw.users, names.users), ("item", raw.items[:n_items], names.items[:n_items])):
        out.lines(f"{name}.{what}2id", [pl.DataFrame({"key": keys, "id": ids})], between="\t")
    out.map, out.first_id = f"{name}.user2id, {name}.item2id", names.first
    if dataset.reviews is not None:
        _reviews(out, f"{name}.review.json", dataset, n_items)
    out.lose_columns(dataset, "item fields", "reviews")
    out.held_out_moved(events)


def _sequences(out: Written, name: str, events: Outgoing, names: Names) -> None:
    """``{"0": [3, 17, ...], ...}`` written user by user."""
    rows = 0
    with out.path(name).open("wb") as file:
        file.write(b"{\n")
        for block in events.blocks():
            if rows:
                file.write(b",\n")
            frame = names.sequences(block, ", ").select(pl.format('"{}": [{}]', "user", "items"))
            file.write(frame.write_csv(include_header=False, quote_style="never", line_terminator=",\n")[:-2].encode())
            rows += frame.height
        file.write(b"\n}\n")
    out.files[name] = rows


def _items(out: Written, name: str, dataset: Dataset, n_items: int) -> None:
    fields = dataset.items.fields
    order = [*FIELDS, *(field for field in fields if field not in FIELDS)]
    columns = [fields.get(field, ()) or [None] * n_items for field in order]
    missing = [field for field in FIELDS if field not in fields]
    if missing:
        out.notes.append(f"the data set has no item field {', '.join(missing)}: empty in {name}")

    def entries() -> Iterator[str]:
        for item in range(n_items):
            texts = {field: column[item] or "" for field, column in zip(order, columns, strict=True)}
            yield f'"{item}": {json.dumps(texts, ensure_ascii=False)}'

    with out.path(name).open("w", encoding="utf-8", newline="\n") as file:
        file.write("{\n" + ",\n".join(entries()) + "\n}\n")
    out.files[name] = n_items


def _reviews(out: Written, name: str, dataset: Dataset, n_items: int) -> None:
    """``{"(user, item)": {"review": ..., "summary": ...}}``; the first of several reviews of a pair."""
    reviews = dataset.reviews
    assert reviews is not None
    found: dict[str, Any] = {}
    cold = 0
    for row, (user, item) in enumerate(zip(reviews.users.tolist(), reviews.items.tolist(), strict=True)):
        if item >= n_items:
            cold += 1
            continue
        summary = reviews.summaries[row] if reviews.summaries is not None else None
        found.setdefault(f"({user}, {item})", {"review": reviews.texts[row], "summary": summary or ""})
    out.leave_out("reviews_of_cold_items", cold)
    out.leave_out("further_reviews_of_a_pair", len(reviews) - cold - len(found))
    out.json(name, found, len(found))
    held_out = held_out_reviews(reviews, dataset.split.interactions, dataset.split.part)
    if n := sum(map(len, held_out.values())):
        out.notes.append(
            f"{n:,} of the {len(reviews):,} reviews are about held-out events: leave those out of anything a model "
            f"learns from"
        )
