"""A prepared dataset in the layouts of other programs: one module per layout, and ``export`` that calls them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rec_data.export.config import ExportSettings

if TYPE_CHECKING:
    from rec_data.export.run import export, summary

__all__ = ["ExportSettings", "export", "summary"]


def __getattr__(name: str) -> Any:
    """Resolve ``export`` and ``summary`` when first used: polars stays out of ``rec-data --help``."""
    if name not in ("export", "summary"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.run"), name)
