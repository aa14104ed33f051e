"""Run directories of any method: load the recommender, evaluate it, compare it, look at it.

A run is an artifact of kind ``recommender`` whose manifest names an entry point of the group ``rec.recommenders``; the
package that offers it need not be known here. Evaluation writes side files into the run: ``metrics.json`` (flat, name
-> number), ``per_user.parquet`` (user, metric, value) and ``evaluation.json`` (what was asked, with hashes).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rec_core.artifacts import Artifact, open_artifact, to_json, write_together
from rec_core.dataset import read_dataset
from rec_core.errors import ArtifactError, SettingsError, nearest
from rec_core.protocols import Recommender

if TYPE_CHECKING:
    from rec_core.evaluation import Comparison, Evaluation

KIND = "recommender"
GROUP = "rec.recommenders"
MEMBER = "member:"  # rows of per_user.parquet that say who belongs to a group (1 or 0)


def load_recommender(run: Path | str | Artifact) -> Recommender:
    """The recommender in a run directory, through the package that wrote it.

    Raises :class:`ArtifactError` when the directory is not a whole run or no installed package can read it.
    """
    artifact = run if isinstance(run, Artifact) else open_artifact(run, KIND)
    name = str(artifact.manifest.get("recommender"))
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ArtifactError(
            f"{artifact.path} holds a {name!r} that no installed package can load{nearest(name, found)}"
        )
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
    dataset = artifact.open_input("dataset", data, kind="dataset")
    split = read_dataset(dataset).split
    recommender = load_recommender(artifact)
    started = time.perf_counter()
    result = evaluate(recommender, split.held_out(part), train=split.train, ks=tuple(ks), max_users=max_users)
    seconds = time.perf_counter() - started
    write_evaluation(artifact.path, result, part=part, seconds=seconds, split=split.protocol, dataset=dataset.hash)
    return result


def write_evaluation(path: Path, result: Evaluation, *, part: str, seconds: float, **about: Any) -> None:
    """Write ``metrics.json``, ``per_user.parquet`` and ``evaluation.json`` beside a run's payload."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    member = {f"{MEMBER}{name}": rows.astype(np.float64) for name, rows in result.groups.items()}
    vectors = {**result.per_user, **result.in_group, **member}
    which = np.repeat(np.arange(len(vectors), dtype=np.int32), len(result.users))
    table = pa.table(
        {
            "user": np.tile(result.users, len(vectors)),
            "metric": pa.DictionaryArray.from_arrays(which, pa.array(list(vectors), pa.string())),
            "value": np.concatenate([np.empty(0), *vectors.values()]),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    asked = {
        "part": part,
        "test_hash": result.test_hash,
        "candidate_hash": result.candidate_hash,
        "protocol": result.protocol,
        "ties": result.ties,
        "users": len(result.users),
        "overall": result.overall,
        "skipped": result.skipped,
        "seconds": round(seconds, 3),
        "per_user": sha256(buffer.getvalue()).hexdigest(),
        **about,
    }
    files = {
        f"per_user{_suffix(part)}.parquet": buffer.getvalue(),
        f"evaluation{_suffix(part)}.json": to_json(asked).encode(),
        f"metrics{_suffix(part)}.json": to_json(result.summary()).encode(),
    }
    write_together(path, files)


def read_evaluation(run: Path | str, part: Literal["valid", "test"] = "test") -> Evaluation:
    """The evaluation that :func:`evaluate_run` wrote into a run.

    Raises :class:`ArtifactError`, which says how to make it, when it is not there or damaged.
    """
    import pyarrow.parquet as pq

    from rec_core.evaluation import Evaluation

    run = Path(run)
    again = f"run: rec-core evaluate {run}" + ("" if part == "test" else f" --part {part}")
    try:
        asked = json.loads((run / f"evaluation{_suffix(part)}.json").read_text(encoding="utf-8"))
        stored = (run / f"per_user{_suffix(part)}.parquet").read_bytes()
        if sha256(stored).hexdigest() != asked["per_user"]:
            raise ValueError("per_user.parquet was changed after it was written, or belongs to another evaluation")
        table = pq.read_table(io.BytesIO(stored))
        metric = table["metric"].combine_chunks()
        values, names = table["value"].to_numpy(), metric.dictionary.to_pylist()
        vectors = {name: values[i * asked["users"] : (i + 1) * asked["users"]] for i, name in enumerate(names)}
        if len(values) != len(names) * asked["users"]:
            raise ValueError(f"{len(values)} values for {len(names)} metrics of {asked['users']} users")
        groups = {n.removeprefix(MEMBER): v > 0 for n, v in vectors.items() if n.startswith(MEMBER)}
        inside = {n: v for n, v in vectors.items() if "/" in n and not n.startswith(MEMBER)}
        return Evaluation(
            users=table["user"].to_numpy()[: asked["users"]],
            per_user={n: v for n, v in vectors.items() if "/" not in n},
            groups=groups,
            test_hash=asked["test_hash"],
            candidate_hash=asked["candidate_hash"],
            protocol=asked["protocol"],
            ties=asked["ties"],
            in_group=inside,
            overall=asked["overall"],
            skipped=asked["skipped"],
        )
    except FileNotFoundError as error:
        if not run.exists():
            raise ArtifactError(f"there is nothing at {run}") from error
        raise ArtifactError(f"{run} was not evaluated on {part} yet; {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:  # pyarrow's are OSError and ValueError
        raise ArtifactError(f"the evaluation in {run} is damaged ({error}); {again}") from error


def compare_runs(
    baseline: Path | str,
    runs: Sequence[Path | str],
    *,
    metric: str | Sequence[str] = "ndcg@10",
    part: Literal["valid", "test"] = "test",
    draws: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Every run against the baseline, user by user, from what :func:`evaluate_run` wrote into them."""
    from rec_core.evaluation import compare

    if draws < 1 or seed < 0:
        raise SettingsError(f"draws must be at least 1 and a seed at least 0; got {draws} and {seed}")
    named = {str(run): read_evaluation(run, part) for run in (baseline, *runs)}
    if len(named) <= len(runs):
        raise SettingsError("a run was named twice; comparing it with itself says nothing")
    return compare(named, str(baseline), metric, draws=draws, seed=seed)
