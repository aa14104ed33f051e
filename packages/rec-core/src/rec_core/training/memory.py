"""Telling a full memory from other errors: each library has a word of its own for it."""

from __future__ import annotations

from rec_core.errors import RecError

# torch on a CPU (Linux, Windows), torch on a GPU, C++ without a memory error of Python's, cuBLAS and its like
_WORDS = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "STATUS_ALLOC_FAILED")


class OutOfMemory(RecError):
    """There is too little memory for what was asked, and no smaller way to do it."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory is full: MemoryError, NumPy's and torch's on a CPU or GPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    )
