"""How a contender and the benchmark talk: one JSON object per line on stdin and stdout. Standard library alone.

A contender loads, says ``ready`` with its versions, then answers requests until there are none. What libraries print
goes to stderr. Only the work between :meth:`Meter.start` and :meth:`Meter.stop` counts; a contender that waits for its
turn in the middle of a training loop has its clock stopped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


class Meter:
    """Seconds, processor seconds of all threads, and the peak of the resident set."""

    def start(self) -> None:
        """Begin; where the system allows it, the peak begins at what is resident now."""
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass
        self.resident = _status("VmRSS")
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.wall

    def stop(self) -> dict[str, float]:
        """What it took."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"seconds": wall, "cpu": cpu, "resident": self.resident, "peak": _status("VmHWM")}


def _status(name: str) -> int:
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return 0


class Turns:
    """The contender's end of the line."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not look like an answer
        sys.stdout = sys.stderr

    def say(self, **values: Any) -> None:
        """One line."""
        self.out.write(json.dumps(values) + "\n")
        self.out.flush()

    def next(self) -> dict[str, Any]:
        """Wait for the next request; the process ends when there is none."""
        line = sys.stdin.readline()
        if not line:
            sys.stderr.flush()
            os._exit(0)  # most likely deep inside somebody's training loop
        request: dict[str, Any] = json.loads(line)
        return request


class Gate:
    """Turns inside a training loop: call :meth:`before_step` before each step and :meth:`after_step` after it.

    ``others`` answers requests that are not about steps, by their name under ``do``; their values are said as they are.
    """

    def __init__(self, turns: Turns, others: dict[str, Any] | None = None) -> None:
        self.turns, self.others = turns, others or {}
        self.meter = Meter()
        self.budget = self.most = 0.0
        self.working = False
        self._clear()

    def _clear(self) -> None:
        self.steps, self.targets, self.loss = 0, 0, 0.0

    def before_step(self) -> None:
        """Go on, or wait: a turn is over after its seconds or its steps, whichever comes first."""
        if self.working and (self.meter.seconds >= self.budget or self.steps >= self.most):
            spent = self.meter.stop()
            self.working = False
            loss = self.loss / max(self.steps, 1)
            self.turns.say(steps=self.steps, targets=self.targets, loss=loss, **spent)
        while not self.working:
            request = self.turns.next()
            if request["do"] == "steps":
                self.budget, self.most = request.get("seconds", 1e18), request.get("most", 1e18)
                self._clear()
                self.working = True
                self.meter.start()
            else:
                self.turns.say(**self.others[request["do"]](request))

    def after_step(self, targets: int, loss: float) -> None:
        """Count what the step was about."""
        self.steps += 1
        self.targets += targets
        self.loss += loss


def versions(*packages: str) -> dict[str, str]:
    """Of Python, torch, numpy and the given distributions."""
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", *packages)}
