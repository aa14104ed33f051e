"""Blocks read ahead are the same blocks, and errors come where they would."""

import threading

import pytest

from rec_data.ahead import ahead


def test_blocks_come_in_order_and_the_next_is_begun_early():
    begun = threading.Event()

    def blocks():
        yield 1
        begun.set()
        yield 2

    reader = ahead(blocks())
    assert next(reader) == 1
    assert begun.wait(10)  # nobody has asked for the second yet
    assert list(reader) == [2]
    assert list(ahead(iter([]))) == []


def test_an_error_comes_when_its_block_is_asked_for():
    def blocks():
        yield 1
        raise ValueError("second")

    reader = ahead(blocks())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="second"):
        next(reader)


def test_a_reader_that_stops_early_leaves_no_thread_behind():
    reader = ahead(iter(range(10)))
    assert next(reader) == 0
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
