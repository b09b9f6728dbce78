"""Exit statuses, and the errors that end a command with one sentence on stderr."""

from __future__ import annotations

from enum import IntEnum

import click


class ExitStatus(IntEnum):
    """What the exit status says; scripts may rely on it."""

    FITS = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    BUG = 70  # sysexits' EX_SOFTWARE: no answer at all, so none of the four


class CommandError(click.ClickException):
    """An end of a command with one sentence that names the next step."""

    exit_code = ExitStatus.REFUSED


class RefusedError(CommandError):
    """The input was understood, and the answer is no."""

    exit_code = ExitStatus.REFUSED


class WrongUsageError(CommandError):
    """The command line, or a file that it names, does not say what is needed."""

    exit_code = ExitStatus.USAGE


class UnreachableError(CommandError):
    """The Hub, the cluster or a model was not to be had."""

    exit_code = ExitStatus.UNREACHABLE


def one_line(text: str) -> str:
    """The text on one line, without control characters: it may hold what a user or a server wrote."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
