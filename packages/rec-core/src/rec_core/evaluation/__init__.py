"""How good the answers are: exact ranks in bounded memory, metrics per user, groups, significance, comparison."""

from rec_core.evaluation.blocks import DEFAULT_BUDGET
from rec_core.evaluation.comparison import Comparison, compare
from rec_core.evaluation.derive import recommend_dense, score_dense
from rec_core.evaluation.evaluate import Evaluation, evaluate, evaluate_labels, held_out_digest
from rec_core.evaluation.groups import GroupRules, item_groups, user_groups
from rec_core.evaluation.metrics import Hits, Ranks
from rec_core.evaluation.ranking import n_competitors, ranks, ranks_and_top_k, seen_items, top_k
from rec_core.evaluation.significance import (
    Interval,
    holm,
    minimum_detectable_effect,
    paired_bootstrap,
    permutation_test,
)

__all__ = [
    "DEFAULT_BUDGET",
    "Comparison",
    "Evaluation",
    "GroupRules",
    "Hits",
    "Interval",
    "Ranks",
    "compare",
    "evaluate",
    "evaluate_labels",
    "held_out_digest",
    "holm",
    "item_groups",
    "minimum_detectable_effect",
    "n_competitors",
    "paired_bootstrap",
    "permutation_test",
    "ranks",
    "ranks_and_top_k",
    "recommend_dense",
    "score_dense",
    "seen_items",
    "top_k",
    "user_groups",
]
