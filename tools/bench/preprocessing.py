"""Raw rows to a prepared dataset: ``rec-data prepare`` against plain Python, pandas and polars as one first writes it.

    python tools/bench/preprocessing.py --rows 3000000 --keys text               # all four, three rounds
    python tools/bench/preprocessing.py --rows 3000000 --keys int
    python tools/bench/preprocessing.py --rows 25000095 --keys int --contenders ours,pandas,polars
    python tools/bench/preprocessing.py --parquet-rows 250000000                 # ours alone, on Parquet in parts
    python tools/bench/preprocessing.py --data ratings.csv --keys int            # your file: user, item, rating, time

Every contender (``preprocessing_twins.py``) gets the same CSV and does the same: the oldest row of each (user, item)
pair, iterated 5-core, ids in a stated order, events by (user, time, row), leave-one-out, arrays and keys on disk. Each
runs in a process of its own, so that the peak of its resident set is its own; its libraries are loaded before the clock
starts. They run in turns, in the opposite order every other round; a figure is the median over rounds, a ratio the
median of the ratios of each round. The content of what they wrote is hashed and must be equal. ``ours`` also hashes the
raw file and writes a manifest, inside its time.

The data are made by ``rec_data.synthetic``: with ``--keys int`` in the shape of MovieLens-25M (by user, no repeated
pairs), with ``--keys text`` in that of an Amazon category (shuffled, short histories, 2 % repeated pairs).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CONTENDERS = ("ours", "polars", "pandas", "python")
ARRAYS = ("items", "offsets", "timestamps", "ratings", "boundaries")


def make_raw(folder: Path, rows: int, keys: str, *, form: str = "csv", files: int = 1) -> Path:
    """A synthetic world of about so many rows; the path of its interactions."""
    from rec_core.cli import Progress
    from rec_data.synthesize import synthesize
    from rec_data.synthetic import World
    from rec_data.world_config import FileSettings

    if keys == "int":  # ML-25M: 25,000,095 rows of 162,541 users and 59,047 items, at least 20 rows each
        scale = rows / 25_000_095
        users, items = round(162_541 * scale), round(59_047 * max(scale, 1) ** 0.5)
        world = World(
            users=users, items=items, interactions=rows, clusters=20, min_history=20, history_spread=1.25,
            popularity=1.5, follow=0.3, seed=1,
        )  # fmt: skip
        settings = FileSettings(format=form, files=files)  # type: ignore[arg-type]
    else:
        events = round(rows / 1.02)
        world = World(
            users=events // 5, items=max(events // 25, 2_000), interactions=events, clusters=20, min_history=1,
            history_spread=1.3, popularity=1.3, follow=0.3, seed=1,
        )  # fmt: skip
        settings = FileSettings(format=form, files=files, order="shuffled", keys="text", repeats=0.02)  # type: ignore[arg-type]
    with Progress("raw data") as progress:
        synthesize(folder, world, settings, progress=progress)
    return folder / f"interactions.{form}" if files == 1 else folder


def contender(name: str, keys: str) -> Callable[[Path, Path], Any]:
    """What is timed; everything it needs is loaded here."""
    if name == "ours":
        import pyarrow as pa
        import pyarrow.parquet

        from rec_data import PrepareSettings
        from rec_data.prepare import prepare
        from rec_data.readers import table  # noqa: F401

        pa.array([""])  # loads pandas, where that is installed

        return lambda source, out: prepare(source, out, PrepareSettings())
    sys.path.insert(0, str(HERE))
    import pyarrow.parquet
    from preprocessing_twins import TWINS

    if name != "python":
        __import__(name)
    return lambda source, out: TWINS[name](source, out, text=keys == "text")


def run_one(name: str, keys: str, source: Path, out: Path) -> None:
    """In a process of its own: prepare, then print seconds, processor seconds and the peak of the resident set."""
    work = contender(name, keys)
    before, wall = os.times(), time.perf_counter()
    work(source, out)
    seconds, after = time.perf_counter() - wall, os.times()
    cpu = after.user + after.system - before.user - before.system
    print(json.dumps({"wall": seconds, "cpu": cpu, "rss": _peak()}))


def _peak() -> int:  # ru_maxrss would begin at the size of the process that started this one
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def content(out: Path) -> tuple[str, dict[str, int]]:
    """Hash of everything that must be equal, and the sizes."""
    import pyarrow.parquet as pq

    found = sha256()
    for name in ARRAYS:
        array = np.load(out / f"{name}.npy", mmap_mode="r")
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        for start in range(0, len(array), 1 << 22):
            found.update(np.ascontiguousarray(array[start : start + (1 << 22)]))
    sizes = {"interactions": len(np.load(out / "items.npy", mmap_mode="r"))}
    for name in ("users", "items"):
        keys = pq.read_table(out / f"{name}.parquet", columns=["key"])["key"].to_pylist()
        found.update("\n".join(keys).encode())
        sizes[name] = len(keys)
    return found.hexdigest(), sizes


def start(name: str, keys: str, source: Path, out: Path) -> dict[str, float]:
    """Run a contender in a fresh process."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--keys", keys]
    answer = subprocess.run([*command, str(source), str(out)], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{name} failed:\n{answer.stderr}")
    return json.loads(answer.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def compare(source: Path, keys: str, names: Sequence[str], rounds: int, scratch: Path) -> dict[str, Any]:
    """All contenders in turns; medians, ratios against ours, and the proof that they agree."""
    with source.open("rb") as file:  # from the disk once, for nobody's account
        while file.read(1 << 24):
            pass
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    hashes: dict[str, str] = {}
    sizes: dict[str, int] = {}
    loads = []
    for r in range(rounds):
        for name in names if r % 2 == 0 else names[::-1]:
            loads.append(_load())
            runs[name].append(start(name, keys, source, scratch / "out"))
            hashes[name], sizes = content(scratch / "out")
            print(f"  round {r + 1} {name:7} {_line(runs[name][-1])}", flush=True)
    assert len(set(hashes.values())) == 1, f"the contenders disagree: {hashes}"
    figures: dict[str, Any] = {"result": sizes, "hash": next(iter(hashes.values())), "load": max(loads)}
    for name, measured in runs.items():
        figures[name] = {what: median(run[what] for run in measured) for what in ("wall", "cpu", "rss")}
        if "ours" in runs and name != "ours":
            pairs = list(zip(measured, runs["ours"], strict=True))
            figures[name] |= {f"{what}_ratio": median(a[what] / b[what] for a, b in pairs) for what in measured[0]}
    return figures


def _line(run: dict[str, float]) -> str:
    return f"{run['wall']:7.2f} s, {run['cpu']:7.2f} s of processor, {run['rss'] / 2**30:6.2f} GiB at most"


def _load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def surroundings(names: Sequence[str]) -> dict[str, Any]:
    """What a figure depends on."""
    import polars as pl

    around = {"python": platform.python_version(), "numpy": np.__version__, "polars": pl.__version__}
    if "pandas" in names:
        import pandas as pd

        around["pandas"] = pd.__version__
    return around | {
        "polars_threads": pl.thread_pool_size(),
        "cpus": os.cpu_count(),
        "load": _load(),
        "machine": platform.machine(),
    }


def main() -> None:
    """Print the figures, and with --json one object for machines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of the CSV")
    parser.add_argument("--keys", choices=("int", "text"), default="text", help="which shape the data have")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="which run; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a CSV that exists: user, item, rating, timestamp in this order")
    parser.add_argument("--parquet-rows", type=int, help="run ours alone on so many rows of Parquet in parts")
    parser.add_argument("--files", type=int, default=16, help="parts of the Parquet")
    parser.add_argument("--scratch", type=Path, help="where data and results go; removed at the end")
    parser.add_argument("--keep", action="store_true", help="leave the scratch directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options.keys, *options.paths)
        return
    names = [name.strip() for name in options.contenders.split(",")]
    if unknown := set(names) - set(CONTENDERS):
        parser.error(f"no contender {sorted(unknown)[0]!r}; there is: {', '.join(CONTENDERS)}")

    around = surroundings(names)
    print("  ".join(f"{name} {value}" for name, value in around.items()), flush=True)
    if options.scratch is not None:
        options.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="preprocessing-", dir=options.scratch))
    try:
        if options.parquet_rows:
            made = time.perf_counter()
            source = make_raw(scratch / "raw", options.parquet_rows, options.keys, form="parquet", files=options.files)
            made = time.perf_counter() - made
            size = sum(file.stat().st_size for file in source.glob("interactions*"))
            print(
                f"{options.parquet_rows:,} rows in {options.files} files, {size / 2**30:.2f} GiB; made in {made:.0f} s"
            )
            figures = {"ours": start("ours", options.keys, source, scratch / "out"), "rows": options.parquet_rows}
            rows, run = options.parquet_rows, figures["ours"]
            print(
                f"  ours    {_line(run)}: {rows / run['wall'] / 1e6:.2f} million rows/s, {run['rss'] / rows:.0f} B/row"
            )
        else:
            source = options.data or make_raw(scratch / "raw", options.rows, options.keys)
            print(f"{source.name}: {source.stat().st_size / 2**20:,.0f} MiB, {options.keys} keys", flush=True)
            figures = compare(source, options.keys, names, options.rounds, scratch)
            print(f"\nequal content asserted: {figures['result']}; largest load {figures['load']}")
            for name in names:
                ratios = ""
                if "wall_ratio" in figures[name]:
                    wall, cpu, rss = (figures[name][f"{what}_ratio"] for what in ("wall", "cpu", "rss"))
                    ratios = f"   {wall:.1f}x the time, {cpu:.1f}x the processor time, {rss:.1f}x the memory of ours"
                print(f"  {name:7} {_line(figures[name])}{ratios}")
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    if options.json:
        print(json.dumps({"surroundings": around, **figures}))


if __name__ == "__main__":
    main()
