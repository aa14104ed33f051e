"""Frozen candidate lists on disk: the items each held-out row is ranked among, drawn once and the same for every model.

``offsets.npy`` int64 and ``items.npy`` int32 hold one list per held-out row (CSR), ``users.npy`` int64 whose row it is,
``labels.npy`` bool where the lists carry labels. The manifest names the method, the seed, the part, the data set, and
the hash of the held-out rows (``test_hash``), so that lists that were drawn for other rows are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import Artifact, create, open_artifact
from rec_core.errors import ArtifactError, DataError
from rec_core.evaluation import held_out_digest
from rec_core.types import Candidates, HeldOut, Part

KIND = "candidates"


def write_candidates(
    path: Path | str,
    candidates: Candidates,
    held_out: HeldOut,
    *,
    n_items: int,
    part: Part,
    method: str,
    seed: int | None = None,
    dataset: Artifact | None = None,
    settings: Any = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Write the lists of ``held_out``, row by row; ``n_items`` is the size of the universe they were drawn from.

    ``method`` says in a word how they were drawn, ``dataset`` from what. Raises :class:`DataError` when the lists are
    not one per row or name an item outside the universe.
    """
    if len(candidates) != len(held_out):
        raise DataError(f"{len(candidates)} candidate lists for {len(held_out)} held-out rows")
    if candidates.items.max(initial=-1) >= n_items:
        raise DataError(f"candidate item {candidates.items.max()} is outside the {n_items} items")
    inputs = () if dataset is None else (dataset.as_input("dataset"),)
    with create(path, KIND, settings=settings, seed=seed, inputs=inputs, overwrite=overwrite) as out:
        out.array("offsets", candidates.offsets)
        out.array("items", candidates.items)
        out.array("users", held_out.histories.users)
        if candidates.labels is not None:
            out.array("labels", candidates.labels)
        out.describe(
            method=method,
            part=part,
            n_items=n_items,
            test_hash=held_out_digest(held_out, n_items),
            candidate_hash=candidates.digest(),
            counts={
                "rows": len(candidates),
                "candidates": len(candidates.items),
                "shortest": int(candidates.lengths.min()) if len(candidates) else 0,
                "longest": int(candidates.lengths.max(initial=0)),
            },
            **(about or {}),
        )
    return open_artifact(path, KIND, verify=False)


def read_candidates(
    path: Path | str | Artifact, held_out: HeldOut, *, n_items: int, part: Part | None = None
) -> Candidates:
    """The lists of exactly these held-out rows over a universe of ``n_items``; the arrays stay memory-mapped.

    Raises :class:`ArtifactError` for lists of another ``part`` (where one is named), another universe or other rows.
    The histories of the rows may differ: the lists of a data set also fit the same data set with augmented training.
    """
    artifact = path if isinstance(path, Artifact) else open_artifact(path, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"{artifact.path} is a {artifact.kind!r} artifact, wanted {KIND!r}")
    drawn, again = artifact.manifest, "draw lists for this data set: rec-data candidates"
    if part is not None and drawn["part"] != part:
        raise ArtifactError(f"{artifact.path} holds lists for the {drawn['part']} part, wanted {part}; {again}")
    if drawn["n_items"] != n_items:
        raise ArtifactError(f"{artifact.path} was drawn from {drawn['n_items']:,} items, here are {n_items:,}; {again}")
    wanted = held_out_digest(held_out, n_items)
    if drawn["test_hash"] != wanted:
        raise ArtifactError(
            f"{artifact.path} holds lists for other held-out rows (hash {drawn['test_hash'][:12]}, here "
            f"{wanted[:12]}): another data set or split; {again}"
        )
    offsets = artifact.array("offsets", mmap=False)
    labels = artifact.array("labels") if artifact.has("labels.npy") else None
    if len(offsets) != len(held_out) + 1 or not np.array_equal(artifact.array("users"), held_out.histories.users):
        raise ArtifactError(f"{artifact.path} is inconsistent: its rows are not those its manifest names; {again}")
    return Candidates(offsets, artifact.array("items"), labels)
