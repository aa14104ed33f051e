"""Export: read the dataset, let the layout write its files, say what they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rec_core.artifacts import Artifact, create, open_artifact
from rec_core.dataset import KIND as DATASET
from rec_core.dataset import read_dataset
from rec_core.types import Dataset
from rec_data.export.config import ExportSettings
from rec_data.export.written import Written

log = logging.getLogger(__name__)

KIND = "export"
_WRITERS: Mapping[str, tuple[str, str]] = {
    "recbole": ("recbole", "write_recbole"),
    "lc-rec": ("lc_rec", "write_lc_rec"),
    "selfrec": ("pairs", "write_selfrec"),
    "selfrec-sequential": ("sequences", "write_selfrec_sequential"),
    "lightgcn": ("pairs", "write_lightgcn"),
    "sasrec": ("sequences", "write_sasrec"),
    "s3rec": ("sequences", "write_s3rec"),
    "openp5": ("sequences", "write_openp5"),
    "llm-recsys-id": ("sequences", "write_llm_recsys_id"),
    "parquet": ("parquet", "write_parquet"),
}


def export(
    dataset: Dataset | Artifact | Path | str,
    output: Path | str,
    settings: ExportSettings,
    *,
    overwrite: bool = False,
) -> Artifact:
    """Write a prepared dataset, in memory or on disk, in the layout of another program.

    ``output`` becomes a directory with the layout's files, ``export.json`` (what went out, what was left out or has no
    place in the layout, which file gives raw keys back) and a manifest; it appears whole or not at all, and replaces
    an older one with everything in it, so that no file that was derived from the old data is left beside the new.
    Raises :class:`rec_core.errors.RecError` for what the layout cannot express.
    """
    output = Path(output)
    source = None
    if not isinstance(dataset, Dataset):
        source = dataset if isinstance(dataset, Artifact) else open_artifact(dataset, DATASET)
    settings = replace(settings, keys=settings.chosen_keys, name=settings.name or output.name)
    inputs = [source.as_input("dataset")] if source is not None else []
    with create(output, KIND, settings=settings, inputs=inputs, overwrite=overwrite) as writer:
        data = dataset if isinstance(dataset, Dataset) else read_dataset(source or dataset)
        module, function = _WRITERS[settings.format]
        write: Callable[[Written, Dataset, ExportSettings], None]
        write = getattr(import_module(f"rec_data.export.{module}"), function)
        out = Written(writer)
        write(out, data, settings)
        about = {
            "format": settings.format,
            "dataset": data.name,
            "protocol": data.split.protocol,
            "keys": settings.keys,
            "first_id": out.first_id,
            "map": out.map,
            "parts": out.parts,
            "files": out.files,
            "left_out": out.left_out,
            "lost": out.lost,
            "changed": out.changed,
            "notes": out.notes,
        }
        writer.json("export", about)
        writer.describe(name=data.name, counts=out.parts, left_out=out.left_out, lost=out.lost)
    for said in (_losses(out), *out.notes):
        if said:
            log.info("%s: %s", settings.format, said)
    return open_artifact(output, KIND, verify=False)


def _losses(out: Written) -> str:
    """What the files do not hold, in one line; empty where they hold everything."""
    said = []
    if out.left_out:
        said.append("left out: " + ", ".join(f"{reason} {n:,}" for reason, n in out.left_out.items()))
    if out.lost:
        said.append("no place for " + ", ".join(out.lost))
    if out.changed:
        said.append("; ".join(f"{reason} ({n:,} texts)" for reason, n in out.changed.items()))
    return "; ".join(said)


def summary(artifact: Artifact) -> str:
    """What `export` says when it is done."""
    about = artifact.json("export")
    parts = " / ".join(f"{about['parts'].get(part, 0):,}" for part in ("train", "valid", "test"))
    return f"{artifact.path}: {about['format']} with {about['keys']} keys, {parts} events; {', '.join(about['files'])}"
