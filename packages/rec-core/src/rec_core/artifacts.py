"""Artifacts: directories that are whole or not there.

An artifact is a directory with a ``manifest.json`` beside its payload. It MUST be written through :func:`create`, which
builds it in a directory beside the target, flushes every file to the disk and renames; a reader MUST find every payload
file with the hash that the manifest promises, and the manifest with the hash that it promises of itself. Payload is
Parquet (tables), ``.npy`` without pickles (arrays that can be memory-mapped), safetensors (weights) and JSON.
``log.jsonl``, ``metrics.json``, ``evaluation.json``, ``per_user.parquet`` and ``checkpoints/`` are side files: they MAY
change later and are outside the hash.

Beside a target ``runs/x`` a writer keeps ``runs/.x.lock`` (held while it writes), ``runs/.x.????????.tmp`` (under
construction), ``runs/.x.old`` (the version being replaced) and, where a run can be resumed, ``runs/x.partial``. They go
when it ends; what a killed writer left is cleared away by the next writer of the same target, a partial run is kept.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import ArtifactError, RecError
from rec_core.locks import lock
from rec_core.processes import on_main, process_count

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_SIDE_FILES = ("log.jsonl", "metrics.json", "evaluation.json", "per_user.parquet")
_OURS = ("kind", "schema", "hash", "created", "seed", "settings", "inputs", "payload", "manifest_hash")
_PROBE = 0.2  # seconds: longer than :func:`check_output` holds a lock to see whether it is free
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_WORDS = re.compile(r"\d+ requested and \d+ written|\(os error (?:27|28|112|122)\)")  # numpy; safetensors


@dataclass(frozen=True, slots=True)
class Input:
    """Something an artifact was made from.

    role   what it was for: ``dataset``, ``embeddings``, ...
    path   where it lay; the manifest keeps it relative to the new artifact
    hash   SHA-256 of its payload at that time
    """

    role: str
    path: Path
    hash: str


def _plain(value: Any, name: str = "the value") -> Any:
    """A value as JSON has it: dataclasses become objects, paths text, NumPy numbers plain ones."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), name)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v, name) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, which JSON cannot hold; write None where there is no number")
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """JSON text with a final newline; floats keep full precision, NaN and infinity raise ValueError."""
    return json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n"


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory
        return
    fd = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(fd)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some mounts cannot flush a directory
            raise
    finally:
        os.close(fd)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _disk_is_full(error: Exception) -> bool:
    """Whether an error says so, by its number or, from NumPy and safetensors, in its words alone."""
    if isinstance(error, RecError):  # explained already
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return _FULL_IN_WORDS.search(str(error)) is not None


_UNCHANGED = "nothing there was changed"


def _no_space(target: Path, error: Exception, state: str = _UNCHANGED) -> ArtifactError:
    return ArtifactError(
        f"no space left to write {target} ({getattr(error, 'strerror', None) or error}); {state}. "
        f"Free some space or choose another output"
    )


@contextmanager
def explain_write_errors(target: Path, state: Callable[[], str] = lambda: _UNCHANGED) -> Iterator[None]:
    """Turn a full disk or a refused write into one sentence that names the target and says how it stands now."""
    try:
        yield
    except Exception as error:
        if _disk_is_full(error):
            raise _no_space(target, error, state()) from error
        if not isinstance(error, OSError):
            raise
        raise ArtifactError(f"cannot write {target}: {error.strerror or error}; {state()}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file so that a reader sees the old content or the new, never a part."""
    write_together(path.parent, {path.name: data})


def write_together(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together, each whole or not at all, and none before all are on the disk.

    A full disk so leaves all of them as they were. Should a rename fail after others were made, the
    :class:`ArtifactError` says which files are new.
    """
    replaced: list[str] = []

    def state() -> str:
        return f"{' and '.join(replaced)} there {'is' if len(replaced) == 1 else 'are'} new" if replaced else _UNCHANGED

    staged: dict[str, str] = {}
    try:
        for name, data in files.items():
            with explain_write_errors(directory / name):
                directory.mkdir(parents=True, exist_ok=True)
                handle, staged[name] = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(staged[name], 0o644)
        for name in files:
            with explain_write_errors(directory / name, state):
                os.replace(staged[name], directory / name)
            replaced.append(name)
        with explain_write_errors(directory, state):
            flush_to_disk(directory)
    finally:
        for left_over in staged.values():
            Path(left_over).unlink(missing_ok=True)


class Writer:
    """The payload of an artifact under construction; made by :func:`create`."""

    def __init__(self, directory: Path, target: Path) -> None:
        self.directory = directory
        self.target = target
        self.files: list[str] = []
        self.about: dict[str, Any] = {}

    def _file(self, name: str) -> Path:
        if name in self.files:
            raise ValueError(f"{name} was written twice")
        if name in (MANIFEST, *_SIDE_FILES):
            raise ValueError(f"{name} is not payload: the manifest and side files are outside the hash")
        self.files.append(name)
        return self.directory / name

    def array(self, name: str, array: npt.NDArray[Any]) -> None:
        """``name.npy``, readable as a memory map."""
        np.save(self._file(f"{name}.npy"), np.ascontiguousarray(array), allow_pickle=False)

    def table(self, name: str, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> None:
        """``name.parquet`` from named columns of one length."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({k: _arrow(v) for k, v in columns.items()}), self._file(f"{name}.parquet"))

    def tensors(self, name: str, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """``name.safetensors`` from NumPy arrays."""
        from safetensors.numpy import save_file

        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, self._file(f"{name}.safetensors"))

    def torch_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """``name.safetensors`` from torch tensors; tied ones are stored once per name."""
        from safetensors.torch import save_file

        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        save_file(plain, self._file(f"{name}.safetensors"))

    def json(self, name: str, value: Any) -> None:
        """``name.json``."""
        self._file(f"{name}.json").write_text(to_json(value), encoding="utf-8")

    def file(self, name: str) -> Path:
        """Where to write payload of another form (a picture, a text for people)."""
        return self._file(name)

    def describe(self, **about: Any) -> None:
        """More entries for the manifest (``counts=...``)."""
        if taken := sorted(set(about) & set(_OURS)):
            raise ValueError(f"{taken[0]!r} is an entry that every manifest has; describe it under another name")
        self.about.update(about)


def _arrow(values: Sequence[Any] | npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    array = pa.array(values)
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array  # nothing but None: text that is missing


@contextmanager
def create(
    path: Path | str,
    kind: str,
    *,
    settings: Any = None,
    seed: int | None = None,
    inputs: Iterable[Input] = (),
    overwrite: bool = False,
    resumable: bool = False,
    resume: bool = False,
) -> Iterator[Writer]:
    """Write an artifact at ``path``: it appears there when the block ends without an error, whole, or not at all.

    The block writes through the :class:`Writer` it is given. An existing ``path`` is refused unless ``overwrite``; the
    old one then stays until the new one is whole. With ``resumable`` the directory under construction is
    ``path + ".partial"`` and survives an error once something is in it (it keeps ``checkpoints/`` and ``log.jsonl``);
    ``resume`` takes it up again, and ``overwrite`` throws it away. Two writers of one path exclude each other. A path
    that is one of the inputs or holds one is never replaced. Raises :class:`ArtifactError`.
    """
    if resume and not resumable:
        raise ValueError("only a resumable artifact can be resumed")
    target, inputs = Path(path), tuple(inputs)
    check_output(target, overwrite=overwrite, resume=resume, made_from=[i.path for i in inputs])
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _only_writer(target) as clean:
        if clean:
            _clear_away(target)
        _refuse(target, overwrite=overwrite, resume=resume)  # again: another writer may just have finished
        with explain_write_errors(target):
            work = _begin(target, resumable=resumable, resume=resume)
        try:
            writer = Writer(work, target)
            try:
                yield writer
            except Exception as error:
                if _disk_is_full(error):
                    raise _no_space(target, error) from error
                raise
            with explain_write_errors(target):
                names = sorted(writer.files)
                with ThreadPoolExecutor(4) as threads:
                    hashes = list(threads.map(lambda name: file_hash(work / name), names))
                payload = {
                    name: {"sha256": digest, "bytes": (work / name).stat().st_size}
                    for name, digest in zip(names, hashes, strict=True)
                }
                manifest = _plain(
                    {
                        "kind": kind,
                        "schema": SCHEMA_VERSION,
                        "hash": _payload_hash(payload),
                        "created": datetime.now(UTC).isoformat(timespec="seconds"),
                        "seed": seed,
                        "settings": settings if settings is not None else {},
                        "inputs": [{"role": i.role, "path": _relative(i.path, target), "hash": i.hash} for i in inputs],
                        **writer.about,
                        "payload": payload,
                    }
                )
                manifest["manifest_hash"] = _manifest_hash(manifest)
                (work / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
                for file in [*payload, MANIFEST]:
                    (work / file).chmod(0o644)  # safetensors makes files that nobody else can read
                    flush_to_disk(work / file)
                flush_to_disk(work)
                _swap(work, target)
        except BaseException as error:
            if not resumable or not any(work.glob("*")):  # nothing to take up again, only in the way
                shutil.rmtree(work, ignore_errors=True)
            elif isinstance(error, KeyboardInterrupt):
                error.add_note(f"--resume goes on with {work}")  # the command line passes it on
            raise


@contextmanager
def create_together(path: Path | str, kind: str, **options: Any) -> Iterator[Writer]:
    """:func:`create` by several processes at once, with its options and errors.

    The main process checks, locks, writes and publishes; the others are given a writer of the same directory that drops
    what it is handed, and leave the block when the artifact is whole. When the output is refused all of them raise. An
    error in the block leaves the others to what they were doing: their next exchange with this process fails, and a
    launcher ends them.
    """
    if process_count() < 2:
        with create(path, kind, **options) as out:
            yield out
        return
    with ExitStack() as held:
        made: list[Writer] = []

        def begin() -> Path:
            made.append(held.enter_context(create(path, kind, **options)))
            return made[0].directory

        directory = on_main(begin)
        yield made[0] if made else Onlooker(directory, Path(path))
        on_main(held.close)  # the artifact is published here


class Onlooker(Writer):
    """What a process that is not the main one holds in the place of a :class:`Writer`: it writes nothing."""

    def array(self, name: str, array: npt.NDArray[Any]) -> None:
        """Nothing is written."""

    def table(self, name: str, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> None:
        """Nothing is written."""

    def tensors(self, name: str, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Nothing is written."""

    def torch_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Nothing is written."""

    def json(self, name: str, value: Any) -> None:
        """Nothing is written."""

    def file(self, name: str) -> Path:
        """Where whatever is written goes nowhere."""
        return Path(os.devnull)


def check_output(
    target: Path | str, *, overwrite: bool = False, resume: bool = False, made_from: Iterable[Path] = ()
) -> None:
    """Refuse an output that exists or that another process is writing, before any work is done for it.

    ``overwrite`` does not let a target go that is among the files it is ``made_from``, or that holds one of them.
    :class:`ArtifactError` names the way out.
    """
    target = Path(target)
    if target.name and _is_being_written(target):
        raise _busy(target)
    _refuse(target, overwrite=overwrite, resume=resume)
    if target.exists():
        for source in made_from:
            if source.exists() and source.resolve().is_relative_to(target.resolve()):
                raise ArtifactError(f"{target} would replace {source}, which it is made from; choose another output")


def _refuse(target: Path, *, overwrite: bool, resume: bool) -> None:
    if overwrite and resume:
        raise ArtifactError("--resume goes on with what is there and --overwrite starts anew: choose one")
    if target.name in ("", ".."):
        raise ArtifactError(f"an output needs a name of its own; {target} has none")
    if target.exists() and not (target / MANIFEST).is_file():
        raise ArtifactError(f"{target} exists and is not an artifact, so it is not replaced; choose another output")
    partial = _partial(target)
    if partial.exists():
        if not overwrite and not resume:
            raise ArtifactError(
                f"an unfinished run lies at {partial}; --resume goes on with it, --overwrite starts anew"
            )
        return
    if resume and target.exists():
        raise ArtifactError(f"{target} is already whole: there is nothing to resume (--overwrite starts anew)")
    if resume:
        raise ArtifactError(f"there is no unfinished run at {partial} to resume")
    if target.exists() and not overwrite:
        raise ArtifactError(f"{target} exists already; choose another output or pass --overwrite")


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _relative(path: Path, target: Path) -> str:
    """Where an input lies, seen from the artifact; absolute when there is no way there (another drive)."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), target.resolve())).as_posix()
    except ValueError:
        return Path(path).resolve().as_posix()


def _begin(target: Path, *, resumable: bool, resume: bool) -> Path:
    """The directory in which the artifact is built."""
    partial = _partial(target)
    if partial.exists() and not resume:
        shutil.rmtree(partial)
    if resumable:
        partial.mkdir(exist_ok=True)
        return partial
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    work.chmod(0o755)
    return work


def _clear_away(target: Path) -> None:
    """Undo what a killed writer of this target left; only its one living writer may call this."""
    if _old(target).exists() and not target.exists():  # killed between the two renames
        _old(target).rename(target)
    shutil.rmtree(_old(target), ignore_errors=True)
    unfinished = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.tmp")
    for path in [path for path in target.parent.iterdir() if unfinished.fullmatch(path.name)]:
        shutil.rmtree(path, ignore_errors=True)


def _swap(work: Path, target: Path) -> None:
    """Rename ``work`` to ``target``; an old one is moved aside first and back again should the rename fail."""
    aside = _old(target)
    try:
        if target.exists():
            target.rename(aside)
        work.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    flush_to_disk(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _only_writer(target: Path) -> Iterator[bool]:
    """Hold the lock of a target; it goes with the process, also when that is killed.

    Gives True when the lock is held, False on a file system that has no locks (some network mounts). A second writer
    gets :class:`ArtifactError`.
    """
    path = _lock_file(target)
    while True:
        with explain_write_errors(target):
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            held = lock(fd, wait=_PROBE)
        except BlockingIOError:
            os.close(fd)
            raise _busy(target) from None
        if not held or os.name == "nt" or _is_at(fd, path):
            break
        os.close(fd)  # its holder ended and took the file away between our open and our lock
    try:
        yield held
    finally:
        if os.name == "nt":  # an open file cannot be removed there
            os.close(fd)
            with suppress(OSError):
                path.unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
            os.close(fd)


def _is_being_written(target: Path) -> bool:
    try:
        fd = os.open(_lock_file(target), os.O_RDWR)
    except OSError:  # nobody is, or create() will say why nobody can
        return False
    try:
        lock(fd)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _lock_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _busy(target: Path) -> ArtifactError:
    return ArtifactError(f"another process is writing {target}; wait for it or choose another output")


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _payload_hash(payload: Mapping[str, Mapping[str, Any]]) -> str:
    return sha256("".join(f"{name} {payload[name]['sha256']}\n" for name in sorted(payload)).encode()).hexdigest()


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    said = {key: value for key, value in manifest.items() if key != "manifest_hash"}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact opened for reading; made by :func:`open_artifact`.

    path       its directory
    manifest   the content of ``manifest.json``
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """What it is: ``dataset``, ``recommender``, ``item-embeddings``, ..."""
        return str(self.manifest["kind"])

    @property
    def hash(self) -> str:
        """SHA-256 over the payload files' names and hashes."""
        return str(self.manifest["hash"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings it was made with, in full."""
        return MappingProxyType(dict(self.manifest["settings"]))

    def has(self, file: str) -> bool:
        """Whether ``file`` belongs to the payload."""
        return file in self.manifest["payload"]

    def _file(self, name: str) -> Path:
        if not self.has(name):
            raise ArtifactError(
                f"{self.path} ({self.kind}) holds no {name}; it holds {', '.join(self.manifest['payload'])}"
            )
        return self.path / name

    def array(self, name: str, *, mmap: bool = True) -> npt.NDArray[Any]:
        """``name.npy``, memory-mapped read-only unless ``mmap`` is False."""
        return np.load(self._file(f"{name}.npy"), mmap_mode="r" if mmap else None, allow_pickle=False)  # type: ignore[no-any-return]

    def table(self, name: str) -> dict[str, list[Any]]:
        """``name.parquet`` as columns of Python values."""
        import pyarrow.parquet as pq

        # without threads: a process that ends while they start is aborted (1 in 100 short commands on a busy machine)
        table = pq.read_table(self._file(f"{name}.parquet"), memory_map=False, use_threads=False, pre_buffer=False)
        return {column: table[column].to_pylist() for column in table.column_names}

    def tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """``name.safetensors`` as NumPy arrays (bfloat16 needs :meth:`torch_tensors`)."""
        from safetensors.numpy import load_file

        return load_file(self._file(f"{name}.safetensors"))

    def torch_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """``name.safetensors`` as torch tensors on the CPU."""
        from safetensors.torch import load_file

        return load_file(self._file(f"{name}.safetensors"))

    def json(self, name: str) -> Any:
        """``name.json``."""
        return json.loads(self._file(f"{name}.json").read_text(encoding="utf-8"))

    def as_input(self, role: str) -> Input:
        """This artifact as the input of another one."""
        return Input(role, self.path, self.hash)

    def open_input(self, role: str, override: Path | str | None = None, *, kind: str | None = None) -> Artifact:
        """Open an artifact this one was made from, where the manifest says it lies or at ``override``.

        The manifest keeps a relative path, so that a folder with both may be moved. Raises :class:`ArtifactError` when
        the input is gone, has another hash than recorded, or no such role is recorded.
        """
        found = [i for i in self.manifest["inputs"] if i["role"] == role]
        if not found:
            raise ArtifactError(f"{self.path} ({self.kind}) records no input with the role {role!r}")
        where = (
            Path(override) if override is not None else Path(os.path.normpath(self.path.resolve() / found[0]["path"]))
        )
        if override is None and not where.exists():
            option = " with --data" if role == "dataset" else ""
            raise ArtifactError(f"the {role} of {self.path} was at {where} and is gone; name it{option}")
        opened = open_artifact(where, kind=kind)
        if opened.hash != found[0]["hash"]:
            raise ArtifactError(
                f"{self.path} was made from a {role} with hash {found[0]['hash'][:12]}, but {where} has "
                f"{opened.hash[:12]}: numbers of the two must not be mixed. Make one of them again"
            )
        return opened


def _maker(kind: str | None) -> str:
    """How to come by an artifact of the kind that was wanted, where one command makes it."""
    made_by = {"dataset": "rec-data prepare", "candidates": "rec-data candidates", "samples": "rec-data samples"}
    return f" ({made_by[kind]} makes one)" if kind in made_by else ""


def open_artifact(path: Path | str, kind: str | None = None, *, verify: bool = True) -> Artifact:
    """Open the artifact at ``path`` after checking that it is whole.

    Raises :class:`ArtifactError` when there is none, when it is of another ``kind`` or schema version, and when a
    payload file is missing, truncated or changed (``verify=False`` compares sizes only) or the manifest is.
    """
    path = Path(path)
    if not path.exists():
        hint = ""
        if path.name and _partial(path).exists():
            hint = f" (an unfinished run lies at {_partial(path)}: --resume finishes it)"
        elif path.name and _old(path).exists():
            hint = f" (its replacement was interrupted: rename {_old(path)} to get it back)"
        raise ArtifactError(f"there is nothing at {path}{hint}")
    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactError(f"{path} is not an artifact: it has no {MANIFEST}{_maker(kind)}")
    damaged = f"{file} is damaged or was changed; make the artifact again"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{damaged} ({type(error).__name__}: {error})") from error
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {schema}; this release reads {SCHEMA_VERSION}. "
            f"{'Upgrade rec-core' if isinstance(schema, int) and schema > SCHEMA_VERSION else 'Make it again'}"
        )
    try:
        found_kind, payload = manifest["kind"], manifest["payload"]
        entries = {str(n): (str(e["sha256"]), int(e["bytes"])) for n, e in payload.items()}
        whole = manifest["hash"] == _payload_hash(payload) and manifest["manifest_hash"] == _manifest_hash(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{damaged} ({type(error).__name__}: {error})") from error
    if not whole:
        raise ArtifactError(f"{damaged} (its content has another hash than it promises)")
    if kind is not None and found_kind != kind:
        raise ArtifactError(f"{path} is a {found_kind!r} artifact, wanted {kind!r}{_maker(kind)}")
    for name, (digest, size) in entries.items():
        if not (path / name).is_file():
            raise ArtifactError(f"{path} is not whole: {name} is missing; make the artifact again")
        if (path / name).stat().st_size != size:
            raise ArtifactError(
                f"{path} is not whole: {name} has {(path / name).stat().st_size} bytes, wanted {size}; make it again"
            )
        if verify and file_hash(path / name) != digest:
            raise ArtifactError(f"{path / name} was changed after it was written (its hash differs); make it again")
    return Artifact(path, MappingProxyType(manifest))
