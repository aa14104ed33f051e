"""What validation measures: the whole catalogue ranked for the users of the valid part, seen items excluded."""

from __future__ import annotations

from typing import Any

from rec_core.errors import SettingsError, nearest
from rec_core.types import HeldOut, Interactions


def check_metric(metric: str) -> None:
    """:class:`SettingsError` for a metric that a ranking does not give: before hours of training, not after an epoch.

    >>> check_metric("ndgc@10")
    Traceback (most recent call last):
    rec_core.errors.SettingsError: ranking gives no metric 'ndgc@10'; did you mean 'ndcg'?
    """
    from rec_core.evaluation.evaluate import ALL_METRICS

    name = metric.partition("@")[0]
    if name not in ALL_METRICS:
        raise SettingsError(f"ranking gives no metric {metric!r}{nearest(name, ALL_METRICS)}")


def validate(recommender: Any, held_out: HeldOut, train: Interactions, metric: str) -> dict[str, float]:
    """``metric``, hr and ndcg by name, over all rows of ``held_out``; {} where there is none."""
    from rec_core.evaluation import evaluate

    if not len(held_out):
        return {}
    name, _, k = metric.partition("@")
    found = evaluate(
        recommender, held_out, train=train, ks=(int(k or 10),), metrics=tuple({name, "hr", "ndcg"})
    ).summary()
    return {name: value for name, value in found.items() if "/" not in name and name != "users"}
