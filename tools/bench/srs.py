"""Training and evaluation of rec-srs against RecTools, RecBole and SELFRec's way, in one paired run.

    python tools/bench/srs.py                                   # all but the two long parts
    python tools/bench/srs.py --only train-ml-1m,train-beauty   # targets per second, full softmax
    python tools/bench/srs.py --only evaluate                   # all ML-1M users, whole catalogue
    python tools/bench/srs.py --only lightgcn                   # step, sampling, epoch on two graphs
    python tools/bench/srs.py --only sampled-ndcg               # Beauty to the end: full softmax and 256 negatives
    python tools/bench/srs.py --only time-to-ndcg --minutes 20  # ML-1M: validation NDCG after so much training
    python tools/bench/srs.py --quick                           # a look whether everything runs; no figures

Every contender is a process of its own that loads, warms up and then works when it is its turn; the others wait. They
take turns in rounds, in the opposite order every other round; a figure is the median over rounds, a ratio the median of
the ratios of each round. Same threads, same data, same split, same sizes; optimiser, batch assembly and logging are
inside every clock. RecTools 0.19 and RecBole 1.2.1 want another numpy, so each gets an environment of its own under
``--home``, made here with venv and pip. Where that fails it is said, and a plain twin (``srs_twins.py``) takes part.

The raw data lie under ``--data`` (``REC_TEST_DATA``, else ``../shared/data``) and are prepared by rec-data; where they
are missing, made-up data of the same shape are used, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEFAULT = ("train-ml-1m", "train-beauty", "evaluate", "lightgcn")
LONG = ("sampled-ndcg", "time-to-ndcg")
PEERS = {"rectools": "RecTools 0.19", "recbole": "RecBole 1.2.1"}
SIZES = {"dim": 64, "layers": 2, "heads": 2, "inner": 64, "dropout": 0.2, "rate": 1e-3, "seed": 1}
GRAPH = {"dim": 64, "layers": 3, "rate": 1e-3, "seed": 1, "batch": 2048, "l2": 1e-4}
SHAPES = {  # of the twins of absent data: users, items, interactions, shortest history
    "ml-1m": (6_040, 3_416, 999_611, 18),
    "beauty": (22_332, 12_086, 198_215, 5),
}

# ---- contenders ------------------------------------------------------------------------------------------------------


class Ended(Exception):
    """A contender that is gone, and what it said."""


class Contender:
    """A process that works when asked."""

    def __init__(self, label: str, python: Path | str, script: str, options: Mapping[str, Any], log: Path) -> None:
        self.label, self.log = label, log
        limits = {
            name: str(options["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        around = {**os.environ, **limits, "CUDA_VISIBLE_DEVICES": ""}
        if str(python) != sys.executable:
            around.pop("PYTHONPATH", None)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(python), str(HERE / script), json.dumps(dict(options))]
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=around,
                cwd=log.parent,
            )  # fmt: skip
        began = time.perf_counter()
        self.about = self._answer()
        print(f"  {label}: ready after {time.perf_counter() - began:.0f} s; {_words(self.about['ready'])}", flush=True)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise Ended(f"{self.label} ended with {self.process.returncode}:\n{tail}\n(all of it: {self.log})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """No more requests."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Stage:
    """Environments, work directory and the contenders that are up."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.home: Path = options.home
        self.up: list[Contender] = []
        self.pythons: dict[str, Path | None] = {}

    def python_of(self, peer: str) -> Path | None:
        """The interpreter of a peer's environment, made if need be; None where it cannot be made."""
        if peer not in self.pythons:
            self.pythons[peer] = None if peer in self.options.without else install(peer, self.home / "peers")
        return self.pythons[peer]

    def ours(self, label: str, **options: Any) -> Contender:
        """A worker of ours."""
        return self._start(label, sys.executable, "srs_ours.py", options)

    def peer(self, peer: str, **options: Any) -> Contender | None:
        """A peer's worker; None (and a word) where it is not installed or does not start."""
        python = self.python_of(peer)
        if python is None:
            return None
        atomic = {"atomic": str(self.home / "work" / "atomic")}
        try:
            return self._start(PEERS[peer], python, f"peers/{peer}_worker.py", {**options, **atomic})
        except Ended as error:
            print(f"**{PEERS[peer]} does not start; a plain twin takes its place.**\n{error}", flush=True)
            return None

    def _start(self, label: str, python: Path | str, script: str, options: Mapping[str, Any]) -> Contender:
        log = self.home / "work" / f"{label.replace(' ', '-').replace(',', '')}.log"
        self.up.append(Contender(label, python, script, {**options, "threads": self.options.threads}, log))
        return self.up[-1]

    def clear(self) -> None:
        """End all contenders."""
        for contender in self.up:
            contender.close()
        self.up = []


def install(peer: str, home: Path) -> Path | None:
    """An environment with a peer's requirements, held by our constraints; None (and a word) where pip cannot."""
    files = [HERE / "peers" / f"{peer}.txt", HERE / "peers" / f"{peer}-alone.txt"]
    constraints = os.environ.get("PIP_CONSTRAINT", str(ROOT / "tools" / "constraints.txt"))
    wanted = sha256(platform.python_version().encode())
    for file in [*files, Path(constraints)]:
        wanted.update(file.read_bytes() if file.exists() else b"")
    folder = home / peer
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    mark = folder / "complete"
    if mark.exists() and mark.read_text() == wanted.hexdigest():
        return python
    print(f"installing {PEERS[peer]} into {folder} ...", flush=True)
    around = {**os.environ, "PIP_CONSTRAINT": constraints, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    around.pop("PYTHONPATH", None)
    commands = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
    for file, extra in zip(files, ([], ["--no-deps"]), strict=True):
        if file.exists():
            commands.append([str(python), "-m", "pip", "install", "--quiet", *extra, "-r", str(file)])
    for command in commands:
        done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            print(f"**{PEERS[peer]} could not be installed; a plain twin takes its place.**\n{tail}", flush=True)
            return None
    mark.write_text(wanted.hexdigest())
    return python


# ---- data ------------------------------------------------------------------------------------------------------------


def prepared(stage: Stage, name: str) -> tuple[Path, str]:
    """A data set as rec-data prepares it (5-core, leave-one-out), and what it is."""
    from rec_core.cli import Progress
    from rec_data.config import PrepareSettings
    from rec_data.prepare import prepare
    from rec_data.synthesize import synthesize
    from rec_data.synthetic import World
    from rec_data.world_config import FileSettings

    raw = stage.options.data / {"ml-1m": "ml-1m", "beauty": "amazon-beauty-2014"}[name]
    real = raw.exists()
    out = stage.home / "data" / (name if real else f"{name}-made-up")
    if not (out / "manifest.json").exists():
        source = raw
        if not real:
            users, items, interactions, shortest = SHAPES[name]
            world = World(
                users=users, items=items, interactions=interactions, clusters=20, min_history=shortest,
                history_spread=0.6 if name == "ml-1m" else 0.7, popularity=0.8 if name == "ml-1m" else 0.3, follow=0.3,
                seed=1,
            )  # fmt: skip
            folder = stage.home / "data" / f"{name}-raw"
            with Progress(f"made-up {name}") as progress:
                synthesize(folder, world, FileSettings(), overwrite=True, progress=progress)
            source = folder / "interactions.csv"
        prepare(source, out, PrepareSettings())
    offsets, items = np.load(out / "offsets.npy"), np.load(out / "items.npy")
    about = f"{len(offsets) - 1:,} users, {items.max() + 1:,} items, {len(items):,} interactions"
    return out, f"{name}: {about}" if real else f"**made-up data in the shape of {name}** ({raw} is missing): {about}"


def graph_data(stage: Stage, name: str) -> tuple[Path, str]:
    """``pairs.npy`` int64 [pairs, 2] of dense ids, each pair once, every user and item with at least one."""
    source = stage.options.data / "lastfm-hetrec" / "lightgcn-format" / "data1.txt"
    if name == "lastfm" and source.exists():
        pairs = np.loadtxt(source, dtype=np.int64, usecols=(0, 1))
        about = "Last.fm, train part of the LightGCN split"
    elif name == "lastfm":
        pairs, about = (
            zipf_pairs(1_880, 4_486, 42_135),
            f"**made-up pairs in the shape of Last.fm** ({source} is missing)",
        )
    else:
        pairs, about = zipf_pairs(29_858, 40_981, 1_000_000), "made-up pairs in the size of Gowalla (Zipf)"
    users, items = (np.unique(column, return_inverse=True)[1].ravel() for column in pairs.T)
    pairs = np.unique(np.stack([users, items], axis=1), axis=0)
    out = stage.home / "data" / name
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "pairs.npy", pairs)
    sizes = {"users": int(pairs[:, 0].max()) + 1, "items": int(pairs[:, 1].max()) + 1}
    (out / "sizes.json").write_text(json.dumps(sizes))
    return out, f"{about}: {sizes['users']:,} users, {sizes['items']:,} items, {len(pairs):,} pairs"


def zipf_pairs(users: int, items: int, pairs: int, exponent: float = 0.8) -> np.ndarray:
    """So many different pairs, both sides by a power law, nobody left without one; int64 [pairs, 2]."""
    rng = np.random.default_rng(1)
    ends = []
    for n in (users, items):
        weights = np.arange(1, n + 1) ** -exponent
        ends.append((rng.permutation(n), np.cumsum(weights) / weights.sum()))
    most = max(users, items)
    keys = np.arange(most) % users * items + np.arange(most) % items
    while len(keys) < pairs:
        drawn = [
            order[np.searchsorted(total, rng.random(pairs), side="right").clip(max=len(order) - 1)]
            for order, total in ends
        ]
        fresh = drawn[0] * items + drawn[1]
        _, first = np.unique(np.concatenate([keys, fresh]), return_index=True)
        keys = np.concatenate([keys, fresh])[np.sort(first)][:pairs]
    return np.stack([keys // items, keys % items], axis=1)


# ---- measuring -------------------------------------------------------------------------------------------------------

Ask = Callable[[], dict[str, Any]]


def in_turns(asks: Mapping[str, Ask], rounds: int) -> tuple[dict[str, list[dict[str, Any]]], float]:
    """Answers of every side in every round, and the largest load average met."""
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in asks}
    load = 0.0
    for r in range(rounds):
        for label in list(asks) if r % 2 == 0 else list(asks)[::-1]:
            load = max(load, _load())
            found[label].append(asks[label]())
            last = found[label][-1]
            rate = f"{last['targets'] / last['seconds']:12,.0f} targets/s" if "targets" in last else ""
            print(
                f"  round {r + 1} {label:34} {last['seconds']:8.2f} s {last['cpu']:8.2f} processor s {rate}", flush=True
            )
    return found, load


def ratio(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], what: str) -> float:
    """How many times as long they take for the same: the median over rounds."""
    pairs = zip(theirs, ours, strict=True)
    return median((a[what] / a.get("targets", 1)) / (b[what] / b.get("targets", 1)) for a, b in pairs)


def table(found: Mapping[str, list[dict[str, Any]]], base: str, rate: bool = True) -> list[dict[str, Any]]:
    """One row per contender; ratios against ``base``."""
    rows = []
    for label, runs in found.items():
        row: dict[str, Any] = {"contender": label}
        if rate:
            row["targets_per_second"] = median(run["targets"] / run["seconds"] for run in runs)
            row["cpu_seconds_per_1000"] = median(1000 * run["cpu"] / run["targets"] for run in runs)
        row["seconds"] = median(run["seconds"] for run in runs)
        row["cpu"] = median(run["cpu"] for run in runs)
        row["peak_gib"] = max(run["peak"] for run in runs) / 2**30
        row["grown_gib"] = max(run["peak"] - run["resident"] for run in runs) / 2**30
        if label != base:
            row |= {"times": ratio(runs, found[base], "seconds"), "times_cpu": ratio(runs, found[base], "cpu")}
        rows.append(row)
    return rows


def show(rows: Sequence[Mapping[str, Any]], base: str, rate: bool = True) -> None:
    """A Markdown table."""
    if rate:
        print(
            f"\n| contender | targets/s | processor s per 1,000 | peak GiB | {base} is faster by | in processor time |"
        )
        print("|---|---:|---:|---:|---:|---:|")
    else:
        print(f"\n| contender | seconds | processor s | peak GiB (grown) | {base} is faster by | in processor time |")
        print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        times = (f"{row['times']:.1f}", f"{row['times_cpu']:.1f}") if "times" in row else ("", "")
        if rate:
            cells = [
                f"{row['targets_per_second']:,.0f}",
                f"{row['cpu_seconds_per_1000']:.3g}",
                f"{row['peak_gib']:.2f}",
            ]
        else:
            cells = [f"{row['seconds']:.3g}", f"{row['cpu']:.3g}", f"{row['peak_gib']:.2f} ({row['grown_gib']:.2f})"]
        print(f"| {' | '.join([str(row['contender']), *cells, *times])} |")
    print(flush=True)


# ---- (a), (b): training ----------------------------------------------------------------------------------------------


def train(stage: Stage, name: str, length: int, prefixes: int) -> dict[str, Any]:
    """Targets per second of the same objective; ``prefixes`` is RecBole's batch."""
    options = stage.options
    data, about = prepared(stage, name)
    print(f"\n## SASRec training, {about}; L={length}\n")
    common = {**SIZES, "data": str(data), "length": length, "batch": options.batch}
    sides = [stage.ours("ours", what="sasrec", **common)]
    if name == "ml-1m":
        also = {"attention_dropout": SIZES["dropout"]}
        sides.append(stage.ours("ours, attention dropout too", what="sasrec", **common, **also))
    else:
        sides.append(stage.ours("ours, 256 negatives", what="sasrec", **common, loss="sampled_softmax", negatives=256))
    sides.append(stage.peer("rectools", **common) or stage.ours("RecTools-like twin", what="padded", **common))
    few = {**common, "batch": prefixes}
    sides.append(stage.peer("recbole", model="SASRec", **few) or stage.ours("RecBole-like twin", what="prefix", **few))
    for side in sides:
        first = side.ask("steps", most=1 if options.quick else 2)  # warm
        print(
            f"  {side.label}: loss {first['loss']:.3f} in the first steps, "
            f"of {first['targets'] // first['steps']:,} targets"
        )
    turn = {"seconds": options.seconds, "most": 1 if options.quick else 10**6}
    found, load = in_turns(
        {side.label: (lambda side=side: side.ask("steps", **turn)) for side in sides}, options.rounds
    )
    rows = table(found, "ours")
    show(rows, "ours")
    users = f"batch {options.batch} users (RecBole: {prefixes} prefixes)"
    print(
        f"{users}, {_words(SIZES)}, full softmax unless said; {options.rounds} rounds of {options.seconds:g} s; "
        f"largest load {load}"
    )
    stage.clear()
    return {"data": about, "rows": rows, "load": load, "batch": options.batch, "prefixes": prefixes}


def sampled_ndcg(stage: Stage) -> dict[str, Any]:
    """Full and sampled softmax on Beauty, each trained until validation stops it."""
    options = stage.options
    data, about = prepared(stage, "beauty")
    print(f"\n## SASRec to the end, {about}; L=50\n")
    common = {**SIZES, "data": str(data), "length": 50, "batch": options.batch, "what": "fit"}
    found = {}
    for label, loss in (("full softmax", "softmax"), ("sampled softmax, 256 negatives", "sampled_softmax")):
        side = stage.ours(label, **common, loss=loss, negatives=256)
        found[label] = side.ask("fit", epochs=1 if options.quick else 200, patience=10)
        print(f"  {label}: {json.dumps(found[label])}", flush=True)
        stage.clear()
    print(
        "\n| loss | valid NDCG@10 | test NDCG@10 | test HR@10 | best epoch | seconds with validation |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    for label, run in found.items():
        test = run["test"]
        print(
            f"| {label} | {run['valid']:.4f} | {test['ndcg@10']:.4f} | {test['hr@10']:.4f} | {run['best_epoch']} | "
            f"{run['seconds']:.0f} |"
        )
    return {"data": about, "runs": found}


# ---- (c): time to NDCG -----------------------------------------------------------------------------------------------


def time_to_ndcg(stage: Stage) -> dict[str, Any]:
    """Validation NDCG@10 against seconds of training; validation stops the clock."""
    options = stage.options
    data, about = prepared(stage, "ml-1m")
    print(f"\n## SASRec, {options.minutes:g} minutes of training, {about}; L=200\n")
    common = {**SIZES, "data": str(data), "length": 200, "batch": options.batch}
    sides = [stage.ours("ours", what="sasrec", **common)]
    sides.append(stage.peer("rectools", **common) or stage.ours("RecTools-like twin", what="padded", **common))
    marks = 2 if options.quick else options.marks
    slice_seconds = options.minutes * 60 / marks / 4
    spent = {side.label: 0.0 for side in sides}
    targets = dict.fromkeys(spent, 0)
    curve: dict[str, list[dict[str, Any]]] = {side.label: [] for side in sides}
    for mark in range(1, marks + 1):
        goal = options.minutes * 60 * mark / marks
        while min(spent.values()) < goal - 1e-3:  # short turns, so that both meet the same busy and quiet moments
            for side in sides:
                left = goal - spent[side.label]
                if left > 1e-3:
                    answer = side.ask("steps", seconds=min(slice_seconds, left))
                    spent[side.label] += answer["seconds"]
                    targets[side.label] += answer["targets"]
        for side in sides:
            answer = side.ask("validate")
            state = {"seconds": spent[side.label], "targets": targets[side.label], **answer}
            curve[side.label].append(state)
            print(
                f"  {side.label:12} {state['seconds']:7.0f} s {state['targets']:12,} targets: {_words(answer)}",
                flush=True,
            )
    print(f"\n| minutes | {' | '.join(curve)} |\n|---:|{'---:|' * len(curve)}")
    for row in zip(*curve.values(), strict=True):
        print(f"| {row[0]['seconds'] / 60:.1f} | " + " | ".join(f"{state['ndcg@10']:.4f}" for state in row) + " |")
    print(
        f"\nbatch {options.batch} users, {_words(SIZES)}, full softmax; validation NDCG@10 over the whole catalogue, "
        f"seen items left out"
    )
    stage.clear()
    return {"data": about, "curve": curve}


# ---- (d): evaluation -------------------------------------------------------------------------------------------------


def evaluation(stage: Stage) -> dict[str, Any]:
    """From a trained model in memory to HR@10 and NDCG@10 of all test users, with equal weights on both sides."""
    options = stage.options
    data, about = prepared(stage, "ml-1m")
    print(f"\n## Evaluation of all test users, {about}; L=200\n")
    common = {**SIZES, "data": str(data), "length": 200, "batch": options.batch}
    ours = stage.ours("ours", what="evaluate", **common, train_steps=4 if options.quick else 150)
    theirs = stage.peer("recbole", model="SASRec", **common)
    found: dict[str, Any] = {"data": about}
    asks: dict[str, Ask] = {
        "RecBole-like twin": lambda: ours.ask("evaluate_plainly", batch=options.eval_batches[0]),
        "ours, seen items kept": lambda: ours.ask("evaluate", exclude_seen=False),
        "ours, seen items left out": lambda: ours.ask("evaluate", exclude_seen=True),
        "ours, our own network": lambda: ours.ask("evaluate", exclude_seen=True, own=True),
    }
    if theirs is not None:
        path = str(stage.home / "work" / "weights.npz")
        ours.ask("weights", path=path)
        theirs.ask("take", weights=path)
        prefix, positions = theirs.ask("prefix_loss", users=4), ours.ask("all_positions", users=4)
        gap = abs(prefix["loss"] - positions["loss"])
        print(
            f"  same weights, {prefix['targets']} targets in float64: RecBole's loss over prefixes "
            f"{prefix['loss']:.15f}, ours over all positions {positions['loss']:.15f}, apart by {gap:.1e}"
        )
        assert positions["longest"] <= 201, f"a history of {positions['longest']} does not fit into 200 inputs"
        assert prefix["targets"] == positions["targets"], (prefix, positions)
        assert gap < 1e-12, "the two losses differ"
        del asks["RecBole-like twin"]
        found["losses"] = {"prefixes": prefix, "all_positions": positions}
        for batch in options.eval_batches:
            asks[f"{theirs.label}, eval_batch_size {batch}"] = lambda batch=batch: theirs.ask("evaluate", batch=batch)
    for ask in asks.values():
        ask()  # warm
    runs, load = in_turns(asks, options.rounds)
    metrics = {
        label: {name: answers[0][name] for name in ("hr@10", "ndcg@10", "users")} for label, answers in runs.items()
    }
    for label, values in metrics.items():
        print(f"  {label}: {_words(values)}")
    base = "ours, seen items kept"
    for label in (label for label in metrics if label.startswith("RecBole")):
        mine, other = metrics[base], metrics[label]
        assert mine["users"] == other["users"], metrics
        # float32 products of two libraries may swap two neighbours that are equal to seven digits
        assert abs(mine["hr@10"] - other["hr@10"]) < 1.5 / mine["users"], "HR@10 differs"
        assert abs(mine["ndcg@10"] - other["ndcg@10"]) < 1e-5, "NDCG@10 differs"
        print(f"  equal metrics asserted: {label}")
    rows = table(runs, base, rate=False)
    show(rows, base, rate=False)
    print(
        "encode included; RecBole keeps seen items in the ranking of a sequence model, and so does the run compared "
        f"with it; grown: since the evaluation began; {options.rounds} rounds; largest load {load}"
    )
    stage.clear()
    return found | {"rows": rows, "metrics": metrics, "load": load}


# ---- (e): LightGCN ---------------------------------------------------------------------------------------------------


def lightgcn(stage: Stage) -> dict[str, Any]:
    """Step and sampling against SELFRec's way, whole epoch against RecBole's."""
    return {name: _lightgcn(stage, name) for name in ("lastfm", "gowalla-sized")}


def _lightgcn(stage: Stage, name: str) -> dict[str, Any]:
    options = stage.options
    data, about = graph_data(stage, name)
    print(f"\n## LightGCN, {about}\n")
    common = {**GRAPH, "data": str(data)}
    ours = stage.ours("ours", what="lightgcn", **common, l2_form="norm", bpr_form="log_epsilon")
    twin = stage.ours("SELFRec's way", what="selfrec", **common, kept=20)
    peer = stage.peer("recbole", model="LightGCN", **common)
    per_epoch = int(ours.about["steps_per_epoch"])

    path = str(stage.home / "work" / "triplets.npz")
    make_triplets(data, path)
    losses = {side.label: side.ask("loss", path=path) for side in (ours, twin)}
    a, b = losses["ours"], losses["SELFRec's way"]
    print(f"  same tables and triplets: {_words(losses)}")
    assert abs(a["loss"] - b["loss"]) < 1e-5, "the losses differ"
    assert np.allclose(a["gradients"], b["gradients"], rtol=1e-4), "the gradients differ"

    found: dict[str, Any] = {"data": about, "losses": losses, "steps_per_epoch": per_epoch}
    steps: dict[str, Ask] = {}
    turn = {"seconds": options.seconds, "most": 2 if options.quick else 10**6}
    for side in (ours, twin) if peer is None else (ours, twin, peer):
        side.ask("steps", most=2)
        steps[side.label] = lambda side=side: side.ask("steps", **turn)  # type: ignore[misc]
    runs, load = in_turns(steps, options.rounds)
    found["step"] = {"rows": table(runs, "ours"), "load": load}
    print("\nOne step (SELFRec's way: triplets drawn beforehand; RecBole: its sampling included), a target is a pair:")
    show(found["step"]["rows"], "ours")

    epoch = iter(range(1, 10**6))
    samplers: dict[str, Ask] = {
        "ours": lambda: ours.ask("sample", epoch=next(epoch)),
        "SELFRec's way": lambda: twin.ask("sample"),
    }
    ours.ask("sample", epoch=0)
    runs, load = in_turns(samplers, options.rounds)
    found["sampling"] = {"rows": table(runs, "ours"), "load": load}
    print("\nSampling an epoch:")
    show(found["sampling"]["rows"], "ours")

    if peer is not None:
        whole = name == "lastfm" or options.whole_epochs
        n = 2 if options.quick else per_epoch if whole else min(per_epoch, options.epoch_steps)
        runs, load = in_turns(
            {
                "ours": lambda: ours.ask("steps", most=per_epoch if whole and not options.quick else n),
                peer.label: lambda: peer.ask("steps", most=n),
            },
            options.rounds,
        )
        found["epoch"] = {"rows": table(runs, "ours"), "load": load, "steps": n}
        what = "A whole epoch" if n == per_epoch else f"{n} of an epoch's {per_epoch} steps, sampling included"
        print(f"\n{what}:")
        show(found["epoch"]["rows"], "ours")
    print(f"{_words(GRAPH)}; {options.rounds} rounds; largest load {load}")
    stage.clear()
    return found


def make_triplets(data: Path, path: str) -> None:
    """Tables, and as many triplets as a batch has; negatives need not be unseen here."""
    rng = np.random.default_rng(3)
    sizes, pairs = json.loads((data / "sizes.json").read_text()), np.load(data / "pairs.npy")
    chosen = pairs[rng.permutation(len(pairs))[: GRAPH["batch"]]]
    tables = {
        f"{side}_table": rng.normal(0, 0.3, (sizes[side], GRAPH["dim"])).astype(np.float32)
        for side in ("users", "items")
    }
    negatives = rng.integers(0, sizes["items"], len(chosen))
    np.savez(path, users=chosen[:, 0], positives=chosen[:, 1], negatives=negatives, **tables)


# ---- the rest --------------------------------------------------------------------------------------------------------


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def arguments() -> argparse.Namespace:
    """What is measured, how long, and where things lie."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"parts, of {', '.join(DEFAULT + LONG)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="least length of a turn of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128, help="users per step of SASRec")
    parser.add_argument("--prefixes", default="128,2048", help="RecBole's batch on ML-1M and on Beauty, in prefixes")
    parser.add_argument("--eval-batches", default="32,4096", help="RecBole's eval_batch_size: kind to caches, default")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training for time-to-ndcg")
    parser.add_argument("--marks", type=int, default=5, help="validations of time-to-ndcg")
    parser.add_argument("--epoch-steps", type=int, default=60, help="steps that stand for an epoch of the large graph")
    parser.add_argument("--whole-epochs", action="store_true", help="run whole epochs on the large graph too")
    parser.add_argument("--without", default="", help="peers to leave out: rectools, recbole")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("REC_TEST_DATA", ROOT / "../shared/data")))
    home = Path(os.environ.get("REC_HOME", Path.home() / ".cache" / "rec")) / "bench"
    parser.add_argument("--home", type=Path, default=home, help="peers' environments, prepared data, logs")
    parser.add_argument("--json", type=Path, help="where the figures go; default: srs.json under --home")
    parser.add_argument("--quick", action="store_true", help="a step or two of everything")
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    options.prefixes = [int(n) for n in options.prefixes.split(",")]
    options.eval_batches = [int(n) for n in options.eval_batches.split(",")]
    options.without = [name.strip() for name in options.without.split(",") if name.strip()]
    for given, known in ((options.only, DEFAULT + LONG), (options.without, tuple(PEERS))):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no {unknown[0]!r}; there is: {', '.join(known)}")
    if options.quick:
        options.rounds, options.seconds, options.minutes = 1, 1.0, min(options.minutes, 0.2)
    options.home, options.data = options.home.resolve(), options.data.resolve()
    options.json = (options.json or options.home / "srs.json").resolve()
    return options


def main() -> None:
    """Run the parts, print Markdown, write one JSON file."""
    options = arguments()
    (options.home / "work").mkdir(parents=True, exist_ok=True)
    stage = Stage(options)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "train-ml-1m": lambda: train(stage, "ml-1m", 200, options.prefixes[0]),
        "train-beauty": lambda: train(stage, "beauty", 50, options.prefixes[1]),
        "evaluate": lambda: evaluation(stage),
        "lightgcn": lambda: lightgcn(stage),
        "sampled-ndcg": lambda: sampled_ndcg(stage),
        "time-to-ndcg": lambda: time_to_ndcg(stage),
    }
    around = {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "machine": platform.machine(),
        "cpus": os.cpu_count(), "threads": options.threads, "load": _load(),
    }  # fmt: skip
    print(_words(around) + ("; **quick: these are no figures**" if options.quick else ""), flush=True)
    figures: dict[str, Any] = {"surroundings": around}
    try:
        for name in options.only:
            began = time.perf_counter()
            try:
                figures[name] = parts[name]()
            except Ended as error:
                raise SystemExit(str(error)) from error
            print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)
            options.json.write_text(json.dumps(figures, indent=1))
    finally:
        stage.clear()
    print(f"\nfigures: {options.json}")


if __name__ == "__main__":
    main()
