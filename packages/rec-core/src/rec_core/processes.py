"""Several processes that make one artifact together, as ``torchrun`` and ``accelerate launch`` start them.

Every process runs the same program. What is shared (an output directory, a check, an evaluation) is the business of the
main process, number 0: :func:`on_main` runs it there and tells the others how it went, so that all of them go on or all
of them stop with the same error. Started alone, each function here is the plain thing. torch is imported only where
there is more than one process, and NumPy never: every command line imports this.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from rec_core.errors import RecError, SettingsError

T = TypeVar("T")

# How long a process waits for another. The main one ranks the whole catalogue while the others wait, which on a large
# one takes longer than the half hour (gloo) or ten minutes (NCCL) that are customary. One that died is noticed at once.
WAIT = timedelta(days=1)
_ASKED = 0.5  # seconds in which the others have asked whether a message was said
_GRACE = 3.0  # seconds in which a launcher that sees its first process fail has ended the others

# As accelerate reads them: torchrun's name first, then those of MPI's launchers.
_COUNT = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_INDEX = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")


def process_count() -> int:
    """How many processes there are; 1 when this one was started alone."""
    group = _group()
    return int(group.get_world_size()) if group is not None else max(1, _number(_COUNT, 1))


def process_index() -> int:
    """The number of this process, from 0."""
    group = _group()
    return int(group.get_rank()) if group is not None else _number(_INDEX, 0)


def is_main_process() -> bool:
    """Whether this is process 0: the one that writes files and prints."""
    return process_index() == 0


def _number(names: Sequence[str], default: int) -> int:
    """What the launcher put into the environment; a scheduler's own numbers without an address to meet do not count."""
    if "MASTER_ADDR" not in os.environ:
        return default
    found = next((os.environ[name] for name in names if os.environ.get(name, "").isdigit()), None)
    return default if found is None else int(found)


def _group() -> Any:
    """``torch.distributed`` when its processes have met, else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def join() -> None:
    """Meet the other processes, where there are any and it has not happened yet.

    Raises :class:`SettingsError` when the launcher started another number than it meant to.
    """
    if _group() is not None or process_count() < 2:
        return
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate believes that torchrun means GPUs; without one it would let every process train on its own
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    PartialState(cpu=cpu, timeout=WAIT)
    if _group() is None:
        raise SettingsError(f"{process_count()} processes were started and could not be joined; launch with torchrun")


def leave() -> None:
    """Part from the other processes at the end of a program that went well.

    Left to the end of the interpreter, a thread of theirs now and then aborts it (gloo) or warns (NCCL).
    """
    group = _group()
    if group is not None:
        gc.collect()  # a model wrapped for data-parallel training holds the group, in a cycle
        group.destroy_process_group()


def launched_alone_by_mistake() -> bool:
    """Whether ``accelerate launch --cpu --num_processes N`` started one process, which is all it does without MPI."""
    meant_several = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    return meant_several and not any(name in os.environ for name in _COUNT)


def on_main(work: Callable[[], T]) -> T:
    """Run ``work`` on the main process alone and return its result everywhere. Every process must call this.

    A :class:`RecError` it raises is raised by all of them; any other exception keeps its traceback on the main process
    and becomes a RecError that names it on the others. The result has to be picklable.
    """
    if process_count() < 2:
        return work()
    join()
    error: Exception | None = None
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome[0] = work()
        except Exception as raised:
            error = raised
            told = raised if isinstance(raised, RecError) else None
            outcome[0] = _Failure(told or RecError(f"process 0 stopped: {type(raised).__name__}: {raised}"))
    _group().broadcast_object_list(outcome, src=0)
    if error is not None:
        raise error
    if isinstance(outcome[0], _Failure):
        raise outcome[0].error
    found: T = outcome[0]
    return found


class _Failure:
    """An error on its way to the other processes; a result cannot be mistaken for it."""

    def __init__(self, error: RecError) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _Failure._again, (type(self.error), str(self.error))

    @staticmethod
    def _again(kind: type[RecError], message: str) -> _Failure:
        return _Failure(kind(message))


def speaks(message: str) -> bool:
    """Whether this process is the one to say ``message``: of several that want to say the same, one does."""
    if process_count() < 2:
        return True
    group = _group()
    if group is None:  # a mistake found before they met is the same for all: leave it to the first process of this host
        if _number(_LOCAL, 0) != 0:
            time.sleep(_GRACE)
        return True
    try:
        from torch.distributed.distributed_c10d import _get_default_store

        said = _get_default_store().add(f"rec_core/said/{sha256(message.encode()).hexdigest()}", 1)
    except RuntimeError:  # the process that kept the store has gone
        return True
    return bool(said == 1)


def stop(code: int) -> None:
    """End this process with ``code``; nothing of the interpreter's end is run where there are several.

    What still waits for the others there would now and then abort it. The main process may keep the list of what was
    said, so it gives the others a moment to look.
    """
    if process_count() > 1:
        if is_main_process():
            time.sleep(_ASKED)
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)


def lost_contact(error: BaseException) -> bool:
    """Whether an error means that another process has gone in the middle of an exchange."""
    if process_count() < 2 or not isinstance(error, RuntimeError):
        return False
    from torch.distributed import DistError

    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "NCCL")
    return isinstance(error, DistError) or any(word in str(error) for word in words)
