"""Ranking the whole catalogue: our exact ranks and lists against the usual way, and the memory they need.

    python tools/bench/evaluation.py            # 40,000 items x 4,096 users, then 1,000,000 items x 2,000 users
    python tools/bench/evaluation.py --small    # a few seconds, for a look
    python tools/bench/evaluation.py --json     # the figures as one JSON object on the last line

**Speed.** "The usual way" is a twin, in torch, of RecBole 1.2's full-sort evaluation (``Trainer._full_sort_batch_eval``
and ``Collector.eval_batch_collect``): the whole score matrix, -inf written through index lists that are concatenated
user by user, ``topk``, an int matrix of the same size with a 1 at each target, and a gather. Both sides get the same
vectors and run in turns in one process; a figure is the median over rounds, a ratio the median of the ratios of each
round. The vectors are small whole numbers, so that float32 products are exact in every library and the ranks can be
asserted equal for every user.

**Memory.** A fresh process makes the inputs, then ranks; scratch is what its peak resident set grew by (everything,
BLAS buffers included) and the peak of NumPy's allocations, read apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from rec_core.evaluation import ranks, top_k
from rec_core.types import Candidates, HeldOut, Histories

K = 50
DIM = 64
SEEN = 42


class Vectors:
    """Random vectors as a vector scorer."""

    known_users_only = False

    def __init__(self, users: np.ndarray, items: np.ndarray) -> None:
        self.users, self.items = users, items

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """float32 [rows, DIM]."""
        return self.users[histories.users]

    def item_vectors(self) -> np.ndarray:
        """float32 [n_items, DIM]."""
        return self.items


def requests(n_users: int, n_items: int, rng: np.random.Generator) -> HeldOut:
    """One target per user and about SEEN different items in each history, never the target."""
    lengths = rng.integers(SEEN // 2, SEEN + SEEN // 2 + 1, n_users)
    rows = []
    for length in lengths:
        drawn = rng.permutation(np.unique(rng.integers(0, n_items, length + 9)))
        rows.append(drawn[: length + 1].astype(np.int32))
    histories = Histories.of([row[1:] for row in rows], users=range(n_users))
    targets = np.array([row[0] for row in rows], np.int32)
    return HeldOut(histories, np.arange(n_users + 1), targets)


def whole_numbers(held_out: HeldOut, n_items: int, rng: np.random.Generator) -> Vectors:
    """Vectors of whole numbers up to 180: 64 products of them stay below 2**24, where float32 is exact.

    A user lies near the target, so that a part of the targets is found among the first K.
    """
    items = rng.integers(-180, 181, (n_items, DIM)).astype(np.float32)
    noise = rng.integers(-120, 121, (len(held_out), DIM))
    users = np.rint(items[held_out.items] * rng.uniform(0.0, 0.33, (len(held_out), 1))) + noise
    return Vectors(users.astype(np.float32), items)


def usual_way(vectors: Vectors, held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Place of the target among the first K (K = not there) and the lists, as RecBole finds them."""
    import torch

    histories = held_out.histories
    seen = [torch.from_numpy(histories.row(r).astype(np.int64)) for r in range(len(histories))]
    users, items = torch.from_numpy(vectors.users), torch.from_numpy(vectors.items)
    scores = torch.matmul(users, items.transpose(0, 1))
    history_u = torch.cat([torch.full_like(items_of_u, u) for u, items_of_u in enumerate(seen)])
    history_i = torch.cat(list(seen))
    scores[(history_u, history_i)] = -np.inf
    _, topk_idx = torch.topk(scores, K, dim=-1)
    pos_matrix = torch.zeros_like(scores, dtype=torch.int)
    pos_matrix[torch.arange(len(held_out)), torch.from_numpy(held_out.items.astype(np.int64))] = 1
    pos_len_list = pos_matrix.sum(dim=1, keepdim=True)
    pos_idx = torch.gather(pos_matrix, dim=1, index=topk_idx)
    result = torch.cat((pos_idx, pos_len_list), dim=1)
    hit = result[:, :K].bool()
    place = torch.where(hit.any(dim=1), hit.int().argmax(dim=1), K)
    return place.numpy(), topk_idx.numpy()


def check_equal(vectors: Vectors, held_out: HeldOut) -> dict[str, int]:
    """Every user's rank is equal; a target that ties may stand anywhere in its block, as torch's topk has no rule."""
    place, lists = usual_way(vectors, held_out)
    better, tied = ranks(vectors, held_out)
    inside = (place >= better) & (place <= better + tied)
    missed = (place == K) & (better + tied >= K)
    assert (inside | missed).all(), f"ranks differ for {int((~(inside | missed)).sum())} users"
    ours = top_k(
        vectors, held_out.histories, K, exclude=Candidates(held_out.histories.offsets, held_out.histories.items)
    )
    theirs = np.einsum("ud,ukd->uk", vectors.users, vectors.items[lists])
    assert np.array_equal(ours.scores, theirs), "the scores of the lists differ"
    return {"users": len(held_out), "with_ties": int((tied > 0).sum()), "target_in_list": int((place < K).sum())}


def in_turns(sides: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every side in every round; the sides take turns, so that a busy moment hits all of them."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(rounds):
        for name in list(sides) if r % 2 == 0 else list(sides)[::-1]:
            start = clock()
            sides[name]()
            seconds[name].append(clock() - start)
    return seconds


def speed(n_items: int, n_users: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Medians and ratios against the usual way."""
    rng = np.random.default_rng(0)
    held_out = requests(n_users, n_items, rng)
    vectors = whole_numbers(held_out, n_items, rng)
    equal = check_equal(vectors, held_out)
    seen = Candidates(held_out.histories.offsets, held_out.histories.items)
    sides: dict[str, Callable[[], Any]] = {
        "usual": lambda: usual_way(vectors, held_out),
        "ranks": lambda: ranks(vectors, held_out),
        "top_k": lambda: top_k(vectors, held_out.histories, K, exclude=seen),
    }
    seconds = in_turns(sides, rounds, clock)
    figures: dict[str, Any] = {"items": n_items, "equal_ranks": equal}
    for name, values in seconds.items():
        figures[f"{name}_seconds"] = median(values)
        if name != "usual":
            figures[f"{name}_ratio"] = median(u / v for u, v in zip(seconds["usual"], values, strict=True))
    return figures


MEASURE = """
import resource, sys, time, tracemalloc
import numpy as np
sys.path.insert(0, sys.argv[5])
from evaluation import DIM, Vectors, requests
from rec_core.evaluation import ranks, ranks_and_top_k
what, n_items, n_users, traced = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "traced"
rng = np.random.default_rng(0)
held_out = requests(n_users, n_items, rng)
vectors = Vectors(rng.standard_normal((n_users, DIM), np.float32), rng.standard_normal((n_items, DIM), np.float32))

def peak():  # ru_maxrss would begin at the size of the process that started this one
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

before = peak()
if traced:
    tracemalloc.start()
start = time.perf_counter()
ranks(vectors, held_out) if what == "ranks" else ranks_and_top_k(vectors, held_out, 50)
seconds = time.perf_counter() - start
if traced:
    print(tracemalloc.get_traced_memory()[1], seconds)
else:
    print(peak() - before, seconds)
"""


def memory(n_items: int, n_users: int) -> dict[str, Any]:
    """MiB of scratch and seconds of ranking alone, and of ranking with lists."""
    figures: dict[str, Any] = {"items": n_items, "users": n_users, "inputs_mib": n_items * DIM * 4 / 2**20}
    for what in ("ranks", "ranks_and_top_k"):
        for how in ("resident", "traced"):
            here = os.path.dirname(os.path.abspath(__file__))
            command = [sys.executable, "-c", MEASURE, what, str(n_items), str(n_users), how, here]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise SystemExit(answer.stderr)
            size, seconds = (float(word) for word in answer.stdout.split())
            figures[f"{what}_scratch_mib_{how}"] = size / 2**20
            if how == "resident":
                figures[f"{what}_seconds"] = seconds
    return figures


def surroundings() -> dict[str, Any]:
    """What a figure depends on."""
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index, call-overload]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numpy_blas": f"{blas['name']} {blas['version']}",
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load": round(load, 2),
        "machine": platform.machine(),
    }


def main() -> None:
    """Print the figures, and with --json one object for machines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="4,000 items x 512 users and 100,000 items x 200 users")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="threads of both sides; default: what the libraries choose")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds: for a machine that is busy")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    if options.threads and os.environ.get("OPENBLAS_NUM_THREADS") != str(options.threads):
        limits = {name: str(options.threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=os.environ | limits, check=False).returncode)

    clock = time.process_time if options.cpu_time else time.perf_counter
    sizes = ((4_000, 512), (100_000, 200)) if options.small else ((40_000, 4_096), (1_000_000, 2_000))
    around = surroundings()
    print("  ".join(f"{name} {value}" for name, value in around.items()))
    fast = speed(*sizes[0], options.rounds, clock)
    print(f"\n{fast['items']:,} items x {fast['equal_ranks']['users']:,} users, d={DIM}, about {SEEN} seen, K={K}")
    print(f"  equal ranks asserted: {fast['equal_ranks']}")
    print(f"  usual way       {fast['usual_seconds'] * 1e3:8.0f} ms")
    print(f"  ours, ranks     {fast['ranks_seconds'] * 1e3:8.0f} ms   {fast['ranks_ratio']:.1f}x")
    print(f"  ours, lists     {fast['top_k_seconds'] * 1e3:8.0f} ms   {fast['top_k_ratio']:.1f}x")
    small = memory(*sizes[1])
    print(
        f"\n{small['items']:,} items x {small['users']:,} users; scratch above {small['inputs_mib']:.0f} MiB of inputs:"
    )
    for what in ("ranks", "ranks_and_top_k"):
        print(
            f"  {what:16} {small[f'{what}_scratch_mib_resident']:6.0f} MiB resident, "
            f"{small[f'{what}_scratch_mib_traced']:6.1f} MiB by NumPy, {small[f'{what}_seconds']:.1f} s"
        )
    if options.json:
        print(json.dumps({"surroundings": around, "speed": fast, "memory": small}))


if __name__ == "__main__":
    main()
