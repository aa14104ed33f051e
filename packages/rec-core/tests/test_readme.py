"""What the README shows runs, and its file list is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_quickstart_runs_and_finds_the_better_recommender(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    means = re.match(r"([\d.]+) against ([\d.]+), 95% interval \+([\d.]+)", capsys.readouterr().out)
    assert means is not None
    assert float(means[1]) > float(means[2])


def test_the_file_list_names_every_room() -> None:
    listed = set(re.findall(r"^(\w+(?:\.py|/)) ", blocks("text")[1], re.MULTILINE))
    source = Path(__file__).parents[1] / "src" / "rec_core"
    rooms = {path.name + ("/" if path.is_dir() else "") for path in source.iterdir() if not path.name.startswith("__")}
    assert listed == rooms - {"py.typed"}
