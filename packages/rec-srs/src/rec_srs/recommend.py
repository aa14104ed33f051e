"""Answers with titles: for a user of the data set, or for a history named item by item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rec_core.cli import console
from rec_core.errors import DataError, RecError, SettingsError, UnknownUsers
from rec_core.protocols import Recommender
from rec_core.types import Candidates, Dataset, Histories
from rec_core.types.ids import Int32
from rec_srs.models import MODELS


@dataclass(frozen=True, slots=True)
class Answer:
    """What was watched and what is recommended.

    history          (raw key, title) of each event, oldest first
    recommendations  (raw key, title, score), best first
    """

    history: tuple[tuple[str, str], ...]
    recommendations: tuple[tuple[str, str, float], ...]


_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
Until = Literal["end", "test", "valid"]
_LIMIT = {"valid": 1, "test": 2, "end": 3}


def user_history(dataset: Dataset, key: str, until: Until = "end") -> Histories:
    """The one-row history of a user by raw key: whole, or as it stood before the test or the validation part."""
    user = dataset.users.ids.id(key)
    split = dataset.split
    events = split.interactions
    limit = _LIMIT[until]
    offsets = np.searchsorted(events.users, [user, user + 1])
    mine = slice(int(offsets[0]), int(offsets[1]))
    items = events.items[mine][split.part[mine] < limit]
    return Histories.of([items], [user])


def histories_until(dataset: Dataset, until: Until) -> Histories:
    """One row per user of the data set, in the order of ids and empty where there is nothing to read."""
    split = dataset.split
    return split.interactions.where(split.part < _LIMIT[until]).histories()


def named_history(dataset: Dataset, names: Sequence[str]) -> Histories:
    """A one-row history of a user never seen, from raw keys or exact titles, oldest first."""
    items = [dataset.items.find(name) for name in names]
    cold = [name for name, item in zip(names, items, strict=True) if item >= dataset.items.n_interacted]
    if cold:
        raise SettingsError(f"no training interactions with {cold[0]!r}: this model knows items by their interactions")
    return Histories.of([items])


def histories_of_file(dataset: Dataset, path: Path) -> Histories:
    """Histories of users never seen from a file with one JSON list of raw keys or exact titles per line."""
    rows: list[Int32] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"histories {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"histories {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        where = f"histories {path}, line {number}"
        try:
            names = json.loads(line)
        except ValueError:
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DataError(f'{where}: wanted a JSON list of items such as ["Heat (1995)", "318"]; got {line[:80]!r}')
        try:
            rows.append(named_history(dataset, names).items)
        except RecError as error:
            raise DataError(f"{where}: {error}") from error
    if not rows:
        raise DataError(f"histories {path}: the file is empty")
    return Histories.of(rows)


def check_answerable(recommender: Recommender, model: str, asked: Histories, user: str | None, until: Until) -> None:
    """Say what to do instead where a recommender has no answer for a request, all known users or none.

    Raises :class:`UnknownUsers` for someone never seen where only users of the training are known, and
    :class:`DataError` for an empty history where there is nothing to answer from.
    """
    kind = MODELS.get(model)
    if recommender.known_users_only and asked.users[0] < 0:
        able = [name for name, other in MODELS.items() if other.family != "pair"]
        folding = [name for name, other in MODELS.items() if other.family == "pair" and name != model]
        raise UnknownUsers(
            f"{model} has a vector for each user of its training and none for a history alone: ask for --user KEY, or "
            f"train one that reads histories ({', '.join(able)}) or folds them in ({', '.join(folding)})"
        )
    if user is not None and not len(asked.items) and kind is not None and kind.family == "sequence":
        later = "; --until end reads all" if until != "end" else ""
        raise DataError(
            f"user {user!r} has no event before the {until} part, and {model} has nothing else to answer from{later}"
        )


def recommend(
    recommender: Recommender, dataset: Dataset, histories: Histories, k: int, *, seen: bool = False
) -> list[Answer]:
    """The k best items per row with raw keys and titles; items of the history return only when ``seen`` is True."""
    if k < 1:
        raise SettingsError(f"k must be at least 1; got {k}")
    exclude = None if seen else Candidates(histories.offsets, histories.items)
    rankings = recommender.recommend(histories, min(k, recommender.n_items), exclude=exclude)
    keys, items = dataset.items.ids.keys, dataset.items
    return [
        Answer(
            tuple((keys[i], items.title(int(i))) for i in histories.row(r)),
            tuple(
                (keys[i], items.title(int(i)), float(score))
                for i, score in zip(rankings.items[r], rankings.scores[r], strict=True)
                if i >= 0
            ),
        )
        for r in range(len(histories))
    ]


def print_answer(answer: Answer, *, as_json: bool = False) -> None:
    """Show one answer as a table, or as JSON for machines."""
    if as_json:
        print(json.dumps(asdict(answer), ensure_ascii=False))
        return
    from rich.markup import escape
    from rich.table import Table

    shown = answer.history[-10:]
    newest = f"{len(answer.history)} events, the newest: " if len(answer.history) > len(shown) else ""
    out = console()
    titles = ", ".join(_on_one_line(title) for _, title in shown)
    out.print(f"after {newest}{titles}", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("key", overflow="fold")
    table.add_column("score", justify="right")
    for place, (key, name, score) in enumerate(answer.recommendations, start=1):
        table.add_row(str(place), escape(_on_one_line(name)), escape(_on_one_line(key)), f"{score:.4g}")
    out.print(table)


def _on_one_line(text: str) -> str:
    """Text without what would move or colour a terminal: line breaks and control characters are spaces."""
    return text.translate(_CONTROLS)
