"""RecBole's SASRec and LightGCN as contenders, in an environment of their own (``recbole.txt``), driven by ``srs.py``.

    recbole_worker.py '{"model": "SASRec", "data": "<prepared data set>", "atomic": "<scratch>", "batch": 2048, ...}'

Its own ``Trainer._train_epoch`` and ``Trainer.evaluate`` do the work; the data loader is wrapped to let it go on for as
long as its turn lasts. Ids are written to an atomic file as they are, with the place of an event as its time, so that
the leave-one-out parts are ours.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import Gate, Meter, Turns, versions

warnings.filterwarnings("ignore")
_load = torch.load
torch.load = lambda *a, **k: _load(*a, **{**k, "weights_only": False})  # it pickles its Config


def write_atomic(users: np.ndarray, items: np.ndarray, folder: Path) -> str:
    """``user_id item_id timestamp``, in the order given."""
    name = "contest"
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / name / f"{name}.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for place, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
            file.write(f"{user}\t{item}\t{place}\n")
    return name


def config_of(options: dict[str, Any], name: str) -> dict[str, Any]:
    """What differs from the library's defaults."""
    common = {
        "data_path": options["atomic"], "checkpoint_dir": options["atomic"], "train_batch_size": options["batch"],
        "learning_rate": options["rate"], "use_gpu": False,
        "epochs": 1, "show_progress": False, "state": "ERROR", "metrics": ["Hit", "NDCG"], "topk": [10],
        "valid_metric": "NDCG@10", "metric_decimal_place": 12, "seed": options["seed"],
        "reproducibility": False, "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }  # fmt: skip
    if options["model"] == "LightGCN":
        return common | {
            "embedding_size": options["dim"], "n_layers": options["layers"], "reg_weight": 1e-4,
            "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": "none", "mode": "full"},
        }  # fmt: skip
    return common | {
        "MAX_ITEM_LIST_LENGTH": options["length"], "hidden_size": options["dim"], "inner_size": options["inner"],
        "n_layers": options["layers"], "n_heads": options["heads"], "hidden_dropout_prob": options["dropout"],
        "attn_dropout_prob": options["dropout"], "loss_type": "CE", "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    }  # fmt: skip


class InTurns:
    """A data loader that waits for its turn before it makes the next batch."""

    def __init__(self, loader: Any, gate: Gate) -> None:
        self.loader, self.gate = loader, gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            self.gate.before_step()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch


class Answers:
    """What it can be asked beside steps."""

    def __init__(self, config: Any, model: Any, trainer: Any, loaders: Any, dataset: Any) -> None:
        self.config, self.model, self.trainer, self.dataset = config, model, trainer, dataset
        self.train, self.test = loaders[0], loaders[2]

    def take(self, request: dict[str, Any]) -> dict[str, Any]:
        """Weights of the same network; the table has items in our order and then the row for padding."""
        given = {name: torch.from_numpy(value) for name, value in np.load(request["weights"]).items()}
        table = given.pop("items")
        row_of = self.dataset.field2token_id["item_id"]
        rows = [row_of[str(item)] for item in range(len(table) - 1)] + [0]
        own = torch.empty_like(table)
        own[torch.tensor(rows)] = table
        self.model.load_state_dict(given | {"item_embedding.weight": own})
        return {"items": len(table) - 1}

    def evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        """All test users through ``Trainer.evaluate``, so many in a batch."""
        self.config["eval_batch_size"] = request["batch"]
        test = type(self.test)(self.config, self.test._dataset, self.test._sampler)
        meter = Meter()
        meter.start()
        found = self.trainer.evaluate(test, load_best_model=False)
        spent = meter.stop()
        return {
            "hr@10": float(found["hit@10"]),
            "ndcg@10": float(found["ndcg@10"]),
            "users": len(test.dataset),
            **spent,
        }

    def prefix_loss(self, request: dict[str, Any]) -> dict[str, Any]:
        """Mean loss in float64, without dropout, over every training prefix of the users numbered below ``users``."""
        fields = self.train.dataset.inter_feat
        user_of = self.dataset.field2id_token["user_id"]
        wanted = [i for i, user in enumerate(fields["user_id"].tolist()) if int(user_of[user]) < request["users"]]
        self.model.eval().double()
        with torch.no_grad():
            loss = float(self.model.calculate_loss(fields[torch.tensor(wanted)]))
        self.model.float().train()
        return {"loss": loss, "targets": len(wanted)}


def main() -> None:
    """Train in turns, or answer."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    turns = Turns()
    torch.set_num_threads(options["threads"])
    logging.disable(logging.CRITICAL)
    data = Path(options["data"])
    if options["model"] == "LightGCN":
        pairs = np.load(data / "pairs.npy")
        name = write_atomic(pairs[:, 0], pairs[:, 1], Path(options["atomic"]))
    else:
        offsets = np.load(data / "offsets.npy")
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        name = write_atomic(users, np.load(data / "items.npy"), Path(options["atomic"]))
    command, sys.argv = sys.argv, sys.argv[:1]  # it reads the command line
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    config = Config(model=options["model"], dataset=name, config_dict=config_of(options, name))
    sys.argv = command
    init_seed(options["seed"], False)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    model = get_model(options["model"])(config, loaders[0].dataset).to(config["device"])
    trainer = Trainer(config, model)
    answers = Answers(config, model, trainer, loaders, dataset)
    gate = Gate(turns, {"take": answers.take, "evaluate": answers.evaluate, "prefix_loss": answers.prefix_loss})

    def loss_of(interaction: Any) -> Any:
        loss = model.calculate_loss(interaction)
        size[:] = [len(interaction), float(loss.detach())]
        return loss

    class Counting(InTurns):
        def __iter__(self) -> Iterator[Any]:
            for batch in super().__iter__():
                yield batch
                gate.after_step(int(size[0]), size[1])

    size = [0, 0.0]
    train = Counting(loaders[0], gate)
    turns.say(
        ready=versions("recbole"), threads=torch.get_num_threads(), targets=len(loaders[0].dataset),
        steps_per_epoch=len(loaders[0]),
    )  # fmt: skip
    epoch = 0
    while True:
        trainer._train_epoch(train, epoch, loss_func=loss_of, show_progress=False)
        epoch += 1


if __name__ == "__main__":
    main()
