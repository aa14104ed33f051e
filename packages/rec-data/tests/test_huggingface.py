"""Datasets of the Hugging Face library, read from disk without it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from rec_core.errors import AssetError, DataError, MissingExtra
from rec_data.config import ReadSettings
from rec_data.readers.huggingface import read_huggingface

LOG = pl.DataFrame(
    {"user_id": ["a", "b", "a"], "item_id": [1, 2, 12], "timestamp": [10, 20, 30], "title": ["x", "y", "z"]}
)
ROWS = [("a", "1", 10), ("b", "2", 20), ("a", "12", 30)]


def saved(folder, *frames, **state):
    """What ``save_to_disk`` writes: Arrow streams and a state that lists them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(frames):05}.arrow" for i in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        frame.write_ipc_stream(folder / name)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None} | state
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def saved_dict(folder, **frames):
    for name, frame in frames.items():
        saved(folder / name, frame)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(frames)}))
    return folder


def test_a_saved_dataset_with_its_files_in_order(tmp_path):
    raw = read_huggingface(saved(tmp_path / "log", LOG[:2], LOG[2:]), ReadSettings())
    assert raw.rows.frame().rows() == ROWS
    assert raw.facts["columns"] == {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
    assert raw.name == "log"
    assert [file.name for file in raw.files] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_splits_become_parts_train_first(tmp_path):
    path = saved_dict(tmp_path / "log", test=LOG[2:], validation=LOG[1:2], train=LOG[:1])
    raw = read_huggingface(path, ReadSettings())
    assert raw.rows.frame().rows() == [(*row, part) for part, row in enumerate(ROWS)]
    assert raw.facts["splits"] == ["train", "validation", "test"]
    assert read_huggingface(path / "test", ReadSettings()).rows.part is None


def test_one_split_is_no_split(tmp_path):
    raw = read_huggingface(saved_dict(tmp_path / "log", everything=LOG), ReadSettings())
    assert raw.rows.frame().rows() == ROWS


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet", "data/val-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0000.parquet", "validation/0000.parquet", "test/0000.parquet"),
        ("log-train.arrow", "log-dev.arrow", "log-test.arrow"),
    ],
)
def test_folders_of_files_show_their_splits(tmp_path, names):
    for part, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        (LOG[part : part + 1].write_ipc if name.endswith("arrow") else LOG[part : part + 1].write_parquet)(path)
    (tmp_path / ".hidden.parquet").write_text("x")
    (tmp_path / "README.md").write_text("x")
    raw = read_huggingface(tmp_path, ReadSettings())
    assert raw.rows.frame().rows() == [(*row, part) for part, row in enumerate(ROWS)]


def test_files_without_splits_are_one_table_in_the_order_of_their_numbers(tmp_path):
    for i, name in enumerate(("part-2.parquet", "part-10.parquet", "part-11.parquet")):
        LOG[i : i + 1].write_parquet(tmp_path / name)
    assert read_huggingface(tmp_path, ReadSettings()).rows.frame().rows() == ROWS


def test_columns_and_tables_of_items_and_users_are_named_as_in_a_table(tmp_path):
    LOG.rename({"user_id": "who"}).write_ipc(tmp_path / "log.arrow")
    LOG.select("item_id", name="title").unique().write_parquet(tmp_path / "items.parquet")
    settings = ReadSettings(user_column="who", timestamp_column="none", items_file=tmp_path / "items.parquet")
    raw = read_huggingface(tmp_path / "log.arrow", settings)
    assert raw.rows.frame().rows() == [row[:2] for row in ROWS]
    assert sorted(raw.items.rows()) == [("1", "x"), ("12", "z"), ("2", "y")]
    assert raw.items.columns == ["key", "title"]
    with pytest.raises(DataError, match="has no known user column; it has: 'who'"):
        read_huggingface(tmp_path / "log.arrow", ReadSettings())


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"train": LOG, "extra": LOG}, "'extra' is neither train, validation nor test"),
        ({"train": LOG, "valid": LOG, "validation": LOG}, "'validation' is the second of its kind"),
        ({"train": LOG, "test": LOG.drop("timestamp")}, "differ in their columns"),
        (
            {"train": LOG.with_columns(item_id=pl.lit([1, 2]))},
            r"row 1: column 'item_id' \(item\) holds lists or objects",
        ),
    ],
)
def test_what_cannot_be_one_dataset_is_an_error(tmp_path, frames, message):
    with pytest.raises(DataError, match=message):
        read_huggingface(saved_dict(tmp_path / "log", **frames), ReadSettings())


def test_what_is_not_whole_is_an_error(tmp_path):
    path = saved(tmp_path / "log", LOG)
    (path / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json is no JSON"):
        read_huggingface(path, ReadSettings())
    (path / "state.json").write_text('{"_data_files": [{}]}')
    with pytest.raises(DataError, match=r"state\.json names no data files"):
        read_huggingface(path, ReadSettings())
    (path / "state.json").write_text('{"_data_files": [{"filename": "other.arrow"}]}')
    with pytest.raises(DataError, match=r"names other\.arrow, which is not there; it holds: data-00000"):
        read_huggingface(path, ReadSettings())
    with pytest.raises(DataError, match=r"save it after flatten_indices\(\)"):
        read_huggingface(
            saved(tmp_path / "shuffled", LOG, _indices_data_files=[{"filename": "i.arrow"}]), ReadSettings()
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no data files .*it holds: nothing"):
        read_huggingface(tmp_path / "empty", ReadSettings())
    arrow = saved(tmp_path / "cut", LOG) / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-100])
    with pytest.raises(DataError, match="is not a whole Arrow file"):
        read_huggingface(arrow.parent, ReadSettings())
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError, match=r"there is no file .*state\.json, which belongs to a saved dataset"):
        read_huggingface(tmp_path / "dict", ReadSettings())


def test_files_of_no_split_beside_others_are_an_error(tmp_path):
    LOG.write_parquet(tmp_path / "train.parquet")
    LOG.write_parquet(tmp_path / "more.parquet")
    with pytest.raises(DataError, match=r"more\.parquet is of no split, while other files"):
        read_huggingface(tmp_path, ReadSettings())


class FakeSplit:
    """As much of the library's Dataset as is used here."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame, self.column_names, self._fingerprint = frame, frame.columns, "f00d"

    def select_columns(self, names):
        return FakeSplit(self.frame.select(names))

    def with_format(self, name):
        assert name == "arrow"
        return self

    def iter(self, batch_size):
        yield from (self.frame[i : i + 2].to_arrow() for i in range(0, len(self.frame), 2))


def test_a_name_of_the_hub_needs_the_library(tmp_path, monkeypatch):
    name = Path("someone/clicks")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises((MissingExtra, ModuleNotFoundError), match="datasets"):
        read_huggingface(name, ReadSettings())

    def load_dataset(asked):
        if asked != "someone/clicks":
            raise FileNotFoundError(f"Dataset '{asked}' doesn't exist on the Hub")
        return {"train": FakeSplit(LOG[:2]), "test": FakeSplit(LOG[2:])}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    raw = read_huggingface(name, ReadSettings())
    assert raw.rows.frame().rows() == [(*row, part) for row, part in zip(ROWS, (0, 0, 2), strict=True)]
    assert (raw.name, raw.files) == ("clicks", ())
    assert raw.facts["hub"] == "someone/clicks"
    assert raw.facts["fingerprints"] == ["f00d", "f00d"]
    with pytest.raises(
        AssetError, match=r"no file or directory someone/else, and the Hub does not give .* doesn't exist"
    ):
        read_huggingface(Path("someone/else"), ReadSettings())
    with pytest.raises(DataError, match="no dataset of the Hub can be called so"):
        read_huggingface(Path("/no/such/path"), ReadSettings())
