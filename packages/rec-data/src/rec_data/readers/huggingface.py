"""Datasets of the Hugging Face library: what ``save_to_disk`` wrote, folders of Parquet or Arrow files, Hub names.

Files on disk are read without that library; a name of the Hub needs the extra ``huggingface``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rec_core.errors import AssetError, DataError, require
from rec_data import columns
from rec_data.ahead import ahead
from rec_data.config import ReadSettings
from rec_data.raw import RawData
from rec_data.readers.files import holds
from rec_data.readers.table import ROWS, Block, Wanted, blocks_of, chosen_columns, natural_order, read_fields, row_of
from rec_data.rows import RowCollector

if TYPE_CHECKING:
    import pyarrow as pa

# the words that the library itself takes for the names of splits
_PARTS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), 2),
}
_DATA = (".parquet", ".arrow", ".jsonl", ".ndjson", ".csv", ".tsv", ".jsonl.gz", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class _Split:
    """Some files in order, or a dataset of the library, and the part that its name means; None for the only one."""

    name: str
    part: int | None
    files: tuple[Path, ...] = ()
    loaded: Any = None


def read_huggingface(path: Path, settings: ReadSettings) -> RawData:
    """Read a dataset directory, a folder of data files, one Arrow file, or a dataset of the Hub by its name.

    Columns are found or named as in a table; tables of items and users are named with ``items_file`` and
    ``users_file``. Splits called train, validation (valid, val, dev) and test become the parts of the split
    (``--split given``); a dataset with one split has none. An existing path is never taken for a name of the Hub.
    """
    on_disk = path.exists()
    splits = _on_disk(path) if on_disk else _from_hub(path.as_posix())
    chosen: dict[str, str] = {}

    def wanted(found: Sequence[str]) -> list[str]:
        now = chosen_columns(path, found, settings)
        if chosen and now != chosen:
            raise DataError(f"the splits or files of {path} differ in their columns: {chosen} and {now}")
        chosen.update(now)
        return list(chosen.values())

    collector = RowCollector(settings)
    for split in splits:
        for frame, where in ahead(_blocks(split, settings, collector, wanted)):
            rows = frame.select(pl.col(column).alias(what) for what, column in chosen.items())
            nested = next((name for name, dtype in rows.schema.items() if dtype.is_nested()), None)
            if nested is not None:
                raise DataError(f"{where(0)}: column {chosen[nested]!r} ({nested}) holds lists or objects")
            if split.part is not None:
                rows = rows.with_columns(part=pl.lit(split.part, pl.UInt8))
            collector.add(rows, where)
    items = users = None
    if settings.items_file is not None:
        items = read_fields(settings.items_file, settings, settings.item_key, columns.ITEM, "item")
        title = columns.choose(settings.items_file, items.columns, columns.TITLE, settings.title_column, "title")
        if title is not None and title != "title":
            items = items.drop("title", strict=False).rename({title: "title"})
    if settings.users_file is not None:
        users = read_fields(settings.users_file, settings, settings.user_key, columns.USER, "user")
    beside = [file for file in (settings.items_file, settings.users_file) if file is not None]
    return RawData(
        name=path.resolve().name.partition(".")[0] if on_disk else path.name,
        rows=collector.finish(),
        items=items,
        users=users,
        dropped=collector.dropped,
        facts={
            "format": "huggingface",
            "columns": chosen,
            "splits": [split.name for split in splits],
            "timestamp_units": collector.units,
            **({} if on_disk else {"hub": path.as_posix(), "fingerprints": [_fingerprint(split) for split in splits]}),
        },
        files=(*(file for split in splits for file in split.files), *beside),
    )


def _fingerprint(split: _Split) -> str:
    """The library's own hash of a split, where it gives one."""
    return str(getattr(split.loaded, "_fingerprint", ""))


# which splits


def _on_disk(path: Path) -> list[_Split]:
    if path.is_file():
        return [_Split(path.name, None, (path,))]
    if (path / "dataset_dict.json").is_file():
        names = _read_json(path / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path / 'dataset_dict.json'} names no splits; save the dataset again")
        return _parted(path, [(name, _saved(path / name)) for name in names])
    if (path / "state.json").is_file():
        return [_Split(path.name, None, _saved(path))]
    files = [file for file in sorted(path.rglob("*"), key=natural_order) if _is_data(path, file)]
    if not files:
        raise DataError(f"{path} holds no data files ({', '.join(_DATA)}) and no state.json; {holds(path)}")
    named = [(_split_word(path, file), file) for file in files]
    words = {word for word, _ in named}
    if words == {None}:
        return [_Split(path.name, None, tuple(files))]
    stray = next((file for word, file in named if word is None), None)
    if stray is not None:
        raise DataError(f"{stray} is of no split, while other files of {path} are; name one file, or move it away")
    return _parted(path, [(str(word), tuple(f for w, f in named if w == word)) for word in sorted(words, key=str)])


def _is_data(folder: Path, file: Path) -> bool:
    inside = file.relative_to(folder).parts
    return file.is_file() and file.name.casefold().endswith(_DATA) and not any(p.startswith((".", "_")) for p in inside)


def _split_word(folder: Path, file: Path) -> str | None:
    """``train`` of data/train-00000-of-00001.parquet, train/0000.parquet or name-train.arrow."""
    for piece in reversed(file.relative_to(folder).parts):
        words = [word for word in re.split(r"[^a-z]+", piece.casefold()) if word in _PARTS]
        if words:
            return words[0]
    return None


def _saved(folder: Path) -> tuple[Path, ...]:
    """The Arrow files of one dataset that ``save_to_disk`` wrote."""
    state = _read_json(folder / "state.json")
    listed = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed or []] or [None]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / 'state.json'} names no data files; save the dataset again")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(f"{folder} keeps its rows in another order than its files; save it after flatten_indices()")
    files = tuple(folder / Path(str(name)).name for name in names)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DataError(f"{folder / 'state.json'} names {missing.name}, which is not there; {holds(folder)}")
    return files


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"there is no file {file}, which belongs to a saved dataset") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON ({error}); save the dataset again") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} holds no JSON object; save the dataset again")
    return value


def _parted(path: Path, named: Sequence[tuple[str, Any]]) -> list[_Split]:
    """Splits with their parts, train first; one split alone has none."""
    if len(named) == 1:
        return [_made(named[0], None)]
    splits: list[_Split] = []
    for name, content in named:
        part = _PARTS.get(name.casefold())
        if part is None or part in {split.part for split in splits}:
            again = "is the second of its kind" if part is not None else "is neither train, validation nor test"
            raise DataError(
                f"{path} has the splits {', '.join(name for name, _ in named)}; {name!r} {again}; name the files of one"
            )
        splits.append(_made((name, content), part))
    return sorted(splits, key=lambda split: split.part or 0)


def _made(named: tuple[str, Any], part: int | None) -> _Split:
    name, content = named
    return _Split(name, part, content) if isinstance(content, tuple) else _Split(name, part, loaded=content)


def _from_hub(name: str) -> list[_Split]:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise DataError(f"there is no file or directory {name}, and no dataset of the Hub can be called so")
    datasets = require("datasets", "huggingface", "rec-data")
    try:
        loaded = datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise AssetError(
            f"there is no file or directory {name}, and the Hub does not give a dataset of that name: {first}"
        ) from error
    return _parted(Path(name), list(loaded.items()))


# rows


def _blocks(split: _Split, settings: ReadSettings, collector: RowCollector, wanted: Wanted) -> Iterator[Block]:
    if split.loaded is not None:
        keep = list(wanted(list(split.loaded.column_names)))
        tables = split.loaded.select_columns(keep).with_format("arrow").iter(batch_size=ROWS)
        batches = (batch for table in tables for batch in table.to_batches())
        yield from _frames(batches, keep, f"split {split.name}")
    for file in split.files:
        if file.suffix.casefold() == ".arrow":
            yield from _arrow_blocks(file, wanted)
        else:
            yield from blocks_of(file, settings, collector.faults, wanted)


def _arrow_blocks(path: Path, wanted: Wanted) -> Iterator[Block]:
    """Record batches of an Arrow file; ``save_to_disk`` writes the streaming format."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                reader = pa.ipc.open_stream(source)
                batches = iter(reader)
            keep = list(wanted(reader.schema.names))
            if len(set(reader.schema.names)) != len(reader.schema.names):
                raise DataError(f"{path} has a column twice: {', '.join(reader.schema.names)}")
            yield from _frames(batches, keep, str(path))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a whole Arrow file ({first}); save it again") from error


def _frames(batches: Iterable[pa.RecordBatch], keep: Sequence[str], place: str) -> Iterator[Block]:
    import pyarrow as pa

    start = 0
    for batch in batches:
        some = batch.select(keep)
        some.validate(full=True)  # text that is no UTF-8, which polars takes on trust
        frame = pl.from_arrow(pa.Table.from_arrays(some.columns, names=list(keep)))
        assert isinstance(frame, pl.DataFrame)
        yield frame, row_of(place, start)
        start += frame.height
