"""The default progress: plain lines through ``logging``, for logs and batch systems."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic

logger = logging.getLogger("rec_core.training")


class LogProgress:
    """Says every message, and where training stands at most once in ``every`` seconds."""

    def __init__(self, every: float = 30.0) -> None:
        self.every = every
        self.total = self.done = 0
        self._said = monotonic()

    def start(self, total: int, done: int = 0) -> None:
        """As of :class:`rec_core.training.Progress`."""
        self.total, self.done, self._said = total, done, monotonic()

    def advance(self, steps: int, values: Mapping[str, float]) -> None:
        """As of :class:`rec_core.training.Progress`."""
        self.done += steps
        if monotonic() - self._said >= self.every:
            self._said = monotonic()
            shown = ", ".join(f"{name} {value:.5g}" for name, value in values.items())
            logger.info("step %d of at most %d: %s", self.done, self.total, shown)

    def message(self, text: str) -> None:
        """As of :class:`rec_core.training.Progress`."""
        logger.info("%s", text)

    def validated(self, metrics: Mapping[str, float]) -> None:
        """As of :class:`rec_core.training.Progress`."""

    def finish(self) -> None:
        """As of :class:`rec_core.training.Progress`."""


class NoProgress:
    """Says nothing."""

    def start(self, total: int, done: int = 0) -> None:
        """As of :class:`rec_core.training.Progress`."""

    def advance(self, steps: int, values: Mapping[str, float]) -> None:
        """As of :class:`rec_core.training.Progress`."""

    def message(self, text: str) -> None:
        """As of :class:`rec_core.training.Progress`."""

    def validated(self, metrics: Mapping[str, float]) -> None:
        """As of :class:`rec_core.training.Progress`."""

    def finish(self) -> None:
        """As of :class:`rec_core.training.Progress`."""
