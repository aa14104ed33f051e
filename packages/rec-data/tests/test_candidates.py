"""Frozen candidate lists: drawn as a plain loop would, the same however they are worked on, and honest when short."""

import json
from bisect import bisect_right
from itertools import accumulate, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.candidates import read_candidates
from rec_core.dataset import read_dataset, write_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.evaluation import evaluate
from rec_core.evaluation.groups import observed
from rec_core.testing import planted_clusters
from rec_core.testing.scorers import ScoreTable
from rec_core.testing.strategies import splits as any_split
from rec_core.types import Interactions, Split
from rec_data import candidates as module
from rec_data.candidates import draw_candidates, draw_negatives
from rec_data.evaluation_config import CandidateSettings
from rec_data.streams import hashed, stream_key

MASK = 2**64 - 1


def splitmix(state: int, place: int) -> float:
    """Number ``place`` of the published generator, in plain integers."""
    z = (state + (place + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def drawn_by_a_loop(state: int, weights: list[int], n: int, forbidden: set[int]) -> list[int]:
    """One item after the other; repeats and forbidden ones are thrown away."""
    running, found, place = list(accumulate(weights)), [], 0
    wanted = min(n, sum(w > 0 for item, w in enumerate(weights) if item not in forbidden))
    while len(found) < wanted:
        item = bisect_right(running, int(splitmix(state, place) * running[-1]))
        place += 1
        if item not in forbidden and item not in found:
            found.append(item)
    return found


def negatives(states, weights, n, known=()):
    weights = np.array(weights, np.int64)
    taken = np.zeros((len(states), len(weights)), np.bool_)
    drawn = draw_negatives(np.asarray(states, np.uint64), weights, n, taken, np.array(known, np.int64))
    assert not taken.any()  # handed back as it came
    return drawn


def test_the_generator_is_splitmix64():
    # the sequence of seed 1234567 that implementations of the algorithm are checked with
    assert int(splitmix(1234567, 0) * 2**53) == 6457827717110365317 >> 11
    assert int(splitmix(1234567, 1) * 2**53) == 3203168211198807973 >> 11


@given(
    weights=st.lists(st.integers(1, 5), min_size=4, max_size=12),
    n=st.integers(1, 3),
    forbidden=st.sets(st.integers(0, 3), max_size=1),
    state=st.integers(0, MASK),
)
def test_negatives_are_drawn_as_a_loop_would(weights, n, forbidden, state):
    (row,) = negatives([state], weights, n, sorted(forbidden))
    assert row.tolist() == drawn_by_a_loop(state, weights, n, forbidden)


@given(split=any_split(in_order=True), n=st.integers(1, 9), method=st.sampled_from(["uniform", "popularity"]))
def test_a_list_holds_its_targets_and_different_items_that_the_user_has_not_seen(split, n, method):
    settings = CandidateSettings(method=method, negatives=n, short_lists="keep")
    held_out = split.held_out("test")
    lists = draw_candidates(split, settings)
    assert len(lists) == len(held_out)
    trained = set(observed(split.train).items.tolist())
    for row in range(len(held_out)):
        listed, targets = lists.row(row).tolist(), set(held_out.row(row).tolist())
        seen = set(held_out.histories.row(row).tolist())
        others = set(listed) - targets
        assert listed == sorted(set(listed))
        assert targets <= set(listed)
        assert not others & seen
        free = set(range(split.n_items)) if method == "uniform" else trained
        assert others <= free
        assert len(others) == min(n, len(free - seen - targets))


def test_lists_do_not_depend_on_other_rows_nor_on_blocks(monkeypatch):
    split = planted_clusters(300, 60, n_clusters=3, events=(5, 12)).split
    held_out = split.held_out("test")
    for method in ("uniform", "popularity"):
        settings = CandidateSettings(method=method, negatives=20)
        whole = draw_candidates(split, settings)
        for rows in (1, 7, 299):
            monkeypatch.setattr(module, "_MOST_ROWS", rows)
            assert draw_candidates(split, settings).digest() == whole.digest()
        some = np.array([250, 3, 77])
        assert draw_candidates(split, settings, held_out.take(some)).digest() == whole.take(some).digest()


def test_seed_method_and_part_each_give_other_lists():
    split = planted_clusters(40, 80, n_clusters=2).split
    base = CandidateSettings(negatives=10)
    others = [
        CandidateSettings(negatives=10, seed=2),
        CandidateSettings(negatives=10, method="popularity"),
        CandidateSettings(negatives=10, part="valid"),
    ]
    digests = {draw_candidates(split, settings).digest() for settings in (base, *others)}
    assert len(digests) == 4
    assert draw_candidates(split, base).digest() in digests


@pytest.mark.parametrize("draws", [module._DRAWS, 1, 0])  # by rejection, by both, by the race alone
def test_popular_items_come_in_as_successive_drawing_says(monkeypatch, draws):
    monkeypatch.setattr(module, "_DRAWS", draws)
    weights, rows, n = [6, 3, 2, 1, 5], 40_000, 2
    # item 4 is seen; P(pair in that order) = w_a / 12 * w_b / (12 - w_a) over the other four
    want = np.zeros(4)
    for a, b in permutations(range(4), n):
        chance = weights[a] / 12 * weights[b] / (12 - weights[a])
        want[[a, b]] += chance
    known = np.arange(rows) * 5 + 4
    drawn = negatives(hashed(np.uint64(7), np.arange(rows)), weights, n, known)
    found = np.bincount(drawn.ravel(), minlength=5)[:4] / rows
    assert abs(found - want).max() < 5 * 0.5 / rows**0.5
    first = np.bincount(drawn[:, 0], minlength=5)[:4] / rows
    assert abs(first - np.array([6, 3, 2, 1]) / 12).max() < 5 * 0.5 / rows**0.5


def test_uniform_draws_are_uniform():
    rows, items = 30_000, 12
    drawn = negatives(hashed(stream_key(3, "test"), np.arange(rows)), [1] * items, 4)
    counts = np.bincount(drawn.ravel(), minlength=items)  # each item in 4 of 12 rows: 10,000, standard deviation 82
    assert abs(counts - 10_000).max() < 5 * 82
    together = sum((drawn == item).any(axis=1) & (drawn == item + 1).any(axis=1) for item in (0, 5)).sum() / 2
    assert abs(together - rows * (4 * 3) / (12 * 11)) < 5 * 53  # pairs too: 2,727, standard deviation 50


def tiny(n_items: int) -> Split:
    """User 0 sees 0 and 1, then 2 as target; user 1 sees 0, 1, 2, 3, then 4."""
    users = [0] * 4 + [1] * 6
    items = [0, 1, 1, 2, 0, 1, 2, 3, 3, 4]
    part = np.array([0, 0, 1, 2, 0, 0, 0, 0, 1, 2], np.uint8)
    return Split(Interactions.sorted(users, items, n_items=n_items), part, "leave_one_out")


def test_users_who_have_seen_nearly_everything_are_an_error_unless_short_lists_are_wanted(caplog):
    split = tiny(6)
    with pytest.raises(DataError) as error:
        draw_candidates(split, CandidateSettings(negatives=3))
    # user 1 knows 0 to 3 and meets 4: item 5 is left; user 0 has 3, 4 and 5
    assert "1 held-out row has fewer than 3 other items to draw: user id 1 has 1" in str(error.value)
    assert "ask for at most --negatives 1, or let such lists be shorter with --short-lists keep" in str(error.value)
    lists = draw_candidates(split, CandidateSettings(negatives=3, short_lists="keep"))
    assert [lists.row(row).tolist() for row in range(2)] == [[2, 3, 4, 5], [4, 5]]
    assert "these lists are shorter" in caplog.text


def test_items_without_training_events_are_never_drawn_by_popularity_of_training():
    split = tiny(9)  # in training: items 0 to 3; in all events also 4
    lists = draw_candidates(split, CandidateSettings(method="popularity", negatives=9, short_lists="keep"))
    assert [lists.row(row).tolist() for row in range(2)] == [[2, 3], [4]]
    of_all = CandidateSettings(method="popularity", popularity_from="all", negatives=9, short_lists="keep")
    assert [draw_candidates(split, of_all).row(row).tolist() for row in range(2)] == [[2, 3, 4], [4]]


def test_test_events_move_no_list_drawn_by_popularity_of_training():
    split = planted_clusters(100, 60).split
    events = split.interactions
    other = events.items.copy()
    other[split.part == 2] = 59  # as test popularity would have it, one item is everything
    changed = Split(
        Interactions(events.users, other, events.n_users, 60, events.timestamps), split.part, split.protocol
    )
    settings = CandidateSettings(method="popularity", negatives=5)
    before, after = draw_candidates(split, settings), draw_candidates(changed, settings)
    held_out, moved = split.held_out("test"), changed.held_out("test")
    for row in range(100):
        targets = {*held_out.row(row).tolist(), *moved.row(row).tolist()}
        one, two = (set(lists.row(row).tolist()) - targets for lists in (before, after))
        assert len(one ^ two) <= 2  # but for the target itself, which takes a place or leaves one


@pytest.mark.parametrize("wish", [{"negatives": 0}, {"seed": -1}])
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(SettingsError):
        CandidateSettings(**wish)


# the command


def test_the_command_writes_lists_that_every_model_can_be_measured_on(rec_data, tmp_path):
    dataset = planted_clusters(60, 40)
    write_dataset(tmp_path / "ds", dataset)
    words = ["--method", "popularity", "--negatives", 10, "--seed", 3]
    said = rec_data("candidates", tmp_path / "ds", tmp_path / "lists", *words)
    assert said.code == 0, said.err
    assert "60 lists of 11 candidates, drawn by popularity for the test part" in said.out
    artifact = open_artifact(tmp_path / "lists", "candidates")
    assert artifact.manifest["seed"] == 3
    assert artifact.manifest["counts"] == {"rows": 60, "candidates": 660, "shortest": 11, "longest": 11}
    assert artifact.manifest["inputs"][0]["hash"] == open_artifact(tmp_path / "ds").hash

    split = read_dataset(tmp_path / "ds").split
    held_out = split.held_out("test")
    lists = read_candidates(artifact, held_out, n_items=split.n_items)
    popular = ScoreTable(np.tile(split.train.item_counts(), (split.n_users, 1)))
    result = evaluate(popular, held_out, train=split.train, candidates=lists)
    assert "ndcg@10[11 candidates]" in result.summary()
    assert result.candidate_hash == artifact.manifest["candidate_hash"]

    again = rec_data("candidates", tmp_path / "ds", tmp_path / "lists", *words)
    assert again.code == 2
    assert "exists already; choose another output or pass --overwrite" in again.err
    assert rec_data("candidates", tmp_path / "ds", tmp_path / "lists", *words, "--overwrite").code == 0
    assert open_artifact(tmp_path / "lists").hash == artifact.hash


def test_a_mistake_is_one_message(rec_data, tmp_path):
    write_dataset(tmp_path / "ds", planted_clusters(20, 40))
    said = rec_data("candidates", tmp_path / "ds", tmp_path / "lists")
    assert said.code == 2
    assert said.err.startswith("error: 20 held-out rows have fewer than 100 other items to draw")
    assert not (tmp_path / "lists").exists()
    said = rec_data("candidates", tmp_path / "nowhere", tmp_path / "lists")
    assert (said.code, said.err) == (2, f"error: there is nothing at {tmp_path / 'nowhere'}\n")
    assert rec_data("candidates", tmp_path / "ds", tmp_path / "lists", "--method", "popular").code == 2


def test_short_lists_are_counted_in_the_manifest_and_in_the_answer(rec_data, tmp_path):
    write_dataset(tmp_path / "ds", planted_clusters(20, 40))
    said = rec_data("candidates", tmp_path / "ds", tmp_path / "lists", "--short-lists", "keep")
    assert said.code == 0
    manifest = json.loads((tmp_path / "lists" / "manifest.json").read_text())
    assert manifest["short_lists"] == 20
    shortest, longest = (manifest["counts"][name] for name in ("shortest", "longest"))
    assert f"20 lists of {shortest} to {longest} candidates" in said.out
