"""The command a person types: what it answers, and what it says when the input is wrong."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
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
    "a layout that is not there": (lambda folder: [folder], [], "raw shows no layout: it holds nothing"),
    "a name of no file": (lambda folder: ["x" * 300], [], "File name too long: xxx"),
    "neither file nor directory": (lambda folder: [os.devnull], [], "is neither a file nor a directory"),
    "a codec that is no encoding": (table(GOOD), ["--encoding", "base64"], "--encoding 'base64' is not known"),
    "UTF-16": (table(GOOD.encode("utf-16")), [], "raw.csv is no text table but UTF-16; name its --encoding utf-16"),
    "a zip archive": (table(b"PK\x03\x04\x14\0\0"), [], "raw.csv is no text table but a zip archive; unpack it"),
    "decimal comma": (
        table(GOOD.replace(",4,", ',"3,5",', 1)),
        [],
        "raw.csv, line 2: rating '3,5' is no number; decimals are written with a point",
    ),
    "not the unit": (
        table(GOOD),
        ["--timestamp-unit", "iso"],
        "raw.csv, line 2: timestamp '0' is no ISO date or time (8 more rows like it)",
    ),
    "no header": (
        table("7,8,4,100\n" + GOOD.removeprefix(HEADER)),
        ["--user-column", "7"],
        "no known item column; it has: '7', '8', '4', '100'; name it with --item-column; "
        "if it has no header line, name all its columns with --column-names",
    ),
    "no header, and a number twice": (
        table(GOOD.removeprefix(HEADER)),
        [],
        "the header names column '0' twice; if that is no header, name the columns with --column-names",
    ),
    "no user": (table(GOOD), ["--user-column", "none"], "--user-column none cannot be: every row needs a user"),
    "one column twice": (
        table(GOOD),
        ["--user-column", "item"],
        "one column cannot be two things: 'item' is taken for user and item",
    ),
    "a name twice": (
        table(GOOD),
        ["--column-names", "user,item,item,timestamp"],
        "--column-names are different names with commas between them; got 'user,item,item,timestamp'",
    ),
    "not JSON lines": (table(GOOD), ["--format", "json-lines"], "raw.csv, line 1 is no JSON object"),
    "other layout's encoding": (table(GOOD), ["--format", "movielens", "--encoding", "cp1252"], "leave out --encoding"),
    "no keys at all": (
        table("user,item\n,1\n,2\n"),
        [],
        "of 2 lines 2 by missing_user were dropped; are they in the layout they were read in (--format)?",
    ),
    "no number as bound": (table(GOOD), ["--min-rating", "nan"], "--min-rating is an ordinary number; got nan"),
    "a name of two lines": (table(GOOD), ["--name", "a\nb"], "--name is a short text on one line; got 'a\\nb'"),
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


TWICE = {
    "a world": ("prepare", "{world}", "{world}"),
    "a file in it": ("prepare", "{world}/interactions.csv", "{world}"),
    "its table of items": ("prepare", "{log}", "{world}", "--items-file", "{world}/items.csv"),
    "the folder around a dataset": ("prepare", "{log}", "{out}", "--users-file", "{out}/users.parquet"),
    "an export of itself": ("export", "{out}", "{out}", "--format", "recbole"),
    "candidates of itself": ("candidates", "{out}", "{out}", "--negatives", "1"),
    "samples of itself": ("samples", "{out}", "{out}", "--label-above", "3"),
}


@pytest.mark.parametrize("words", TWICE.values(), ids=TWICE)
def test_no_output_replaces_what_it_is_made_from(rec_data, raw_files, tmp_path, words):
    places = {"world": tmp_path / "world", "out": tmp_path / "out", "log": raw_files.csv()}
    assert rec_data("synthesize", places["world"], "--users", 50, "--items", 60, "--interactions", 400).code == 0
    assert rec_data("prepare", places["log"], places["out"], "--k-core", 1).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = rec_data(*(word.format(**places) for word in words), "--overwrite")
    assert said.code == 2
    assert "which it is made from; choose another output" in said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_every_kind_of_artifact_is_described(rec_data, raw_files, tmp_path):
    world, out, log = tmp_path / "world", tmp_path / "out", raw_files.csv()
    rec_data("synthesize", world, "--users", 50, "--items", 60, "--interactions", 400)
    rec_data("prepare", log, out, "--k-core", 1)
    rec_data("export", out, tmp_path / "atomic", "--format", "recbole")
    rec_data("candidates", out, tmp_path / "lists", "--negatives", 1, "--short-lists", "keep")
    for path, what, known in (
        (world, "made-up world (raw files)", "lines"),
        (tmp_path / "atomic", "export of a prepared dataset (raw files)", "lines"),
        (tmp_path / "lists", "candidate lists", "counts"),
    ):
        about = json.loads(rec_data("inspect", path, "--json").out)
        assert (about["what"], about["name"]) == (what, path.name)
        assert about[known]
        assert about["sizes"]
        assert rec_data("inspect", path).code == 0
    assert list(json.loads(rec_data("inspect", tmp_path / "lists", "--json").out)["made_from"]) == ["dataset"]
    said = rec_data("stats", world, "--json")
    assert json.loads(said.out)["interactions"] == 400
    for path, command in ((out, "inspect"), (tmp_path / "lists", "inspect"), (out, "stats")):
        said = rec_data(command, path, "--user-column", "who")
        assert said.code == 2
        assert "options for reading raw files do not apply to it" in said.err
    said = rec_data("prepare", out, tmp_path / "again")
    assert said.code == 2
    assert "is a 'dataset' artifact and no raw data; rec-data inspect" in said.err


def test_options_of_another_split_and_a_split_that_is_not_taken_are_said(rec_data, raw_files, tmp_path, caplog):
    caplog.set_level("INFO")
    said = rec_data("prepare", raw_files.csv(), tmp_path / "out", "--k-core", 1, "--held-out", 2, "--min-history", 5)
    assert said.code == 0
    assert "--held-out says nothing about --split leave-one-out, and is not used" in caplog.text
    assert "--min-history" not in caplog.text  # its default
    (tmp_path / "cf").mkdir()
    for part in ("train", "test"):
        (tmp_path / "cf" / f"{part}.txt").write_text("".join(f"{u} {part == 'test':d}0 1 2\n" for u in range(4)))
    assert rec_data("prepare", tmp_path / "cf", tmp_path / "out2", "--k-core", 1).code == 0
    assert "the source states a split of its own, which --split given keeps; here it is leave-one-out" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["candidates", "--popularity-from", "all"], "--popularity-from all goes with --method popularity alone"),
        (["samples", "--label-above", 3, "--test-share", 0.2], "go with --parts users; the split has its own parts"),
        (["samples", "--label-above", "nan"], "--label-above is an ordinary number; got nan"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(rec_data, raw_files, tmp_path, words, message):
    rec_data("prepare", raw_files.csv(), tmp_path / "out", "--k-core", 1)
    said = rec_data(words[0], tmp_path / "out", tmp_path / "made", *words[1:])
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "made").exists()


def test_text_options_are_refused_for_parquet_and_json_lines(rec_data, tmp_path):
    log = pl.DataFrame({"user": ["a"] * 3, "item": ["1", "2", "3"]})
    log.write_parquet(tmp_path / "log.parquet")
    log.write_ndjson(tmp_path / "log.jsonl")
    for name, kind in (("log.parquet", "Parquet"), ("log.jsonl", "JSON lines")):
        assert rec_data("prepare", tmp_path / name, tmp_path / kind, "--k-core", 1).code == 0
        said = rec_data("prepare", tmp_path / name, tmp_path / "out", "--separator", ",", "--no-quotes")
        assert said.code == 2
        assert f"{name} is {kind}, which takes no --no-quotes and no --separator" in said.err
    said = rec_data("prepare", tmp_path / "log.parquet", tmp_path / "out", "--format", "json-lines")
    assert "log.parquet is Parquet, not JSON lines" in said.err


def test_fetch_looks_at_the_output_first_and_says_when_no_name_fits(rec_data, tmp_path, monkeypatch):
    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))
    said = rec_data("fetch", "ml-1m", "--output", tmp_path)
    assert said.code == 2
    assert said.err.startswith(f"error: {tmp_path} exists already; choose another directory for the files of ml-1m")
    said = rec_data("fetch", "--list", "no-such-thing")
    assert said.code == 2
    assert "no dataset has 'no-such-thing' in its name" in said.err
    said = rec_data("inspect", "zzzzzz")
    assert said.err == (
        "error: there is no file or directory zzzzzz, and no asset of that name (rec-data fetch --list shows all)\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes and /dev/full of POSIX")
def test_an_audit_that_nobody_reads_to_the_end_says_by_its_exit_code_whether_there_are_leaks(
    rec_data, raw_files, tmp_path
):
    rec_data("prepare", raw_files.csv(), tmp_path / "out", "--k-core", 1)
    command = f"{sys.executable} -m rec_data audit {tmp_path / 'out'}"
    for options, code in (("", 0), ("--max-tied-share 0", 1), ("--json", 0), ("--json --max-tied-share 0", 1)):
        script = f"{command} {options} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (code, ""), options
    done = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if Path("/dev/full").exists():
        done = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == "error: cannot write the answer: No space left on device\n"
