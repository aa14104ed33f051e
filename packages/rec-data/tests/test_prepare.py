"""A prepared dataset depends on what the raw rows say, not on how they lie; every line is accounted for."""

import dataclasses
import gzip
import json
import os
import random
import subprocess
import sys
from hashlib import sha256

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset, write_dataset
from rec_core.errors import ArtifactError, DataError, RecError, SettingsError
from rec_data import filters, ordering, text
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.ordering import event_order, ordered_keys
from rec_data.prepare import make_dataset, prepare
from rec_data.raw import RawData
from rec_data.readers import read, table
from rec_data.rows import RawRows, RowCollector

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
        assert event_order(users, stamps).tolist() == sorted(
            range(len(rows)), key=lambda r: (rows[r][0], 0 if stamps is None else rows[r][1], r)
        )


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


@given(rows=ROWS, size=st.integers(1, 7))
@settings(deadline=None, max_examples=50)
def test_rows_do_not_depend_on_how_they_come_in_blocks(rows, size):
    whole = raw_of(rows).rows
    collector = RowCollector(ReadSettings())
    schema = ["user", "item", "timestamp", "rating"]
    for start in range(0, len(rows), size):
        block = pl.DataFrame(rows[start : start + size], schema=schema, orient="row")
        collector.add(block, lambda row: f"row {row}")
    pieces = collector.finish()
    for name in ("users", "items", "timestamps", "ratings"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name
    assert whole.user_keys.equals(pieces.user_keys)
    assert whole.item_keys.equals(pieces.item_keys)
    assert whole.frame().rows() == rows


def log_of(n: int, key: str) -> pl.DataFrame:
    """Rows with ties, repeats and, for text keys, number-like keys of every sort."""
    rng = np.random.default_rng(7)
    users, items = (pl.Series(rng.integers(0, top, n)).cast(pl.String) for top in (40, 25))
    if key == "text":
        users, items = "u" + users, pl.Series([x if len(x) > 1 else f"0{x}" for x in items])
    times = rng.integers(1_500_000_000, 1_500_000_300, n)
    return pl.DataFrame({"user_id": users, "item_id": items, "rating": rng.integers(1, 6, n) / 1.0, "timestamp": times})


@pytest.mark.parametrize("key", ["number", "text"])
def test_row_groups_files_and_blocks_change_nothing(tmp_path, monkeypatch, key):
    log = log_of(600, key)
    log.write_csv(tmp_path / "log.csv")
    wish = PrepareSettings(k_core=3, name="log")
    want = prepare(tmp_path / "log.csv", tmp_path / "out", wish).hash
    layouts = {}
    for rows in (1, 37, 600):
        log.write_parquet(tmp_path / f"groups{rows}.parquet", row_group_size=rows)
        layouts[f"row groups of {rows}"] = tmp_path / f"groups{rows}.parquet"
    for count in (2, 13):
        (tmp_path / f"parts{count}").mkdir()
        for i, start in enumerate(range(0, 600, -(-600 // count))):
            log.slice(start, -(-600 // count)).write_parquet(tmp_path / f"parts{count}" / f"part-{i}.parquet")
        layouts[f"{count} Parquet files"] = tmp_path / f"parts{count}"
    (tmp_path / "csv").mkdir()
    log.head(100).write_csv(tmp_path / "csv" / "interactions-2.csv")
    log.tail(500).write_csv(tmp_path / "csv" / "interactions-10.csv")
    layouts["CSV files"] = tmp_path / "csv"
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    layouts["gzip"] = tmp_path / "log.csv.gz"
    for name, path in layouts.items():
        assert prepare(path, tmp_path / "again", wish, overwrite=True).hash == want, name
    for block in (100, 1000):
        monkeypatch.setattr(text, "BLOCK", block)
        monkeypatch.setattr(table, "ROWS", block)
        for path in (tmp_path / "log.csv", tmp_path / "log.csv.gz", tmp_path / "groups37.parquet"):
            assert prepare(path, tmp_path / "again", wish, overwrite=True).hash == want, (block, path.name)
    monkeypatch.setattr(ordering, "PARTITION", 64)
    monkeypatch.setattr(filters, "PARTITION", 64)
    assert prepare(tmp_path / "log.csv", tmp_path / "again", wish, overwrite=True).hash == want


def test_the_number_of_threads_changes_nothing(tmp_path):
    log_of(600, "text").write_csv(tmp_path / "log.csv")
    program = "import sys; from rec_data.prepare import prepare; print(prepare(*sys.argv[1:]).hash)"
    hashes = set()
    for threads in ("1", "4"):
        command = [sys.executable, "-c", program, str(tmp_path / "log.csv"), str(tmp_path / threads)]
        done = subprocess.run(
            command, env={**os.environ, "POLARS_MAX_THREADS": threads}, capture_output=True, text=True, check=True
        )
        hashes.add(done.stdout.strip())
    assert len(hashes) == 1


def test_parts_with_other_columns_are_refused(tmp_path):
    pl.DataFrame({"user": ["a"], "item": ["b"]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"user": ["a"], "item": ["b"], "rating": [1.0]}).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match="differ in their columns"):
        prepare(tmp_path, tmp_path / "out", ALL)


def test_sessions_take_the_place_of_users(tmp_path):
    rows = [("ann", str(i), t, 1.0) for i, t in enumerate([0, 10, 20, 500, 505, 510, 515])]
    made = make_dataset(raw_of(rows), PrepareSettings(k_core=1, session_gap=60))
    assert made.dataset.users.ids.keys == ("ann/1", "ann/2")
    assert made.dataset.split.interactions.offsets.tolist() == [0, 3, 7]
    assert made.counts["sessions_of_users"] == 1


def test_a_repeated_item_is_a_repeat_within_its_session_only():
    rows = [("ann", "x", t, 1.0) for t in (0, 10, 500)] + [("ann", i, 510, 1.0) for i in "yz"]
    made = make_dataset(raw_of(rows), PrepareSettings(k_core=1, session_gap=60))
    assert made.counts["dropped"] == {"duplicate": 1}


def test_the_review_of_a_held_out_event_stays_out_though_its_pair_was_met_before():
    rows = [("ann", i, n, 1.0) for n, i in enumerate("abca")]
    reviews = pl.DataFrame(
        [("ann", "a", "first", 0), ("ann", "a", "once more", 3)],
        schema=["user", "item", "text", "timestamp"],
        orient="row",
    )
    wish = PrepareSettings(k_core=1, duplicates="all", reviews=True)
    assert make_dataset(raw_of(rows, reviews=reviews), wish).dataset.reviews.texts == ("first",)


def test_keys_that_differ_in_case_or_blanks_alone_stay_apart_and_are_reported(caplog):
    rows = [(user, item, 1, 1.0) for user in ("ann", "Ann", "ann ") for item in "abc"]
    made = make_dataset(raw_of(rows), ALL)
    assert len(made.dataset.users) == 3
    assert made.counts["users_alike"] == 2
    assert "items_alike" not in made.counts
    said = "2 keys of users differ from another in case, blanks or Unicode form alone, such as 'Ann' and 'ann'"
    assert said in caplog.text


def test_keys_of_another_unicode_form_are_reported_and_the_example_is_a_pair(caplog):
    rows = [(user, item, 1, 1.0) for user in ("A", "B", "a", "b", "caf\u00e9", "cafe\u0301") for item in "xyz"]
    made = make_dataset(raw_of(rows), ALL)
    assert made.counts["users_alike"] == 3
    assert "such as 'A' and 'a'" in caplog.text


def test_events_outside_the_dates_and_beyond_the_newest_are_dropped_and_counted():
    day = 86_400
    rows = [("ann", str(i), i * day, 1.0) for i in range(10)]
    wish = PrepareSettings(k_core=1, since="1970-01-03", until="1970-01-09", max_events=4)
    made = make_dataset(raw_of(rows), wish)
    assert made.counts["dropped"] == {"since_bound": 2, "until_bound": 1, "beyond_max_events": 3}
    assert made.dataset.split.interactions.timestamps.tolist() == [t * day for t in (5, 6, 7, 8)]
    moment = PrepareSettings(k_core=1, until="1970-01-09T00:00:00+00:00")
    assert make_dataset(raw_of(rows), moment).counts["dropped"] == {"until_bound": 2}  # before that moment
    with pytest.raises(SettingsError, match="--since is an ISO date"):
        PrepareSettings(since="last year")


def test_users_with_few_events_left_are_dropped_after_the_core():
    rows = [("ann", i, 1, 1.0) for i in "abcd"] + [("bob", i, 1, 1.0) for i in "ab"]
    made = make_dataset(raw_of(rows), PrepareSettings(k_core=1, min_events=3))
    assert made.counts["dropped"] == {"too_few_events": 2}
    assert made.dataset.users.ids.keys == ("ann",)


def test_undescribed_items_go_and_cold_ones_when_asked():
    items = pl.DataFrame({"key": ["a", "b", "c", "d", "cold"], "title": ["A", "B", "C", " ", "Cold"]})
    rows = [("ann", i, n, 1.0) for n, i in enumerate("abcde")]
    made = make_dataset(raw_of(rows, items=items), PrepareSettings(k_core=1, described_items_only=True))
    assert made.counts["dropped"] == {"undescribed_item": 2}  # d has no title, e is not described at all
    assert made.dataset.items.ids.keys == ("a", "b", "c", "cold", "d")
    warm = PrepareSettings(k_core=1, described_items_only=True, cold_items=False)
    assert make_dataset(raw_of(rows, items=items), warm).dataset.items.ids.keys == ("a", "b", "c")
    with pytest.raises(SettingsError, match="--described-items-only needs item titles"):
        make_dataset(raw_of(rows), warm)


def test_a_drawn_order_depends_on_keys_and_seed_not_on_the_file(caplog):
    rows = [(f"u{u}", f"i{i}") for u in range(5) for i in range(8)]

    def made(rows, seed):
        raw = RawData("made", RawRows.of(pl.DataFrame(rows, schema=["user", "item"], orient="row")))
        return make_dataset(raw, PrepareSettings(k_core=1, order="random", seed=seed)).dataset.digest()

    assert made(rows, 1) == made(rows[::-1], 1)
    assert made(rows, 1) != made(rows, 2)
    with pytest.raises(SettingsError, match="--order random is for data without times"):
        make_dataset(raw_of([("a", "b", 1, 1.0)]), PrepareSettings(order="random"))


def test_reviews_of_training_events_come_along_and_of_others_when_asked(tmp_path):
    rows = [("ann", i, n, 1.0) for n, i in enumerate("abc")] + [("bob", "z", 0, 1.0)]
    texts = [("ann", "c", "third", 2), ("bob", "z", "gone with bob", 0), ("ann", "a", "first", 0)]
    reviews = pl.DataFrame(texts, schema=["user", "item", "text", "timestamp"], orient="row")
    raw = raw_of(rows, reviews=reviews)
    safe = make_dataset(raw, PrepareSettings(k_core=1, min_events=3, reviews=True))
    assert safe.dataset.reviews.texts == ("first",)  # the third is ann's test item
    made = make_dataset(raw, PrepareSettings(k_core=1, min_events=3, reviews=True, held_out_reviews=True))
    assert made.dataset.reviews.texts == ("first", "third")
    assert made.dataset.reviews.items.tolist() == [0, 2]
    assert (made.counts["reviews"], made.counts["reviews_left_out"]) == (2, 1)
    artifact = write_dataset(tmp_path / "ds", made.dataset)
    again = read_dataset(artifact)
    assert again.reviews.digest() == made.dataset.reviews.digest()
    assert again.digest() == made.dataset.digest()
    without = dataclasses.replace(made.dataset, reviews=None)
    assert without.digest() != made.dataset.digest()


BAD = "user,item,rating,timestamp\n" + "".join(f"a,{i},3,10\n" for i in range(4))
BAD += "a,b,great,10\na,c,3,soon\n\na,d,3\n,e,3,1\na,,3,1\na,g,NaN,1\na,h,3,20190301120000\n"


def test_bad_rows_are_an_error_or_counted_and_strict_forbids_every_loss(tmp_path):
    (tmp_path / "log.csv").write_text(BAD)
    with pytest.raises(DataError, match="line 9 has 3 fields, wanted 4"):
        prepare(tmp_path / "log.csv", tmp_path / "out", ALL)
    counts = prepare(tmp_path / "log.csv", tmp_path / "out", dataclasses.replace(ALL, bad_rows="drop")).manifest[
        "counts"
    ]
    assert counts["dropped"] == {
        "blank_line": 1,
        "wrong_field_count": 1,
        "missing_user": 1,
        "missing_item": 1,
        "bad_timestamp": 2,
        "bad_rating": 2,
    }
    assert counts["lines"] == counts["interactions"] + 8 == 12
    (tmp_path / "few.csv").write_text("user,item\na,b\n,c\n\n")
    with pytest.raises(DataError, match=r"few: --strict.*missing_user 1.*blank_line 1|blank_line 1.*missing_user 1"):
        prepare(tmp_path / "few.csv", tmp_path / "no", dataclasses.replace(ALL, strict=True))
    with pytest.raises(SettingsError, match="contradict"):
        PrepareSettings(strict=True, bad_rows="drop")


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
    facts = artifact.manifest["split"]
    assert (facts["users_too_short"], facts["order"]) == (1, "file")
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
        ({"min_rating": 6}, r"10 by below_min_rating were dropped; ask for less than --min-rating 6"),
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


def test_ml_1m_holds_out_every_user_and_a_shuffled_file_changes_targets_among_ties_alone(real_data):
    raw = read(real_data / "ml-1m", ReadSettings())
    wish = PrepareSettings(cold_items=False)
    ours = make_dataset(raw, wish)
    test = ours.dataset.split.held_out("test")
    assert len(test) == 6_040
    assert (len(ours.dataset.items), ours.counts["dropped"]) == (3_416, {"k_core": 598})  # 1,000,209 - 999,611
    assert ours.counts["tied_timestamp_share"] == 0.532075  # of 993,571 neighbouring pairs of events of one user
    rows = raw.rows.frame()
    shuffled = RawRows.of(rows.sample(fraction=1.0, shuffle=True, seed=3))
    theirs = make_dataset(dataclasses.replace(raw, rows=shuffled), wish)
    assert theirs.counts["tied_timestamp_share"] == ours.counts["tied_timestamp_share"]
    assert theirs.dataset.items.digest() == ours.dataset.items.digest()
    changed = np.flatnonzero(theirs.dataset.split.held_out("test").items != test.items)
    assert 0 < len(changed) <= 2_544  # users whose last two events or more carry one timestamp
    events = ours.dataset.split.interactions
    last = events.offsets[1:] - 1
    assert (events.timestamps[last] == events.timestamps[last - 1])[changed].all()


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


def test_files_of_one_name_keep_a_hash_each(tmp_path):
    for part in ("train", "valid"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "X.csv").write_text(part)
    rows = RawRows.of(pl.DataFrame({"user": ["a"], "item": ["b"]}))
    files = tuple(tmp_path / part / "X.csv" for part in ("train", "valid"))
    of = {part: sha256(part.encode()).hexdigest() for part in ("train", "valid")}
    assert RawData("two", rows, files=files).file_hashes() == {"train/X.csv": of["train"], "valid/X.csv": of["valid"]}
    assert RawData("one", rows, files=files[:1]).file_hashes() == {"X.csv": of["train"]}
    assert RawData("again", rows, files=(files[0], files[0])).file_hashes() == {"X.csv": of["train"]}
