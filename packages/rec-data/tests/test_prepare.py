"""A prepared dataset depends on what the raw rows say, not on how they lie; every line is accounted for."""

import json
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import ArtifactError, DataError, RecError, SettingsError
from rec_data.config import PrepareSettings
from rec_data.ordering import event_order, ordered_keys
from rec_data.prepare import make_dataset, prepare
from rec_data.raw import RawData
from rec_data.rows import RawRows

ALL = PrepareSettings(k_core=1, duplicates="all")


def raw_of(rows, **more) -> RawData:
    """Raw data from (user, item, timestamp, rating) tuples."""
    schema = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64, "rating": pl.Float32}
    return RawData("made", RawRows.of(pl.DataFrame(rows, schema=schema, orient="row")), **more)


def test_plain_numbers_come_first_by_value_then_text_by_code_points():
    keys = ["b", "10", "9", "0012", "a", "B", "12", "é", "-3", "0", "1e5", "12345678901234567890", " 9", "9"]
    want = ["0", "9", "10", "12", " 9", "-3", "0012", "12345678901234567890", "1e5", "B", "a", "b", "é"]
    assert ordered_keys(pl.Series(keys)).to_list() == want


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3) | st.integers(-(2**61), 2**61)), max_size=20))
def test_events_are_ordered_by_user_time_and_row(rows):
    users, times = np.array(rows, np.int64).reshape(-1, 2).T
    for stamps in (times, None):
        order = event_order(users, stamps)
        found = list(range(len(rows))) if order is None else order.tolist()
        assert found == sorted(range(len(rows)), key=lambda r: (rows[r][0], 0 if stamps is None else rows[r][1], r))


def test_the_dataset_in_full(raw_files, tmp_path):
    artifact = prepare(raw_files.movielens(), tmp_path / "out", PrepareSettings(k_core=2))
    dataset = read_dataset(artifact)
    assert dataset.users.ids.keys == ("1", "7", "20")
    assert dataset.items.ids.keys == ("9", "10", "11", "30", "31")  # 30 fell to the 2-core, 31 was never rated
    assert dataset.items.n_interacted == 3
    assert dataset.items.title(4) == "Nobody Saw It (1997)"
    assert dataset.users.fields["zip_code"] == ("00501", "94043", "T8H1N")
    assert dataset.split.interactions.items.tolist() == [1, 0, 2, 0, 1, 2, 1, 0, 2]
    assert dataset.split.part.tolist() == [0, 1, 2] * 3
    counts = artifact.manifest["counts"]
    assert counts["dropped"] == {"k_core": 1}
    assert (counts["users"], counts["items"], counts["interactions"], counts["cold_items"]) == (3, 3, 9, 2)
    assert counts["lines"] == counts["interactions"] + sum(counts["dropped"].values()) == 10
    assert counts["k_core_rounds"] == 1
    assert counts["tied_timestamp_share"] == round(1 / 6, 6)  # items 9 and 11 of user 1, of 6 neighbouring pairs
    assert artifact.manifest["source"]["timestamp_units"] == {"seconds": 10}
    assert artifact.settings["k_core"] == 2
    (used,) = artifact.manifest["inputs"]
    assert used["role"] == "raw"


def test_both_layouts_give_one_hash(raw_files, tmp_path):
    ours = prepare(raw_files.movielens(), tmp_path / "ours", PrepareSettings(k_core=2))
    theirs = prepare(raw_files.recbole(), tmp_path / "theirs", PrepareSettings(k_core=2))
    assert ours.manifest["content"] == theirs.manifest["content"]
    assert ours.hash == theirs.hash


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "10", "u", "U"]),
        st.sampled_from(["a", "b", "01", "1", "7"]),
        st.integers(0, 6),
        st.sampled_from([1.0, 2.5, 5.0]),
    ),
    min_size=1,
    max_size=40,
)


def key_order(key):
    plain = key.isdigit() and (key == "0" or key[0] != "0")
    return (0, int(key), "") if plain else (1, 0, key)


def plain_make_dataset(rows, wish):
    """What make_dataset promises, row by row: (user keys, item keys, [(user, item, time, part)])."""
    rows = [row for row in rows if wish.min_rating is None or row[3] >= wish.min_rating]
    users = sorted({row[0] for row in rows}, key=key_order)
    rows = sorted(rows, key=lambda row: (users.index(row[0]), row[2]))
    if wish.duplicates != "all":
        chosen = {}
        for at, row in enumerate(rows):
            if wish.duplicates == "last" or row[:2] not in chosen:
                chosen[row[:2]] = at
        rows = [rows[at] for at in sorted(chosen.values())]
    while True:
        by_user, by_item = [row[0] for row in rows], [row[1] for row in rows]
        rich = [
            row for row in rows if by_user.count(row[0]) >= wish.user_core and by_item.count(row[1]) >= wish.item_core
        ]
        if len(rich) == len(rows):
            break
        rows = rich
    users = sorted({row[0] for row in rows}, key=key_order)
    items = sorted({row[1] for row in rows}, key=key_order)
    events = []
    for user in users:
        own = [row for row in rows if row[0] == user]
        parts = [0] * (len(own) - 2) + [1, 2] if len(own) >= 3 else [0] * len(own)
        events += [
            (users.index(row[0]), items.index(row[1]), row[2], part) for row, part in zip(own, parts, strict=True)
        ]
    return users, items, events


@settings(deadline=None, max_examples=200)
@given(
    rows=ROWS,
    duplicates=st.sampled_from(["first", "last", "all"]),
    user_core=st.integers(1, 3),
    item_core=st.integers(1, 3),
    min_rating=st.sampled_from([None, 2.5]),
)
def test_preparing_equals_its_plain_twin(rows, duplicates, user_core, item_core, min_rating):
    wish = PrepareSettings(duplicates=duplicates, user_k_core=user_core, item_k_core=item_core, min_rating=min_rating)
    users, items, events = plain_make_dataset(rows, wish)
    if not any(part for *_, part in events):
        with pytest.raises(DataError, match=r"empty result after filtering|needs users with at least 3 events"):
            make_dataset(raw_of(rows), wish)
        return
    made = make_dataset(raw_of(rows), wish)
    found = made.dataset.split.interactions
    columns = (found.users, found.items, found.timestamps, made.dataset.split.part)
    assert list(made.dataset.users.ids.keys) == users
    assert list(made.dataset.items.ids.keys) == items
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == events
    assert made.counts["lines"] == len(events) + sum(made.counts["dropped"].values()) == len(rows)


def test_a_shuffle_of_the_file_changes_nothing_but_the_order_of_ties():
    rows = [(str(u), str(i), 100 * i + u, 4.0) for u in range(8) for i in range(6)]
    before = make_dataset(raw_of(rows), ALL).dataset.digest()
    for seed in range(3):
        assert make_dataset(raw_of(random.Random(seed).sample(rows, len(rows))), ALL).dataset.digest() == before
    tied = [(u, i, 9_999 if i in "45" else t, r) for u, i, t, r in rows]
    one, other = (make_dataset(raw_of(t), ALL).dataset for t in (tied, tied[::-1]))
    assert one.digest() != other.digest()
    assert one.users.digest() == other.users.digest()
    assert one.items.digest() == other.items.digest()
    assert one.split.interactions.tied_share == other.split.interactions.tied_share == 8 / 40


def test_without_timestamps_the_file_gives_the_order_and_the_manifest_says_so(tmp_path, caplog):
    (tmp_path / "log.csv").write_text("user,item\na,3\nb,9\na,1\na,2\n")
    artifact = prepare(tmp_path / "log.csv", tmp_path / "out", PrepareSettings(k_core=1))
    dataset = read_dataset(artifact)
    assert [dataset.items.ids.keys[i] for i in dataset.split.held_out("test").items] == ["2"]
    assert artifact.manifest["split"] == {"users_too_short": 1, "order": "file"}
    assert artifact.manifest["counts"]["tied_timestamp_share"] is None
    assert "no timestamps" in caplog.text


def test_global_time_is_written_with_its_cuts(raw_files, tmp_path):
    wish = PrepareSettings(k_core=1, split="global-time", valid_share=0.2, test_share=0.2)
    artifact = prepare(raw_files.csv(), tmp_path / "out", wish)
    assert artifact.manifest["protocol"] == "global_time"
    assert artifact.manifest["split"]["test_from"] == "1970-01-01T00:03:20Z"  # 200 of 90..101, 105, 150, 200, 300
    assert read_dataset(artifact).split.part.tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"k_core": 9},
            r"empty result after filtering: of 10 lines 10 by k_core were dropped; .* than --k-core 9",
        ),
        ({"min_rating": 6}, r"10 by below_min_rating were dropped; .* less than --k-core 5 or --min-rating 6"),
        ({"k_core": 1, "min_rating": 5, "duplicates": "all"}, "needs users with at least 3 events .* has 2"),
        ({"k_core": 1, "split": "global-time", "valid_share": 0.05, "test_share": 0.01}, "leaves nothing for valid"),
    ],
)
def test_when_nothing_is_left_the_message_says_what_took_it(raw_files, tmp_path, wish, message):
    with pytest.raises(DataError, match=message):
        prepare(raw_files.csv(), tmp_path / "out", PrepareSettings(**wish))
    assert not (tmp_path / "out").exists()


def test_a_rating_bound_needs_ratings(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\na,3\n")
    with pytest.raises(SettingsError, match="--min-rating needs ratings, and log has none"):
        prepare(tmp_path / "log.csv", tmp_path / "out", PrepareSettings(min_rating=3))


def test_a_file_with_a_header_only_has_no_rows(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n")
    with pytest.raises(DataError, match="log: the file has a header at most, and no rows"):
        prepare(tmp_path / "log.csv", tmp_path / "out")


@pytest.mark.parametrize(
    "wish", [{"k_core": 0}, {"item_k_core": -1}, {"valid_share": 0.0}, {"valid_share": 0.6, "test_share": 0.5}]
)
def test_settings_out_of_range_are_refused(wish):
    with pytest.raises(SettingsError, match="got"):
        PrepareSettings(**wish)


def test_an_existing_output_is_refused_before_anything_is_read(raw_files, tmp_path):
    prepare(raw_files.csv(), tmp_path / "out", ALL)
    with pytest.raises(ArtifactError, match="exists already"):
        prepare(tmp_path / "not-there.csv", tmp_path / "out", ALL)


def test_a_failed_overwrite_leaves_the_old_dataset(raw_files, tmp_path):
    old = prepare(raw_files.csv(), tmp_path / "out", ALL)
    with pytest.raises(RecError):
        prepare(raw_files.csv(), tmp_path / "out", PrepareSettings(k_core=99), overwrite=True)
    assert open_artifact(tmp_path / "out", "dataset").hash == old.hash
    new = prepare(raw_files.csv(), tmp_path / "out", PrepareSettings(k_core=2), overwrite=True)
    assert new.hash != old.hash


def test_the_manifest_is_plain_json_with_counts_for_machines(raw_files, tmp_path):
    prepare(raw_files.csv(), tmp_path / "out", ALL)
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert {"users", "items", "interactions", "dropped", "train", "valid", "test"} <= counts.keys()


@pytest.mark.parametrize("wish", [{}, {"k_core": 1}, {"split": "global-time"}])
def test_ml_100k_counts(real_data, tmp_path, wish):
    artifact = prepare(real_data / "ml-100k", tmp_path / "out", PrepareSettings(**wish))
    counts = artifact.manifest["counts"]
    assert counts["lines"] == 100_000
    if wish == {"k_core": 1}:
        assert (counts["users"], counts["items"], counts["interactions"]) == (943, 1_682, 100_000)
        assert counts["dropped"] == {}
        assert counts["tied_timestamp_share"] == 0.510423  # 51 %, as the data's own README measured
    else:
        assert (counts["users"], counts["items"], counts["interactions"]) == (943, 1_349, 99_287)
        assert counts["dropped"] == {"k_core": 713}
        assert counts["cold_items"] == 1_682 - 1_349
    if wish.get("split") != "global-time":
        assert counts["test"] == counts["valid"] == 943


@pytest.mark.assets
def test_ml_100k_from_the_package_index_equals_the_publishers_files(real_data, tmp_path, monkeypatch):
    from dataclasses import replace

    from rec_core.assets import describe, fetch_asset

    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
    films = describe("ml-100k")
    atomic = fetch_asset(replace(films, sources=films.sources[1:])).path
    ours = prepare(real_data / "ml-100k", tmp_path / "ours")
    theirs = prepare(atomic, tmp_path / "theirs")
    assert ours.manifest["content"] == theirs.manifest["content"]
    assert ours.hash == theirs.hash
