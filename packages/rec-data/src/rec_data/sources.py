"""Public datasets by name: where they come from, their terms, how they are read, and the counts to expect.

The table is ``sources.toml`` beside this file; its head says what every key means.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rec_core.artifacts import explain_write_errors
from rec_core.assets import (
    ASSETS,
    Asset,
    Bundle,
    Fetched,
    Gunzip,
    Source,
    Unpack,
    Unzip,
    UrlSource,
    as_is,
    fetch_asset,
    home,
)
from rec_core.download import in_bytes
from rec_core.errors import AssetError, DataError, RecError, SettingsError, nearest
from rec_data.config import PrepareSettings, ReadSettings

if TYPE_CHECKING:
    from rich.console import Console

    from rec_core.types import Interactions

log = logging.getLogger(__name__)

TABLE = "sources.toml"
AS_EXPECTED = "users, items and interactions are as expected"
_PATIENCE = 30.0  # seconds: hosts of universities are slow at times
_COUNTED = (  # the settings that decide how many rows are left
    *("min_rating", "since", "until", "described_items_only", "duplicates", "session_gap"),
    *("user_core", "item_core", "k_core_rule", "min_events", "max_events"),
)
_Settings = TypeVar("_Settings", bound=ReadSettings)


@dataclass(frozen=True, slots=True)
class Expected:
    """How large a dataset is when it is prepared with these options.

    interactions  None where nobody published the exact number
    said_by       who counted
    options       the options of `prepare` that differ from their defaults
    """

    users: int
    items: int
    interactions: int | None
    said_by: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = f"{self.users:,} users, {self.items:,} items"
        if self.interactions is not None:
            counts += f", {self.interactions:,} interactions"
        return f"{counts} ({self.said_by}), {_spelled(self.options) or 'default options'}"

    def holds_for(self, settings: PrepareSettings) -> bool:
        """Whether these settings keep the same rows."""
        mine = PrepareSettings(**self.options)
        return all(getattr(mine, name) == getattr(settings, name) for name in _COUNTED)


@dataclass(frozen=True, slots=True)
class DataSource:
    """A public dataset: what can be fetched, and how it is read.

    asset    name, title, terms and the places it comes from
    brief    the licence in a few words
    version  edition
    size     bytes of the downloads, where all are known
    format, source_version, read
             what :class:`rec_data.config.ReadSettings` has to say to read it
    path     the file of the fetched directory that is read; None: the directory
    suggest  options of `prepare` that published work commonly uses on it
    """

    asset: Asset
    brief: str
    version: str
    size: int | None = None
    format: str = "auto"
    source_version: str | None = None
    path: str | None = None
    read: Mapping[str, Any] = field(default_factory=dict)
    suggest: Mapping[str, Any] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether the cache holds it; nothing is verified."""
        return any((home() / "assets" / self.asset.name / source.name).is_dir() for source in self.asset.sources)

    @property
    def reading(self) -> dict[str, Any]:
        """The options that read it."""
        return {"format": self.format, "source_version": self.source_version, **self.read}

    def location(self, fetched: Path) -> Path:
        """What is read of the directory it lies in."""
        return fetched if self.path is None else fetched / self.path

    def settings(self, asked: _Settings) -> _Settings:
        """The settings that read it: options that were asked for win over those of the table."""
        usual = {f.name: f.default for f in fields(ReadSettings)}
        wanted = self.reading
        if asked.format not in ("auto", self.format):  # in another format its options mean nothing
            wanted = {}
        return replace(asked, **{k: v for k, v in wanted.items() if getattr(asked, k) == usual[k]})

    def compared(self, settings: PrepareSettings, counts: Mapping[str, int]) -> str | None:
        """One sentence on how the counts of a prepared dataset stand to those expected; None where none hold for it."""
        for said in self.expected:
            if said.holds_for(settings):
                wanted = {"users": said.users, "items": said.items, "interactions": said.interactions}
                other = {k: v for k, v in wanted.items() if v is not None and counts[k] != v}
                if not other:
                    return f"{AS_EXPECTED} ({said.said_by})"
                return f"expected {', '.join(f'{v:,} {k}' for k, v in other.items())} ({said.said_by})"
        return None

    def facts(self) -> dict[str, Any]:
        """All of it in plain values."""
        asset = self.asset
        return {
            "name": asset.name,
            "title": asset.title,
            "homepage": asset.homepage,
            "version": self.version,
            "licence": asset.licence,
            "citation": asset.citation,
            "sources": [str(source) for source in asset.sources],
            "files": {source.name: list(source.files) for source in asset.sources},
            "size": self.size,
            "manual": asset.manual,
            "format": self.format,
            "source_version": self.source_version,
            "read": dict(self.read),
            "suggested": dict(self.suggest),
            "expected": [
                {"users": e.users, "items": e.items, "interactions": e.interactions, "said_by": e.said_by}
                | {"options": dict(e.options)}
                for e in self.expected
            ],
        }


@cache
def data_sources() -> Mapping[str, DataSource]:
    """The whole table, in its order."""
    return parse(table_text(), TABLE)


def table_text() -> str:
    """The table as it is installed."""
    return (files("rec_data") / TABLE).read_text(encoding="utf-8")


def describe(name: str) -> DataSource:
    """The dataset of that name; :class:`AssetError` offers the nearest one."""
    try:
        return data_sources()[name]
    except KeyError:
        raise AssetError(
            f"no dataset is called {name!r}{offer(name)} (rec-data fetch --list shows all of them)"
        ) from None


def offer(name: str) -> str:
    """``"; did you mean 'ml-100k'?"``, or nothing where no name is close: the list is long."""
    near = nearest(name, data_sources())
    return near if "did you mean" in near else ""


def fetch(name: str) -> Fetched:
    """The dataset of that name on this machine: from the cache, else from its first source that answers.

    Raises :class:`AssetError` for an unknown name, for one that has to be got by hand (saying how), when no source
    answers, and when the content differs from its checksum.
    """
    return fetch_asset(describe(name).asset)


def refuse_copy(name: str, output: Path) -> None:
    """:class:`DataError` where the files of a dataset cannot be copied to."""
    if output.exists():
        raise DataError(f"{output} exists already; choose another directory for the files of {name}")


def copy_to(fetched: Fetched, output: Path) -> None:
    """Copy the files of a fetched dataset into a new directory; it is whole or not there."""
    refuse_copy(fetched.asset.name, output)
    with explain_write_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".tmp"))
        try:
            shutil.copytree(fetched.path, work / output.name)
            (work / output.name).rename(output)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def fetched_summary(fetched: Fetched, at: Path) -> str:
    """What `fetch` says when it is done: files with their sizes, terms, and the next command."""
    source = describe(fetched.asset.name)
    lines = [f"{fetched.asset.title}", f"{at}"]
    width = max(map(len, fetched.files))
    for name, digest in fetched.files.items():
        size = in_bytes((fetched.path / name).stat().st_size)
        recorded = ", recorded now: nobody published it" if name in fetched.recorded else ""
        lines.append(f"  {name:<{width}}  {size:>10}  SHA-256 {digest[:12]}...{recorded}")
    lines.append(f"licence: {fetched.asset.licence}")
    what, options = fetched.asset.name, ""
    if at != fetched.path:
        what, options = str(source.location(at)), f" {_spelled(source.reading)}".rstrip()
    lines.append(f"next: rec-data prepare {what} runs/{fetched.asset.name}{options}")
    return "\n".join(lines)


def _spelled(options: Mapping[str, Any]) -> str:
    """Options as a command line has them."""
    return " ".join(
        f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}")
        for key, value in options.items()
        if value not in (None, "auto")
    )


def manifest_facts(fetched: Fetched, settings: PrepareSettings, interactions: Interactions) -> dict[str, Any]:
    """What the manifest of a prepared dataset says of its public source.

    Among it ``trusted_on_first_use``, the files that nobody published a checksum of, and ``compared``: how the counts
    stand to those that others report for these options, which the log says too.
    """
    about: dict[str, Any] = {"asset": fetched.asset.name, "from": fetched.source}
    about |= {"licence": fetched.asset.licence, "citation": fetched.asset.citation}
    if fetched.recorded:
        about["trusted_on_first_use"] = list(fetched.recorded)
    counts = {"users": interactions.n_users, "items": interactions.n_items, "interactions": len(interactions)}
    compared = describe(fetched.asset.name).compared(settings, counts)
    if compared is not None:
        level = logging.INFO if compared.startswith(AS_EXPECTED) else logging.WARNING
        log.log(level, "%s: %s", fetched.asset.name, compared)
        about["compared"] = compared
    return about


def fetched_facts(fetched: Fetched, at: Path) -> dict[str, Any]:
    """The same in plain values."""
    return {
        "name": fetched.asset.name,
        "path": str(at),
        "source": fetched.source,
        "files": dict(fetched.files),
        "recorded": list(fetched.recorded),
        "licence": fetched.asset.licence,
        "citation": fetched.asset.citation,
    }


def print_list(sources: Sequence[DataSource], console: Console) -> None:
    """Two lines per dataset: name, size and licence, then the title; * marks those in the cache."""
    from rich.text import Text

    names = [f"{source.asset.name}{' *' if source.is_here else ''}" for source in sources]
    width = max(map(len, names), default=0)
    for name, source in zip(names, sources, strict=True):
        size = "by hand" if not source.asset.sources else "size ?" if source.size is None else in_bytes(source.size)
        console.print(Text(f"{name:<{width}}  {size:>9}  {source.brief}"), soft_wrap=True)
        console.print(Text(f"    {source.asset.title}", style="dim"), soft_wrap=True)
    known = "1 dataset" if len(sources) == 1 else f"{len(sources)} datasets"
    console.print(Text(f"{known}{', * in the cache' if any('*' in n for n in names) else ''}"))


def parse(text: str, name: str) -> dict[str, DataSource]:
    """Read a table of datasets.

    Raises :class:`SettingsError` for what is no TOML, unknown keys (naming the nearest), missing ones and values that
    make no sense, each with the place it stands at.
    """
    try:
        whole = _Table(tomllib.loads(text), name)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: {error}") from error
    publishers = whole.take("publisher", dict)
    datasets = whole.take("dataset", dict)
    whole.done()
    for key, publisher in publishers.items():
        _check_publisher(_Table(publisher, f"{name}, publisher.{key}"))
    return {key: _dataset(key, _Table(entry, f"{name}, dataset.{key}"), publishers) for key, entry in datasets.items()}


_WORDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
_SHARED = ("licence", "citation", "brief", "homepage", "version", "format", "source_version", "at")


class _Table:
    """A TOML table that is taken apart key by key; what is left in the end is unknown."""

    def __init__(self, entries: Mapping[str, Any], where: str) -> None:
        self._entries, self.where = dict(entries), where
        self._asked: list[str] = []

    def take(self, key: str, kind: type, default: Any = ...) -> Any:
        """A value of that type; :class:`SettingsError` for another type, and where it is missing without default."""
        self._asked.append(key)
        if key not in self._entries:
            if default is ...:
                raise SettingsError(f"{self.where}: {key} is missing")
            return default
        value = self._entries.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise SettingsError(f"{self.where}: {key} is {_WORDS[kind]}; got {value!r}")
        return value

    def texts(self, key: str, default: Any = ...) -> tuple[str, ...]:
        """A list of texts that is not empty."""
        values = self.take(key, list, default)
        if not values or not all(isinstance(value, str) and value for value in values):
            raise SettingsError(f"{self.where}: {key} is a list of texts, at least one; got {values!r}")
        return tuple(values)

    def options(self, key: str, kind: type) -> dict[str, Any]:
        """A table of options of a settings dataclass."""
        return _options(self.take(key, dict, {}), kind, f"{self.where}, {key}")

    def rest(self) -> dict[str, Any]:
        """Everything not taken yet."""
        left, self._entries = self._entries, {}
        return left

    def done(self) -> None:
        """:class:`SettingsError` for a key that nothing asked for."""
        for key in self._entries:
            raise SettingsError(f"{self.where}: unknown key {key!r}{nearest(key, self._asked)}")


def _options(values: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise SettingsError(f"{where}: unknown option {key!r}{nearest(key, known)}")
    try:
        kind(**values)
    except (RecError, TypeError) as error:
        raise SettingsError(f"{where}: {error}") from error
    return dict(values)


def _check_publisher(table: _Table) -> None:
    for key in ("licence", "citation", "brief"):
        table.take(key, str)
    for key in ("homepage", "version", "format", "source_version"):
        table.take(key, str, None)
    for url in table.take("at", list, []):
        _check_url(url, table.where)
    table.done()


def _dataset(name: str, table: _Table, publishers: Mapping[str, Mapping[str, Any]]) -> DataSource:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise SettingsError(f"{table.where}: a name is small letters, digits and hyphens between them")
    publisher = table.take("publisher", str)
    if publisher not in publishers:
        raise SettingsError(f"{table.where}: no publisher {publisher!r}{nearest(publisher, publishers)}")
    shared = publishers[publisher]
    said = {key: table.take(key, list if key == "at" else str, shared.get(key)) for key in _SHARED}
    expected = tuple(_expected(_Table(entry, f"{table.where}, expected")) for entry in table.take("expected", list, []))
    read, suggest = table.options("read", ReadSettings), table.options("suggest", PrepareSettings)
    path = table.take("path", str, None)
    size = None
    if table.take("known_to_core", bool, False):
        asset = ASSETS[name]
    else:
        downloads = [_Download.of(entry, said["at"], table.where) for entry in table.take("download", list, [])]
        sizes = [download.size for download in downloads]
        size = sum(filter(None, sizes)) if sizes and None not in sizes else None
        names = [file for download in downloads for file in download.files]
        if len(set(names)) < len(names):
            raise SettingsError(f"{table.where}: two downloads give a file of the same name; got {', '.join(names)}")
        read_as = {"format": said["format"], "source_version": said["source_version"], **read}
        read_what = "DIR" if path is None else f"DIR/{path}"
        by_hand = f"With {', '.join(names)} in DIR: rec-data prepare {read_what} OUTPUT {_spelled(read_as)}"
        asset = Asset(
            name=name,
            kind="dataset",
            title=table.take("title", str),
            homepage=said["homepage"] or "",
            licence=said["licence"],
            citation=said["citation"],
            sources=_sources(downloads),
            manual=table.take("manual", str, by_hand if downloads else None),
        )
    table.done()
    _check_url(asset.homepage, table.where)
    if not asset.sources and not asset.manual:
        raise SettingsError(f"{table.where}: neither download nor manual says how to get it")
    if path is not None and not all(path in source.files for source in asset.sources):
        raise SettingsError(f"{table.where}: path {path!r} is none of its files")
    if said["version"] is None:
        raise SettingsError(f"{table.where}: version is missing")
    _options({"format": said["format"] or "auto", **read}, ReadSettings, f"{table.where}, format")
    return DataSource(
        asset=asset,
        brief=said["brief"],
        version=said["version"],
        size=size,
        format=said["format"] or "auto",
        source_version=said["source_version"],
        path=path,
        read=read,
        suggest=suggest,
        expected=expected,
    )


def _expected(table: _Table) -> Expected:
    counts = table.take("counts", list)
    if len(counts) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in counts):
        raise SettingsError(f"{table.where}: counts are users, items and, where known, interactions; got {counts!r}")
    said_by = table.take("said_by", str)
    options = _options(table.rest(), PrepareSettings, table.where)
    return Expected(counts[0], counts[1], counts[2] if len(counts) == 3 else None, said_by, options)


@dataclass(frozen=True, slots=True)
class _Download:
    """One file to fetch: its addresses, best first, and what becomes of it."""

    urls: tuple[str, ...]
    files: Mapping[str, str | None]
    unpack: Unpack
    checksum: str | None
    size: int | None

    @classmethod
    def of(cls, entry: Any, at: Sequence[str] | None, where: str) -> _Download:
        table = _Table({"path": entry} if isinstance(entry, str) else entry, f"{where}, download")
        path = table.take("path", str)
        urls = (*(base + path for base in at or ()), *table.take("mirrors", list, []))
        if not urls:
            raise SettingsError(f"{table.where}: nothing says where {path!r} lies (at)")
        for url in urls:
            _check_url(url, table.where)
        sums = {kind: table.take(kind, str, None) for kind in ("sha256", "md5")}
        for kind, digits in (("sha256", 64), ("md5", 32)):
            if sums[kind] is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", sums[kind]):
                raise SettingsError(f"{table.where}: {kind} is {digits} hexadecimal digits; got {sums[kind]!r}")
        size = table.take("size", int, None)
        name = path.rpartition("/")[2]
        unpack: Unpack
        match table.take("unpack", str, None):
            case "zip":
                unpack, names = Unzip(table.take("prefix", str, "")), table.texts("files")
            case "gzip":
                unpack, names = Gunzip(), (name.removesuffix(".gz"),)
            case None:
                unpack, names = as_is, (name,)
            case other:
                near = nearest(other, ["zip", "gzip"])
                raise SettingsError(f"{table.where}: unpack is zip or gzip; got {other!r}{near}")
        table.done()
        checksum = next((f"{kind}:{digest}" for kind, digest in sums.items() if digest is not None), None)
        return cls(urls, dict.fromkeys(names), unpack, checksum, size)

    def source(self, name: str, which: int) -> UrlSource:
        """The download from one of its addresses; the last one where it has fewer."""
        url = self.urls[min(which, len(self.urls) - 1)]
        return UrlSource(name, url, self.files, self.unpack, self.checksum, _PATIENCE, _PATIENCE)


def _sources(downloads: Sequence[_Download]) -> tuple[Source, ...]:
    """A source per address, the publisher's first."""
    sources: list[Source] = []
    for which in range(max((len(d.urls) for d in downloads), default=0)):
        name = "publisher" if which == 0 else f"mirror-{which}"
        parts = tuple(download.source(name, which) for download in downloads)
        sources.append(parts[0] if len(parts) == 1 else Bundle(name, parts))
    return tuple(sources)


def _check_url(url: object, where: str) -> None:
    if not (isinstance(url, str) and re.fullmatch(r"https?://[^\s/]+/\S*", url)):
        raise SettingsError(f"{where}: an address is http(s)://host/...; got {url!r}")
