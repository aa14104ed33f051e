"""The ``rec-data`` command: prepare, inspect, stats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rec_core.cli import Json, Overwrite, SettingsFile, console, make_app, run, use_settings_file
from rec_data.config import PrepareSettings, ReadSettings

app = make_app("rec-data", "Public datasets and your own tables, prepared for sequential recommendation.")


@app.command
def prepare(
    source: str,
    output: Path,
    /,
    *,
    settings: Annotated[PrepareSettings, Parameter(name="*")] = PrepareSettings(),  # noqa: B008 - frozen
    config: SettingsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Read raw files, filter and split them, and write a prepared dataset.

    Parameters
    ----------
    source
        A file, a directory, or the name of an asset (ml-100k).
    output
        Directory of the prepared dataset.
    """
    from rec_data.prepare import prepare
    from rec_data.prepare import summary as summarise

    print(summarise(prepare(source, output, settings, overwrite=overwrite)))


@app.command
def inspect(
    name: str,
    /,
    *,
    settings: Annotated[ReadSettings, Parameter(name="*")] = ReadSettings(),  # noqa: B008 - frozen
    json: Json = False,
) -> None:
    """Show what an asset, a prepared dataset or raw files are, with licence and citation where they are known.

    Parameters
    ----------
    name
        An asset name, a prepared dataset, a raw file or a raw directory.
    """
    from rec_core.artifacts import to_json
    from rec_data.inspect import inspect, print_description

    about = inspect(name, settings)
    if json:
        print(to_json(about), end="")
    else:
        print_description(about, console())


@app.command
def stats(dataset: Path, /, *, json: Json = False) -> None:
    """Show counts, density, history lengths, popularity and ties of a prepared dataset.

    Parameters
    ----------
    dataset
        Directory made by rec-data prepare.
    """
    from rec_core.artifacts import to_json
    from rec_core.dataset import read_dataset
    from rec_data.stats import dataset_stats, print_stats

    figures = dataset_stats(read_dataset(dataset))
    if json:
        print(to_json(figures), end="")
    else:
        print_stats(figures, console())


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``rec-data``."""
    run(app, argv, before=_read_config)


def _read_config(words: Sequence[str]) -> None:
    """Let ``prepare --config FILE`` state what differs from the defaults."""
    app.config = ()
    if words[:1] == ["prepare"]:
        use_settings_file(app, words, "prepare", PrepareSettings)
