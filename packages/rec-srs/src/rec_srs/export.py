"""A trained run as vectors: item embeddings, and user vectors, whose dot product is the score.

Models of sequences and of pairs score by a dot product already. A closed form is written as one: EASE and ItemKNN
score a history by x·S with x its 0/1 item vector, so item j has column j of S and a user has x; Popular has its counts,
one wide, and every user has 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import Artifact, Input, check_output, open_artifact
from rec_core.dataset import read_dataset
from rec_core.embeddings import write_embeddings
from rec_core.errors import ArtifactError, SettingsError
from rec_core.protocols import Recommender, VectorScorer
from rec_core.runs import KIND, load_recommender
from rec_core.types import Histories, ItemEmbeddings
from rec_core.types.ids import Float32, Int64
from rec_srs.recommend import Until, histories_until

UserVectors = Callable[[Histories], Float32]


def export_run(
    run: Path | str,
    output: Path | str,
    *,
    users: bool = False,
    until: Until = "test",
    data: Path | str | None = None,
    memory_limit_gib: float = 4.0,
    overwrite: bool = False,
) -> Artifact:
    """Write the item vectors of a run as item embeddings at ``output``; score = user vector · item vector.

    ``vectors.npy`` is float32 [n_items, dim]; its provenance names recommender, run, data set and settings. With
    ``users`` there are ``user_ids.npy`` int64 [rows] and ``user_vectors.npy`` float32 [rows, dim] beside it, for every
    user of the data set with an event before ``until``: the default, "test", reads train and valid, which is what a
    test is answered from; "valid" reads train alone and "end" everything. A model of pairs answers a user it was
    trained on by that user's own vector, whatever the history.

    Raises :class:`SettingsError` for a run that does not score by vectors, and for a closed form whose dense vectors
    would need more than ``memory_limit_gib``; :class:`ArtifactError` for a run or a data set that is gone or changed.
    """
    if not memory_limit_gib > 0:
        raise SettingsError(f"memory-limit-gib must be above 0; got {memory_limit_gib:g}")
    artifact = open_artifact(run, KIND)
    check_output(output, overwrite=overwrite, made_from=[artifact.path])
    recommender = load_recommender(artifact)
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {"score": "user vector . item vector"}
    if not users:
        item_vectors, _ = vectors_of(recommender, 0, memory_limit_gib)
        made_from = _recorded_input(artifact, "dataset")
    else:
        dataset = artifact.open_input("dataset", data, kind="dataset")
        made_from = dataset.as_input("dataset")
        histories = histories_until(read_dataset(dataset), until)
        rows: Int64 = np.flatnonzero(histories.lengths > 0)
        about |= {"until": until, "users": len(rows), "users_without_history": len(histories) - len(rows)}
        item_vectors, user_vectors = vectors_of(recommender, len(rows), memory_limit_gib)
        arrays = {"user_ids": histories.users[rows], "user_vectors": user_vectors(histories.take(rows))}
    provenance = {
        "recommender": artifact.manifest["recommender"],
        "run": artifact.hash,
        "dataset": made_from.hash,
        "settings": dict(artifact.settings),
    }
    return write_embeddings(
        output,
        ItemEmbeddings(item_vectors, provenance),
        inputs=[made_from, artifact.as_input("run")],
        settings={"users": users, "until": until if users else None},
        seed=artifact.manifest["seed"],
        about=about,
        arrays=arrays,
        overwrite=overwrite,
    )


def vectors_of(recommender: Recommender, n_rows: int, memory_limit_gib: float = 4.0) -> tuple[Float32, UserVectors]:
    """Item vectors float32 [n_items, dim], and the function that gives rows of histories their vectors [rows, dim].

    ``n_rows`` is how many user vectors there will be: with the items' they must stay below ``memory_limit_gib`` where
    they are as wide as the catalogue.
    """
    from rec_srs.ease import EASE
    from rec_srs.item_knn import ItemKNN, binary_matrix
    from rec_srs.popular import Popular

    if isinstance(recommender, VectorScorer):
        return np.asarray(recommender.item_vectors(), np.float32), recommender.user_vectors
    if isinstance(recommender, Popular):
        counts = np.asarray(recommender.counts[:, None], np.float32)
        return counts, lambda histories: np.ones((len(histories), 1), np.float32)
    if not isinstance(recommender, EASE | ItemKNN):
        raise SettingsError(
            f"{type(recommender).__name__} does not score by a dot product of vectors, so there are none to export"
        )
    n = recommender.n_items
    needed = 4 * n * (n + n_rows) / 2**30
    if needed > memory_limit_gib:
        way_out = ", or leave out --users" if n_rows and 4 * n * n / 2**30 <= memory_limit_gib else ""
        raise SettingsError(
            f"vectors of {type(recommender).__name__} are as wide as the catalogue: {n:,} items"
            + (f" and {n_rows:,} users" if n_rows else "")
            + f" x {n:,} need {needed:.3g} GiB, more than the limit of {memory_limit_gib:g} GiB; raise "
            f"--memory-limit-gib{way_out}, or export a model of sequences or pairs"
        )
    square = recommender.weights if isinstance(recommender, EASE) else recommender.similarity.toarray()
    return np.ascontiguousarray(square.T, np.float32), lambda histories: binary_matrix(histories, n).toarray()


def _recorded_input(artifact: Artifact, role: str) -> Input:
    """An input as the manifest records it, whether it still lies there or not."""
    for entry in artifact.manifest["inputs"]:
        if entry["role"] == role:
            return Input(role, artifact.path.resolve() / entry["path"], entry["hash"])
    raise ArtifactError(f"{artifact.path} ({artifact.kind}) records no input with the role {role!r}")
