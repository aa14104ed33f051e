"""``log.jsonl``: one JSON object per line, readable while training runs, and whole after a resume."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("rec_core.training")


class JsonLines:
    """Appends lines to a file; ``start_at`` cuts what a killed run wrote after its last checkpoint.

    Without a path it writes nothing.
    """

    def __init__(self, path: Path | None, start_at: int = 0) -> None:
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b")
            size = self._file.seek(0, os.SEEK_END)
            if size < start_at:
                logger.warning("%s has %d bytes, %d at the last checkpoint: lines are lost", path, size, start_at)
            self._file.truncate(min(size, start_at))
            self._file.seek(0, os.SEEK_END)

    def write(self, event: str, **values: Any) -> None:
        """One line; numbers that are not finite become null."""
        if self._file is not None:
            self._file.write(json.dumps(_finite({"event": event, **values}), allow_nan=False).encode() + b"\n")
            self._file.flush()

    def position(self) -> int:
        """Bytes written so far, safely on the disk."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
