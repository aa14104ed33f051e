"""A prepared data set comes back from the disk as it was written."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from rec_core.artifacts import Input, create, open_artifact
from rec_core.dataset import part_boundaries, read_dataset, write_dataset
from rec_core.errors import ArtifactError
from rec_core.testing import planted_clusters
from rec_core.testing.strategies import splits
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Split, UserCatalog


def dataset_of(split: Split, cold: int = 0) -> Dataset:
    users = IdMap(tuple(f"user {u}" for u in range(split.n_users)), "user")
    items = IdMap(tuple(f"Film №{i}" for i in range(split.n_items + cold)), "item")
    titles = [f"Titre é {i}" if i % 2 else None for i in range(len(items))]
    return Dataset("small", UserCatalog(users), ItemCatalog(items, {"title": titles}, split.n_items), split)


def assert_equal(read: Dataset, written: Dataset) -> None:
    assert read.digest() == written.digest()
    assert read.name == written.name
    assert read.users.fields == written.users.fields
    assert read.items.fields == written.items.fields
    assert np.array_equal(read.split.part, written.split.part)
    for name in ("users", "items", "timestamps", "ratings", "generated"):
        a, b = getattr(read.split.interactions, name), getattr(written.split.interactions, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(split=splits())
def test_any_split_comes_back_as_it_was_written(tmp_path_factory, split):
    path = tmp_path_factory.mktemp("dataset") / "ds"
    written = dataset_of(split, cold=2)
    write_dataset(path, written)
    assert_equal(read_dataset(path), written)


@given(splits(in_order=True))
def test_two_boundaries_per_user_tell_the_parts_when_these_follow_each_other(split):
    offsets = split.interactions.offsets
    boundaries = part_boundaries(split, offsets)
    assert boundaries is not None
    for user in range(split.n_users):
        part = split.part[split.interactions.users == user]
        first_valid, first_test = (int((part < code).sum()) for code in (1, 2))
        assert boundaries[user].tolist() == [offsets[user] + first_valid, offsets[user] + first_test]


def test_parts_in_time_order_are_stored_as_boundaries_and_others_as_one_byte_per_event(tmp_path):
    dataset = planted_clusters()
    in_order = write_dataset(tmp_path / "a", dataset)
    assert in_order.has("boundaries.npy")
    assert not in_order.has("part.npy")
    mixed = replace(dataset, split=replace(dataset.split, part=dataset.split.part[::-1].copy(), protocol="given"))
    out_of_order = write_dataset(tmp_path / "b", mixed)
    assert out_of_order.has("part.npy")
    assert not out_of_order.has("boundaries.npy")
    assert_equal(read_dataset(tmp_path / "b"), mixed)


def test_items_are_memory_mapped(tmp_path):
    write_dataset(tmp_path / "ds", planted_clusters())
    items = read_dataset(tmp_path / "ds").split.interactions.items
    assert isinstance(items, np.memmap)
    assert not items.flags.writeable


def test_columns_the_source_does_not_have_are_not_stored(tmp_path):
    events = Interactions.sorted([0, 0, 1], [0, 1, 1])
    artifact = write_dataset(tmp_path / "ds", dataset_of(Split(events, np.array([0, 2, 0], np.uint8), "given")))
    assert not any(artifact.has(f"{name}.npy") for name in ("timestamps", "ratings", "generated"))
    assert read_dataset(artifact).split.interactions.ratings is None


def test_a_data_set_without_users_or_events_comes_back_too(tmp_path):
    empty = Split(Interactions.sorted([], [], n_users=0, n_items=0), np.empty(0, np.uint8), "given")
    write_dataset(tmp_path / "ds", dataset_of(empty))
    assert_equal(read_dataset(tmp_path / "ds"), dataset_of(empty))


def test_cold_items_follow_the_interacted_ones_and_are_counted_apart(tmp_path):
    events = Interactions.sorted([0, 0, 1], [0, 1, 1])
    split = Split(events, np.array([0, 2, 0], np.uint8), "given")
    artifact = write_dataset(tmp_path / "ds", dataset_of(split, cold=3), counts={"dropped": {"too short": 4}})
    counts = {"users": 2, "items": 2, "interactions": 3, "cold_items": 3, "train": 2, "valid": 0, "test": 1}
    assert artifact.manifest["counts"] == {**counts, "dropped": {"too short": 4}}
    read = read_dataset(artifact)
    assert (len(read.items), read.items.n_interacted, read.split.n_items) == (5, 2, 2)


def test_the_manifest_tells_the_digest_and_the_hash_of_every_part(tmp_path):
    dataset = planted_clusters()
    content = write_dataset(tmp_path / "ds", dataset).manifest["content"]
    assert content == {"dataset": dataset.digest(), **dataset.split.hashes()}


def test_the_digest_does_not_depend_on_how_a_data_set_was_built(tmp_path):
    dataset = planted_clusters()
    events, order = dataset.split.interactions, np.random.default_rng(0).permutation(len(dataset.split.interactions))
    again = Interactions.sorted(
        events.users[order].astype(np.int32),
        events.items[order].tolist(),
        timestamps=events.timestamps[order],
        ratings=events.ratings[order].astype(np.float64),
        n_users=events.n_users,
        n_items=events.n_items,
    )
    rebuilt = replace(dataset, name="other name", split=replace(dataset.split, interactions=again))
    assert rebuilt.digest() == dataset.digest()
    one = write_dataset(tmp_path / "one", dataset, inputs=[Input("raw", tmp_path / "raw.csv", "0" * 64)])
    assert write_dataset(tmp_path / "two", rebuilt, settings={"k_core": 5}).hash == one.hash


def test_the_digest_changes_with_any_key_title_event_part_or_protocol():
    dataset = planted_clusters()
    split, items = dataset.split, dataset.items
    titles = {**items.fields, "title": ["Other", *items.fields["title"][1:]]}
    part = split.part.copy()
    part[0] = 1
    changed = [
        replace(dataset, users=UserCatalog(IdMap(tuple(f"x{u}" for u in range(len(dataset.users)))))),
        replace(dataset, items=replace(items, fields=titles)),
        replace(dataset, split=replace(split, part=part)),
        replace(dataset, split=replace(split, protocol="given")),
        replace(dataset, split=replace(split, interactions=replace(split.interactions, ratings=None))),
    ]
    assert len({dataset.digest(), *(other.digest() for other in changed)}) == 6


def test_another_kind_of_artifact_is_not_read_as_a_data_set(tmp_path):
    with create(tmp_path / "run", "recommender") as out:
        out.array("counts", np.arange(3))
    for run in (tmp_path / "run", open_artifact(tmp_path / "run")):
        with pytest.raises(ArtifactError, match="is a 'recommender' artifact, wanted 'dataset'"):
            read_dataset(run)


def test_boundaries_outside_a_users_row_are_refused(tmp_path):
    with create(tmp_path / "ds", "dataset") as out:
        out.array("items", np.array([0, 0], np.int32))
        out.array("offsets", np.array([0, 2], np.int64))
        out.array("boundaries", np.array([[1, 3]], np.int64))
        out.table("users", {"key": ["a"]})
        out.table("items", {"key": ["x"]})
        out.describe(name="bad", protocol="given", n_interacted=1)
    with pytest.raises(ArtifactError, match="boundaries of user 0 lie outside its row"):
        read_dataset(tmp_path / "ds")
