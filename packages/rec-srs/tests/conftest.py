"""A small prepared data set on disk, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rec_core.dataset import write_dataset
from rec_core.testing.datasets import planted_clusters


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of 120 users who walk around rings of ten items."""
    path = tmp_path_factory.mktemp("data") / "clusters"
    write_dataset(path, planted_clusters(n_users=120, n_items=40))
    return path
