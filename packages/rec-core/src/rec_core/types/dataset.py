"""A prepared data set: who, what, and which part is for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from rec_core.errors import DataError
from rec_core.types.catalog import ItemCatalog, Reviews, UserCatalog
from rec_core.types.ids import check_ids
from rec_core.types.split import Split


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Users, items and a split over one pair of id universes.

    name     short name for tables and plots
    reviews  what users wrote, where the source has it and it was asked for

    The catalog may hold cold items after the interacted ones. Raises :class:`DataError` when sizes disagree.
    """

    name: str
    users: UserCatalog
    items: ItemCatalog
    split: Split
    reviews: Reviews | None = None

    def __post_init__(self) -> None:
        if len(self.users) != self.split.n_users:
            raise DataError(f"{len(self.users)} users in the catalog, {self.split.n_users} in the split")
        if self.items.n_interacted != self.split.n_items:
            raise DataError(
                f"{self.items.n_interacted} interacted items in the catalog, {self.split.n_items} in the split"
            )
        if self.reviews is not None:
            check_ids(self.reviews.users, len(self.users), "reviews: user id")
            check_ids(self.reviews.items, len(self.items), "reviews: item id")

    def digest(self, split_hashes: Mapping[str, str] | None = None) -> str:
        """SHA-256 of content: keys, fields, events and parts; equal however the files were laid out.

        ``split_hashes``: those of ``split.hashes()``, where they are at hand already.
        """
        hashes = self.split.hashes() if split_hashes is None else split_hashes
        parts = [self.users.digest(), self.items.digest(), self.split.protocol, *hashes.values()]
        if self.reviews is not None:
            parts.append(self.reviews.digest())
        return sha256("\n".join(parts).encode()).hexdigest()
