"""The next block is read while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(blocks: Iterator[T]) -> Iterator[T]:
    """The same blocks in the same order, each asked for one step early in a thread of its own.

    An error comes when its block is asked for, as it would without. Worth it where a block is made by code that lets
    other threads run: unpacking, decoding, parsing.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, blocks, _END)
        while (block := coming.result()) is not _END:
            coming = thread.submit(next, blocks, _END)
            yield block  # type: ignore[misc]
