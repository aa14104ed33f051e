"""The other sides of tools/bench/preprocessing.py do exactly what `rec-data prepare` does, and the script runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_data import PrepareSettings
from rec_data.prepare import prepare

BENCH = Path(__file__).parents[1] / "tools" / "bench"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench, twins = script("preprocessing"), script("preprocessing_twins")
TEXT = ["1", "2", "10", "01", "-1", "u", "U", "é", "1e1", "NA", "12345678901234567890"]
NUMBERS = ["1", "2", "10", "9", "11", "20", "100", "99999999999"]
RATINGS, TIMES = st.sampled_from(["0.5", "3.0", "4"]), st.integers(1_000_000_000, 1_000_000_004)


@st.composite
def raw_rows(draw, keys):
    """Rows in any order, with repeated pairs and equal times; three users and items are left even of a 3-core."""
    pairs = [(user, item) for user in keys[:3] for item in keys[:3]]
    pairs += draw(st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(keys)), max_size=40))
    return [(*pair, draw(RATINGS), draw(TIMES)) for pair in draw(st.permutations(pairs))]


@pytest.mark.parametrize("name", ["python", "polars", "pandas"])
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_twin_writes_what_prepare_writes(name, tmp_path_factory, data):
    if name == "pandas":
        pytest.importorskip("pandas", reason="pandas is installed for benchmarks only")
    text, core = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    drawn = data.draw(raw_rows(TEXT if text else NUMBERS))
    folder = tmp_path_factory.mktemp("raw")
    lines = ["user_id,item_id,rating,timestamp", *(",".join(map(str, row)) for row in drawn)]
    (folder / "raw.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(folder / "raw.csv", folder / "ours", PrepareSettings(k_core=core))
    twins.TWINS[name](folder / "raw.csv", folder / "theirs", core=core, text=text)
    assert bench.content(folder / "theirs") == bench.content(folder / "ours")


def test_other_content_has_another_hash(tmp_path):
    lines = [f"{u},{i},3.5,{1_000_000_000 + i}" for u in range(3) for i in range(4)]
    hashes = set()
    for order in (lines, lines[:-1], [line.replace("3.5", "4.0") for line in lines]):
        folder = tmp_path / str(len(hashes))
        folder.mkdir()
        (folder / "raw.csv").write_text("\n".join(["user,item,rating,timestamp", *order]) + "\n")
        twins.python_twin(folder / "raw.csv", folder / "out", core=1)
        hashes.add(bench.content(folder / "out")[0])
    assert len(hashes) == 3


@pytest.mark.parametrize("keys", ["int", "text"])
def test_the_benchmark_runs_and_asserts_equal_content(keys, tmp_path):
    command = [sys.executable, BENCH / "preprocessing.py", "--rows", "20000", "--keys", keys, "--rounds", "1"]
    command += ["--contenders", "ours,python", "--scratch", tmp_path, "--json"]
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    figures = json.loads(answer.stdout.splitlines()[-1])
    assert figures["result"]["interactions"] > 0
    for side in ("ours", "python"):
        assert figures[side]["wall"] > 0
        assert figures[side]["rss"] > 2**20
    assert figures["python"]["wall_ratio"] == pytest.approx(figures["python"]["wall"] / figures["ours"]["wall"])
    assert not any(tmp_path.iterdir())  # it cleans up


def test_a_contender_that_disagrees_stops_the_benchmark(tmp_path, monkeypatch):
    def run(name, keys, source, out):
        (out).mkdir(exist_ok=True)
        (out / "who").write_text(name)
        return {"wall": 1.0, "cpu": 1.0, "rss": 1.0}

    monkeypatch.setattr(bench, "start", run)
    monkeypatch.setattr(bench, "content", lambda out: ((out / "who").read_text(), {}))
    (tmp_path / "raw.csv").write_text("")
    with pytest.raises(AssertionError, match="disagree"):
        bench.compare(tmp_path / "raw.csv", "int", ("ours", "python"), 1, tmp_path)


def test_ratios_are_those_of_the_same_round(tmp_path, monkeypatch):
    walls = {"ours": iter([1.0, 2.0, 4.0]), "python": iter([10.0, 10.0, 80.0])}

    def run(name, keys, source, out):
        return {"wall": next(walls[name]), "cpu": 1.0, "rss": 1.0}

    monkeypatch.setattr(bench, "start", run)
    monkeypatch.setattr(bench, "content", lambda out: ("same", {}))
    (tmp_path / "raw.csv").write_text("")
    figures = bench.compare(tmp_path / "raw.csv", "int", ("ours", "python"), 3, tmp_path)
    assert figures["python"]["wall_ratio"] == np.median([10 / 1, 10 / 2, 80 / 4])  # 10, not 10 / 2 of the medians
