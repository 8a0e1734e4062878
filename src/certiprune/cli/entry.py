"""Run the command line and turn what goes wrong into one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from certiprune.cli.app import app
from certiprune.cli.interrupt import Interrupted
from certiprune.core.errors import CertipruneError
from certiprune.core.memory import keep_freed

FINE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

# Typer carried its own copy of click from some version on: this is UsageError in both.
_UsageError: Any = typer.BadParameter.__bases__[0]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``certiprune`` with ``arguments`` (by default the process's) and exit.

    The status is 0 where all went well, 1 where a claim or a check failed, 2 for wrong use (one line on
    standard error says what), 130 after Ctrl-C.
    """
    keep_freed()
    # Where a stream was closed by who started us, Python has None in its place.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.exit(status(sys.argv[1:] if arguments is None else arguments))


def status(arguments: Sequence[str]) -> int:
    """Run ``certiprune`` with ``arguments`` and return the exit status that ``main`` describes."""
    try:
        # In this mode Typer returns the status of typer.Exit and leaves every other exception to us.
        result = app(list(arguments) or ["--help"], prog_name="certiprune", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "certiprune"
        return _wrong(f"{error.format_message()} (try '{command} --help')")
    except CertipruneError as error:
        return _wrong(str(error))
    except BrokenPipeError:
        # The reader of our output has gone (such as `head`). The interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _wrong(
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        )
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        return _interrupted(str(error))
    # A Ctrl-C that no command has caught comes out of Typer as its status.
    return _interrupted("") if result == INTERRUPTED else result if isinstance(result, int) else FINE


def _wrong(message: str) -> int:
    print(f"certiprune: error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return WRONG_USE


def _interrupted(hint: str) -> int:
    print(f"certiprune: interrupted{f'; {hint}' if hint else ''}", file=sys.stderr)  # noqa: T201
    return INTERRUPTED
