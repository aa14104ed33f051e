"""SASRec with full softmax on Amazon Beauty 2014 (5-core), leave-one-out, length 50.

hatch run python tools/reproduce/beauty_sasrec.py tune      configurations on validation: beauty_sasrec/tune.json
hatch run python tools/reproduce/beauty_sasrec.py final     the best one on test, per seed: beauty_sasrec/final.json
"""

from __future__ import annotations

from dataclasses import replace

from row import Row, main

from rec_core.training import TrainSettings
from rec_data.config import PrepareSettings
from rec_srs import SASRecSettings

BASE = SASRecSettings(dim=64, blocks=2, heads=1, max_length=50, dropout=0.5)
TRAINING = TrainSettings(epochs=200, batch_size=128, learning_rate=1e-3, patience=15)

ROW = Row(
    name="beauty_sasrec",
    data="amazon-beauty-2014",
    prepare=PrepareSettings(k_core=5, split="leave-one-out"),
    model="sasrec",
    configurations={
        "dropout 0.5": (BASE, TRAINING),
        "dropout 0.5, weight decay 0.1": (BASE, replace(TRAINING, weight_decay=0.1)),
        "dropout 0.5, weight decay 0.5": (BASE, replace(TRAINING, weight_decay=0.5)),
    },
    published={
        "eSASRec 2025": {"ndcg@10": 0.0523, "hr@10": 0.0928},
        "BSARec with cross-entropy": {"ndcg@10": 0.0610, "hr@10": 0.1002},
        "SASRec with binary cross-entropy": {"ndcg@10": 0.0354, "hr@10": 0.0668},
    },
    bar={"ndcg@10": 0.050, "hr@10": 0.088},
)

if __name__ == "__main__":
    main(ROW, __doc__)
