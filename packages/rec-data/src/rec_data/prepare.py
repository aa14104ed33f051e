"""Raw files to a prepared dataset: read, filter, number, split, write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rec_core.artifacts import Artifact, Input, check_output
from rec_core.assets import ASSETS, Fetched, content_hash, fetch
from rec_core.dataset import write_dataset
from rec_core.errors import DataError, SettingsError, nearest
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Split, UserCatalog
from rec_core.types.ids import Bool
from rec_data.config import PrepareSettings
from rec_data.filters import k_core, one_per_pair
from rec_data.ordering import compact, event_order, ordered_keys
from rec_data.raw import RawData
from rec_data.readers import read
from rec_data.splits import global_time, leave_one_out

log = logging.getLogger(__name__)


def prepare(
    source: Path | str, output: Path | str, settings: PrepareSettings | None = None, *, overwrite: bool = False
) -> Artifact:
    """Write the prepared dataset of a raw file, a raw directory or an asset name.

    Raises :class:`rec_core.errors.RecError` for everything that is wrong with the input, the settings or the output;
    an existing output then stays as it was.
    """
    settings = settings or PrepareSettings()
    check_output(output, overwrite=overwrite)
    path, asset = locate(source)
    raw = read(path, settings)
    if asset is not None:
        raw = replace(raw, name=asset.asset.name)
    made = make_dataset(raw, settings)
    files = raw.file_hashes()
    source_facts = {**raw.facts, "files": files}
    if asset is not None:
        source_facts |= {"asset": asset.asset.name, "from": asset.source}
        source_facts |= {"licence": asset.asset.licence, "citation": asset.asset.citation}
    return write_dataset(
        output,
        made.dataset,
        settings=settings,
        inputs=[Input("raw", path, content_hash(files))],
        counts=made.counts,
        about={"source": source_facts, "split": made.split_facts},
        overwrite=overwrite,
    )


def summary(artifact: Artifact) -> str:
    """What `prepare` says when it is done."""
    counts = artifact.manifest["counts"]
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items()) or "nothing"
    split = f"{artifact.manifest['protocol']}: {counts['train']:,} / {counts['valid']:,} / {counts['test']:,}"
    return (
        f"{artifact.path}: {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['interactions']:,} interactions of {counts['lines']:,} lines (dropped: {dropped}); {split}"
    )


def locate(source: Path | str) -> tuple[Path, Fetched | None]:
    """The path that is meant: one that exists, else the asset of that name, fetched if need be."""
    path = Path(source)
    if path.exists():
        return path, None
    if str(source) in ASSETS:
        asset = fetch(str(source))
        return asset.path, asset
    raise not_found(path)


def not_found(path: Path) -> DataError:
    """Neither a path nor an asset."""
    asset = "" if path.suffix or len(path.parts) > 1 else f", and no asset of that name{nearest(str(path), ASSETS)}"
    return DataError(f"there is no file or directory {path}{asset}")


@dataclass(frozen=True, slots=True)
class Made:
    """A dataset in memory, with what happened on the way.

    counts       for the manifest; ``lines`` equals ``interactions`` plus everything in ``dropped``
    split_facts  what the split decided: users that were too short, where the cuts are
    """

    dataset: Dataset
    counts: Mapping[str, Any]
    split_facts: Mapping[str, Any]


def make_dataset(raw: RawData, settings: PrepareSettings) -> Made:
    """Filter, number, order and split raw rows.

    In this order: the rating bound, repeated pairs, the k-core; then ids in the order of :func:`ordered_keys`, events
    by (user, timestamp, row), the split. Items of the raw catalog without interactions follow as cold items.
    """
    user_keys, item_keys = raw.rows.user_keys, raw.rows.item_keys
    table = _Rows.of(raw)
    dropped = dict(raw.dropped)

    def drop(reason: str, stays: Bool) -> _Rows:
        gone = len(stays) - int(stays.sum())
        if not gone:
            return table
        dropped[reason] = gone
        if gone == len(stays):
            raise DataError(_nothing_left(raw, dropped, settings))
        return table.where(stays)

    if not len(table.users):
        raise DataError(_nothing_left(raw, dropped, settings))
    if settings.min_rating is not None:
        if table.ratings is None:
            raise SettingsError(f"--min-rating needs ratings, and {raw.name} has none (--rating-column names them)")
        table = drop("below_min_rating", table.ratings >= settings.min_rating)
    table = table.in_order()
    if settings.duplicates != "all":
        table = drop("duplicate", one_per_pair(table.users, table.items, settings.duplicates))
    stays, rounds = k_core(table.users, table.items, settings.user_core, settings.item_core)
    table = drop("k_core", stays)

    users, kept_users = compact(table.users, len(user_keys))
    items, kept_items = compact(table.items, len(item_keys))
    interactions = Interactions(
        users=users,
        items=items.astype(np.int32),
        n_users=len(kept_users),
        n_items=len(kept_items),
        timestamps=table.timestamps,
        ratings=table.ratings,
    )
    split, split_facts = _split(interactions, settings)
    user_keys, item_keys = user_keys.gather(kept_users), item_keys.gather(kept_items)
    known_items = raw.items if raw.items is not None else pl.DataFrame({"key": item_keys})
    cold = ordered_keys(known_items["key"].filter(~known_items["key"].is_in(item_keys.implode())))
    dataset = Dataset(
        name=settings.name or raw.name,
        users=UserCatalog(IdMap(tuple(user_keys), "user"), _fields(user_keys, raw.users)),
        items=ItemCatalog(
            IdMap(tuple(item_keys) + tuple(cold), "item"),
            _fields(pl.concat([item_keys, cold]), raw.items),
            len(item_keys),
        ),
        split=split,
    )
    tied = interactions.tied_share
    counts = {
        "lines": raw.lines,
        "dropped": dropped,
        "k_core_rounds": rounds,
        "tied_timestamp_share": None if np.isnan(tied) else round(tied, 6),
    }
    return Made(dataset, counts, split_facts)


@dataclass(frozen=True, slots=True)
class _Rows:
    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64] | None
    ratings: npt.NDArray[np.float32] | None

    @classmethod
    def of(cls, raw: RawData) -> _Rows:
        rows = raw.rows
        return cls(rows.users.astype(np.int64), rows.items.astype(np.int64), rows.timestamps, rows.ratings)

    def where(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> _Rows:
        timestamps = None if self.timestamps is None else self.timestamps[rows]
        ratings = None if self.ratings is None else self.ratings[rows]
        return _Rows(self.users[rows], self.items[rows], timestamps, ratings)

    def in_order(self) -> _Rows:
        order = event_order(self.users, self.timestamps)
        return self if order is None else self.where(order)


def _split(interactions: Interactions, settings: PrepareSettings) -> tuple[Split, dict[str, Any]]:
    if settings.split == "leave-one-out":
        split, facts = leave_one_out(interactions)
        if facts["users_too_short"]:
            log.info("%s users have fewer than 3 events and stay in train whole", f"{facts['users_too_short']:,}")
    else:
        split, facts = global_time(interactions, settings.valid_share, settings.test_share)
    if interactions.timestamps is None:
        log.warning("the data has no timestamps: the order of the file stands for the order in time")
        facts["order"] = "file"
    return split, facts


def _fields(keys: pl.Series, table: pl.DataFrame | None) -> dict[str, list[str | None]]:
    """Field name -> one text per key, None where the table does not describe it."""
    if table is None:
        return {}
    asked = pl.DataFrame({"key": keys})
    found = asked.join(table, on="key", how="left", maintain_order="left")
    return {name: found[name].to_list() for name in table.columns if name != "key"}


def _nothing_left(raw: RawData, dropped: Mapping[str, int], settings: PrepareSettings) -> str:
    if not raw.lines:
        return f"{raw.name}: the file has a header at most, and no rows"
    gone = ", ".join(f"{n:,} by {reason}" for reason, n in dropped.items())
    wishes = f"--k-core {settings.user_core}" if settings.user_core == settings.item_core else "the k-core bounds"
    if settings.min_rating is not None:
        wishes += f" or --min-rating {settings.min_rating:g}"
    return f"empty result after filtering: of {raw.lines:,} lines {gone} were dropped; ask for less than {wishes}"
