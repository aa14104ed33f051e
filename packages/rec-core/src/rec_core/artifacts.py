"""Artifacts: directories that are whole or not there.

An artifact is a directory with a ``manifest.json`` beside its payload. It MUST be written through :func:`create`, which
builds it in a directory beside the target, flushes every file to the disk and renames; a reader MUST find every payload
file with the hash that the manifest promises. Payload is Parquet (tables), ``.npy`` without pickles (arrays that can be
memory-mapped), safetensors (weights) and JSON. ``log.jsonl``, ``metrics.json``, ``per_user.parquet`` and
``checkpoints/`` are side files: they MAY change later and are outside the hash.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rec_core.errors import ArtifactError

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def _plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses become objects, paths text, NumPy numbers plain ones."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """JSON text with a final newline; floats keep full precision, NaN is refused."""
    return json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory
        return
    fd = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _no_space(target: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"no space left to write {target} ({error.strerror}); nothing there was changed. "
        f"Free some space or choose another output"
    )


@contextmanager
def explain_write_errors(target: Path) -> Iterator[None]:
    """Turn a full disk or a refused write into one sentence that names the target."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_space(target, error) from error
        raise ArtifactError(f"cannot write {target}: {error.strerror or error}; nothing there was changed") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file so that a reader sees the old content or the new, never a part."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _fsync(path.parent)


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

    def describe(self, **about: Any) -> None:
        """More entries for the manifest (``counts=...``)."""
        self.about.update(about)


def _arrow(values: Sequence[Any] | npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.array(values, type=pa.string() if len(values) == 0 and not isinstance(values, np.ndarray) else None)


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
    ``path + ".partial"`` and survives an error (it keeps ``checkpoints/`` and ``log.jsonl``); ``resume`` takes it up
    again. Two writers of one resumable path exclude each other. Raises :class:`ArtifactError`.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    check_output(target, overwrite=overwrite, resume=resume)
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if resumable:
            if partial.exists() and not resume:
                _lock(partial).release()
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            work = partial
        else:
            work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
            work.chmod(0o755)
    lock = _lock(work) if resumable else None
    try:
        writer = Writer(work, target)
        try:
            yield writer
        except OSError as error:
            if error.errno in _FULL:
                raise _no_space(target, error) from error
            raise
        with explain_write_errors(target):
            payload = {
                name: {"sha256": _sha256(work / name), "bytes": (work / name).stat().st_size}
                for name in sorted(writer.files)
            }
            manifest = {
                "kind": kind,
                "schema": SCHEMA_VERSION,
                "hash": _payload_hash(payload),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seed": seed,
                "settings": settings if settings is not None else {},
                "inputs": [
                    {
                        "role": i.role,
                        "path": os.path.relpath(Path(i.path).resolve(), target.resolve()),
                        "hash": i.hash,
                    }
                    for i in inputs
                ],
                **writer.about,
                "payload": payload,
            }
            (work / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
            for file in [*payload, MANIFEST]:
                _fsync(work / file)
            _fsync(work)
            if lock is not None:
                lock.release()
                (work / ".lock").unlink(missing_ok=True)
            _swap(work, target)
    except BaseException:
        if not resumable:
            shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            lock.release()


def check_output(target: Path | str, *, overwrite: bool = False, resume: bool = False) -> None:
    """Refuse an output that exists, before any work is done for it; :class:`ArtifactError` names the way out."""
    target = Path(target)
    partial = target.with_name(target.name + ".partial")
    if overwrite and resume:
        raise ArtifactError("--resume goes on with what is there and --overwrite starts anew: choose one")
    if target.exists() and not overwrite:
        if resume:
            raise ArtifactError(f"{target} is already whole: there is nothing to resume (--overwrite starts anew)")
        raise ArtifactError(f"{target} exists already; choose another output or pass --overwrite")
    if partial.exists() and not overwrite and not resume:
        raise ArtifactError(f"an unfinished run lies at {partial}; --resume goes on with it, --overwrite starts anew")
    if resume and not partial.exists():
        raise ArtifactError(f"there is no unfinished run at {partial} to resume")
    if overwrite and target.exists() and not (target / MANIFEST).is_file():
        raise ArtifactError(f"{target} exists and is not an artifact of ours; --overwrite replaces only artifacts")


def _swap(work: Path, target: Path) -> None:
    """Rename ``work`` to ``target``; an old one is moved aside first and back again should the rename fail."""
    aside: Path | None = None
    if target.exists():
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".old"))
        aside.rmdir()
        target.rename(aside)
    try:
        work.rename(target)
    except BaseException:
        if aside is not None:
            aside.rename(target)
        raise
    _fsync(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


class _Lock:
    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)  # the lock goes with the descriptor, also when the process dies
            self._fd = None


def _lock(directory: Path) -> _Lock:
    fd = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ArtifactError(f"another process is writing {directory}; wait for it or choose another output") from None
    return _Lock(fd)


def _payload_hash(payload: Mapping[str, Mapping[str, Any]]) -> str:
    return sha256("".join(f"{name} {payload[name]['sha256']}\n" for name in sorted(payload)).encode()).hexdigest()


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
            raise ArtifactError(f"{self.path} ({self.kind}) holds no {name}; it holds {', '.join(self.manifest['payload'])}")
        return self.path / name

    def array(self, name: str, *, mmap: bool = True) -> npt.NDArray[Any]:
        """``name.npy``, memory-mapped read-only unless ``mmap`` is False."""
        return np.load(self._file(f"{name}.npy"), mmap_mode="r" if mmap else None, allow_pickle=False)  # type: ignore[no-any-return]

    def table(self, name: str) -> dict[str, list[Any]]:
        """``name.parquet`` as columns of Python values."""
        import pyarrow.parquet as pq

        table = pq.read_table(self._file(f"{name}.parquet"), memory_map=False)
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

        Raises :class:`ArtifactError` when it is gone, has another hash than recorded, or no such role is recorded.
        """
        found = [i for i in self.manifest["inputs"] if i["role"] == role]
        if not found:
            raise ArtifactError(f"{self.path} ({self.kind}) records no input with the role {role!r}")
        where = Path(override) if override is not None else Path(os.path.normpath(self.path.resolve() / found[0]["path"]))
        if override is None and not where.exists():
            raise ArtifactError(f"the {role} of {self.path} was at {where} and is gone; name it with --data")
        opened = open_artifact(where, kind=kind)
        if opened.hash != found[0]["hash"]:
            raise ArtifactError(
                f"{self.path} was made from a {role} with hash {found[0]['hash'][:12]}, but {where} has "
                f"{opened.hash[:12]}: numbers of the two must not be mixed. Make one of them again"
            )
        return opened


def open_artifact(path: Path | str, kind: str | None = None, *, verify: bool = True) -> Artifact:
    """Open the artifact at ``path`` after checking that it is whole.

    Raises :class:`ArtifactError` when there is none, when it is of another ``kind`` or schema version, and when a
    payload file is missing, truncated or changed (``verify=False`` compares sizes only).
    """
    path = Path(path)
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        hint = f" (an unfinished run lies at {partial}: --resume finishes it)" if partial.exists() else ""
        raise ArtifactError(f"there is nothing at {path}{hint}")
    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactError(f"{path} is not an artifact: it has no {MANIFEST}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        schema, found_kind, payload = manifest["schema"], manifest["kind"], manifest["payload"]
        entries = {str(n): (str(e["sha256"]), int(e["bytes"])) for n, e in payload.items()}
        recorded = manifest["hash"]
        manifest["inputs"], manifest["settings"]  # noqa: B018 - both must be there
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file} is damaged ({type(error).__name__}: {error}); make the artifact again") from error
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {schema}; this release reads {SCHEMA_VERSION}. "
            f"{'Upgrade rec-core' if isinstance(schema, int) and schema > SCHEMA_VERSION else 'Make it again'}"
        )
    if kind is not None and found_kind != kind:
        raise ArtifactError(f"{path} is a {found_kind!r} artifact, wanted {kind!r}")
    if recorded != _payload_hash(payload):
        raise ArtifactError(f"{file} was changed: its hash is not that of its payload entries; make the artifact again")
    for name, (digest, size) in entries.items():
        if not (path / name).is_file():
            raise ArtifactError(f"{path} is not whole: {name} is missing; make the artifact again")
        if (path / name).stat().st_size != size:
            raise ArtifactError(
                f"{path} is not whole: {name} has {(path / name).stat().st_size} bytes, wanted {size}; make it again"
            )
        if verify and _sha256(path / name) != digest:
            raise ArtifactError(f"{path / name} was changed after it was written (its hash differs); make it again")
    return Artifact(path, MappingProxyType(manifest))
