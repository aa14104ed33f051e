"""Samples of click prediction, as ReLLa makes them (arXiv 2308.11131): who likes what, given the past?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rec_core.artifacts import Artifact, check_output, open_artifact
from rec_core.dataset import KIND, read_dataset
from rec_core.errors import DataError, SettingsError
from rec_core.samples import write_samples
from rec_core.types import Dataset, Samples
from rec_core.types.ids import Bool, Int64
from rec_data.evaluation_config import SampleSettings
from rec_data.splits import TEST, TRAIN, VALID, UInt8, whole_part, with_history
from rec_data.streams import hashed, stream_key


def samples(data: Path | str, output: Path | str, settings: SampleSettings, *, overwrite: bool = False) -> Artifact:
    """Make the samples of a prepared dataset and write them; see :func:`make_samples`."""
    check_output(output, overwrite=overwrite, made_from=[Path(data)])
    artifact = open_artifact(data, KIND)
    made, facts = make_samples(read_dataset(artifact), settings)
    return write_samples(
        output, made, artifact, settings=settings, seed=settings.seed, about={"facts": facts}, overwrite=overwrite
    )


def make_samples(dataset: Dataset, settings: SampleSettings) -> tuple[Samples, dict[str, Any]]:
    """Samples in order of (part, time, user, row), and plain facts about them.

    Every event with at least ``min_history`` earlier ones of its user is a sample, unless its rating is
    ``history_only`` (``targets="last"``: only the last such event of each user), liked where its rating passes the
    bound. With ``parts="split"`` a sample has the part of its event; the split must keep each user's parts in order, or
    the history of a training sample would hold events that are held out. With ``parts="users"`` all samples of a user
    share a part (Book-Crossing, which has no times): of the n users that have any, in the order of a hash of seed and
    user id, the first floor(share * n) are train, the next floor(``valid_share`` * n) valid, the others test. The split
    of the dataset then means nothing, and models must learn from these samples alone.

    ``few_shot``, ``valid_samples`` and ``test_samples`` keep the first so many of a part in a drawn order, so that a
    smaller set is the beginning of a larger one. The order is ``RandomState(seed).permutation``, a stream that NumPy
    keeps for ever: the rows, in the order, that ``pandas.DataFrame.sample(n, random_state=seed)`` draws, which the
    authors use with seed 42 (but for MovieLens-1M, whose pool comes out of Python's ``random.sample``). A set is the
    beginning of a pool of any size, so the pool itself need not be named.

    Raises :class:`DataError` when there are no ratings, a part comes out with no sample (valid may), all labels are
    equal, or the split is not in order; :class:`SettingsError` when no bound is named or more samples are asked than
    there are.
    """
    events = dataset.split.interactions
    if settings.label_above is None and settings.label_at_least is None:
        raise SettingsError("name the rating that counts as liked: --label-above 3 or --label-at-least 5")
    if events.ratings is None:
        raise DataError(f"samples need ratings, and {dataset.name} has none")
    chosen = with_history(events, settings.min_history)
    if settings.history_only is not None:
        chosen &= events.ratings != np.float32(settings.history_only)
    if settings.targets == "last":
        at = np.flatnonzero(chosen)
        chosen[at[:-1][np.diff(events.users[at]) == 0]] = False
    part = _parts_of_users(dataset, chosen, settings) if settings.parts == "users" else _parts_in_order(dataset)
    at = _in_order(np.flatnonzero(chosen), part, events.timestamps)
    labels = _liked(events.ratings[at], settings)
    made = _drawn(Samples(at, labels, part[at]), settings)
    sizes = np.bincount(made.part, minlength=3)
    if not (sizes[TRAIN] and sizes[TEST]):
        raise DataError(
            f"{dataset.name} gives {sizes[0]:,} / {sizes[1]:,} / {sizes[2]:,} samples (train, valid, test) of events "
            f"with at least {settings.min_history} earlier ones; ask for a smaller --min-history or another split"
        )
    if made.labels.all() or not made.labels.any():
        raise DataError(
            f"all {len(made):,} samples of {dataset.name} are {'liked' if made.labels.all() else 'disliked'} "
            f"({_bound(settings)}; its ratings go from {events.ratings.min():g} to {events.ratings.max():g}); was it "
            f"prepared with --min-rating, or is the bound wrong?"
        )
    return made, {
        "liked_means": _bound(settings),
        "events_that_are_no_sample": len(events) - len(at),
        "samples_left_out": len(at) - len(made),
        "users": len(np.unique(events.users[made.events])),
    }


def _liked(ratings: np.ndarray[Any, np.dtype[np.float32]], settings: SampleSettings) -> Bool:
    if settings.label_above is not None:
        return np.asarray(ratings > np.float32(settings.label_above))
    assert settings.label_at_least is not None
    return np.asarray(ratings >= np.float32(settings.label_at_least))


def _bound(settings: SampleSettings) -> str:
    if settings.label_above is not None:
        return f"rating > {settings.label_above:g}"
    return f"rating >= {settings.label_at_least:g}"


def _parts_in_order(dataset: Dataset) -> UInt8:
    split = dataset.split
    falls = np.diff(split.part.view(np.int8)) < 0
    falls &= np.diff(split.interactions.users) == 0
    if falls.any():
        user = dataset.users.ids.keys[int(split.interactions.users[np.flatnonzero(falls)[0]])]
        raise DataError(
            f"the {split.protocol} split of {dataset.name} puts held-out events of user {user!r} before later ones for "
            f"training, whose history they would be; prepare it with --split global-ratio (or "
            f"another one in order of time), or draw the parts user by user with --parts users"
        )
    return split.part


def _parts_of_users(dataset: Dataset, chosen: Bool, settings: SampleSettings) -> UInt8:
    events = dataset.split.interactions
    users = np.unique(events.users[chosen])
    users = users[np.argsort(hashed(stream_key(settings.seed, "sample parts"), users), kind="stable")]
    n_train = whole_part((1 - settings.valid_share - settings.test_share) * len(users))
    n_valid = whole_part(settings.valid_share * len(users))
    of_user = np.full(events.n_users, TEST)
    of_user[users[:n_train]] = TRAIN
    of_user[users[n_train : n_train + n_valid]] = VALID
    return np.repeat(of_user, np.diff(events.offsets))


def _in_order(at: Int64, part: UInt8, times: Int64 | None) -> Int64:
    """Positions (rising) by part, then time, then position."""
    if times is not None:
        at = at[np.argsort(times[at], kind="stable")]
    return at[np.argsort(part[at], kind="stable")]


def _drawn(made: Samples, settings: SampleSettings) -> Samples:
    """The samples that stay: of a part that is cut, the first ones in drawn order."""
    wishes = (("--few-shot", settings.few_shot), ("--valid-samples", settings.valid_samples))
    kept = []
    for code, (option, wanted) in enumerate((*wishes, ("--test-samples", settings.test_samples))):
        rows = np.flatnonzero(made.part == code)
        if wanted is not None:
            if wanted > len(rows):
                raise SettingsError(f"{option} {wanted:,}: there are {len(rows):,} samples in that part")
            rows = rows[np.random.RandomState(settings.seed).permutation(len(rows))[:wanted]]
        kept.append(rows)
    return made.take(np.concatenate(kept))
