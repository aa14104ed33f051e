"""From a prepared data set to a run directory: fit or train a model and write it as an artifact."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rec_core.artifacts import Artifact, Writer, check_output, create_together, open_artifact
from rec_core.dataset import read_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.processes import on_main
from rec_core.protocols import Recommender
from rec_core.runs import KIND
from rec_core.types import ItemEmbeddings, Split
from rec_srs.models import ModelKind, model_kind

if TYPE_CHECKING:
    from torch import nn

    from rec_core.training import FitResult, IdEmbeddings, Progress, TrainSettings


def train_model(
    model: str,
    split: Split,
    settings: Any = None,
    training: TrainSettings | None = None,
    *,
    embeddings: ItemEmbeddings | None = None,
    freeze_embeddings: bool = False,
    run_dir: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[Any, FitResult]:
    """Train a model of sequences or of pairs on the train part, choosing the epoch by validation.

    The test part is never looked at. Weights are drawn from ``training.seed`` alone. ``embeddings`` are what the item
    table of a sequence model starts from (kept as they are with ``freeze_embeddings``); they need a row per item. With
    ``run_dir`` the log and the checkpoints lie there, and ``resume`` goes on bit-exactly from the last one.

    Raises :class:`SettingsError` for a closed-form model and for settings that do not fit together,
    :class:`DataError` for embeddings of another height or width, and whatever ``rec_core.training.fit`` raises.
    """
    import torch

    from rec_core.training.memory import is_shortage

    kind = model_kind(model)
    if kind.training is None:
        raise SettingsError(f"{model} is fitted in closed form: use {kind.home.rpartition(':')[2]}")
    settings = kind.settings() if settings is None else settings
    training = kind.training() if training is None else training
    split = split.for_training()
    fingerprint = {name: str(value) for name, value in asdict(settings).items()}
    network: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        try:
            network, fit = _build(kind, split, settings, embeddings, freeze_embeddings)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            sizes = {name: getattr(settings, name, 0) for name in ("dim", "max_length", "hidden", "inner_width")}
            named = ", ".join(f"{name.replace('_', '-')} {size:,}" for name, size in sizes.items() if size)
            raise SettingsError(
                f"no memory for a {model} of {split.n_items:,} items with {named}: lower what is large there"
            ) from error
    if embeddings is not None:
        fingerprint |= {"embeddings": embeddings.digest(), "freeze_embeddings": str(freeze_embeddings)}
    result = fit(network, split, training, run_dir=run_dir, resume=resume, progress=progress, fingerprint=fingerprint)
    return network, result


def _build(
    kind: ModelKind, split: Split, settings: Any, embeddings: ItemEmbeddings | None, freeze: bool
) -> tuple[nn.Module, Callable[..., FitResult]]:
    """The untrained model and the function that trains it."""
    if kind.family == "sequence":
        from rec_core.training import fit_sequence_model

        return kind.load()(_item_layer(split.n_items, settings, embeddings, freeze), settings), fit_sequence_model
    from rec_srs.graph import InteractionGraph
    from rec_srs.pairs import fit_pair_model

    if embeddings is not None:
        raise SettingsError(f"{kind.name} learns its own item vectors; embeddings go into models of sequences")
    return kind.load()(InteractionGraph.of(split.train), settings), fit_pair_model


def _item_layer(n_items: int, settings: Any, embeddings: ItemEmbeddings | None, freeze: bool) -> IdEmbeddings:
    from torch import nn

    from rec_core.training import IdEmbeddings

    if embeddings is None:
        if freeze:
            raise SettingsError("there are no embeddings to freeze: name them with --embeddings")
        layer = IdEmbeddings(n_items, settings.dim, settings.initial_std or 0.02)
        if settings.initial_std == 0:
            nn.init.xavier_uniform_(layer.weight)
        return layer
    if len(embeddings) != n_items:
        raise DataError(
            f"the embeddings have {len(embeddings):,} rows, the data set has {n_items:,} items; were they made from "
            f"this data set?"
        )
    if embeddings.dim != settings.dim:
        raise SettingsError(
            f"the embeddings are {embeddings.dim} wide and dim is {settings.dim}: set --dim {embeddings.dim}, or "
            f"reduce them first"
        )
    return IdEmbeddings.of(embeddings, freeze=freeze)


def train_run(
    data: Path | str,
    output: Path | str,
    *,
    model: str,
    settings: Any = None,
    training: TrainSettings | None = None,
    embeddings: Path | str | None = None,
    freeze_embeddings: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Train ``model`` on the data set at ``data`` and write the run at ``output``.

    ``training`` matters only to models trained by gradient. While such a run is unfinished it lies at
    ``output + ".partial"`` with its log and checkpoints. ``embeddings`` is a directory of item embeddings that the item
    table of a sequence model starts from. Launched as several processes they train together, and the main one writes.
    Raises ``RecError`` for a user's mistakes.
    """
    kind = model_kind(model)
    if resume and not kind.gradient:
        raise SettingsError(f"{model} is fitted in one go: there is nothing to --resume, run it again")
    if kind.family != "sequence" and (embeddings is not None or freeze_embeddings):
        raise SettingsError(f"{model} has no table of item embeddings to start from; a model of sequences has")
    settings = kind.settings() if settings is None else settings
    if kind.training is not None and training is None:
        training = kind.training()
    on_main(lambda: check_output(output, overwrite=overwrite, resume=resume))
    dataset = open_artifact(data, "dataset")
    prepared = read_dataset(dataset)
    split = prepared.split.for_training()
    inputs = [dataset.as_input("dataset")]
    given = None
    if embeddings is not None:
        from rec_core.embeddings import read_embeddings

        source = open_artifact(embeddings, "embeddings")
        inputs.append(source.as_input("embeddings"))
        given = read_embeddings(source, dataset=dataset.hash)
        if len(given) == len(prepared.items) > split.n_items:  # text knows cold items too; the table starts with ours
            given = ItemEmbeddings(given.vectors[: split.n_items].copy(), given.provenance)
    recorded: dict[str, Any] = {"model": asdict(settings)}
    if kind.gradient:
        assert training is not None
        recorded |= {"training": asdict(training), "freeze_embeddings": freeze_embeddings}
    with create_together(
        output,
        KIND,
        settings=recorded,
        seed=training.seed if kind.gradient and training else None,
        inputs=inputs,
        overwrite=overwrite,
        resumable=kind.gradient,
        resume=resume,
    ) as out:
        out.describe(recommender=model, n_items=split.n_items)
        started = time.perf_counter()
        if kind.gradient:
            network, result = train_model(
                model,
                split,
                settings,
                training,
                embeddings=given,
                freeze_embeddings=freeze_embeddings,
                run_dir=out.directory,
                resume=resume,
                progress=progress,
            )
            _write_network(out, kind, network)
            about = {"best": result.best, "epochs": result.epochs, "steps": result.steps, "seconds": result.seconds}
            about |= {"counts": result.counts}
        else:
            _write_closed_form(out, model, split, settings)
            about = {"seconds": time.perf_counter() - started}
        out.describe(training={**about, "peak_memory_mib": peak_memory_mib()})
    return open_artifact(output, KIND, verify=False)


def _write_network(out: Writer, kind: ModelKind, network: Any) -> None:
    """A sequence model's weights; of a pair model the vectors that answer, which need no graph any more."""
    if kind.family == "sequence":
        out.torch_tensors("weights", network.state_dict())
        return
    from rec_srs.pairs import PairRecommender

    answers = PairRecommender.of(network)
    out.array("user_vectors", answers.user_vectors_of_known)
    out.array("item_vectors", answers.item_vectors())
    out.array("trained_users", answers.trained_users)
    if answers.fold_in is not None:
        out.array("fold_in", answers.fold_in)


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
    kind = model_kind(name)
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
    if kind.family == "pair":
        from rec_srs.pairs import PairRecommender

        return PairRecommender(
            artifact.array("user_vectors"),
            artifact.array("item_vectors"),
            artifact.array("fold_in") if artifact.has("fold_in.npy") else None,
            artifact.array("trained_users"),
        )
    import torch

    from rec_core.training import IdEmbeddings, SequenceRecommender

    settings = kind.settings(**artifact.settings["model"])
    with torch.random.fork_rng(devices=[]):  # first weights are drawn for nothing
        model = kind.load()(IdEmbeddings(n_items, settings.dim), settings)
    model.load_state_dict(artifact.torch_tensors("weights"))
    return SequenceRecommender(model, provenance=_provenance(artifact))


def _provenance(artifact: Artifact) -> Mapping[str, Any]:
    """What made the vectors of a run."""
    return {
        "recommender": artifact.manifest["recommender"],
        "run": artifact.hash,
        "dataset": next(i["hash"] for i in artifact.manifest["inputs"] if i["role"] == "dataset"),
        "settings": dict(artifact.settings["model"]),
    }


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
