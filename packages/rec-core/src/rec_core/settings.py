"""Settings files: a TOML, JSON or YAML file states what differs from the defaults."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rec_core.errors import SettingsError, nearest, require


def read_settings_file(path: Path | str, *stages: type, also: Iterable[str] = ()) -> dict[str, Any]:
    """Read a flat settings file and check its keys against the fields of the ``stages`` (settings dataclasses).

    Keys may be spelled with ``-`` or ``_``. Values must have the type of their field: nothing is rounded, and text is
    not taken for a number. ``also`` names text options beside the stages. Raises :class:`SettingsError` for a file
    that is missing or unreadable, a table in it, an unknown key (naming the nearest one) and a value of another type.
    """
    path = Path(path)
    try:
        loaded = _parse(path.read_text(encoding="utf-8"), path.suffix)
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from error
    except ValueError as error:  # also of the decoder and of both parsers of the standard library
        raise SettingsError(f"settings file {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise SettingsError(f"settings file {path}: wanted key = value pairs, got {type(loaded).__name__}")
    return check_values(loaded, f"settings file {path}", *stages, also=also)


def check_values(given: Mapping[Any, Any], where: str, *stages: type, also: Iterable[str] = ()) -> dict[str, Any]:
    """Values by the names of the stages' fields, spelled with ``_``, once each has a known name and the right type.

    ``where`` begins the messages. Raises :class:`SettingsError` as :func:`read_settings_file` does.
    """
    known = _types(stages) | dict.fromkeys(also, (str,))
    values: dict[str, Any] = {}
    for spelled, value in given.items():
        key = str(spelled).replace("-", "_")
        if isinstance(value, Mapping):
            raise SettingsError(
                f"{where}: {spelled!r} is a table, but settings files are flat: "
                f"write {', '.join(map(str, value)) or 'its keys'} without it"
            )
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}{nearest(key, sorted(known))}")
        if key in values:
            raise SettingsError(f"{where}: {key!r} stands there twice, once spelled {spelled!r}")
        if not any(_fits(value, wanted) for wanted in known[key]):
            wanted = " or ".join(dict.fromkeys(map(_in_words, known[key])))
            number = isinstance(value, str) and any(_fits(1.5, kind) for kind in known[key])
            hint = "; YAML needs the dot in 1.0e-3" if number and where.endswith((".yaml", ".yml")) else ""
            raise SettingsError(f"{where}: {key} is {wanted}; got {value!r}{hint}")
        values[key] = value
    return values


def _types(stages: Iterable[type]) -> dict[str, tuple[Any, ...]]:
    """Name -> the type of that field in each stage that has it."""
    types: dict[str, tuple[Any, ...]] = {}
    for stage in stages:
        hints = get_type_hints(stage)
        for field in fields(stage):
            types[field.name] = (*types.get(field.name, ()), hints[field.name])
    return types


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value, as a parser gives it, has the type of a field; types not known here are left to the field."""
    if get_origin(wanted) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(wanted))
    if get_origin(wanted) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(wanted))
    if get_origin(wanted) in (tuple, list):
        inner = [one for one in get_args(wanted) if one is not Ellipsis]
        one_kind = len(inner) == 1 and (get_origin(wanted) is list or Ellipsis in get_args(wanted))
        kinds = inner * len(value) if one_kind and isinstance(value, list) else inner
        return isinstance(value, list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if wanted in (bool, NoneType, str):
        return isinstance(value, wanted)
    if wanted is Path:
        return isinstance(value, str)
    if wanted in (int, float):  # True is an int for Python only; a whole number is a number
        return not isinstance(value, bool) and isinstance(value, int | wanted)
    return True


def _in_words(wanted: Any) -> str:
    """A type as a message names it."""
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(wanted))
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_in_words(one) for one in get_args(wanted) if one is not NoneType)
    if get_origin(wanted) in (tuple, list):
        inner = [one for one in get_args(wanted) if one is not Ellipsis]
        size = "" if Ellipsis in get_args(wanted) or get_origin(wanted) is list else f" of {len(inner)}"
        return f"a list{size}, each {' or '.join(dict.fromkeys(map(_in_words, inner)))}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path (text)"}
    return words.get(wanted, str(wanted))


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
