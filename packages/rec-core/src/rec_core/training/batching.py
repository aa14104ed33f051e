"""From ragged histories to rectangular arrays: the order of an epoch, micro-batches, padding, per-row draws.

NumPy alone; none of it loops over events. Axes: B rows, L positions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from rec_core.randomness import generator
from rec_core.types import Histories
from rec_core.types.ids import Bool, Float64, Int64


def epoch_order(rows: Int64, seed: int, epoch: int) -> Int64:
    """The given rows in the order of one epoch, known without knowing the epochs before."""
    return rows[generator(seed, "order", epoch).permutation(len(rows))]


def pad(
    histories: Histories,
    rows: Int64,
    max_length: int,
    side: Literal["left", "right"] = "right",
    *,
    shift: Int64 | None = None,
) -> tuple[Int64, Bool]:
    """``(items, mask)`` of the newest ``max_length`` events of each row, both [B, L], padded on one side.

    L is the longest of these rows (at least 1), not ``max_length``. ``items`` is int64 and holds 0 at pad positions,
    which is also a real item: ``mask`` (True = an event) alone says what is padding. Order is oldest first. ``shift``
    int64 [B] moves a row's window back: its newest ``shift`` events are passed over.

    >>> pad(Histories.of([[5, 6, 7], [8]]), np.array([0, 1]), max_length=2, side="left")[0].tolist()
    [[6, 7], [0, 8]]
    """
    rows = np.asarray(rows, np.int64)
    starts, ends = histories.offsets[rows], histories.offsets[rows + 1]
    if shift is not None:
        ends = np.maximum(ends - shift, starts)
    kept_B = np.minimum(ends - starts, max_length)
    width = max(1, int(kept_B.max(initial=0)))
    columns = np.arange(width)
    mask_BL = columns < kept_B[:, None] if side == "right" else columns >= width - kept_B[:, None]
    first = np.cumsum(kept_B) - kept_B  # where each row begins among the events picked
    items_BL = np.zeros((len(rows), width), np.int64)
    items_BL[mask_BL] = histories.items[np.arange(kept_B.sum()) + np.repeat(ends - kept_B - first, kept_B)]
    return items_BL, mask_BL


def random_shift(histories: Histories, rows: Int64, width: int, rng: np.random.Generator) -> Int64:
    """How far :func:`pad` moves each row's window of ``width`` events back, int64 [B].

    Uniform over the windows that a row holds; 0 for rows that fit into one. By :func:`row_uniforms`.
    """
    spare_B = np.maximum(histories.lengths[rows] - width, 0)
    shift_B: Int64 = (row_uniforms(rng, rows, 1)[:, 0] * (spare_B + 1)).astype(np.int64)
    return shift_B


def micro_batches(rows: Int64, lengths: Int64, most: int) -> list[Int64]:
    """Cut the rows of one step into at most ``most`` pieces of similar length, so that little padding is left.

    ``lengths`` [B] belong to ``rows`` [B]. Rows are sorted by length (stable) and cut where the padded area, the sum
    over pieces of rows × longest row, is smallest. Gradients weighted by each piece's share of the targets make the
    step equal to the one big padded batch. No rows give no pieces.
    """
    order = np.argsort(lengths, kind="stable")
    rows, lengths = rows[order], lengths[order]
    if most <= 1 or len(rows) <= 1:
        return [rows] if len(rows) else []
    # A best cut never divides rows of one length (moving it either way does not cost), so cuts lie at the G distinct
    # lengths. cost[g] is the smallest area of the first g groups; one more piece per round.
    longest, count = np.unique(lengths, return_counts=True)
    before = np.concatenate([[0], np.cumsum(count)])
    area = np.where(before[1:, None] > before[None, :-1], (before[1:, None] - before[None, :-1]) * longest[:, None], 0)
    above = np.triu(np.ones(area.shape, np.bool_), k=1)  # a piece from group i to group g needs i <= g
    area = np.where(above, np.iinfo(np.int64).max // 4, area)
    cost = area[:, 0]
    cuts: list[Int64] = []
    for _ in range(min(most, len(longest)) - 1):
        through = area + np.concatenate([[0], cost[:-1]])
        best = through.argmin(axis=1)
        cuts.append(best)
        cost = through[np.arange(len(longest)), best]
    ends, g = [], len(longest)
    for best in reversed(cuts):
        if g == 0:
            break
        g = int(best[g - 1])
        ends.append(int(before[g]))
    return [piece for piece in np.split(rows, sorted(ends)) if len(piece)]


def row_uniforms(rng: np.random.Generator, rows: Int64, width: int) -> Float64:
    """Uniform numbers in [0, 1), float64 [B, width], whose value depends on the row's id and the column alone.

    ``rng`` gives one key per call, so equal generators give a row equal numbers in whatever company, order or width
    it comes: masks and negatives then depend neither on micro-batches nor on the number of processes.
    """
    key = rng.integers(2**64, dtype=np.uint64)
    row_B1 = _scramble(np.asarray(rows, np.int64).astype(np.uint64)[:, None] ^ key)
    bits_BL = _scramble(row_B1 + np.arange(width, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return (bits_BL >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes all 64 bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
