"""Recommenders on item ids, from Popular and EASE to LightGCN, SASRec and BERT4Rec."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rec_srs.bert4rec import BERT4Rec
    from rec_srs.bpr_mf import BPRMF
    from rec_srs.cl4srec import CL4SRec
    from rec_srs.config import (
        BERT4RecSettings,
        BPRMFSettings,
        CL4SRecSettings,
        EASESettings,
        GRU4RecSettings,
        ItemKNNSettings,
        LightGCNSettings,
        NCLSettings,
        PairTraining,
        PopularSettings,
        SASRecSettings,
        SimGCLSettings,
        XSimGCLSettings,
    )
    from rec_srs.ease import EASE, fit_ease
    from rec_srs.export import export_run
    from rec_srs.graph import InteractionGraph
    from rec_srs.gru4rec import GRU4Rec
    from rec_srs.item_knn import ItemKNN, fit_item_knn
    from rec_srs.lightgcn import LightGCN
    from rec_srs.ncl import NCL
    from rec_srs.pairs import PairRecommender, fit_pair_model
    from rec_srs.popular import Popular, fit_popular
    from rec_srs.sasrec import SASRec
    from rec_srs.simgcl import SimGCL
    from rec_srs.train import load, train_model, train_run
    from rec_srs.tune import tune_run
    from rec_srs.xsimgcl import XSimGCL

_HOMES = {
    "BERT4Rec": "bert4rec",
    "BERT4RecSettings": "config",
    "BPRMF": "bpr_mf",
    "BPRMFSettings": "config",
    "CL4SRec": "cl4srec",
    "CL4SRecSettings": "config",
    "EASE": "ease",
    "EASESettings": "config",
    "GRU4Rec": "gru4rec",
    "GRU4RecSettings": "config",
    "InteractionGraph": "graph",
    "ItemKNN": "item_knn",
    "ItemKNNSettings": "config",
    "LightGCN": "lightgcn",
    "LightGCNSettings": "config",
    "NCL": "ncl",
    "NCLSettings": "config",
    "PairRecommender": "pairs",
    "PairTraining": "config",
    "Popular": "popular",
    "PopularSettings": "config",
    "SASRec": "sasrec",
    "SASRecSettings": "config",
    "SimGCL": "simgcl",
    "SimGCLSettings": "config",
    "XSimGCL": "xsimgcl",
    "XSimGCLSettings": "config",
    "export_run": "export",
    "fit_ease": "ease",
    "fit_item_knn": "item_knn",
    "fit_pair_model": "pairs",
    "fit_popular": "popular",
    "load": "train",
    "train_model": "train",
    "train_run": "train",
    "tune_run": "tune",
}
__all__ = [
    "BPRMF",
    "EASE",
    "NCL",
    "BERT4Rec",
    "BERT4RecSettings",
    "BPRMFSettings",
    "CL4SRec",
    "CL4SRecSettings",
    "EASESettings",
    "GRU4Rec",
    "GRU4RecSettings",
    "InteractionGraph",
    "ItemKNN",
    "ItemKNNSettings",
    "LightGCN",
    "LightGCNSettings",
    "NCLSettings",
    "PairRecommender",
    "PairTraining",
    "Popular",
    "PopularSettings",
    "SASRec",
    "SASRecSettings",
    "SimGCL",
    "SimGCLSettings",
    "XSimGCL",
    "XSimGCLSettings",
    "export_run",
    "fit_ease",
    "fit_item_knn",
    "fit_pair_model",
    "fit_popular",
    "load",
    "train_model",
    "train_run",
    "tune_run",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name when it is first used: torch stays out of ``rec-srs --help``."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
