"""Samples of click prediction: those that a walk through all ratings in order of time would collect."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset, write_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.samples import read_samples
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, UserCatalog
from rec_data.config import PrepareSettings
from rec_data.evaluation_config import SampleSettings
from rec_data.samples import make_samples
from rec_data.splits import make_split

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 40), st.sampled_from([0.5, 3.0, 3.5, 5.0])),
    min_size=20,
    max_size=60,
)
LIKED = SampleSettings(label_above=3, min_history=2)


def dataset(rows, **wish) -> Dataset:
    """Rows (user, item, time, rating) split as the settings wish; a time of None leaves times out."""
    users, items, times, ratings = (list(column) for column in zip(*rows, strict=True))
    timed = times[0] is not None
    made = Interactions.sorted(users, items, timestamps=times if timed else None, ratings=ratings)
    split, _ = make_split(made, PrepareSettings(**{"split": "global-ratio", "min_history": 2, **wish}))
    names = IdMap(tuple(f"u{user}" for user in range(made.n_users)), "user")
    films = IdMap(tuple(f"i{item}" for item in range(made.n_items)), "item")
    return Dataset("films", UserCatalog(names), ItemCatalog(films), split)


def many_rows(n_users=40, per_user=15, seed=0):
    draw = random.Random(seed)
    users = [user for user in range(n_users) for _ in range(per_user)]
    return [(user, draw.randrange(9), draw.randrange(10**6), draw.choice([1, 2, 4, 5])) for user in users]


def as_a_loop_walks(made, least: int):
    """(event, items before it) of all samples, oldest first, as the authors collect them."""
    events = made.split.interactions
    walked: dict[int, list[int]] = {}
    for at in sorted(range(len(events)), key=lambda at: (events.timestamps[at], events.users[at], at)):
        history = walked.setdefault(int(events.users[at]), [])
        if len(history) >= least:
            yield at, list(history)
        history.append(int(events.items[at]))


@given(rows=ROWS)
def test_samples_are_those_of_a_walk_through_all_ratings_in_order_of_time(rows):
    try:
        made = dataset(rows, valid_share=0.2, test_share=0.2)
        samples, facts = make_samples(made, LIKED)
    except DataError:
        assume(False)
    walk = list(as_a_loop_walks(made, 2))
    assert samples.events.tolist() == [at for at, _ in walk]
    n_train, n_valid = int(0.6 * len(walk) + 1e-9), int(0.2 * len(walk))
    assert samples.part.tolist() == [0] * n_train + [1] * n_valid + [2] * (len(walk) - n_train - n_valid)
    events = made.split.interactions
    assert samples.labels.tolist() == [events.ratings[at] > 3 for at, _ in walk]  # 3.5 is liked, 3.0 is not
    histories = samples.histories(events)
    assert [histories.row(row).tolist() for row in range(len(samples))] == [history for _, history in walk]
    assert facts["events_that_are_no_sample"] == len(rows) - len(walk)


@pytest.mark.parametrize(
    "split", ["leave-one-out", "leave-last-n", "global-time", "global-ratio", "temporal-user-groups", "ratio"]
)
def test_the_history_of_a_sample_holds_nothing_of_its_own_part_that_comes_later_nor_of_a_later_part(split):
    made = dataset(many_rows(), split=split, ratio_order="time")
    samples, _ = make_samples(made, LIKED)
    events, part = made.split.interactions, made.split.part
    for at, code in zip(samples.events.tolist(), samples.part.tolist(), strict=True):
        earlier = np.flatnonzero((events.users == events.users[at]) & (np.arange(len(events)) < at))
        assert (part[earlier] <= code).all()
        assert len(earlier) >= 2


def test_a_split_that_is_not_in_order_of_time_gives_no_samples():
    made = dataset(many_rows(), split="ratio")
    with pytest.raises(DataError, match="the ratio split of films puts held-out events of user 'u0' before later ones"):
        make_samples(made, LIKED)
    assert len(make_samples(made, SampleSettings(label_above=3, parts="users"))[0])


def test_a_smaller_few_shot_set_is_the_beginning_of_a_larger_one_and_leaves_valid_and_test_whole():
    made = dataset(many_rows())
    whole, _ = make_samples(made, LIKED)
    shots = {}
    for n in (5, 40, 200):
        few, facts = make_samples(made, SampleSettings(label_above=3, min_history=2, few_shot=n))
        shots[n] = few.of("train").events.tolist()
        assert len(set(shots[n])) == n
        assert set(shots[n]) <= set(whole.of("train").events.tolist())
        assert few.of("valid").digest() == whole.of("valid").digest()
        assert few.of("test").digest() == whole.of("test").digest()
        assert facts["samples_left_out"] == len(whole.of("train")) - n
    assert shots[200][:40] == shots[40]
    assert shots[40][:5] == shots[5]
    other, _ = make_samples(made, SampleSettings(label_above=3, min_history=2, few_shot=40, seed=1))
    assert other.of("train").events.tolist() != shots[40]


def test_few_shots_are_the_rows_that_pandas_samples():
    made = dataset(many_rows())
    whole, _ = make_samples(made, LIKED)
    few, _ = make_samples(made, SampleSettings(label_above=3, min_history=2, few_shot=6, test_samples=3))
    train, test = whole.of("train").events, whole.of("test").events
    assert (len(train), len(test)) == (416, 52)
    # pandas 3.1: DataFrame({"at": range(416)}).sample(6, random_state=42)["at"], and range(52) with 3
    assert few.of("train").events.tolist() == train[[152, 294, 410, 94, 70, 397]].tolist()
    assert few.of("test").events.tolist() == test[[19, 41, 47]].tolist()


def test_more_samples_than_there_are_cannot_be_asked():
    made = dataset(many_rows())
    for wish, option in (
        ({"few_shot": 417}, "--few-shot 417: there are 416"),
        ({"test_samples": 99}, "--test-samples"),
    ):
        with pytest.raises(SettingsError, match=option):
            make_samples(made, SampleSettings(label_above=3, min_history=2, **wish))


def book_ratings():
    """Untimed ratings as Book-Crossing has them: 0 is no rating."""
    draw = random.Random(5)
    return [(u, i, None, draw.choice([0, 0, 3, 5, 8, 10])) for u in range(300) for i in draw.sample(range(30), 7)]


def test_one_sample_per_user_split_by_user_as_for_book_crossing():
    made = dataset(book_ratings(), split="leave-one-out", order="random")
    samples, facts = make_samples(
        made, SampleSettings(label_at_least=5, targets="last", parts="users", valid_share=0.2, test_share=0.1)
    )
    events = made.split.interactions
    assert Counter(events.users[samples.events].tolist()) == Counter(range(300))
    assert (
        np.diff(events.offsets) - 1 == samples.histories(events).lengths[np.argsort(events.users[samples.events])]
    ).all()
    assert samples.labels.tolist() == [events.ratings[at] >= 5 for at in samples.events]
    sizes = np.bincount(samples.part, minlength=3)
    assert sizes.tolist() == [210, 60, 30]  # 7, 2 and 1 tenths of 300 users
    assert facts["liked_means"] == "rating >= 5"


def test_books_that_were_met_and_not_rated_can_be_history_alone():
    made = dataset(book_ratings(), split="leave-one-out", order="random")
    events = made.split.interactions
    wish = SampleSettings(label_at_least=5, targets="last", parts="users", min_history=2, history_only=0)
    samples, facts = make_samples(made, wish)
    last = {}  # of each user, the last rated book with two books before it, rated or not
    for user in range(300):
        for at in range(events.offsets[user] + 2, events.offsets[user + 1]):
            if events.ratings[at] > 0:
                last[user] = at
    assert sorted(samples.events.tolist()) == list(last.values())
    assert len(last) < 300  # someone rated none of the later five
    assert (events.ratings[samples.events] > 0).all()
    assert (samples.histories(events).ratings == 0).any()
    n = len(last)
    assert np.bincount(samples.part).tolist() == [int(0.9 * n), 0, n - int(0.9 * n)]
    assert facts["events_that_are_no_sample"] == len(events) - n


def test_users_of_one_part_have_no_sample_in_another():
    made = dataset(many_rows())
    samples, _ = make_samples(made, SampleSettings(label_above=3, parts="users", valid_share=0.2, test_share=0.2))
    users = made.split.interactions.users[samples.events]
    of_parts = [set(users[samples.part == code].tolist()) for code in range(3)]
    assert not of_parts[0] & of_parts[1]
    assert not of_parts[0] & of_parts[2]
    assert not of_parts[1] & of_parts[2]
    assert all(of_parts)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "name the rating that counts as liked"),
        ({"label_above": 9}, "are disliked (rating > 9; its ratings go from 1 to 5)"),
        ({"label_at_least": 1}, "are liked (rating >= 1"),
        ({"label_above": 3, "min_history": 10**6}, "gives 0 / 0 / 0 samples"),
    ],
)
def test_samples_that_teach_nothing_are_refused(wish, message):
    with pytest.raises((DataError, SettingsError)) as error:
        make_samples(dataset(many_rows()), SampleSettings(**wish))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "wish",
    [
        {"label_above": 3, "label_at_least": 4},
        {"label_above": 3, "few_shot": 0},
        {"label_above": 3, "min_history": -1},
        {"label_above": 3, "test_share": 0.0},
        {"label_above": 3, "valid_share": 0.5, "test_share": 0.5},
        {"label_above": 3, "seed": 2**32},
    ],
)
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(SettingsError):
        SampleSettings(**wish)


def test_data_without_ratings_gives_no_samples():
    made = dataset(many_rows())
    events = made.split.interactions
    bare = Interactions(events.users, events.items, events.n_users, events.n_items, events.timestamps)
    split, _ = make_split(bare, PrepareSettings(split="global-ratio"))
    with pytest.raises(DataError, match="samples need ratings, and films has none"):
        make_samples(Dataset("films", made.users, made.items, split), LIKED)


# the command


def test_the_command_writes_samples_that_can_be_read_with_their_dataset(rec_data, tmp_path):
    made = dataset(many_rows())
    write_dataset(tmp_path / "ds", made)
    (tmp_path / "wish.toml").write_text("label-above = 3\nmin-history = 7\n")
    words = ["--config", tmp_path / "wish.toml", "--min-history", 2, "--few-shot", 100]
    said = rec_data("samples", tmp_path / "ds", tmp_path / "samples", *words)
    assert said.code == 0, said.err
    assert "100 / 52 / 52 samples, " in said.out
    artifact = open_artifact(tmp_path / "samples", "samples")
    assert artifact.manifest["facts"]["liked_means"] == "rating > 3"
    assert (artifact.settings["few_shot"], artifact.manifest["seed"]) == (100, 42)
    samples = read_samples(artifact, open_artifact(tmp_path / "ds"))
    assert (
        samples.digest() == make_samples(made, SampleSettings(label_above=3, min_history=2, few_shot=100))[0].digest()
    )


def test_a_mistake_is_one_message(rec_data, tmp_path):
    write_dataset(tmp_path / "ds", dataset(many_rows()))
    said = rec_data("samples", tmp_path / "ds", tmp_path / "samples")
    assert (said.code, said.err.count("error: ")) == (2, 1)
    assert "name the rating that counts as liked: --label-above 3 or --label-at-least 5" in said.err
    (tmp_path / "wish.toml").write_text("label-abov = 3\n")
    said = rec_data("samples", tmp_path / "ds", tmp_path / "samples", "--config", tmp_path / "wish.toml")
    assert "unknown key 'label_abov'; did you mean 'label_above'?" in said.err
    assert not (tmp_path / "samples").exists()


# real data


def test_movielens_1m_gives_the_published_numbers_of_samples(real_data, tmp_path, rec_data):
    if not (real_data / "ml-1m" / "ratings.dat.gz").exists():
        pytest.skip(f"no ml-1m in {real_data}")
    assert rec_data("prepare", real_data / "ml-1m", tmp_path / "ds", "--preset", "rella-ml-1m").code == 0
    said = rec_data("samples", tmp_path / "ds", tmp_path / "samples", "--label-above", 3)
    assert "776,007 / 97,000 / 97,002 samples" in said.out  # ReLLa, arXiv 2308.11131
    facts = open_artifact(tmp_path / "samples").manifest["facts"]
    assert facts["events_that_are_no_sample"] == 1_000_209 - 970_009 == 5 * 6040
    samples, split = read_samples(tmp_path / "samples"), read_dataset(tmp_path / "ds").split
    times = split.interactions.timestamps[samples.events]
    assert (np.diff(times) >= 0).all()
    block, histories, asked = next(samples.of("test").blocks(split.interactions, 512))
    assert len(block) == len(histories) == len(asked) == 512
    assert histories.lengths.min() >= 5
    # distinct first genres among the newest K of the history, mean over the test samples: 2.91 4.19 5.09 5.80 6.39 6.90
    # in the paper; with events of one second in the order of items, as there, 2.905 4.193 5.088 5.796 6.393 6.907
    genres = read_dataset(tmp_path / "ds").items.fields["genres"]
    code = {}
    first = np.array([code.setdefault(text.partition(",")[0], len(code)) for text in genres])
    for k, mean in ((5, 2.905), (15, 5.088), (30, 6.907)):
        distinct = 0
        for _, shown, _ in samples.of("test").blocks(split.interactions, 8192, last=k):
            seen = np.zeros((len(shown), len(code)), np.bool_)
            seen[np.repeat(np.arange(len(shown)), shown.lengths), first[shown.items]] = True
            distinct += int(seen.sum())
        assert distinct / 97_002 == pytest.approx(mean, abs=0.002)


def test_book_crossing_is_split_by_user_in_the_published_proportion(real_data, tmp_path, rec_data):
    if not (real_data / "book-crossing" / "BX-Ratings.csv.gz").exists():
        pytest.skip(f"no book-crossing in {real_data}")
    assert (
        rec_data("prepare", real_data / "book-crossing", tmp_path / "ds", "--preset", "rella-book-crossing").code == 0
    )
    words = ["--label-at-least", 5, "--targets", "last", "--parts", "users"]
    said = rec_data("samples", tmp_path / "ds", tmp_path / "samples", *words)
    # 6,672 users of the explicit subset have more than five ratings: floor(0.9 * 6,672) = 6,004, the others are test
    assert "6,004 / 0 / 668 samples" in said.out
