"""One message and exit code 2 for a user's mistake, a traceback only for ours; help without heavy imports."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from cyclopts import Parameter

from rec_core.artifacts import MANIFEST, create
from rec_core.cli import Progress, SettingsFile, make_app, option_in, run, use_settings_file
from rec_core.commands import app, main, print_comparison
from rec_core.dataset import write_dataset
from rec_core.errors import ArtifactError, DataError, MissingExtra, nearest, require
from rec_core.evaluation import Comparison, evaluate
from rec_core.runs import write_evaluation
from rec_core.testing import planted_clusters
from rec_core.testing.scorers import ScoreTable


@dataclass(frozen=True)
class Settings:
    epochs: int = 3
    learning_rate: float = 0.1


def exits(application, *words: str, **options) -> int:
    """The exit code of a command line, run in this process."""
    with pytest.raises(SystemExit) as stop:
        run(application, words, **options)
    return int(stop.value.code or 0)


def command(body, *words: str) -> int:
    """The exit code of an app whose one command does ``body``."""
    application = make_app("rec-core", "a test")
    application.command(body, name="do")
    return exits(application, "do", *words)


# mistakes


def test_a_mistake_of_the_user_is_one_message_and_exit_code_2(capsys):
    def wrong() -> None:
        raise DataError("ratings.csv, line 7: 'four' is not a number")

    assert command(wrong) == 2
    assert capsys.readouterr() == ("", "error: ratings.csv, line 7: 'four' is not a number\n")


def test_a_file_that_is_not_there_is_one_message_and_exit_code_2(capsys, tmp_path):
    def read() -> None:
        (tmp_path / "none.csv").read_text()

    assert command(read) == 2
    assert capsys.readouterr().err == f"error: No such file or directory: {tmp_path / 'none.csv'}\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    def bug() -> None:
        raise KeyError("emb")

    application = make_app("rec-core", "a test")
    application.command(bug, name="do")
    with pytest.raises(KeyError):
        run(application, ["do"])


def test_ctrl_c_exits_with_130_and_says_so(capsys):
    def wait() -> None:
        raise KeyboardInterrupt

    assert command(wait) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_ctrl_c_says_how_to_go_on_only_where_something_was_kept(capsys, tmp_path):
    def train(written: bool) -> None:
        with create(tmp_path / "run", "thing", resumable=True) as out:
            if written:
                (out.directory / "log.jsonl").write_text("one epoch")
            raise KeyboardInterrupt

    assert command(lambda: train(written=False)) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert command(lambda: train(written=True)) == 130
    assert capsys.readouterr().err == f"stopped; --resume goes on with {tmp_path / 'run.partial'}\n"


def test_an_unknown_option_or_command_exits_with_2_and_names_the_nearest(capsys):
    assert exits(app, "compare", "a", "b", "--metrik", "hr@10") == 2
    assert "Did you mean --metric?" in capsys.readouterr().err
    assert exits(app, "inspekt", "a") == 2
    assert 'Did you mean "inspect"?' in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["evaluate"], ["evaluate", "run", "--part", "train"], ["evaluate", "r", "--max-users", "x"]]
)
def test_missing_and_unfitting_arguments_exit_with_2_and_no_traceback(words, capsys):
    assert exits(app, *words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err


@pytest.mark.parametrize("given", ["3.5", "3.0", "-1.5"])
def test_a_fraction_is_not_rounded_where_a_whole_number_is_wanted(given, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    seen: list = []
    application, first = settings_app(seen)
    for _ in range(2):  # one process may run an app again
        assert exits(application, "train", "--epochs", given, before=first) == 2
        assert f'Invalid value for --epochs: unable to convert "{given}" into int' in capsys.readouterr().err
    assert exits(app, "evaluate", "run", "--max-users", given) == 2  # int | None
    assert exits(application, "train", "--learning-rate", "3.5", "--epochs", "3", before=first) == 0
    assert seen == [Settings(3, 3.5)]


@pytest.mark.parametrize("words", [["evaluate", "nowhere"], ["compare", "nowhere", "there"], ["inspect", "nowhere"]])
def test_a_run_that_is_not_there_is_one_message(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exits(app, *words) == 2
    assert capsys.readouterr().err == "error: there is nothing at nowhere\n"


def test_a_comparison_needs_two_runs(capsys):
    assert exits(app, "compare", "one") == 2
    assert "name at least two runs" in capsys.readouterr().err


# options that are read first, and files of options


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["train", "--model", "sasrec"], "sasrec"),
        (["train", "--model=sas=rec"], "sas=rec"),
        (["train", "--models", "x"], None),
        (["train", "--model"], None),
        (["train", "--", "--model", "x"], None),
        ([], None),
    ],
)
def test_an_option_is_found_before_the_command_line_is_parsed(words, value):
    assert option_in(words, "model") == value


def settings_app(seen: list):
    application = make_app("rec-core", "a test")

    @application.command
    def train(*, settings: Annotated[Settings, Parameter(name="*")] = Settings(), config: SettingsFile = None) -> None:
        seen.append(settings)

    def first(words) -> None:
        use_settings_file(application, words, "train", Settings)

    return application, first


def test_a_settings_file_changes_defaults_and_the_command_line_wins_over_it(tmp_path):
    (tmp_path / "run.toml").write_text("epochs = 7\nlearning-rate = 0.5")
    seen: list = []
    application, first = settings_app(seen)
    for words in (["train"], ["train", "--config", str(tmp_path / "run.toml")]):
        assert exits(application, *words, before=first) == 0
    assert exits(application, "train", "--epochs", "1", "--config", str(tmp_path / "run.toml"), before=first) == 0
    assert seen == [Settings(), Settings(7, 0.5), Settings(1, 0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 7", "unknown key 'epoch'; did you mean 'epochs'?"),
        ('epochs = "many"', "epochs is a whole number; got 'many'"),
        ("epochs = 2.5", "epochs is a whole number; got 2.5"),
    ],
)
def test_a_mistake_in_a_settings_file_exits_with_2_and_names_the_file(tmp_path, text, message, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    (tmp_path / "run.toml").write_text(text)
    application, first = settings_app([])
    assert exits(application, "train", "--config", str(tmp_path / "run.toml"), before=first) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "run.toml" in error


def test_a_comparison_over_one_user_has_no_detectable_effect_and_is_still_json(capsys):
    print_comparison(
        [Comparison("b", "a", "ndcg@10", 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 1.0, float("nan"), 1)], as_json=True
    )
    assert json.loads(capsys.readouterr().out)[0]["mde"] is None


def test_a_comparison_reads_the_part_it_is_asked_for(capsys, tmp_path):
    split = planted_clusters().split
    for seed, name in enumerate("ab"):
        scores = np.random.default_rng(seed).random((split.n_users, split.n_items))
        result = evaluate(ScoreTable(scores), split.held_out("valid"), train=split.train)
        write_evaluation(tmp_path / name, result, part="valid", seconds=0.0)
    runs = [str(tmp_path / name) for name in "ab"]
    assert exits(app, "compare", *runs) == 2
    assert "was not evaluated on test yet" in capsys.readouterr().err
    write_dataset(tmp_path / "ds", planted_clusters())
    assert exits(app, "compare", runs[0], str(tmp_path / "ds"), "--part", "valid") == 2
    assert "ds is a 'dataset' artifact, wanted 'recommender'" in capsys.readouterr().err
    assert exits(app, "compare", *runs, "--part", "valid", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["users"] == split.n_users
    assert exits(app, "compare", *runs, "--part", "train") == 2


def test_an_evaluation_that_finds_no_space_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    split = planted_clusters().split
    scores = np.random.default_rng(0).random((split.n_users, split.n_items))
    result = evaluate(ScoreTable(scores), split.held_out("test"), train=split.train)
    write_evaluation(tmp_path, result, part="test", seconds=1.0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    flushed: list[int] = []

    def flush(fd: int) -> None:
        flushed.append(fd)
        if len(flushed) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(ArtifactError, match="nothing there was changed"):
        write_evaluation(tmp_path, result, part="test", seconds=2.0)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


# inspect


@pytest.fixture
def dataset(tmp_path) -> Path:
    write_dataset(tmp_path / "ds", planted_clusters(), settings={"k_core": 5})
    return tmp_path / "ds"


def test_inspect_shows_what_an_artifact_is_and_that_it_is_whole(dataset, capsys):
    assert exits(app, "inspect", str(dataset)) == 0
    shown = capsys.readouterr().out
    assert f"{dataset}: dataset, whole" in " ".join(shown.split())  # the line is wrapped at the width of the terminal
    assert '"k_core": 5' in shown
    assert "items.npy" in shown


def test_inspect_breaks_long_settings_into_lines_of_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    settings = {"model": {f"option_{i}": i for i in range(20)}, "training": {"epochs": 3}}
    write_dataset(tmp_path / "ds", planted_clusters(), settings=settings)
    assert exits(app, "inspect", str(tmp_path / "ds")) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  settings:")
    assert lines[at + 1].startswith('    model: {"option_0": 0, "option_1": 1,')
    assert lines[at + 2].startswith("        ")
    assert '    training: {"epochs": 3}' in lines
    assert max(len(line) for line in lines[at:] if "hash" not in line) <= 80


def test_inspect_prints_the_manifest_for_machines(dataset, capsys):
    assert exits(app, "inspect", str(dataset), "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))


def test_inspect_of_a_tampered_artifact_is_one_message_and_exit_code_2(dataset, capsys):
    data = bytearray((dataset / "items.npy").read_bytes())
    data[-1] ^= 1
    (dataset / "items.npy").write_bytes(data)
    assert exits(app, "inspect", str(dataset)) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {dataset / 'items.npy'} was changed after it was written")
    assert output.err.count("\n") == 1


def test_a_run_of_a_method_that_is_not_installed_names_the_nearest(dataset, capsys):
    with create(dataset.with_name("run"), "recommender") as out:
        out.array("weights", np.zeros(2))
        out.describe(recommender="no-such-method")
    assert exits(app, "evaluate", str(dataset.with_name("run")), "--data", str(dataset)) == 2
    assert capsys.readouterr().err.startswith("error: ")


# as a process


def python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_help_and_version_answer_without_heavy_imports():
    code = """
import sys
from rec_core.commands import main
for words in (["--help"], ["evaluate", "--help"], ["--version"]):
    try:
        main(words)
    except SystemExit as stop:
        assert not stop.code
heavy = {"torch", "transformers", "polars", "pyarrow", "matplotlib", "scipy", "rich.progress"} & set(sys.modules)
assert not heavy, heavy
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "Usage: rec-core COMMAND" in done.stdout
    assert done.stderr == ""


def test_importing_the_package_loads_not_even_numpy():
    done = python("import sys, rec_core; print(*sys.modules)")
    assert not {"numpy", "torch", "transformers", "cyclopts"} & set(done.stdout.split())


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "rec_core", "inspect", "nowhere"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (2, "error: there is nothing at nowhere\n")


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS])
def test_a_refusal_of_the_file_system_is_one_message_and_another_error_of_it_keeps_its_traceback(code, capsys):
    app = make_app("rec-core", "")

    @app.command
    def fail(code: int) -> None:
        raise OSError(code, os.strerror(code), "some/file")

    with pytest.raises(SystemExit) as stop:
        run(app, ["fail", str(code)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {os.strerror(code)}: some/file\n"
    with pytest.raises(OSError, match="some/file"):
        run(app, ["fail", str(errno.EIO)])


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [(">&-", 0, ""), ("> /dev/full", 2, "error: cannot write the answer: No space left on device\n")],
)
def test_an_answer_that_nobody_can_read_gives_no_traceback(redirection, code, said):
    if "full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m rec_core --version {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_who_leaves_early_is_no_error(lines):
    code = """
import sys
from rec_core.cli import make_app, run
app = make_app("rec-core", "")
@app.command
def talk(lines: int):
    sys.stdin.readline()
    for _ in range(lines):
        print("a line of output")
run(app)
"""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code, "talk", str(lines)], **streams)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 0
    process.stderr.close()


def test_main_takes_its_words_from_the_command_line_unless_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rec-core", "inspect", "nowhere"])
    for words in (None, ["inspect", "nowhere"]):
        with pytest.raises(SystemExit):
            main(words)
    assert capsys.readouterr().err == 2 * "error: there is nothing at nowhere\n"


# progress and errors


def test_progress_off_a_terminal_is_plain_log_lines(caplog):
    caplog.set_level("INFO", "rec")
    with Progress("train", every=0.0) as progress:
        progress.start(10)
        progress.advance(3, {"loss": 0.25})
        progress.message("epoch 1: ndcg@10 0.1")
        progress.finish()
    assert [record.message for record in caplog.records] == [
        "train: 3 of at most 10, loss 0.25",
        "train: epoch 1: ndcg@10 0.1",
    ]


def test_progress_is_silent_for_a_while_after_it_said_something(caplog):
    caplog.set_level("INFO", "rec")
    with Progress("train", every=1000.0) as progress:
        progress.start(10)
        for _ in range(10):
            progress.advance()
    assert not caplog.records


def test_progress_on_a_terminal_says_messages_above_a_bar_that_stays():
    script = (
        "import sys, time; from rec_core.cli import Progress\n"
        "with Progress('tune') as progress:\n"
        "    progress.start(4); progress.advance(3); progress.message('trial 2: ' + 'option, ' * 15); time.sleep(0.3)\n"
    )
    ours, theirs = os.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with subprocess.Popen([sys.executable, "-c", script], stderr=theirs, env=environment) as process:
            assert process.wait(60) == 0
        os.close(theirs)
        shown = terminal.read(100_000).decode()
    said, _, after = shown.partition("tune: trial 2: " + "option, " * 15)
    assert "3/4" in after, shown  # the bar is drawn again below the whole line
    assert "trial 2" not in said


@pytest.mark.parametrize(
    ("name", "level", "heard"), [("torch.caches", "INFO", 0), ("torch", "WARNING", 1), ("rec", "INFO", 1)]
)
def test_what_other_packages_tell_is_heard_from_a_warning_on(name, level, heard):
    script = (
        "import logging; from rec_core.cli import make_app, run\n"
        "app = make_app('rec-core', 'none')\n"
        f"app.default(lambda: logging.getLogger({name!r}).log(logging.{level}, 'counted'))\n"
        "run(app, [])\n"
    )
    found = python(script)
    assert found.stderr.count("counted") == heard


@pytest.mark.parametrize("ours", [True, False])
def test_a_word_that_is_no_option_is_told_by_the_process_whose_turn_it_is(ours, capsys, monkeypatch):
    monkeypatch.setattr("rec_core.cli.speaks", lambda message: ours)
    assert exits(app, "compare", "a", "b", "--metrik", "hr@10") == 2
    assert ("Unknown option: --metrik" in capsys.readouterr().err) is ours


def test_the_nearest_name_is_offered_else_what_there_is():
    assert nearest("sasrek", ["popular", "sasrec"]) == "; did you mean 'sasrec'?"
    assert nearest("SASREC", ["popular", "sasrec"]) == "; did you mean 'sasrec'?"
    assert nearest("x", ["popular", "ease"]) == "; there is: popular, ease"
    assert nearest("x", []) == "; there is none"
    assert nearest("zzz", map(str, range(30))).endswith("18, 19, ...")


def test_a_module_of_an_extra_that_is_missing_says_what_to_install():
    assert require("json", "train").__name__ == "json"
    with pytest.raises(
        MissingExtra, match=r"no_such_module is needed here; install it with: pip install 'rec-core\[tr"
    ):
        require("no_such_module", "train")


def test_an_installed_but_broken_module_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("broken_module", "train")
