"""What several processes do together; each scenario is run by all of them and prints what its process saw.

python together.py DIRECTORY SCENARIO ...
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from rec_core.artifacts import create_together, open_artifact
from rec_core.errors import DataError, RecError
from rec_core.processes import is_main_process, join, leave, on_main, process_index
from rec_core.testing.tiny_sequence_model import TinySequenceModel
from rec_core.training import TrainSettings, fit_sequence_model, gather_rows
from rec_core.training.progress import NoProgress
from rec_core.types import Interactions, Split

SETTINGS = TrainSettings(epochs=2, batch_size=4, micro_batches=2, learning_rate=0.02, clip_norm=0.5, eval_every=0)


def split(n_users=13):
    """Walks of 3 to 7 events; 13 users make steps of 4, 4, 4 and 1 rows: the last has fewer rows than processes."""
    lengths = 3 + np.arange(n_users) * 7 % 5
    users = np.repeat(np.arange(n_users), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    items = (users * 5 + place * (1 + users % 2)) % 17
    last = np.append(np.diff(users) > 0, True)
    events = Interactions.sorted(users, items, timestamps=place, n_users=n_users, n_items=17)
    return Split(events, last.astype(np.uint8), "leave_one_out")


class Comparing(TinySequenceModel):
    """Adds a loss that compares the newest vectors of all rows of the step with each other."""

    whole_steps = True

    def loss(self, batch):
        if not len(batch.items_BL):
            rows, value, targets = self.mix.weight.new_zeros(0, 8), 0.0, batch.targets_BL.flatten()
        else:
            value, targets = super().loss(batch)
            rows = self.encode(batch)
        rows = gather_rows(rows)
        unit = F.normalize(rows, dim=1)
        return value + 0.7 * (unit @ unit.T / 0.1).logsumexp(dim=1).mean(), targets


class Partial(TinySequenceModel):
    """Has a parameter that only rows of five events use: often on one process alone, in one piece alone."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.rare = torch.nn.Parameter(torch.ones(8))

    def hidden(self, batch):
        found = super().hidden(batch)
        uses_B11 = (batch.mask_BL.sum(1) == 4)[:, None, None]
        return torch.where(uses_B11, found * self.rare, found) if uses_B11.any() else found


class NotANumber(TinySequenceModel):
    """Item 3 has no number once it is a target of user 8, which is in the second step."""

    def batch(self, histories, rows, rng):
        made = super().batch(histories, rows, rng)
        if rng is not None and 8 in rows:
            return made._replace(targets_BL=torch.full_like(made.targets_BL, -1))
        return made

    def loss(self, batch):
        value, targets = super().loss(batch._replace(targets_BL=batch.targets_BL.clamp(min=0)))
        return value * (float("nan") if (batch.targets_BL < 0).any() else 1.0), targets


class BadRow(TinySequenceModel):
    """Refuses user 8, which one process alone has."""

    def batch(self, histories, rows, rng):
        if rng is not None and 8 in rows:
            raise DataError("user 8 cannot be")
        return super().batch(histories, rows, rng)


def trained(kind, directory, **options):
    """Losses and weights of a training in float64."""
    torch.manual_seed(0)
    model = kind.seeded(17, seed=1).double()
    settings = options.pop("settings", SETTINGS)
    result = fit_sequence_model(model, split(), settings, run_dir=directory, progress=NoProgress(), **options)
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    numbers = {name: tensor.detach().flatten().tolist() for name, tensor in model.state_dict().items()}
    return {"losses": [line["loss"] for line in log if line["event"] == "step"], **numbers}, result


def curves(directory):
    for kind in (TinySequenceModel, Comparing, Partial):
        found, _ = trained(kind, directory / f"{kind.__name__}")
        yield kind.__name__, found
    validated = replace(SETTINGS, eval_every=1, epochs=3, patience=1)
    _, result = trained(TinySequenceModel, directory / "validated", settings=validated)
    yield "validated", {k: v for k, v in asdict(result).items() if k != "seconds"}
    trained(TinySequenceModel, directory / "cut", settings=replace(SETTINGS, max_steps=5))
    found, _ = trained(TinySequenceModel, directory / "cut", resume=True)
    yield "resumed", found


def gathered(directory):
    rng = np.random.default_rng(0)
    for counts in ((3, 1), (0, 2), (0, 0), (2, 2)):
        rows = torch.from_numpy(rng.normal(size=(sum(counts), 4))).requires_grad_()
        first = sum(counts[: process_index()])
        own = rows[first : first + counts[process_index()]].detach().requires_grad_()
        found = gather_rows(own)
        weight = (0.25, 0.75)[process_index()]  # as the loop weights the processes: together one
        value = (F.softmax(found @ found.T, dim=1) * torch.arange(len(found))).sum()
        (value * weight).backward()
        yield f"rows {counts}", [torch.equal(found, rows), own.grad.tolist()]
        value = (F.softmax(rows @ rows.T, dim=1) * torch.arange(len(rows))).sum()
        value.backward()
        yield f"one process {counts}", rows.grad[first : first + counts[process_index()]].tolist()
    yield "ids", gather_rows(torch.arange(process_index() + 1)).tolist()
    with torch.no_grad():
        yield "without gradient", gather_rows(torch.ones(1, 2, requires_grad=True)).requires_grad


def shared(directory):
    """Main alone works; everyone hears of it."""
    yield "result", on_main(lambda: {"by": process_index()})
    backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
    yield "hours", backend.options._timeout.total_seconds() / 3600
    for error in (DataError("no such thing"), ZeroDivisionError("by nought")):

        def fails(error=error):
            raise error

        try:
            on_main(fails)
        except Exception as caught:
            yield type(error).__name__, [type(caught).__name__, str(caught)]
    with create_together(directory / "made", "thing", settings={"a": 1}) as out:
        out.json("by", process_index())
        out.describe(said=process_index())
        out.file("text.txt").write_text(f"process {process_index()}")
    made = open_artifact(directory / "made", "thing")
    yield "made", [made.json("by"), made.manifest["said"], (made.path / "text.txt").read_text()]
    try:
        with create_together(directory / "made", "thing"):
            raise AssertionError
    except RecError as caught:
        yield "refused", [type(caught).__name__, str(caught).replace(str(directory), "")]
    try:
        trained(NotANumber, directory / "nan")
    except RecError as caught:
        yield "nan", str(caught)


def one_fails(directory):
    """One process fails in the middle of a training; the other must not wait for ever."""
    try:
        trained(BadRow, directory / "bad")
    except RecError as caught:
        yield "failed", f"{type(caught).__name__}: {caught}"


def main():
    directory, scenarios = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    join()
    for scenario in scenarios:
        for name, found in globals()[scenario](directory):
            print(json.dumps([name, found]), flush=True)
    if "one_fails" not in scenarios:
        leave()
    assert is_main_process() == (process_index() == 0)


if __name__ == "__main__":
    main()
