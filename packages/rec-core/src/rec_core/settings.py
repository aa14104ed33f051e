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
        text = path.read_text(encoding="utf-8")
        match path.suffix.lower():
            case ".toml":
                loaded: Any = tomllib.loads(text)
            case ".json":
                loaded = json.loads(text)
            case ".yaml" | ".yml":
                loaded = require("yaml", "yaml").safe_load(text)
            case other:
                raise SettingsError(f"settings file {path}: unknown ending {other!r}; use .toml, .json or .yaml")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SettingsError(f"settings file {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise SettingsError(f"settings file {path}: wanted key = value pairs, got {type(loaded).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in loaded.items()}
    for key in values:
        if key not in known:
            raise SettingsError(f"settings file {path}: unknown key {key!r}{nearest(key, sorted(known))}")
    return values
