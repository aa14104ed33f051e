"""The commands and the code of the README run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rec_core.commands import main as rec_core
from rec_core.dataset import write_dataset
from rec_core.testing.datasets import planted_clusters
from rec_core.types import Dataset, IdMap, ItemCatalog, UserCatalog
from rec_srs.cli import main as rec_srs

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def succeed(main: Callable[[Sequence[str]], None], *words: str) -> None:
    """A command line ends by SystemExit; 0 or None is success."""
    try:
        main(words)
    except SystemExit as stopped:
        if stopped.code:
            raise


def test_the_quickstart_runs_on_data_with_such_titles_and_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = planted_clusters()
    titles = ["Toy Story (1995)", "Star Wars (1977)", *made.items.fields["title"][2:]]
    users = UserCatalog(IdMap(tuple(str(u) for u in range(len(made.users)))))
    write_dataset("runs/ml-100k", Dataset("toy", users, ItemCatalog(made.items.ids, {"title": titles}), made.split))
    lines = [shlex.split(line, comments=True) for line in blocks("bash")[0].strip().splitlines()]
    for program, *words in lines:
        if words[0] == "compare":
            succeed(rec_srs, "evaluate", "runs/sasrec")
        extra = ["--epochs", "2"] if {"sasrec", "gru4rec"} & set(words) else []
        succeed({"rec-srs": rec_srs, "rec-core": rec_core}[program], *words, *extra)
    printed = capsys.readouterr().out
    assert "after Toy Story (1995), Star Wars (1977)" in printed
    assert "runs/sasrec" in printed


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) <= 1


def test_the_file_list_names_every_module() -> None:
    listed = set(re.findall(r"^(\w+\.py) ", blocks("text")[0], re.MULTILINE))
    source = Path(sys.modules["rec_srs"].__file__ or "").parent
    assert listed == {file.name for file in source.rglob("*.py")} - {"__init__.py", "__main__.py"}
