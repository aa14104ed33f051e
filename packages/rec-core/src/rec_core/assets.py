"""Public datasets and models by name: several sources each, checksums verified, cached.

An :class:`Asset` lists its sources in the order in which they are tried. A source that is out of reach is named in one
log line and the next is tried; content that differs from the source's checksums is an error, never a reason to go on.
Sources of one asset may hold the same data in different layouts, so each source states its own checksums. Where nobody
published a checksum, the SHA-256 found at the first fetch is recorded and checked from then on (trust on first use):
the log says so then, and :attr:`Fetched.recorded` always.

The cache is ``REC_HOME`` (default ``~/.cache/rec``)::

    assets/<asset>/<source>/          the files of one source, whole or not there
    assets/<asset>/<source>.json      size and modification time of each file when its hash was last right
    assets/<asset>/.parts/            downloads that are not finished (``NAME.part``) or wait for others of their source
    assets/<asset>/.lock              held while something is fetched or checked
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from rec_core.artifacts import explain_write_errors, file_hash, write_atomically
from rec_core.download import Download, OutOfReach
from rec_core.errors import ArtifactError, AssetError, nearest
from rec_core.locks import lock

__all__ = [
    "ASSETS",
    "Asset",
    "Bundle",
    "Fetched",
    "Gunzip",
    "OutOfReach",
    "Source",
    "Unzip",
    "UrlSource",
    "WheelSource",
    "as_is",
    "cached",
    "content_hash",
    "describe",
    "fetch",
    "fetch_asset",
    "home",
]

log = logging.getLogger(__name__)

Files = Mapping[str, str | None]  # file name -> its SHA-256, None where nobody published one
Unpack = Callable[[Path, Path, Files], None]
_CHUNK = 1 << 20


class Source(Protocol):
    """One place an asset can come from.

    name    short and unique within the asset: the name of its directory in the cache
    files   file name -> SHA-256 of every file that belongs to the asset in this source's layout, None where unknown
    """

    @property
    def name(self) -> str: ...

    @property
    def files(self) -> Files: ...

    def vouches(self, file: str) -> str | None:
        """The checksum of the download that a file comes in; None where nobody published one."""
        ...

    def fetch(self, into: Path, parts: Path) -> None:
        """Put the files into an empty directory; :class:`OutOfReach` when the source does not answer.

        What is left in ``parts``, which need not exist yet, is there again at the next attempt.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unzip:
    """An unpacker for zip archives (wheels too): takes only the asset's files, found below ``prefix``."""

    prefix: str = ""

    def __call__(self, archive: Path, into: Path, files: Files) -> None:
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
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:  # last: a password
            raise OutOfReach(f"it gave something that is not a whole zip archive ({error})") from error


@dataclass(frozen=True, slots=True)
class Gunzip:
    """An unpacker for an asset of a single file that is packed with gzip."""

    def __call__(self, archive: Path, into: Path, files: Files) -> None:
        (name,) = files
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            with gzip.open(archive) as source, (into / name).open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise OutOfReach(f"it gave something that is not a whole gzip file ({error})") from error


def as_is(archive: Path, into: Path, files: Files) -> None:
    """An unpacker for an asset of a single file that is not packed."""
    (name,) = files
    (into / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(archive, into / name)  # no second copy while other downloads of the source are under way
    except OSError:
        shutil.copyfile(archive, into / name)


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file or archive at a URL; an unfinished download is continued by the next attempt.

    checksum         ``sha256:...`` or ``md5:...`` of the download itself, where somebody published one
    connect_timeout  seconds to wait for each connection and for each piece of data
    answer_timeout   seconds to wait for the first answer in all: name lookup, every address, redirects
    attempts         how often an answer that breaks off is continued at once, each after another ``pause`` seconds
    """

    name: str
    url: str
    files: Files
    unpack: Unpack = Unzip()
    checksum: str | None = None
    connect_timeout: float = 5.0
    answer_timeout: float = 8.0
    attempts: int = 4
    pause: float = 1.0

    def __str__(self) -> str:
        return self.url

    def vouches(self, file: str) -> str | None:
        """As of :class:`Source`."""
        return self.checksum

    def fetch(self, into: Path, parts: Path) -> None:
        """As of :class:`Source`."""
        download = Download(
            self.url, self.checksum, self.connect_timeout, self.answer_timeout, self.attempts, self.pause
        )
        # addresses may end in the same name
        path = parts / f"{sha256(self.url.encode()).hexdigest()[:8]}-{download.name}"
        download.to(path)
        try:
            self.unpack(path, into, self.files)
        except (OutOfReach, AssetError):  # the download is not what it should be
            path.unlink()
            raise


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several sources that belong together: an asset whose files lie at several URLs. Each is continued by itself."""

    name: str
    members: tuple[UrlSource, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.members))

    @property
    def files(self) -> Files:
        """As of :class:`Source`: those of all members."""
        return {file: digest for member in self.members for file, digest in member.files.items()}

    def vouches(self, file: str) -> str | None:
        """As of :class:`Source`."""
        return next(member.vouches(file) for member in self.members if file in member.files)

    def fetch(self, into: Path, parts: Path) -> None:
        """As of :class:`Source`."""
        for member in self.members:
            try:
                member.fetch(into, parts)
            except OutOfReach as reason:
                raise OutOfReach(f"{member}: {reason}") from reason


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Files inside a wheel on the Python package index, downloaded with the user's own pip settings.

    The wheel is unzipped, never installed and never imported.
    """

    name: str
    requirement: str
    files: Files
    unpack: Unpack = Unzip()
    timeout: float = 900.0

    def __str__(self) -> str:
        return f"{self.requirement} on the Python package index"

    def vouches(self, file: str) -> str | None:
        """As of :class:`Source`: pip is asked for a version, not for a checksum."""
        return None

    def fetch(self, into: Path, parts: Path) -> None:
        """As of :class:`Source`."""
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

    sources   tried in this order; none: it has to be got by hand
    licence   the publisher's terms in one or two sentences
    citation  what to cite when results that use it are published
    manual    for an asset without sources: how to get it, and what to do then
    """

    name: str
    kind: Literal["dataset", "model"]
    title: str
    homepage: str
    licence: str
    citation: str
    sources: tuple[Source, ...]
    manual: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """An asset on this machine, its content verified.

    source  name of the source it came from
    path    directory with exactly the files of that source
    files   file name -> SHA-256
    """

    asset: Asset
    source: str
    path: Path
    files: Mapping[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 over the names and hashes of its files; sources with another layout have another one."""
        return content_hash(self.files)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Files that nobody published a checksum of: theirs was recorded when they were first fetched."""
        source = next(source for source in self.asset.sources if source.name == self.source)
        return tuple(file for file, digest in source.files.items() if digest is None and source.vouches(file) is None)


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
    for source in asset.sources:
        if (files := _cached_files(room, source)) is not None:
            return Fetched(asset, source.name, room / source.name, files)
    return None


def home() -> Path:
    """Where assets are cached: ``REC_HOME``, by default ``~/.cache/rec``."""
    return Path(os.environ.get("REC_HOME") or "~/.cache/rec").expanduser().absolute()


def content_hash(files: Mapping[str, str]) -> str:
    """One SHA-256 for a file map: over its sorted names and hashes."""
    return sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def fetch_asset(asset: Asset) -> Fetched:
    """Like :func:`fetch`, for an asset that need not be in the list."""
    if not asset.sources:
        raise AssetError(f"{asset.name} cannot be fetched by a program. {asset.manual or asset.homepage}")
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
                files = _install(room, source)
            except OutOfReach as reason:
                log.warning("%s: %s is out of reach: %s", asset.name, source, reason)
                reasons.append(f"\n  {source}: {reason}")
                continue
            shutil.rmtree(room / ".parts", ignore_errors=True)  # of sources that are not needed any more
            fetched = Fetched(asset, source.name, room / source.name, files)
            if fetched.recorded:
                log.info(
                    "%s: no checksum of %s was published; what came now is recorded in %s and checked from now on",
                    asset.name,
                    ", ".join(fetched.recorded),
                    _stamp_file(room, source),
                )
            return fetched
    raise AssetError(
        f"{asset.name} is out of reach; tried{''.join(reasons)}\n"
        f"Check the network, or get it from {asset.homepage} and name its directory instead"
        f"{'' if asset.manual is None else f'. {asset.manual}'}"
    )


def _install(room: Path, source: Source) -> Mapping[str, str]:
    """Fetch into a directory beside the final one, verify, rename; the hashes of the files."""
    work = Path(tempfile.mkdtemp(dir=room, prefix=f".{source.name}.", suffix=".tmp"))
    parts = room / ".parts"
    try:
        into = work / source.name
        into.mkdir()
        with explain_write_errors(room):
            source.fetch(into, parts)
        files = {}
        for name, wanted in source.files.items():
            if not (into / name).is_file():
                raise AssetError(f"{source} gave no {name}; nothing was kept")
            files[name] = found = file_hash(into / name)
            if wanted is not None and found != wanted:
                shutil.rmtree(parts, ignore_errors=True)
                raise AssetError(
                    f"{source} gave a {name} whose SHA-256 is {found}, wanted {wanted}; nothing was kept. "
                    f"It was changed on the way or at the source"
                )
        with explain_write_errors(room):
            # before the files: without its record a file that nobody published a checksum of is worth nothing
            _write_stamp(room, source, _stamp(into, source, files))
            if (room / source.name).exists():  # a damaged copy
                (room / source.name).rename(work / "damaged")
            into.rename(room / source.name)
        return files
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # not there, or something is kept in it
            parts.rmdir()


def _cached_files(room: Path, source: Source) -> Mapping[str, str] | None:
    """The hashes of a whole copy of the source in the cache, or None.

    Files that look untouched are not hashed again.
    """
    path = room / source.name
    if not path.is_dir():
        return None
    recorded = _recorded(room, source)
    files = {name: wanted or recorded.get(name, "") for name, wanted in source.files.items()}
    if not all(files.values()):
        log.warning("%s says no more what is in %s; it is fetched again", _stamp_file(room, source), path)
        return None
    stamp = _stamp(path, source, files)
    with suppress(OSError, ValueError):
        if None not in stamp.values() and json.loads(_stamp_file(room, source).read_bytes()) == stamp:
            return files
    for name, wanted in files.items():
        if stamp[name] is None or file_hash(path / name) != wanted:
            log.warning("the cached copy %s is damaged (%s); it is fetched again", path, name)
            return None
    with suppress(ArtifactError):  # a read-only cache is hashed anew each time
        _write_stamp(room, source, stamp)
    return files


def _stamp_file(room: Path, source: Source) -> Path:
    return room / f"{source.name}.json"


def _recorded(room: Path, source: Source) -> dict[str, str]:
    """The recorded hash of each file that has none of its own and comes in the same download as then."""
    with suppress(OSError, ValueError, TypeError, AttributeError, IndexError):
        stamp = json.loads(_stamp_file(room, source).read_bytes())
        return {name: said[0] for name, said in stamp.items() if said[3:] == [source.vouches(name)]}
    return {}


def _stamp(path: Path, source: Source, files: Mapping[str, str]) -> dict[str, list[int | str | None] | None]:
    """Hash, size and modification time of each file (None where it is missing), and what vouches for it.

    The last only for files whose own hash nobody published: the checksum of their download, or None.
    """
    stamp: dict[str, list[int | str | None] | None] = {}
    for name, digest in files.items():
        try:
            status = (path / name).stat()
        except OSError:
            stamp[name] = None
        else:
            voucher = [] if source.files[name] is not None else [source.vouches(name)]
            stamp[name] = [digest, status.st_size, status.st_mtime_ns, *voucher]
    return stamp


def _write_stamp(room: Path, source: Source, stamp: Mapping[str, list[int | str | None] | None]) -> None:
    write_atomically(_stamp_file(room, source), json.dumps(stamp, indent=1).encode())


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
