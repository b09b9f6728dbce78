"""How a result reaches the terminal: JSON as it is, tables through rich, nothing coloured into a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.padding import Padding

_Command = TypeVar("_Command", bound=Callable[..., Any])
# Narrower than this, a table of numbers is no table any more.
_LEAST_WIDTH = 60
INDENT = 2


class Format(StrEnum):
    """The forms of a result."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def output_option(*formats: Format) -> Callable[[_Command], _Command]:
    """The option -o; the first format is the default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice([form.value for form in formats]),
        default=formats[0].value,
        show_default=True,
        callback=lambda _ctx, _param, value: Format(value),
        help="Form of the result.",
    )


def terminal() -> Console:
    """The console of this moment's stdout; COLUMNS sets its width, colours appear on a terminal only."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write one JSON document to stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_all(renderables: Sequence[RenderableType]) -> None:
    """Write tables and sentences to stdout, without the blanks that fill a line up."""
    console = terminal()
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=True)


def indented(renderable: RenderableType) -> RenderableType:
    """Two columns to the right."""
    return Padding(renderable, (0, 0, 0, INDENT))
