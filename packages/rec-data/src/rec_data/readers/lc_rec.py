"""LC-Rec's layout: sequences, items and texts of a data set D as D.*.json, parts as D.{train,valid,test}.inter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rec_core.errors import DataError
from rec_core.types.ids import Int64
from rec_data.config import ReadSettings
from rec_data.faults import BlockFaults, Faults
from rec_data.raw import RawData
from rec_data.readers.files import find
from rec_data.readers.json_files import as_text, ragged_keys, read_json_object, text_fields
from rec_data.readers.key_maps import KeyMap, read_two_columns
from rec_data.readers.minionerec import about_index
from rec_data.readers.next_item_rows import join_rows
from rec_data.readers.recbole import PARTS, read_history_rows
from rec_data.rows import RowCollector, UInt8

_PREFERENCES = ("preference", "long_term_preference", "short_term_preference")


def read_lc_rec(path: Path, settings: ReadSettings) -> RawData:
    """Read ``D.inter.json`` (user -> items in time order) of a directory, or that file, with what lies beside it.

    ``D.item.json`` gives the item fields, ``D.user2id`` and ``D.item2id`` the raw keys, ``D.review.json`` the reviews
    where they are asked for. ``D.user.json`` gives the user fields ``preference``, ``long_term_preference`` and
    ``short_term_preference``, written from training items alone; its intentions are not read, as those for the test
    are written from reviews of test items. ``D.index.json`` is checked against the items and stays where it is (see
    :func:`rec_data.readers.minionerec.read_minionerec`).

    LC-Rec holds out every user's last item for the test and the one before for validation. Where ``D.train.inter``,
    ``D.valid.inter`` and ``D.test.inter`` lie beside it the parts are theirs, after a check that their rows agree with
    the sequences; else the file states none and ``--split leave-one-out`` makes the same ones.
    """
    file = _the_inter_json(path)
    name = file.name.partition(".inter.json")[0]
    beside = {
        what: there
        for what in ("item.json", "index.json", "user.json", "review.json", "user2id", "item2id")
        if (there := find(file.parent, f"{name}.{what}")) is not None
    }
    maps = {what: read_two_columns(beside[f"{what}2id"], what) for what in ("user", "item") if f"{what}2id" in beside}
    collector = RowCollector(settings)
    sequences = read_json_object(file)
    lengths, flat = ragged_keys(file, sequences, "item")
    users = pl.Series(list(sequences), dtype=pl.String)
    collector.faults.count("no_items", int((lengths == 0).sum()))
    owner = np.repeat(np.arange(len(users)), lengths)
    parts, part_files = _parts(file, name, users, lengths, flat, settings)

    def where(row: int) -> str:
        return f"{file}, user {users[int(owner[row])]!r}"

    faults = collector.faults.block(len(flat), where)
    frame = pl.DataFrame(
        {
            "user": _raw(users.gather(owner), maps.get("user"), "user", faults),
            "item": _raw(flat, maps.get("item"), "item", faults),
        }
    )
    if parts is not None:
        frame = frame.with_columns(pl.Series("part", parts))
    kept = faults.kept()
    if kept is not None:
        frame, owner = frame.filter(kept), owner[kept.to_numpy()]
    collector.add(frame, where)
    facts: dict[str, Any] = {
        "format": "lc-rec",
        "parts": [part.name for part in part_files] or "not stated; the last two items of a user are held out",
    }
    if maps:
        facts["raw_keys"] = sorted(known.path.name for known in maps.values())
    items = users_table = reviews = None
    if "item.json" in beside:
        items = text_fields(beside["item.json"], read_json_object(beside["item.json"]), "item")
        if "index.json" in beside:
            facts["semantic_ids"] = about_index(beside["index.json"], items)
        items = _with_raw_keys(items, maps.get("item"), "item", beside["item.json"], settings)
    elif "index.json" in beside:
        facts["semantic_ids"] = about_index(beside["index.json"], None)
    if "user.json" in beside:
        users_table = _preferences(beside["user.json"], maps.get("user"), settings, facts)
    if settings.reviews and "review.json" in beside:
        reviews = _reviews(beside["review.json"], maps, settings)
    read = [there for what, there in beside.items() if what != "review.json" or settings.reviews]
    return RawData(
        name=name,
        rows=collector.finish(),
        items=items,
        users=users_table,
        reviews=reviews,
        dropped=collector.dropped,
        facts=facts,
        files=(file, *read, *part_files),
    )


def _the_inter_json(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(file for ending in ("", ".gz") for file in path.glob(f"*.inter.json{ending}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(f"{path} should hold one D.inter.json; found {names}" + ("; name one of them" if found else ""))
    return found[0]


def _parts(
    file: Path, name: str, users: pl.Series, lengths: Int64, items: pl.Series, settings: ReadSettings
) -> tuple[UInt8 | None, list[Path]]:
    """The part of every event as D.train.inter, D.valid.inter and D.test.inter say; None where there are none.

    :class:`DataError` where their rows are of other sequences than those of D.inter.json.
    """
    files = [(find(file.parent, f"{name}.{part}.inter"), code) for part, code in PARTS.items()]
    found = [(there, code) for there, code in files if there is not None]
    if not found:
        return None, []
    joined = join_rows(read_history_rows(found, settings, Faults()), Faults()).events
    from_end = pl.int_range(pl.len(), 0, -1)
    stated = joined.with_columns(back=from_end.over("user"))
    events = pl.DataFrame({"user": users.gather(np.repeat(np.arange(len(users)), lengths)), "here": items})
    both = events.with_columns(back=from_end.over("user")).join(
        stated, on=["user", "back"], how="full", coalesce=True, maintain_order="left"
    )
    wrong = (both["here"] != both["item"]).fill_null(False) | both["here"].is_null()
    if wrong.any():
        row = both.row(int(wrong.arg_max() or 0), named=True)
        raise DataError(
            f"{file.name} and the rows of {found[-1][0].name} differ: of user {row['user']!r} the event {row['back']} "
            f"from the end is item {row['here'] or 'none'} in one and {row['item'] or 'none'} in the other"
        )
    return both["part"].fill_null(0).to_numpy(), [there for there, _ in found]


def _raw(numbers: pl.Series, known: KeyMap | None, what: str, faults: BlockFaults) -> pl.Series:
    return numbers if known is None else known.raw(numbers, what, faults)


def _with_raw_keys(
    table: pl.DataFrame, known: KeyMap | None, what: str, file: Path, settings: ReadSettings
) -> pl.DataFrame:
    """A table of fields under raw keys; a number without one is an error, or its row goes."""
    if known is None:
        return table
    keys = table["key"]
    faults = Faults(settings.bad_rows).block(len(keys), lambda row: f"{file}, {keys[row]!r}")
    return table.with_columns(known.raw(keys, what, faults).alias("key")).drop_nulls("key")


def _preferences(
    file: Path, known: KeyMap | None, settings: ReadSettings, facts: dict[str, Any]
) -> pl.DataFrame | None:
    """The three preference texts per user; None where the file has none."""
    texts = read_json_object(file)
    if "user_vague_intention" in texts:
        facts["not_read"] = f"user_vague_intention of {file.name}"
    explicit = texts.get("user_explicit_preference")
    if not isinstance(explicit, dict) or not explicit:
        return None
    for user, three in explicit.items():
        if not isinstance(three, list) or len(three) != len(_PREFERENCES):
            raise DataError(f"{file}: the preference of user {user!r} is no list of {len(_PREFERENCES)} texts")
    columns = {"key": pl.Series(list(explicit), dtype=pl.String)}
    for i, name in enumerate(_PREFERENCES):
        columns[name] = pl.Series([as_text(three[i]) for three in explicit.values()], dtype=pl.String)
    return _with_raw_keys(pl.DataFrame(columns), known, "user", file, settings)


def _reviews(file: Path, maps: dict[str, KeyMap], settings: ReadSettings) -> pl.DataFrame:
    """Reviews from an object whose keys spell Python tuples, ``"(3, 17)"``."""
    table = text_fields(file, read_json_object(file), "review")
    pair = table["key"].str.extract_groups(r"^\(\s*'?([^,']+?)'?\s*,\s*'?([^,']+?)'?\s*\)$").struct.unnest()
    wrong = pair["1"].is_null()
    if wrong.any():
        raise DataError(f"{file}: the key {table['key'][int(wrong.arg_max() or 0)]!r} is not a pair such as '(3, 17)'")
    faults = Faults(settings.bad_rows).block(len(pair), lambda row: f"{file}, {table['key'][row]!r}")
    frame = pl.DataFrame(
        {
            "user": _raw(pair["1"], maps.get("user"), "user", faults),
            "item": _raw(pair["2"], maps.get("item"), "item", faults),
            **{to: table[name] for name, to in (("review", "text"), ("summary", "summary")) if name in table.columns},
        }
    )
    return frame.drop_nulls(["user", "item", *(["text"] if "text" in frame.columns else [])])


def is_lc_rec(path: Path) -> bool:
    """Whether a path is a ``D.inter.json`` or a directory that holds one."""
    names = [path.name] if path.is_file() else [file.name for file in path.iterdir()]
    return any(name.removesuffix(".gz").endswith(".inter.json") for name in names)
