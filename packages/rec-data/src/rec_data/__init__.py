"""Raw public datasets and your own tables in, a prepared dataset out.

The functions behind the commands live in modules of their name: ``from rec_data.prepare import prepare``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rec_data.audit import AuditSettings
    from rec_data.catalog_text import clean_items
    from rec_data.config import PrepareSettings, ReadSettings
    from rec_data.filters import k_core
    from rec_data.prepare import make_dataset
    from rec_data.presets import preset
    from rec_data.raw import RawData
    from rec_data.readers import read
    from rec_data.splits import make_split
    from rec_data.stats import dataset_stats
    from rec_data.synthetic import World, small_world

_HOMES = {
    "AuditSettings": "audit",
    "PrepareSettings": "config",
    "RawData": "raw",
    "ReadSettings": "config",
    "World": "synthetic",
    "clean_items": "catalog_text",
    "dataset_stats": "stats",
    "k_core": "filters",
    "make_dataset": "prepare",
    "make_split": "splits",
    "preset": "presets",
    "read": "readers",
    "small_world": "synthetic",
}
__all__ = [
    "AuditSettings",
    "PrepareSettings",
    "RawData",
    "ReadSettings",
    "World",
    "clean_items",
    "dataset_stats",
    "k_core",
    "make_dataset",
    "make_split",
    "preset",
    "read",
    "small_world",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name when it is first used: polars stays out of ``rec-data --help``."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
