"""The shared half of every command line: option types, errors in one message, progress.

One message and exit code 2 for a user's mistake; a traceback only for ours. Heavy imports live inside commands.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter

from rec_core.errors import RecError
from rec_core.processes import is_main_process, leave, speaks, stop

if TYPE_CHECKING:
    from cyclopts import ArgumentCollection
    from rich.console import Console

Overwrite = Annotated[bool, Parameter(negative=(), help="Replace an existing output once the new one is whole.")]
Resume = Annotated[bool, Parameter(negative=(), help="Go on with an unfinished run.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")]
DataOverride = Annotated[Path | None, Parameter(name="--data", help="The data set, when it moved since training.")]
_SURROUNDINGS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
SettingsFile = Annotated[
    Path | None, Parameter(name="--config", help="TOML, JSON or YAML file with what differs from the defaults.")
]


def make_app(name: str, summary: str) -> App:
    """An app named like its package."""
    return App(
        name=name,
        help=summary,
        version=version(name),
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,  # run() says what Ctrl-C means
    )


def run(app: App, argv: Sequence[str] | None = None, *, before: Callable[[Sequence[str]], None] | None = None) -> None:
    """Run a command line: RecError and refused files become one message and exit code 2, Ctrl-C exits with 130.

    ``before`` sees the words first, for apps whose options depend on them.
    """
    heard = logging.StreamHandler(sys.stderr)
    heard.addFilter(_worth_hearing)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[heard])
    words = list(sys.argv[1:] if argv is None else argv)
    if sys.stdout is None:  # closed by the shell (>&-): nobody reads the answers
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    try:
        try:
            if before is not None:
                before(words)
            if refuse_fractions not in (app.config or ()):  # last: it sees what a settings file gave too
                app.config = (*(app.config or ()), refuse_fractions)
            app(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:  # words that are no command
            if speaks(str(error)):
                app.error_console.print(CycloptsPanel(error))
            stop(2)
        except SystemExit as end:  # how cyclopts ends every command
            if not end.code:
                leave()
            raise
        finally:
            sys.stdout.flush()  # here, where a reader who left is understood
    except RecError as error:
        fail(str(error))
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        fail(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except BrokenPipeError as left:  # the reader of our output left (| head): what was found out stands
        _drop_output()
        meant = left.__context__
        raise SystemExit(meant.code if isinstance(meant, SystemExit) else 0) from None
    except OSError as error:
        if error.errno not in _SURROUNDINGS:
            raise
        if error.filename is not None:
            fail(f"{error.strerror}: {str(error.filename)[:200]}")
        _drop_output()
        fail(f"cannot write the answer: {error.strerror}")
    except KeyboardInterrupt as interrupt:
        print("; ".join(["stopped", *getattr(interrupt, "__notes__", ())]), file=sys.stderr)
        raise SystemExit(130) from None


def _worth_hearing(record: logging.LogRecord) -> bool:
    """Whatever our packages say, and what others warn of: torch counts its caches aloud when it is left."""
    return record.name.startswith("rec") or record.levelno >= logging.WARNING


def _drop_output() -> None:
    """Send what is still unsaid nowhere; Python would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse_fractions(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse 3.5, and 3.0 too, where a whole number is wanted: cyclopts would round it without a word."""
    from cyclopts import CoercionError

    for argument in arguments:
        hint = argument.hint
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if int in kinds and float not in kinds and str not in kinds:
            for token in argument.tokens:
                if "." in token.value:
                    raise CoercionError(token=token, argument=argument, target_type=int)


def fail(message: str) -> None:
    """Print one message to stderr, once for all processes that fail by it, and exit with 2."""
    if speaks(message):
        print(f"error: {message}", file=sys.stderr, flush=True)
    stop(2)


def option_in(argv: Sequence[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE`` in raw arguments, before they are parsed.

    For options that decide which other options exist (``--model``, ``--config``).
    """
    for i, word in enumerate(argv):
        if word == "--":
            return None
        if word == f"--{name}" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def use_settings_file(app: App, argv: Sequence[str], command: str, *stages: type, also: Sequence[str] = ()) -> None:
    """Let ``--config FILE`` give defaults to ``command``: an option on the command line wins over the file."""
    from cyclopts.config import Dict

    from rec_core.settings import read_settings_file

    file = option_in(argv, "config")
    if file is not None:
        values = {key.replace("_", "-"): value for key, value in read_settings_file(file, *stages, also=also).items()}
        app.config = [Dict({command: values}, source=str(file))]


def console() -> Console:
    """Where answers go: rich on a terminal, plain text elsewhere."""
    from rich.console import Console

    class Answers(Console):
        def on_broken_pipe(self) -> None:
            raise  # what is being handled: rich would exit with 1, which says "leaks" where an audit is read

    return Answers()


class Progress:
    """A rich progress bar on a terminal, plain log lines elsewhere (at most one in ``every`` seconds of silence).

    With ``unit="bytes"`` both show sizes and the speed.
    """

    def __init__(self, description: str, every: float = 30.0, unit: Literal["steps", "bytes"] = "steps") -> None:
        self._description, self._every, self._unit = description, every, unit
        self._total: int | None = 0
        self._done = self._done_before = 0
        self._began = self._said = monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._log = logging.getLogger("rec")

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and is_main_process():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            how_far = [DownloadColumn(), TransferSpeedColumn()] if self._unit == "bytes" else [MofNCompleteColumn()]
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                *how_far,
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=None)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int | None, done: int = 0) -> None:
        """Say how many steps there will be (None: nobody knows), and how many are behind us."""
        self._total, self._done, self._done_before, self._began = total, done, done, monotonic()
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done)

    def advance(self, steps: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Say that some are done; ``values`` of the last one are shown."""
        self._done += steps
        if self._bar is not None:
            self._bar.advance(self._task, steps)
        elif monotonic() - self._said >= self._every:
            self._said = monotonic()
            shown = "".join(f", {name} {value:.4g}" for name, value in (values or {}).items())
            self._log.info("%s: %s%s", self._description, self._how_far(), shown)

    def _how_far(self) -> str:
        if self._unit == "steps":
            return f"{self._done} of at most {self._total}"
        from rec_core.download import in_bytes

        speed = (self._done - self._done_before) / max(monotonic() - self._began, 1e-6)
        whole = "" if self._total is None else f" of {in_bytes(self._total)}"
        return f"{in_bytes(self._done)}{whole}, {in_bytes(speed)}/s"

    def message(self, text: str) -> None:
        """Say one line worth reading."""
        self._said = monotonic()
        if self._bar is not None:
            said = f"{self._description}: {text}"  # above the bar, where a long line pushes nothing away
            self._bar.console.print(said, markup=False, highlight=False, soft_wrap=True)
        else:
            self._log.info("%s: %s", self._description, text)

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Nothing to add: the loop's message says it."""

    def finish(self) -> None:
        """Nothing more will come; leaving the ``with`` block takes the bar away."""
