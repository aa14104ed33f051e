"""Texts of a synthetic world: made-up words that tell clusters and styles, or nothing.

The first words of the language belong to the clusters (two fifths), the next to the styles (one fifth), the others to
nobody. Texts are drawn in blocks of fixed size, each from a stream of its own: any range can be made by itself.
"""

from __future__ import annotations

import numpy as np

from rec_core.randomness import generator
from rec_core.types.ids import Int64
from rec_data.synthetic import World, coprime

BLOCK = 1 << 16  # items or users whose texts are drawn together
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_CLUSTER, _STYLE, _NEITHER = range(3)


def words(world: World) -> list[str]:
    """The language: ``world.vocabulary`` different words of two syllables, or of three where two are not enough."""
    base = len(_SYLLABLES)
    syllables = 2 if world.vocabulary <= base**2 else 3
    n = base**syllables
    first = int(generator(world.seed, "world", "words").integers(n))
    numbers = [(first + coprime(n) * word) % n for word in range(world.vocabulary)]
    return ["".join(_SYLLABLES[number // base**at % base] for at in range(syllables)) for number in numbers]


def cluster_words(world: World, cluster: int) -> range:
    """Which words belong to a cluster, as positions in :func:`words`."""
    n = max(2, 2 * world.vocabulary // (5 * world.clusters))
    return range(cluster * n, (cluster + 1) * n)


def style_words(world: World, style: int) -> range:
    """Which words belong to a style."""
    first = cluster_words(world, world.clusters - 1).stop
    n = max(2, world.vocabulary // (5 * world.styles))
    return range(first + style * n, first + (style + 1) * n)


def item_texts(world: World, start: int = 0, stop: int | None = None) -> dict[str, list[str]]:
    """``title`` and ``description`` of items ``start:stop``.

    A title has a word of the cluster, one of the style and one of neither, in an order drawn for each item; a
    description has twelve words, each of the cluster (probability 0.3), of the style (0.2) or of neither.
    """
    stop = world.items if stop is None else stop
    language, texts = words(world), {"title": [], "description": []}  # type: tuple[list[str], dict[str, list[str]]]
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        groups = world.item_groups[first : first + BLOCK].astype(np.int64)
        rng = generator(world.seed, "world", "texts", block)
        in_title = rng.permuted(np.tile([_CLUSTER, _STYLE, _NEITHER], (len(groups), 1)), axis=1)
        in_description = np.searchsorted([0.3, 0.5], rng.random((len(groups), 12)), side="right")
        said = _drawn(world, rng, np.concatenate([in_title, in_description], axis=1), groups)
        for row in said[max(start - first, 0) : stop - first].tolist():
            texts["title"].append(" ".join(language[word].capitalize() for word in row[:3]))
            texts["description"].append(" ".join(language[word] for word in row[3:]).capitalize() + ".")
    return texts


def user_texts(world: World, start: int = 0, stop: int | None = None) -> dict[str, list[str]]:
    """``interest`` (for nine of ten a word of the user's cluster), ``age`` and ``town`` of users ``start:stop``.

    The age lies within 16 years from one that depends on the style; the town says nothing.
    """
    stop = world.users if stop is None else stop
    language = words(world)
    texts: dict[str, list[str]] = {"interest": [], "age": [], "town": []}
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        groups = world.user_groups(first, min(first + BLOCK, world.users))
        rng = generator(world.seed, "world", "people", block)
        clusters = np.where(
            rng.random(len(groups)) < 0.9, groups // world.styles, rng.integers(world.clusters, size=len(groups))
        )
        said = _drawn(world, rng, np.tile([_CLUSTER, _NEITHER], (len(groups), 1)), clusters * world.styles)
        ages = 18 + 48 * (groups % world.styles) // world.styles + rng.integers(0, 16, len(groups))
        rows = slice(max(start - first, 0), stop - first)
        texts["interest"] += [language[word] for word in said[rows, 0].tolist()]
        texts["age"] += [str(age) for age in ages[rows].tolist()]
        texts["town"] += [language[word].capitalize() for word in said[rows, 1].tolist()]
    return texts


def _drawn(world: World, rng: np.random.Generator, kinds: Int64, groups: Int64) -> Int64:
    """A word for each cell of ``kinds``: of the cluster of the row's group, of its style or of neither."""
    per_cluster, per_style = len(cluster_words(world, 0)), len(style_words(world, 0))
    first_style, first_other = style_words(world, 0).start, style_words(world, world.styles - 1).stop
    clusters, styles = groups // world.styles, groups % world.styles
    first = np.stack(
        [clusters * per_cluster, first_style + styles * per_style, np.full_like(groups, first_other)], axis=1
    )
    n = np.array([per_cluster, per_style, world.vocabulary - first_other])
    often = rng.random(kinds.shape) ** 3  # some words are frequent, most are rare, as in any language
    said: Int64 = np.take_along_axis(first, kinds, axis=1) + (often * n[kinds]).astype(np.int64)
    return said
