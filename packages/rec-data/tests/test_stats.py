"""Figures of a dataset, with the arithmetic in view."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rec_data.stats as stats_module
from rec_core.dataset import read_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Split, UserCatalog
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.prepare import prepare
from rec_data.raw import RawData
from rec_data.rows import RawRows
from rec_data.stats import (
    GAPS,
    dataset_curves,
    dataset_stats,
    gini,
    raw_curves,
    raw_stats,
    stats_of,
    top_share,
)

approx = pytest.approx


def test_gini_is_zero_for_equals_and_nearly_one_for_a_monopoly():
    assert gini(np.array([3, 3, 3])) == approx(0)
    assert gini(np.array([0, 0, 0, 8])) == approx(3 / 4)
    assert gini(np.array([0, 0])) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs_over_twice_the_mean(counts):
    differences = [abs(a - b) for a in counts for b in counts]
    assert gini(np.array(counts)) == approx(np.mean(differences) / (2 * np.mean(counts)))


@pytest.mark.parametrize(("share", "want"), [(0.01, 5 / 12), (0.5, 9 / 12), (1.0, 1.0)])
def test_the_top_share_takes_at_least_one(share, want):
    assert top_share(np.array([1, 5, 2, 4]), share) == approx(want)


def test_the_figures_of_the_made_up_films(raw_files, tmp_path):
    artifact = prepare(raw_files.movielens(), tmp_path / "out", PrepareSettings(k_core=1))
    stats = dataset_stats(read_dataset(artifact))
    assert stats["density"] == approx(10 / (3 * 4))
    lengths = {"min": 3, "q05": 3, "q25": 3, "q50": 3, "q75": 4, "q95": 4, "max": 4, "mean": 10 / 3}
    assert stats["history_length"] == lengths
    assert stats["item_popularity"]["max"] == 3
    assert stats["top_1%"] == approx(3 / 10)
    assert stats["test_targets_not_in_train"] == 3  # 30, 11 and 11: neither has an event in train
    assert stats["first_event"] == "1970-01-01T00:01:30Z"
    assert stats["mean_rating"] == approx((5 + 4 + 3 + 5 + 2 + 4 + 1 + 5 + 5 + 4) / 10)
    assert stats["cold_items"] == 1


def dataset_of(rows, n_users=4, n_items=5, name="random") -> Dataset:
    """A dataset of (user, item, time, rating, part) rows."""
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users, items, times, ratings, part = (list(column) for column in zip(*rows, strict=True))
    events = Interactions.sorted(users, items, timestamps=times, ratings=ratings, n_users=n_users, n_items=n_items)
    users, items = (IdMap(tuple(f"{what}{i}" for i in range(n))) for what, n in (("u", n_users), ("i", n_items)))
    return Dataset(name, UserCatalog(users), ItemCatalog(items), Split(events, np.array(part, np.uint8), "given"))


def slow_curves(rows) -> dict[str, object]:
    """The curves over plain lists, for data that is small enough to show every point."""
    lengths, popularity = Counter(row[0] for row in rows), sorted(Counter(row[1] for row in rows).values())[::-1]
    mine = {u: sorted(t for v, _, t, _, _ in rows if v == u) for u in lengths}
    gaps = [b - a for own in mine.values() for a, b in pairwise(own)]
    bounds = [0, *(bound for bound, _ in GAPS if bound is not None), float("inf")]
    times = [row[2] for row in rows]
    width = max(1, -(-(max(times) - min(times) + 1) // 60))
    edges = list(range(min(times), max(times) + 1, width))
    return {
        "at_least": {n: sum(m >= n for m in lengths.values()) / len(lengths) for n in set(lengths.values())},
        "by_rank": dict(enumerate(popularity, start=1)),
        "concentration": [sum(popularity[:k]) / len(rows) for k in range(len(popularity) + 1)],
        "gaps": [sum(low <= gap < high for gap in gaps) for low, high in pairwise(bounds)],
        "over_time": [
            [sum(p == part and low <= t < low + width for _, _, t, _, p in rows) for low in edges] for part in range(3)
        ],
        "edges": [*edges, edges[-1] + width],
        "ratings": dict(sorted(Counter(float(row[3]) for row in rows).items())),
        "repeated": len(rows) - len({row[:2] for row in rows}),
    }


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 4), st.integers(0, 10**8) | st.just(7), st.integers(1, 5), st.integers(0, 2)
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 7))
def test_every_curve_equals_that_of_the_slow_twin(rows, block):
    data = dataset_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats_module, "_BLOCK", block)
        curves, stats = dataset_curves(data), dataset_stats(data)
    slow = slow_curves(rows)
    history, popularity, shares = curves["history_length"], curves["popularity"], curves["concentration"]
    assert dict(zip(history["at_least"], history["users"], strict=True)) == approx(slow["at_least"])
    assert dict(zip(popularity["rank"], popularity["events"], strict=True)) == slow["by_rank"]
    whole = [1.0] if len(slow["by_rank"]) < 5 else []  # items without an event are at the end
    assert shares["events"] == approx([*slow["concentration"], *whole])
    assert shares["items"][: len(slow["concentration"])] == approx([k / 5 for k in range(len(slow["concentration"]))])
    assert list(curves["gaps"].values()) == slow["gaps"]
    assert [curves["over_time"][part] for part in ("train", "valid", "test")] == slow["over_time"]
    assert curves["over_time"]["edges"] == slow["edges"]
    assert dict(zip(curves["ratings"]["values"], curves["ratings"]["events"], strict=True)) == slow["ratings"]
    assert stats["repeated_pairs"] == slow["repeated"]
    assert stats["tied_timestamp_share"] == approx(data.split.interactions.tied_share)


@settings(max_examples=50, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_raw_rows_in_any_order_have_the_figures_of_the_dataset(rows, random):
    shuffled = random.sample(rows, len(rows))
    frame = pl.DataFrame(
        {
            "user": [f"u{row[0]}" for row in shuffled],
            "item": [f"i{row[1]}" for row in shuffled],
            "timestamp": [row[2] for row in shuffled],
            "rating": [row[3] for row in shuffled],
        }
    )
    raw = RawData("raw", RawRows.of(frame), dropped={"blank_line": 2})
    used = [sorted({row[i] for row in rows}) for i in (0, 1)]
    dense = [(used[0].index(row[0]), used[1].index(row[1]), *row[2:]) for row in rows]
    data = dataset_of(dense, len(used[0]), len(used[1]))
    figures, curves = raw_stats(raw), raw_curves(raw)
    same = dataset_stats(data)
    for name in ("users", "items", "interactions", "density", "repeated_pairs", "history_length", "gini", "top_5%"):
        assert figures[name] == same[name]
    for name in ("tied_timestamp_share", "first_event", "last_event", "mean_rating", "item_popularity"):
        assert figures[name] == same[name]
    assert (figures["lines"], figures["dropped"], figures["dropped_blank_line"]) == (len(rows) + 2, 2, 2)
    together = dataset_curves(data)
    parts = [together["over_time"].pop(part) for part in ("train", "valid", "test")]
    assert curves["over_time"].pop("all") == [sum(events) for events in zip(*parts, strict=True)]
    assert curves == together


def test_curves_stay_short_however_long_the_data_and_keep_both_ends():
    n = 200_000
    rng = np.random.default_rng(0)
    items = rng.permutation(np.repeat(np.arange(n), 1 + (np.arange(n) < 1000) * 5))
    events = Interactions.sorted(items % 5_000, items, timestamps=rng.integers(0, 10**9, len(items)), n_items=n)
    users, keys = (IdMap(tuple(map(str, range(size)))) for size in (events.n_users, n))
    part = np.zeros(len(items), np.uint8)
    curves = dataset_curves(Dataset("long", UserCatalog(users), ItemCatalog(keys), Split(events, part, "given")))
    assert len(json.dumps(curves)) < 40_000
    popularity, shares = curves["popularity"], curves["concentration"]
    assert (popularity["rank"][0], popularity["rank"][-1]) == (1, n)
    assert (popularity["events"][0], popularity["events"][-1]) == (6, 1)
    assert (shares["items"][0], shares["items"][-1], shares["events"][-1]) == (0, 1, 1)
    assert np.interp(1_000 / n, shares["items"], shares["events"]) == approx(6_000 / len(items), rel=0.01)
    assert (np.diff(shares["events"]) >= 0).all()


@pytest.mark.parametrize(("span", "bins", "width"), [(0, 1, 1), (59, 60, 1), (60, 31, 2), (119, 60, 2), (120, 41, 3)])
def test_time_is_cut_into_at_most_sixty_bins_of_whole_seconds(span, bins, width):
    curve = dataset_curves(dataset_of([(0, 0, 100, 1, 0), (0, 1, 100 + span, 1, 0)]))["over_time"]
    assert np.diff(curve["edges"]).tolist() == [width] * bins  # the last bin holds the last second
    assert curve["edges"][0] == 100 <= 100 + span < curve["edges"][-1]


def test_many_different_ratings_are_binned():
    data = dataset_of([(0, i % 5, i, i / 7, 0) for i in range(100)])
    ratings = dataset_curves(data)["ratings"]
    assert len(ratings["edges"]) == len(ratings["events"]) + 1 == 26
    assert sum(ratings["events"]) == 100


def test_data_without_times_and_ratings_has_no_such_figures():
    data = dataset_of([(0, 0, 1, 1, 0), (0, 1, 2, 1, 2)])
    events = Interactions(
        *(getattr(data.split.interactions, name) for name in ("users", "items", "n_users", "n_items"))
    )
    plain = Dataset("plain", data.users, data.items, Split(events, data.split.part, "given"))
    stats, curves = dataset_stats(plain), dataset_curves(plain)
    assert [stats[name] for name in ("tied_timestamp_share", "first_event", "mean_rating")] == [None] * 3
    assert [curves[name] for name in ("over_time", "gaps", "ratings")] == [None] * 3


def test_nothing_has_no_figures():
    none = Interactions.sorted([], [], n_users=1, n_items=1)
    data = Dataset(
        "void", UserCatalog(IdMap(("u",))), ItemCatalog(IdMap(("i",))), Split(none, np.empty(0, np.uint8), "given")
    )
    with pytest.raises(DataError, match="void holds no events"):
        dataset_stats(data)
    with pytest.raises(DataError, match="void has no rows"):
        raw_stats(
            RawData("void", RawRows.of(pl.DataFrame({"user": [], "item": []}, schema=["user", "item"]).cast(pl.String)))
        )


def test_stats_of_a_path_tells_a_dataset_from_raw_files(raw_files, tmp_path):
    artifact = prepare(raw_files.movielens(), tmp_path / "out", PrepareSettings(k_core=1))
    assert stats_of(str(artifact.path))[0]["protocol"] == "leave_one_out"
    figures, curves = stats_of(str(raw_files.csv()), ReadSettings(rating_column="none"))
    assert (figures["name"], figures["protocol"], figures["interactions"]) == ("films", None, 10)
    assert curves["ratings"] is None
    with pytest.raises(SettingsError, match="is a prepared dataset; options for reading raw files do not apply"):
        stats_of(str(artifact.path), ReadSettings(format="table"))


def test_the_command_shows_raw_files_and_says_what_is_wrong(rec_data, raw_files, tmp_path):
    said = rec_data("stats", raw_files.recbole())
    assert said.code == 0, said.err
    assert "films, raw files" in said.out
    assert "described items" in said.out
    curves = json.loads(rec_data("stats", raw_files.csv(), "--json").out)["curves"]
    assert sum(curves["over_time"]["all"]) == 10
    for words, message in (
        ([tmp_path / "nowhere"], "there is no file or directory"),
        (["ml-100"], "did you mean 'ml-100k'?"),
        ([raw_files.folder / "films.csv", "--rating-column", "ratign"], "did you mean 'rating'?"),
    ):
        said = rec_data("stats", *words)
        assert (said.code, said.out) == (2, "")
        assert message in said.err


def test_the_figures_of_movielens_100k_as_its_publisher_states_them(real_data):
    figures, _ = stats_of(str(real_data / "ml-100k"))
    assert (figures["users"], figures["items"], figures["interactions"]) == (943, 1_682, 100_000)
    assert figures["density"] == approx(100_000 / (943 * 1_682))
    assert figures["tied_timestamp_share"] == approx(0.51, abs=0.005)
    assert figures["repeated_pairs"] == 0
    assert (figures["first_event"][:10], figures["last_event"][:10]) == ("1997-09-20", "1998-04-22")
