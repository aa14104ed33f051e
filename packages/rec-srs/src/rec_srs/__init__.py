"""Recommenders on item ids: Popular, ItemKNN, EASE, SASRec."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rec_srs.config import EASESettings, ItemKNNSettings, PopularSettings, SASRecSettings
    from rec_srs.ease import EASE, fit_ease
    from rec_srs.item_knn import ItemKNN, fit_item_knn
    from rec_srs.popular import Popular, fit_popular
    from rec_srs.sasrec import SASRec
    from rec_srs.train import load, train_run, train_sasrec

_HOMES = {
    "EASE": "ease",
    "EASESettings": "config",
    "ItemKNN": "item_knn",
    "ItemKNNSettings": "config",
    "Popular": "popular",
    "PopularSettings": "config",
    "SASRec": "sasrec",
    "SASRecSettings": "config",
    "fit_ease": "ease",
    "fit_item_knn": "item_knn",
    "fit_popular": "popular",
    "load": "train",
    "train_run": "train",
    "train_sasrec": "train",
}
__all__ = [
    "EASE",
    "EASESettings",
    "ItemKNN",
    "ItemKNNSettings",
    "Popular",
    "PopularSettings",
    "SASRec",
    "SASRecSettings",
    "fit_ease",
    "fit_item_knn",
    "fit_popular",
    "load",
    "train_run",
    "train_sasrec",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name when it is first used: torch stays out of ``rec-srs --help``."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
