"""A prepared data set: who, what, and which part is for what."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from rec_core.errors import DataError
from rec_core.types.catalog import ItemCatalog, UserCatalog
from rec_core.types.split import Split


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Users, items and a split over one pair of id universes.

    name   short name for tables and plots

    The catalog may hold cold items after the interacted ones. Raises :class:`DataError` when sizes disagree.
    """

    name: str
    users: UserCatalog
    items: ItemCatalog
    split: Split

    def __post_init__(self) -> None:
        if len(self.users) != self.split.n_users:
            raise DataError(f"{len(self.users)} users in the catalog, {self.split.n_users} in the split")
        if self.items.n_interacted != self.split.n_items:
            raise DataError(
                f"{self.items.n_interacted} interacted items in the catalog, {self.split.n_items} in the split"
            )

    def digest(self) -> str:
        """SHA-256 of content: keys, fields, events and parts; equal however the files were laid out."""
        parts = [self.users.digest(), self.items.digest(), self.split.protocol, *self.split.hashes().values()]
        return sha256("\n".join(parts).encode()).hexdigest()
