"""What is known about items and users besides who met what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError, UnknownKeys, nearest
from rec_core.types.ids import Float32, IdMap, Int32, Int64, array_digest, check_column

Fields = Mapping[str, Sequence[str | None]]


def _checked_fields(fields: Fields, n: int, what: str) -> dict[str, tuple[str | None, ...]]:
    checked = {}
    for name, values in fields.items():
        if len(values) != n:
            raise DataError(f"{what} field {name!r} has {len(values)} values for {n} rows")
        wrong = next((v for v in values if v is not None and not isinstance(v, str)), None)
        if wrong is not None:
            raise DataError(f"{what} field {name!r} holds {wrong!r}; values are text, or None where missing")
        checked[name] = tuple(values)
    return checked


def _fields_digest(ids: IdMap, fields: Fields, extra: object = None) -> str:
    h = sha256(f"{ids.digest()};{json.dumps(extra)};".encode())
    for name in sorted(fields):
        h.update(json.dumps([name, list(fields[name])], ensure_ascii=False).encode())
    return h.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class ItemCatalog:
    """All items: those with interactions first (ids 0..n_interacted-1), then cold ones with text alone.

    ids            raw key <-> dense id, one entry per item
    fields         field name -> one text per item (None where missing), in id order
    n_interacted   how many items are left after filtering; ranking covers these unless cold items are asked for

    Raises :class:`DataError` when a field has another length or a value is not text.
    """

    ids: IdMap
    fields: Fields = field(default_factory=dict)
    n_interacted: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", _checked_fields(self.fields, len(self.ids), "item"))
        if self.n_interacted == -1:
            object.__setattr__(self, "n_interacted", len(self.ids))
        if not 0 <= self.n_interacted <= len(self.ids):
            raise DataError(
                f"n_interacted is {self.n_interacted}, wanted 0..{len(self.ids)} (the items of the catalog)"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def title(self, item: int) -> str:
        """The title of an item, or its raw key in brackets where it has none; :class:`DataError` for -1 (no item)."""
        if not 0 <= item < len(self.ids):
            raise DataError(f"item id {item} is outside 0..{len(self.ids) - 1}")
        titles = self.fields.get("title")
        return (titles[item] if titles is not None else None) or f"[{self.ids.keys[item]}]"

    def find(self, name: str) -> int:
        """The item meant by a raw key or an exact title (a raw key wins).

        Raises :class:`UnknownKeys` when nothing fits (naming the nearest title) and when a title is ambiguous
        (listing the raw keys that carry it).
        """
        if name in self.ids:
            return self.ids.id(name)
        titles = self.fields.get("title", ())
        found = [i for i, title in enumerate(titles) if title == name]
        if len(found) == 1:
            return found[0]
        if found:
            keys = ", ".join(repr(self.ids.keys[i]) for i in found)
            raise UnknownKeys(f"the title {name!r} belongs to {len(found)} items; name one by its raw key: {keys}")
        known = [title for title in titles if title] or list(self.ids.keys)
        begun = [other for other in known if name and other.casefold().startswith(name.casefold())]
        hint = f"; did you mean {begun[0]!r}?" if len(begun) == 1 else nearest(name, begun or known[:100_000])
        raise UnknownKeys(f"no item has the raw key or exact title {name!r}{hint}")

    def digest(self) -> str:
        """SHA-256 of keys, fields and n_interacted."""
        return _fields_digest(self.ids, self.fields, self.n_interacted)


@dataclass(frozen=True, slots=True, eq=False)
class UserCatalog:
    """All users: raw keys and, where the source has them, profile fields as text (age, gender, occupation, ...).

    Raises :class:`DataError` when a field has another length or a value is not text.
    """

    ids: IdMap
    fields: Fields = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", _checked_fields(self.fields, len(self.ids), "user"))

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """SHA-256 of keys and fields."""
        return _fields_digest(self.ids, self.fields)


@dataclass(frozen=True, slots=True, eq=False)
class Reviews:
    """What users wrote about items, one row per review.

    users       int64 [n]     dense user ids
    items       int32 [n]     dense item ids
    texts       n strings
    timestamps  int64 [n]     seconds since 1970, optional: a prompt may use only reviews older than its target
    ratings     float32 [n]   optional
    summaries   n strings or None: the headline of each review; optional
    """

    users: Int64
    items: Int32
    texts: tuple[str, ...]
    timestamps: Int64 | None = None
    ratings: Float32 | None = None
    summaries: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.texts)
        object.__setattr__(self, "texts", tuple(self.texts))
        if self.summaries is not None:
            object.__setattr__(self, "summaries", tuple(self.summaries))
            if len(self.summaries) != n:
                raise DataError(f"reviews: {len(self.summaries)} summaries for {n} texts")
        columns: list[tuple[str, npt.NDArray[np.generic] | None, type[np.generic]]] = [
            ("users", self.users, np.int64),
            ("items", self.items, np.int32),
            ("timestamps", self.timestamps, np.int64),
            ("ratings", self.ratings, np.float32),
        ]
        for name, column, dtype in columns:
            check_column(column, n, dtype, f"reviews: {name}")
        if n and (self.users.min() < 0 or self.items.min() < 0):
            raise DataError("reviews: user and item ids are dense and 0-based; a negative one was found")

    def __len__(self) -> int:
        return len(self.texts)

    def digest(self) -> str:
        """SHA-256 of all columns."""
        h = sha256(array_digest(self.users, self.items, self.timestamps, self.ratings).encode())
        for texts in (self.texts, self.summaries):
            h.update(sha256(json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest())
        return h.hexdigest()
