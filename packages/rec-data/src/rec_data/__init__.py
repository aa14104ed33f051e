"""Raw public datasets and your own tables in, a prepared dataset out.

The functions behind the commands live in modules of their name: ``from rec_data.prepare import prepare``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rec_data.config import PrepareSettings, ReadSettings
    from rec_data.filters import k_core
    from rec_data.prepare import make_dataset
    from rec_data.raw import RawData
    from rec_data.readers import read
    from rec_data.splits import global_time, leave_one_out
    from rec_data.stats import dataset_stats

_HOMES = {
    "PrepareSettings": "config",
    "RawData": "raw",
    "ReadSettings": "config",
    "dataset_stats": "stats",
    "global_time": "splits",
    "k_core": "filters",
    "leave_one_out": "splits",
    "make_dataset": "prepare",
    "read": "readers",
}
__all__ = [
    "PrepareSettings",
    "RawData",
    "ReadSettings",
    "dataset_stats",
    "global_time",
    "k_core",
    "leave_one_out",
    "make_dataset",
    "read",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name when it is first used: polars stays out of ``rec-data --help``."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
