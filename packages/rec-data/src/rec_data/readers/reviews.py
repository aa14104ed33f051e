"""Review texts beside the rows they came with."""

from __future__ import annotations

import polars as pl

COLUMNS = ("user", "item", "text", "summary", "timestamp", "rating")


class ReviewCollector:
    """Keeps the texts of the rows that :meth:`rec_data.rows.RowCollector.add` kept.

    Texts are kept as they are, all of them in memory. Rows without a text give no review and are counted in
    ``without_text``.
    """

    def __init__(self) -> None:
        self._blocks: list[pl.DataFrame] = []
        self.without_text = 0

    def add(self, added: tuple[pl.DataFrame, pl.Series | None], block: pl.DataFrame) -> None:
        """What the row collector gave for a block, and the block with its ``text`` and, maybe, ``summary``."""
        rows, kept = added
        texts = block.select(name for name in COLUMNS if name in block.columns and name not in rows.columns)
        frame = pl.concat([rows, texts if kept is None else texts.filter(kept)], how="horizontal")
        frame = frame.select(name for name in COLUMNS if name in frame.columns)
        with_text = frame.with_columns(pl.col("user", "item").cast(pl.String)).filter(pl.col("text").is_not_null())
        self.without_text += frame.height - with_text.height
        self._blocks.append(with_text)

    def finish(self) -> pl.DataFrame:
        """All reviews in the order of the file, in the columns of :attr:`rec_data.raw.RawData.reviews`."""
        blocks, self._blocks = self._blocks, []
        return pl.concat(blocks)
