"""The settings of `synthesize`: what a made-up world is like, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Literal

from rec_core.errors import SettingsError

MOST_ITEMS, MOST_USERS, MOST_WORDS = 1 << 27, 1 << 31, 300_000


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """The settings of a world (:class:`rec_data.synthetic.World`).

    Raises :class:`SettingsError` where they contradict each other.
    """

    users: int = 1_000
    """Number of users."""
    items: int = 500
    """Number of items; some of the long tail may never be met."""
    interactions: int = 20_000
    """Number of interactions of all users together, exactly."""
    clusters: int = 8
    """Number of clusters of users and items."""
    styles: int = 3
    """Number of styles, a second factor that cuts across the clusters."""
    dim: int = 16
    """Length of the latent vectors."""
    taste: float = 4.0
    """How strongly taste decides against popularity; 0 makes all users alike."""
    explore: float = 0.1
    """Share of the draws that follow popularity alone."""
    popularity: float = 1.2
    """Exponent of the long tail: the weight of an item falls with its rank to this power; 0 makes all items equal."""
    follow: float = 0.5
    """Probability that an item is followed by its one successor."""
    min_history: int = 5
    """Interactions that every user has at least."""
    history_spread: float = 0.8
    """Spread of the history lengths above the least: sigma of their log-normal law; 0 makes them equal."""
    rating_noise: float = 0.7
    """Standard deviation of what is added to the rating that taste and quality suggest."""
    days: int = 3650
    """Days between the first possible event and the last."""
    vocabulary: int = 600
    """Words of the made-up language."""
    seed: int = 1
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        self._check_ranges()
        if self.items < 2 * self.n_groups:
            raise SettingsError(
                f"--items is at least twice the {self.n_groups} groups of --clusters {self.clusters} and --styles "
                f"{self.styles}; got {self.items}"
            )
        if self.vocabulary < 4 * (self.clusters + self.styles):
            raise SettingsError(
                f"--vocabulary is at least 4 words for each of {self.clusters} clusters and {self.styles} styles, "
                f"{4 * (self.clusters + self.styles)}; got {self.vocabulary}"
            )
        if self.interactions < self.users * self.min_history:
            raise SettingsError(
                f"{self.users:,} users with a history of at least {self.min_history} have "
                f"{self.users * self.min_history:,} interactions or more; --interactions is {self.interactions:,}"
            )

    def _check_ranges(self) -> None:
        for field in fields(self):
            least, most = _RANGES[field.name]
            value = getattr(self, field.name)
            if not (isfinite(value) and least <= value <= most):
                raise SettingsError(
                    f"--{field.name.replace('_', '-')} lies between {least:,} and {most:,}; got {value:,}"
                )

    @property
    def n_groups(self) -> int:
        """Pairs of a cluster and a style."""
        return self.clusters * self.styles


_RANGES: dict[str, tuple[float, float]] = {
    "users": (1, MOST_USERS),
    "items": (2, MOST_ITEMS),
    "interactions": (1, 1 << 48),
    "clusters": (1, 10_000),
    "styles": (1, 10_000),
    "dim": (1, 4096),
    "taste": (0, 50),
    "explore": (0.01, 1),  # without any, a history as long as all that is liked would never end
    "popularity": (0, 5),
    "follow": (0, 0.99),
    "min_history": (1, 1 << 24),
    "history_spread": (0, 4),
    "rating_noise": (0, 10),
    "days": (1, 100_000),
    "vocabulary": (1, MOST_WORDS),
    "seed": (0, 1 << 63),
}


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How a world is written."""

    format: Literal["csv", "parquet"] = "csv"
    """Format of all tables."""
    files: int = 1
    """Number of files that the interactions are cut into; equal numbers of rows in each."""
    order: Literal["user", "shuffled"] = "user"
    """user: by user, then by item, as MovieLens; shuffled: neighbouring rows have nothing in common, as Amazon."""
    keys: Literal["numbers", "text"] = "numbers"
    """numbers: from 1 upwards; text: 13 letters and digits for users, 10 for items."""
    repeats: float = 0.0
    """Share of the rows that come a second time, up to twelve days later and maybe above the first in the file."""

    def __post_init__(self) -> None:
        choices = {"format": ("csv", "parquet"), "order": ("user", "shuffled"), "keys": ("numbers", "text")}
        for option, known in choices.items():
            if getattr(self, option) not in known:
                raise SettingsError(f"--{option} is one of {', '.join(known)}; got {getattr(self, option)!r}")
        if not 1 <= self.files <= 100_000:
            raise SettingsError(f"--files lies between 1 and 100,000; got {self.files:,}")
        if not 0 <= self.repeats <= 1:
            raise SettingsError(f"--repeats lies between 0 and 1; got {self.repeats:g}")
