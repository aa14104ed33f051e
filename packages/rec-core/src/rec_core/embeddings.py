"""Item embeddings on disk: one float32 vector per dense item id, with what made them.

``vectors.npy`` is float32 [n_items, dim], readable as a memory map. The manifest names the width, the number of items,
the provenance (model, settings, pooling, ...) and the data set whose ids the rows follow, so that vectors of another
catalogue are refused where they would be joined by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rec_core.artifacts import Artifact, Input, create, open_artifact
from rec_core.errors import ArtifactError
from rec_core.types import ItemEmbeddings

KIND = "embeddings"


def write_embeddings(
    path: Path | str,
    embeddings: ItemEmbeddings,
    *,
    inputs: Iterable[Input] = (),
    settings: Any = None,
    seed: int | None = None,
    about: Mapping[str, Any] | None = None,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Write the vectors at ``path``; ``inputs`` are what they were made from (the data set, the run).

    ``arrays`` go beside them, one ``.npy`` each (the user vectors of an export).
    """
    with create(path, KIND, settings=settings, seed=seed, inputs=inputs, overwrite=overwrite) as out:
        out.array("vectors", embeddings.vectors)
        for name, array in (arrays or {}).items():
            out.array(name, array)
        out.describe(
            n_items=len(embeddings),
            dim=embeddings.dim,
            provenance=dict(embeddings.provenance),
            vectors_hash=embeddings.digest(),
            **(about or {}),
        )
    return open_artifact(path, KIND, verify=False)


def read_embeddings(path: Path | str | Artifact, *, dataset: str | None = None) -> ItemEmbeddings:
    """The vectors, memory-mapped, with their provenance.

    ``dataset`` is the hash of the data set whose ids the caller means; :class:`ArtifactError` when the vectors were
    made from another one. Vectors that name no data set are taken as they are. :class:`DataError` for NaN or infinity.
    """
    artifact = path if isinstance(path, Artifact) else open_artifact(path, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"{artifact.path} is a {artifact.kind!r} artifact, wanted {KIND!r}")
    theirs = next((i["hash"] for i in artifact.manifest["inputs"] if i["role"] == "dataset"), None)
    if dataset is not None and theirs is not None and theirs != dataset:
        raise ArtifactError(
            f"{artifact.path} holds vectors of another data set (hash {theirs[:12]}, here {dataset[:12]}): its rows "
            f"are other items; make them anew for this data set"
        )
    return ItemEmbeddings(artifact.array("vectors"), artifact.manifest["provenance"])
