"""Downloading one commit of a model into a folder: no file twice, progress told, the result checked.

What a run leaves complete, the next one keeps: each file carries the commit that it is from, and lands under
its name only when it is whole.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

from huggingface_hub import constants, hf_hub_download
from huggingface_hub._local_folder import read_download_metadata
from huggingface_hub.errors import LocalEntryNotFoundError

from plimsoll.hub.client import RepoMetadata, prepare_library
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.hub.translate import EXPECTED_ERRORS, translate
from plimsoll.reconcile.reports import DownloadReport, Progress
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.sizing.selection import download_files, is_weight_file
from plimsoll.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.sizing.facts import RepoFile

PROGRESS_SECONDS: Final = 5.0
_PARALLEL_FILES: Final = 4
_RATE_WINDOW_SECONDS: Final = 30.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class FolderProblem(Exception):  # noqa: N818 - the sibling of HubProblem
    """The folder, not the Hub, keeps a download from ending; the text ends with the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOrder:
    """What to download, from where, to where."""

    metadata: RepoMetadata
    folder: Path
    endpoint: str
    token: str | None
    allow_patterns: tuple[str, ...] | None = None


def download(
    order: DownloadOrder,
    tell: Callable[[Progress], None],
    *,
    progress_seconds: float = PROGRESS_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> DownloadReport:
    """Bring the folder to the commit.

    Args:
        order: what to download.
        tell: called with the progress, from a thread of its own, at most every `progress_seconds`, and at the end.
        progress_seconds: the time between two calls.
        clock: seconds that never go back, for the rate.

    Raises:
        HubProblem: the Hub did not give a file.
        FolderProblem: the folder cannot take them.
    """
    prepare_library()
    files = _chosen(order)
    missing = [file for file in files if not _is_complete(order, file)]
    _make_room(order, missing)
    total = sum(file.size_bytes for file in files)
    meter = _Meter(total=total, done=total - sum(f.size_bytes for f in missing), clock=clock)
    with _Teller(meter, tell, progress_seconds):
        _fetch_all(order, missing, meter)
    for file in files:
        _check(order, file)
    return DownloadReport(bytes=total, files=len(files), commit=order.metadata.commit)


def _chosen(order: DownloadOrder) -> tuple[RepoFile, ...]:
    where = f"{order.metadata.model_id} at {order.metadata.commit[:12]}"
    files = download_files(order.metadata.files, order.allow_patterns)
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or path.parts[0] == ".cache":
            raise problem(
                HubFailureKind.INVALID_REFERENCE,
                f"{where} lists a file {file.path!r} that would land outside the model's folder: name another model.",
            )
        if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise problem(
                HubFailureKind.INVALID_REFERENCE,
                f"{file.path} of {where} has {format_size(file.size_bytes)}, more than the Hub gives over HTTP: choose "
                "other weight files with allowPatterns.",
            )
    if not any(is_weight_file(file.path) for file in files):
        patterns = "" if order.allow_patterns is None else f" that matches {', '.join(order.allow_patterns)}"
        raise problem(
            HubFailureKind.NOT_A_TRANSFORMER,
            f"{where} has no weight file{patterns}: name a model with safetensors, or correct allowPatterns.",
        )
    return files


def _is_complete(order: DownloadOrder, file: RepoFile) -> bool:
    """Whether the file lies there whole and from this commit, by the note that the library keeps beside it."""
    path = order.folder / file.path
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    note = read_download_metadata(order.folder, file.path)
    return note is not None and note.commit_hash == order.metadata.commit


def _make_room(order: DownloadOrder, missing: list[RepoFile]) -> None:
    """Create the folder, take away what a killed run left half-done, and see that the rest fits."""
    try:
        order.folder.mkdir(parents=True, exist_ok=True)
        for leftover in (order.folder / ".cache" / "huggingface" / "download").rglob("*.incomplete"):
            leftover.unlink(missing_ok=True)
        free_bytes = shutil.disk_usage(order.folder).free
        old_bytes = sum(_size_of(order.folder / file.path) for file in missing)
    except OSError as error:
        raise _folder_problem(error, order.folder) from None
    needed_bytes = sum(file.size_bytes for file in missing)
    if needed_bytes > free_bytes + old_bytes:
        raise FolderProblem(
            f"{order.folder} has {format_size(free_bytes)} free and {format_size(needed_bytes)} are to come: make the "
            "volume larger (storage.size), or choose fewer files with allowPatterns."
        )


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _fetch_all(order: DownloadOrder, missing: list[RepoFile], meter: _Meter) -> None:
    """Fetch in parallel; the first failure ends the rest."""
    with ThreadPoolExecutor(max_workers=_PARALLEL_FILES) as pool:
        flights = [pool.submit(_fetch, order, file, meter) for file in missing]
        try:
            wait(flights, return_when=FIRST_EXCEPTION)
        finally:
            meter.stop()
            pool.shutdown(wait=True, cancel_futures=True)
    failures = [error for flight in flights if not flight.cancelled() and (error := flight.exception())]
    causes = [error for error in failures if not isinstance(error, _StoppedError)]
    if causes:
        raise causes[0]


def _fetch(order: DownloadOrder, file: RepoFile, meter: _Meter) -> None:
    meter.begin(file.path)
    try:
        hf_hub_download(
            order.metadata.model_id,
            file.path,
            revision=order.metadata.commit,
            local_dir=order.folder,
            cache_dir=order.folder / ".cache" / "hub",  # never what lies in the home of whoever runs this
            endpoint=order.endpoint,
            token=order.token or False,
            tqdm_class=meter.bar(),
        )
    except _StoppedError:
        raise
    except EXPECTED_ERRORS as error:
        raise _explained(order, error) from None


def _explained(order: DownloadOrder, error: Exception) -> Exception:
    if isinstance(error, LocalEntryNotFoundError):
        cause = error.__cause__
        error = cause if isinstance(cause, EXPECTED_ERRORS) else ConnectionError()
    elif isinstance(error, OSError) and error.errno in _NO_ROOM | _NOT_WRITABLE:
        return _folder_problem(error, order.folder)
    return translate(
        error,
        endpoint=order.endpoint,
        model_id=order.metadata.model_id,
        revision=order.metadata.commit,
        has_token=order.token is not None,
    )


def _check(order: DownloadOrder, file: RepoFile) -> None:
    """Where the Hub cannot be asked, the library takes whatever lies there under the name: that is not enough."""
    if not _is_complete(order, file):
        raise problem(
            HubFailureKind.UNREACHABLE,
            f"{file.path} of {order.metadata.model_id} is not whole and of commit {order.metadata.commit[:12]} after the "
            "download: it is tried again by itself.",
        )


def _folder_problem(error: OSError, folder: Path) -> FolderProblem:
    if error.errno in _NO_ROOM:
        return FolderProblem(f"{folder} is full: make the volume larger (storage.size).")
    return FolderProblem(
        f"{folder} cannot be written ({error.strerror or type(error).__name__}): check that the volume is mounted "
        "read-write and that its owner may write (fsGroup)."
    )


class _StoppedError(Exception):
    """Another file has failed: this one need not go on."""


class _Meter:
    """Counts bytes from all threads."""

    def __init__(self, *, total: int, done: int, clock: Callable[[], float]) -> None:
        self._total = total
        self._done = done
        self._clock = clock
        self._file: str | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._samples: list[tuple[float, int]] = [(clock(), done)]

    def begin(self, path: str) -> None:
        with self._lock:
            if self._stopped:
                raise _StoppedError
            self._file = path

    def stop(self) -> None:
        with self._lock:
            self._stopped = True

    def add(self, number: int) -> None:
        with self._lock:
            if self._stopped:
                raise _StoppedError
            self._done += number

    def progress(self) -> Progress:
        """Where it stands, with the rate over the last half minute."""
        with self._lock:
            now = self._clock()
            self._samples = [s for s in self._samples if now - s[0] <= _RATE_WINDOW_SECONDS] or [
                (now, self._done)
            ]
            first_time, first_done = self._samples[0]
            self._samples.append((now, self._done))
            elapsed = now - first_time
            rate = int((self._done - first_done) / elapsed) if elapsed > 0 else None
            left = self._total - self._done
            eta = None if not rate else round(left / rate)
            return Progress(bytes=self._done, total=self._total, rate=rate, eta=eta, file=self._file)

    def bar(self) -> Any:
        """A class that the library takes for tqdm: it feeds this meter and draws nothing."""
        meter = self

        class Bar:
            def __init__(self, *_: object, **options: Any) -> None:
                meter.add(int(options.get("initial") or 0))

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None: ...

            def update(self, number: float | None = 1) -> None:
                meter.add(int(number or 0))

        return Bar


class _Teller:
    """Tells the progress from a thread of its own, and once more at the end."""

    def __init__(self, meter: _Meter, tell: Callable[[Progress], None], seconds: float) -> None:
        self._meter = meter
        self._tell = tell
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._tell(self._meter.progress())

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            self._tell(self._meter.progress())


__all__ = ["DownloadOrder", "FolderProblem", "HubProblem", "download"]
