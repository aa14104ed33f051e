"""The ``rec-data`` command: prepare, fetch, inspect, stats, audit, synthesize, candidates, samples, presets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rec_core.cli import (
    Json,
    Overwrite,
    Progress,
    Resume,
    SettingsFile,
    console,
    make_app,
    option_in,
    run,
    use_settings_file,
)
from rec_core.errors import SettingsError
from rec_data.config import PrepareSettings, ReadSettings
from rec_data.evaluation_config import CandidateSettings, SampleSettings
from rec_data.export import ExportSettings
from rec_data.world_config import FileSettings, WorldSettings

app = make_app("rec-data", "Public datasets and your own tables, prepared for sequential recommendation.")
_STAGES = {
    "prepare": PrepareSettings,
    "candidates": CandidateSettings,
    "samples": SampleSettings,
    "export": ExportSettings,
}


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
        A file, a directory, or the name of a public dataset (ml-100k; rec-data fetch --list).
    output
        Directory of the prepared dataset.
    """
    from rec_data.prepare import prepare
    from rec_data.prepare import summary as summarise

    print(summarise(prepare(source, output, settings, overwrite=overwrite)))


@app.command
def fetch(
    name: str | None = None,
    /,
    *,
    output: Path | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    json: Json = False,
) -> None:
    """Get a public dataset onto this machine, verified, where `prepare NAME` finds it; --list shows what there is.

    An interrupted download goes on where it stopped when the command is given again.

    Parameters
    ----------
    name
        A dataset of the list; with --list a part of names: only those are shown.
    output
        Copy the raw files into this new directory too.
    list_
        Show the names with title, size and licence; * marks what is in the cache already.
    """
    from rec_core.artifacts import to_json
    from rec_data import sources

    if list_:
        shown = [source for key, source in sources.data_sources().items() if (name or "").casefold() in key]
        if not shown:
            raise SettingsError(f"no dataset has {name!r} in its name; rec-data fetch --list shows all of them")
        if json:
            print(to_json([{**source.facts(), "is_here": source.is_here} for source in shown]), end="")
        else:
            sources.print_list(shown, console())
        return
    if name is None:
        raise SettingsError("name a dataset, or pass --list to see all of them")
    if output is not None:
        sources.refuse_copy(name, output)
    fetched = sources.fetch(name)
    if output is not None:
        sources.copy_to(fetched, output)
    if json:
        print(to_json(sources.fetched_facts(fetched, output or fetched.path)), end="")
    else:
        print(sources.fetched_summary(fetched, output or fetched.path))


@app.command
def inspect(
    name: str,
    /,
    *,
    settings: Annotated[ReadSettings, Parameter(name="*")] = ReadSettings(),  # noqa: B008 - frozen
    json: Json = False,
) -> None:
    """Show what a dataset, raw files or anything made of them is, with licence and citation where they are known.

    Parameters
    ----------
    name
        The name of a public dataset (described, not fetched), a raw file or directory, a prepared dataset, or what a
        command made: a world, an export, candidate lists, samples, a trained model.
    """
    from rec_core.artifacts import to_json
    from rec_data.inspect import inspect, print_description

    about = inspect(name, settings)
    if json:
        print(to_json(about), end="")
    else:
        print_description(about, console())


@app.command
def stats(
    source: str,
    /,
    *,
    settings: Annotated[ReadSettings, Parameter(name="*")] = ReadSettings(),  # noqa: B008 - frozen
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show counts, density, history lengths, popularity and ties of a prepared dataset or of raw files as they are.

    Parameters
    ----------
    source
        Directory made by rec-data prepare, a raw file or directory, or the name of a public dataset.
    plot
        Draw the figures into this file too, .png or .svg (needs rec-data[plot]).
    """
    from rec_core.artifacts import to_json
    from rec_data.picture import check_picture, write_picture
    from rec_data.stats import print_stats, stats_of

    if plot is not None:
        check_picture(plot, overwrite=overwrite)
    figures, curves = stats_of(source, settings)
    if plot is not None:
        write_picture(plot, figures, curves, overwrite=overwrite)
    if json:
        print(to_json(figures | {"curves": curves}), end="")
    else:
        print_stats(figures, console())


@app.command
def audit(
    dataset: Path,
    /,
    *,
    max_tied_share: float | None = None,
    max_tie_decided_share: float | None = None,
    max_cold_share: float | None = None,
    accept: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    examples: int = 3,
    json: Json = False,
) -> None:
    """Look for leaks in a prepared dataset; exits with 0 where there are none and with 1 where there are.

    Parameters
    ----------
    dataset
        Directory made by rec-data prepare.
    max_tied_share
        Call it a leak when a larger share of a user's neighbouring events has one timestamp.
    max_tie_decided_share
        Call it a leak when the target of a larger share of users is an accident of the order of the file.
    max_cold_share
        Call it a leak when a larger share of held-out events is of items without a training event.
    accept
        A check whose leak is known and accepted; may be given again.
    examples
        Examples per finding.
    """
    from rec_core.artifacts import to_json
    from rec_core.dataset import read_dataset
    from rec_data.audit import AuditSettings, audit, print_audit

    settings = AuditSettings(
        max_tied_share=max_tied_share,
        max_tie_decided_share=max_tie_decided_share,
        max_cold_share=max_cold_share,
        accept=accept,
        examples=examples,
    )
    found = audit(read_dataset(dataset), settings)
    with suppress(BrokenPipeError):  # the exit code says it also where nobody reads to the end (| head)
        if json:
            print(to_json(found.as_dict()), end="")
        else:
            print_audit(found, console())
    if found.leaks:
        raise SystemExit(1)


@app.command
def synthesize(
    output: Path,
    /,
    *,
    world: Annotated[WorldSettings, Parameter(name="*")] = WorldSettings(),  # noqa: B008 - frozen
    settings: Annotated[FileSettings, Parameter(name="*")] = FileSettings(),  # noqa: B008 - frozen
    config: SettingsFile = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Write a made-up world whose rules are known, as raw files: for tests, benchmarks and sanity checks.

    Parameters
    ----------
    output
        Directory of the raw files, which rec-data prepare reads.
    """
    from rec_data.synthesize import synthesize

    with Progress("synthesize") as progress:
        made = synthesize(output, world, settings, overwrite=overwrite, resume=resume, progress=progress)
    counts = made.manifest["counts"]
    print(
        f"{made.path}: {counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} rows; "
        f"next: rec-data prepare {made.path} OUTPUT"
    )


@app.command
def candidates(
    dataset: Path,
    output: Path,
    /,
    *,
    settings: Annotated[CandidateSettings, Parameter(name="*")] = CandidateSettings(),  # noqa: B008 - frozen
    config: SettingsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the items that each held-out row is ranked among, once for all models: rec-core evaluate --candidates.

    Parameters
    ----------
    dataset
        Directory made by rec-data prepare.
    output
        Directory of the candidate lists.
    """
    from rec_data.candidates import candidates

    made = candidates(dataset, output, settings, overwrite=overwrite)
    counts = made.manifest["counts"]
    shortest, longest = counts["shortest"], counts["longest"]
    length = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    how = {"uniform": "uniformly", "popularity": "by popularity"}[settings.method]
    print(f"{made.path}: {counts['rows']:,} lists of {length} candidates, drawn {how} for the {settings.part} part")


@app.command
def samples(
    dataset: Path,
    output: Path,
    /,
    *,
    settings: Annotated[SampleSettings, Parameter(name="*")] = SampleSettings(),  # noqa: B008 - frozen
    config: SettingsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Make samples of click prediction: would this user, after this history, like this item?

    Parameters
    ----------
    dataset
        Directory made by rec-data prepare, with ratings and a split in order of time (global-ratio, ...).
    output
        Directory of the samples.
    """
    from rec_data.samples import samples

    made = samples(dataset, output, settings, overwrite=overwrite)
    counts = made.manifest["counts"]
    sizes = " / ".join(f"{counts[part]:,}" for part in ("train", "valid", "test"))
    print(f"{made.path}: {sizes} samples, {counts['liked'] / counts['samples']:.1%} of them liked")


@app.command
def export(
    dataset: Path,
    output: Path,
    /,
    *,
    settings: Annotated[ExportSettings, Parameter(name="*")],
    config: SettingsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a prepared dataset in the layout of another program, and say what has no place in it.

    Parameters
    ----------
    dataset
        Directory made by rec-data prepare.
    output
        New directory of the files; its name goes into theirs where the layout wants one.
    """
    from rec_data.export import export, summary

    print(summary(export(dataset, output, settings, overwrite=overwrite)))


@app.command
def presets(name: str | None = None, /, *, json: Json = False) -> None:
    """List the published preparations that prepare --preset knows, or show one with all it says.

    Parameters
    ----------
    name
        Name of a preset.
    """
    from rec_core.artifacts import to_json
    from rec_data.presets import PRESETS, named, print_preset, print_presets

    if json:
        print(to_json(PRESETS if name is None else named(name)), end="")
    elif name is None:
        print_presets(console())
    else:
        print_preset(named(name), console())


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``rec-data``."""
    run(app, argv, before=_read_config)


def _read_config(words: Sequence[str]) -> None:
    """Let ``--config FILE`` and ``prepare --preset NAME`` give defaults; an option wins, then the file."""
    app.config = ()
    command = words[0] if words else ""
    if command in _STAGES:
        use_settings_file(app, words, command, _STAGES[command])
    if command == "synthesize":
        use_settings_file(app, words, command, WorldSettings, FileSettings)
    if command == "prepare" and (name := _said(words, "preset")) is not None:
        from cyclopts.config import Dict

        from rec_data.presets import options_beside

        options = options_beside(name, {option: _said(words, option) for option in ("format", "k_core")})
        given = {option.replace("_", "-"): value for option, value in options.items()}
        app.config = (*(app.config or ()), Dict({command: given}, source=f"the preset {name}"))


def _said(words: Sequence[str], option: str) -> str | None:
    """What the command line says about an option of ``prepare``, else the settings file."""
    from rec_core.settings import read_settings_file

    said, file = option_in(words, option.replace("_", "-")), option_in(words, "config")
    if said is None and file is not None:
        said = read_settings_file(file, PrepareSettings).get(option)
    return said
