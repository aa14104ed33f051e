"""Errors a user can mend: each message names the thing, the value found, the value wanted and the next step.

The command line prints a :class:`RecError` as one message and exits with 2; any other exception is our bug and keeps
its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType


class RecError(Exception):
    """A mistake in the input or the surroundings, explained for the person who has to mend it."""


class DataError(RecError):
    """A table, file or array does not hold what it should."""


class SettingsError(RecError):
    """An option or a settings file asks for something that does not exist or does not fit."""


class ArtifactError(RecError):
    """A directory is not a whole, untouched artifact of the expected kind and schema version."""


class AssetError(RecError):
    """A named asset is out of reach everywhere, or its content is not what its checksum promises."""


class MissingExtra(RecError):
    """A module is needed that only an optional extra installs."""


class UnknownUsers(RecError):
    """A recommender that knows only its training users was asked about another one."""


class UnknownKeys(DataError):
    """Raw keys that the id map does not hold."""


def require(module: str, extra: str, package: str = "rec-core") -> ModuleType:
    """Import ``module``, which only ``package[extra]`` installs.

    Raises :class:`MissingExtra` when it is not installed; an installed but broken module raises its own error.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:  # installed but broken inside: show that
            raise
        raise MissingExtra(f"{module} is needed here; install it with: pip install '{package}[{extra}]'") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'sasrec'?"`` for the closest known name, else the list of what there is.

    >>> nearest("sasrek", ["popular", "sasrec"])
    "; did you mean 'sasrec'?"
    """
    known = [str(k) for k in known]
    by_folded = {k.casefold(): k for k in known}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_folded[close[0]]!r}?"
    return f"; there is: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}" if known else "; there is none"
