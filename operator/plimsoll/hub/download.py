"""Downloading one commit of a model into a folder: no file and no finished range twice, all of it checked.

A large file comes by ranges into a part that the next run takes up; every file gets its name only when its hash
is the Hub's.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import defaultdict
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from huggingface_hub import constants

from plimsoll.hub.checks import Digest, WrongBytesError, digest_named_by
from plimsoll.hub.client import CONFIG_FILE, RepoMetadata, prepare_library
from plimsoll.hub.config import MAX_CONFIG_BYTES, config_too_large, no_config, parse_config
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.hub.fetching import FileFetch, raise_the_cause
from plimsoll.hub.meter import Meter, Teller
from plimsoll.hub.parts import room_taken_bytes, spans_on_disk
from plimsoll.hub.ranges import gaps
from plimsoll.hub.retries import Retries
from plimsoll.hub.transfer import RemoteFile, Repository, StoppedError, Transfer
from plimsoll.hub.workshop import FolderProblem, Workshop, part_name, telling
from plimsoll.reconcile.reports import DownloadReport, Progress
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.sizing.selection import download_files, is_weight_file
from plimsoll.units import GIB, MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.sizing.facts import RepoFile

PROGRESS_SECONDS: Final = 5.0
_PARALLEL_FILES: Final = 4
_PARALLEL_RANGES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOrder:
    """What to download, from where, to where.

    Attributes:
        ranges_over_bytes: a larger file is fetched by ranges.
        range_bytes: the size of a range: the most that a kill costs each of the ranges under way.
    """

    metadata: RepoMetadata
    folder: Path
    endpoint: str
    token: str | None
    allow_patterns: tuple[str, ...] | None = None
    ranges_over_bytes: int = GIB
    range_bytes: int = 64 * MIB
    retries: Retries = field(default_factory=Retries)

    @property
    def where(self) -> str:
        """How messages call the repository and its commit."""
        return f"{self.metadata.model_id} at {self.metadata.commit[:12]}"


def download(
    order: DownloadOrder,
    tell: Callable[[Progress], None],
    *,
    progress_seconds: float = PROGRESS_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] | None = None,
) -> DownloadReport:
    """Bring the folder to the commit.

    Args:
        order: what to download.
        tell: called with the progress, from a thread of its own, at most every `progress_seconds`, and at the end.
        progress_seconds: the time between two calls.
        clock: seconds that never go back, for the rate.
        pause: waits so many seconds before a retry; unset: really.

    Raises:
        HubProblem: the Hub did not give a file, or the repository is no model.
        WrongBytesError: the Hub, or what stands before it, gave other bytes than it lists.
        FolderProblem: the folder cannot take them.
    """
    prepare_library()
    files = _chosen(order)
    total = sum(file.size_bytes for file in files)
    meter = Meter(total=total, clock=clock)
    with Workshop(order.folder) as workshop, Teller(meter, tell, progress_seconds):
        _Run(order, workshop, meter, pause).bring(files)
    return DownloadReport(bytes=total, files=len(files), commit=order.metadata.commit)


def _chosen(order: DownloadOrder) -> tuple[RepoFile, ...]:
    files = download_files(order.metadata.files, order.allow_patterns)
    for file in files:
        _check_listed(order, file)
    sizes = {file.path: file.size_bytes for file in files}
    if not any(is_weight_file(path) for path in sizes):
        patterns = "" if order.allow_patterns is None else f" that matches {', '.join(order.allow_patterns)}"
        raise problem(
            HubFailureKind.NOT_A_TRANSFORMER,
            f"{order.where} has no weight file{patterns}: name a model with safetensors, or correct allowPatterns.",
        )
    if CONFIG_FILE not in sizes:
        raise no_config((file.path for file in order.metadata.files), order.where)
    if sizes[CONFIG_FILE] > MAX_CONFIG_BYTES:
        raise config_too_large(sizes[CONFIG_FILE], f"{CONFIG_FILE} of {order.where}")
    return files


def _check_listed(order: DownloadOrder, file: RepoFile) -> None:
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or path.parts[0] == ".cache":
        raise problem(
            HubFailureKind.INVALID_REFERENCE,
            f"{order.where} lists a file {file.path!r} that would land outside the model's folder: name another model.",
        )
    if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise problem(
            HubFailureKind.INVALID_REFERENCE,
            f"{file.path} of {order.where} has {format_size(file.size_bytes)}, more than the Hub gives over HTTP: choose "
            "other weight files with allowPatterns.",
        )


class _Run:
    """One download under way."""

    def __init__(
        self,
        order: DownloadOrder,
        workshop: Workshop,
        meter: Meter,
        pause: Callable[[float], object] | None,
    ) -> None:
        self._order = order
        self._workshop = workshop
        self._meter = meter
        self._stop = threading.Event()
        self._same_content: dict[str, threading.Lock] = defaultdict(threading.Lock)
        metadata = order.metadata
        repository = Repository(
            endpoint=order.endpoint, model_id=metadata.model_id, commit=metadata.commit, token=order.token
        )
        self._transfer = Transfer(repository, order.retries, stop=self._stop, pause=pause)

    def bring(self, files: tuple[RepoFile, ...]) -> None:
        """Fetch what is missing: the config first, so that a repository that is no model costs nothing more."""
        missing = [file for file in files if not self._is_finished(file)]
        self._meter.have(sum(f.size_bytes for f in files) - sum(f.size_bytes for f in missing))
        self._workshop.remove_orphans({self._part_of(file).name for file in missing})
        self._make_room(missing)
        with (
            ThreadPoolExecutor(_PARALLEL_RANGES) as ranges,
            ThreadPoolExecutor(_PARALLEL_FILES) as pool,
        ):
            try:
                self._fetch_all([f for f in missing if f.path == CONFIG_FILE], pool, ranges)
                self._check_config()
                self._fetch_all([f for f in missing if f.path != CONFIG_FILE], pool, ranges)
            finally:
                self._stop.set()

    def _is_finished(self, file: RepoFile) -> bool:
        return self._workshop.is_finished(
            file.path, file.size_bytes, self._identity(file), self._digest(file)
        )

    def _digest(self, file: RepoFile) -> Digest | None:
        return digest_named_by(self._order.metadata.etags.get(file.path))

    def _identity(self, file: RepoFile) -> str:
        """What the content is: its hash, or where the Hub lists none, its place in the commit."""
        return str(self._digest(file) or f"{file.path} at {self._order.metadata.commit}")

    def _part_of(self, file: RepoFile) -> Path:
        digest = self._digest(file)
        return self._workshop.parts / part_name(self._identity(file) if digest is None else digest.value)

    def _make_room(self, missing: list[RepoFile]) -> None:
        """Count what parts hold, and see that the rest fits."""
        parts = {self._part_of(file): file.size_bytes for file in missing}
        with telling(self._order.folder):
            come_bytes = sum(
                size - sum(gap.size_bytes for gap in gaps(size, spans_on_disk(part, size)))
                for part, size in parts.items()
            )
            taken_bytes = sum(room_taken_bytes(part, size) for part, size in parts.items())
            free_bytes = shutil.disk_usage(self._order.folder).free
        self._meter.have(come_bytes)
        needed_bytes = sum(file.size_bytes for file in missing) - taken_bytes
        if needed_bytes > free_bytes:
            raise FolderProblem(
                f"{self._order.folder} has {format_size(free_bytes)} free and {format_size(needed_bytes)} are to come: "
                "make the volume larger (storage.size), or choose fewer files with allowPatterns."
            )

    def _fetch_all(self, files: list[RepoFile], pool: ThreadPoolExecutor, ranges: ThreadPoolExecutor) -> None:
        """Fetch in parallel; the first failure ends the rest."""
        flights = [pool.submit(self._fetch, file, ranges) for file in files]
        try:
            ended, _ = wait(flights, return_when=FIRST_EXCEPTION)
            if any(flight.exception() for flight in ended):
                self._stop.set()
        except BaseException:
            self._stop.set()
            raise
        finally:
            for flight in flights:
                flight.cancel()
            wait(flights)
        raise_the_cause(flights)

    def _fetch(self, file: RepoFile, ranges: ThreadPoolExecutor) -> None:
        if self._stop.is_set():
            raise StoppedError
        order, part = self._order, self._part_of(file)
        # Files of one content share one part: they come one after another.
        with self._same_content[part.name]:
            self._meter.begin(file.path)
            fetch = FileFetch(
                remote=RemoteFile(file.path, file.size_bytes),
                part=part,
                target=order.folder / file.path,
                digest=self._digest(file),
                where=order.where,
            )
            in_ranges = file.size_bytes > order.ranges_over_bytes
            fetch.run(
                self._transfer,
                ranges,
                self._meter,
                order.range_bytes if in_ranges else max(file.size_bytes, 1),
            )
        self._workshop.note_finished(file.path, self._identity(file))

    def _check_config(self) -> None:
        with telling(self._order.folder):
            raw = (self._order.folder / CONFIG_FILE).read_bytes()
        parse_config(raw, f"{CONFIG_FILE} of {self._order.where}")


__all__ = [
    "PROGRESS_SECONDS",
    "DownloadOrder",
    "FolderProblem",
    "HubProblem",
    "Retries",
    "WrongBytesError",
    "download",
]
