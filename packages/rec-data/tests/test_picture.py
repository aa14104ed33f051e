"""The picture of a dataset: what is on it, however little or much there is to show, and that it is a whole file."""

import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from rec_core.errors import MissingExtra, SettingsError
from rec_core.types import Dataset, IdMap, Interactions, ItemCatalog, Split, UserCatalog
from rec_data.picture import check_picture, draw, write_picture
from rec_data.stats import dataset_curves, dataset_stats

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def dataset(n=60, users=6, items=9, *, times="spread", ratings=5, name="made up", parts=3) -> Dataset:
    rng = np.random.default_rng(0)
    when = {"none": None, "one": np.full(n, 7), "spread": rng.integers(10**9, 10**9 + 10**7, n)}[times]
    scores = None if not ratings else rng.integers(1, ratings + 1, n)
    events = Interactions.sorted(
        rng.integers(0, users, n),
        rng.integers(0, items, n),
        timestamps=when,
        ratings=scores,
        n_users=users,
        n_items=items,
    )
    keys = [IdMap(tuple(map(str, range(size)))) for size in (users, items)]
    part = (np.arange(n) % parts).astype(np.uint8)
    return Dataset(name, UserCatalog(keys[0]), ItemCatalog(keys[1]), Split(events, part, "leave_one_out"))


def drawn(data: Dataset):
    return draw(dataset_stats(data), dataset_curves(data))


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left").partition(" (")[0] for axes in figure.axes]


def words(figure) -> str:
    return figure.get_suptitle() + "".join(text.get_text() for text in figure.texts)


ALWAYS = ["How active users are", "How popular items are", "How concentrated events are"]
IN_TIME = ["When it happened", "Time between a user's events"]


@pytest.mark.parametrize(
    ("data", "panels", "missing"),
    [
        (dataset(), [*ALWAYS, *IN_TIME, "How it was rated"], ""),
        (dataset(ratings=0), [*ALWAYS, *IN_TIME], "no ratings"),
        (dataset(times="none"), [*ALWAYS, "How it was rated"], "no timestamps"),
        (dataset(times="none", ratings=0), ALWAYS, "no timestamps   ·   no ratings"),
    ],
    ids=["all", "no ratings", "no times", "neither"],
)
def test_panels_whose_data_is_not_there_are_left_out_and_named(data, panels, missing):
    figure = drawn(data)
    assert titles(figure) == panels
    said = words(figure)
    assert said.startswith("made up, leave one out")
    assert "6 users   ·   9 items   ·   60 events" in said
    assert said.endswith(missing)
    assert ("no timestamps" in said) == ("no timestamps" in missing)


@pytest.mark.parametrize(
    "data",
    [
        dataset(1, 1, 1),
        dataset(2, 2, 1, times="one", ratings=0),
        dataset(3, 1, 3, times="one", parts=1),
        dataset(500, 40, 70, ratings=300, name="$x_^$ & <b> \n 100%"),
        dataset(30, 3, 3, times="none", name="a name without an end " * 9),
    ],
    ids=["one event", "two", "one time", "many ratings", "long name"],
)
def test_any_data_makes_a_whole_picture(tmp_path, data):
    write_picture(tmp_path / "new" / "x.svg", dataset_stats(data), dataset_curves(data))
    assert ElementTree.parse(tmp_path / "new" / "x.svg").getroot().tag.endswith("svg")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.svg"]


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_the_same_data_gives_the_same_bytes(tmp_path, ending, begins):
    data = dataset(times="none")
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.{ending}", dataset_stats(data), dataset_curves(data))
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert (tmp_path / f"a.{ending}").read_bytes().startswith(begins)


@pytest.mark.parametrize("span", [1, 90_000, 10**7, 10**9, 6 * 10**10, 10**15])
def test_time_has_its_axis_for_a_second_and_for_ages(span):
    times = np.linspace(-(10**9), span - 10**9, 9).astype(np.int64)
    events = Interactions.sorted(np.zeros(9, np.int64), np.arange(9) % 3, timestamps=times, n_users=1, n_items=3)
    keys = IdMap(("0",)), IdMap(("0", "1", "2"))
    data = Dataset("t", UserCatalog(keys[0]), ItemCatalog(keys[1]), Split(events, np.zeros(9, np.uint8), "given"))
    axes = drawn(data).axes[3]
    low, high = axes.get_xlim()
    labels = axes.xaxis.get_major_formatter().format_ticks(
        [t for t in axes.xaxis.get_majorticklocs() if low <= t <= high]
    )
    assert 2 <= len(labels) <= 12


def test_a_picture_of_much_data_is_no_larger_than_one_of_little(tmp_path):
    for name, data in (("little", dataset()), ("much", dataset(300_000, 20_000, 90_000))):
        write_picture(tmp_path / f"{name}.svg", dataset_stats(data), dataset_curves(data))
    little, much = ((tmp_path / f"{name}.svg").stat().st_size for name in ("little", "much"))
    assert much < 2 * little


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "folder.svg").mkdir()
    for name, message in (
        ("x.jpg", r"the ending says the kind of picture, \.png or \.svg"),
        ("x", r"the ending says the kind of picture"),
        ("old.png", "exists already; choose another file or pass --overwrite"),
        ("folder.svg", "is a directory; name a file"),
    ):
        with pytest.raises(SettingsError, match=message):
            check_picture(tmp_path / name)
    check_picture(tmp_path / "old.png", overwrite=True)
    check_picture(tmp_path / "new.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rec-data\[plot\]'"):
        check_picture(tmp_path / "new.svg")


def test_the_command_draws_beside_what_it_prints(rec_data, raw_files, tmp_path):
    raw, picture = raw_files.movielens(), tmp_path / "films.png"
    said = rec_data("stats", raw, "--plot", picture)
    assert said.code == 0, said.err
    assert "tied timestamp share" in said.out
    first = picture.read_bytes()
    said = rec_data("stats", raw, "--plot", picture)
    assert (said.code, said.out) == (2, "")
    assert "pass --overwrite" in said.err
    assert rec_data("stats", raw, "--plot", picture, "--overwrite").code == 0
    assert picture.read_bytes() == first


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody can write to")
def test_a_folder_that_refuses_the_picture_gives_one_message(rec_data, raw_files):
    said = rec_data("stats", raw_files.csv(), "--plot", "/proc/films.png")
    assert (said.code, said.out) == (2, "")
    assert "cannot write /proc/films.png" in said.err
