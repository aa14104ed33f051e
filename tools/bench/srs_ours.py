"""Our side of ``srs.py``, and the plain twins, each as a contender that works when it is its turn.

    srs_ours.py '{"what": "sasrec", "data": "<prepared data set>", "length": 200, "batch": 128, ...}'

Training goes through ``fit_sequence_model`` and ``fit_pair_model`` as a user's does; a ``Progress`` that waits lets it
go on for as long as its turn lasts.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]
from srs_twins import (  # noqa: E402
    PairData,
    PostNormSASRec,
    SelfrecLightGCN,
    padded_steps,
    plain_evaluation,
    prefix_steps,
    selfrec_batches,
)
from turns import Gate, Meter, Turns, versions  # noqa: E402

from rec_core.artifacts import open_artifact  # noqa: E402
from rec_core.dataset import read_dataset  # noqa: E402
from rec_core.evaluation import evaluate  # noqa: E402
from rec_core.training import IdEmbeddings, SequenceRecommender, TrainSettings, fit_sequence_model  # noqa: E402
from rec_core.types import Interactions, Split  # noqa: E402

FOREVER = 10**6
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class InTurns:
    """A ``Progress`` that waits for its turn after a step; how many targets a step had it reads in the log."""

    def __init__(self, gate: Gate, run: Path) -> None:
        self.gate, self.path = gate, run / "log.jsonl"
        self.log: IO[str] | None = None

    def start(self, total: int, done: int = 0) -> None:
        """Wait for the first turn."""
        self.gate.before_step()

    def advance(self, steps: int, values: Mapping[str, float]) -> None:
        """Count the step that was made, and wait if the turn is over."""
        if self.log is None:
            self.log = self.path.open()
        step = next(line for line in map(json.loads, self.log.readlines()) if line["event"] == "step")
        self.gate.after_step(step["targets"], step["loss"])
        self.gate.before_step()

    def message(self, text: str) -> None:
        """Nothing."""

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


def read(data: Path) -> Split:
    """A prepared data set."""
    return read_dataset(open_artifact(data, "dataset", verify=False)).split


def training(options: dict[str, Any], **changes: Any) -> TrainSettings:
    """Adam at one rate, no validation, no end."""
    settings = TrainSettings(
        epochs=FOREVER, batch_size=options["batch"], optimiser="adam", learning_rate=options["rate"], eval_every=0,
        seed=options["seed"],
    )  # fmt: skip
    return replace(settings, **changes)


def sasrec(options: dict[str, Any], n_items: int) -> Any:
    """Our SASRec as shipped, with the sizes asked for."""
    from rec_srs.config import SASRecSettings
    from rec_srs.sasrec import SASRec

    settings = SASRecSettings(
        dim=options["dim"], max_length=options["length"], dropout=options["dropout"], blocks=options["layers"],
        heads=options["heads"], loss=options.get("loss", "softmax"), negatives=options.get("negatives", 256),
        attention_dropout=options.get("attention_dropout", 0.0),
    )  # fmt: skip
    torch.manual_seed(options["seed"])
    return SASRec(IdEmbeddings(n_items, settings.dim), settings)


def postnorm(options: dict[str, Any], n_items: int) -> PostNormSASRec:
    """RecBole's network; the table's last row is its row for padding."""
    torch.manual_seed(options["seed"])
    return PostNormSASRec(
        IdEmbeddings(n_items + 1, options["dim"]), max_length=options["length"], layers=options["layers"],
        heads=options["heads"], inner=options["inner"], share=options["dropout"],
    )  # fmt: skip


def train_in_turns(options: dict[str, Any], turns: Turns) -> None:
    """``fit_sequence_model`` without end; ``validate`` ranks the catalogue for the validation users."""
    split = read(Path(options["data"])).for_training()
    model = sasrec(options, split.n_items)
    held_out, train = split.held_out("valid"), split.train

    def validate(request: dict[str, Any]) -> dict[str, Any]:
        recommender = SequenceRecommender(model, split.n_items)
        found = evaluate(recommender, held_out, train=train, ks=(10,), metrics=("hr", "ndcg")).summary()
        return {name: found[name] for name in ("hr@10", "ndcg@10", "users")}

    gate = Gate(turns, {"validate": validate})
    turns.say(ready=versions("accelerate"), threads=torch.get_num_threads(), parameters=_size(model))
    with tempfile.TemporaryDirectory() as run:
        fit_sequence_model(model, split, training(options), run_dir=run, progress=InTurns(gate, Path(run)))


def twin_in_turns(options: dict[str, Any], turns: Turns) -> None:
    """Prefixes or padded rows, by RecBole's network: stands in for a peer that is not there."""
    split = read(Path(options["data"])).for_training()
    model = postnorm(options, split.n_items)
    steps = {"prefix": prefix_steps, "padded": padded_steps}[options["what"]]
    gate = Gate(turns)
    turns.say(ready=versions(), threads=torch.get_num_threads(), parameters=_size(model))
    for event in steps(model, split.train.histories(), options["batch"], options["rate"], options["seed"]):
        if event == "before":
            gate.before_step()
        else:
            gate.after_step(*event)


def fit_to_the_end(options: dict[str, Any], turns: Turns) -> None:
    """Train with validation and patience, then one look at the test part."""
    split = read(Path(options["data"]))
    model = sasrec(options, split.n_items)
    turns.say(ready=versions("accelerate"), threads=torch.get_num_threads(), parameters=_size(model))
    request = turns.next()
    settings = training(options, epochs=request["epochs"], eval_every=1, patience=request["patience"])
    meter = Meter()
    meter.start()
    result = fit_sequence_model(model, split.for_training(), settings)
    spent = meter.stop()
    recommender = SequenceRecommender(model, split.n_items)
    found = evaluate(recommender, split.held_out("test"), train=split.train, ks=(10,), metrics=("hr", "ndcg")).summary()
    turns.say(
        valid=result.best_value, best_epoch=result.best_epoch, epochs=result.epochs, stopped=result.stopped,
        test={name: found[name] for name in ("hr@10", "ndcg@10")}, **spent,
    )  # fmt: skip


def evaluate_in_turns(options: dict[str, Any], turns: Turns) -> None:
    """RecBole's network trained by us for some steps, its weights for RecBole, and our evaluation of it."""
    split = read(Path(options["data"]))
    model = postnorm(options, split.n_items)
    own = sasrec(options, split.n_items)
    if options["train_steps"]:
        fit_sequence_model(model, split.for_training(), training(options, max_steps=options["train_steps"]))
    held_out, train = split.held_out("test"), split.train

    def weights(request: dict[str, Any]) -> dict[str, Any]:
        np.savez(request["path"], **model.as_recbole())
        return {"items": split.n_items}

    def evaluated(request: dict[str, Any]) -> dict[str, Any]:
        meter = Meter()
        meter.start()
        recommender = SequenceRecommender(own if request.get("own") else model, split.n_items)
        found = evaluate(
            recommender, held_out, train=train, ks=(10,), metrics=("hr", "ndcg"), exclude_seen=request["exclude_seen"]
        )
        spent = meter.stop()
        means = {name.partition("[")[0]: float(values.mean()) for name, values in found.per_user.items()}
        return {**means, "users": len(found), **spent}

    def evaluated_plainly(request: dict[str, Any]) -> dict[str, Any]:
        meter = Meter()
        meter.start()
        model.eval()
        means = plain_evaluation(model, held_out, split.n_items, request["batch"])
        return {**means, "users": len(held_out), **meter.stop()}

    def all_positions(request: dict[str, Any]) -> dict[str, Any]:
        """In float64, without dropout, every event but the first of the users numbered below ``users``."""
        chosen = split.train.histories().take(np.arange(request["users"]))
        model.eval().double()
        with torch.no_grad():
            batch = model.batch(chosen, np.arange(len(chosen)), np.random.default_rng(0))
            loss, targets = model.loss(batch)
        model.float()
        return {"loss": float(loss), "targets": len(targets), "longest": int(chosen.lengths.max())}

    answers: dict[str, Answer] = {"weights": weights, "evaluate": evaluated, "all_positions": all_positions}
    answers["evaluate_plainly"] = evaluated_plainly
    turns.say(ready=versions("accelerate"), threads=torch.get_num_threads(), parameters=_size(model))
    while True:
        request = turns.next()
        turns.say(**answers[request["do"]](request))


# ---- graphs ----------------------------------------------------------------------------------------------------------


def pairs_split(data: Path) -> tuple[np.ndarray, Split]:
    """The pairs, and the same as a split without validation."""
    pairs = np.load(data / "pairs.npy")
    sizes = json.loads((data / "sizes.json").read_text())
    rows = Interactions.sorted(pairs[:, 0], pairs[:, 1], n_users=sizes["users"], n_items=sizes["items"])
    return pairs, Split(rows, np.zeros(len(rows), np.uint8), "given")


def lightgcn_in_turns(options: dict[str, Any], turns: Turns) -> None:
    """``fit_pair_model`` without end. ``loss`` and ``sample`` answer on the side."""
    from rec_srs.config import LightGCNSettings, PairTraining
    from rec_srs.graph import InteractionGraph
    from rec_srs.lightgcn import LightGCN
    from rec_srs.pairs import PairBatch, PairSampler, fit_pair_model

    pairs, split = pairs_split(Path(options["data"]))
    settings = LightGCNSettings(
        dim=options["dim"], layers=options["layers"], l2_form=options["l2_form"], bpr_form=options["bpr_form"]
    )
    torch.manual_seed(options["seed"])
    model = LightGCN(InteractionGraph.of(split.train), settings)
    made = PairTraining(
        epochs=FOREVER, batch_size=options["batch"], learning_rate=options["rate"], eval_every=0, seed=options["seed"]
    )

    def loss(request: dict[str, Any]) -> dict[str, Any]:
        """Of given tables and triplets, with the norms of both gradients; the tables are put back afterwards."""
        given = np.load(request["path"])
        before = model.users.detach().clone(), model.items.detach().clone()
        with torch.no_grad():
            model.users.copy_(torch.from_numpy(given["users_table"]))
            model.items.copy_(torch.from_numpy(given["items_table"]))
        batch = PairBatch(*(torch.from_numpy(given[name]) for name in ("users", "positives", "negatives")))
        value, _ = model.loss(batch)
        value.backward()  # type: ignore[no-untyped-call]
        norms = [float(table.grad.norm()) for table in (model.users, model.items)]
        model.zero_grad()
        with torch.no_grad():
            model.users.copy_(before[0])
            model.items.copy_(before[1])
        return {"loss": float(value), "gradients": norms}

    sampler = PairSampler(model.graph, options["seed"])

    def sample(request: dict[str, Any]) -> dict[str, Any]:
        """Order and negatives of one epoch."""
        meter = Meter()
        meter.start()
        drawn = len(sampler.epoch(request["epoch"]).negatives_N)
        return {"targets": drawn, **meter.stop()}

    gate = Gate(turns, {"loss": loss, "sample": sample})
    turns.say(
        ready=versions("accelerate"), threads=torch.get_num_threads(), steps_per_epoch=-(-len(pairs) // made.batch_size)
    )
    with tempfile.TemporaryDirectory() as run:
        fit_pair_model(model, split, made, run_dir=run, progress=InTurns(gate, Path(run)))


def selfrec_in_turns(options: dict[str, Any], turns: Turns) -> None:
    """SELFRec's way. Its steps take triplets drawn beforehand, ``sample`` draws an epoch's."""
    pairs, _ = pairs_split(Path(options["data"]))
    data = PairData(pairs)
    torch.manual_seed(options["seed"])
    model = SelfrecLightGCN(data, options["dim"], options["layers"])
    optimiser = torch.optim.Adam(model.parameters(), lr=options["rate"])
    rng = random.Random(options["seed"])

    def sample(request: dict[str, Any]) -> dict[str, Any]:
        meter = Meter()
        meter.start()
        drawn = sum(len(users) for users, _, _ in selfrec_batches(data, options["batch"], rng))
        return {"targets": drawn, **meter.stop()}

    def loss(request: dict[str, Any]) -> dict[str, Any]:
        given = np.load(request["path"])
        before = model.users.detach().clone(), model.items.detach().clone()
        users = np.array([data.user[f"u{u}"] for u in range(len(data.user))])
        items = np.array([data.item[f"i{i}"] for i in range(len(data.item))])
        with torch.no_grad():
            model.users[users] = torch.from_numpy(given["users_table"])
            model.items[items] = torch.from_numpy(given["items_table"])
        triplet = (users[given["users"]], items[given["positives"]], items[given["negatives"]])
        value = model.loss(*(ids.tolist() for ids in triplet), options["l2"])
        value.backward()  # type: ignore[no-untyped-call]
        norms = [float(table.grad.norm()) for table in (model.users, model.items)]
        model.zero_grad()
        with torch.no_grad():
            model.users.copy_(before[0])
            model.items.copy_(before[1])
        return {"loss": float(value.detach()), "gradients": norms}

    def batches() -> Iterator[tuple[list[int], list[int], list[int]]]:
        kept = [next(made) for made in [selfrec_batches(data, options["batch"], rng)] for _ in range(options["kept"])]
        while True:
            yield from kept

    gate = Gate(turns, {"sample": sample, "loss": loss})
    turns.say(ready=versions(), threads=torch.get_num_threads())
    for users, positives, negatives in batches():
        gate.before_step()
        value = model.loss(users, positives, negatives, options["l2"])
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        gate.after_step(len(users), float(value.detach()))


def _size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


KINDS: dict[str, Callable[[dict[str, Any], Turns], None]] = {
    "sasrec": train_in_turns,
    "prefix": twin_in_turns,
    "padded": twin_in_turns,
    "fit": fit_to_the_end,
    "evaluate": evaluate_in_turns,
    "lightgcn": lightgcn_in_turns,
    "selfrec": selfrec_in_turns,
}


def main() -> None:
    """Be the contender that the options name."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    turns = Turns()
    torch.set_num_threads(options["threads"])
    KINDS[options["what"]](options, turns)
    os._exit(0)


if __name__ == "__main__":
    main()
