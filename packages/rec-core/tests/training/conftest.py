"""Bytes are compared here: on a CPU, which promises them, and on one thread, which is fastest for tiny tensors."""

import os

import pytest
import torch

os.environ.setdefault("ACCELERATE_USE_CPU", "true")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
