"""Starting several processes that train together, as a launcher would, to test what each of them says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from subprocess import CompletedProcess


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(arguments: Sequence[str], processes: int = 2, timeout: float = 120.0) -> list[CompletedProcess[str]]:
    """Run ``python ARGUMENTS`` in several processes on the CPU and wait for all of them.

    Unlike a launcher it ends none of them when another fails: whoever hangs then is found out, by
    ``subprocess.TimeoutExpired``.
    """
    port, running = free_port(), []
    for i in range(processes):
        place = {"RANK": i, "LOCAL_RANK": i, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in (place | meeting).items()}
        running.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=timeout) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        CompletedProcess(list(arguments), process.returncode, *words)
        for process, words in zip(running, said, strict=True)
    ]
