"""An artifact is whole or not there, whatever happens while it is written, and a changed one is never read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from rec_core import artifacts
from rec_core.artifacts import (
    MANIFEST,
    Input,
    Writer,
    check_output,
    create,
    open_artifact,
    to_json,
    write_atomically,
    write_together,
)
from rec_core.errors import ArtifactError
from rec_core.locks import lock

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals and limits")


@dataclass(frozen=True)
class Settings:
    dim: int = 8
    rates: tuple[float, ...] = (0.1, 0.2)
    where: Path = Path("a/b")
    names: frozenset[str] = field(default=frozenset({"z", "a"}))


STEPS: list[Callable[[Writer], None]] = [
    lambda out: out.array("vectors", np.arange(12, dtype=np.float32).reshape(3, 4)),
    lambda out: out.table("items", {"key": ["a", "b"], "title": ["Ä", None], "n": np.array([1, 2])}),
    lambda out: out.tensors("weights", {"w": np.ones((2, 3), np.float32)}),
    lambda out: out.json("vocabulary", {"<a_1>": 7}),
    lambda out: out.describe(counts={"items": 2}),
]
PAYLOAD = ["items.parquet", "vectors.npy", "vocabulary.json", "weights.safetensors"]


def write(path: Path, kind: str = "thing", first: int = 0, **options) -> None:
    """A small artifact of every format; ``first`` tells one version from another."""
    with create(path, kind, **options) as out:
        for step in STEPS:
            step(out)
        out.array("version", np.array([first]))


def version(path: Path) -> int:
    return int(open_artifact(path).array("version")[0])


def beside(path: Path) -> list[str]:
    """What lies in the directory of a target."""
    return sorted(file.name for file in path.parent.iterdir())


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "runs" / "x"


# what is written comes back


def test_every_format_comes_back(target):
    write(target, settings=Settings(), seed=3)
    read = open_artifact(target, "thing")
    assert read.array("vectors").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert isinstance(read.array("vectors"), np.memmap)
    assert not isinstance(read.array("vectors", mmap=False), np.memmap)
    assert read.table("items") == {"key": ["a", "b"], "title": ["Ä", None], "n": [1, 2]}
    assert read.tensors("weights")["w"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert read.json("vocabulary") == {"<a_1>": 7}
    assert read.has("items.parquet")
    assert not read.has("items")


def test_the_manifest_tells_kind_schema_seed_full_settings_and_what_was_described(target):
    write(target, settings=Settings(), seed=3)
    manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["kind"] == open_artifact(target).kind == "thing"
    assert manifest["schema"] == artifacts.SCHEMA_VERSION
    assert manifest["seed"] == 3
    assert manifest["settings"] == {"dim": 8, "rates": [0.1, 0.2], "where": "a/b", "names": ["a", "z"]}
    assert manifest["counts"] == {"items": 2}
    assert sorted(manifest["payload"]) == sorted([*PAYLOAD, "version.npy"])
    assert manifest["payload"]["vectors.npy"]["bytes"] == (target / "vectors.npy").stat().st_size


def test_torch_tensors_come_back_with_their_dtype_and_tied_ones_once_per_name(target):
    torch = pytest.importorskip("torch")
    tied = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    with create(target, "weights") as out:
        out.torch_tensors("weights", {"a": tied, "b": tied, "turned": tied.T})
    read = open_artifact(target).torch_tensors("weights")
    assert all(torch.equal(read[name], wanted) for name, wanted in {"a": tied, "b": tied, "turned": tied.T}.items())


def test_empty_arrays_tables_and_columns_of_nothing_come_back(target):
    with create(target, "empty") as out:
        out.array("none", np.empty((0, 3), np.int32))
        out.table("nobody", {"key": []})
        out.table("nameless", {"title": [None, None]})
    read = open_artifact(target)
    assert read.array("none").shape == (0, 3)
    assert read.table("nobody") == {"key": []}
    assert read.table("nameless") == {"title": [None, None]}


def test_equal_payload_has_an_equal_hash_whatever_the_settings_and_the_place(target):
    write(target, seed=1)
    write(target.with_name("y"), seed=2)
    write(target.with_name("z"), seed=1, first=1)
    x, y, z = (open_artifact(target.with_name(name)).hash for name in "xyz")
    assert x == y != z


def test_pickles_are_neither_written_nor_read(target):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"), create(target, "thing") as out:
        out.array("objects", np.array([{}], object))
    assert not target.exists()


def test_asking_for_a_file_that_is_not_payload_lists_what_is_there(target):
    write(target)
    with pytest.raises(ArtifactError, match=r"x \(thing\) holds no vector\.npy; it holds items\.parquet, vectors\.npy"):
        open_artifact(target).array("vector")


def test_a_name_is_used_once_and_neither_manifest_nor_side_files_are_payload(target):
    messages = {"twice": r"twice\.json was written twice", "metrics": "not payload", "manifest": "not payload"}
    for name, message in messages.items():
        with create(target, "thing", overwrite=True) as out:
            out.json("twice", 1)
            with pytest.raises(ValueError, match=message):
                out.json(name, 2)
    with pytest.raises(ValueError, match="'hash' is an entry that every manifest has"):
        Writer(target, target).describe(hash="mine")


# whole or not there


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("stop", range(len(STEPS) + 1))
def test_an_error_at_any_point_leaves_nothing(target, stop, error):
    with pytest.raises(error), create(target, "thing") as out:  # noqa: PT012
        for step in STEPS[:stop]:
            step(out)
        raise error
    assert beside(target) == []


def test_settings_that_json_cannot_hold_leave_nothing_and_are_named(target):
    for value in (float("nan"), np.float32("inf")):
        with pytest.raises(ValueError, match=r"rate is (nan|inf), which JSON cannot hold; write None"):
            write(target, settings={"model": [{"rate": value}]})
    assert beside(target) == []


def test_a_reader_sees_nothing_until_the_block_has_ended(target):
    with create(target, "thing") as out:
        out.array("vectors", np.zeros(3))
        with pytest.raises(ArtifactError, match="there is nothing at"):
            open_artifact(target)
    assert open_artifact(target).has("vectors.npy")
    assert beside(target) == ["x"]


def test_every_file_and_the_directory_are_flushed_before_the_rename(target, monkeypatch):
    events: list[str] = []
    flush, rename = artifacts.flush_to_disk, Path.rename
    monkeypatch.setattr(artifacts, "flush_to_disk", lambda path: (events.append(path.name), flush(path)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    write(target)
    before = events[: events.index("rename")]
    assert {*PAYLOAD, "version.npy", MANIFEST} < set(before)
    assert before[-1].endswith(".tmp")  # the directory itself
    assert events[-1] == "runs"


# a changed artifact is never read


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize("name", PAYLOAD)
@pytest.mark.parametrize("harm", [truncated, emptied, flipped, longer, Path.unlink])
def test_a_payload_file_that_was_harmed_is_refused_by_name(target, name, harm):
    write(target)
    harm(target / name)
    with pytest.raises(ArtifactError, match=rf"(is not whole: {name}|{name} was changed)"):
        open_artifact(target)


def test_without_verification_sizes_are_compared_alone(target):
    write(target)
    flipped(target / "vectors.npy")
    assert open_artifact(target, verify=False).kind == "thing"
    truncated(target / "vectors.npy")
    with pytest.raises(ArtifactError, match=r"vectors\.npy has 175 bytes, wanted 176"):
        open_artifact(target, verify=False)


def test_a_flipped_bit_in_the_manifest_is_refused_or_changes_no_meaning(target):
    write(target, settings=Settings(), seed=3)
    whole = (target / MANIFEST).read_bytes()
    meaning = json.loads(whole)
    for at in range(0, len(whole), 3):
        (target / MANIFEST).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            read = open_artifact(target, verify=False)
        except ArtifactError:
            continue
        assert dict(read.manifest) == meaning  # white space became other white space


@pytest.mark.parametrize("text", ["", "not JSON", "[1, 2]", "3", "null", "{}", '{"schema": 1}', "\xff"])
def test_a_manifest_that_is_none_is_refused(target, text):
    write(target)
    (target / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged or was changed; make the artifact again"):
        open_artifact(target)


def test_a_manifest_cut_anywhere_is_refused(target):
    write(target)
    whole = (target / MANIFEST).read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        (target / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match="damaged"):
            open_artifact(target)


@pytest.mark.parametrize("entry", ["kind", "seed", "settings", "inputs", "hash", "payload", "counts", "created"])
def test_every_entry_of_the_manifest_is_under_its_hash(target, entry):
    write(target)
    manifest = json.loads((target / MANIFEST).read_text())
    manifest[entry] = "other"
    (target / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="damaged or was changed"):
        open_artifact(target)


@pytest.mark.parametrize(
    ("schema", "advice"),
    [(artifacts.SCHEMA_VERSION + 1, "Upgrade rec-core"), (0, "Make it again"), ("1", "Make it again")],
)
def test_another_schema_version_is_named_with_what_to_do(target, schema, advice):
    write(target)
    (target / MANIFEST).write_text(json.dumps({"schema": schema, "of": "another layout"}))
    with pytest.raises(ArtifactError, match=f"x has schema version {schema}; this release reads 1. {advice}"):
        open_artifact(target)


def test_another_kind_is_refused(target):
    write(target)
    with pytest.raises(ArtifactError, match="x is a 'thing' artifact, wanted 'dataset'"):
        open_artifact(target, "dataset")


def test_what_is_no_artifact_is_told_from_what_is_not_there(target):
    target.mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"x is not an artifact: it has no manifest\.json"):
        open_artifact(target)
    with pytest.raises(ArtifactError, match=r"there is nothing at .*y$"):
        open_artifact(target.with_name("y"))


def test_side_files_may_come_and_change(target):
    write(target)
    before = open_artifact(target).hash
    write_atomically(target / "metrics.json", b"{}")
    (target / "checkpoints").mkdir()
    (target / "checkpoints" / "best").write_text("...")
    write_atomically(target / "metrics.json", b'{"ndcg@10": 0.2}')
    assert open_artifact(target).hash == before


# outputs that exist


def test_an_existing_output_is_refused_before_and_without_touching_it(target):
    write(target, first=1)
    for ask in (lambda: check_output(target), lambda: write(target, first=2)):
        with pytest.raises(ArtifactError, match=r"x exists already; choose another output or pass --overwrite"):
            ask()
    assert version(target) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_artifacts_are_ever_replaced(target, overwrite):
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("the only copy")
    with pytest.raises(ArtifactError, match="exists and is not an artifact, so it is not replaced"):
        write(target, overwrite=overwrite)
    assert (target / "thesis.txt").read_text() == "the only copy"


@pytest.mark.parametrize("inside", ["", "version.npy"])
def test_an_output_never_replaces_what_it_is_made_from(target, inside):
    write(target, first=1)
    source = Input("raw", target / inside, "0" * 64)
    with (
        pytest.raises(ArtifactError, match=r"x would replace .*x.*, which it is made from; choose another output"),
        create(target, "numbers", inputs=[source], overwrite=True),
    ):
        pytest.fail("the block was entered")
    assert version(target) == 1
    check_output(target, overwrite=True, made_from=[target.parent, target.with_name("gone")])  # around it, and nothing


@pytest.mark.parametrize("output", [".", "/", "runs/.."])
def test_an_output_without_a_name_of_its_own_is_refused(output):
    with pytest.raises(ArtifactError, match="an output needs a name of its own"):
        check_output(output)


def test_the_old_one_stays_until_the_new_one_is_whole(target):
    write(target, first=1)
    with create(target, "thing", overwrite=True) as out:
        out.array("version", np.array([2]))
        assert version(target) == 1
    assert version(target) == 2
    assert beside(target) == ["x"]


def test_the_old_one_stays_when_the_block_raises(target):
    write(target, first=1)
    with pytest.raises(RuntimeError), create(target, "thing", overwrite=True) as out:  # noqa: PT012
        out.array("version", np.array([2]))
        raise RuntimeError
    assert version(target) == 1
    assert beside(target) == ["x"]


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_the_old_one_stays_when_a_rename_fails(target, monkeypatch, failing, error):
    write(target, first=1)
    calls, rename = [], Path.rename

    def rename_or_fail(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == failing:
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", rename_or_fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ArtifactError
    with pytest.raises(expected) as caught:
        write(target, first=2, overwrite=True)
    if expected is ArtifactError:
        assert str(caught.value).endswith("x: Permission denied; nothing there was changed")
    assert version(target) == 1
    assert beside(target) == ["x"]


def test_a_file_in_the_way_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ArtifactError, match=r"cannot write .*runs/x: (File exists|Not a directory)"):
        write(tmp_path / "runs" / "x")


# runs that can be resumed


@contextmanager
def interrupted(target: Path, **options) -> Iterator[Writer]:
    with suppress(RuntimeError), create(target, "run", resumable=True, **options) as out:
        yield out
        raise RuntimeError("power cut")


def test_an_unfinished_run_lies_beside_its_target_and_is_taken_up_again(target):
    with interrupted(target) as out:
        (out.directory / "checkpoints").mkdir()
        (out.directory / "checkpoints" / "3").write_text("step 3")
    assert beside(target) == ["x.partial"]
    with pytest.raises(
        ArtifactError, match=r"nothing at .*x \(an unfinished run lies at .*x\.partial: --resume finish"
    ):
        open_artifact(target)
    with pytest.raises(ArtifactError, match=r"unfinished run lies at .*x\.partial; --resume goes on with it, --overwr"):
        check_output(target)
    with create(target, "run", resumable=True, resume=True) as out:
        assert (out.directory / "checkpoints" / "3").read_text() == "step 3"
        out.array("version", np.array([1]))
    assert version(target) == 1
    assert (target / "checkpoints" / "3").exists()
    assert beside(target) == ["x"]


def test_overwriting_an_unfinished_run_starts_anew(target):
    with interrupted(target) as out:
        (out.directory / "log.jsonl").write_text("old")
    with create(target, "run", resumable=True, overwrite=True) as out:
        assert not list(out.directory.iterdir())
    assert beside(target) == ["x"]


def test_an_unfinished_run_with_nothing_in_it_does_not_stay(target):
    with interrupted(target):
        pass
    assert beside(target) == []


def test_a_full_disk_that_was_explained_further_in_is_explained_once(target):
    said = "no space left to write checkpoints/3 (os error 28)"
    with pytest.raises(ArtifactError) as error, create(target, "run", resumable=True):
        raise ArtifactError(said)
    assert str(error.value) == said


def test_another_method_that_overwrites_takes_the_unfinished_run_away_too(target):
    with interrupted(target) as out:
        (out.directory / "log.jsonl").write_text("old")
    write(target, overwrite=True, first=5)
    assert version(target) == 5
    assert beside(target) == ["x"]


def test_an_interrupted_overwrite_can_be_resumed_and_the_old_run_stays_until_then(target):
    write(target, first=1)
    with interrupted(target, overwrite=True) as out:
        (out.directory / "log.jsonl").write_text("old")
    assert version(target) == 1
    assert beside(target) == ["x", "x.partial"]
    with create(target, "run", resumable=True, resume=True) as out:
        out.array("version", np.array([2]))
        assert version(target) == 1
    assert version(target) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, r"there is no unfinished run at .*x\.partial to resume"),
        ({"resume": True, "overwrite": True}, "choose one"),
    ],
)
def test_resuming_needs_something_to_resume(target, options, message):
    with pytest.raises(ArtifactError, match=message):
        check_output(target, **options)


def test_a_whole_run_is_not_resumed(target):
    write(target)
    with pytest.raises(ArtifactError, match="x is already whole: there is nothing to resume"):
        check_output(target, resume=True)


def test_what_cannot_be_resumed_says_so_to_its_programmer(target):
    with pytest.raises(ValueError, match="only a resumable artifact can be resumed"):
        write(target, resume=True)


# other processes

WRITE = """
import sys, time
import numpy as np
from rec_core.artifacts import create
from rec_core.errors import ArtifactError
path, *options = sys.argv[1:]
try:
    with create(path, "thing", **{name: True for name in options}) as out:
        out.array("vectors", np.zeros(1000))
        print("writing", flush=True)
        sys.stdin.readline()
        out.array("version", np.array([2]))
except ArtifactError as error:
    sys.exit(str(error))
"""


@contextmanager
def another_writer(target: Path, *options: str) -> Iterator[subprocess.Popen]:
    """A process in the middle of writing ``target``; it goes on when its standard input is closed."""
    command = [sys.executable, "-c", WRITE, str(target), *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "writing\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("options", "mine"), [((), {}), (("resumable",), {"resumable": True, "resume": True})])
def test_two_writers_of_one_path_exclude_each_other(target, options, mine):
    with another_writer(target, *options) as process:
        with pytest.raises(
            ArtifactError, match=r"another process is writing .*x; wait for it or choose another output"
        ):
            write(target, **mine)
        _, errors = process.communicate(timeout=30)  # closes its input, so it goes on
        assert (process.returncode, errors) == (0, "")
    assert version(target) == 2
    assert beside(target) == ["x"]


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_an_output_that_is_being_written_is_told_from_an_unfinished_run(target, options):
    with another_writer(target, "resumable") as process:
        (target.with_name("x.partial") / "log.jsonl").write_text("one epoch")
        for ask in (lambda: check_output(target, **options), lambda: write(target, resumable=True, **options)):
            with pytest.raises(ArtifactError, match=r"another process is writing .*x; wait for it or choose another"):
                ask()
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
    with pytest.raises(ArtifactError, match="an unfinished run lies at"):
        check_output(target)
    assert beside(target) == [".x.lock", "x.partial"]  # to look is not to touch


def test_looking_whether_an_output_is_free_never_keeps_a_writer_out(target, monkeypatch):
    (target.parent).mkdir()
    looking = os.open(target.with_name(".x.lock"), os.O_RDWR | os.O_CREAT)
    assert lock(looking)
    monkeypatch.setattr(artifacts, "check_output", lambda *args, **options: None)
    threading.Timer(artifacts._PROBE / 4, os.close, [looking]).start()
    write(target, first=1)
    assert version(target) == 1


def test_of_many_writers_at_once_one_wins_and_the_others_are_told(target):
    target.parent.mkdir()
    command = [sys.executable, "-c", WRITE, str(target)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **streams) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1]
    assert all("another process is writing" in error or "exists already" in error for error in errors if error)
    assert version(target) == 2
    assert beside(target) == ["x"]


def test_paths_whose_names_begin_alike_do_not_disturb_each_other(target):
    with another_writer(target.with_name("x.abcdefgh")) as process:
        write(target)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert beside(target) == ["x", "x.abcdefgh"]


@posix
def test_a_writer_killed_in_the_middle_leaves_nothing_readable_and_the_next_one_clears_up(target):
    with another_writer(target) as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    with pytest.raises(ArtifactError, match="there is nothing at"):
        open_artifact(target)
    leftovers = [path for path in target.parent.iterdir() if path.is_dir()]
    assert leftovers
    for path in leftovers:
        with pytest.raises(ArtifactError, match="is not an artifact"):
            open_artifact(path)
    write(target, first=3)
    assert version(target) == 3
    assert beside(target) == ["x"]


@posix
@pytest.mark.parametrize("options", [("overwrite",), ("overwrite", "resumable")])
def test_a_writer_killed_in_the_middle_leaves_the_old_artifact_as_it_was(target, options):
    write(target, first=1)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    with another_writer(target, *options) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    write(target, first=2, overwrite=True)
    assert version(target) == 2
    assert beside(target) == ["x"]


@posix
def test_a_writer_killed_between_the_two_renames_loses_nothing(target):
    write(target, first=1)
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from rec_core.artifacts import create
rename = Path.rename
def last_rename(self, to):
    rename(self, to)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = last_rename
with create(sys.argv[1], "thing", overwrite=True) as out:
    out.array("version", np.array([2]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(target)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(
        ArtifactError, match=r"nothing at .*x \(its replacement was interrupted: rename .*\.x\.old to get"
    ):
        open_artifact(target)
    with pytest.raises(ArtifactError, match="exists already"):  # the next writer brings it back
        write(target, first=3)
    assert version(target) == 1
    assert beside(target) == ["x"]


def test_where_a_file_system_has_no_locks_artifacts_are_written_all_the_same(target, monkeypatch):
    monkeypatch.setattr(artifacts, "lock", lambda fd, wait=0.0: False)
    target.parent.mkdir()
    other = target.parent / ".x.abcd1234.tmp"  # perhaps of a living writer: nobody can tell
    other.mkdir()
    write(target, first=1)
    write(target, first=2, overwrite=True)
    assert version(target) == 2
    assert beside(target) == [other.name, "x"]


FULL_DISK = """
import resource, sys
import numpy as np
from rec_core.artifacts import create, write_atomically
from rec_core.cli import make_app, run
app = make_app("rec-core", "")
big = np.random.default_rng(0).random(50_000)

@app.command
def write(path: str, form: str):
    if form == "one file":
        write_atomically(__import__("pathlib").Path(path) / "metrics.json", bytes(200_000))
    with create(path, "thing", overwrite=True) as out:
        out.array("version", np.array([2]))
        if form == "array":
            out.array("big", big)
        elif form == "table":
            out.table("big", {"x": big})
        elif form == "tensors":
            out.tensors("big", {"x": big})
        elif form == "torch tensors":
            import torch
            out.torch_tensors("big", {"x": torch.from_numpy(big)})
        elif form == "json":
            out.json("big", big.tolist())
        elif form == "log":
            with open(out.directory / "log.jsonl", "w") as log:
                log.write("x" * 200_000)

resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
run(app)
"""


@posix
@pytest.mark.parametrize("form", ["array", "table", "tensors", "torch tensors", "json", "log", "one file"])
def test_a_full_disk_is_one_message_and_leaves_the_old_artifact(target, form):
    if form == "torch tensors":
        pytest.importorskip("torch")
    write(target, first=1)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    command = [sys.executable, "-c", FULL_DISK, "write", str(target), form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: no space left to write {target}")
    assert "nothing there was changed. Free some space or choose another output" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    assert beside(target) == ["x"]


# inputs


@pytest.fixture
def made_from(tmp_path) -> Path:
    """runs/derived, made from data/ds."""
    write(tmp_path / "data" / "ds", "dataset", first=1)
    write(tmp_path / "runs" / "derived", "run", inputs=[open_artifact(tmp_path / "data" / "ds").as_input("dataset")])
    return tmp_path / "runs" / "derived"


def test_inputs_are_recorded_by_role_relative_path_and_hash(made_from):
    ds = open_artifact(made_from.parents[1] / "data" / "ds")
    recorded = {"role": "dataset", "path": "../../data/ds", "hash": ds.hash}
    assert json.loads((made_from / MANIFEST).read_text())["inputs"] == [recorded]


def test_an_input_is_found_from_any_working_directory_and_after_a_move_of_both(made_from, monkeypatch, tmp_path):
    monkeypatch.chdir(made_from.parent)
    assert open_artifact("derived").open_input("dataset", kind="dataset").hash
    monkeypatch.chdir("/")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "data").rename(moved / "data")
    (tmp_path / "runs").rename(moved / "runs")
    found = open_artifact(moved / "runs" / "derived").open_input("dataset")
    assert found.path == moved / "data" / "ds"


def test_an_input_that_moved_alone_is_named_and_can_be_shown(made_from):
    ds = made_from.parents[1] / "data" / "ds"
    ds.rename(ds.with_name("elsewhere"))
    with pytest.raises(ArtifactError, match=r"the dataset of .*derived was at .*ds and is gone; name it with --data"):
        open_artifact(made_from).open_input("dataset")
    assert open_artifact(made_from).open_input("dataset", ds.with_name("elsewhere")).kind == "dataset"


def test_an_input_with_another_hash_is_refused_wherever_it_lies(made_from):
    ds = made_from.parents[1] / "data" / "ds"
    write(ds, "dataset", first=2, overwrite=True)
    for override in (None, ds):
        with pytest.raises(ArtifactError, match="numbers of the two must not be mixed"):
            open_artifact(made_from).open_input("dataset", override)


def test_an_input_of_another_kind_or_role_is_refused(made_from):
    run = open_artifact(made_from)
    with pytest.raises(ArtifactError, match="wanted 'embeddings'"):
        run.open_input("dataset", kind="embeddings")
    with pytest.raises(ArtifactError, match=r"derived \(run\) records no input with the role 'embeddings'"):
        run.open_input("embeddings")


# single files


def test_one_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    file = tmp_path / "new" / "metrics.json"
    write_atomically(file, b"old")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(
        ArtifactError, match=r"cannot write .*metrics\.json: Permission denied; nothing there was changed"
    ):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert beside(file) == ["metrics.json"]


TOGETHER = ("per_user.parquet", "evaluation.json", "metrics.json")


def replace_or_fail(failing: int) -> Callable[[str, Path], None]:
    calls, replace = [], os.replace

    def one(source: str, to: Path) -> None:
        calls.append(to)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied")
        replace(source, to)

    return one


@pytest.mark.parametrize(
    ("failing", "state"),
    [
        (1, "nothing there was changed"),
        (2, r"per_user\.parquet there is new"),
        (3, r"per_user\.parquet and evaluation\.json there are new"),
    ],
)
def test_of_files_that_belong_together_the_message_says_which_are_new(tmp_path, monkeypatch, failing, state):
    write_together(tmp_path / "run", dict.fromkeys(TOGETHER, b"old"))
    monkeypatch.setattr(os, "replace", replace_or_fail(failing))
    name = TOGETHER[failing - 1]
    with pytest.raises(ArtifactError, match=rf"^cannot write .*run/{name}: Permission denied; {state}$"):
        write_together(tmp_path / "run", dict.fromkeys(TOGETHER, b"new"))
    found = [(tmp_path / "run" / name).read_bytes() for name in TOGETHER]
    assert found == [b"new"] * (failing - 1) + [b"old"] * (4 - failing)
    assert beside(tmp_path / "run" / name) == sorted(TOGETHER)


@pytest.mark.parametrize("full", [1, 2, 3])
def test_a_full_disk_leaves_all_files_that_belong_together(tmp_path, monkeypatch, full):
    write_together(tmp_path, dict.fromkeys(TOGETHER, b"old"))
    flushed: list[int] = []

    def flush(fd: int) -> None:
        flushed.append(fd)
        if len(flushed) == full:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(ArtifactError, match=r"no space left to write .*; nothing there was changed\. Free"):
        write_together(tmp_path, dict.fromkeys(TOGETHER, b"new"))
    assert [(tmp_path / name).read_bytes() for name in TOGETHER] == [b"old"] * 3
    assert beside(tmp_path / "any") == sorted(TOGETHER)


def test_json_keeps_every_digit_and_every_letter():
    value = {"a": 0.1 + 0.2, "é": [np.int64(3), np.float32(0.5), None, True, Path("x/y")]}
    assert json.loads(to_json(value)) == {"a": 0.1 + 0.2, "é": [3, 0.5, None, True, "x/y"]}
    assert "é" in to_json(value)
    assert to_json(value).endswith("\n")


def test_opening_a_small_artifact_is_quick(target):
    write(target)
    started = time.perf_counter()
    for _ in range(20):
        open_artifact(target)
    assert time.perf_counter() - started < 2


def test_a_file_of_another_form_is_payload_like_every_other(tmp_path: Path) -> None:
    with create(tmp_path / "a", "study") as out:
        out.file("notes.txt").write_text("so it went\n")
        with pytest.raises(ValueError, match="written twice"):
            out.file("notes.txt")
        with pytest.raises(ValueError, match="not payload"):
            out.file("log.jsonl")
    (tmp_path / "a" / "notes.txt").write_text("so it wint\n")
    with pytest.raises(ArtifactError, match=r"notes\.txt was changed after it was written"):
        open_artifact(tmp_path / "a")
