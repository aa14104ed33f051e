"""Review texts beside the rows they came with."""

from __future__ import annotations

import polars as pl

from rec_data.config import ReadSettings
from rec_data.faults import Faults
from rec_data.rows import Where
from rec_data.values import to_keys, to_ratings, to_seconds


class ReviewCollector:
    """Takes the same blocks as :class:`rec_data.rows.RowCollector`, with the texts, and leaves out the same rows.

    Texts are kept as they are, all of them in memory. Rows without a text give no review and are counted in
    ``without_text``.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._unit, self._faults = settings.timestamp_unit, Faults(settings.bad_rows)
        self._blocks: list[pl.DataFrame] = []
        self.without_text = 0

    def add(self, block: pl.DataFrame, where: Where) -> None:
        """One block: ``user``, ``item``, ``text``, and optional ``summary``, ``timestamp`` and ``rating``."""
        faults = self._faults.block(block.height, where)
        columns = {what: to_keys(block[what], f"{what} key", faults).cast(pl.String) for what in ("user", "item")}
        for what, column in columns.items():
            faults.leave_out(column.is_null(), f"missing_{what}")
        columns["text"] = block["text"]
        if "summary" in block.columns:
            columns["summary"] = block["summary"]
        if "timestamp" in block.columns:
            columns["timestamp"] = to_seconds(block["timestamp"], self._unit, faults)[0]
        if "rating" in block.columns:
            columns["rating"] = to_ratings(block["rating"], faults)
        kept = faults.kept()
        frame = pl.DataFrame(columns)
        if kept is not None:
            frame = frame.filter(kept)
        with_text = frame.filter(pl.col("text").is_not_null())
        self.without_text += frame.height - with_text.height
        self._blocks.append(with_text)

    def finish(self) -> pl.DataFrame:
        """All reviews in the order of the file, in the columns of :attr:`rec_data.raw.RawData.reviews`."""
        blocks, self._blocks = self._blocks, []
        return pl.concat(blocks)
