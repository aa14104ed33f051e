"""A synthetic world on disk: interactions in the order of real files, catalogues, and the truth beside them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from rec_core.artifacts import Artifact, Writer, create, open_artifact, to_json
from rec_core.errors import ArtifactError, SettingsError
from rec_core.randomness import generator
from rec_core.types.ids import Int64
from rec_data.pseudo_words import item_texts, user_texts
from rec_data.synthetic import World
from rec_data.world_config import FileSettings, WorldSettings

KIND = "world"
GROUP_ROWS = 1 << 20  # rows of a Parquet row group, and what is held back before a write
SHUFFLED_ROWS = 1 << 20  # about so many rows are shuffled together
THREADS = min(4, os.cpu_count() or 1)  # that make rows; no result depends on it
TABLE_ROWS = 1 << 16  # users or items described at a time
_DIGITS = np.frombuffer(b"0123456789ABCDEFGHJKLMNPQRSTUVWX", np.uint8)


class Counter(Protocol):
    """Told about progress in rows, as :class:`rec_core.cli.Progress` is."""

    def start(self, total: int, done: int = 0) -> None: ...
    def advance(self, steps: int = 1) -> None: ...


def synthesize(
    output: Path | str,
    world: WorldSettings | None = None,
    settings: FileSettings | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: Counter | None = None,
) -> Artifact:
    """Write a world: ``interactions.*`` (or ``interactions-0001.*``, ...), ``items.*``, ``users.*``, ``world.json``.

    Interactions have the columns user_id, item_id, rating, timestamp; the tables of users and items a key and texts.
    ``truth_items.*`` and ``truth_users.*`` hold what a model is not to be shown: clusters, styles, weights.
    ``world.json`` holds the settings, from which :func:`read_world` makes the whole :class:`World` again.

    Memory does not grow with the number of interactions. While it is under construction the directory is called
    ``output + ".partial"``; ``resume`` keeps the files in it that are whole. Equal settings give equal bytes.
    Raises :class:`rec_core.errors.RecError`.
    """
    whole = world if isinstance(world, World) else World(**asdict(world or WorldSettings()))
    rows = _Rows(whole, settings or FileSettings())
    if rows.settings.files > rows.total:
        raise SettingsError(f"--files {rows.settings.files:,} is more than there are rows, {rows.total:,}")
    everything = {"world": asdict(rows.world), "files": asdict(rows.settings)}
    with create(
        output, KIND, settings=everything, seed=rows.world.seed, overwrite=overwrite, resumable=True, resume=resume
    ) as out:
        _check_same_world(out, everything, resume)
        _write_truth(out, rows.world, rows.settings)
        _write_interactions(out, rows, progress)
        out.describe(counts={"users": rows.world.users, "items": rows.world.items, "interactions": rows.total})
    return open_artifact(output, KIND, verify=False)


def read_world(path: Path | str) -> World:
    """The world that a directory was made from. Raises :class:`rec_core.errors.ArtifactError` when it is not whole."""
    return World(**open_artifact(path, KIND).json("world")["settings"])


def user_keys(users: Int64, keys: str) -> pl.Series:
    """Raw keys of users by number: 1, 2, ... or text such as ``A3RT0KXV512QP``."""
    return pl.Series(users + 1) if keys == "numbers" else _text_keys(users, b"A", 12)


def item_keys(items: Int64, keys: str) -> pl.Series:
    """Raw keys of items by number: 1, 2, ... or text such as ``B07KPM1Q5X``."""
    return pl.Series(items + 1) if keys == "numbers" else _text_keys(items, b"B0", 8)


def _text_keys(numbers: Int64, head: bytes, width: int) -> pl.Series:
    """``head`` and ``width`` signs that look drawn: odd factors and a shift turn 5 * width bits one-to-one."""
    bits = np.uint64(5 * width)
    mask = (np.uint64(1) << bits) - np.uint64(1)
    mixed = ((numbers + 1).astype(np.uint64) * np.uint64(0xD1342543DE82EF95)) & mask
    mixed ^= mixed >> (bits // np.uint64(2))
    mixed = (mixed * np.uint64(0x9E3779B97F4A7C15)) & mask
    signs = np.empty((len(numbers), len(head) + width), np.uint8)
    signs[:, : len(head)] = np.frombuffer(head, np.uint8)
    for place in range(width):
        signs[:, len(head) + place] = _DIGITS[((mixed >> np.uint64(5 * place)) & np.uint64(31)).astype(np.intp)]
    return pl.Series(signs.view(f"S{signs.shape[1]}").ravel().astype(str), dtype=pl.String)


@dataclass(frozen=True)
class _Rows:
    """All rows of the files, in their order, piece by piece."""

    world: World
    settings: FileSettings

    @cached_property
    def _item_keys(self) -> pl.Series:
        return item_keys(np.arange(self.world.items), self.settings.keys)

    @cached_property
    def block_rows(self) -> Int64:
        """Rows of each block of users, repeats included."""
        world, size = self.world, self.world.block_users
        lengths = [world.history_lengths(b * size, min((b + 1) * size, world.users)) for b in range(world.n_blocks)]
        events = np.array([int(each.sum()) for each in lengths])
        return events + (events * self.settings.repeats).astype(np.int64)

    @property
    def total(self) -> int:
        """Rows of all files."""
        return int(self.block_rows.sum())

    @cached_property
    def pieces(self) -> list[range]:
        """The blocks of each piece; shuffled ones take their blocks from the whole range of users."""
        n = self.world.n_blocks
        if self.settings.order == "user":
            return [range(block, block + 1) for block in range(n)]
        pieces = -(-self.total // SHUFFLED_ROWS)
        return [range(piece, n, pieces) for piece in range(min(pieces, n))]

    def frames(self, start: int = 0) -> Iterator[pl.DataFrame]:
        """The rows from number ``start`` on."""
        sizes = np.array([int(self.block_rows[blocks].sum()) for blocks in self.pieces])
        first = int(np.searchsorted(np.cumsum(sizes), start, side="right"))
        skip = start - int(sizes[:first].sum())
        _ = self.world.item_at, self._item_keys  # before the threads, which would each make them
        with ThreadPoolExecutor(THREADS) as pool:
            made: deque[Future[pl.DataFrame]] = deque()
            for number in range(first, len(self.pieces)):
                made.append(pool.submit(self._piece, number))
                if len(made) > THREADS:
                    yield made.popleft().result()[skip:]
                    skip = 0
            while made:
                yield made.popleft().result()[skip:]
                skip = 0

    def _piece(self, number: int) -> pl.DataFrame:
        columns = [self._block(block) for block in self.pieces[number]]
        users, items, ratings, times = (np.concatenate(column) for column in zip(*columns, strict=True))
        if self.settings.order == "shuffled":
            order = generator(self.world.seed, "world", "order", number).permutation(len(users))
        else:
            order = np.lexsort((items, users))
        users, items, ratings, times = users[order], items[order], ratings[order], times[order]
        if self.settings.keys == "numbers":
            keys = pl.Series(users + 1), pl.Series(items + 1, dtype=pl.Int64)
        else:
            different, at = np.unique(users, return_inverse=True)
            keys = user_keys(different, "text").gather(at), self._item_keys.gather(items)
        return pl.DataFrame({"user_id": keys[0], "item_id": keys[1], "rating": ratings, "timestamp": times})

    def _block(self, number: int) -> tuple[Any, ...]:
        events = self.world.block(number)
        extra = int(self.block_rows[number]) - len(events)
        columns: tuple[Any, ...] = (events.users, events.items, events.ratings, events.timestamps)
        if not extra:
            return columns
        rng = generator(self.world.seed, "world", "repeats", number)
        again = np.sort(rng.permutation(len(events))[:extra])
        users, items, ratings, times = (np.concatenate([column, column[again]]) for column in columns)
        times[len(events) :] += rng.integers(0, 1 << 20, extra)
        return users, items, ratings, times


def _write_interactions(out: Writer, rows: _Rows, progress: Counter | None) -> None:
    files, total = rows.settings.files, rows.total
    ends = [total * (file + 1) // files for file in range(files)]
    names = [f"interactions-{file + 1:0{max(4, len(str(files)))}}" for file in range(files)]
    names = [f"{name}.{rows.settings.format}" for name in (names if files > 1 else ["interactions"])]
    whole = 0  # files that an earlier run finished
    while whole < files and (out.directory / names[whole]).exists():
        whole += 1
    out.files += names
    done = ends[whole - 1] if whole else 0
    if progress is not None:
        progress.start(total, done)
    frames = rows.frames(done)
    held = pl.DataFrame()
    for name, end in zip(names[whole:], ends[whole:], strict=True):
        unfinished = out.directory / f"{name}.unfinished"
        with _table(unfinished, rows.settings.format) as write:
            while done < end:
                wanted = min(GROUP_ROWS, end - done)
                pieces = [held] if held.height else []
                while sum(piece.height for piece in pieces) < wanted:
                    pieces.append(next(frames))
                together = pl.concat(pieces)
                write(together[:wanted])
                held = together[wanted:]
                done += wanted
                if progress is not None:
                    progress.advance(wanted)
        unfinished.rename(out.directory / name)


def _write_truth(out: Writer, world: World, settings: FileSettings) -> None:
    """The catalogues, and what is true of them in files of their own."""
    weights = world.slot_weights[world.slot_of]
    ranks = world.slot_of.astype(np.int64) // world.n_groups
    groups = world.item_groups.astype(np.int64)

    def items(start: int, stop: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        key = pl.DataFrame({"item_id": item_keys(np.arange(start, stop), settings.keys)})
        truth = _group_columns(groups[start:stop], world) | {"rank": ranks[start:stop], "weight": weights[start:stop]}
        return key.hstack(pl.DataFrame(item_texts(world, start, stop))), key.hstack(pl.DataFrame(truth))

    def users(start: int, stop: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        key = pl.DataFrame({"user_id": user_keys(np.arange(start, stop), settings.keys)})
        truth = _group_columns(world.user_groups(start, stop), world)
        return key.hstack(pl.DataFrame(user_texts(world, start, stop))), key.hstack(pl.DataFrame(truth))

    tables: list[tuple[str, int, Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]]]
    tables = [("items", world.items, items), ("users", world.users, users)]
    for what, n, made in tables:
        names = [f"{what}.{settings.format}", f"truth_{what}.{settings.format}"]
        out.files += names
        shown, hidden = (out.directory / name for name in names)
        with _table(shown, settings.format) as write, _table(hidden, settings.format) as write_truth:
            for start in range(0, n, TABLE_ROWS):
                texts, truth = made(start, min(start + TABLE_ROWS, n))
                write(texts)
                write_truth(truth)


def _group_columns(groups: Int64, world: World) -> dict[str, Any]:
    return {"cluster": groups // world.styles, "style": groups % world.styles}


def _check_same_world(out: Writer, settings: Mapping[str, Any], resume: bool) -> None:
    """Write ``world.json``; the unfinished run that is resumed must be of the same world and form."""
    about = {"settings": settings["world"], "files": settings["files"]}
    file = out.directory / "world.json"
    if resume and file.exists() and file.read_text(encoding="utf-8") != to_json(about):
        raise ArtifactError(
            f"the unfinished run at {out.directory} has other settings, which {file} states; resume it with those, "
            f"or start anew with --overwrite"
        )
    out.json("world", about)


@contextmanager
def _table(path: Path, form: str) -> Iterator[Callable[[pl.DataFrame], None]]:
    """A file that takes frames of the same columns, one after the other; each is a row group in Parquet."""
    if form == "csv":
        with path.open("wb") as file:

            def write(frame: pl.DataFrame) -> None:
                frame.write_csv(file, include_header=not file.tell())

            yield write
        return
    import pyarrow.parquet as pq

    writers: list[Any] = []
    try:

        def write_group(frame: pl.DataFrame) -> None:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if not writers:
                writers.append(pq.ParquetWriter(path, table.schema))
            writers[0].write_table(table, row_group_size=max(1, table.num_rows))

        yield write_group
    finally:
        for writer in writers:
            writer.close()
