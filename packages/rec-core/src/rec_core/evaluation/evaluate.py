"""One recommender, one set of held-out targets, one honest table of numbers.

Metric names carry the protocol. ``ndcg@10`` is a full ranking of the catalogue in which the items of the user's history
are left out (never the target). ``ndcg@10[seen kept]`` is a full ranking with them. ``ndcg@10[101 candidates]`` ranks a
fixed list per user and must not be compared with the other two. ``ndcg@10/tail`` is the same number over a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rec_core.errors import DataError, SettingsError, nearest
from rec_core.evaluation import metrics as m
from rec_core.evaluation.blocks import DEFAULT_BUDGET, Scorer, cells_in, check_known
from rec_core.evaluation.derive import score_dense
from rec_core.evaluation.groups import GroupRules, item_groups, observed, user_groups
from rec_core.evaluation.ranking import n_competitors, ranks, ranks_and_top_k, seen_items, top_k
from rec_core.protocols import DenseScorer, Recommender, VectorScorer
from rec_core.randomness import generator
from rec_core.types import Candidates, HeldOut, Histories, Interactions, Rankings, Scores
from rec_core.types.ids import Bool, Float32, Float64, Int64, array_digest

OF_LISTS = ("coverage", "popularity")
ALL_METRICS = (*m.AT_K, "auc", *OF_LISTS)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Every metric of every evaluated row, and what it was measured on.

    users           int64 [rows]              dense user ids
    per_user        name -> float64 [rows]    NaN where a metric is not defined for a row
    groups          name -> bool [rows]       rows with a target in head, tail, cold; rows of short, long users
    in_group        name/group -> float64 [rows]   only where it is not ``per_user`` restricted to the group's rows
    overall         name -> number            metrics without a per-user vector (coverage)
    test_hash       SHA-256 of users, targets and the size of the catalogue, before any sample is drawn
    candidate_hash  SHA-256 of the candidate lists; None = full ranking
    protocol        what stands in brackets after the metric names; "" = full ranking, seen items excluded
    ties            "expected" (exact ranks) or "item id" (lists), see :mod:`rec_core.evaluation.metrics`
    skipped         users left out, by reason
    """

    users: Int64
    per_user: dict[str, Float64]
    groups: dict[str, Bool]
    test_hash: str
    candidate_hash: str | None = None
    protocol: str = ""
    ties: str = "expected"
    in_group: dict[str, Float64] = field(default_factory=dict)
    overall: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def vector(self, name: str) -> Float64:
        """The per-user vector of ``"ndcg@10"`` or ``"ndcg@10/tail"``, float64 [rows]; NaN in rows outside a group.

        An unknown name raises :class:`SettingsError` with the nearest one.
        """
        if name in self.in_group:
            return self.in_group[name]
        metric, _, group = name.rpartition("/") if "/" in name else (name, "", "")
        if metric not in self.per_user:
            raise SettingsError(f"no metric called {metric!r} in this evaluation{nearest(metric, self.per_user)}")
        if not group:
            return self.per_user[metric]
        if group not in self.groups:
            raise SettingsError(f"no group called {group!r} in this evaluation{nearest(group, self.groups)}")
        return np.where(self.groups[group], self.per_user[metric], np.nan)

    def summary(self) -> dict[str, float]:
        """Flat means: metrics, the same per non-empty group, overall metrics, then counts of users.

        ``users`` counts evaluated rows, ``users/tail`` those of a group, ``skipped/no_history`` those left out. A mean
        is over the rows where the metric is defined; where there is none, the name is absent.
        """
        names = [*self.per_user, *(f"{name}/{group}" for group in self.groups for name in self.per_user)]
        means = {name: values[~np.isnan(values)] for name in names for values in [self.vector(name)]}
        flat = {name: float(values.mean()) for name, values in means.items() if len(values)}
        flat |= self.overall
        flat["users"] = len(self)
        flat |= {f"users/{group}": int(rows.sum()) for group, rows in self.groups.items()}
        return flat | {f"skipped/{reason}": n for reason, n in self.skipped.items()}


def evaluate(
    recommender: Recommender | Scorer,
    held_out: HeldOut,
    *,
    train: Interactions,
    ks: Sequence[int] = (5, 10, 20),
    candidates: Candidates | None = None,
    exclude_seen: bool = True,
    max_users: int | None = None,
    seed: int = 0,
    metrics: Sequence[str] = ALL_METRICS,
    groups: GroupRules | None = None,
    budget: int = DEFAULT_BUDGET,
) -> Evaluation:
    """Measure a recommender on held-out targets.

    With one target per row and a dense or vector scorer, metrics come from exact ranks and ties count by expectation;
    else from top-k lists, ties by item id. ``candidates`` (aligned with ``held_out``) ranks only a fixed list per row,
    through ``score``; a target missing from its list is a miss and counted as ``targets_outside_candidates``.

    ``train`` gives the size of the catalogue, popularity and groups (from observed events, see :class:`GroupRules`);
    no label is read from it. A group of items covers the rows with a target in it; with several targets per row the
    relevant items are cut to those of the group while the list stays the same. A group of users covers their rows.

    ``exclude_seen`` leaves out the items of each row's history, except its targets. ``max_users`` evaluates a sample
    that depends on the test set and ``seed`` alone, so that all runs draw the same users. ``metrics``: any of hr ndcg
    mrr recall precision map auc coverage popularity (the last two need lists, which cost a second pass over the scores
    where ranks alone would do). ``budget``: bytes of scratch memory for scoring.

    Raises :class:`SettingsError` for ``ks`` or metrics that do not exist, :class:`DataError` for lists that break the
    contract of ``recommend`` (an excluded item, an item twice, NaN).
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise SettingsError(f"ks are one or more list lengths of at least 1, e.g. (5, 10, 20); got {tuple(ks)}")
    _check_metrics(metrics)
    test_hash = held_out_digest(held_out, train.n_items)
    known = observed(train)
    of_users = user_groups(held_out, known.user_counts(), groups or GroupRules())  # lines drawn before sampling
    candidate_hash = None if candidates is None else candidates.digest()
    if candidates is not None:
        _check_candidates(candidates, held_out, train.n_items)
    if max_users is not None and max_users < len(held_out):
        rows = sample_rows(len(held_out), max_users, test_hash, seed)
        of_users = {name: member[rows] for name, member in of_users.items()}
        candidates = None if candidates is None else candidates.take(rows)
        held_out = held_out.take(rows)
    check_known(recommender, held_out.histories)
    if recommender.n_items != train.n_items:
        raise DataError(
            f"{type(recommender).__name__} ranks {recommender.n_items} items, the training data has {train.n_items}; "
            f"was it trained on another data set?"
        )

    counts = known.item_counts()
    of_items = item_groups(counts, groups or GroupRules())
    target_rows = np.repeat(np.arange(len(held_out)), np.diff(held_out.offsets))
    members = {name: _any_target(held_out, target_rows, items) for name, items in of_items.items()} | of_users
    placed = _place(recommender, held_out, train.n_items, max(ks), candidates, exclude_seen, metrics, budget)
    suffix = f"[{placed.protocol}]" if placed.protocol else ""
    wanted = [name for name in m.AT_K if name in metrics]

    per_user = {f"{name}@{k}{suffix}": m.AT_K[name](placed.at, k) for name in wanted for k in ks}
    overall: dict[str, float] = dict(placed.notes)
    in_group: dict[str, Float64] = {}
    auc = placed.auc if "auc" in metrics else None
    if auc is not None:
        per_user[f"auc{suffix}"] = _mean_by_row(auc, target_rows, len(held_out))
    if not held_out.single and placed.lists is not None and isinstance(placed.at, m.Hits):
        for group, items in of_items.items():
            inside = items[held_out.items]
            hits = m.Hits.of(placed.lists, _cut_targets(held_out, target_rows, inside))
            in_group |= {f"{name}@{k}{suffix}/{group}": m.AT_K[name](hits, k) for name in wanted for k in ks}
            if auc is not None:
                of_group = _mean_by_row(auc[inside], target_rows[inside], len(held_out))
                in_group[f"auc{suffix}/{group}"] = of_group
        if "hr" in metrics:
            overall |= {f"hit_ratio_micro@{k}{suffix}": m.hit_ratio_micro(placed.at, k) for k in ks}
    if placed.lists is not None and candidates is None:
        if "popularity" in metrics:
            percentile = m.popularity_percentile(counts)
            per_user |= {f"popularity@{k}{suffix}": m.popularity_bias(placed.lists, percentile, k) for k in ks}
        if "coverage" in metrics:
            overall |= {f"coverage@{k}{suffix}": m.coverage(placed.lists, train.n_items, k) for k in ks}
    return Evaluation(
        users=held_out.histories.users.copy(),
        per_user=per_user,
        groups={name: rows for name, rows in members.items() if rows.any()},
        test_hash=test_hash,
        candidate_hash=candidate_hash,
        protocol=placed.protocol,
        ties="expected" if isinstance(placed.at, m.Ranks) else "item id",
        in_group=in_group,
        overall=overall,
        skipped=dict(held_out.skipped),
    )


def evaluate_labels(
    recommender: Recommender | Scorer,
    histories: Histories,
    candidates: Candidates,
    *,
    probabilities: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> Evaluation:
    """Measure click prediction: candidates with labels, several rows per user allowed.

    Per user: ``auc`` (NaN where all labels are equal), and with ``probabilities`` (the scores are probabilities of the
    label) ``log_loss``. Overall: ``auc_pooled``, over all pairs of all users together, and ``positives``, their share.
    Rows of one user are taken together; rows of users never seen (-1) stay apart.
    """
    if candidates.labels is None:
        raise DataError("evaluate_labels needs candidates with labels; rankings of unlabelled lists: evaluate(...)")
    if len(candidates) != len(histories):
        raise DataError(f"{len(candidates)} rows of candidates for {len(histories)} histories")
    check_known(recommender, histories)
    users = histories.users
    owner = np.where(users >= 0, users, users.max(initial=0) + 1 + np.arange(len(users)))
    names, of_row = np.unique(owner, return_inverse=True)
    of_value = np.repeat(of_row, candidates.lengths)
    order = np.argsort(of_value, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of_value, minlength=len(names)))]).astype(np.int64)
    values = _scores(recommender, histories, candidates, budget).values[order]
    labels = candidates.labels[order]
    per_user = {"auc": m.auc_of_labels(values, labels, offsets)}
    if probabilities:
        per_user["log_loss"] = m.log_loss(values, labels, offsets)
    pooled = m.auc_of_labels(values, labels)
    overall = {"positives": float(labels.mean())} if len(labels) else {}
    if not np.isnan(pooled).any():
        overall["auc_pooled"] = float(pooled[0])
    return Evaluation(
        users=np.where(names <= users.max(initial=0), names, -1),
        per_user=per_user,
        groups={},
        test_hash=array_digest(users, candidates.offsets, candidates.items, candidates.labels),
        candidate_hash=candidates.digest(),
        protocol="labelled",
        overall=overall,
    )


def held_out_digest(held_out: HeldOut, n_items: int) -> str:
    """SHA-256 of what is asked: users, targets and the size of the catalogue.

    Histories are not in it: a run on augmented training data answers the same test.
    """
    sizes = np.array([len(held_out), n_items], np.int64)
    return array_digest(sizes, held_out.histories.users, held_out.offsets, held_out.items)


def sample_rows(n_rows: int, n: int, test_hash: str, seed: int) -> Int64:
    """``n`` of ``n_rows`` rows in rising order, drawn without replacement; the same for every run on one test set."""
    if n < 1:
        raise SettingsError(f"max_users is at least 1; got {n}")
    drawn = generator(seed, "evaluated users", test_hash).choice(n_rows, n, replace=False, shuffle=False)
    return np.sort(drawn).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where the targets stand, however that was found out."""

    at: m.Placed
    protocol: str
    auc: Float64 | None = None  # per target
    lists: Rankings | None = None
    notes: dict[str, float] = field(default_factory=dict)


def _place(
    recommender: Recommender | Scorer,
    held_out: HeldOut,
    n_items: int,
    depth: int,
    candidates: Candidates | None,
    exclude_seen: bool,
    metrics: Sequence[str],
    budget: int,
) -> _Placed:
    if candidates is not None:
        return _place_among(recommender, held_out, n_items, depth, candidates, exclude_seen, budget)
    protocol = "" if exclude_seen else "seen kept"
    if not isinstance(recommender, VectorScorer | DenseScorer):
        hidden = seen_items(held_out) if exclude_seen else None
        lists = top_k(recommender, held_out.histories, depth, exclude=hidden)
        _check_lists(lists, held_out, depth, n_items, hidden, type(recommender).__name__)
        return _Placed(m.Hits.of(lists, held_out), protocol, lists=lists)

    rivals = n_competitors(held_out, n_items, exclude_seen=exclude_seen)
    per_target = np.repeat(rivals, np.diff(held_out.offsets))
    if held_out.single and not set(metrics) & set(OF_LISTS):
        better, tied = ranks(recommender, held_out, exclude_seen=exclude_seen, budget=budget)
        at = m.Ranks(better, tied, rivals)
        return _Placed(at, protocol, m.auc(at))
    if held_out.single or "auc" in metrics:
        better, tied, lists = ranks_and_top_k(recommender, held_out, depth, exclude_seen=exclude_seen, budget=budget)
        ranked = m.Ranks(better, tied, per_target)
        return _Placed(ranked if held_out.single else m.Hits.of(lists, held_out), protocol, m.auc(ranked), lists)
    hidden = seen_items(held_out) if exclude_seen else None
    lists = top_k(recommender, held_out.histories, depth, exclude=hidden, budget=budget)
    return _Placed(m.Hits.of(lists, held_out), protocol, lists=lists)


def _place_among(
    recommender: Recommender | Scorer,
    held_out: HeldOut,
    n_items: int,
    depth: int,
    candidates: Candidates,
    exclude_seen: bool,
    budget: int,
) -> _Placed:
    """Ranks within fixed lists: competitors are the candidates that are neither targets nor (if so) seen."""
    least, most = (int(f(candidates.lengths)) if len(candidates) else 0 for f in (np.min, np.max))
    size = f"{most} candidates" if least == most else f"{least} to {most} candidates"
    protocol = size if exclude_seen else f"{size}, seen kept"
    scores = _scores(recommender, held_out.histories, candidates, budget)
    rows = np.repeat(np.arange(len(candidates)), candidates.lengths)
    keys = rows * n_items + candidates.items
    target_rows = np.repeat(np.arange(len(held_out)), np.diff(held_out.offsets))
    target_keys = target_rows * n_items + held_out.items
    is_target = np.isin(keys, target_keys)
    gone = np.zeros(len(keys), np.bool_)
    if exclude_seen:
        seen = seen_items(held_out)
        gone = np.isin(keys, np.repeat(np.arange(len(seen)), seen.lengths) * n_items + seen.items)
    rivals = np.bincount(rows[~gone & ~is_target], minlength=len(held_out))

    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys, target_keys, sorter=order), max(0, len(keys) - 1))
    listed = keys[order[at]] == target_keys if len(keys) else np.zeros(len(target_keys), np.bool_)
    own_score = np.where(listed, scores.values[order[at]] if len(keys) else 0, -np.inf).astype(np.float32)
    values = np.where(gone | is_target, -np.inf, scores.values).astype(np.float32)
    better, tied = _count_among(values, candidates.offsets, own_score, target_rows, cells_in(budget))
    never = np.isneginf(own_score)
    better[never], tied[never] = n_items, 0

    ranked = m.Ranks(better, tied, rivals[target_rows])
    notes = {"targets_outside_candidates": float((~listed).sum())} if not listed.all() else {}
    if held_out.single:
        return _Placed(ranked, protocol, m.auc(ranked), notes=notes)
    kept = np.where(gone, -np.inf, scores.values).astype(np.float32)
    lists = _lists_of(held_out.histories.users, rows, candidates, kept, depth)
    return _Placed(m.Hits.of(lists, held_out), protocol, m.auc(ranked), lists, notes)


def _count_among(
    values: Float32,
    offsets: Int64,
    own_score: Float32,
    target_rows: Int64,
    cells: int,
) -> tuple[Int64, Int64]:
    """Candidates better than and tied with each target, by all pairs (target, candidate of its row), in blocks."""
    better, tied = np.zeros((2, len(own_score)), np.int64)
    lengths = np.diff(offsets)[target_rows]
    ends = np.cumsum(lengths)
    start = 0
    while start < len(own_score):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + cells, side="right")))
        targets = np.repeat(np.arange(start, stop), lengths[start:stop])
        within = np.arange(len(targets)) - np.repeat(ends[start:stop] - lengths[start:stop] - done, lengths[start:stop])
        rival = values[offsets[target_rows[targets]] + within]
        better += np.bincount(targets[rival > own_score[targets]], minlength=len(better))
        tied += np.bincount(targets[rival == own_score[targets]], minlength=len(tied))
        start = stop
    return better, tied


def _lists_of(users: Int64, rows: Int64, candidates: Candidates, values: Float32, depth: int) -> Rankings:
    """The best ``depth`` candidates of each row, ties by item id; candidates at -inf are left out."""
    order = np.lexsort((candidates.items, -values, rows))
    place = np.arange(len(order)) - candidates.offsets[rows[order]]
    order = order[(place < depth) & (values[order] > -np.inf)]
    place = np.arange(len(order)) - np.searchsorted(rows[order], rows[order])
    items = np.full((len(candidates), depth), -1, np.int64)
    scores = np.full((len(candidates), depth), -np.inf, np.float32)
    items[rows[order], place], scores[rows[order], place] = candidates.items[order], values[order]
    return Rankings(users, items, scores)


def _scores(recommender: Recommender | Scorer, histories: Histories, candidates: Candidates, budget: int) -> Scores:
    if isinstance(recommender, VectorScorer | DenseScorer):
        return score_dense(recommender, histories, candidates, budget=budget)
    scores = recommender.score(histories, candidates)
    if not np.array_equal(scores.offsets, candidates.offsets) or not np.array_equal(scores.items, candidates.items):
        raise DataError(f"score of {type(recommender).__name__} did not answer the candidates it was asked, in order")
    return scores


def _any_target(held_out: HeldOut, target_rows: Int64, items: Bool) -> Bool:
    return np.bincount(target_rows[items[held_out.items]], minlength=len(held_out)) > 0


def _cut_targets(held_out: HeldOut, target_rows: Int64, inside: Bool) -> Candidates:
    lengths = np.bincount(target_rows[inside], minlength=len(held_out))
    return Candidates(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), held_out.items[inside])


def _mean_by_row(values: Float64, rows: Int64, n_rows: int) -> Float64:
    counts = np.bincount(rows, minlength=n_rows)
    total = np.bincount(rows, values, minlength=n_rows)
    return m.ratio(total, counts)


def _check_metrics(metrics: Sequence[str]) -> None:
    for name in metrics:
        if name not in ALL_METRICS:
            raise SettingsError(f"no metric called {name!r}{nearest(name, ALL_METRICS)}")


def _check_candidates(candidates: Candidates, held_out: HeldOut, n_items: int) -> None:
    if candidates.labels is not None:
        raise DataError("candidates with labels are measured by evaluate_labels(...); evaluate(...) takes plain lists")
    if len(candidates) != len(held_out):
        raise DataError(f"{len(candidates)} candidate lists for {len(held_out)} held-out rows")
    if len(candidates.items) and candidates.items.max() >= n_items:
        raise DataError(f"candidate item {candidates.items.max()} is outside the {n_items} items of the training data")
    rows = np.repeat(np.arange(len(candidates)), candidates.lengths)
    ordered = np.sort(rows * n_items + candidates.items)
    if (ordered[1:] == ordered[:-1]).any():
        row, item = divmod(int(ordered[1:][ordered[1:] == ordered[:-1]][0]), n_items)
        raise DataError(f"the candidates of row {row} name item {item} twice; draw them without replacement")


def _check_lists(
    lists: Rankings, held_out: HeldOut, depth: int, n_items: int, hidden: Candidates | None, name: str
) -> None:
    """A list that breaks the contract of ``recommend`` would give good-looking wrong numbers."""
    if lists.items.shape != (len(held_out), depth) or not np.array_equal(lists.users, held_out.histories.users):
        raise DataError(
            f"recommend of {name} must answer {len(held_out)} rows of {depth} items for the users asked, in order; "
            f"got {list(lists.items.shape)}"
        )
    if lists.items.max(initial=-1) >= n_items:
        raise DataError(f"recommend of {name} returned item {lists.items.max()}; there are {n_items} items")
    if hidden is None:
        return
    asked = np.repeat(np.arange(len(hidden)), hidden.lengths) * n_items + hidden.items
    back = np.isin(np.arange(len(lists))[:, None] * n_items + lists.items, asked) & (lists.items >= 0)
    if back.any():
        row, place = (int(i[0]) for i in np.nonzero(back))
        raise DataError(
            f"recommend of {name} returned item {lists.items[row, place]} in row {row}, which it had to exclude"
        )
