"""Samples of click prediction: the history of each is what a loop over the user's events would collect."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.dataset import write_dataset
from rec_core.errors import ArtifactError, DataError
from rec_core.evaluation import evaluate_labels
from rec_core.samples import read_samples, write_samples
from rec_core.testing import planted_clusters
from rec_core.testing.scorers import ScoreTable
from rec_core.testing.strategies import interactions
from rec_core.types import Candidates, Dataset, Histories, Samples
from rec_core.types.split import Split


def some_samples(made, data) -> Samples:
    """Any events, some twice, with any labels and parts."""
    events = data.draw(st.lists(st.integers(0, len(made) - 1), max_size=8) if len(made) else st.just([]))
    n = len(events)
    labels = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    part = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return Samples(np.array(events, np.int64), np.array(labels, np.bool_), np.array(part, np.uint8))


@given(made=interactions(), data=st.data(), last=st.none() | st.integers(0, 4))
def test_a_history_is_every_earlier_event_of_the_user(made, data, last):
    samples = some_samples(made, data)
    histories = samples.histories(made, last=last)
    assert histories.users.tolist() == made.users[samples.events].tolist()
    for row, event in enumerate(samples.events.tolist()):
        earlier = [at for at in range(event) if made.users[at] == made.users[event]]
        earlier = earlier if last is None else earlier[max(0, len(earlier) - last) :]
        where = slice(histories.offsets[row], histories.offsets[row + 1])
        for column in ("items", "timestamps", "ratings", "generated"):
            values, wanted = getattr(histories, column), getattr(made, column)
            assert (values is None) == (wanted is None)
            assert values is None or values[where].tolist() == wanted[earlier].tolist()
    asked = samples.candidates(made)
    assert asked.lengths.tolist() == [1] * len(samples)
    assert asked.items.tolist() == made.items[samples.events].tolist()
    assert asked.labels.tolist() == samples.labels.tolist()


@given(made=interactions(), data=st.data(), rows=st.integers(1, 5), last=st.none() | st.integers(0, 3))
def test_blocks_are_the_samples_cut_into_pieces(made, data, rows, last):
    samples = some_samples(made, data)
    blocks = list(samples.blocks(made, rows, last=last))
    assert all(len(block) == len(histories) == len(asked) <= rows for block, histories, asked in blocks)
    whole, asked = samples.histories(made, last=last), samples.candidates(made)
    start = 0
    for block, histories, candidates in blocks:
        stop = start + len(block)
        assert block.digest() == samples.take(np.arange(start, stop)).digest()
        assert histories.digest() == whole.take(np.arange(start, stop)).digest()
        assert candidates.digest() == asked.take(np.arange(start, stop)).digest()
        start = stop
    assert start == len(samples)


def test_parts_and_rows_are_taken_in_their_order():
    samples = Samples(np.array([4, 9, 2, 7]), np.array([True, False, True, True]), np.array([2, 0, 2, 1], np.uint8))
    assert samples.of("test").events.tolist() == [4, 2]
    assert samples.of("valid").labels.tolist() == [True]
    assert samples.take(np.array([3, 0])).events.tolist() == [7, 4]
    with pytest.raises(TypeError, match="got a mask"):
        samples.take(np.array([True, False, True, True]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": np.array([0, 1], np.int32)}, "samples: events must be int64 [2]"),
        ({"labels": np.array([True])}, "samples: labels must be bool [2]"),
        ({"part": np.array([0, 1])}, "samples: part must be uint8 [2]"),
        ({"events": np.array([0, -1])}, "a negative one was found"),
        ({"part": np.array([0, 3], np.uint8)}, "parts are 0 (train), 1 (valid), 2 (test); got 3"),
    ],
)
def test_columns_that_break_the_contract_are_refused(change, message):
    columns = {"events": np.array([0, 1]), "labels": np.array([True, False]), "part": np.array([0, 2], np.uint8)}
    with pytest.raises(DataError) as error:
        Samples(**columns | change)
    assert message in str(error.value)


def test_samples_of_other_interactions_are_refused():
    events = planted_clusters().split.interactions
    samples = Samples(np.array([len(events)]), np.array([True]), np.zeros(1, np.uint8))
    for ask in (samples.histories, samples.candidates):
        with pytest.raises(DataError, match="samples: event"):
            ask(events)
    with pytest.raises(ValueError, match="a block has at least 1 row"):
        next(samples.blocks(events, 0))


def every_third(split) -> Samples:
    at = np.arange(0, len(split.interactions), 3)
    return Samples(at, split.interactions.ratings[at] > 3, split.part[at])


def test_samples_come_back_as_they_were_written_and_only_with_their_events(tmp_path):
    world = planted_clusters()
    split, samples = world.split, every_third(world.split)
    dataset = write_dataset(tmp_path / "ds", world)
    artifact = write_samples(tmp_path / "samples", samples, dataset, settings={"label_above": 3}, seed=42)
    assert read_samples(artifact, dataset).digest() == samples.digest() == artifact.manifest["sample_hash"]
    counts = artifact.manifest["counts"]
    assert counts["samples"] == len(samples) == counts["train"] + counts["valid"] + counts["test"]
    assert counts["liked"] == samples.labels.sum()

    titled = write_dataset(tmp_path / "titled", Dataset("other", world.users, with_new_titles(world.items), split))
    assert titled.hash != dataset.hash
    assert len(read_samples(artifact, titled)) == len(samples)  # the events are the same
    part = split.part.copy()
    part[0] = 1
    moved = write_dataset(
        tmp_path / "moved", Dataset("moved", world.users, world.items, Split(split.interactions, part, "given"))
    )
    with pytest.raises(ArtifactError, match="points into other events or another split than"):
        read_samples(artifact, moved)
    with pytest.raises(ArtifactError, match="is a 'dataset' artifact, wanted 'samples'"):
        read_samples(open_artifact(tmp_path / "ds"))


def with_new_titles(items):
    return type(items)(items.ids, {"title": [f"{title}!" for title in items.fields["title"]]}, items.n_interacted)


def test_click_prediction_on_samples_is_the_same_block_by_block():
    split = planted_clusters(20, 24, n_clusters=2).split
    samples, made = every_third(split), split.interactions
    scores = ScoreTable(np.random.default_rng(0).random((split.n_users, split.n_items)))
    whole = evaluate_labels(scores, samples.histories(made), samples.candidates(made), probabilities=True)
    order = np.argsort(-scores.scores[made.users[samples.events], made.items[samples.events]])
    liked = samples.labels[order]
    pairs = np.sum(np.cumsum(liked)[~liked])  # liked ones before each disliked one
    assert whole.summary()["auc_pooled"] == pytest.approx(pairs / (liked.sum() * (~liked).sum()))
    told = [(histories, asked) for _, histories, asked in samples.blocks(made, 7, last=2)]
    joined = evaluate_labels(
        scores,
        Histories.of(
            [row for h, _ in told for row in map(h.row, range(len(h)))], np.concatenate([h.users for h, _ in told])
        ),
        Candidates(
            np.arange(len(samples) + 1),
            np.concatenate([c.items for _, c in told]),
            np.concatenate([c.labels for _, c in told]),
        ),
        probabilities=True,
    )
    assert joined.summary() == whole.summary()
