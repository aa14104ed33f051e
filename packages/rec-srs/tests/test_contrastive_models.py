"""What SimGCL, XSimGCL and NCL share: they learn, keep the contract, resume bit for bit and refuse to be divided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rec_core.errors import SettingsError
from rec_core.evaluation import evaluate
from rec_core.testing import check_recommender
from rec_core.testing.datasets import planted_clusters
from rec_core.training.progress import NoProgress
from rec_core.types import Split
from rec_srs import fit_popular
from rec_srs.config import NCLSettings, PairTraining, SimGCLSettings, XSimGCLSettings
from rec_srs.graph import InteractionGraph
from rec_srs.ncl import NCL
from rec_srs.pairs import PairRecommender, fit_pair_model
from rec_srs.simgcl import SimGCL
from rec_srs.xsimgcl import XSimGCL

MODELS: dict[str, tuple[Any, Any]] = {
    "simgcl": (SimGCL, SimGCLSettings(dim=16, layers=2, weight=0.05)),
    "xsimgcl": (XSimGCL, XSimGCLSettings(dim=16, layers=2, weight=0.05)),
    "ncl": (
        NCL,
        NCLSettings(dim=16, layers=2, prototypes=4, warmup_epochs=2, structure_weight=1e-4, prototype_weight=1e-4),
    ),
}
TRAINING = PairTraining(epochs=8, batch_size=72, learning_rate=1e-2, eval_every=4, patience=0)


def fitted(name: str, split: Split, training: PairTraining = TRAINING, **options: Any) -> nn.Module:
    kind, settings = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model: nn.Module = kind(InteractionGraph.of(split.train), settings)
    fit_pair_model(model, split, training, **{"progress": NoProgress(), **options})
    return model


@pytest.mark.parametrize("name", MODELS)
def test_it_keeps_the_contract_of_a_recommender(name: str) -> None:
    check_recommender(
        lambda split, seed: PairRecommender.of(fitted(name, split, replace(TRAINING, epochs=4, seed=seed)))
    )


@pytest.mark.parametrize("name", MODELS)
def test_it_finds_planted_clusters_where_popularity_finds_nothing(name: str, tmp_path: Path) -> None:
    split = planted_clusters(n_users=120).split
    model = fitted(name, split, replace(TRAINING, epochs=30, eval_every=30), run_dir=tmp_path)
    held_out = split.held_out("test")
    found = evaluate(PairRecommender.of(model), held_out, train=split.train).summary()["ndcg@10"]
    popular = evaluate(fit_popular(split.train), held_out, train=split.train).summary()["ndcg@10"]
    assert found > 0.35  # of 40 items about 5 are left of a user's cluster
    assert popular < 0.2
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    ranking = [step["bpr"] for step in steps if "bpr" in step]
    assert ranking[0] == pytest.approx(0.693, abs=0.05)  # about ln 2: nothing is known yet
    assert ranking[-1] < 0.5


class Interrupted(Exception):
    pass


class StopAt(NoProgress):
    """Interrupts after a number of steps: a kill without its price."""

    def __init__(self, step: int) -> None:
        self.left = step

    def advance(self, steps: int, values: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted


# 4 steps an epoch, the interrupted one is made again; NCL clusters before steps 9 (for the first time) and 13
@pytest.mark.parametrize(
    ("name", "stop_after"), [("simgcl", 11), ("xsimgcl", 11), ("ncl", 3), ("ncl", 9), ("ncl", 11), ("ncl", 13)]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(name: str, stop_after: int, tmp_path: Path) -> None:
    split = planted_clusters().split
    training = replace(TRAINING, epochs=5, checkpoint_every_steps=1)
    assert len(InteractionGraph.of(split.train).users_P) == 275  # 3 steps of 72 and one of 59
    whole = fitted(name, split, training)
    with pytest.raises(Interrupted):
        fitted(name, split, training, run_dir=tmp_path, progress=StopAt(stop_after))
    resumed = fitted(name, split, training, run_dir=tmp_path, resume=True)
    expected = whole.state_dict()
    assert resumed.state_dict().keys() == expected.keys()
    for key, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_a_step_cannot_be_divided_since_its_pairs_are_compared(name: str) -> None:
    with pytest.raises(SettingsError, match="set micro_batches 1"):
        fitted(name, planted_clusters().split, replace(TRAINING, micro_batches=2))


@pytest.mark.parametrize("name", MODELS)
def test_the_fold_in_of_a_training_user_is_its_vector_as_far_as_layer_0_is_no_part_of_it(name: str) -> None:
    split = planted_clusters().split
    model = fitted(name, split, replace(TRAINING, epochs=1))
    answers = PairRecommender.of(model)  # type: ignore[arg-type]
    histories = split.train.histories().take([5, 9, 31])
    known = answers.user_vectors(histories)
    own = model.users.detach()[[5, 9, 31]].numpy() / 3 if name == "ncl" else 0.0  # NCL: layers 0, 1, 2
    unseen = answers.user_vectors(replace(histories, users=histories.users * 0 - 1))
    torch.testing.assert_close(torch.from_numpy(unseen + own), torch.from_numpy(known))
