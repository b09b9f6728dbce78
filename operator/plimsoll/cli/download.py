"""`plimsoll download`: what the download Job runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from plimsoll.cli.errors import RefusedError, UnreachableError
from plimsoll.hub.client import HubClient, RepoMetadata, endpoint_from
from plimsoll.hub.download import PROGRESS_SECONDS, DownloadOrder, FolderProblem
from plimsoll.hub.download import download as download_files
from plimsoll.hub.errors import HubProblem
from plimsoll.reconcile.reports import DownloadReport, Progress, write, write_progress
from plimsoll.reconcile.sources import DEFAULT_REVISION

_EPILOG = """\b
The token is read from HF_TOKEN, the Hub's address from HF_ENDPOINT.

\b
Exit status: 0 the folder holds the commit, 1 refused (no retry will mend
it), 2 wrong usage, 3 the Hub could not be reached (a retry may).
"""


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
def download(
    model: str,
    revision: str,
    folder: Path,
    patterns: tuple[str, ...],
    report: Path | None,
    progress_seconds: float,
) -> None:
    """Download one commit of MODEL into a folder, with one line of JSON on stdout for the progress."""
    endpoint = endpoint_from(os.environ)
    token = os.environ.get("HF_TOKEN", "").strip() or None
    commit = revision
    try:
        metadata: RepoMetadata = asyncio.run(HubClient(endpoint).metadata(model, revision, token))
        commit = metadata.commit
        order = DownloadOrder(
            metadata=metadata, folder=folder, endpoint=endpoint, token=token, allow_patterns=patterns or None
        )
        done = download_files(order, _print_progress, progress_seconds=progress_seconds)
    except HubProblem as error:
        _write_report(report, _failed(commit, str(error)))
        kind = UnreachableError if error.failure.retryable else RefusedError
        raise kind(str(error)) from None
    except FolderProblem as error:
        _write_report(report, _failed(commit, str(error)))
        raise RefusedError(str(error)) from None
    _write_report(report, done)


def _print_progress(progress: Progress) -> None:
    click.echo(write_progress(progress))


def _failed(commit: str, error: str) -> DownloadReport:
    return DownloadReport(bytes=0, files=0, commit=commit, error=error)


def _write_report(path: Path | None, report: DownloadReport) -> None:
    """Leave the report; where that fails the exit status still tells the outcome."""
    if path is None:
        return
    try:
        path.write_text(write(report), encoding="ascii")
    except OSError as error:
        click.echo(f"Warning: the report cannot be written to {path} ({error.strerror}).", err=True)
