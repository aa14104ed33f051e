"""Public datasets and models by name: several sources each, checksums verified, cached.

An :class:`Asset` lists its sources in the order in which they are tried. A source that is out of reach is named in one
log line and the next is tried; content that differs from the source's checksums is an error, never a reason to go on.
Sources of one asset may hold the same data in different layouts, so each source states its own checksums.

The cache is ``REC_HOME`` (default ``~/.cache/rec``)::

    assets/<asset>/<source>/          the files of one source, whole or not there
    assets/<asset>/<source>.json      size and modification time of each file when its hash was last right
    assets/<asset>/.lock              held while something is fetched or checked
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rec_core.artifacts import explain_write_errors, file_hash, write_atomically
from rec_core.errors import ArtifactError, AssetError, nearest
from rec_core.locks import lock

log = logging.getLogger(__name__)

Unpack = Callable[[Path, Path, Mapping[str, str]], None]
_CHUNK = 1 << 20


class OutOfReach(Exception):
    """A source did not answer or broke off; its text is the reason. The next source is tried."""


class Source(Protocol):
    """One place an asset can come from.

    name    short and unique within the asset: the name of its directory in the cache
    files   file name -> SHA-256 of every file that belongs to the asset in this source's layout
    """

    @property
    def name(self) -> str: ...

    @property
    def files(self) -> Mapping[str, str]: ...

    def fetch(self, into: Path) -> None:
        """Put the files into an empty directory; :class:`OutOfReach` when the source does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class Unzip:
    """An unpacker for zip archives (wheels too): takes only the asset's files, found below ``prefix``."""

    prefix: str = ""

    def __call__(self, archive: Path, into: Path, files: Mapping[str, str]) -> None:
        try:
            with zipfile.ZipFile(archive) as opened:
                members = set(opened.namelist())
                for name in files:
                    member = self.prefix + name
                    if member not in members:
                        raise AssetError(f"{archive.name} holds no {member}: it is not what the asset promises")
                    (into / name).parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, (into / name).open("wb") as target:
                        shutil.copyfileobj(source, target, _CHUNK)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise OutOfReach(f"it gave something that is not a whole zip archive ({error})") from error


def as_is(archive: Path, into: Path, files: Mapping[str, str]) -> None:
    """An unpacker for an asset of a single file that is not packed."""
    (name,) = files
    (into / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(archive, into / name)


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file or archive at a URL.

    connect_timeout  seconds to wait for each connection and for each piece of data
    answer_timeout   seconds to wait for the first answer in all: name lookup, every address, redirects
    """

    name: str
    url: str
    files: Mapping[str, str]
    unpack: Unpack = Unzip()
    connect_timeout: float = 5.0
    answer_timeout: float = 8.0

    def __str__(self) -> str:
        return self.url

    def fetch(self, into: Path) -> None:
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".download.") as scratch:
            archive = Path(scratch) / (self.url.rpartition("/")[2] or "download")
            with self._open() as answer:
                _save(answer, archive)
            self.unpack(archive, into, self.files)

    def _open(self) -> Any:
        """The opened answer. It is awaited in a thread because no timeout covers a name lookup that hangs."""
        outcome: list[Any] = []

        def ask() -> None:
            try:
                outcome.append(urlopen(Request(self.url, headers={"User-Agent": "rec"}), timeout=self.connect_timeout))
            except (OSError, http.client.HTTPException, ValueError) as error:
                outcome.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self.answer_timeout)
        match outcome:
            case []:
                raise OutOfReach(f"no answer within {self.answer_timeout:g} s")
            case [HTTPError() as error]:
                raise OutOfReach(f"it answered {error.code} {error.reason}")
            case [URLError() as error]:
                raise OutOfReach(str(error.reason))
            case [Exception() as error]:
                raise OutOfReach(str(error) or type(error).__name__)
        return outcome[0]


def _save(answer: IO[bytes], path: Path) -> None:
    """Write an answer to a file; a connection cut in the middle is :class:`OutOfReach`, never a short file."""
    promised = answer.headers.get("Content-Length")  # type: ignore[attr-defined]
    received = 0
    with path.open("wb") as file:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise OutOfReach(f"the connection broke off after {received:,} bytes ({error})") from error
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
    if promised is not None and received != int(promised):
        raise OutOfReach(f"the connection broke off after {received:,} of {int(promised):,} bytes")


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Files inside a wheel on the Python package index, downloaded with the user's own pip settings.

    The wheel is unzipped, never installed and never imported.
    """

    name: str
    requirement: str
    files: Mapping[str, str]
    unpack: Unpack = Unzip()
    timeout: float = 900.0

    def __str__(self) -> str:
        return f"{self.requirement} on the Python package index"

    def fetch(self, into: Path) -> None:
        if importlib.util.find_spec("pip") is None:
            raise OutOfReach("pip is not installed in this environment")
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".download.") as scratch:
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
            command += ["--no-deps", "--only-binary=:all:", "--timeout", "10", "--retries", "1"]
            try:
                done = subprocess.run(
                    [*command, "--dest", scratch, self.requirement],
                    capture_output=True,
                    text=True,
                    timeout=self.timeout,
                )
            except subprocess.TimeoutExpired:
                raise OutOfReach(f"pip did not finish within {self.timeout:g} s") from None
            wheels = sorted(Path(scratch).glob("*.whl"))
            if done.returncode != 0 or not wheels:
                complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
                raise OutOfReach(complaints[-1].removeprefix("ERROR: ") if complaints else "pip found no wheel")
            self.unpack(wheels[0], into, self.files)


@dataclass(frozen=True, slots=True)
class Asset:
    """A public dataset or model under a short name.

    sources   tried in this order
    licence   the publisher's terms in one or two sentences
    citation  what to cite when results that use it are published
    """

    name: str
    kind: Literal["dataset", "model"]
    title: str
    homepage: str
    licence: str
    citation: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """An asset on this machine, its content verified.

    source  name of the source it came from
    path    directory with exactly the files of that source
    """

    asset: Asset
    source: str
    path: Path

    @property
    def hash(self) -> str:
        """SHA-256 over the names and hashes of its files; sources with another layout have another one."""
        return content_hash(next(s.files for s in self.asset.sources if s.name == self.source))


_MOVIELENS = UrlSource(
    name="publisher",
    url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    unpack=Unzip("ml-100k/"),
    files={
        "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
        "u.genre": "9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb",
        "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
        "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
    },
)
_RECBOLE = WheelSource(
    name="recbole",
    requirement="recbole==1.2.1",
    unpack=Unzip("recbole/dataset_example/ml-100k/"),
    files={
        "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    },
)

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in [
        Asset(
            name="ml-100k",
            kind="dataset",
            title="MovieLens 100K: 100,000 ratings of 1,682 films by 943 users, 1997-1998",
            homepage="https://grouplens.org/datasets/movielens/100k/",
            licence=(
                "Research use only, with acknowledgement. No redistribution and no commercial use without the "
                "permission of GroupLens, University of Minnesota; no endorsement may be stated or implied."
            ),
            citation=(
                "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
                "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
            ),
            sources=(_MOVIELENS, _RECBOLE),
        ),
    ]
}


def describe(name: str) -> Asset:
    """The asset of that name; :class:`AssetError` offers the nearest one."""
    try:
        return ASSETS[name]
    except KeyError:
        raise AssetError(f"no asset is called {name!r}{nearest(name, ASSETS)}") from None


def fetch(name: str) -> Fetched:
    """The asset of that name on this machine: from the cache, else from its first source that answers.

    Raises :class:`AssetError` for an unknown name, when no source answers, and when the content of a source differs
    from its checksums.
    """
    return fetch_asset(describe(name))


def cached(asset: Asset) -> Fetched | None:
    """The asset as it lies in the cache, or None where no whole copy does; nothing is downloaded."""
    room = home() / "assets" / asset.name
    source = next((source for source in asset.sources if _is_cached(room, source)), None)
    return None if source is None else Fetched(asset, source.name, room / source.name)


def home() -> Path:
    """Where assets are cached: ``REC_HOME``, by default ``~/.cache/rec``."""
    return Path(os.environ.get("REC_HOME") or "~/.cache/rec").expanduser().absolute()


def content_hash(files: Mapping[str, str]) -> str:
    """One SHA-256 for a file map: over its sorted names and hashes."""
    return sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def fetch_asset(asset: Asset) -> Fetched:
    """Like :func:`fetch`, for an asset that need not be in the list."""
    if (here := cached(asset)) is not None:  # without the lock: a shared cache may be read-only
        return here
    room = home() / "assets" / asset.name
    with explain_write_errors(room):
        room.mkdir(parents=True, exist_ok=True)
    with _exclusive(room / ".lock", asset.name):
        if (here := cached(asset)) is not None:  # another process has fetched it meanwhile
            return here
        for left_over in room.glob(".*.tmp"):  # of a process that was killed: nobody else holds the lock
            shutil.rmtree(left_over, ignore_errors=True)
        reasons = []
        for source in asset.sources:
            try:
                _install(room, source)
            except OutOfReach as reason:
                log.warning("%s: %s is out of reach: %s", asset.name, source, reason)
                reasons.append(f"\n  {source}: {reason}")
                continue
            return Fetched(asset, source.name, room / source.name)
    raise AssetError(
        f"{asset.name} is out of reach; tried{''.join(reasons)}\n"
        f"Check the network, or get it from {asset.homepage} and name its directory instead"
    )


def _install(room: Path, source: Source) -> None:
    """Fetch into a directory beside the final one, verify, rename."""
    work = Path(tempfile.mkdtemp(dir=room, prefix=f".{source.name}.", suffix=".tmp"))
    try:
        into = work / source.name
        into.mkdir()
        with explain_write_errors(room):
            source.fetch(into)
        for name, wanted in sorted(source.files.items()):
            if not (into / name).is_file():
                raise AssetError(f"{source} gave no {name}; nothing was kept")
            if (found := file_hash(into / name)) != wanted:
                raise AssetError(
                    f"{source} gave a {name} whose SHA-256 is {found}, wanted {wanted}; nothing was kept. "
                    f"It was changed on the way or at the source"
                )
        with explain_write_errors(room):
            stamp = _stamp(into, source.files)
            if (room / source.name).exists():  # a damaged copy
                (room / source.name).rename(work / "damaged")
            into.rename(room / source.name)
            write_atomically(_stamp_file(room, source), json.dumps(stamp, indent=1).encode())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_cached(room: Path, source: Source) -> bool:
    """Whether a whole copy of the source is in the cache; files that look untouched are not hashed again."""
    path = room / source.name
    if not path.is_dir():
        return False
    stamp = _stamp(path, source.files)
    try:
        if None not in stamp.values() and json.loads(_stamp_file(room, source).read_bytes()) == stamp:
            return True
    except (OSError, ValueError):
        pass
    for name, wanted in source.files.items():
        if stamp[name] is None or file_hash(path / name) != wanted:
            log.warning("the cached copy %s is damaged (%s); it is fetched again", path, name)
            return False
    with suppress(ArtifactError):  # a read-only cache is hashed anew each time
        write_atomically(_stamp_file(room, source), json.dumps(stamp, indent=1).encode())
    return True


def _stamp_file(room: Path, source: Source) -> Path:
    return room / f"{source.name}.json"


def _stamp(path: Path, files: Mapping[str, str]) -> dict[str, list[int | str] | None]:
    """Wanted hash, size and modification time of each file; None where it is missing."""
    stamp: dict[str, list[int | str] | None] = {}
    for name, wanted in files.items():
        try:
            status = (path / name).stat()
        except OSError:
            stamp[name] = None
        else:
            stamp[name] = [wanted, status.st_size, status.st_mtime_ns]
    return stamp


@contextmanager
def _exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, waiting for the process that has it; the lock goes when its holder dies."""
    with explain_write_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            lock(descriptor)
        except BlockingIOError:
            log.info("%s: waiting for another process that is fetching it", what)
            lock(descriptor, wait=math.inf)
        yield
    finally:
        os.close(descriptor)
