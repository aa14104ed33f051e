"""Worlds made of rules: who likes what, what follows what and which words say so are all known.

The law of a world, in the order in which it is drawn:

- **Groups.** Item ``i`` belongs to a cluster and to a style; the pair is its group ``g(i)``. The vector of a group is
  ``centre[cluster] + STYLE * style[style]`` (unit vectors of ``dim`` numbers), and every group has a mass ``m_g``.
- **Long tail.** Inside a group the items have ranks 0, 1, ..., and the weight of rank r is the integral of
  ``(x + 1) ** -popularity`` from r to r + 1 (a Zipf-Mandelbrot law), as a share ``w_i`` of the group.
- **Taste.** A user has a cluster, a style and a vector near theirs, and meets group g with the probability
  ``(1 - explore) * softmax(taste * <user, group> + log m) + explore * m``. Times ``w_i`` this is ``base(u, i)``.
- **Sequence.** Proposals follow each other: with probability ``follow`` the next one is the successor of the last
  (the item of the next rank in its group; the first follows the last), else it is drawn from ``base``. The history of a
  user is what was proposed, without what it had before, until it is as long as it is meant to be.
- **Lengths.** Cut from a log-normal law so that they sum to ``interactions`` exactly.
- **Text.** Titles and descriptions are words of the cluster, of the style and of nothing in particular
  (:mod:`rec_data.pseudo_words`).

Because that law is known, so is the best that any model can reach: :meth:`World.next_item_chances` is the exact
probability of every next item, given the user and the history.

Users are made in blocks whose size depends on the settings alone, each from random streams of its own
(:func:`rec_core.randomness.generator`): any range of users can be made by itself, in any order, and no result depends
on how many are made at a time. Equal settings give equal data on one machine and one release of NumPy; elsewhere the
last bit of a logarithm may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import SettingsError
from rec_core.randomness import generator
from rec_core.types import Dataset, Histories, IdMap, Interactions, ItemCatalog, Rankings, UserCatalog
from rec_core.types.ids import Float32, Float64, Int32, Int64
from rec_data.world_config import WorldSettings

STYLE = 0.5  # length of a style's vector beside the centre's 1
WANDER = 0.3  # how far users lie from their cluster and style
DAY = 86_400
START = 1_420_070_400  # 2015-01-01
BLOCK_ROWS = 1 << 17  # expected rows of a block of users: its columns stay in the cache
ASKED, SPARE = 1.25, 4  # proposals for each item that is missing, and on top: enough for most users at once


@dataclass(frozen=True, kw_only=True)
class World(WorldSettings):
    """The settings of a world, and the truth about it that follows from them.

    Raises :class:`SettingsError` where they contradict each other.
    """

    def __post_init__(self) -> None:
        WorldSettings.__post_init__(self)
        if 2 * self.longest > self.items:
            raise SettingsError(
                f"the longest history would have {self.longest:,} different items, more than half of {self.items:,}; "
                f"ask for more --items, fewer --interactions, more --users or less --history-spread"
            )
        if 2 * self.longest > self.days * DAY:
            raise SettingsError(f"{self.days} --days are too short for {self.longest:,} events at different seconds")

    # Groups, ranks and items ------------------------------------------------------------------------------------

    @cached_property
    def group_sizes(self) -> Int64:
        """Items of each group, int64 [n_groups]."""
        return (self.items - np.arange(self.n_groups) + self.n_groups - 1) // self.n_groups

    @cached_property
    def item_at(self) -> Int32:
        """The item of each slot, int32 [items]; slot ``rank * n_groups + group``."""
        return generator(self.seed, "world", "items").permutation(self.items).astype(np.int32)

    @cached_property
    def slot_of(self) -> Int32:
        """The slot of each item, int32 [items]."""
        slots = np.empty(self.items, np.int32)
        slots[self.item_at] = np.arange(self.items, dtype=np.int32)
        return slots

    def _successors(self, slots: Int64) -> Int64:
        after = slots + self.n_groups
        return np.where(after < self.items, after, slots % self.n_groups)

    @cached_property
    def item_groups(self) -> Int32:
        """Group of each item, int32 [items]: ``cluster * styles + style``."""
        return self.slot_of % np.int32(self.n_groups)

    @cached_property
    def item_clusters(self) -> Int32:
        """Cluster of each item, int32 [items]."""
        return self.item_groups // np.int32(self.styles)

    @cached_property
    def group_vectors(self) -> Float64:
        """Latent vector of each group, float64 [n_groups, dim]."""
        centres, styles = self._centres
        return (centres[:, None] + STYLE * styles[None]).reshape(self.n_groups, self.dim)

    @cached_property
    def _centres(self) -> tuple[Float64, Float64]:
        rng = generator(self.seed, "world", "vectors")
        return _unit(rng.standard_normal((self.clusters, self.dim))), _unit(
            rng.standard_normal((self.styles, self.dim))
        )

    @cached_property
    def group_masses(self) -> Float64:
        """Share of each group where nobody has a taste, float64 [n_groups]."""
        mass = np.exp(0.5 * generator(self.seed, "world", "masses").standard_normal(self.n_groups))
        shares: Float64 = mass / mass.sum()
        return shares

    # The long tail inside a group -------------------------------------------------------------------------------

    def _area(self, x: npt.NDArray[np.floating[Any]] | Int64) -> Float64:
        """Integral of (x + 1) ** -popularity from 0 to x."""
        if abs(self.popularity - 1) < 1e-6:
            return np.log1p(x).astype(np.float64, copy=False)
        return ((x.astype(np.float64) + 1.0) ** (1.0 - self.popularity) - 1.0) / (1.0 - self.popularity)

    def _rank_of_area(self, area: Float64) -> Float64:
        if abs(self.popularity - 1) < 1e-6:
            return np.expm1(area)
        return (1 + area * (1 - self.popularity)) ** (1 / (1 - self.popularity)) - 1

    @cached_property
    def slot_weights(self) -> Float64:
        """Share of each slot inside its group, float64 [items]."""
        slots = np.arange(self.items)
        rank, size = slots // self.n_groups, self.group_sizes[slots % self.n_groups]
        return (self._area(rank + 1) - self._area(rank)) / self._area(size)

    # Users ------------------------------------------------------------------------------------------------------

    @cached_property
    def block_users(self) -> int:
        """Users that are made together; a part of the law, as each block has its own random stream."""
        mean = self.interactions / self.users
        return int(max(1, min(BLOCK_ROWS / mean, 8192, (1 << 21) / self.n_groups, self.users)))

    @property
    def n_blocks(self) -> int:
        """Blocks of users."""
        return -(-self.users // self.block_users)

    @cached_property
    def _length_table(self) -> tuple[Float64, Float64]:
        """The share that the longest histories have of everything: (share of the users, share of the interactions)."""
        normal = NormalDist()
        z = np.linspace(-9, 9, 4096)
        top = np.array([normal.cdf(value) for value in z])
        share = np.array([normal.cdf(value + self.history_spread) for value in z])
        top, at = np.unique(top, return_index=True)
        share = share[at]
        top[0] = share[0] = 0.0
        top[-1] = share[-1] = 1.0
        return top, share

    def history_lengths(self, start: int = 0, stop: int | None = None) -> Int64:
        """Lengths of the histories of users ``start:stop``, int64; all of them sum to ``interactions``."""
        user = np.arange(start, self.users if stop is None else stop, dtype=np.int64)
        step = coprime(self.users)
        place = (user * step + self.seed % self.users) % self.users  # the places of neighbours lie far from each other
        return self._length_at(place)

    def _length_at(self, place: Int64) -> Int64:
        """Length of the history that has this place when all are ordered from the longest to the shortest."""
        free = self.interactions - self.users * self.min_history
        top, share = self._length_table

        def upto(n: Int64) -> Int64:
            return np.rint(free * np.interp(n / self.users, top, share)).astype(np.int64)

        return self.min_history + upto(place + 1) - upto(place)

    @property
    def longest(self) -> int:
        """Length of the longest history."""
        return int(self._length_at(np.zeros(1, np.int64))[0])

    def _people(self, block: int) -> _People:
        n = min(self.block_users, self.users - block * self.block_users)
        rng = generator(self.seed, "world", "users", block)
        by_cluster = np.cumsum(self.group_masses.reshape(self.clusters, self.styles).sum(axis=1))
        cluster = np.minimum(np.searchsorted(by_cluster, rng.random(n), side="right"), self.clusters - 1)
        style = rng.integers(self.styles, size=n)
        centres, styles = self._centres
        vectors = centres[cluster] + STYLE * styles[style]
        vectors += WANDER / np.sqrt(self.dim) * rng.standard_normal((n, self.dim))
        liking = np.einsum("ud,gd->ug", vectors, self.group_vectors)  # small: the threads of a BLAS would only spin
        logits = self.taste * liking + np.log(self.group_masses)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances *= (1 - self.explore) / chances.sum(axis=1, keepdims=True)
        chances += self.explore * self.group_masses
        return _People(cluster, style, liking, chances)

    # Events -----------------------------------------------------------------------------------------------------

    def interactions_of(self, start: int, stop: int) -> Interactions:
        """All events of users ``start:stop``, ordered by (user, time); users and items are numbers from 0."""
        if not 0 <= start < stop <= self.users:
            raise ValueError(f"users start:stop lie in 0:{self.users}; got {start}:{stop}")
        first, last = start // self.block_users, -(-stop // self.block_users)
        pieces = [self.block(number) for number in range(first, last)]
        inside = [(piece.users >= start) & (piece.users < stop) for piece in pieces]
        columns = {
            name: np.concatenate([getattr(piece, name)[rows] for piece, rows in zip(pieces, inside, strict=True)])
            for name in ("users", "items", "timestamps", "ratings")
        }
        return Interactions(**columns, n_users=self.users, n_items=self.items)

    def block(self, number: int) -> Interactions:
        """All events of one block of users, ordered by (user, time): timestamps rise, ratings are 0.5, 1, ..., 5."""
        start = number * self.block_users
        wanted = self.history_lengths(start, min(start + self.block_users, self.users))
        people = self._people(number)
        slots = self._histories(number, people, wanted)
        users = np.repeat(np.arange(len(wanted)), wanted)
        rng = generator(self.seed, "world", "ratings", number)
        ratings = people.liking[users, slots % self.n_groups].astype(np.float32)
        ratings *= np.float32(0.8)
        ratings += np.float32(3.0)
        ratings += self._quality[slots]
        ratings += np.float32(self.rating_noise) * rng.standard_normal(len(users), dtype=np.float32)
        return Interactions(
            users=users + start,
            items=self.item_at[slots],
            n_users=self.users,
            n_items=self.items,
            timestamps=self._times(number, wanted, users),
            ratings=np.clip(np.rint(ratings * 2) / 2, 0.5, 5).astype(np.float32),
        )

    @cached_property
    def _quality(self) -> Float32:
        rng = generator(self.seed, "world", "quality")
        return np.float32(0.5) * rng.standard_normal(self.items, dtype=np.float32)

    def _times(self, block: int, wanted: Int64, users: Int64) -> Int64:
        """Strictly rising seconds of each history, in bursts, somewhere inside the span of the world."""
        rng = generator(self.seed, "world", "times", block)
        offsets = np.concatenate([[0], np.cumsum(wanted)])
        free = self.days * DAY - wanted
        width = free * rng.random(len(wanted)) ** 3  # most people stay for a short while
        start = START + np.floor((free - width) * rng.random(len(wanted))).astype(np.int64)
        gaps = rng.standard_exponential(len(users), dtype=np.float32).astype(np.float64) ** 3
        passed = np.cumsum(gaps)
        before = passed[offsets[:-1]] - gaps[offsets[:-1]]
        whole = np.maximum(passed[offsets[1:] - 1] - before, np.finfo(np.float64).tiny)  # one event: 0 / tiny
        share = np.clip((passed - before[users]) / whole[users], 0, 1)
        seconds: Int64 = np.floor(share * width[users]).astype(np.int64) + np.arange(len(users))
        seconds += (start - offsets[:-1])[users]
        return seconds

    def _histories(self, block: int, people: _People, wanted: Int64) -> Int64:
        """Slots of all histories of a block, one after the other.

        In rounds: users whose history is too short yet get more proposals, and those that are new to them stay.
        """
        rng = generator(self.seed, "world", "events", block)
        ladder = np.cumsum(people.chances, axis=1)
        ladder /= ladder[:, -1:]
        ladder += np.arange(len(wanted))[:, None]  # one rising column: a search finds the step of any user
        missing, last = wanted.copy(), None
        seen = np.empty((2, 0), np.int64)  # (user, slot) of the users that are not done
        made = []
        for draw in range(10_000):
            active = np.flatnonzero(missing)
            if not len(active):
                break
            draws = np.ceil(missing[active] * (ASKED * 1.5 ** min(draw, 30))).astype(np.int64) + SPARE
            draws = np.minimum(draws, 1 << 20)
            proposed = self._proposals(rng, ladder.ravel(), active, draws, last)
            if last is None:
                last = np.zeros_like(wanted)
            last[active] = proposed[1, np.cumsum(draws) - 1]
            new = proposed[:, _first_times(seen, proposed, self.items)]
            found = np.bincount(new[0], minlength=len(wanted))
            place = np.arange(new.shape[1]) - (np.cumsum(found) - found)[new[0]]
            new = new[:, place < missing[new[0]]]
            missing -= np.minimum(found, missing)
            made.append(new)
            seen = np.concatenate([seen, new], axis=1)
            seen = seen[:, missing[seen[0]] > 0]
        else:
            raise RuntimeError(f"users of block {block} still lack {missing.sum()} items")
        users, slots = np.concatenate(made, axis=1)
        ordered: Int64 = slots if len(made) == 1 else slots[np.argsort(users, kind="stable")]
        return ordered

    def _proposals(
        self, rng: np.random.Generator, ladder: Float64, active: Int64, draws: Int64, last: Int64 | None
    ) -> Int64:
        """``draws`` proposals of each active user, in order; int64 [2, n], user and slot.

        They come in runs: what is drawn, its successor, the successor of that. ``last`` is the slot of each user's
        last proposal so far, which the first run may continue.
        """
        total = int(draws.sum())
        heads = np.cumsum(draws) - draws
        follows = rng.random(total, dtype=np.float32) < np.float32(self.follow)
        begins = ~follows
        begins[heads] = True
        at = np.flatnonzero(begins)
        users = np.repeat(active, draws)
        who = users[at]
        groups = np.searchsorted(ladder, who + rng.random(len(at)), side="right") - who * self.n_groups
        groups = np.clip(groups, 0, self.n_groups - 1)  # who + 0.999... may round up to who + 1
        sizes = self.group_sizes[groups]
        areas = rng.random(len(at)) * self._area(sizes)
        ranks = np.minimum(self._rank_of_area(areas).astype(np.int64), sizes - 1)
        if last is not None:
            goes_on = follows[heads]
            run = np.cumsum(begins)[heads][goes_on] - 1
            after = self._successors(last[active[goes_on]])
            groups[run], ranks[run] = after % self.n_groups, after // self.n_groups
            sizes[run] = self.group_sizes[groups[run]]
        lengths = np.diff(at, append=total)
        slots = np.repeat(ranks - at, lengths) + np.arange(total)  # ranks so far: each run counts up
        sizes = np.repeat(sizes, lengths)
        over = np.flatnonzero(slots >= sizes)
        slots[over] %= sizes[over]
        slots *= self.n_groups
        slots += np.repeat(groups, lengths)
        return np.stack([users, slots])

    # What a model can know --------------------------------------------------------------------------------------

    def scores(self, users: Sequence[int] | Int64, items: Sequence[int] | Int64 | None = None) -> Float64:
        """Logarithms of ``base``, the taste of users without their history: float64 [users, items (default all)]."""
        slots = self.slot_of if items is None else self.slot_of[np.asarray(items, np.int64)]
        chances = self._chances_of(np.asarray(users, np.int64))
        return np.log(chances[:, slots % self.n_groups]) + np.log(self.slot_weights[slots])

    def _chances_of(self, users: Int64) -> Float64:
        chances = np.empty((len(users), self.n_groups))
        blocks = users // self.block_users
        for block in np.unique(blocks):
            inside = blocks == block
            chances[inside] = self._people(int(block)).chances[users[inside] - block * self.block_users]
        return chances

    def next_item_chances(self, user: int, history: Sequence[int] | Int32) -> Float64:
        """The exact probability of every item to come next, float64 [items]; what the history holds has none.

        ``history`` is all that the user met so far, oldest first. With J(i) the probability that i is the next new
        item once the sequence is broken off and drawn anew, and i = first(s) the first new item that follows s, m(s)
        steps away:

            P(i | history) = follow ** m(s) [i = first(s)] + (1 - follow ** m(s)) J(i),  s the last item of the history
            J(i) = (base(i) [i is new] + sum of base(s) follow ** m(s) over the old s with first(s) = i)
                   / (1 - sum of base(s) (1 - follow ** m(s)) over all old s)

        as a draw that hits an old s goes on from there. (Where all of a group is old, follow ** m(s) is 0.)
        """
        chances = self._chances_of(np.array([user]))[0]
        base = chances[np.arange(self.items) % self.n_groups] * self.slot_weights
        old = self.slot_of[np.asarray(history, np.int64)].astype(np.int64)
        met = np.zeros(self.items, np.bool_)
        met[old] = True
        first, reach = self._successors(old), np.full(len(old), float(self.follow))
        for _ in range(int(self.group_sizes[0])):
            on = np.flatnonzero(met[first])
            if not len(on):
                break
            first[on] = self._successors(first[on])
            reach[on] *= self.follow
        reach[met[first]] = 0.0
        jump = np.where(met, 0.0, base)
        np.add.at(jump, first, base[old] * reach)
        jump /= 1 - (base[old] * (1 - reach)).sum()
        jump[met] = 0.0
        if len(old):
            jump *= 1 - reach[-1]
            jump[first[-1]] += reach[-1]
        return jump[self.slot_of]

    def best_ranking(self, histories: Histories, k: int) -> Rankings:
        """The ranking that no model can beat on average: the k most probable next items, equal ones by number.

        Users and items of the histories are numbers of this world. Nothing but what :meth:`next_item_chances` knows
        is used, so its mean hit rate, NDCG and MRR are the best reachable in expectation.
        """
        items = np.full((len(histories), k), -1, np.int64)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        for row in range(len(histories)):
            chances = self.next_item_chances(int(histories.users[row]), histories.row(row))
            best = np.argsort(-chances, kind="stable")[:k]
            best = best[chances[best] > 0]
            items[row, : len(best)], scores[row, : len(best)] = best, np.log(chances[best])
        return Rankings(histories.users, items, scores)

    def user_groups(self, start: int = 0, stop: int | None = None) -> Int64:
        """The group whose cluster and style each of the users ``start:stop`` likes, int64."""
        stop = self.users if stop is None else min(stop, self.users)
        first = start // self.block_users
        people = [self._people(block) for block in range(first, -(-stop // self.block_users))]
        groups = [each.clusters * self.styles + each.styles for each in people]
        return np.concatenate([np.empty(0, np.int64), *groups])[start - first * self.block_users :][: stop - start]


def small_world(world: World | None = None) -> Dataset:
    """A world in memory, split leave-one-out; ids are the world's numbers, also of items that nobody met.

    By default 1,000 users, 500 items and 20,000 interactions. Keys are ``u0``, ``u1``, ... and ``i0``, ``i1``, ...
    """
    from rec_data.pseudo_words import item_texts, user_texts
    from rec_data.splits import leave_one_out

    world = world or World()
    interactions = world.interactions_of(0, world.users)
    split, _ = leave_one_out(interactions)
    return Dataset(
        name="synthetic",
        users=UserCatalog(IdMap(tuple(f"u{user}" for user in range(world.users)), "user"), user_texts(world)),
        items=ItemCatalog(IdMap(tuple(f"i{item}" for item in range(world.items)), "item"), item_texts(world)),
        split=split,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _People:
    """Users of one block: cluster and style, <user, group>, and the probability of each group."""

    clusters: Int64
    styles: Int64
    liking: Float64
    chances: Float64


def _unit(vectors: Float64) -> Float64:
    unit: Float64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def coprime(n: int) -> int:
    """A number near the golden section of n that shares no divisor with it."""
    step = max(1, round(n * 0.6180339887498949))
    while gcd(step, n) != 1:
        step += 1
    return step


def _first_times(seen: Int64, proposed: Int64, items: int) -> Int64:
    """Positions, rising, of the proposals whose slot is new to their user; both int64 [2, n], user and slot."""
    before, total = seen.shape[1], seen.shape[1] + proposed.shape[1]
    users, slots = np.concatenate([seen, proposed], axis=1)
    pair, bits = users * items + slots, total.bit_length()
    first = np.ones(total, np.bool_)
    if int(pair.max()).bit_length() + bits < 63:  # pair and position in one number: no need for a stable sort
        keys = np.sort((pair << bits) | np.arange(total))
        np.not_equal(keys[1:] >> bits, keys[:-1] >> bits, out=first[1:])
        at = keys[first] & ((1 << bits) - 1)
    else:
        order = np.argsort(pair, kind="stable")
        np.not_equal(pair[order[1:]], pair[order[:-1]], out=first[1:])
        at = order[first]
    new = np.zeros(total, np.bool_)
    new[at] = True
    return np.flatnonzero(new[before:])
