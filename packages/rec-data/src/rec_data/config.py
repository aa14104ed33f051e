"""The settings of `prepare`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

from rec_core.errors import SettingsError

Format = Literal[
    "auto",
    "movielens",
    "amazon",
    "yelp",
    "book-crossing",
    "steam",
    "lastfm",
    "table",
    "json-lines",
    "huggingface",
    "recbole",
    "lc-rec",
    "lightgcn",
    "selfrec",
    "sasrec",
    "s3rec",
    "minionerec",
    "openp5",
    "llm-recsys-id",
]
TimestampUnit = Literal["auto", "seconds", "milliseconds", "microseconds", "nanoseconds", "iso"]
Duplicates = Literal["first", "last", "all"]
Protocol = Literal[
    "leave-one-out", "leave-last-n", "global-time", "global-ratio", "ratio", "temporal-user-groups", "given"
]
TextRules = Literal["as-is", "clean", "lc-rec", "llmemb"]


def _check_choice(settings: object, option: str, choices: object) -> None:
    value, known = getattr(settings, option), get_args(choices)
    if value not in known:
        raise SettingsError(f"--{option.replace('_', '-')} is one of {', '.join(known)}; got {value!r}")


def _check_at_least(settings: object, least: int, *options: str) -> None:
    for option in options:
        value = getattr(settings, option)
        if value is not None and value < least:
            keeps = " (1 keeps everyone)" if least == 1 and "core" in option else ""
            raise SettingsError(f"--{option.replace('_', '-')} is at least {least}{keeps}; got {value}")


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How raw files are read; what is left out is found out."""

    format: Format = "auto"
    """Layout of the raw files; auto tells it from names and first lines, and states it in the manifest."""
    source_version: str | None = None
    """Edition of the source where the layouts differ: amazon 2014, 2018, 2023; yelp 2013, current."""
    user_column: str | None = None
    """Column of the raw user key."""
    item_column: str | None = None
    """Column of the raw item key."""
    timestamp_column: str | None = None
    """Column of the time; "none" reads no times, the order of the file then counts."""
    rating_column: str | None = None
    """Column of the rating; "none" reads no ratings."""
    column_names: str | None = None
    """Comma-separated names of the columns of a text table that has no header line."""
    timestamp_unit: TimestampUnit = "auto"
    """Unit of the times; auto decides value by value from its size and states what it found in the manifest."""
    separator: str | None = None
    """Separator of the text table: one or more characters, or "tab". By default what the first line shows."""
    encoding: str = "utf-8"
    """Encoding of text tables: utf-8, latin-1, ..."""
    quotes: bool = True
    """Whether text tables quote fields with "; switch it off when quotes are part of the text."""
    items_file: Path | None = None
    """Table of the items; its other columns become text fields of the catalog."""
    item_key: str | None = None
    """Column of the raw item key in the items file."""
    title_column: str | None = None
    """Column of the title in the items file."""
    users_file: Path | None = None
    """Table of the users."""
    user_key: str | None = None
    """Column of the raw user key in the users file."""
    reviews: bool = False
    """Keep review texts where the source has them (amazon, yelp)."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that cannot be read (a time that is none, a field too few): stop at the first, or leave out and count."""
    strict: bool = False
    """Stop when the reader left out any row or blank line at all, instead of counting it in the manifest."""

    def __post_init__(self) -> None:
        _check_choice(self, "format", Format)
        _check_choice(self, "timestamp_unit", TimestampUnit)
        _check_choice(self, "bad_rows", Literal["error", "drop"])
        if self.strict and self.bad_rows == "drop":
            raise SettingsError("--strict and --bad-rows drop contradict each other; leave out one of them")
        if self.items_file is None and (self.item_key or self.title_column):
            raise SettingsError("--item-key and --title-column name columns of --items-file; name that file too")
        if self.users_file is None and self.user_key:
            raise SettingsError("--user-key names a column of --users-file; name that file too")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(ReadSettings):
    """What `prepare` keeps of the raw rows and how it splits them."""

    preset: str | None = None
    """Name of the published preparation that gave the defaults; options beside it win."""
    min_rating: float | None = None
    """Keep rows rated at least this; unset keeps every row."""
    since: str | None = None
    """Keep rows from this date on (ISO, UTC): 2000-01-01."""
    until: str | None = None
    """Keep rows up to and including this date, or before this moment: 2019-12-31."""
    described_items_only: bool = False
    """Drop rows of items that the source gives no title for."""
    duplicates: Duplicates = "first"
    """Which row of a repeated (user, item) pair stays: the oldest, the newest, or all of them."""  # see README
    session_gap: int | None = None
    """Cut each user's events into sessions where nothing happens for more than this many seconds; each is a user."""
    k_core: int = 5
    """Drop users and items with fewer rows, again and again until none is left; 1 keeps everyone."""
    user_k_core: int | None = None
    """The same bound for users alone, instead of --k-core."""
    item_k_core: int | None = None
    """The same bound for items alone, instead of --k-core."""
    k_core_rule: Literal["iterative", "one-pass"] = "iterative"
    """one-pass counts users and items once and drops rows once; some may then have fewer rows than the bound."""
    min_events: int = 1
    """Drop users (or sessions) with fewer events after all that."""
    max_events: int | None = None
    """Keep the newest so many events of each user (or session)."""
    cold_items: bool = True
    """Keep items of the catalog that have no events, after those that have."""
    item_fields: str | None = None
    """Comma-separated text fields of the items to keep, in this order; by default all."""
    held_out_reviews: bool = False
    """Keep the reviews of held-out events too, which tell a model what it is to find (LC-Rec's test intentions)."""
    text_rules: TextRules = "clean"
    """How item texts are cleaned: as-is, clean (entities, control characters, blanks), or a paper's own rules."""
    max_text: int | None = None
    """Cut every item text to so many characters."""
    order: Literal["time", "random"] = "time"
    """Order of a user's events: by time (ties, or all without times, by row), or drawn, for data without an order."""
    split: Protocol = "leave-one-out"
    """Which events are held out: see README for each."""
    held_out: int = 1
    """Events per user that leave-last-n holds out for the test, and before them for validation."""
    valid_share: float = 0.1
    """Share that global-time, global-ratio, ratio and temporal-user-groups hold out for validation."""
    test_share: float = 0.1
    """Share that they hold out for the test."""
    ratio_order: Literal["random", "time"] = "random"
    """Which events of a user ratio holds out: drawn ones, or the newest."""
    min_history: int = 5
    """Events a user must have before one counts as a sample of global-ratio."""
    seed: int = 1
    """Seed of everything that is drawn."""
    name: str | None = None
    """Short name for tables and plots; by default that of the asset or file."""

    def __post_init__(self) -> None:
        ReadSettings.__post_init__(self)
        _check_choice(self, "duplicates", Duplicates)
        _check_choice(self, "split", Protocol)
        _check_choice(self, "text_rules", TextRules)
        _check_choice(self, "k_core_rule", Literal["iterative", "one-pass"])
        _check_choice(self, "order", Literal["time", "random"])
        _check_choice(self, "ratio_order", Literal["random", "time"])
        _check_at_least(self, 1, "k_core", "user_k_core", "item_k_core", "min_events", "max_events", "held_out")
        _check_at_least(self, 1, "session_gap", "max_text")
        _check_at_least(self, 0, "min_history")
        if not (self.valid_share > 0 and self.test_share > 0 and self.valid_share + self.test_share < 1):
            raise SettingsError(
                f"--valid-share and --test-share are above 0 and leave something to train on; "
                f"got {self.valid_share:g} and {self.test_share:g}"
            )
        if self.max_events is not None and self.max_events < self.min_events:
            raise SettingsError(f"--max-events {self.max_events} is less than --min-events {self.min_events}")
        if self.held_out_reviews and not self.reviews:
            raise SettingsError("--held-out-reviews says which reviews are kept; add --reviews")
        for option in ("since", "until"):
            _moment(option, getattr(self, option))
        if self.min_rating is not None and not isfinite(self.min_rating):
            raise SettingsError(f"--min-rating is an ordinary number; got {self.min_rating}")
        if self.name is not None and not (self.name.strip() and self.name.isprintable()):
            raise SettingsError(f"--name is a short text on one line; got {self.name!r}")

    @property
    def idle_options(self) -> list[str]:
        """Options of a split that differ from their defaults while another split is asked for."""
        shares = {"global-time", "global-ratio", "ratio", "temporal-user-groups"}
        belongs = {
            "held_out": {"leave-last-n"},
            "valid_share": shares,
            "test_share": shares,
            "ratio_order": {"ratio"},
            "min_history": {"global-ratio"},
        }
        usual = {f.name: f.default for f in fields(self)}
        return [
            option
            for option, splits in belongs.items()
            if self.split not in splits and getattr(self, option) != usual[option]
        ]

    @property
    def user_core(self) -> int:
        """Rows a user needs to stay."""
        return self.k_core if self.user_k_core is None else self.user_k_core

    @property
    def item_core(self) -> int:
        """Rows an item needs to stay."""
        return self.k_core if self.item_k_core is None else self.item_k_core

    @property
    def first_second(self) -> int | None:
        """The first second that ``since`` lets through."""
        moment = _moment("since", self.since)
        return None if moment is None else int(moment.timestamp())

    @property
    def end_second(self) -> int | None:
        """The first second that ``until`` no longer lets through: a date means its whole day."""
        moment = _moment("until", self.until)
        if moment is None or self.until is None:
            return None
        return int(moment.timestamp()) + (86_400 if len(self.until.strip()) == len("2019-12-31") else 0)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(f"--{option} is an ISO date or time such as 2019-12-31; got {text!r}") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
