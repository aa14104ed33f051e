"""Sequences put together again from rows of (user, history, next item).

Several layouts store what a model is asked instead of what happened: one row per event, with the items before it, cut
to the newest few. As every row but a user's first repeats what its predecessors said, the rows can be checked against
each other while they are joined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_core.types.ids import Bool, Int64
from rec_data.faults import Faults
from rec_data.ordering import ordered_keys
from rec_data.rows import UInt8


@dataclass(frozen=True, slots=True)
class NextItemRows:
    """Rows in the order of their files.

    user       String [n]         raw user key
    history    List(String) [n]   raw item keys, oldest first; may be empty
    target     String [n]         the item that came next
    part       uint8 [n]          0 train, 1 valid, 2 test
    where      row -> ``test.csv, line 17``
    """

    user: pl.Series
    history: pl.Series
    target: pl.Series
    part: UInt8
    where: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Joined:
    """Events of all users, each user's in order.

    events          columns ``user``, ``item`` (String), ``part`` (UInt8)
    from_histories  how many of them no row has as its next item: they stand in histories alone
    gaps            how many of those lie between two rows of a user
    """

    events: pl.DataFrame
    from_histories: int
    gaps: int


def join_rows(rows: NextItemRows, faults: Faults) -> Joined:
    """Each user's sequence from its rows: the history of the first row, then every next item.

    A user's rows follow each other by part and, inside a part, as in the file or backwards, whichever makes histories
    grow. A row's history must be the newest items of the sequence so far: cut to the longest history of its part,
    never shorter. Items of a history that no earlier row accounts for become events too, of part train at the
    beginning (a file without its train part keeps the history so) and of the part of the event before them else. A row
    that contradicts those before it is a :class:`DataError` that names both, or left out and counted as
    ``contradicting_history`` where the faults are to be dropped.
    """
    users = ordered_keys(rows.user)
    flat = rows.history.explode(empty_as_null=False) if len(rows.history) else pl.Series(dtype=pl.String)
    items = ordered_keys(pl.concat([flat.cast(pl.String), rows.target]))
    codes = _Coded(
        user=rows.user.cast(pl.Enum(users)).to_physical().to_numpy().astype(np.int64),
        length=rows.history.list.len().to_numpy().astype(np.int64),
        history=flat.cast(pl.String).cast(pl.Enum(items)).to_physical().to_numpy().astype(np.int64),
        target=rows.target.cast(pl.Enum(items)).to_physical().to_numpy().astype(np.int64),
        part=rows.part,
    )
    order = _in_time(codes)
    follows = _follow(codes, order)
    begins = np.diff(codes.user[order], prepend=-1) != 0
    broken = np.unique(codes.user[order][~follows & ~begins])
    simple = ~np.isin(codes.user[order], broken)
    user, item, part, known = _simple(codes, order[simple], begins[simple])
    from_histories, gaps = int((~known).sum()), 0
    pieces = [(user, item, part)]
    if len(broken):
        starts = np.searchsorted(codes.user[order], broken)
        ends = np.searchsorted(codes.user[order], broken, side="right")
        for u, start, end in zip(broken, starts, ends, strict=True):
            sequence = _joined_one(rows, codes, order[start:end], items, faults)
            made = np.array(sequence.items, np.int64)
            pieces.append((np.full(len(made), u), made, np.array(sequence.parts, np.uint8)))
            from_histories += sequence.from_histories
            gaps += sequence.gaps
    user, item, part = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    events = pl.DataFrame({"user": users.gather(user), "item": items.gather(item), "part": part})
    return Joined(events, from_histories, gaps)


@dataclass(frozen=True, slots=True)
class _Coded:
    """The rows as codes; ``history`` holds all histories one after the other."""

    user: Int64
    length: Int64
    history: Int64
    target: Int64
    part: UInt8

    @property
    def start(self) -> Int64:
        """Where the history of each row begins."""
        return np.cumsum(self.length) - self.length

    @property
    def longest(self) -> Int64:
        """The longest history of each of the three parts."""
        return np.array([int(self.length[self.part == part].max(initial=0)) for part in range(3)], np.int64)


def _in_time(codes: _Coded) -> Int64:
    """Positions of the rows by (user, part, time), where time runs down or up the rows of a part."""
    backwards, unclear = [], []
    for part in range(3):
        rows = np.flatnonzero(codes.part == part)
        rows = rows[np.argsort(codes.user[rows], kind="stable")]
        upper, lower = rows[:-1], rows[1:]
        same = codes.user[upper] == codes.user[lower]
        upper, lower = upper[same], lower[same]
        down, up = int(_begins_with(codes, upper, lower).sum()), int(_begins_with(codes, lower, upper).sum())
        backwards.append(up > down)  # newest first, as LC-Rec writes its train part
        if up == down > 0:
            unclear.append(part)

    def ordered() -> Int64:
        at = np.arange(len(codes.user))
        for part in range(3):
            if backwards[part]:
                rows = codes.part == part
                at[rows] = -at[rows]
        return np.lexsort((at, codes.part, codes.user)).astype(np.int64)

    order = ordered()
    for part in unclear:  # histories of one item that repeat: the rows of the next part tell
        links = int(_follow(codes, order).sum())
        backwards[part] = True
        other = ordered()
        if int(_follow(codes, other).sum()) > links:
            order = other
        else:
            backwards[part] = False
    return order


def _begins_with(codes: _Coded, before: Int64, after: Int64) -> Bool:
    """bool per pair of rows: the newest item of the later history is the earlier row's next item."""
    shown = codes.length[after] > 0
    last = np.where(shown, codes.start[after] + codes.length[after] - 1, 0)
    return shown & (codes.history[last] == codes.target[before]) if len(codes.history) else shown


def _follow(codes: _Coded, order: Int64) -> Bool:
    """bool per row in order: it is of the same user as the row before, and its history is that row's, one item on."""
    follows = np.zeros(len(order), np.bool_)
    before, after = order[:-1], order[1:]
    pairs = np.flatnonzero(codes.user[before] == codes.user[after])
    before, after = before[pairs], after[pairs]
    whole = np.minimum(codes.length[before] + 1, codes.longest[codes.part[after]])
    fits = (codes.length[after] == whole) & (codes.length[after] > 0)
    pairs, before, after = pairs[fits], before[fits], after[fits]
    start, length = codes.start, codes.length
    fits = codes.history[start[after] + length[after] - 1] == codes.target[before]
    shared = length[after] - 1
    first = np.cumsum(shared) - shared
    step = np.arange(int(shared.sum())) - np.repeat(first, shared)
    mine = codes.history[np.repeat(start[after], shared) + step]
    theirs = codes.history[np.repeat(start[before] + length[before] - shared, shared) + step]
    differs = np.bincount(np.repeat(np.arange(len(pairs)), shared), mine != theirs, minlength=len(pairs)) > 0
    follows[pairs[fits & ~differs] + 1] = True
    return follows


def _simple(codes: _Coded, order: Int64, begins: Bool) -> tuple[Int64, Int64, UInt8, Bool]:
    """Users, items, parts and "is some row's next item" of the users whose rows all follow each other."""
    extra = np.where(begins, codes.length[order], 0)
    size = extra + 1
    end = np.cumsum(size)
    known = np.zeros(int(end[-1]) if len(end) else 0, np.bool_)
    known[end - 1] = True
    item = np.empty(len(known), np.int64)
    item[end - 1] = codes.target[order]
    first = np.cumsum(extra) - extra
    step = np.arange(int(extra.sum())) - np.repeat(first, extra)
    item[~known] = codes.history[np.repeat(codes.start[order], extra) + step]
    part = np.zeros(len(known), np.uint8)
    part[end - 1] = codes.part[order]
    return np.repeat(codes.user[order], size), item, part, known


@dataclass(slots=True)
class _Sequence:
    items: list[int]
    parts: list[int]
    cut: bool  # older items than the first may be missing
    last: int  # the row that was joined last
    from_histories: int
    gaps: int = 0


def _joined_one(rows: NextItemRows, codes: _Coded, order: Int64, items: pl.Series, faults: Faults) -> _Sequence:
    """One user whose rows leave gaps or contradict each other, row by row."""
    longest, start = codes.longest, codes.start

    def history(row: int) -> list[int]:
        return codes.history[start[row] : start[row] + codes.length[row]].tolist()  # type: ignore[no-any-return]

    head, tail = int(order[0]), order[1:]
    older = history(head)
    whole = len(older) < longest[codes.part[head]]
    made = _Sequence(
        [*older, int(codes.target[head])],
        [0] * len(older) + [int(codes.part[head])],
        cut=not whole,
        last=head,
        from_histories=len(older),
    )
    for row in map(int, tail):
        seen, part = history(row), int(codes.part[row])
        whole = len(seen) < longest[part]
        end = _overlap(made, seen, whole)
        if end is None:
            if faults.bad_rows == "error":
                raise DataError(_contradiction(rows, row, made, seen, items))
            faults.count("contradicting_history", 1)
            continue
        older, between = seen[: max(end - len(made.items), 0)], seen[end:]
        made.parts = [0] * len(older) + made.parts + [made.parts[-1]] * len(between) + [part]
        made.items = older + made.items + between + [int(codes.target[row])]
        made.from_histories += len(older) + len(between)
        made.gaps += len(between)
        made.cut = made.cut and not whole
        made.last = row
    return made


def _overlap(made: _Sequence, seen: list[int], whole: bool) -> int | None:
    """Where in a history the sequence so far ends, as late as possible; None where they do not fit together."""
    n = len(made.items)
    for end in range(len(seen), 0, -1):
        shared = min(n, end)
        if (end > n and not made.cut) or (end < n and whole):
            continue
        if made.items[n - shared :] == seen[end - shared : end]:
            return end
    return None


def _contradiction(rows: NextItemRows, row: int, made: _Sequence, seen: list[int], items: pl.Series) -> str:
    def shown(codes: list[int]) -> str:
        keys = items.gather(codes[-6:]).to_list()
        return ("..., " if len(codes) > 6 else "") + ", ".join(keys)

    return (
        f"{rows.where(row)}: the history of user {rows.user[row]!r} ends with {shown(seen) or 'nothing'}; after "
        f"{rows.where(made.last)} it should end with {shown(made.items)}: the rows contradict each other"
    )
