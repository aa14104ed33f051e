"""The one training loop and what models of sequences plug into it (extra ``rec-core[train]``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rec_core.training.config import TrainSettings
from rec_core.training.protocols import AuxiliaryLoss, Batch, ItemEmbeddingLayer, Progress, SequenceModel

if TYPE_CHECKING:
    from rec_core.training.batching import epoch_order, micro_batches, pad, row_uniforms
    from rec_core.training.gather import gather_rows
    from rec_core.training.item_embeddings import IdEmbeddings
    from rec_core.training.loop import FitResult, Step, StepLoss, Task, TrainingError, fit
    from rec_core.training.losses import full_softmax
    from rec_core.training.progress import LogProgress, NoProgress
    from rec_core.training.sequence_recommender import SequenceRecommender
    from rec_core.training.sequence_task import fit_sequence_model

_HOMES = {  # resolved on first use: most of these modules import torch (1.3 s), and settings must not
    # No module may bear the name of something in it: importing it would put the module in the name's place.
    "FitResult": "loop",
    "IdEmbeddings": "item_embeddings",
    "LogProgress": "progress",
    "NoProgress": "progress",
    "SequenceRecommender": "sequence_recommender",
    "Step": "loop",
    "StepLoss": "loop",
    "Task": "loop",
    "TrainingError": "loop",
    "epoch_order": "batching",
    "fit": "loop",
    "fit_sequence_model": "sequence_task",
    "full_softmax": "losses",
    "gather_rows": "gather",
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
    "LogProgress",
    "NoProgress",
    "Progress",
    "SequenceModel",
    "SequenceRecommender",
    "Step",
    "StepLoss",
    "Task",
    "TrainSettings",
    "TrainingError",
    "epoch_order",
    "fit",
    "fit_sequence_model",
    "full_softmax",
    "gather_rows",
    "micro_batches",
    "pad",
    "row_uniforms",
]
