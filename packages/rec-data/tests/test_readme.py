"""The commands and the code of the README run, and print what it says they print."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
VIEWS = """who,what,when
ann,0012,2014-03-01
ann,12,2014-03-02
ann,7,2014-03-04 10:30
bob,12,2014-03-01
bob,0012,2014-03-03
bob,7,2014-03-09
"""
THINGS = 'code,label,brand\n7,"Pan, large",Acme\n12,Pot,\n0012,Old pot,Acme\n99,Lid,Acme\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "views.csv").write_text(VIEWS)
    (tmp_path / "things.csv").write_text(THINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REC_HOME", str(tmp_path / "home"))


def run_block(rec_data, block: str) -> list[str]:
    printed = []
    for line in block.strip().splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "rec-data"
        said = rec_data(*words)
        assert said.code == 0, said.err
        printed.append(said.out)
    return printed


@pytest.mark.assets
def test_the_quickstart_runs_and_prints_what_the_readme_shows(rec_data):
    printed = run_block(rec_data, blocks("bash")[0])
    assert printed[1] == blocks("text")[0]


def test_the_example_with_a_table_of_ones_own_runs(rec_data):
    printed = run_block(rec_data, blocks("bash")[1])
    assert "2 users, 3 items, 6 interactions of 6 lines" in printed[0]
    assert "Pan, large" in printed[1]


def test_the_python_example_runs(capsys):
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert "'interactions': 6" in capsys.readouterr().out


def test_the_file_list_names_every_module():
    listed = set(re.findall(r"^ +(\w+\.py) ", blocks("text")[1], re.MULTILINE))
    source = Path(__file__).parents[1] / "src" / "rec_data"
    assert listed == {file.name for file in source.rglob("*.py")} - {"__init__.py", "__main__.py"}
