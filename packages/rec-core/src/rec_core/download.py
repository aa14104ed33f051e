"""One file over HTTP, taken up where an earlier attempt broke off.

Beside the target ``NAME`` an unfinished download is ``NAME.part``, with ``NAME.part.json`` that says which version of
which address it belongs to. It is continued by a range request (RFC 9110, section 14) under the condition that the
file at the address is still that version (``If-Range``). A server that names no version - neither a strong ``ETag`` nor
``Last-Modified`` - cannot be asked for that, so nothing is kept of an answer of such a server that breaks off.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rec_core.errors import AssetError

log = logging.getLogger(__name__)

_CHUNK = 1 << 18


class OutOfReach(Exception):
    """A source did not answer or broke off; its text is the reason."""


def in_bytes(number: float) -> str:
    """A size for people, in decimal units: 999 bytes, 12.3 MB."""
    if number < 1000:
        return f"{number:.0f} byte{'' if round(number) == 1 else 's'}"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"


@dataclass(frozen=True, slots=True)
class Download:
    """What to fetch and how patiently.

    checksum         ``sha256:...`` or ``md5:...`` of the whole file, where somebody published one
    connect_timeout  seconds to wait for each connection and for each piece of data
    answer_timeout   seconds to wait for the first answer in all: name lookup, every address, redirects
    attempts         how often an answer that breaks off is continued at once, each after another ``pause`` seconds
    """

    url: str
    checksum: str | None = None
    connect_timeout: float = 5.0
    answer_timeout: float = 8.0
    attempts: int = 4
    pause: float = 1.0

    @property
    def name(self) -> str:
        """What the file is called at its address."""
        return self.url.partition("?")[0].rpartition("/")[2] or "download"

    def to(self, path: Path) -> None:
        """Make ``path`` the whole file, its checksum verified; what is there already is not fetched again.

        Raises :class:`OutOfReach` when the server does not answer or breaks off for good (a part that can be continued
        stays for the next call) and :class:`AssetError` when the content differs from its checksum (nothing stays).
        """
        part = path.with_name(path.name + ".part")
        for last_try in (False, True):
            continued = path.exists()
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                continued = self._complete(part)
                part.rename(path)
                _note(part).unlink(missing_ok=True)
            if self.checksum is None or (found := checksum(path, self.checksum)) == self.checksum:
                return
            path.unlink()
            if not continued or last_try:
                raise AssetError(
                    f"{self.url} gave a file whose {_in_words(found)}, wanted {self.checksum.partition(':')[2]}; "
                    f"nothing was kept. It was changed on the way or at the source"
                )
            log.warning("%s: what was kept of it is damaged (%s); starting again", self.url, _in_words(found))

    def _complete(self, part: Path) -> bool:
        """Get the whole content into ``part``; whether some of it came with an earlier answer."""
        continued = False
        for attempt in range(self.attempts):
            before = _size(part)
            try:
                return self._attempt(part) or continued
            except OutOfReach as reason:
                now = _size(part)
                if now in (0, before) or attempt + 1 == self.attempts:  # nothing came, or nothing to continue from
                    raise
                continued = True
                log.info("%s: %s", self.url, reason)
                time.sleep(self.pause * (attempt + 1))
        raise ValueError(f"attempts is at least 1; got {self.attempts}")

    def _attempt(self, part: Path) -> bool:
        """Ask once, for the rest where there is a part; whether the part was continued."""
        version, have = _Version.of_part(part, self.url), _size(part)
        whole = None
        if version is not None and have:
            if have == version.total:  # stopped between the last byte and the new name
                return True
            answer = self._ask({"Range": f"bytes={have}-", "If-Range": version.validator or ""})
            if (rest := version.continued_by(answer, have)) is not None:
                self._save(answer, part, rest, have)
                return True
            log.info("%s: the server gives no rest of the file, or the file has changed; starting again", self.url)
            if answer.status == 200:
                whole = answer
            else:  # 416, or a range that was not asked for
                answer.close()
        _discard(part)
        whole = whole or self._ask({})
        self._save(whole, part, _Version.of_answer(whole, self.url), 0)
        return False

    def _save(self, answer: Any, part: Path, version: _Version, have: int) -> None:
        """Append an answer to the part; an answer cut in the middle is :class:`OutOfReach`, never a short file."""
        from rec_core.cli import Progress

        _enough_room(part.parent, self.url, None if version.total is None else version.total - have)
        how_much = "" if version.total is None else f" ({in_bytes(version.total)})"
        log.info("fetching %s%s%s", self.url, how_much, f", going on after {in_bytes(have)}" if have else "")
        _note(part).write_text(json.dumps(asdict(version)), encoding="utf-8")
        try:
            with answer, Progress(self.name, unit="bytes") as progress, part.open("ab" if have else "wb") as file:
                progress.start(version.total, have)
                while chunk := self._read(answer, have, version):
                    file.write(chunk)
                    have += len(chunk)
                    progress.advance(len(chunk))
            if version.total is not None and have != version.total:
                raise OutOfReach(_broke_off(have, version))
        except BaseException as stop:
            if version.validator is None:
                _discard(part)
            elif isinstance(stop, KeyboardInterrupt):
                stop.add_note(f"{in_bytes(have)} of {self.name} are kept; the same command goes on from there")
            raise

    @staticmethod
    def _read(answer: Any, have: int, version: _Version) -> bytes:
        try:
            chunk: bytes = answer.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise OutOfReach(f"{_broke_off(have, version)} ({error})") from error
        return chunk

    def _ask(self, extra: Mapping[str, str]) -> Any:
        """The opened answer, also to a range that cannot be given (416).

        It is awaited in a thread because no timeout covers a name lookup that hangs.
        """
        outcome: list[Any] = []
        # identity: a server that packs on the fly counts other bytes in each answer
        headers = {"User-Agent": "rec", "Accept-Encoding": "identity", **extra}

        def ask() -> None:
            try:
                outcome.append(urlopen(Request(self.url, headers=headers), timeout=self.connect_timeout))
            except (OSError, http.client.HTTPException, ValueError) as error:
                outcome.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self.answer_timeout)
        match outcome:
            case []:
                raise OutOfReach(f"no answer within {self.answer_timeout:g} s")
            case [HTTPError(code=416) as error] if extra:
                return error
            case [HTTPError() as error]:
                raise OutOfReach(f"it answered {error.code} {error.reason}")
            case [URLError() as error]:
                raise OutOfReach(str(error.reason))
            case [Exception() as error]:
                raise OutOfReach(str(error) or type(error).__name__)
        return outcome[0]


@dataclass(frozen=True, slots=True)
class _Version:
    """Which content a part belongs to.

    validator  the strong ETag or the modification time that the server gave; None: the part cannot be continued
    total      bytes in all, where the server said so
    """

    url: str
    validator: str | None
    total: int | None

    @classmethod
    def of_answer(cls, answer: Any, url: str) -> _Version:
        """What the server says of the file it is about to send whole."""
        total = answer.headers.get("Content-Length")
        return cls(url, _validator(answer.headers), int(total) if (total or "").isdecimal() else None)

    @classmethod
    def of_part(cls, part: Path, url: str) -> _Version | None:
        """What an earlier attempt noted; None where there is no part of this address that can be continued."""
        if not part.exists():
            return None
        with suppress(OSError, ValueError, TypeError):
            noted = cls(**json.loads(_note(part).read_text(encoding="utf-8")))
            if noted.url == url and noted.validator is not None:
                return noted
        return None

    def continued_by(self, answer: Any, have: int) -> _Version | None:
        """This version, where the answer is its rest after ``have`` bytes."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if answer.status != 206 or span is None or int(span[1]) != have:
            return None
        total = self.total if span[2] == "*" else int(span[2])
        if self.total not in (None, total) or _validator(answer.headers) not in (None, self.validator):
            return None
        return replace(self, total=total)


def _validator(headers: Mapping[str, str]) -> str | None:
    """What tells versions apart byte by byte: a strong ETag, else the modification time (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag")
    return tag if tag is not None and not tag.startswith("W/") else headers.get("Last-Modified")


def checksum(path: Path, like: str) -> str:
    """The checksum of a file, of the kind that ``like`` is: ``sha256:...`` or ``md5:...``."""
    kind = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{file_digest(file, kind).hexdigest()}"


def _in_words(found: str) -> str:
    kind, _, digest = found.partition(":")
    return f"{({'sha256': 'SHA-256', 'md5': 'MD5'}).get(kind, kind)} is {digest}"


def _broke_off(have: int, version: _Version) -> str:
    whole = "" if version.total is None else f" of {version.total:,}"
    kept = "" if version.validator is None else "; they are kept, and the next attempt goes on from there"
    return f"the connection broke off after {have:,}{whole} bytes{kept}"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _enough_room(directory: Path, url: str, needed: int | None) -> None:
    free = shutil.disk_usage(directory).free
    if needed is not None and needed > free:
        raise AssetError(
            f"{url}: {in_bytes(needed)} are to come and {in_bytes(free)} are free at {directory}; "
            f"free some space, or let REC_HOME name a directory on another disk"
        )
