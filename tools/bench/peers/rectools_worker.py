"""RecTools' SASRec as a contender. Runs in an environment of its own (``rectools.txt``), driven by ``srs.py``.

    rectools_worker.py '{"data": "<prepared data set>", "length": 200, "batch": 128, ...}'

One call of ``fit``; a callback of Lightning lets it go on for as long as its turn lasts. The model is the library's
default with the sizes asked for: one padded row per user, logits of the whole catalogue at every place, padded or not.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from turns import Gate, Turns, versions

warnings.filterwarnings("ignore")


def events(data: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """All interactions in the order of our prepared data set, and the part (0, 1, 2) of each."""
    items, offsets, bounds = (np.load(data / f"{name}.npy") for name in ("items", "offsets", "boundaries"))
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    place = np.arange(len(items))
    part = (place >= bounds[users, 0]).astype(int) + (place >= bounds[users, 1])
    when = pd.Timestamp("2000-01-01") + pd.to_timedelta(place, unit="s")
    return pd.DataFrame({"user_id": users, "item_id": items, "weight": 1.0, "datetime": when}), part


def main() -> None:
    """Train in turns; ``validate`` ranks the catalogue for the validation users, seen items left out."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    turns = Turns()
    torch.set_num_threads(options["threads"])
    from pytorch_lightning import Callback, Trainer, seed_everything
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    frame, part = events(Path(options["data"]))
    train = Dataset.construct(frame[part == 0])
    seed_everything(options["seed"], verbose=False)

    class InTurns(Callback):  # type: ignore[misc]
        def __deepcopy__(self, memo: object) -> InTurns:  # the library copies its trainer
            return self

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            gate.before_step()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            gate.after_step(int((batch["y"] != 0).sum()), float(outputs["loss"].detach()))

    forever = 10**6
    model = SASRecModel(
        n_factors=options["dim"], n_blocks=options["layers"], n_heads=options["heads"],
        session_max_len=options["length"], batch_size=options["batch"], lr=options["rate"], loss="softmax",
        dropout_rate=options["dropout"], epochs=forever, verbose=0, dataloader_num_workers=0,
        recommend_torch_device="cpu",
        get_trainer_func=lambda: Trainer(
            max_epochs=forever, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False,
            enable_checkpointing=False, callbacks=[InTurns()],
        ),
    )  # fmt: skip

    def validate(request: dict[str, Any]) -> dict[str, Any]:
        model.is_fitted = True  # it answers in the middle of its training
        targets = frame[part == 1][["user_id", "item_id"]].rename(columns={"item_id": "target"})
        lists = model.recommend(users=targets["user_id"].to_numpy(), dataset=train, k=10, filter_viewed=True)
        hits = lists.merge(targets, on="user_id")
        hits = hits[hits["item_id"] == hits["target"]]
        model.is_fitted = False
        model.lightning_model.train()
        ndcg = float((1 / np.log2(hits["rank"] + 1)).sum() / len(targets))
        return {"hr@10": len(hits) / len(targets), "ndcg@10": ndcg, "users": len(targets)}

    gate = Gate(turns, {"validate": validate})
    users = np.diff(np.load(Path(options["data"]) / "offsets.npy"))
    turns.say(ready=versions("rectools", "pytorch-lightning"), threads=torch.get_num_threads(), users=len(users))
    model.fit(train)


if __name__ == "__main__":
    main()
