"""`plimsoll download`: what the download Job runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from plimsoll.cli.errors import CommandError, RefusedError, UnreachableError
from plimsoll.hub.client import HubClient, RepoMetadata, checked_token, endpoint_from
from plimsoll.hub.download import (
    PROGRESS_SECONDS,
    DownloadOrder,
    FolderProblem,
    Retries,
    WrongBytesError,
)
from plimsoll.hub.download import download as download_files
from plimsoll.hub.errors import HubProblem
from plimsoll.hub.retries import DEFAULT_TRIES
from plimsoll.reconcile.reports import DownloadReport, Progress, write, write_progress
from plimsoll.reconcile.sources import DEFAULT_REVISION
from plimsoll.units import QuantityError, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALLED: Final = 128  # as a shell counts; with SIGTERM neither of the codes that the Job takes for final
_EPILOG = """\b
The token is read from HF_TOKEN, the Hub's address from HF_ENDPOINT.

\b
What has come is kept when a run ends early: the next one into the same folder
goes on from there.

\b
Exit status: 0 the folder holds the commit, every file with the Hub's hash; 1
refused (no retry will mend it: gated, no such model, volume full, wrong bytes);
2 wrong usage; 3 the Hub could not be reached or limits the rate (a retry may).
"""


class _SizeType(click.ParamType[int]):
    """A Kubernetes quantity of bytes, such as 64Mi."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the quantity, or say what one looks like."""
        try:
            size = parse_bytes(str(value))
        except QuantityError as error:
            self.fail(str(error), param, ctx)
        if size < 1:
            self.fail(
                f"{value!r} is no size of a file's range: write it with its unit, such as 64Mi", param, ctx
            )
        return size


@click.command(epilog=_EPILOG, short_help="Download a model's files (what the download Job runs).")
@click.argument("model")
@click.option(
    "--revision", default=DEFAULT_REVISION, show_default=True, metavar="COMMIT", help="What to download."
)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files; what is there already and of this commit is kept.",
)
@click.option(
    "--allow-pattern",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Weight files to take, as a shell pattern; unset: what the engine loads. Config and tokenizer always come.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the final report, such as /dev/termination-log.",
)
@click.option(
    "--progress-seconds",
    type=click.FloatRange(min=0.1),
    default=PROGRESS_SECONDS,
    show_default=True,
    help="Time between two lines of progress.",
)
@click.option(
    "--ranges-over",
    "ranges_over_bytes",
    type=_SizeType(),
    default="1Gi",
    show_default=True,
    metavar="SIZE",
    help="A larger file is fetched by ranges, and a killed run need not fetch again those that are whole.",
)
@click.option(
    "--range-size",
    "range_bytes",
    type=_SizeType(),
    default="64Mi",
    show_default=True,
    metavar="SIZE",
    help="Size of a range.",
)
@click.option(
    "--tries",
    type=click.IntRange(min=1, max=100),
    default=DEFAULT_TRIES,
    show_default=True,
    help="Of a request that brings nothing, before the run ends with 3.",
)
def download(
    *,
    model: str,
    revision: str,
    folder: Path,
    patterns: tuple[str, ...],
    report: Path | None,
    progress_seconds: float,
    ranges_over_bytes: int,
    range_bytes: int,
    tries: int,
) -> None:
    """Download one commit of MODEL into a folder, with one line of JSON on stdout for the progress."""
    endpoint = endpoint_from(os.environ)
    token = os.environ.get("HF_TOKEN", "").strip() or None
    commit = revision
    retries = Retries(tries=tries)
    try:
        with _ending_on_sigterm():
            metadata = asyncio.run(_metadata(HubClient(endpoint), model, revision, token, retries))
            commit = metadata.commit
            order = DownloadOrder(
                metadata=metadata,
                folder=folder,
                endpoint=endpoint,
                token=None if token is None else checked_token(token),
                allow_patterns=patterns or None,
                ranges_over_bytes=ranges_over_bytes,
                range_bytes=range_bytes,
                retries=retries,
            )
            done = download_files(order, _print_progress, progress_seconds=progress_seconds)
    except (HubProblem, FolderProblem, WrongBytesError) as error:
        _write_report(report, DownloadReport(bytes=0, files=0, commit=commit, error=str(error)))
        raise _exit_of(error)(str(error)) from None
    _write_report(report, done)


async def _metadata(
    client: HubClient, model: str, revision: str, token: str | None, retries: Retries
) -> RepoMetadata:
    """Ask for the files of the commit, again where waiting may mend it."""
    failures = 0
    while True:
        try:
            return await client.metadata(model, revision, token)
        except HubProblem as error:
            failures += 1
            seconds = retries.wait_seconds(failures, error.failure)
            if seconds is None:
                raise
        await asyncio.sleep(seconds)


def _exit_of(error: Exception) -> type[CommandError]:
    retryable = (isinstance(error, HubProblem) and error.failure.retryable) or (
        isinstance(error, FolderProblem) and error.retryable
    )
    return UnreachableError if retryable else RefusedError


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """End at once when the pod is deleted: as process 1 of a container it would else not hear of it."""
    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        yield
        return

    def end(number: int, _frame: object) -> None:
        raise SystemExit(_SIGNALLED + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_progress(progress: Progress) -> None:
    click.echo(write_progress(progress))


def _write_report(path: Path | None, report: DownloadReport) -> None:
    """Leave the report; where that fails the exit status still tells the outcome."""
    if path is None:
        return
    try:
        path.write_text(write(report), encoding="ascii")
    except OSError as error:
        click.echo(f"Warning: the report cannot be written to {path} ({error.strerror}).", err=True)
