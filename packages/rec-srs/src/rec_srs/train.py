"""From a prepared data set to a run directory: fit or train a model and write it as an artifact."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rec_core.artifacts import Artifact, Writer, check_output, create, open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import SettingsError
from rec_core.protocols import Recommender
from rec_core.runs import KIND
from rec_core.types import Split
from rec_srs.models import model_kind

if TYPE_CHECKING:
    from rec_core.training import FitResult, Progress, TrainSettings
    from rec_srs.config import SASRecSettings
    from rec_srs.sasrec import SASRec


def train_sasrec(
    split: Split,
    settings: SASRecSettings,
    training: TrainSettings,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[SASRec, FitResult]:
    """Train SASRec on the train part, choosing the epoch by validation; the test part is never looked at.

    Weights are drawn from ``training.seed`` alone. With ``run_dir`` the log and the checkpoints lie there, and
    ``resume`` goes on bit-exactly from the last one.
    """
    import torch

    from rec_core.training import IdEmbeddings, fit_sequence_model
    from rec_srs.sasrec import SASRec

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        try:
            model = SASRec(IdEmbeddings(split.n_items, settings.dim), settings)
        except RuntimeError as error:  # torch's word for a table that does not fit into memory
            raise SettingsError(
                f"no memory for {split.n_items:,} item vectors and {settings.max_length:,} positions of "
                f"{settings.dim:,} numbers each; lower --dim or --max-length"
            ) from error
    result = fit_sequence_model(
        model,
        split,
        training,
        run_dir=run_dir,
        resume=resume,
        progress=progress,
        fingerprint={name: str(value) for name, value in asdict(settings).items()},
    )
    return model, result


def train_run(
    data: Path | str,
    output: Path | str,
    *,
    model: str,
    settings: Any = None,
    training: TrainSettings | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Train ``model`` on the data set at ``data`` and write the run at ``output``.

    ``training`` matters only to models trained by gradient. While such a run is unfinished it lies at
    ``output + ".partial"`` with its log and checkpoints. Raises ``RecError`` for a user's mistakes.
    """
    kind = model_kind(model)
    if resume and not kind.gradient:
        raise SettingsError(f"{model} is fitted in one go: there is nothing to --resume, run it again")
    settings = kind.settings() if settings is None else settings
    if kind.gradient and training is None:
        from rec_core.training import TrainSettings

        training = TrainSettings()
    check_output(output, overwrite=overwrite, resume=resume)
    dataset = open_artifact(data, "dataset")
    split = read_dataset(dataset).split.for_training()
    recorded = {"model": asdict(settings), **({"training": asdict(training)} if kind.gradient and training else {})}
    with create(
        output,
        KIND,
        settings=recorded,
        seed=training.seed if kind.gradient and training else None,
        inputs=[dataset.as_input("dataset")],
        overwrite=overwrite,
        resumable=kind.gradient,
        resume=resume,
    ) as out:
        out.describe(recommender=model, n_items=split.n_items)
        started = time.perf_counter()
        if kind.gradient:
            assert training is not None
            network, result = train_sasrec(
                split, settings, training, run_dir=out.directory, resume=resume, progress=progress
            )
            out.torch_tensors("weights", network.state_dict())
            about = {"best": result.best, "epochs": result.epochs, "steps": result.steps, "seconds": result.seconds}
        else:
            _write_closed_form(out, model, split, settings)
            about = {"seconds": time.perf_counter() - started}
        out.describe(training={**about, "peak_memory_mib": peak_memory_mib()})
    return open_artifact(output, KIND, verify=False)


def _write_closed_form(out: Writer, model: str, split: Split, settings: Any) -> None:
    if model == "popular":
        from rec_srs.popular import fit_popular

        out.array("counts", fit_popular(split.train).counts)
    elif model == "item-knn":
        from rec_srs.item_knn import fit_item_knn

        similarity = fit_item_knn(split.train, settings).similarity
        out.array("indptr", similarity.indptr)
        out.array("indices", similarity.indices)
        out.array("values", similarity.data)
    else:
        from rec_srs.ease import fit_ease

        out.array("weights", fit_ease(split.train, settings).weights)


def load(path: Path | str | Artifact) -> Recommender:
    """The recommender in a run directory of this package (entry point group ``rec.recommenders``)."""
    artifact = path if isinstance(path, Artifact) else open_artifact(path, KIND)
    name = str(artifact.manifest["recommender"])
    settings = model_kind(name).settings(**artifact.settings["model"])
    n_items = int(artifact.manifest["n_items"])
    if name == "popular":
        from rec_srs.popular import Popular

        return Popular(artifact.array("counts"))
    if name == "item-knn":
        from scipy import sparse

        from rec_srs.item_knn import ItemKNN

        parts = (artifact.array("values"), artifact.array("indices"), artifact.array("indptr"))
        return ItemKNN(sparse.csr_array(parts, shape=(n_items, n_items)))
    if name == "ease":
        from rec_srs.ease import EASE

        return EASE(artifact.array("weights"))
    from rec_core.training import IdEmbeddings, SequenceRecommender
    from rec_srs.sasrec import SASRec

    model = SASRec(IdEmbeddings(n_items, settings.dim), settings)
    model.load_state_dict(artifact.torch_tensors("weights"))
    return SequenceRecommender(model)


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
