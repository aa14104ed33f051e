"""The settings of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rec_core.errors import SettingsError, nearest

Layout = Literal[
    "recbole",
    "lc-rec",
    "selfrec",
    "selfrec-sequential",
    "lightgcn",
    "sasrec",
    "s3rec",
    "openp5",
    "llm-recsys-id",
    "parquet",
]
Keys = Literal["raw", "dense"]

KEYS: dict[str, tuple[Keys, ...]] = {
    "recbole": ("raw", "dense"),
    "lc-rec": ("dense",),
    "selfrec": ("raw", "dense"),
    "selfrec-sequential": ("raw", "dense"),
    "lightgcn": ("dense",),
    "sasrec": ("dense",),
    "s3rec": ("dense",),
    "openp5": ("raw", "dense"),
    "llm-recsys-id": ("dense",),
    "parquet": ("raw",),
}
"""What users and items can be called in each layout; the first is the default."""
_VALID = ("selfrec", "selfrec-sequential", "lightgcn")
_HISTORIES = ("recbole", "lc-rec")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a prepared dataset goes out."""

    format: Layout
    """Layout of the files: who reads them."""
    keys: Keys | None = None
    """What users and items are called: their raw keys (the default where the layout takes them), or their dense ids."""
    name: str | None = None
    """Name in the names of the files; by default that of the output directory."""
    valid: Literal["file", "train"] = "file"
    """Where a layout of train and test alone puts validation events: a valid.txt of its own, or the end of train."""
    benchmark: Literal["none", "pairs", "histories"] = "none"
    """RecBole: one file of all events, or a file per part, with its events or with next items and their histories."""
    history: int = 50
    """Items of the history in a row of next items, at most (LC-Rec and RecBole's benchmark files)."""
    attributes: str | None = None
    """S3-Rec: the item field that holds the comma-separated attributes; by default the first of the usual names."""
    cold_items: bool = False
    """Describe items without events too (LC-Rec, RecBole); these programs then rank them along with the others."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Layout):
            raise SettingsError(
                f"--format {self.format!r} is no layout to export{nearest(self.format, get_args(Layout))}"
            )
        for option, choices in (("keys", KEYS[self.format]), ("valid", ("file", "train")), ("benchmark", _BENCHMARKS)):
            value = getattr(self, option)
            if value is not None and value not in choices:
                said = " and ".join(choices)
                raise SettingsError(f"--{option} {value!r} does not go with --format {self.format}, which has {said}")
        if self.name is not None and (not self.name.strip() or "/" in self.name or self.name.startswith(".")):
            raise SettingsError(f"--name is part of file names; got {self.name!r}")
        if self.history < 1:
            raise SettingsError(f"--history is at least 1; got {self.history}")
        unused = [
            ("valid", self.valid != "file" and self.format not in _VALID),
            ("benchmark", self.benchmark != "none" and self.format != "recbole"),
            ("history", self.history != 50 and self.format not in _HISTORIES),
            ("attributes", self.attributes is not None and self.format != "s3rec"),
            ("cold-items", self.cold_items and self.format not in _HISTORIES),
        ]
        named = [f"--{option}" for option, wrong in unused if wrong]
        if named:
            raise SettingsError(f"the {self.format} layout has no use for {', '.join(named)}; leave it out")

    @property
    def chosen_keys(self) -> Keys:
        """``keys``, or the layout's own."""
        return self.keys or KEYS[self.format][0]


_BENCHMARKS = ("none", "pairs", "histories")
