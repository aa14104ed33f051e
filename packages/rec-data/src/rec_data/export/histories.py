"""Rows of (user, history, next item), one per event that has a history."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from rec_data.export.outgoing import BLOCK, Names, Outgoing


def history_rows(events: Outgoing, names: Names, part: int, longest: int) -> Iterator[pl.DataFrame]:
    """Columns ``user``, ``history`` (names between blanks) and ``item``: a row per event of a part but a user's first.

    The history is the newest ``longest`` events before it, whatever their part; a user's first event is told by the
    histories of the rows after it.
    """
    for block in events.blocks(max(BLOCK // longest, 1)):
        begins = np.flatnonzero(np.diff(block.users, prepend=-1))
        start = np.repeat(begins, np.diff(np.append(begins, len(block))))
        at = np.arange(len(block))
        target = np.flatnonzero((block.part == part) & (at > start))
        length = np.minimum(target - start[target], longest)
        first = np.cumsum(length) - length
        step = np.arange(int(length.sum())) - np.repeat(first, length)
        shown = block.items[np.repeat(target - length, length) + step]
        rows = pl.DataFrame({"row": np.repeat(np.arange(len(target)), length), "history": names.items.gather(shown)})
        histories = rows.group_by("row", maintain_order=True).agg(pl.col("history").str.join(" "))["history"]
        yield pl.DataFrame(
            {
                "user": names.users.gather(block.users[target]),
                "history": histories,
                "item": names.items.gather(block.items[target]),
            }
        )
