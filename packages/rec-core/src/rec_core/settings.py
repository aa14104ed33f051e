"""Settings files: a TOML, JSON or YAML file states what differs from the defaults."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from rec_core.errors import SettingsError, nearest, require


def read_settings_file(path: Path | str, *stages: type, also: Iterable[str] = ()) -> dict[str, Any]:
    """Read a flat settings file and check its keys against the fields of the ``stages`` (settings dataclasses).

    Keys may be spelled with ``-`` or ``_``. Raises :class:`SettingsError` for a file that is missing or unreadable and
    for an unknown key (naming the nearest one).
    """
    path = Path(path)
    known = {f.name for stage in stages for f in fields(stage)} | set(also)
    try:
        loaded = _parse(path.read_text(encoding="utf-8"), path.suffix)
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from error
    except ValueError as error:  # also of the decoder and of both parsers of the standard library
        raise SettingsError(f"settings file {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise SettingsError(f"settings file {path}: wanted key = value pairs, got {type(loaded).__name__}")
    values: dict[str, Any] = {}
    for spelled, value in loaded.items():
        key = str(spelled).replace("-", "_")
        if key not in known:
            raise SettingsError(f"settings file {path}: unknown key {key!r}{nearest(key, sorted(known))}")
        if key in values:
            raise SettingsError(f"settings file {path}: {key!r} stands there twice, once spelled {spelled!r}")
        values[key] = value
    return values


def _parse(text: str, ending: str) -> Any:
    match ending.lower():
        case ".toml":
            return tomllib.loads(text)
        case ".json":
            return json.loads(text)
        case ".yaml" | ".yml":
            yaml = require("yaml", "yaml")
            try:
                return yaml.safe_load(text) or {}  # an empty file says nothing
            except yaml.YAMLError as error:
                raise ValueError(str(error)) from error
        case other:
            raise ValueError(f"unknown ending {other!r}; use .toml, .json or .yaml")
