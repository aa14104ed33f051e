"""Trains every model by every loss for a few steps and prints the losses; run alone or by several processes.

python together.py DIRECTORY
"""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch

from rec_core.errors import RecError
from rec_core.processes import join, leave
from rec_core.testing.datasets import planted_clusters
from rec_core.training import TrainSettings
from rec_core.training.progress import NoProgress
from rec_srs.config import PairTraining
from rec_srs.models import MODELS
from rec_srs.train import train_model

SMALL = {"dim": 8, "max_length": 6, "dropout": 0.0, "attention_dropout": 0.0, "negatives": 4}
LOSSES = {
    "softmax": {},
    "sampled": {"loss": "sampled_softmax"},
    "bce": {"loss": "bce", "negatives_for": "target"},
    "gbce": {"loss": "gbce", "negatives_for": "target"},
    "bpr": {"loss": "bpr"},
}
# 21 users: steps of 8, 8 and 5 rows; of 20 and 1, which is fewer rows than processes
UNEVEN = {"": TrainSettings(epochs=2, batch_size=8, micro_batches=2, learning_rate=0.01, eval_every=0)}
UNEVEN["+1"] = TrainSettings(epochs=2, batch_size=20, micro_batches=3, learning_rate=0.01, eval_every=0)
PAIRS = PairTraining(epochs=1, batch_size=24, micro_batches=2, eval_every=0)


def cases():
    """(name, model, settings, training)."""
    for name, kind in MODELS.items():
        if kind.family == "sequence":
            known = {field.name for field in fields(kind.settings)}
            small = {key: value for key, value in SMALL.items() if key in known}
            for loss, options in LOSSES.items():
                yield f"{name} {loss}", name, kind.settings(**small | options), UNEVEN[""]
            yield f"{name} of one row", name, kind.settings(**small), UNEVEN["+1"]
        elif kind.family == "pair":
            options = {"prototypes": 3, "warmup_epochs": 0} if name == "ncl" else {}
            divided = name in ("bpr-mf", "lightgcn")
            training = PAIRS if divided else replace(PAIRS, micro_batches=1)
            yield f"{name} in pairs", name, kind.settings(dim=8, **options), training
    small = {key: value for key, value in SMALL.items() if key != "attention_dropout"}
    sasrec = MODELS["sasrec"].settings
    for scope in ("row", "catalogue"):
        options = small | {"loss": "bce", "negatives": 1, "negatives_for": scope, "l2": 0.1}
        yield f"sasrec {scope} and l2", "sasrec", sasrec(**options), UNEVEN[""]
    parity = MODELS["cl4srec"].settings(**small, operators=("crop",), negatives_in_batch="other", weight=0.5)
    yield "cl4srec one direction", "cl4srec", parity, UNEVEN[""]


def curves(directory: Path):
    """(name, losses) of each case; an error's message where it is refused."""
    split = planted_clusters(n_users=21, n_items=40).split
    for name, model, settings, training in cases():
        run_dir = directory / name.replace(" ", "-")
        try:
            train_model(model, split, settings, training, run_dir=run_dir, progress=NoProgress())
        except RecError as refused:
            yield name, str(refused)
            continue
        log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
        yield name, [line["loss"] for line in log if line["event"] == "step"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    join()
    for case, found in curves(Path(sys.argv[1])):
        print(json.dumps([case, found]), flush=True)
    leave()
