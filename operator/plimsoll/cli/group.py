"""The command group: commands are loaded when they are asked for, and every error ends in one sentence."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from plimsoll.cli.errors import ExitStatus, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEBUG_KEY = "plimsoll.debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyCommand:
    """Where a command lives, and what the group says of it.

    Attributes:
        target: "module:attribute".
        short_help: the line in the group's help.
        example: a command line for the help of a command that shows none, such as one that only a Job runs.
    """

    target: str
    short_help: str
    example: str = ""

    def load(self) -> click.Command:
        """Import the module, take the command out of it, and give it the group's words."""
        module, _, attribute = self.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is no click command")
        command.short_help = self.short_help
        if self.example and self.example not in (command.epilog or ""):
            command.epilog = f"\b\nExample:\n  {self.example}\n\n{command.epilog or ''}"
        return command


def _remember_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG_KEY] = True


def debug_option() -> click.Option:
    """The option --debug, which every command has."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_remember_debug,
        help="Show the traceback of an error.",
    )


class LazyGroup(click.Group):
    """A group that imports a command only to run it or to show its help."""

    def __init__(self, *, lazy: dict[str, LazyCommand], **kwargs: Any) -> None:
        """Take the table of commands by name, in the order in which help lists them."""
        super().__init__(**kwargs)
        self.lazy = lazy
        self.params.append(debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command, with --debug among its options."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            entry = self.lazy.get(cmd_name)
            if entry is None:
                return None
            command = entry.load()
            self.add_command(command, cmd_name)
        if not any(param.name == "debug" for param in command.params):
            command.params.append(debug_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short_help) for name, entry in self.lazy.items()])

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; whatever goes wrong becomes one sentence on stderr and an exit status."""
        if not standalone_mode:
            return super().main(args=args, prog_name=prog_name, standalone_mode=False, **extra)
        arguments = list(sys.argv[1:] if args is None else args)
        meta: dict[str, Any] = {}
        try:
            with self.make_context(prog_name or "plimsoll", arguments, **extra) as ctx:
                meta = ctx.meta
                self.invoke(ctx)
                _flush()
        except click.exceptions.Exit as done:
            sys.exit(int(done.exit_code))
        except BrokenPipeError:
            _end_of_pipe()
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            sys.exit(130)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(int(ExitStatus.USAGE))
        except click.ClickException as error:
            _end_with(error, debug=bool(meta.get(_DEBUG_KEY)))
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
            _end_with_bug(error, debug=bool(meta.get(_DEBUG_KEY)))
        sys.exit(int(ExitStatus.FITS))


def _flush() -> None:
    sys.stdout.flush()


def _end_of_pipe() -> NoReturn:
    """The reader has gone (`plimsoll ... | head`): nothing more can be said, and nothing is wrong."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    sys.exit(int(ExitStatus.FITS))


def _end_with(error: click.ClickException, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exception(error)
    message = one_line(error.format_message())
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "plimsoll"
        message = f"{message.rstrip('.')}; see `{path} --help`."
    click.echo(f"Error: {message}", err=True)
    sys.exit(int(error.exit_code))


def _end_with_bug(error: Exception, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    click.echo(
        f"Error: a fault in plimsoll itself{place} ({one_line(f'{type(error).__name__}: {error}')[:300]}); "
        "run it again with --debug and report what it prints.",
        err=True,
    )
    sys.exit(int(ExitStatus.BUG))
