"""Run directories of any method: load the recommender, evaluate it, compare it, look at it.

A run is an artifact of kind ``recommender`` whose manifest names an entry point of the group ``rec.recommenders``; the
package that offers it need not be known here. Evaluation writes side files into the run: ``metrics.json`` (flat, name ->
number), ``per_user.parquet`` (user, metric, value) and ``evaluation.json`` (what was asked, with hashes).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rec_core.artifacts import Artifact, open_artifact, to_json, write_atomically
from rec_core.dataset import read_dataset
from rec_core.errors import ArtifactError, nearest
from rec_core.protocols import Recommender

if TYPE_CHECKING:
    from rec_core.evaluation import Comparison, Evaluation

KIND = "recommender"
GROUP = "rec.recommenders"


def load_recommender(run: Path | str | Artifact) -> Recommender:
    """The recommender in a run directory, through the package that wrote it.

    Raises :class:`ArtifactError` when the directory is not a whole run or no installed package can read it.
    """
    artifact = run if isinstance(run, Artifact) else open_artifact(run, KIND)
    name = str(artifact.manifest.get("recommender"))
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ArtifactError(f"{artifact.path} holds a {name!r} that no installed package can load{nearest(name, found)}")
    loaded: Recommender = found[name].load()(artifact)
    return loaded


def _suffix(part: str) -> str:
    return "" if part == "test" else f"-{part}"


def evaluate_run(
    run: Path | str,
    *,
    data: Path | str | None = None,
    part: Literal["valid", "test"] = "test",
    max_users: int | None = None,
    ks: Sequence[int] = (5, 10, 20),
) -> Evaluation:
    """Evaluate a run on its data set and write the result into it.

    ``data`` names the data set when it moved; another data set than the one trained on is refused by its hash.
    Results on the validation part lie in ``metrics-valid.json`` and so on.
    """
    from rec_core.evaluation import evaluate

    artifact = open_artifact(run, KIND)
    dataset = open_artifact_input(artifact, data)
    split = read_dataset(dataset).split
    recommender = load_recommender(artifact)
    started = time.perf_counter()
    result = evaluate(recommender, split.held_out(part), train=split.train, ks=tuple(ks), max_users=max_users)
    seconds = time.perf_counter() - started
    write_evaluation(artifact.path, result, part=part, seconds=seconds, protocol=split.protocol, dataset=dataset.hash)
    return result


def open_artifact_input(artifact: Artifact, data: Path | str | None) -> Artifact:
    """The data set a run was trained on."""
    return artifact.open_input("dataset", data, kind="dataset")


def write_evaluation(path: Path, result: Evaluation, *, part: str, seconds: float, **about: Any) -> None:
    """Write ``metrics.json``, ``per_user.parquet`` and ``evaluation.json`` beside a run's payload."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(result.per_user)
    table = pa.table(
        {
            "user": np.tile(result.users, len(names)),
            "metric": pa.array(np.repeat(np.arange(len(names), dtype=np.int32), len(result.users))).cast(pa.int32()),
            "value": np.concatenate([result.per_user[name] for name in names]) if names else np.empty(0),
        }
    )
    metric = pa.DictionaryArray.from_arrays(table["metric"].combine_chunks(), pa.array(names, pa.string()))
    buffer = io.BytesIO()
    pq.write_table(table.set_column(1, "metric", metric), buffer)
    asked = {
        "part": part,
        "test_hash": result.test_hash,
        "candidate_hash": result.candidate_hash,
        "users": len(result.users),
        "skipped": dict(result.skipped),
        "seconds": round(seconds, 3),
        **about,
    }
    write_atomically(path / f"per_user{_suffix(part)}.parquet", buffer.getvalue())
    write_atomically(path / f"evaluation{_suffix(part)}.json", to_json(asked).encode())
    write_atomically(path / f"metrics{_suffix(part)}.json", to_json(result.summary()).encode())
