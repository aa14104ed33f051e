"""The prepared data set on disk: what every method reads.

``items.npy`` int32 and ``offsets.npy`` int64 hold all histories in CSR form (memory-mapped when read);
``timestamps.npy`` int64, ``ratings.npy`` float32 and ``generated.npy`` bool where the source has them. The split is
``boundaries.npy`` int64 [n_users, 2] (where valid and where test begin in each user's row) when every user's parts
follow each other in time, else one byte per event in ``part.npy``. ``users.parquet`` and ``items.parquet`` hold raw
keys and text fields, ``reviews.parquet`` the review texts where the data set has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.artifacts import Artifact, Input, create, open_artifact
from rec_core.errors import ArtifactError
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Reviews, Split, UserCatalog
from rec_core.types.ids import Int64

KIND = "dataset"
_CHUNK = 1 << 22


def write_dataset(
    path: Path | str,
    dataset: Dataset,
    *,
    settings: Any = None,
    inputs: Iterable[Input] = (),
    counts: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Write a prepared data set; the manifest gets ``counts`` (users, items, interactions, dropped: {reason: n})."""
    events = dataset.split.interactions
    with (
        ThreadPoolExecutor(1) as thread,
        create(path, KIND, settings=settings, inputs=inputs, overwrite=overwrite) as out,
    ):
        hashing = thread.submit(dataset.split.hashes)  # as long as writing the arrays
        offsets = events.offsets
        out.array("items", events.items)
        out.array("offsets", offsets)
        for name in ("timestamps", "ratings", "generated"):
            column = getattr(events, name)
            if column is not None:
                out.array(name, column)
        boundaries = part_boundaries(dataset.split, offsets)
        if boundaries is None:
            out.array("part", dataset.split.part)
        else:
            out.array("boundaries", boundaries)
        out.table(
            "users", {"key": list(dataset.users.ids.keys), **{f"field:{k}": v for k, v in dataset.users.fields.items()}}
        )
        out.table(
            "items", {"key": list(dataset.items.ids.keys), **{f"field:{k}": v for k, v in dataset.items.fields.items()}}
        )
        if dataset.reviews is not None:
            out.table("reviews", _review_columns(dataset.reviews))
        hashes = hashing.result()
        out.describe(
            name=dataset.name,
            protocol=dataset.split.protocol,
            n_interacted=dataset.items.n_interacted,
            counts={
                "users": len(dataset.users),
                "items": dataset.items.n_interacted,
                "interactions": len(events),
                "cold_items": len(dataset.items) - dataset.items.n_interacted,
                **{part: int((dataset.split.part == i).sum()) for i, part in enumerate(("train", "valid", "test"))},
                **(counts or {}),
            },
            content={"dataset": dataset.digest(hashes), **hashes},
            **(about or {}),
        )
    return open_artifact(path, KIND, verify=False)


def read_dataset(path: Path | str | Artifact) -> Dataset:
    """Read a prepared data set; the arrays stay memory-mapped. Raises :class:`ArtifactError` when it is not whole."""
    artifact = path if isinstance(path, Artifact) else open_artifact(path, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"{artifact.path} is a {artifact.kind!r} artifact, wanted {KIND!r}")
    offsets = artifact.array("offsets", mmap=False)
    optional = {
        n: artifact.array(n) if artifact.has(f"{n}.npy") else None for n in ("timestamps", "ratings", "generated")
    }
    users, items = artifact.table("users"), artifact.table("items")
    n_interacted = int(artifact.manifest["n_interacted"])
    events = Interactions(
        users=np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets)),
        items=artifact.array("items"),
        n_users=len(offsets) - 1,
        n_items=n_interacted,
        **optional,
    )
    if artifact.has("boundaries.npy"):
        part = _part_of(artifact.array("boundaries", mmap=False), offsets)
    else:
        part = artifact.array("part", mmap=False)
    return Dataset(
        name=str(artifact.manifest["name"]),
        users=UserCatalog(IdMap(tuple(users["key"]), "user"), _fields(users)),
        items=ItemCatalog(IdMap(tuple(items["key"]), "item"), _fields(items), n_interacted),
        split=Split(events, part, str(artifact.manifest["protocol"])),
        reviews=_reviews(artifact.table("reviews")) if artifact.has("reviews.parquet") else None,
    )


def _review_columns(reviews: Reviews) -> dict[str, Any]:
    optional = {"timestamps": reviews.timestamps, "ratings": reviews.ratings, "summaries": reviews.summaries}
    columns = {"users": reviews.users, "items": reviews.items, "texts": list(reviews.texts)}
    return columns | {k: list(v) if isinstance(v, tuple) else v for k, v in optional.items() if v is not None}


def _reviews(table: Mapping[str, list[Any]]) -> Reviews:
    return Reviews(
        users=np.asarray(table["users"], np.int64),
        items=np.asarray(table["items"], np.int32),
        texts=tuple(table["texts"]),
        timestamps=np.asarray(table["timestamps"], np.int64) if "timestamps" in table else None,
        ratings=np.asarray(table["ratings"], np.float32) if "ratings" in table else None,
        summaries=tuple(table["summaries"]) if "summaries" in table else None,
    )


def part_boundaries(split: Split, offsets: Int64) -> Int64 | None:
    """int64 [n_users, 2], the row positions where valid and test begin; None when a user's parts are not in order."""
    part, n = split.part, len(split.part)
    lengths = np.diff(offsets)
    begins = np.zeros(n, np.bool_)
    begins[offsets[:-1][lengths > 0]] = True
    for start in range(0, max(n - 1, 1), _CHUNK):
        rows = slice(start, min(start + _CHUNK + 1, n))
        if ((part[rows][1:] < part[rows][:-1]) & ~begins[rows][1:]).any():
            return None
    columns = []
    for code in (1, 2):
        before = np.zeros(split.n_users, np.int64)
        if n:
            before[lengths > 0] = np.add.reduceat(part < code, offsets[:-1][lengths > 0], dtype=np.int64)
        columns.append(before)
    return offsets[:-1, None] + np.stack(columns, axis=1)


def _part_of(boundaries: Int64, offsets: Int64) -> npt.NDArray[np.uint8]:
    runs = np.diff(np.column_stack([offsets[:-1], boundaries, offsets[1:]]), axis=1)  # events in train, valid, test
    outside = np.flatnonzero((runs < 0).any(axis=1))
    if len(outside):
        raise ArtifactError(f"the boundaries of user {outside[0]} lie outside its row")
    return np.repeat(np.tile(np.arange(3, dtype=np.uint8), len(runs)), runs.ravel())


def _fields(table: Mapping[str, list[Any]]) -> dict[str, list[str | None]]:
    return {name.removeprefix("field:"): column for name, column in table.items() if name.startswith("field:")}
