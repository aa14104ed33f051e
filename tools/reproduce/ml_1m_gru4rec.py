"""GRU4Rec (every position a target, full softmax) on MovieLens-1M, leave-one-out, length 200.

hatch run python tools/reproduce/ml_1m_gru4rec.py tune      configurations on validation: ml_1m_gru4rec/tune.json
hatch run python tools/reproduce/ml_1m_gru4rec.py final     the best one on test, per seed: ml_1m_gru4rec/final.json
"""

from __future__ import annotations

from dataclasses import replace

from row import Row, main

from rec_core.training import TrainSettings
from rec_data.config import PrepareSettings
from rec_srs import GRU4RecSettings

BASE = GRU4RecSettings(dim=64, max_length=200, dropout=0.2)
TRAINING = TrainSettings(epochs=200, batch_size=64, learning_rate=1e-3, patience=10)

ROW = Row(
    name="ml_1m_gru4rec",
    data="ml-1m",
    prepare=PrepareSettings(k_core=5, split="leave-one-out"),
    model="gru4rec",
    configurations={
        "base": (BASE, TRAINING),
        "state 128": (replace(BASE, hidden=128), TRAINING),
    },
    published={"RecSys reproducibility studies, GRU4Rec with full softmax": {"ndcg@10": 0.1648}},
    bar={"ndcg@10": 0.155},
    seeds=(1,),
)

if __name__ == "__main__":
    main(ROW, __doc__)
