"""The command a person types: what it answers, and what it says when the input is wrong."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rec_core.artifacts import open_artifact
from rec_core.dataset import read_dataset


def files_in(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def test_prepare_says_what_it_kept(rec_data, raw_files, tmp_path):
    said = rec_data("prepare", raw_files.movielens(), tmp_path / "out", "--k-core", 2)
    assert said.code == 0
    assert "3 users, 3 items, 9 interactions of 10 lines (dropped: k_core 1); leave_one_out: 3 / 3 / 3" in said.out
    assert read_dataset(tmp_path / "out").items.title(1) == "Mirage (1995) (V)"


def test_every_column_option_reaches_the_reader(rec_data, tmp_path):
    (tmp_path / "log.txt").write_text("who;what;when;stars;x\n" + "".join(f"a;{i};{i};5;-\n" for i in range(3)))
    (tmp_path / "things.csv").write_text("code,label\n0,Zero\n7,Seven\n")
    mapping = {"user-column": "who", "item-column": "what", "timestamp-column": "when", "rating-column": "stars"}
    words = [f"--{option}={value}" for option, value in {**mapping, "separator": ";"}.items()]
    words += ["--items-file", tmp_path / "things.csv", "--item-key", "code", "--title-column", "label"]
    said = rec_data("prepare", tmp_path / "log.txt", tmp_path / "out", *words, "--k-core", 1, "--name", "things")
    assert said.code == 0, said.err
    dataset = read_dataset(tmp_path / "out")
    assert dataset.name == "things"
    assert dataset.items.ids.keys == ("0", "1", "2", "7")
    assert dataset.items.fields == {"title": ("Zero", None, None, "Seven")}
    assert dataset.split.interactions.ratings.tolist() == [5, 5, 5]


def test_a_settings_file_states_what_differs_and_the_command_line_wins(rec_data, raw_files, tmp_path):
    (tmp_path / "wish.toml").write_text('k-core = 3\nsplit = "global-time"\nvalid_share = 0.2\ntest-share = 0.2\n')
    said = rec_data("prepare", raw_files.csv(), tmp_path / "out", "--config", tmp_path / "wish.toml", "--k-core", 1)
    assert said.code == 0, said.err
    settings = open_artifact(tmp_path / "out", "dataset").settings
    assert (settings["k_core"], settings["split"], settings["test_share"]) == (1, "global-time", 0.2)
    (tmp_path / "wish.toml").write_text("k-corr = 3\n")
    said = rec_data("prepare", raw_files.csv(), tmp_path / "out2", "--config", tmp_path / "wish.toml")
    assert said.code == 2
    assert "unknown key 'k_corr'; did you mean 'k_core'?" in said.err


def test_inspect_shows_terms_and_sources_of_an_asset_without_fetching_it(rec_data, tmp_path, monkeypatch):
    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    said = rec_data("inspect", "ml-100k")
    assert said.code == 0
    for text in ("Research use only", "Harper", "grouplens.org", "recbole==1.2.1"):
        assert text in said.out
    about = json.loads(rec_data("inspect", "ml-100k", "--json").out)
    assert about["licence"].startswith("Research use only")
    assert about["cached"] is None


def test_inspect_shows_a_prepared_dataset_and_what_differs_from_the_defaults(rec_data, raw_files, tmp_path):
    rec_data("prepare", raw_files.movielens(), tmp_path / "out", "--k-core", 2)
    about = json.loads(rec_data("inspect", tmp_path / "out", "--json").out)
    assert about["what"] == "prepared dataset"
    assert about["settings"] == {"k_core": 2}
    assert about["counts"]["interactions"] == 9
    assert about["first_items"][1] == "Mirage (1995) (V)"
    assert "k core: 2" in rec_data("inspect", tmp_path / "out").out


def test_inspect_shows_raw_files(rec_data, raw_files):
    about = json.loads(rec_data("inspect", raw_files.recbole(), "--json").out)
    assert about["format"] == "recbole"
    assert (about["lines"], about["users"], about["items"]) == (10, 3, 4)
    assert "title" in about["item_fields"]


def test_stats_as_table_and_as_json(rec_data, raw_files, tmp_path):
    rec_data("prepare", raw_files.movielens(), tmp_path / "out", "--k-core", 1)
    said = rec_data("stats", tmp_path / "out")
    assert said.code == 0
    for text in ("density", "83.33%", "gini", "tied timestamp share", "events per"):
        assert text in said.out
    assert json.loads(rec_data("stats", tmp_path / "out", "--json").out)["interactions"] == 10


def table(text: str | bytes):
    """A raw file that is wrong: a function that writes it and returns its path and the options it needs."""

    def write(folder: Path) -> list[object]:
        path = folder / "raw.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return [path]

    return write


HEADER = "user,item,rating,timestamp\n"
GOOD = HEADER + "".join(f"{u},{i},4,{u * 10 + i}\n" for u in range(3) for i in range(3))

WRONG = {
    "missing file": (lambda folder: [folder / "nowhere.csv"], [], "there is no file or directory"),
    "misspelt asset": (lambda folder: ["ml-100"], [], "no asset of that name; did you mean 'ml-100k'?"),
    "wrong delimiter": (table(GOOD), ["--separator", "tab"], "it looks separated by a comma (--separator ',')"),
    "no delimiter": (table("user\na\n"), [], "has one column only: 'user'"),
    "missing column": (
        table(GOOD.replace("user,", "uesr,", 1)),
        [],
        "has no known user column; it has: 'uesr', 'item', 'rating', 'timestamp'; did you mean 'uesr'?",
    ),
    "misspelt column": (table(GOOD), ["--rating-column", "ratign"], "did you mean 'rating'?"),
    "unparsable rating": (table(GOOD + "9,1,great,5\n"), [], "raw.csv, line 11: rating 'great' is no number"),
    "unparsable time": (table(GOOD + "\n9,1,4,noon\n"), [], "raw.csv, line 12: timestamp 'noon' is no number"),
    "empty time": (table(GOOD + "9,1,4,\n"), [], "raw.csv, line 11: the timestamp is empty"),
    "NaN rating": (table(GOOD + "9,1,NaN,5\n"), [], "raw.csv, line 11: rating 'NaN' is not finite"),
    "infinite rating": (table(GOOD + "9,1,-inf,5\n"), [], "raw.csv, line 11: rating '-inf' is not finite"),
    "short row": (table(GOOD + "9,1,4\n"), [], "raw.csv, line 11 has 3 fields, wanted 4: '9,1,4'"),
    "long row": (table(GOOD + "9,1,4,5,6\n"), [], "raw.csv, line 11 has 5 fields, wanted 4"),
    "unbalanced quote": (table(GOOD + '"9,1,4,5\n8,1,4,5\n'), [], "raw.csv, line 11: a quote is unbalanced"),
    "another encoding": (table(GOOD.encode() + b"caf\xe9,1,4,5\n"), [], "raw.csv, line 11 is not UTF-8"),
    "unknown encoding": (table(GOOD), ["--encoding", "latin-x"], "--encoding 'latin-x' is not known"),
    "NUL byte": (table(GOOD + "9\0,1,4,5\n"), [], "raw.csv, line 11 holds a NUL byte"),
    "cut gzip": (table(gzip.compress(GOOD.encode())[:-5]), [], "is not a whole gzip file"),
    "empty file": (table(""), [], "raw.csv is empty"),
    "header only": (table(HEADER), [], "and no rows"),
    "nothing left": (table(GOOD), ["--k-core", 4], "empty result after filtering: of 9 lines 9 by k_core"),
    "nothing liked": (table(GOOD), ["--min-rating", 4.5], "9 by below_min_rating were dropped"),
    "users too short": (
        table("user,item\na,1\na,2\nb,1\n"),
        ["--k-core", 1],
        "leave-one-out needs users with at least 3 events (train, valid, test); the longest of 2 histories has 2",
    ),
    "times needed": (table("user,item\na,1\n"), ["--k-core", 1, "--split", "global-time"], "needs timestamps"),
    "bad bound": (table(GOOD), ["--k-core", 0], "--k-core is at least 1"),
    "a layout that is not there": (lambda folder: [folder], [], "has no layout known here"),
}


@pytest.mark.parametrize(("raw", "options", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_gives_one_message_exit_code_2_and_leaves_what_was_there(
    rec_data, raw_files, tmp_path, monkeypatch, raw, options, message
):
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "out"
    rec_data("prepare", raw_files.csv(), old, "--k-core", 1)
    whole = open_artifact(old, "dataset").hash
    (tmp_path / "raw").mkdir()
    words = raw(tmp_path / "raw")
    before = files_in(tmp_path)
    said = rec_data("prepare", *words, old, *options, "--overwrite")
    assert said.code == 2
    assert said.out == ""
    assert message in said.err
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err
    assert open_artifact(old, "dataset").hash == whole
    assert files_in(tmp_path) == before


def test_an_item_described_twice_stops_prepare(rec_data, tmp_path):
    (tmp_path / "log.csv").write_text(GOOD)
    (tmp_path / "items.csv").write_text("item,title\n1,One\n2,Two\n1,Uno\n")
    said = rec_data("prepare", tmp_path / "log.csv", tmp_path / "out", "--items-file", tmp_path / "items.csv")
    assert said.code == 2
    assert "items.csv, line 4: raw item key '1' occurs for the second time" in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--k-corr", "3"], ["--split", "leave-two-out"], ["--k-core", "few"]])
def test_a_misspelt_option_exits_with_2(rec_data, raw_files, tmp_path, words):
    said = rec_data("prepare", raw_files.csv(), tmp_path / "out", *words)
    assert said.code == 2
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_kept_unless_it_may_be_replaced(rec_data, raw_files, tmp_path):
    csv = raw_files.csv()
    rec_data("prepare", csv, tmp_path / "out", "--k-core", 1)
    said = rec_data("prepare", csv, tmp_path / "out", "--k-core", 2)
    assert said.code == 2
    assert "exists already; choose another output or pass --overwrite" in said.err
    assert rec_data("prepare", csv, tmp_path / "out", "--k-core", 2, "--overwrite").code == 0
    assert open_artifact(tmp_path / "out", "dataset").settings["k_core"] == 2


@pytest.mark.parametrize("command", ["stats", "inspect"])
def test_a_truncated_or_tampered_dataset_is_refused(rec_data, raw_files, tmp_path, command):
    rec_data("prepare", raw_files.csv(), tmp_path / "out", "--k-core", 1)
    items = tmp_path / "out" / "items.npy"
    whole = items.read_bytes()
    items.write_bytes(whole[:-1])
    said = rec_data(command, tmp_path / "out")
    assert said.code == 2
    assert "items.npy" in said.err
    items.write_bytes(whole[:-1] + b"\x01")
    said = rec_data(command, tmp_path / "out")
    assert said.code == 2
    assert "items.npy was changed after it was written" in said.err


@pytest.mark.skipif(os.name == "nt", reason="a limit on file sizes needs POSIX")
def test_a_full_disk_in_the_middle_of_the_write_leaves_no_half_dataset(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(50) for i in range(50)))
    code = """
import resource, signal, sys
from rec_data.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", code, "prepare", str(tmp_path / "log.csv"), str(tmp_path / "out"), "--k-core", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no space left to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(tmp_path) == {"log.csv"}


def test_help_answers_at_once_and_loads_no_tables():
    code = """
import sys
from rec_data.cli import main
try:
    main(["prepare", "--help"])
except SystemExit as stop:
    assert not stop.code
loaded = {"polars", "pyarrow", "numpy", "torch"} & set(sys.modules)
assert not loaded, loaded
"""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--k-core" in done.stdout
    assert time.perf_counter() - started < 5  # 0.3 s on an idle machine
