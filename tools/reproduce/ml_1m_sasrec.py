"""SASRec with full softmax on MovieLens-1M, leave-one-out, length 200.

    hatch run python tools/reproduce/ml_1m_sasrec.py tune      configurations on validation: ml_1m_sasrec/tune.json
    hatch run python tools/reproduce/ml_1m_sasrec.py final     the best one on test, per seed: ml_1m_sasrec/final.json

About half an hour per run on two cores.
"""

from __future__ import annotations

from dataclasses import replace

from row import Row, main

from rec_core.training import TrainSettings
from rec_data.config import PrepareSettings
from rec_srs import SASRecSettings

BASE = SASRecSettings(dim=64, blocks=2, heads=1, max_length=200, dropout=0.2)
TRAINING = TrainSettings(epochs=200, batch_size=128, learning_rate=1e-3, patience=10)

ROW = Row(
    name="ml_1m_sasrec",
    data="ml-1m",
    prepare=PrepareSettings(k_core=5, split="leave-one-out"),
    model="sasrec",
    configurations={
        "dropout 0.2": (BASE, TRAINING),
        "dropout 0.1, newest window": (replace(BASE, dropout=0.1, window="last"), TRAINING),
        "ligr": (replace(BASE, block="ligr"), TRAINING),
    },
    published={
        "Klenitskiy & Vasilev 2023, SASRec+": {"ndcg@10": 0.1821, "hr@10": 0.3152},
        "gSASRec 2023": {"ndcg@10": 0.1726, "hr@10": 0.3003},
        "eSASRec 2025": {"ndcg@10": 0.1772, "hr@10": 0.3133},
    },
    bar={"ndcg@10": 0.175, "hr@10": 0.305},
)

if __name__ == "__main__":
    main(ROW, __doc__)
