"""A world on disk: the same bytes for the same settings, whole or not there, and read by `prepare` as it stands."""

import json
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import ArtifactError, SettingsError
from rec_data import PrepareSettings
from rec_data import synthesize as writing
from rec_data.prepare import prepare
from rec_data.synthesize import item_keys, read_world, synthesize, user_keys
from rec_data.synthetic import World
from rec_data.world_config import FileSettings

WORLD = World(users=9_000, items=800, interactions=60_000, history_spread=0.4)  # two blocks of users
AMAZON = FileSettings(order="shuffled", keys="text", repeats=0.05)


def content(path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"}


def rows_of(path) -> pl.DataFrame:
    files = sorted(path.glob("interactions*"))
    return pl.concat([pl.read_csv(file) if file.suffix == ".csv" else pl.read_parquet(file) for file in files])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The world in its plainest form."""
    return synthesize(tmp_path_factory.mktemp("plain") / "world", WORLD).path


def test_the_file_says_what_the_world_says(written):
    rows = rows_of(written)
    assert rows.columns == ["user_id", "item_id", "rating", "timestamp"]
    events = WORLD.interactions_of(0, WORLD.users)
    order = np.lexsort((events.items, events.users))  # by user, then by item
    assert np.array_equal(rows["user_id"], events.users[order] + 1)
    assert np.array_equal(rows["item_id"], events.items[order] + 1)
    assert np.array_equal(rows["rating"], events.ratings[order])
    assert np.array_equal(rows["timestamp"], events.timestamps[order])
    assert open_artifact(written, "world").manifest["counts"] == {"users": 9_000, "items": 800, "interactions": 60_000}


def test_the_catalogues_and_the_truth_beside_them(written):
    items, truth = pl.read_csv(written / "items.csv"), pl.read_csv(written / "truth_items.csv")
    assert items.columns == ["item_id", "title", "description"]
    assert items["item_id"].to_list() == truth["item_id"].to_list() == list(range(1, 801))
    assert np.array_equal(truth["cluster"] * WORLD.styles + truth["style"], WORLD.item_groups)
    assert truth["weight"].sum() == pytest.approx(WORLD.n_groups)  # shares of each group
    users, truth = pl.read_csv(written / "users.csv"), pl.read_csv(written / "truth_users.csv")
    assert users.columns == ["user_id", "interest", "age", "town"]
    assert np.array_equal(truth["cluster"] * WORLD.styles + truth["style"], WORLD.user_groups())


def test_the_world_is_read_back_from_its_directory(written):
    assert read_world(written) == WORLD
    assert json.loads((written / "world.json").read_text())["files"] == asdict(FileSettings())


def test_equal_settings_give_equal_bytes_and_another_seed_others(written, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "GROUP_ROWS", 7_001)  # what is held back before a write decides nothing
    monkeypatch.setattr(writing, "TABLE_ROWS", 301)
    monkeypatch.setattr(writing, "THREADS", 1)
    assert content(synthesize(tmp_path / "again", WORLD).path) == content(written)
    other = content(synthesize(tmp_path / "other", replace(WORLD, seed=2)).path)
    assert not any(other[name] == data for name, data in content(written).items())


@pytest.mark.parametrize("settings", [FileSettings(), AMAZON])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_of_equal_length_hold_the_same_rows_in_the_same_order(settings, form, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHUFFLED_ROWS", 20_000)
    whole = rows_of(synthesize(tmp_path / "one", WORLD, settings).path)
    parts = synthesize(tmp_path / "parts", WORLD, replace(settings, format=form, files=7)).path
    assert rows_of(parts).rows() == whole.cast(rows_of(parts).schema).rows()
    sizes = [rows_of_file(file) for file in sorted(parts.glob("interactions*"))]
    assert len(sizes) == 7
    assert max(sizes) - min(sizes) <= 1


def rows_of_file(file) -> int:
    return (pl.read_csv(file) if file.suffix == ".csv" else pl.read_parquet(file)).height


def test_shuffled_rows_are_the_same_rows_in_another_order(written, tmp_path):
    shuffled = rows_of(synthesize(tmp_path / "shuffled", WORLD, FileSettings(order="shuffled")).path)
    assert shuffled.sort("user_id", "item_id").equals(rows_of(written))
    neighbours = (np.diff(shuffled["user_id"]) == 0).mean()
    assert neighbours < 0.01


def test_repeated_rows_come_on_top_and_later(written, tmp_path):
    rows = rows_of(synthesize(tmp_path / "repeats", WORLD, FileSettings(repeats=0.05)).path)
    assert rows.height in (63_000, 62_999)  # 5 % of each of two blocks, rounded down
    pairs = rows.group_by("user_id", "item_id").agg(pl.len(), pl.col("timestamp").min())
    assert pairs["len"].max() == 2
    first = pairs.select("user_id", "item_id", "timestamp").sort("user_id", "item_id")
    assert first.equals(rows_of(written).select("user_id", "item_id", "timestamp"))


def test_text_keys_look_like_real_ones_and_are_all_different():
    users, items = user_keys(np.arange(300_000), "text"), item_keys(np.arange(300_000), "text")
    assert users.n_unique() == items.n_unique() == 300_000
    assert users.str.contains(r"^A[0-9A-Z]{12}$").all()
    assert items.str.contains(r"^B0[0-9A-Z]{8}$").all()
    assert user_keys(np.array([299_999]), "text")[0] == users[299_999]


@pytest.mark.parametrize("settings", [FileSettings(), replace(AMAZON, format="parquet", files=3)])
def test_prepare_reads_the_directory_as_it_stands(settings, tmp_path):
    synthesize(tmp_path / "world", WORLD, settings)
    dataset = read_dataset(prepare(tmp_path / "world", tmp_path / "out", PrepareSettings(k_core=1)))
    assert dataset.split.interactions.n_users == 9_000
    assert set(dataset.items.fields) == {"title", "description"}
    assert set(dataset.users.fields) == {"interest", "age", "town"}
    # The last event of the first user, straight from the world: its key tells who that is.
    numbers = {key: n for n, key in enumerate(user_keys(np.arange(9_000), settings.keys).cast(pl.String))}
    who = numbers[dataset.users.ids.keys[0]]
    last = WORLD.interactions_of(who, who + 1).items[-1:]
    target = dataset.split.held_out("test").items[0]
    assert dataset.items.ids.keys[target] == str(item_keys(last.astype(np.int64), settings.keys)[0])


# Whole or not there


class Stop(Exception):
    pass


class StopAt:
    """Progress that breaks off when so many rows are written."""

    def __init__(self, rows: int) -> None:
        self.rows, self.total, self.done = rows, 0, 0

    def start(self, total: int, done: int = 0) -> None:
        self.total, self.done = total, done

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if self.done >= self.rows:
            raise Stop


@pytest.mark.parametrize("settings", [FileSettings(files=6), replace(AMAZON, format="parquet", files=6)])
def test_an_unfinished_world_is_taken_up_again(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHUFFLED_ROWS", 20_000)
    whole = synthesize(tmp_path / "whole", WORLD, settings)
    monkeypatch.setattr(writing, "GROUP_ROWS", 6_000)
    with pytest.raises(Stop):
        synthesize(tmp_path / "world", WORLD, settings, progress=StopAt(37_000))
    assert not (tmp_path / "world").exists()
    partial = tmp_path / "world.partial"
    assert len(list(partial.glob(f"interactions-*.{settings.format}"))) in (3, 4)
    finished = (partial / f"interactions-0001.{settings.format}").stat().st_mtime_ns
    with pytest.raises(ArtifactError, match="unfinished run"):
        synthesize(tmp_path / "world", WORLD, settings)
    with pytest.raises(ArtifactError, match="has other settings"):
        synthesize(tmp_path / "world", replace(WORLD, seed=9), settings, resume=True)
    monkeypatch.undo()
    monkeypatch.setattr(writing, "SHUFFLED_ROWS", 20_000)
    counter = StopAt(10**9)
    resumed = synthesize(tmp_path / "world", WORLD, settings, resume=True, progress=counter)
    assert (resumed.path / f"interactions-0001.{settings.format}").stat().st_mtime_ns == finished
    assert counter.done == counter.total == resumed.manifest["counts"]["interactions"]
    assert rows_of(resumed.path).equals(rows_of(whole.path))
    assert not partial.exists()


def test_an_output_that_exists_is_refused_or_replaced_whole(tmp_path):
    small = World()
    first = synthesize(tmp_path / "world", small)
    with pytest.raises(ArtifactError, match="exists already"):
        synthesize(tmp_path / "world", replace(small, seed=2))
    assert open_artifact(first.path).hash == first.hash
    assert synthesize(tmp_path / "world", replace(small, seed=2), overwrite=True).hash != first.hash
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArtifactError, match="is not an artifact"):
        synthesize(tmp_path / "mine", small, overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"format": "xml"}, "--format is one of csv, parquet; got 'xml'"),
        ({"order": "time"}, "--order is one of user, shuffled; got 'time'"),
        ({"keys": "int"}, "--keys is one of numbers, text; got 'int'"),
        ({"files": 0}, "--files lies between 1 and 100,000; got 0"),
        ({"repeats": 1.5}, "--repeats lies between 0 and 1; got 1.5"),
        ({"repeats": float("nan")}, "--repeats lies between 0 and 1; got nan"),
    ],
)
def test_file_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(SettingsError) as refused:
        FileSettings(**wrong)
    assert said in str(refused.value)


def test_more_files_than_rows_are_refused(tmp_path):
    tiny = World(users=10, items=200, interactions=60)
    with pytest.raises(SettingsError, match="--files 61 is more than there are rows, 60"):
        synthesize(tmp_path / "world", tiny, FileSettings(files=61))
    assert rows_of(synthesize(tmp_path / "world", tiny, FileSettings(files=60)).path).height == 60


def test_the_command_writes_a_world_and_names_the_next_step(tmp_path, rec_data):
    said = rec_data("synthesize", tmp_path / "w", "--users", 200, "--interactions", 3_000, "--format", "parquet")
    assert said.code == 0
    assert "200 users, 500 items, 3,000 rows; next: rec-data prepare" in said.out
    assert read_world(tmp_path / "w") == World(users=200, interactions=3_000)


def test_a_settings_file_gives_defaults(tmp_path, rec_data):
    (tmp_path / "world.toml").write_text('users = 300\nfollow = 0.8\nkeys = "text"\n')
    said = rec_data("synthesize", tmp_path / "w", "--config", tmp_path / "world.toml", "--users", 800)
    assert said.code == 0
    assert read_world(tmp_path / "w") == World(users=800, follow=0.8)
    assert rows_of(tmp_path / "w")["user_id"][0].startswith("A")
    (tmp_path / "world.toml").write_text("folow = 0.8\n")
    said = rec_data("synthesize", tmp_path / "v", "--config", tmp_path / "world.toml")
    assert said.code == 2
    assert "did you mean 'follow'" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--users", "0"], "--users lies between 1 and"),
        (["--users", "1.5"], "1.5"),
        (["--follow", "1"], "--follow lies between 0 and 0.99; got 1"),
        (["--interactions", "100"], "--interactions is 100"),
        (["--format", "xml"], "xml"),
        (["--seed", "-1"], "--seed lies between 0"),
    ],
)
def test_the_command_refuses_bad_settings_in_one_message(words, said, tmp_path, rec_data):
    result = rec_data("synthesize", tmp_path / "w", *words)
    assert result.code != 0
    assert said in result.err + result.out
    assert "Traceback" not in result.err
    assert not list(tmp_path.iterdir())
