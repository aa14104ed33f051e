"""The recommenders of this package by name, with their settings. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rec_core.errors import SettingsError, nearest
from rec_srs.config import EASESettings, ItemKNNSettings, PopularSettings, SASRecSettings


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One recommender.

    name       as on the command line and in the ``rec.recommenders`` entry points
    settings   its settings dataclass
    gradient   True when it is trained step by step (then training settings apply), False when fitted in closed form
    """

    name: str
    settings: type[Any]
    gradient: bool = False


MODELS = {
    kind.name: kind
    for kind in (
        ModelKind("popular", PopularSettings),
        ModelKind("item-knn", ItemKNNSettings),
        ModelKind("ease", EASESettings),
        ModelKind("sasrec", SASRecSettings, gradient=True),
    )
}


def model_kind(name: str) -> ModelKind:
    """The model called ``name``; :class:`SettingsError` offers the nearest one."""
    try:
        return MODELS[name]
    except KeyError:
        raise SettingsError(f"no model called {name!r} is installed{nearest(name, MODELS)}") from None
