"""Several runs against one baseline, user by user on the same test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rec_core.errors import DataError, SettingsError, nearest
from rec_core.evaluation.evaluate import Evaluation
from rec_core.evaluation.significance import holm, minimum_detectable_effect, paired_bootstrap, permutation_test
from rec_core.types.ids import Float64


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run against the baseline in one metric.

    difference  mean of run minus baseline over the ``users`` where both are defined; ``low`` and ``high`` its interval
    p           paired permutation test over users; ``p_holm`` corrected over all rows of the call
    mde         smallest true difference this test would find (power 0.8); a smaller one would usually go unseen
    """

    run: str
    baseline: str
    metric: str
    mean: float
    baseline_mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    mde: float
    users: int


def compare(
    runs: Mapping[str, Evaluation | Float64],
    baseline: str,
    metric: str | Sequence[str],
    *,
    level: float = 0.95,
    power: float = 0.8,
    draws: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Every run but the baseline in every metric, in the order given: metric by metric, run by run.

    ``runs``: evaluations, or bare per-user vectors (float64, aligned, then ``metric`` is only a label). P-values are
    corrected (Holm) over all rows returned: what is looked at together is corrected together.

    Raises :class:`DataError` when test sets, candidate lists or evaluated users differ: such numbers look comparable
    and are not. Training data may differ, that is often the point.
    """
    if baseline not in runs:
        raise SettingsError(f"no run called {baseline!r}{nearest(baseline, runs)}")
    _check_same_test(runs, baseline)
    labels = [metric] if isinstance(metric, str) else list(metric)
    rows: list[Comparison] = []
    for label in labels:
        against = _vector(runs[baseline], label)
        for name in runs:
            if name == baseline:
                continue
            values = _vector(runs[name], label)
            both = np.isfinite(values) & np.isfinite(against)
            if not both.any():
                raise DataError(f"{label} is defined for no user of both {name!r} and {baseline!r}")
            differences = values[both] - against[both]
            interval = paired_bootstrap(differences, seed=seed, level=level, draws=draws)
            p = permutation_test(differences, seed=seed, draws=draws)
            row = Comparison(
                run=name,
                baseline=baseline,
                metric=label,
                mean=float(values[both].mean()),
                baseline_mean=float(against[both].mean()),
                difference=interval.mean,
                low=interval.low,
                high=interval.high,
                p=p,
                p_holm=p,
                mde=minimum_detectable_effect(differences, power=power, level=1 - level),
                users=int(both.sum()),
            )
            rows.append(row)
    return [replace(row, p_holm=float(p)) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]


def _vector(run: Evaluation | Float64, metric: str) -> Float64:
    return run.vector(metric) if isinstance(run, Evaluation) else np.asarray(run, np.float64)


def _check_same_test(runs: Mapping[str, Evaluation | Float64], baseline: str) -> None:
    base = runs[baseline]
    for name, run in runs.items():
        if isinstance(run, Evaluation) != isinstance(base, Evaluation):
            raise DataError(f"{name!r} and {baseline!r}: compare evaluations with evaluations, or vectors with vectors")
        if not isinstance(run, Evaluation) or not isinstance(base, Evaluation):
            if len(run) != len(base):
                raise DataError(f"{name!r} has values of {len(run)} users, {baseline!r} of {len(base)}")
            continue
        if run.test_hash != base.test_hash:
            raise DataError(
                f"{name!r} was measured on another test set than {baseline!r} "
                f"(test hash {run.test_hash[:8]}, {base.test_hash[:8]}); evaluate both on the same prepared data"
            )
        if run.candidate_hash != base.candidate_hash:
            shown = [e.candidate_hash[:8] if e.candidate_hash else "full ranking" for e in (run, base)]
            raise DataError(f"{name!r} ranked other candidates than {baseline!r} ({shown[0]}, {shown[1]})")
        if run.protocol != base.protocol:
            shown = [e.protocol or "seen excluded" for e in (run, base)]
            raise DataError(f"{name!r} and {baseline!r} ranked under two protocols ({shown[0]}, {shown[1]})")
        if not np.array_equal(run.users, base.users):
            raise DataError(
                f"{name!r} was measured on {len(run)} users, {baseline!r} on {len(base)} others of the same test set; "
                f"evaluate both with the same --max-users and seed"
            )
