"""`plimsoll accuracy`: hold sizing against logs of real start-ups, or against tables of vLLM's own planning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from plimsoll.accuracy.oracle import oracle_document, score_oracle
from plimsoll.accuracy.raw_log import UnusableLogError, row_of_log
from plimsoll.accuracy.reading import Configs, InputError, read_text, records
from plimsoll.accuracy.rows import row_from
from plimsoll.accuracy.score import document, score
from plimsoll.cli.accuracy_pages import log_pages, oracle_pages
from plimsoll.cli.errors import RefusedError, WrongUsageError
from plimsoll.cli.output import Format, output_option, print_all, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    _Item = TypeVar("_Item")

_EPILOG = """\b
Examples:
  plimsoll accuracy logs.jsonl --configs ./configs
  plimsoll accuracy logs.jsonl --configs ./configs -o json
  plimsoll accuracy --oracle plans.jsonl --configs ./configs
  plimsoll accuracy --from-log vllm.log >> logs.jsonl

\b
Exit status: 0 scored, 1 the log says nothing that can be used,
2 wrong usage or a file that cannot be read.
"""


@click.command(epilog=_EPILOG)
@click.argument("logs", required=False, type=click.Path(path_type=Path))
@click.option(
    "--oracle",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A table of what vLLM's own code planned, instead of logs; it is held against sizing number for number.",
)
@click.option(
    "--from-log",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read one log of vLLM and print it as a row of the form that LOGS has; - is standard input.",
)
@click.option(
    "--configs",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder with the models' configs, <org>--<name>.json.",
)
@output_option(Format.TABLE, Format.JSON)
def accuracy(
    logs: Path | None, oracle: Path | None, from_log: Path | None, configs: Path | None, output: Format
) -> None:
    """Score the estimator on LOGS, a file with one start-up of vLLM in each line, as JSON.

    Each row's model is sized as its engine was asked to run it, and what sizing says is held against what the
    engine logged: bytes for the KV cache, tokens, bytes of weights, bytes of a token, and whether it started. A
    missing release or flag takes the default of its time.
    """
    if sum(given is not None for given in (logs, oracle, from_log)) != 1:
        raise WrongUsageError("say what to score: LOGS, or --oracle FILE, or --from-log FILE (one of them).")
    try:
        if from_log is not None:
            _print_row(from_log)
            return
        if configs is None:
            raise WrongUsageError("--configs DIR is missing: name the folder with the models' configs.")
        folder = Configs(configs)
        if oracle is not None:
            _score_oracle(oracle, folder, output)
        elif logs is not None:
            _score_logs(logs, folder, output)
    except InputError as problem:
        raise WrongUsageError(str(problem)) from problem


def _score_logs(path: Path, folder: Configs, output: Format) -> None:
    rows = [row_from(record, number) for number, record in records(path)]
    scored = score(_watched(rows), folder.find)
    if output is Format.JSON:
        print_json(document(scored))
    else:
        print_all(log_pages(scored))


def _score_oracle(path: Path, folder: Configs, output: Format) -> None:
    result = score_oracle(_watched(list(records(path))), folder.find)
    if output is Format.JSON:
        print_json(oracle_document(result))
    else:
        print_all(oracle_pages(result))


def _print_row(path: Path) -> None:
    piped = str(path) == "-"
    text = sys.stdin.buffer.read().decode("utf-8", "replace") if piped else read_text(path)
    try:
        click.echo(row_of_log(text, name="standard input" if piped else path.name))
    except UnusableLogError as problem:
        raise RefusedError(str(problem)) from problem


def _watched(items: list[_Item]) -> Iterable[_Item]:
    """The items, with a bar on a terminal's stderr."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=len(items), label="scoring", file=sys.stderr, hidden=hidden) as bar:
        for item in items:
            yield item
            bar.update(1)
