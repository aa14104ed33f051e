"""Samples of click prediction on disk.

``events.npy`` int64 (positions in the interactions of the data set), ``labels.npy`` bool and ``part.npy`` uint8, one
entry per sample. The manifest names the data set and the hashes of its events: samples are refused with any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import Artifact, create, open_artifact
from rec_core.errors import ArtifactError
from rec_core.types import Samples
from rec_core.types.split import PARTS

KIND = "samples"


def write_samples(
    path: Path | str,
    samples: Samples,
    dataset: Artifact,
    *,
    settings: Any = None,
    seed: int | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Write samples of a prepared data set; the manifest gets their counts."""
    with create(
        path, KIND, settings=settings, seed=seed, inputs=[dataset.as_input("dataset")], overwrite=overwrite
    ) as out:
        out.array("events", samples.events)
        out.array("labels", samples.labels)
        out.array("part", samples.part)
        out.describe(
            counts={
                "samples": len(samples),
                "liked": int(np.count_nonzero(samples.labels)),
                **{part: int(np.count_nonzero(samples.part == code)) for code, part in enumerate(PARTS)},
            },
            sample_hash=samples.digest(),
            events=_events_of(dataset),
            **(about or {}),
        )
    return open_artifact(path, KIND, verify=False)


def read_samples(path: Path | str | Artifact, dataset: Artifact | None = None) -> Samples:
    """Read samples; the arrays stay memory-mapped.

    With ``dataset``, the data set they are to be used with, samples of other events or parts are refused
    (:class:`ArtifactError`); its texts may have changed.
    """
    artifact = path if isinstance(path, Artifact) else open_artifact(path, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"{artifact.path} is a {artifact.kind!r} artifact, wanted {KIND!r}")
    if dataset is not None and artifact.manifest["events"] != _events_of(dataset):
        raise ArtifactError(
            f"{artifact.path} points into other events or another split than {dataset.path} holds; make samples of "
            f"this data set: rec-data samples {dataset.path} OUTPUT"
        )
    return Samples(artifact.array("events"), artifact.array("labels"), artifact.array("part"))


def _events_of(dataset: Artifact) -> dict[str, str]:
    """What positions of events rest on: the hash of each part."""
    return {part: str(dataset.manifest["content"][part]) for part in PARTS}
