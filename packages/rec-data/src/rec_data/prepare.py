"""Raw files to a prepared dataset: read, filter, number, split, write."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import polars as pl

from rec_core.artifacts import Artifact, Input, check_output
from rec_core.assets import Fetched, content_hash
from rec_core.dataset import write_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Reviews, Split, UserCatalog
from rec_core.types.ids import Bool
from rec_data.catalog_text import clean_items
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.events import Events
from rec_data.filters import by_length, k_core, one_per_pair, sessions
from rec_data.ordering import event_order, is_plain_number, ordered_keys
from rec_data.raw import RawData
from rec_data.readers import read
from rec_data.rows import SILENCE
from rec_data.sources import data_sources, fetch, manifest_facts, offer
from rec_data.splits import make_split
from rec_data.streams import hashed, stream_key

log = logging.getLogger(__name__)

S = TypeVar("S", bound=ReadSettings)


def prepare(
    source: Path | str, output: Path | str, settings: PrepareSettings | None = None, *, overwrite: bool = False
) -> Artifact:
    """Write the prepared dataset of a raw file, a raw directory or an asset name.

    Raises :class:`rec_core.errors.RecError` for everything that is wrong with the input, the settings or the output;
    an existing output then stays as it was.
    """
    settings = settings or PrepareSettings()
    beside = [file for file in (settings.items_file, settings.users_file) if file is not None]
    check_output(output, overwrite=overwrite, made_from=[Path(source), *beside])
    started = monotonic()
    for option in settings.idle_options:
        log.warning("--%s says nothing about --split %s, and is not used", option.replace("_", "-"), settings.split)
    path, asset, settings = locate(source, settings)
    raw = read(path, settings)
    if asset is not None:
        raw = replace(raw, name=asset.asset.name)
    events = Events(raw.rows)
    raw = replace(raw, rows=raw.rows.without_rows())  # so that the columns belong to events alone
    if slow := monotonic() - started > SILENCE:
        log.info("%s: read %s rows in %.0f s", raw.name, f"{len(events):,}", monotonic() - started)
    with ThreadPoolExecutor(1) as thread:
        hashing = thread.submit(raw.file_hashes)
        made = _make(events, raw, settings)
        files = hashing.result()
    if slow:
        log.info("%s: filtered, numbered and split after %.0f s; writing", raw.name, monotonic() - started)
    source_facts = {**raw.facts, "files": files}
    if asset is not None:
        source_facts |= manifest_facts(asset, settings, made.dataset.split.interactions)
    return write_dataset(
        output,
        made.dataset,
        settings=settings,
        inputs=[Input("raw", path, content_hash(files))],
        counts=made.counts,
        about={"source": source_facts, "split": made.split_facts, "text": made.text_facts},
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


def locate(source: Path | str, settings: S) -> tuple[Path, Fetched | None, S]:
    """The path that is meant: one that exists, else the public dataset of that name, fetched if need be.

    And the settings to read it with: a public dataset brings its own, options that were asked for win. With the format
    huggingface the path may also be a name of the Hub.
    """
    path = Path(source)
    known = data_sources().get(str(source)) if not path.exists() else None
    if known is not None:
        asset = fetch(str(source))
        return known.location(asset.path), asset, known.settings(settings)
    if path.exists() or settings.format == "huggingface":
        return path, None, settings
    raise not_found(path)


def not_found(path: Path) -> DataError:
    """Neither a path nor an asset."""
    asset = f", and no asset of that name{offer(str(path)) or ' (rec-data fetch --list shows all)'}"
    return DataError(f"there is no file or directory {path}{'' if path.suffix or len(path.parts) > 1 else asset}")


@dataclass(frozen=True, slots=True)
class Made:
    """A dataset in memory, with what happened on the way.

    counts       for the manifest; ``lines`` equals ``interactions`` plus everything in ``dropped``
    split_facts  what the split decided: users that were too short, where the cuts are
    text_facts   what the cleaning of the item texts changed
    """

    dataset: Dataset
    counts: Mapping[str, Any]
    split_facts: Mapping[str, Any]
    text_facts: Mapping[str, Any]


def make_dataset(raw: RawData, settings: PrepareSettings) -> Made:
    """Filter, number, order and split raw rows.

    In this order: rows outside the rating and time bounds and of undescribed items, the order of events by (user,
    timestamp, row), sessions, repeated pairs, the k-core, limits on history lengths; then ids in the order of
    :func:`ordered_keys` and the split. Items of the raw catalog without interactions follow as cold items.
    """
    return _make(Events(raw.rows), raw, settings)


def _make(events: Events, raw: RawData, settings: PrepareSettings) -> Made:
    """Like :func:`make_dataset` for the rows in ``events``, which are used up; ``raw.rows`` gives their keys alone."""
    dropped = dict(raw.dropped)
    lines = len(events) + sum(dropped.values())

    def drop(reason: str, stays: Bool) -> None:
        gone = len(stays) - int(np.count_nonzero(stays))
        if not gone:
            return
        dropped[reason] = gone
        if gone == len(stays):
            raise DataError(_nothing_left(raw.name, lines, dropped, settings))
        events.where(stays)

    if not len(events):
        raise DataError(_nothing_left(raw.name, lines, dropped, settings))
    for reason, stays in _bounds(events, raw, settings):
        drop(reason, stays)
    _put_in_order(events, settings)
    facts: dict[str, Any] = _alike(raw)
    user_keys: pl.Series = raw.rows.user_keys
    user_of: pl.Series | None = None  # with sessions, the user of each
    if settings.session_gap is not None:
        user_keys, user_of = _cut_into_sessions(events, raw, settings.session_gap)
        facts["sessions_of_users"] = raw.rows.user_keys.len()
    if settings.duplicates != "all":
        drop("duplicate", one_per_pair(events.users, events.items, settings.duplicates))
    once = settings.k_core_rule == "one-pass"
    stays, rounds = k_core(events.users, events.items, settings.user_core, settings.item_core, once=once)
    drop("k_core", stays)
    if settings.min_events > 1 or settings.max_events is not None:
        drop("too_few_events", by_length(events.users, settings.min_events, None)[0])
        drop("beyond_max_events", by_length(events.users, 1, settings.max_events)[1])

    kept_users = events.renumber("users", np.int64)
    kept_items = events.renumber("items", np.int32)
    interactions = Interactions(
        users=events.users.astype(np.int64, copy=False),
        items=events.items,
        n_users=len(kept_users),
        n_items=len(kept_items),
        timestamps=events.timestamps,
        ratings=events.ratings,
    )
    split, split_facts = make_split(interactions, settings, given_part=events.part)
    user_keys, item_keys = user_keys.gather(kept_users), raw.rows.item_keys.gather(kept_items)
    users = UserCatalog(
        IdMap(tuple(user_keys.to_list()), "user"),
        _fields(user_keys if user_of is None else user_of.gather(kept_users), raw.users),
    )
    items, text_facts = _catalog(item_keys, raw, settings)
    reviews, review_facts = _reviews(raw, users, items, split, settings)
    tied = interactions.tied_share
    counts = {
        "lines": lines,
        "dropped": dropped,
        "k_core_rounds": rounds,
        "tied_timestamp_share": None if np.isnan(tied) else round(tied, 6),
        **facts,
        **review_facts,
    }
    return Made(Dataset(settings.name or raw.name, users, items, split, reviews), counts, split_facts, text_facts)


def _alike(raw: RawData) -> dict[str, Any]:
    """How many raw keys differ from another one in case, surrounding blanks or Unicode form alone; each stays."""
    facts = {}
    for what, keys in (("users", raw.rows.user_keys), ("items", raw.rows.item_keys)):
        if is_plain_number(keys).all():
            continue
        folded = keys.str.strip_chars().str.to_lowercase()
        if int(keys.str.len_bytes().sum() or 0) != int(keys.str.len_chars().sum() or 0):
            folded = folded.str.normalize("NFC")
        extra = len(keys) - folded.n_unique()
        if extra:
            facts[f"{what}_alike"] = extra
            example = keys.filter(folded == folded.filter(folded.is_duplicated())[0])
            log.warning(
                "%s keys of %s differ from another in case, blanks or Unicode form alone, such as %r and %r; "
                "each stays a key of its own",
                *(f"{extra:,}", what, example[0], example[1]),
            )
    return facts


def _bounds(events: Events, raw: RawData, settings: PrepareSettings) -> Iterator[tuple[str, Bool]]:
    """Why rows go because of what they say themselves, and which stay."""
    if settings.min_rating is not None:
        if events.ratings is None:
            raise SettingsError(f"--min-rating needs ratings, and {raw.name} has none (--rating-column names them)")
        yield "below_min_rating", events.ratings >= settings.min_rating
    for option, second in (("since", settings.first_second), ("until", settings.end_second)):
        if second is not None:
            if events.timestamps is None:
                raise SettingsError(f"--{option} needs times, and {raw.name} has none (--timestamp-column names them)")
            early = option == "since"
            yield f"{option}_bound", events.timestamps >= second if early else events.timestamps < second
    if settings.described_items_only:
        if raw.items is None or "title" not in raw.items.columns:
            raise SettingsError(f"--described-items-only needs item titles, and {raw.name} has none (--items-file)")
        titles = raw.items["title"]
        if titles.dtype == pl.String:
            titles = titles.str.strip_chars().replace("", None)
        titled = raw.items["key"].filter(titles.is_not_null())
        yield "undescribed_item", raw.rows.item_keys.is_in(titled.implode()).to_numpy()[events.items]


def _put_in_order(events: Events, settings: PrepareSettings) -> None:
    times = events.timestamps
    if settings.order == "random":
        if times is not None:
            raise SettingsError(
                "--order random is for data without times; leave it out, or add --timestamp-column none"
            )
        drawn = hashed(stream_key(settings.seed, "order of events"), events.users, events.items)
        times = (drawn >> np.uint64(2)).astype(np.int64)
    events.take(event_order(events.users, times))


def _cut_into_sessions(events: Events, raw: RawData, gap: int) -> tuple[pl.Series, pl.Series]:
    """Sessions take the place of users: key of each ("ann/1"), and the user's own key."""
    if events.timestamps is None:
        raise SettingsError(f"--session-gap needs times, and {raw.name} has none (--timestamp-column names them)")
    if raw.reviews is not None:
        raise SettingsError("--session-gap and --reviews exclude each other: a review belongs to a user")
    number, user = sessions(events.users, events.timestamps, gap)
    first = np.flatnonzero(np.diff(user, prepend=-1) != 0)
    within = np.arange(len(user)) - np.repeat(first, np.diff(first, append=len(user))) + 1
    events.replace("users", number)
    user_of = raw.rows.user_keys.gather(user)
    keys = pl.DataFrame({"user": user_of, "n": within}).select(pl.format("{}/{}", "user", "n").alias("key"))["key"]
    return keys, user_of


def _catalog(item_keys: pl.Series, raw: RawData, settings: PrepareSettings) -> tuple[ItemCatalog, dict[str, Any]]:
    """Interacted items in id order, then cold ones, their text cleaned."""
    if raw.items is None:
        if settings.item_fields is not None:
            raise SettingsError(f"--item-fields selects text fields, and {raw.name} describes no items (--items-file)")
        return ItemCatalog(IdMap(tuple(item_keys.to_list()), "item"), {}, len(item_keys)), {}
    known = raw.items["key"]
    cold = ordered_keys(known.filter(~known.is_in(item_keys.implode())))
    if not settings.cold_items:
        cold = cold.clear()
    keys = pl.concat([item_keys, cold])
    described = raw.items.filter(known.is_in(keys.implode()))
    wanted = None if settings.item_fields is None else [name.strip() for name in settings.item_fields.split(",")]
    cleaned, facts = clean_items(described, settings.text_rules, fields=wanted, max_text=settings.max_text)
    return ItemCatalog(IdMap(tuple(keys.to_list()), "item"), _fields(keys, cleaned), len(item_keys)), facts


def _reviews(
    raw: RawData, users: UserCatalog, items: ItemCatalog, split: Split, settings: PrepareSettings
) -> tuple[Reviews | None, dict[str, int]]:
    """The reviews of the training interactions, or of all that are left, by (user, time, row)."""
    if raw.reviews is None:
        return None, {}
    ids = [
        pl.DataFrame({what: keys, f"{what}_id": np.arange(len(keys))}, schema_overrides={what: pl.String})
        for what, keys in (("user", list(users.ids.keys)), ("item", list(items.ids.keys[: items.n_interacted])))
    ]
    found = raw.reviews.join(ids[0], on="user", how="inner", maintain_order="left")
    found = found.join(ids[1], on="item", how="inner", maintain_order="left")
    shown = split.interactions if settings.held_out_reviews else split.train
    events = pl.DataFrame({"user_id": shown.users, "item_id": shown.items.astype(np.int64)})
    if shown.timestamps is not None and "timestamp" in found.columns:  # a pair may be met again, in another part
        events = events.with_columns(pl.Series("timestamp", shown.timestamps))
    found = found.join(events, on=events.columns, how="semi", maintain_order="left")
    by = ["user_id", *(["timestamp"] if "timestamp" in found.columns else [])]
    found = found.sort(by, maintain_order=True)
    columns = {name: found[name].to_numpy() if name in found.columns else None for name in ("timestamp", "rating")}
    reviews = Reviews(
        users=found["user_id"].to_numpy().astype(np.int64),
        items=found["item_id"].to_numpy().astype(np.int32),
        texts=tuple(found["text"].fill_null("")),
        timestamps=columns["timestamp"],
        ratings=columns["rating"],
        summaries=tuple(found["summary"]) if "summary" in found.columns else None,
    )
    return reviews, {"reviews": len(reviews), "reviews_left_out": raw.reviews.height - len(reviews)}


def _fields(keys: pl.Series, table: pl.DataFrame | None) -> dict[str, list[str | None]]:
    """Field name -> one text per key, None where the table does not describe it."""
    if table is None:
        return {}
    asked = pl.DataFrame({"key": keys})
    found = asked.join(table, on="key", how="left", maintain_order="left")
    return {name: found[name].to_list() for name in table.columns if name != "key"}


def _nothing_left(name: str, lines: int, dropped: Mapping[str, int], settings: PrepareSettings) -> str:
    if not lines:
        return f"{name}: the file has a header at most, and no rows"
    gone = ", ".join(f"{n:,} by {reason}" for reason, n in dropped.items())
    cores = f"--user-k-core {settings.user_core} and --item-k-core {settings.item_core}"
    wishes = {
        "below_min_rating": f"--min-rating {settings.min_rating}",
        "since_bound": f"--since {settings.since}",
        "until_bound": f"--until {settings.until}",
        "undescribed_item": "--described-items-only",
        "k_core": f"--k-core {settings.user_core}" if settings.user_core == settings.item_core else cores,
        "too_few_events": f"--min-events {settings.min_events}",
    }
    asked = " or ".join(wish for reason, wish in wishes.items() if reason in dropped)
    advice = f"ask for less than {asked}" if asked else "are they in the layout they were read in (--format)?"
    return f"empty result after filtering: of {lines:,} lines {gone} were dropped; {advice}"
