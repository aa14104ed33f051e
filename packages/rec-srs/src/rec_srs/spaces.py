"""What ``rec-srs tune`` searches: one range per option and model, or what a file says instead. Needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rec_core.errors import SettingsError, nearest
from rec_core.settings import check_values
from rec_srs.models import ModelKind, model_kind


@dataclass(frozen=True, slots=True)
class Between:
    """Numbers from ``low`` to ``high``, both included, on a log scale or not; whole ones where both ends are."""

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are tried first for whether the model takes them."""
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these values."""

    choices: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.choices


Range = Between | OneOf
Space = Mapping[str, Range]

_STEPS: Space = {"learning_rate": Between(1e-4, 5e-3, log=True), "weight_decay": Between(1e-6, 1e-1, log=True)}
_TRANSFORMER: Space = {"dim": OneOf((64, 128, 256)), "blocks": OneOf((1, 2, 3)), "dropout": Between(0.0, 0.6), **_STEPS}
_PAIRS: Space = {"learning_rate": Between(1e-4, 1e-2, log=True), "l2": Between(1e-6, 1e-2, log=True)}
_GRAPH: Space = {**_PAIRS, "layers": OneOf((1, 2, 3, 4))}

SPACES: Mapping[str, Space] = {
    "popular": {},
    "item-knn": {
        "neighbors": Between(20, 800, log=True),
        "shrink": Between(0.0, 100.0),
        "weighting": OneOf(("none", "idf", "bm25")),
    },
    "ease": {"l2": Between(1.0, 10_000.0, log=True)},
    "bpr-mf": {**_PAIRS, "dim": OneOf((32, 64, 128))},
    "lightgcn": _GRAPH,
    "simgcl": {
        **_GRAPH,
        "weight": Between(0.01, 2.0, log=True),
        "temperature": Between(0.1, 0.5),
        "noise": Between(0.01, 0.5, log=True),
    },
    "xsimgcl": {
        **_PAIRS,
        "layers": OneOf((2, 3, 4)),
        "contrast_layer": OneOf((1, 2)),
        "weight": Between(0.01, 2.0, log=True),
        "temperature": Between(0.1, 0.5),
        "noise": Between(0.01, 0.5, log=True),
    },
    "ncl": {
        **_PAIRS,
        "layers": OneOf((2, 3, 4)),
        "temperature": Between(0.03, 0.3, log=True),
        "structure_weight": Between(1e-8, 1e-4, log=True),
        "prototype_weight": Between(1e-9, 1e-5, log=True),
    },
    "gru4rec": {
        "dim": OneOf((64, 128, 256)),
        "layers": OneOf((1, 2)),
        "dropout": Between(0.0, 0.6),
        **_STEPS,
    },
    "sasrec": {**_TRANSFORMER, "heads": OneOf((1, 2, 4))},
    "bert4rec": {**_TRANSFORMER, "heads": OneOf((1, 2, 4)), "mask_share": Between(0.1, 0.7)},
    "cl4srec": {
        **_TRANSFORMER,
        "heads": OneOf((1, 2, 4)),
        "weight": Between(0.01, 1.0, log=True),
        "temperature": Between(0.1, 1.0, log=True),
    },
}
"""What is searched per model, unless a file or fixed options say otherwise."""


def search_space(model: str, *, file: Path | str | None = None, fixed: Collection[str] = ()) -> dict[str, Range]:
    """What to search for a model: its entry of :data:`SPACES`, or what a TOML ``file`` names instead.

    In the file an option has ``{low = 1e-4, high = 1e-2, log = true}``, a list of choices, or ``true`` for the range
    of the table. Options that are ``fixed`` leave the table's space. Raises :class:`SettingsError` for an option that
    the model has not, naming the nearest one, for values of another type, and when nothing is left to search.
    """
    kind = model_kind(model)
    table = SPACES[model]
    if file is None:
        space = {name: choice for name, choice in table.items() if name not in fixed}
        if not space:
            why = f"all that is searched is fixed: {', '.join(fixed)}" if table else "it has nothing to set"
            raise SettingsError(f"there is nothing to tune for {model}: {why}")
        return space
    where = f"space file {file}"
    try:
        asked = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
    known = [field.name for stage in stages(kind) for field in fields(stage)]
    space = {}
    for spelled, given in asked.items():
        name = spelled.replace("-", "_")
        if name not in known:
            raise SettingsError(f"{where}: unknown key {name!r}{nearest(name, known)}")
        if name in space:
            raise SettingsError(f"{where}: {name!r} stands there twice, once spelled {spelled!r}")
        if name in fixed:
            raise SettingsError(f"{where}: {name} is searched there and fixed by an option; leave one of them out")
        if name in ("seed", "metric", "eval_every", "trackers"):
            raise SettingsError(f"{where}: {name} decides how trials are compared, so it is not searched")
        if given is True:
            if name not in table:
                raise SettingsError(
                    f"{where}: {model} has no range for {name} of its own; write low and high, or a list"
                )
            space[name] = table[name]
        else:
            space[name] = _read_range(name, given, where, kind)
    if not space:
        raise SettingsError(f"{where} names nothing to search")
    return space


def stages(kind: ModelKind) -> tuple[type[Any], ...]:
    """The settings dataclasses whose fields are a model's options."""
    return (kind.settings,) if kind.training is None else (kind.settings, kind.training)


def _read_range(name: str, given: Any, where: str, kind: ModelKind) -> Range:
    """A range or list from a file, with values of the option's type."""

    def checked(value: Any) -> Any:
        return check_values({name: value}, where, *stages(kind))[name]

    if isinstance(given, list):
        if not given:
            raise SettingsError(f"{where}: {name} has no choices")
        return OneOf(tuple(tuple(one) if isinstance(one, list) else one for one in map(checked, given)))
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where}: {name} wants {{low = ..., high = ...}}, a list or true; got {given!r}")
    for key in given:
        if key not in ("low", "high", "log"):
            raise SettingsError(f"{where}: {name} has no {key!r}{nearest(key, ('low', 'high', 'log'))}")
    if "low" not in given or "high" not in given:
        raise SettingsError(f"{where}: {name} needs low and high")
    low, high, log = checked(given["low"]), checked(given["high"]), given.get("log", False)
    if isinstance(low, str | bool | list) or isinstance(high, str | bool | list):
        raise SettingsError(f"{where}: {name} is no number; give it a list of choices")
    if not isinstance(log, bool):
        raise SettingsError(f"{where}: {name}: log is true or false; got {log!r}")
    if not low < high:
        raise SettingsError(f"{where}: {name}: low ({low}) must lie below high ({high})")
    if log and low <= 0:
        raise SettingsError(f"{where}: {name}: a log scale starts above 0; got {low}")
    hints = {field.name: field.type for stage in stages(kind) for field in fields(stage)}
    return Between(low, high, log) if hints[name] in ("int", int) else Between(float(low), float(high), log)
