"""BERT4Rec on MovieLens-1M, leave-one-out, length 200.

    hatch run python tools/reproduce/ml_1m_bert4rec.py tune     on validation: ml_1m_bert4rec/tune.json
    hatch run python tools/reproduce/ml_1m_bert4rec.py final    on test: ml_1m_bert4rec/final.json

Slow to converge: the best published epoch is 197.
"""

from __future__ import annotations

from row import Row, main

from rec_core.training import TrainSettings
from rec_data.config import PrepareSettings
from rec_srs import BERT4RecSettings

ROW = Row(
    name="ml_1m_bert4rec",
    data="ml-1m",
    prepare=PrepareSettings(k_core=5, split="leave-one-out"),
    model="bert4rec",
    configurations={
        "base": (
            BERT4RecSettings(dim=64, blocks=2, heads=2, max_length=200, dropout=0.2, mask_share=0.2),
            TrainSettings(epochs=400, batch_size=64, learning_rate=1e-3, eval_every=2, patience=10),
        ),
    },
    published={"Klenitskiy & Vasilev 2023, BERT4Rec": {"ndcg@10": 0.1618, "best epoch": 197}},
    bar={"ndcg@10": 0.150},
    seeds=(1,),
)

if __name__ == "__main__":
    main(ROW, __doc__)
