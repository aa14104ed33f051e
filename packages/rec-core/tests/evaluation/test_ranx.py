"""A second reading of the metrics by another library. Slow: ranx compiles for tens of seconds."""

import numpy as np
import pytest

from rec_core.evaluation import Hits, ranks
from rec_core.evaluation.metrics import AT_K, Ranks
from rec_core.evaluation.ranking import n_competitors
from rec_core.testing.scorers import ScoreTable
from rec_core.types import HeldOut, Histories

RANX = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr", "recall": "recall", "precision": "precision", "map": "map"}


@pytest.mark.slow
def test_our_metrics_equal_those_of_ranx_on_random_rankings():
    from ranx import Qrels, Run, evaluate  # here: a missing ranx must fail this test, not skip it

    rng = np.random.default_rng(0)
    n_rows, n_items, depth = 400, 80, 30
    lists = np.array([rng.permutation(n_items)[:depth] for _ in range(n_rows)])
    relevant = [set(rng.choice(n_items, rng.integers(1, 40), replace=False).tolist()) for _ in range(n_rows)]
    qrels = Qrels({f"u{r:03}": {f"i{item}": 1 for item in wanted} for r, wanted in enumerate(relevant)})
    run = Run({f"u{r:03}": {f"i{item}": float(-p) for p, item in enumerate(row)} for r, row in enumerate(lists)})
    hits = Hits.of(lists, relevant)
    for k in (1, 5, 10, 30):
        names = {ours: f"{theirs}@{k}" for ours, theirs in RANX.items()}
        evaluate(qrels, run, list(names.values()))
        for ours, theirs in names.items():
            by_user = run.scores[theirs]
            expected = np.array([by_user[f"u{r:03}"] for r in range(n_rows)])
            np.testing.assert_allclose(AT_K[ours](hits, k), expected, rtol=0, atol=1e-9, err_msg=f"{ours}@{k}")


@pytest.mark.slow
def test_metrics_from_exact_ranks_equal_those_of_ranx_on_whole_rankings_without_ties():
    from ranx import Qrels, Run, evaluate

    rng = np.random.default_rng(1)
    n_rows, n_items = 300, 60
    scores = np.array([rng.permutation(n_items) for _ in range(n_rows)], np.float32)
    targets = rng.integers(n_items, size=n_rows, dtype=np.int32)
    held_out = HeldOut(Histories.of([[]] * n_rows, range(n_rows)), np.arange(n_rows + 1), targets)
    better, tied = ranks(ScoreTable(scores), held_out)
    at = Ranks(better, tied, n_competitors(held_out, n_items))
    assert not tied.any()
    qrels = Qrels({f"u{r:03}": {f"i{item}": 1} for r, item in enumerate(targets)})
    run = Run({f"u{r:03}": {f"i{i}": float(score) for i, score in enumerate(row)} for r, row in enumerate(scores)})
    for k in (1, 5, 10, 60):
        names = {ours: f"{theirs}@{k}" for ours, theirs in RANX.items()}
        evaluate(qrels, run, list(names.values()))
        for ours, theirs in names.items():
            expected = np.array([run.scores[theirs][f"u{r:03}"] for r in range(n_rows)])
            np.testing.assert_allclose(AT_K[ours](at, k), expected, rtol=0, atol=1e-9, err_msg=f"{ours}@{k}")
