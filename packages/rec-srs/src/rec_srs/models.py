"""The recommenders of this package by name, with their settings and presets. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal

from rec_core.errors import SettingsError, nearest
from rec_core.training.config import TrainSettings
from rec_srs import config
from rec_srs.presets import PRESETS

Family = Literal["closed form", "sequence", "pair"]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One recommender.

    name       as on the command line and in the ``rec.recommenders`` entry points
    family     how it is fitted: in closed form, step by step on histories, or step by step on user-item pairs
    settings   its settings dataclass
    home       "module:name" of what makes it
    training   its training settings with the defaults that suit it; None for a closed form
    presets    published setups by name
    """

    name: str
    family: Family
    settings: type[Any]
    home: str
    training: type[TrainSettings] | None = None
    presets: Mapping[str, Callable[[], tuple[Any, TrainSettings]]] = field(default_factory=dict)

    @property
    def gradient(self) -> bool:
        """Whether it is trained step by step."""
        return self.training is not None

    def load(self) -> Any:
        """The class or function at ``home``."""
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)


MODELS = {
    kind.name: replace(kind, presets=PRESETS.get(kind.name, {}))
    for kind in (
        ModelKind("popular", "closed form", config.PopularSettings, "rec_srs.popular:fit_popular"),
        ModelKind("item-knn", "closed form", config.ItemKNNSettings, "rec_srs.item_knn:fit_item_knn"),
        ModelKind("ease", "closed form", config.EASESettings, "rec_srs.ease:fit_ease"),
        ModelKind("bpr-mf", "pair", config.BPRMFSettings, "rec_srs.bpr_mf:BPRMF", config.PairTraining),
        ModelKind("lightgcn", "pair", config.LightGCNSettings, "rec_srs.lightgcn:LightGCN", config.PairTraining),
        ModelKind("simgcl", "pair", config.SimGCLSettings, "rec_srs.simgcl:SimGCL", config.PairTraining),
        ModelKind("xsimgcl", "pair", config.XSimGCLSettings, "rec_srs.xsimgcl:XSimGCL", config.PairTraining),
        ModelKind("ncl", "pair", config.NCLSettings, "rec_srs.ncl:NCL", config.PairTraining),
        ModelKind("gru4rec", "sequence", config.GRU4RecSettings, "rec_srs.gru4rec:GRU4Rec", TrainSettings),
        ModelKind("sasrec", "sequence", config.SASRecSettings, "rec_srs.sasrec:SASRec", TrainSettings),
        ModelKind("bert4rec", "sequence", config.BERT4RecSettings, "rec_srs.bert4rec:BERT4Rec", TrainSettings),
        ModelKind("cl4srec", "sequence", config.CL4SRecSettings, "rec_srs.cl4srec:CL4SRec", TrainSettings),
    )
}


def model_kind(name: str) -> ModelKind:
    """The model called ``name``; :class:`SettingsError` offers the nearest one."""
    try:
        return MODELS[name]
    except KeyError:
        raise SettingsError(f"no model called {name!r} is installed{nearest(name, MODELS)}") from None
