"""Run directories of any method: load the recommender, evaluate it, compare it, look at it.

A run is an artifact of kind ``recommender`` whose manifest names an entry point of the group ``rec.recommenders``; the
package that offers it need not be known here. Evaluation writes side files into the run: ``metrics.json`` (flat, name
-> number), ``per_user.parquet`` (user, metric, value) and ``evaluation.json`` (what was asked, with hashes). Those of
the validation part are called ``metrics-valid.json`` and so on, those on frozen candidate lists
``metrics-candidates-1f0c2a9b.json`` with the first digits of the lists' hash: each kind of number has files of its own.
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

from rec_core.artifacts import MANIFEST, Artifact, open_artifact, to_json, write_together
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


def _suffix(part: str, candidate_hash: str | None) -> str:
    of_lists = "" if candidate_hash is None else f"-candidates-{candidate_hash[:8]}"
    return ("" if part == "test" else f"-{part}") + of_lists


def evaluate_run(
    run: Path | str,
    *,
    data: Path | str | None = None,
    part: Literal["valid", "test"] = "test",
    max_users: int | None = None,
    ks: Sequence[int] = (5, 10, 20),
    candidates: Path | str | None = None,
) -> Evaluation:
    """Evaluate a run on its data set and write the result into it.

    ``data`` names the data set when it moved; another data set than the one trained on is refused by its hash.
    ``candidates``: a directory of frozen candidate lists (:mod:`rec_core.candidates`), ranked instead of the whole
    catalogue; lists for other held-out rows are refused.
    """
    from rec_core.candidates import read_candidates
    from rec_core.evaluation import evaluate

    artifact = open_artifact(run, KIND)
    dataset = artifact.open_input("dataset", data, kind="dataset")
    split = read_dataset(dataset).split
    held_out = split.held_out(part)
    about: dict[str, Any] = {"split": split.protocol, "dataset": dataset.hash}
    lists = None
    if candidates is not None:
        frozen = open_artifact(candidates, "candidates")
        lists = read_candidates(frozen, held_out, n_items=split.n_items, part=part)
        about["candidates"] = {name: frozen.manifest[name] for name in ("hash", "method", "seed")}
    recommender = load_recommender(artifact)
    started = time.perf_counter()
    result = evaluate(recommender, held_out, train=split.train, ks=tuple(ks), max_users=max_users, candidates=lists)
    write_evaluation(artifact.path, result, part=part, seconds=time.perf_counter() - started, **about)
    return result


def write_evaluation(path: Path, result: Evaluation, *, part: str, seconds: float, **about: Any) -> None:
    """Write ``metrics.json``, ``per_user.parquet`` and ``evaluation.json`` beside a run's payload.

    The names carry the part and the candidates where it was not the test part and the full catalogue.
    """
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
    suffix = _suffix(part, result.candidate_hash)
    files = {
        f"per_user{suffix}.parquet": buffer.getvalue(),
        f"evaluation{suffix}.json": to_json(asked).encode(),
        f"metrics{suffix}.json": to_json(result.summary()).encode(),
    }
    write_together(path, files)


def read_evaluation(
    run: Path | str, part: Literal["valid", "test"] = "test", *, candidates: Path | str | None = None
) -> Evaluation:
    """The evaluation that :func:`evaluate_run` wrote into a run; ``candidates``: the one on these frozen lists.

    Raises :class:`ArtifactError`, which says how to make it, when it is not there or damaged.
    """
    import pyarrow.parquet as pq

    from rec_core.evaluation import Evaluation

    run = Path(run)
    lists = None if candidates is None else open_artifact(candidates, "candidates", verify=False)
    suffix = _suffix(part, None if lists is None else str(lists.manifest["candidate_hash"]))
    options = ("" if part == "test" else f" --part {part}") + (f" --candidates {candidates}" if candidates else "")
    again = f"run: rec-core evaluate {run}{options}"
    try:
        asked = json.loads((run / f"evaluation{suffix}.json").read_text(encoding="utf-8"))
        stored = (run / f"per_user{suffix}.parquet").read_bytes()
        if sha256(stored).hexdigest() != asked["per_user"]:
            raise ValueError("per_user.parquet was changed after it was written, or belongs to another evaluation")
        table = pq.read_table(io.BytesIO(stored), use_threads=False, pre_buffer=False)  # why: see Artifact.table
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
        if (run / MANIFEST).exists():
            open_artifact(run, KIND, verify=False)  # a data set or vectors are nothing to evaluate
        among = "" if candidates is None else f" among {candidates}"
        raise ArtifactError(f"{run} was not evaluated on {part}{among} yet; {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:  # pyarrow's are OSError and ValueError
        raise ArtifactError(f"the evaluation in {run} is damaged ({error}); {again}") from error


def compare_runs(
    baseline: Path | str,
    runs: Sequence[Path | str],
    *,
    metric: str | Sequence[str] = "ndcg@10",
    part: Literal["valid", "test"] = "test",
    candidates: Path | str | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Every run against the baseline, user by user, from what :func:`evaluate_run` wrote into them.

    ``candidates``: compare the evaluations on these frozen lists. A metric may then be named without its bracket:
    ``ndcg@10`` means ``ndcg@10[101 candidates]``, and the rows say so.
    """
    from rec_core.evaluation import compare

    if draws < 1 or seed < 0:
        raise SettingsError(f"draws must be at least 1 and a seed at least 0; got {draws} and {seed}")
    named = {str(run): read_evaluation(run, part, candidates=candidates) for run in (baseline, *runs)}
    if len(named) <= len(runs):
        raise SettingsError("a run was named twice; comparing it with itself says nothing")
    if candidates is not None:
        protocol = named[str(baseline)].protocol
        metric = [_in_protocol(one, protocol) for one in ([metric] if isinstance(metric, str) else metric)]
    return compare(named, str(baseline), metric, draws=draws, seed=seed)


def _in_protocol(metric: str, protocol: str) -> str:
    """``ndcg@10/tail`` as ``ndcg@10[101 candidates]/tail``."""
    name, slash, group = metric.partition("/")
    return metric if "[" in metric else f"{name}[{protocol}]{slash}{group}"
