"""The one training loop and what models of sequences plug into it (extra ``rec-core[train]``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rec_core.training.config import TrainSettings
from rec_core.training.protocols import AuxiliaryLoss, Batch, ItemEmbeddingLayer, Progress, SequenceModel

if TYPE_CHECKING:
    from rec_core.training.batching import epoch_order, micro_batches, pad, row_uniforms
    from rec_core.training.fit_sequence_model import FitResult, fit_sequence_model
    from rec_core.training.item_embeddings import IdEmbeddings
    from rec_core.training.loop import Step, Task, fit
    from rec_core.training.losses import full_softmax
    from rec_core.training.sequence_recommender import SequenceRecommender

_HOMES = {  # resolved on first use: these modules import torch (1.3 s), and settings must not
    "FitResult": "fit_sequence_model",
    "IdEmbeddings": "item_embeddings",
    "SequenceRecommender": "sequence_recommender",
    "Step": "loop",
    "Task": "loop",
    "epoch_order": "batching",
    "fit": "loop",
    "fit_sequence_model": "fit_sequence_model",
    "full_softmax": "losses",
    "micro_batches": "batching",
    "pad": "batching",
    "row_uniforms": "batching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "AuxiliaryLoss",
    "Batch",
    "FitResult",
    "IdEmbeddings",
    "ItemEmbeddingLayer",
    "Progress",
    "SequenceModel",
    "SequenceRecommender",
    "Step",
    "Task",
    "TrainSettings",
    "epoch_order",
    "fit",
    "fit_sequence_model",
    "full_softmax",
    "micro_batches",
    "pad",
    "row_uniforms",
]
