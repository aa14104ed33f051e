"""What a name or a path is: an asset, raw files, a prepared dataset, or anything made of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rec_core.artifacts import MANIFEST, Artifact, open_artifact
from rec_core.assets import cached
from rec_core.dataset import KIND, read_dataset
from rec_core.download import in_bytes
from rec_core.errors import SettingsError
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.sources import DataSource, data_sources

if TYPE_CHECKING:
    from rich.console import Console


RAW_KINDS = ("world", "export")  # artifacts that are raw files too: `prepare` reads them
_WHAT = {
    "world": "made-up world (raw files)",
    "export": "export of a prepared dataset (raw files)",
    "candidates": "candidate lists",
    "samples": "click samples",
    "recommender": "trained model",
}


def inspect(name: Path | str, settings: ReadSettings | None = None) -> dict[str, Any]:
    """A description in plain values; ``what`` says what it is of: an asset, raw files, a prepared dataset, ...

    What has a manifest is checked against its hashes. An asset is described, not fetched. Raises :class:`DataError`
    when there is neither a path nor an asset of that name, and :class:`SettingsError` for options of reading where
    nothing is read.
    """
    path = Path(name)
    if not path.exists():
        if str(name) in data_sources():
            _refuse_options(settings, f"{name} is described, not read")
            return _describe_source(data_sources()[str(name)])
        from rec_data.prepare import not_found

        raise not_found(path)
    if (path / MANIFEST).exists():
        artifact = open_artifact(path)
        if artifact.kind not in RAW_KINDS:
            _refuse_options(settings, f"{path} is no raw data")
            return _describe_dataset(artifact) if artifact.kind == KIND else _describe_artifact(artifact)
        raw = _describe_raw(path, settings or ReadSettings())
        return {**_describe_artifact(artifact), **{k: v for k, v in raw.items() if k not in ("what", "name")}}
    return _describe_raw(path, settings or ReadSettings())


def _describe_source(source: DataSource) -> dict[str, Any]:
    here = cached(source.asset)
    return {
        "what": f"asset ({source.asset.kind})",
        **source.facts(),
        "expected": [str(expected) for expected in source.expected],
        "cached": None if here is None else str(here.path),
    }


def _refuse_options(settings: ReadSettings | None, why: str) -> None:
    if settings not in (None, ReadSettings()):
        raise SettingsError(f"{why}; options for reading raw files do not apply to it")


def _describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """Whatever the manifest says, but for hashes of single files."""
    manifest = artifact.manifest
    usual = ("kind", "schema", "hash", "created", "seed", "settings", "inputs", "payload", "manifest_hash", "name")
    return {
        "what": _WHAT.get(artifact.kind, artifact.kind),
        "name": artifact.path.resolve().name,
        "path": str(artifact.path),
        "hash": artifact.hash,
        "created": manifest["created"],
        "made_from": {i["role"]: f"{i['path']} ({i['hash'][:12]})" for i in manifest["inputs"]},
        "settings": {name: value for name, value in artifact.settings.items() if value is not None},
        **{name: value for name, value in manifest.items() if name not in usual},
        "sizes": {name: in_bytes(entry["bytes"]) for name, entry in manifest["payload"].items()},
    }


def _describe_dataset(artifact: Artifact) -> dict[str, Any]:
    path = artifact.path
    manifest = artifact.manifest
    dataset = read_dataset(artifact)
    source: Mapping[str, Any] = manifest.get("source", {})
    return {
        "what": "prepared dataset",
        "name": dataset.name,
        "path": str(path),
        "hash": artifact.hash,
        "content": manifest["content"]["dataset"],
        "created": manifest["created"],
        "protocol": dataset.split.protocol,
        "counts": dict(manifest["counts"]),
        "settings": _unusual(artifact.settings),
        "source": {k: v for k, v in source.items() if k not in ("licence", "citation", "files")},
        "split": dict(manifest.get("split", {})),
        "licence": source.get("licence"),
        "citation": source.get("citation"),
        "user_fields": list(dataset.users.fields),
        "item_fields": list(dataset.items.fields),
        "first_items": [dataset.items.title(i) for i in range(min(3, len(dataset.items)))],
    }


def _unusual(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    usual = {f.name: f.default for f in fields(PrepareSettings)}
    return {name: value for name, value in settings.items() if usual.get(name) != value}


def _describe_raw(path: Path, settings: ReadSettings) -> dict[str, Any]:
    from rec_data.readers import read

    raw = read(path, settings)
    return {
        "what": "raw files",
        "name": raw.name,
        **raw.facts,
        "files": [str(file) for file in raw.files],
        "lines": raw.lines,
        "dropped": dict(raw.dropped),
        "users": len(raw.rows.user_keys),
        "items": len(raw.rows.item_keys),
        "columns_read": raw.rows.columns,
        "user_fields": [] if raw.users is None else raw.users.columns[1:],
        "item_fields": [] if raw.items is None else raw.items.columns[1:],
    }


def print_description(about: Mapping[str, Any], console: Console) -> None:
    """One row per entry; long text wraps in its own column."""
    from rich.table import Table

    table = Table(title=f"{about['name']}: {about['what']}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in about.items():
        if name not in ("what", "name") and value not in (None, [], {}):
            table.add_row(name.replace("_", " "), in_bytes(value) if name == "size" else _text(value))
    console.print(table)


def _text(value: Any) -> str:
    match value:
        case Mapping():
            return "\n".join(f"{_label(k)}: {_one_line(v)}" for k, v in value.items())
        case list():
            return "\n".join(map(_text, value))
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
    return str(value)


def _label(name: str) -> str:
    return name if "." in name else name.replace("_", " ")  # names of files stay what they are


def _one_line(value: Any) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{k} {_one_line(v)}" for k, v in value.items()) or "nothing"
        case list():
            return ", ".join(map(_one_line, value)) or "-"
        case None:
            return "-"
    return _text(value)
