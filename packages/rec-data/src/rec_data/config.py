"""The settings of `prepare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rec_core.errors import SettingsError

Format = Literal["auto", "movielens", "recbole", "table"]
TimestampUnit = Literal["auto", "seconds", "milliseconds", "microseconds", "nanoseconds", "iso"]
Duplicates = Literal["first", "last", "all"]
Protocol = Literal["leave-one-out", "global-time"]


def _check_choice(settings: object, option: str, choices: object) -> None:
    value, known = getattr(settings, option), get_args(choices)
    if value not in known:
        raise SettingsError(f"--{option.replace('_', '-')} is one of {', '.join(known)}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How raw files are read; what is left out is found out."""

    format: Format = "auto"
    """Layout of the raw files: movielens (ml-100k as published), recbole (atomic files), table (CSV, TSV, Parquet)."""
    user_column: str | None = None
    """Column of the raw user key."""
    item_column: str | None = None
    """Column of the raw item key."""
    timestamp_column: str | None = None
    """Column of the time; "none" reads no times, the order of the file then counts."""
    rating_column: str | None = None
    """Column of the rating; "none" reads no ratings."""
    timestamp_unit: TimestampUnit = "auto"
    """Unit of the times; auto decides value by value from its size and states what it found in the manifest."""
    separator: str | None = None
    """Separator of the text table: one or more characters, or "tab". By default what the header shows."""
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

    def __post_init__(self) -> None:
        _check_choice(self, "format", Format)
        _check_choice(self, "timestamp_unit", TimestampUnit)
        if self.items_file is None and (self.item_key or self.title_column):
            raise SettingsError("--item-key and --title-column name columns of --items-file; name that file too")
        if self.users_file is None and self.user_key:
            raise SettingsError("--user-key names a column of --users-file; name that file too")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(ReadSettings):
    """What `prepare` keeps of the raw rows and how it splits them."""

    min_rating: float | None = None
    """Keep rows rated at least this; unset keeps every row."""
    duplicates: Duplicates = "first"
    """Which row of a repeated (user, item) pair stays: the oldest, the newest, or all of them."""  # see README
    k_core: int = 5
    """Drop users and items with fewer rows, again and again until none is left; 1 keeps everyone."""
    user_k_core: int | None = None
    """The same bound for users alone, instead of k_core."""
    item_k_core: int | None = None
    """The same bound for items alone, instead of k_core."""
    split: Protocol = "leave-one-out"
    """leave-one-out: each user's last item is test, the one before valid. global-time: the newest rows of all."""
    valid_share: float = 0.1
    """Share of the rows that global-time holds out for validation."""
    test_share: float = 0.1
    """Share of the rows that global-time holds out for the test."""
    name: str | None = None
    """Short name for tables and plots; by default that of the asset or file."""

    def __post_init__(self) -> None:
        ReadSettings.__post_init__(self)
        _check_choice(self, "duplicates", Duplicates)
        _check_choice(self, "split", Protocol)
        for option in ("k_core", "user_k_core", "item_k_core"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise SettingsError(f"--{option.replace('_', '-')} is at least 1 (1 keeps everyone); got {value}")
        if not (self.valid_share > 0 and self.test_share > 0 and self.valid_share + self.test_share < 1):
            raise SettingsError(
                f"--valid-share and --test-share are above 0 and leave something to train on; "
                f"got {self.valid_share:g} and {self.test_share:g}"
            )

    @property
    def user_core(self) -> int:
        """Rows a user needs to stay."""
        return self.k_core if self.user_k_core is None else self.user_k_core

    @property
    def item_core(self) -> int:
        """Rows an item needs to stay."""
        return self.k_core if self.item_k_core is None else self.item_k_core
