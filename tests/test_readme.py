"""What the top README says is true: its links lead somewhere, its table names every package, its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_leads_to_a_file_or_a_folder() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_table_names_every_package() -> None:
    listed = set(re.findall(r"^\| \[(rec-[a-z-]+)\]", README, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "packages").iterdir() if path.is_dir()}


def test_the_figures_are_those_that_were_measured() -> None:
    results = (ROOT / "tools" / "reproduce" / "RESULTS.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\*\*(0\.\d{4})\*\* ± (0\.\d{4})", README)
    assert len(quoted) == 3
    assert all(f"**{mean}** ± {spread}" in results for mean, spread in quoted)


def test_the_commands_for_data_of_ones_own_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = ["an item's key or title", "the next one", *(f"thing {i}" for i in range(8))]
    rows = [f"user {u},{names[(u + day) % 10]},2020-01-{day + 1:02d}" for u in range(30) for day in range(6)]
    (tmp_path / "views.csv").write_text("who,what,when\n" + "\n".join(rows) + "\n")
    block = re.search(r"## Your own data\n\n```bash\n(.*?)```", README, re.DOTALL)
    assert block is not None
    for line in block[1].strip().splitlines():
        program, *words = shlex.split(line)
        extra = ["--epochs", "2", "--dim", "8"] if words[0] == "train" else []
        command = [sys.executable, "-m", program.replace("-", "_"), *words, *extra]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "after [an item's key or title], [the next one]" in done.stdout  # no titles in this table: raw keys
