"""What goes out comes back: every layout, written, read by its reader and prepared again, holds the same events."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset, write_dataset
from rec_core.errors import ArtifactError, DataError, SettingsError
from rec_core.testing.datasets import planted_clusters
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Reviews, Split, UserCatalog
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.export import ExportSettings, export, outgoing, summary
from rec_data.export.histories import history_rows
from rec_data.export.outgoing import Names, Outgoing
from rec_data.export.sequences import by_first_appearance
from rec_data.prepare import make_dataset
from rec_data.readers import detect_format, read
from rec_data.readers.lc_rec import read_lc_rec
from rec_data.readers.lightgcn import is_lightgcn, read_lightgcn
from rec_data.readers.llm_recsys_id import read_llm_recsys_id
from rec_data.readers.minionerec import read_minionerec
from rec_data.readers.openp5 import read_openp5
from rec_data.readers.recbole import read_recbole
from rec_data.readers.s3rec import read_s3rec
from rec_data.readers.sasrec import read_sasrec
from rec_data.readers.selfrec import is_selfrec, read_selfrec
from rec_data.readers.table import read_table

NAMES = ("train", "valid", "test")
ORDERED = {  # layouts of one valid and one test item per user, with their readers
    "openp5": read_openp5,
    "llm-recsys-id": read_llm_recsys_id,
    "sasrec": read_sasrec,
    "s3rec": read_s3rec,
    "lc-rec": read_lc_rec,
    "selfrec-sequential": read_selfrec,
    "recbole-histories": read_recbole,
}
ANY_SPLIT = {"selfrec": read_selfrec, "lightgcn": read_lightgcn, "recbole-pairs": read_recbole}


def made(users: dict[str, list[tuple]], *, items: list[str] | None = None, split="leave_one_out", **fields) -> Dataset:
    """A dataset from user key -> (item key, part[, time[, generated]]) in order; ids as the keys come."""
    keys = list(items or dict.fromkeys(event[0] for events in users.values() for event in events))
    flat = [(user, *event) for user, events in enumerate(users.values()) for event in events]
    timed, flagged = any(len(event) > 3 for event in flat), any(len(event) > 4 for event in flat)
    n_interacted = len({event[1] for event in flat})
    events = Interactions(
        users=np.array([event[0] for event in flat], np.int64),
        items=np.array([keys.index(event[1]) for event in flat], np.int32),
        n_users=len(users),
        n_items=n_interacted,
        timestamps=np.array([event[3] for event in flat], np.int64) if timed else None,
        ratings=np.array([3 + len(event[1]) % 3 for event in flat], np.float32) if timed else None,
        generated=np.array([len(event) > 4 and event[4] for event in flat]) if flagged else None,
    )
    part = np.array([NAMES.index(event[2]) for event in flat], np.uint8)
    catalog = ItemCatalog(IdMap(tuple(keys), "item"), fields, n_interacted)
    return Dataset("made", UserCatalog(IdMap(tuple(users), "user")), catalog, Split(events, part, split))


def by_key(dataset: Dataset) -> dict[str, list[tuple[str, int]]]:
    """User key -> (item key, part) in order."""
    found = {}
    events = dataset.split.interactions
    for user, item, part in zip(events.users, events.items, dataset.split.part, strict=True):
        key = dataset.users.ids.keys[user]
        found.setdefault(key, []).append((dataset.items.ids.keys[item], int(part)))
    return found


def by_part(dataset: Dataset) -> dict[str, list[list[str]]]:
    """User key -> the item keys of train, of valid and of test, each in order."""
    return {
        user: [[item for item, part in events if part == code] for code in range(3)]
        for user, events in by_key(dataset).items()
    }


def sent(dataset: Dataset, folder: Path, layout: str, **options) -> Path:
    """Export and give the directory; ``recbole-pairs`` is recbole with that option."""
    name, _, benchmark = layout.partition("-") if layout.startswith("recbole") else (layout, "", "")
    if benchmark:
        options["benchmark"] = benchmark
    export(dataset, folder, ExportSettings(format=name, **options), overwrite=True)
    return folder


def again(dataset: Dataset, folder: Path, layout: str, **options) -> Dataset:
    """Out, in, and prepared again by the protocol that the layout stands for."""
    reader = {**ORDERED, **ANY_SPLIT}[layout]
    raw = reader(sent(dataset, folder, layout, **options), ReadSettings())
    assert raw.dropped == {}
    split = "leave-one-out" if raw.rows.part is None else "given"
    return make_dataset(raw, PrepareSettings(duplicates="all", k_core=1, split=split)).dataset


TINY = made(
    {
        "ann": [("B2", "train", 10), ("B1", "train", 10), ("B3", "valid", 10), ("B1", "test", 40)],
        "bob": [("B1", "train", 5), ("B4", "valid", 6), ("B2", "test", 7)],
    },
    items=["B1", "B2", "B3", "B4", "cold"],
    title=["Pan", 'The "best"\tpot', '"Quoted" lid', None, "Cold"],
    genres=["Metal, Round", None, "Metal", "Flat", None],
    price=["12.99", "3", None, "0.50", None],
    year=["1999", "2001", "2001", None, None],
)


def text(folder: Path, name: str) -> str:
    return (folder / name).read_bytes().decode()


# --- the exact files


def test_selfrec_graph_files(tmp_path):
    folder = sent(TINY, tmp_path / "x", "selfrec")
    assert text(folder, "train.txt") == "ann B2 1\nann B1 1\nbob B1 1\n"
    assert text(folder, "valid.txt") == "ann B3 1\nbob B4 1\n"
    assert text(folder, "test.txt") == "ann B1 1\nbob B2 1\n"
    folder = sent(TINY, tmp_path / "x", "selfrec", valid="train", keys="dense")
    assert text(folder, "train.txt") == "0 1 1\n0 0 1\n0 2 1\n1 0 1\n1 3 1\n"
    assert not (folder / "valid.txt").exists()


def test_selfrec_sequential_files(tmp_path):
    folder = sent(TINY, tmp_path / "x", "selfrec-sequential")
    assert text(folder, "train.txt") == "ann:B2 B1\nbob:B1\n"
    assert text(folder, "valid.txt") == "ann:B3\nbob:B4\n"
    assert text(folder, "test.txt") == "ann:B1\nbob:B2\n"
    folder = sent(TINY, tmp_path / "x", "selfrec-sequential", valid="train")
    assert text(folder, "train.txt") == "ann:B2 B1 B3\nbob:B1 B4\n"


def test_lightgcn_files(tmp_path):
    folder = sent(TINY, tmp_path / "x", "lightgcn")
    assert text(folder, "train.txt") == "0 1 0\n1 0\n"
    assert text(folder, "test.txt") == "0 0\n1 1\n"
    assert text(folder, "user_list.txt") == "org_id remap_id\nann 0\nbob 1\n"
    assert text(folder, "item_list.txt") == "org_id remap_id\nB1 0\nB2 1\nB3 2\nB4 3\n"


def test_openp5_sasrec_and_s3rec_files(tmp_path):
    assert text(sent(TINY, tmp_path / "a", "openp5"), "user_sequence.txt") == "ann B2 B1 B3 B1\nbob B1 B4 B2\n"
    folder = sent(TINY, tmp_path / "Beauty", "sasrec")
    assert text(folder, "Beauty.txt") == "1 2\n1 1\n1 3\n1 1\n2 1\n2 4\n2 2\n"
    folder = sent(TINY, tmp_path / "Toys", "s3rec")
    assert text(folder, "Toys.txt") == "1 2 1 3 1\n2 1 4 2\n"
    assert json.loads(text(folder, "Toys_item2attributes.json")) == {"1": [1, 2], "2": [], "3": [1], "4": [3]}
    maps = json.loads(text(folder, "datamaps.json"))
    assert maps["id2attribute"] == {"1": "Metal", "2": "Round", "3": "Flat"}
    assert maps["item2id"] == {"B1": "1", "B2": "2", "B3": "3", "B4": "4"}
    assert maps["id2user"] == {"1": "ann", "2": "bob"}


def test_llm_recsys_id_numbers_items_by_first_appearance_in_train_then_the_held_out_ones(tmp_path):
    folder = sent(TINY, tmp_path / "x", "llm-recsys-id")
    assert text(folder, "sequential_data.txt") == "1 2 1 3 1\n2 1 4 2\n"
    # train parts: B2 B1 | B1 -> 1, 2; held out only, user after user: B3, B4 -> 3, 4
    assert text(folder, "remapped_sequential_data.txt") == "1 1 2 3 2\n2 2 4 1\n"


def test_lc_rec_files(tmp_path):
    reviews = Reviews(
        np.array([0, 0, 1]), np.array([1, 1, 0], np.int32), ("good", "again", "so"), summaries=("s", None, None)
    )
    folder = sent(replace(TINY, reviews=reviews), tmp_path / "D", "lc-rec")
    assert text(folder, "D.inter.json") == '{\n"0": [1, 0, 2, 0],\n"1": [0, 3, 1]\n}\n'
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    assert text(folder, "D.train.inter") == header + "0\t1\t0\n"
    assert text(folder, "D.valid.inter") == header + "0\t1 0\t2\n1\t0\t3\n"
    assert text(folder, "D.test.inter") == header + "0\t1 0 2\t0\n1\t0 3\t1\n"
    assert text(folder, "D.user2id") == "ann\t0\nbob\t1\n"
    assert text(folder, "D.item2id") == "B1\t0\nB2\t1\nB3\t2\nB4\t3\n"
    items = json.loads(text(folder, "D.item.json"))
    assert list(items) == ["0", "1", "2", "3"]
    assert list(items["1"].items())[:4] == [
        ("title", 'The "best"\tpot'),
        ("description", ""),
        ("brand", ""),
        ("categories", ""),
    ]
    assert items["0"]["genres"] == "Metal, Round"
    assert json.loads(text(folder, "D.review.json")) == {
        "(0, 1)": {"review": "good", "summary": "s"},
        "(1, 0)": {"review": "so", "summary": ""},
    }
    about = json.loads(text(folder, "export.json"))
    assert about["left_out"] == {"cold_items": 1, "further_reviews_of_a_pair": 1}
    assert not any("held-out" in note for note in about["notes"])  # all reviews are about training events
    late = replace(reviews, items=np.array([1, 2, 0], np.int32))  # ann's second one is about her validation item
    about = json.loads(text(sent(replace(TINY, reviews=late), tmp_path / "D", "lc-rec"), "export.json"))
    assert any(note.startswith("1 of the 3 reviews are about held-out events") for note in about["notes"])


def test_recbole_files(tmp_path):
    folder = sent(TINY, tmp_path / "ml", "recbole", cold_items=True)
    assert text(folder, "ml.inter").splitlines()[:3] == [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "ann\tB2\t5.0\t10",
        "ann\tB1\t5.0\t10",
    ]
    assert text(folder, "ml.item").splitlines() == [
        "item_id:token\ttitle:token_seq\tgenres:token_seq\tprice:float\tyear:token",
        "B1\tPan\tMetal Round\t12.99\t1999",
        'B2\tThe "best" pot\t\t3\t2001',  # the tab became a blank
        "B3\t'Quoted' lid\tMetal\t\t2001",  # a quote at the start would open a quoted field
        "B4\t\tFlat\t0.50\t",
        "cold\tCold\t\t\t",
    ]
    about = json.loads(text(folder, "export.json"))
    assert about["changed"] == {
        "title: tabs or line ends became blanks": 1,
        "title: double quotes became single ones": 1,
    }
    raw = read_recbole(folder, ReadSettings())
    assert raw.rows.timestamps.tolist() == [10, 10, 10, 40, 5, 6, 7]
    assert raw.rows.ratings.tolist() == [5.0] * 7
    assert raw.items["genres"].to_list() == ["Metal, Round", None, "Metal", "Flat", None]


def test_parquet_holds_everything(tmp_path):
    augmented = with_generated(TINY, {"ann": ["B4"]})
    folder = sent(augmented, tmp_path / "x", "parquet")
    events = pl.read_parquet(folder / "interactions.parquet")
    assert events.schema == {
        "user": pl.String,
        "item": pl.String,
        "user_id": pl.Int64,
        "item_id": pl.Int32,
        "timestamp": pl.Int64,
        "rating": pl.Float32,
        "part": pl.String,
        "generated": pl.Boolean,
    }
    assert events.row(0) == ("ann", "B4", 0, 3, 9, 0.0, "train", True)
    assert events["part"].to_list() == ["train"] * 3 + ["valid", "test", "train", "valid", "test"]
    items = pl.read_parquet(folder / "items.parquet")
    assert items["has_events"].to_list() == [True] * 4 + [False]
    assert items["title"].to_list() == list(TINY.items.fields["title"])
    raw = read_table(folder, ReadSettings())
    assert raw.rows.frame().select("user", "item").equals(events.select("user", "item"))
    assert raw.items.columns[:1] == ["key"]


# --- round trips


@pytest.mark.parametrize("layout", ORDERED)
def test_a_leave_one_out_dataset_comes_back(tmp_path, layout):
    dataset = planted_clusters(n_users=20, n_items=40)
    assert by_key(again(dataset, tmp_path / "x", layout)) == by_key(dataset)


@pytest.mark.parametrize("layout", ANY_SPLIT)
def test_a_split_of_several_held_out_events_comes_back(tmp_path, layout):
    dataset = planted_clusters(n_users=20, n_items=40)
    part = np.random.default_rng(0).integers(0, 3, len(dataset.split.part)).astype(np.uint8)
    dataset = replace(dataset, split=Split(dataset.split.interactions, part, "ratio"))
    found = again(dataset, tmp_path / "x", layout)
    if layout == "recbole-pairs":  # has times
        assert by_key(found) == by_key(dataset)
    assert by_part(found) == by_part(dataset)


@pytest.mark.parametrize("layout", [*ORDERED, *ANY_SPLIT])
def test_gzipped_files_are_found_and_read_the_same(tmp_path, layout):
    dataset = planted_clusters(n_users=20, n_items=40)
    dense = layout == "selfrec"  # so that one layout that takes raw keys has a map of them, too
    folder = sent(dataset, tmp_path / "x", layout, **({"keys": "dense"} if dense else {}))
    (folder / "manifest.json").unlink()
    (folder / "export.json").unlink()
    plain = read(folder, ReadSettings())
    for file in [*folder.iterdir()]:
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    packed = read(folder, ReadSettings())
    assert packed.facts["format"] == plain.facts["format"]
    assert packed.rows.frame().equals(plain.rows.frame())
    assert [file.name for file in packed.files] == [f"{file.name}.gz" for file in plain.files]
    for table in ("items", "users"):
        there, again = getattr(plain, table), getattr(packed, table)
        assert (there is None) == (again is None)
        assert there is None or there.equals(again)


# keys that plain text layouts can hold, and that look like numbers, other scripts, quotes or ids of others
KEYS = st.text("01aB.é語-'", min_size=1, max_size=4)


@st.composite
def leave_one_out_datasets(draw, keys=KEYS):
    users = draw(st.lists(keys, min_size=1, max_size=5, unique=True))
    items = draw(st.lists(keys, min_size=1, max_size=6, unique=True))
    sequences = {}
    for user in users:
        events = draw(st.lists(st.sampled_from(items), min_size=3, max_size=8))  # items may repeat
        times = sorted(draw(st.lists(st.integers(0, 3), min_size=len(events), max_size=len(events))))  # ties
        n_generated = draw(st.integers(0, len(events) - 3))
        parts = ["train"] * (len(events) - 2) + ["valid", "test"]
        flags = [at < n_generated for at in range(len(events))]
        sequences[user] = list(zip(events, parts, times, flags, strict=True))
    return made(sequences)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dataset=leave_one_out_datasets(), layout=st.sampled_from(list(ORDERED)), dense=st.booleans())
def test_any_leave_one_out_dataset_comes_back(tmp_path, dataset, layout, dense):
    options = {"keys": "dense"} if dense else {}
    found = again(dataset, tmp_path / "x", layout, **options)
    if dense and layout == "recbole-histories":  # its own reader knows no map of keys
        assert [len(events) for events in by_key(found).values()] == [
            len(events) for events in by_key(dataset).values()
        ]
    else:
        assert by_key(found) == by_key(dataset)


ANY_KEYS = st.text(
    st.characters(codec="utf-8") | st.sampled_from(" \t\n\r\x00\u00a0\u2028:\"',|"), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dataset=leave_one_out_datasets(ANY_KEYS), layout=st.sampled_from([*ORDERED, "recbole-pairs"]))
def test_any_keys_come_back_or_are_refused(tmp_path, dataset, layout):
    try:
        found = again(dataset, tmp_path / "x", layout)
    except DataError as error:
        said = str(error)
    else:
        said = ""
        assert by_key(found) == by_key(dataset)
    assert "cannot express" in said or not said


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dataset=leave_one_out_datasets(), layout=st.sampled_from(["selfrec", "lightgcn"]), seed=st.integers(0, 99))
def test_any_split_comes_back_from_pair_layouts_without_repeated_pairs(tmp_path, dataset, layout, seed):
    part = np.random.default_rng(seed).integers(0, 3, len(dataset.split.part)).astype(np.uint8)
    assume({0, 2} <= set(part.tolist()))
    events = replace(dataset.split.interactions, generated=None)
    found = again(replace(dataset, split=Split(events, part, "ratio")), tmp_path / "x", layout)
    expected = {
        user: [list(dict.fromkeys(items)) for items in parts]
        for user, parts in by_part(replace(dataset, split=Split(events, part, "ratio"))).items()
    }
    assert by_part(found) == expected


@pytest.mark.parametrize("size", [1, 10])
def test_blocks_do_not_change_the_files(tmp_path, monkeypatch, size):
    dataset = planted_clusters(n_users=9, n_items=40)
    layouts = [*ORDERED, *ANY_SPLIT, "recbole"]
    whole = [sent(dataset, tmp_path / "whole" / layout, layout, name="n") for layout in layouts]
    blocks = Outgoing.blocks
    monkeypatch.setattr(Outgoing, "blocks", lambda self, n=outgoing.BLOCK: blocks(self, size))
    for layout, before in zip(layouts, whole, strict=True):
        folder = sent(dataset, tmp_path / "cut" / layout, layout, name="n")
        names = {file.name for file in before.iterdir()}
        assert names == {file.name for file in folder.iterdir()}
        for name in names - {"manifest.json"}:
            assert (folder / name).read_bytes() == (before / name).read_bytes()
    sent(dataset, tmp_path / "p", "parquet")
    assert pl.read_parquet(tmp_path / "p" / "interactions.parquet").height == len(dataset.split.interactions)


# --- augmented data


def with_generated(dataset: Dataset, items: dict[str, list[str]], *, at_the_end: bool = False) -> Dataset:
    """Generated train events before each user's first event, or (wrongly placed by an augmenter) after its last."""
    events, part = dataset.split.interactions, dataset.split.part
    rows = []
    for user in range(events.n_users):
        at = np.flatnonzero(events.users == user)
        new = items.get(dataset.users.ids.keys[user], [])
        t = events.timestamps
        mine = [(events.items[i], part[i], None if t is None else t[i], False) for i in at]
        edge = None if t is None else (t[at[-1]] + 1 if at_the_end else t[at[0]] - 1)
        extra = [(dataset.items.ids.id(key), 0, edge, True) for key in new]
        rows += [(user, *row) for row in (mine + extra if at_the_end else extra + mine)]
    more = Interactions(
        users=np.array([row[0] for row in rows], np.int64),
        items=np.array([row[1] for row in rows], np.int32),
        n_users=events.n_users,
        n_items=events.n_items,
        timestamps=None if events.timestamps is None else np.array([row[3] for row in rows], np.int64),
        ratings=None if events.ratings is None else np.zeros(len(rows), np.float32),
        generated=np.array([row[4] for row in rows]),
    )
    parts = np.array([row[2] for row in rows], np.uint8)
    return replace(dataset, split=Split(more, parts, dataset.split.protocol))


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("layout", ["openp5", "llm-recsys-id", "sasrec", "s3rec", "lc-rec"])
def test_generated_events_never_displace_the_held_out_tail(tmp_path, layout, at_the_end):
    dataset = planted_clusters(n_users=8, n_items=40)
    rng = np.random.default_rng(1)
    new = {key: [f"i{i}" for i in rng.integers(0, 40, rng.integers(0, 4))] for key in dataset.users.ids.keys}
    augmented = with_generated(dataset, new, at_the_end=at_the_end)
    before, after = by_part(dataset), by_part(again(augmented, tmp_path / "x", layout))
    for user in before:
        assert after[user][1:] == before[user][1:]
        train = before[user][0] + new[user] if at_the_end else new[user] + before[user][0]
        assert after[user][0] == train
    said = json.loads(text(tmp_path / "x", "export.json"))
    assert any("held-out events end their sequences" in note for note in said["notes"]) == at_the_end


@pytest.mark.parametrize("layout", ["selfrec", "lightgcn", "selfrec-sequential", "recbole-pairs"])
def test_the_test_file_is_the_same_in_every_arm(tmp_path, layout):
    dataset = planted_clusters(n_users=8, n_items=40)
    tested = {key: parts[2] for key, parts in by_part(dataset).items()}  # every generated pair is a test pair
    plain = sent(dataset, tmp_path / "a", layout, name="n")
    arm = sent(with_generated(dataset, tested), tmp_path / "b", layout, name="n")
    test, train = ("n.test.inter", "n.train.inter") if layout.startswith("recbole") else ("test.txt", "train.txt")
    columns = (lambda line: line.split("\t")[:2]) if layout.startswith("recbole") else (lambda line: line)
    same = [[columns(line) for line in text(folder, test).splitlines()[1:]] for folder in (plain, arm)]
    assert same[0] == same[1]
    assert text(plain, train) != text(arm, train)


def test_renumbering_depends_on_train_parts_alone():
    rng = np.random.default_rng(3)
    dataset = planted_clusters(n_users=12, n_items=40)
    numbers = by_first_appearance(Outgoing.of(dataset), 40)
    train = set(dataset.split.train.items.tolist())
    for _ in range(5):
        items = dataset.split.interactions.items.copy()
        held = dataset.split.part > 0
        items[held] = rng.permutation(items[held])
        shuffled = replace(
            dataset, split=replace(dataset.split, interactions=replace(dataset.split.interactions, items=items))
        )
        other = by_first_appearance(Outgoing.of(shuffled), 40)
        assert all(numbers[item] == other[item] for item in train)
    # the published rule, item by item
    plain: dict[int, int] = {}
    for code in ((0,), (0, 1, 2)):
        for user in range(12):
            mine = (dataset.split.interactions.users == user) & np.isin(dataset.split.part, code)
            for item in dataset.split.interactions.items[mine].tolist():
                plain.setdefault(item, len(plain) + 1)
    assert all(numbers[item] == number for item, number in plain.items())


def test_generated_events_in_a_held_out_part_are_refused(tmp_path):
    dataset = with_generated(TINY, {"ann": ["B4"]})
    wrong = replace(dataset.split, part=np.full(len(dataset.split.part), 2, np.uint8))
    with pytest.raises(DataError, match=r"1 generated events are held out .*'ann'.*may only be training data"):
        sent(replace(dataset, split=wrong), tmp_path / "x", "parquet")


# --- twins


def test_history_rows_equal_the_plain_loop():
    dataset = planted_clusters(n_users=10, n_items=24, events=(3, 5))
    names = Names.of(dataset, "raw")
    for longest in (1, 2, 50):
        for part in range(3):
            plain = []
            for user, events in by_key(dataset).items():
                for at in range(1, len(events)):
                    if events[at][1] == part:
                        shown = [item for item, _ in events[max(at - longest, 0) : at]]
                        plain.append((user, " ".join(shown), events[at][0]))
            assert pl.concat(history_rows(Outgoing.of(dataset), names, part, longest)).rows() == plain


def test_outgoing_events_equal_a_plain_sort():
    rng = np.random.default_rng(0)
    dataset = planted_clusters(n_users=10, n_items=40)
    part = rng.integers(0, 3, len(dataset.split.part)).astype(np.uint8)
    dataset = replace(dataset, split=Split(dataset.split.interactions, part, "ratio"))
    events = Outgoing.of(dataset)
    plain = []
    moved = 0
    for user in range(10):
        mine = [
            (i, p)
            for i, p, u in zip(dataset.split.interactions.items, part, dataset.split.interactions.users, strict=True)
            if u == user
        ]
        ordered = sorted(mine, key=lambda event: event[1])
        moved += ordered != mine
        plain += [(user, *event) for event in ordered]
    assert list(zip(events.users, events.items, events.part, strict=True)) == plain
    assert events.moved == moved > 0


# --- what a layout cannot express


def test_several_held_out_events_are_refused_where_the_place_states_them(tmp_path):
    wrong = made({"ann": [("a", "train"), ("b", "test"), ("c", "test")]}, split="ratio")
    for layout in ("openp5", "llm-recsys-id", "sasrec", "s3rec", "lc-rec", "recbole-histories"):
        with pytest.raises(DataError, match=r"1 users have other held-out events \(user 'ann': 0 valid, 2 test of 3"):
            sent(wrong, tmp_path / "x", layout)
    with pytest.raises(DataError, match="has one test item per user, and user 'ann' has 2"):
        sent(wrong, tmp_path / "x", "selfrec-sequential")
    assert not (tmp_path / "x").exists()


def test_users_without_held_out_events_are_left_out_and_counted(tmp_path):
    dataset = made(
        {
            "ann": [("a", "train"), ("b", "valid"), ("c", "test")],
            "bob": [("a", "train"), ("b", "train")],
            "eve": [("a", "train"), ("b", "train"), ("c", "train")],
        }
    )
    about = {}
    for layout in ("openp5", "sasrec", "selfrec-sequential"):
        folder = sent(dataset, tmp_path / layout, layout)
        about[layout] = json.loads(text(folder, "export.json"))["left_out"]
    assert about["openp5"] == {"users_without_held_out_events": 2, "events_of_those_users": 5}
    assert about["sasrec"] == {
        "users_without_held_out_events": 1,
        "events_of_those_users": 3,
    }  # two events: train there
    assert about["selfrec-sequential"] == {"users_without_test": 2, "events_of_those_users": 5}
    assert text(tmp_path / "sasrec", "sasrec.txt") == "1 1\n1 2\n1 3\n2 1\n2 2\n"
    nobody = made({"bob": [("a", "train"), ("b", "train"), ("c", "train")]})
    with pytest.raises(DataError, match="no user has held-out events"):
        sent(nobody, tmp_path / "x", "openp5")


@pytest.mark.parametrize(
    ("layout", "key", "message"),
    [
        ("openp5", "a b", "the raw user key 'a b' holds a blank, which the openp5 layout cannot express"),
        ("selfrec", "a\u00a0b", "holds a blank"),
        ("selfrec-sequential", "a:b", "holds a blank or a colon"),
        ("recbole", "a\tb", "holds a tab"),
        ("recbole", '"a', "a quote at its start"),
        ("recbole-histories", "a b", "holds a blank"),
        ("lightgcn", "a ", "a blank at one end"),
        ("lc-rec", "a\tb", "holds a tab"),
    ],
)
def test_keys_that_a_layout_uses_up_are_refused(tmp_path, layout, key, message):
    dataset = made({key: [("x", "train"), ("y", "valid"), ("z", "test")]})
    with pytest.raises(DataError, match=message):
        sent(dataset, tmp_path / "x", layout)
    if layout not in ("lightgcn", "lc-rec"):
        with pytest.raises(DataError, match="pass --keys dense"):
            sent(dataset, tmp_path / "x", layout)
        folder = sent(dataset, tmp_path / "x", layout, keys="dense")
        assert json.loads(text(folder, "datamaps.json"))["user2id"] == {key: "0"}


def test_keys_with_blanks_inside_survive_where_numbers_stand_for_them(tmp_path):
    dataset = made({"ann  lee 7": [("x y", "train"), ("0012", "valid"), ("ü 1", "test")]})
    for layout in ("lightgcn", "lc-rec", "sasrec", "s3rec", "llm-recsys-id"):
        assert by_key(again(dataset, tmp_path / layout, layout)) == by_key(dataset)


def test_everything_that_has_no_place_is_said(tmp_path, caplog):
    with caplog.at_level("INFO"):
        folder = sent(TINY, tmp_path / "x", "openp5")
    about = json.loads(text(folder, "export.json"))
    assert about["lost"] == ["timestamps", "ratings", "item fields"]
    assert about["left_out"] == {"cold_items": 1}
    assert about["parts"] == {"train": 3, "valid": 2, "test": 2}
    assert about["files"] == {"user_sequence.txt": 2}
    assert about["notes"] == ["1 users have three events; OpenP5 makes no training sample of fewer than four"]
    assert "openp5: left out: cold_items 1; no place for timestamps, ratings, item fields" in caplog.text
    assert (about["keys"], about["map"], about["first_id"]) == ("raw", None, None)
    dense = json.loads(text(sent(TINY, tmp_path / "x", "openp5", keys="dense"), "export.json"))
    assert (dense["keys"], dense["map"], dense["first_id"]) == ("dense", "datamaps.json", 0)
    one_based = json.loads(text(sent(TINY, tmp_path / "y", "sasrec"), "export.json"))
    assert (one_based["map"], one_based["first_id"]) == ("datamaps.json", 1)


def test_repeated_pairs_would_double_an_edge_and_go(tmp_path):
    dataset = made(
        {"ann": [("a", "train"), ("a", "train"), ("b", "train"), ("a", "test"), ("a", "test")]}, split="ratio"
    )
    folder = sent(dataset, tmp_path / "x", "selfrec")
    assert text(folder, "train.txt") == "ann a 1\nann b 1\n"
    assert text(folder, "test.txt") == "ann a 1\n"
    assert json.loads(text(folder, "export.json"))["left_out"] == {"repeated_pairs": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "opnep5"}, "--format 'opnep5' is no layout.*did you mean 'openp5'"),
        ({"format": "lightgcn", "keys": "raw"}, "--keys 'raw' does not go with --format lightgcn, which has dense"),
        ({"format": "openp5", "benchmark": "pairs"}, "no use for --benchmark"),
        ({"format": "sasrec", "valid": "train"}, "no use for --valid"),
        ({"format": "recbole", "history": 0}, "--history is at least 1"),
        ({"format": "sasrec", "name": "a/b"}, "--name is part of file names"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        ExportSettings(**options)
    with pytest.raises(SettingsError, match="--attributes 'genre' is no item field of made; did you mean 'genres'"):
        export(TINY, "/nowhere/x", ExportSettings(format="s3rec", attributes="genre"))


# --- the directory


def test_an_export_is_whole_or_not_there_and_replaces_derived_files(tmp_path):
    target = tmp_path / "x"
    made_artifact = export(TINY, target, ExportSettings(format="openp5"))
    assert made_artifact.kind == "export"
    assert summary(made_artifact) == f"{target}: openp5 with raw keys, 3 / 2 / 2 events; user_sequence.txt"
    with pytest.raises(ArtifactError, match="exists already; choose another output or pass --overwrite"):
        export(TINY, target, ExportSettings(format="openp5"))
    (target / "user_indexing.txt").write_text("derived by OpenP5 from the old data")
    with pytest.raises(DataError):
        sent(made({"a b": [("x", "train"), ("y", "valid"), ("z", "test")]}), target, "openp5")
    assert (target / "user_indexing.txt").exists()  # a failed export changes nothing
    export(TINY, target, ExportSettings(format="openp5"), overwrite=True)
    assert not (target / "user_indexing.txt").exists()  # OpenP5 would have gone on using it


def test_the_command_exports_what_prepare_wrote(tmp_path, rec_data):
    write_dataset(tmp_path / "data", TINY)
    said = rec_data("export", tmp_path / "data", tmp_path / "out", "--format", "lightgcn")
    assert said.code == 0
    files = "train.txt, valid.txt, test.txt, user_list.txt, item_list.txt"
    assert said.out == f"{tmp_path / 'out'}: lightgcn with dense keys, 3 / 2 / 2 events; {files}\n"
    assert open_artifact(tmp_path / "out").manifest["inputs"][0]["hash"] == open_artifact(tmp_path / "data").hash
    said = rec_data("export", tmp_path / "data", tmp_path / "out", "--format", "lightgcn")
    assert (said.code, "exists already" in said.err) == (2, True)
    said = rec_data("export", tmp_path / "none", tmp_path / "out2", "--format", "openp5")
    assert (said.code, "there is nothing at" in said.err) == (2, True)
    said = rec_data("export", tmp_path / "data", tmp_path / "out2", "--format", "opnp5")
    assert said.code == 2
    assert not (tmp_path / "out2").exists()


def test_exports_are_told_apart_by_their_files(tmp_path):
    dataset = planted_clusters(n_users=20, n_items=40)
    known = {
        "selfrec-sequential": "selfrec",
        "parquet": "table",
        "recbole-pairs": "recbole",
        "recbole-histories": "recbole",
    }
    for layout in [*ORDERED, *ANY_SPLIT, "recbole", "parquet"]:
        folder = sent(dataset, tmp_path / layout, layout)
        assert detect_format(folder) == known.get(layout, layout)
        assert len(read(folder, ReadSettings()).rows) == len(dataset.split.interactions)
    for folder in (tmp_path / "lightgcn", tmp_path / "selfrec"):
        assert is_lightgcn(folder) != is_selfrec(folder)
        assert not is_lightgcn(folder / "train.txt")
        assert not is_selfrec(folder / "train.txt")


def test_what_was_exported_can_be_prepared_by_command(tmp_path, rec_data):
    dataset = planted_clusters(n_users=20, n_items=40)
    write_dataset(tmp_path / "data", dataset)
    for layout, split in (("openp5", "leave-one-out"), ("lightgcn", "given"), ("lc-rec", "given")):
        out, back = tmp_path / f"out-{layout}", tmp_path / f"back-{layout}"
        assert rec_data("export", tmp_path / "data", out, "--format", layout).code == 0
        said = rec_data("prepare", out, back, "--k-core", "1", "--split", split)
        assert said.code == 0, said.err
        assert by_part(read_dataset(back)) == by_part(dataset)


# --- real data


@pytest.fixture
def real() -> Path:
    path = Path(os.environ.get("REC_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not (path / "amazon-beauty-2014").is_dir():
        pytest.skip(f"no real data in {path}; REC_TEST_DATA names another folder")
    return path


def test_real_beauty_goes_through_text_and_json_layouts(tmp_path, real):
    raw = read(real / "amazon-beauty-2014" / "interactions.csv.gz", ReadSettings())
    dataset = make_dataset(raw, PrepareSettings()).dataset
    assert (len(dataset.users), len(dataset.items), len(dataset.split.interactions)) == (22_332, 12_086, 198_215)
    hashes = sequence_hashes(dataset)
    for layout in ("openp5", "lc-rec"):
        assert sequence_hashes(again(dataset, tmp_path / "x", layout)) == hashes


def test_real_beauty_has_the_counts_that_papers_and_their_code_give(tmp_path, real):
    raw = read(real / "amazon-beauty-2014" / "interactions.csv.gz", ReadSettings())
    dataset = make_dataset(raw, PrepareSettings(duplicates="all")).dataset

    def lines(folder: Path, file: str) -> list[str]:
        return text(folder, file).splitlines()

    # LC-Rec: a training example per prefix, sum(n - 3) = 198,215 - 3 * 22,332 = 131,219; one header line
    lc_rec = sent(dataset, tmp_path / "Beauty", "lc-rec")
    assert len(lines(lc_rec, "Beauty.train.inter")) - 1 == 131_219
    assert len(lines(lc_rec, "Beauty.test.inter")) - 1 == 22_332
    # SELFRec's train part keeps the validation item: 198,215 - 22,332 = 175,883; 52 tests of 9 items unseen in train
    graph = sent(dataset, tmp_path / "graph", "selfrec", valid="train")
    assert len(lines(graph, "train.txt")) == 175_883
    known = {line.split()[1] for line in lines(graph, "train.txt")}
    unknown = [line.split()[1] for line in lines(graph, "test.txt") if line.split()[1] not in known]
    assert (len(unknown), len(set(unknown))) == (52, 9)
    chains = sent(dataset, tmp_path / "chains", "selfrec-sequential", valid="train")
    assert sum(line.count(" ") + 1 for line in lines(chains, "train.txt")) == 175_883
    assert len(lines(chains, "train.txt")) == len(lines(chains, "test.txt")) == 22_332


def sequence_hashes(dataset: Dataset) -> tuple[str, str]:
    """Keys, events and parts without times; ids do not matter because they follow the keys."""
    events = replace(dataset.split.interactions, timestamps=None, ratings=None, generated=None)
    return dataset.users.ids.digest(), dataset.items.ids.digest() + events.digest() + str(dataset.split.part.sum())


def test_real_lastfm_goes_out_as_it_came(tmp_path, real):
    raw = read_lightgcn(real / "lastfm-hetrec" / "lightgcn-format", ReadSettings())
    dataset = make_dataset(raw, PrepareSettings(k_core=1, split="given")).dataset
    sizes = [int((dataset.split.part == part).sum()) for part in range(3)]
    assert sizes == [42_135, 0, 10_533]
    for layout in ("lightgcn", "selfrec"):
        assert by_part(again(dataset, tmp_path / layout, layout)) == by_part(dataset)


def test_real_office_keeps_its_parts(tmp_path, real):
    raw = read_minionerec(real / "amazon-office-2018", ReadSettings())
    dataset = make_dataset(raw, PrepareSettings(k_core=1, split="given", duplicates="all")).dataset
    assert [int((dataset.split.part == part).sum()) for part in range(3)] == [12_715, 4_866, 4_866]
    assert by_part(again(dataset, tmp_path / "x", "recbole-pairs")) == by_part(dataset)
    with pytest.raises(DataError, match="users have other held-out events"):
        sent(dataset, tmp_path / "y", "openp5")
