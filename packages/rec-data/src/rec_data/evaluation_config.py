"""The settings of `candidates` and `samples`: what a prepared dataset asks of models besides the full catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from rec_core.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class CandidateSettings:
    """How the list of each held-out row is drawn."""

    method: Literal["uniform", "popularity"] = "uniform"
    """Chance of an item: the same for all, or in proportion to its events."""
    negatives: int = 100
    """Different items per row beside the targets."""
    part: Literal["valid", "test"] = "test"
    """Whose held-out rows."""
    popularity_from: Literal["train", "all"] = "train"
    """Events that popularity counts: those of training, or all, as the code of some papers does."""
    short_lists: Literal["error", "keep"] = "error"
    """What to do about users for whom fewer items are left: stop, or keep what there is, counted."""
    seed: int = 1
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise SettingsError(f"--negatives is at least 1; got {self.negatives}")
        if self.popularity_from != "train" and self.method != "popularity":
            raise SettingsError(f"--popularity-from {self.popularity_from} goes with --method popularity alone")
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Which events are samples of click prediction, and when one counts as liked."""

    label_above: float | None = None
    """Liked means rated above this: 3 for MovieLens (3.5 is liked), 4 for the whole numbers of Book-Crossing."""
    label_at_least: float | None = None
    """Liked means rated at least this; one of the two has to be named."""
    min_history: int = 5
    """Events a user must have before one counts as a sample."""
    history_only: float | None = None
    """Rating whose events are history and no sample: 0 of Book-Crossing says that a book was met, not how it was."""
    targets: Literal["all", "last"] = "all"
    """Every such event is a sample, or only the last of each user."""
    parts: Literal["split", "users"] = "split"
    """Parts of the samples: those of the dataset's split, or drawn user by user (all samples of a user in one part)."""
    valid_share: float = 0.0
    """Share of the users that --parts users puts into validation; none by default."""
    test_share: float = 0.1
    """Share of the users (of those with a sample) that --parts users puts into the test."""
    few_shot: int | None = None
    """Keep so many training samples, the first of a drawn order: a smaller set is the beginning of a larger one."""
    valid_samples: int | None = None
    """Keep so many validation samples, drawn in the same way."""
    test_samples: int | None = None
    """Keep so many test samples, drawn in the same way."""
    seed: int = 42
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        if self.label_above is not None and self.label_at_least is not None:
            raise SettingsError("--label-above and --label-at-least are two ways to say one thing; name one of them")
        if self.min_history < 0:
            raise SettingsError(f"--min-history is at least 0; got {self.min_history}")
        for option in ("few_shot", "valid_samples", "test_samples"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise SettingsError(f"--{option.replace('_', '-')} is at least 1; got {value}")
        if not (self.valid_share >= 0 and self.test_share > 0 and self.valid_share + self.test_share < 1):
            raise SettingsError(
                f"--valid-share is at least 0 and --test-share above it, and both leave users to train on; "
                f"got {self.valid_share:g} and {self.test_share:g}"
            )
        if self.parts == "split" and (self.valid_share, self.test_share) != (0.0, 0.1):
            raise SettingsError("--valid-share and --test-share go with --parts users; the split has its own parts")
        for option in ("label_above", "label_at_least"):
            value = getattr(self, option)
            if value is not None and not isfinite(value):
                raise SettingsError(f"--{option.replace('_', '-')} is an ordinary number; got {value}")
        _check_seed(self.seed, 2**32)  # of NumPy's oldest generator, see rec_data.samples


def _check_seed(seed: int, end: int | None = None) -> None:
    if seed < 0 or (end is not None and seed >= end):
        raise SettingsError(f"--seed is a whole number from 0{f' to {end - 1}' if end else ''}; got {seed}")
