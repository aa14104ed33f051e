"""Parquet: everything a dataset holds, as three tables (four with reviews)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rec_core.types import Dataset
from rec_data.export.config import ExportSettings
from rec_data.export.outgoing import PART_NAMES, Names, Outgoing
from rec_data.export.written import Written


def write_parquet(out: Written, dataset: Dataset, settings: ExportSettings) -> None:
    """``interactions.parquet``, ``items.parquet``, ``users.parquet`` and, where there are reviews, ``reviews.parquet``.

    interactions   user, item (raw keys), user_id (int64), item_id (int32), where there are such timestamp (int64
                   seconds) and rating (float32), part (train, valid, test), generated (bool); in the dataset's order
    items          item (raw key), item_id, has_events (false for cold items), a text column per field
    users          user (raw key), user_id, a text column per field
    reviews        user, item, text and, where there are such, summary, timestamp, rating
    """
    names = Names.of(dataset, "raw")
    events = Outgoing.in_time(dataset)
    writer: pq.ParquetWriter | None = None
    with out.path("interactions.parquet").open("wb") as file:
        for block in events.blocks() if len(events) else [events]:
            table = _events(block, names)
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
    out.files["interactions.parquet"] = len(events)
    out.parts = events.part_counts()
    has_events = np.arange(len(dataset.items)) < dataset.items.n_interacted
    _fields(out, "item", names.items, np.int32, dataset.items.fields, has_events)
    _fields(out, "user", names.users, np.int64, dataset.users.fields)
    if dataset.reviews is not None:
        reviews = dataset.reviews
        columns = {"user": names.users.gather(reviews.users), "item": names.items.gather(reviews.items)}
        frame = pl.DataFrame(columns).with_columns(pl.Series("text", reviews.texts, dtype=pl.String))
        optional = {"summary": reviews.summaries, "timestamp": reviews.timestamps, "rating": reviews.ratings}
        frame = frame.with_columns(pl.Series(name, v) for name, v in optional.items() if v is not None)
        frame.write_parquet(out.path("reviews.parquet"))
        out.files["reviews.parquet"] = frame.height


def _events(block: Outgoing, names: Names) -> pa.Table:
    frame = names.pairs(block).with_columns(pl.Series("user_id", block.users), pl.Series("item_id", block.items))
    for name, column in (("timestamp", block.timestamps), ("rating", block.ratings)):
        if column is not None:
            frame = frame.with_columns(pl.Series(name, column))
    generated = np.zeros(len(block), np.bool_) if block.generated is None else block.generated
    part = pl.Series("part", PART_NAMES).gather(block.part.astype(np.uint32)).alias("part")
    return frame.with_columns(part, pl.Series("generated", generated)).to_arrow()


def _fields(
    out: Written,
    what: str,
    keys: pl.Series,
    dtype: type[np.signedinteger],
    fields: Mapping[str, Sequence[str | None]],
    has_events: np.ndarray | None = None,
) -> None:
    frame = pl.DataFrame({what: keys, f"{what}_id": np.arange(len(keys), dtype=dtype)})
    if has_events is not None:
        frame = frame.with_columns(pl.Series("has_events", has_events))
    taken = {name: f"field_{name}" for name in fields if name in frame.columns}
    for name, other in taken.items():
        out.notes.append(f"the {what} field {name!r} is the column {other!r} of {what}s.parquet")
    texts = [pl.Series(taken.get(name, name), values, dtype=pl.String) for name, values in fields.items()]
    frame = frame.with_columns(texts)
    frame.write_parquet(out.path(f"{what}s.parquet"))
    out.files[f"{what}s.parquet"] = frame.height
