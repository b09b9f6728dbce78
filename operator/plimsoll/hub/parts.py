"""One unfinished file: its bytes in `<etag>.part`, the ranges that are on the disk in `<etag>.ranges`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from plimsoll.hub.ranges import Span, gaps, read_journal, write_line
from plimsoll.hub.workshop import JOURNAL_SUFFIX, telling

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.hub.checks import Digest

_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


class PartFile:
    """A file being written by several threads; every method raises FolderProblem where the disk refuses."""

    def __init__(self, path: Path, size_bytes: int, folder: Path) -> None:
        """Take up what a killed run left at `path`, or begin anew; `folder` is the one that messages name."""
        self._path = path
        self._journal = path.with_suffix(JOURNAL_SUFFIX)
        self._size_bytes = size_bytes
        self._folder = folder
        self._lock = threading.Lock()
        with telling(folder):
            self._done = spans_on_disk(path, size_bytes)
            self._come = size_bytes - sum(span.size_bytes for span in gaps(size_bytes, self._done))
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(self._file, size_bytes)
            # The journal is begun on a line of its own: a kill may have cut the last one short.
            self._append("\n" if self._done else "", mode="a" if self._done else "w")

    @property
    def missing(self) -> tuple[Span, ...]:
        """What is still to come."""
        with self._lock:
            return gaps(self._size_bytes, self._done)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes in their place."""
        rest = memoryview(data)
        with telling(self._folder):
            while rest:
                written = os.pwrite(self._descriptor(), rest, offset)
                rest, offset = rest[written:], offset + written
        with self._lock:
            self._come += len(data)

    def finish(self, span: Span) -> None:
        """Note that a span is whole: first its bytes go to the disk, then the note of them."""
        with telling(self._folder):
            os.fsync(self._descriptor())
            with self._lock:
                self._append(write_line(span), mode="a")
                self._done = (*self._done, span)

    def forget(self) -> int:
        """Begin anew; returns how many bytes had come and come again."""
        with self._lock, telling(self._folder):
            self._append("", mode="w")
            self._done = ()
            come, self._come = self._come, 0
        return come

    def digest(self, like: Digest) -> Digest:
        """The hash of what has come."""
        with telling(self._folder):
            os.fsync(self._descriptor())
            return like.of(self._path)

    def land(self, target: Path) -> None:
        """Give the file its name, which it has from then on for good."""
        with telling(self._folder):
            os.fsync(self._descriptor())
            self.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
            self._journal.unlink(missing_ok=True)
            _sync_folder(target.parent)

    def close(self) -> None:
        """Let go of the file; what has come stays for the next run."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Take the part away."""
        self.close()
        with telling(self._folder):
            self._path.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)

    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError(self._path.name)
        return self._file

    def _append(self, text: str, *, mode: str) -> None:
        with self._journal.open(mode, encoding="ascii") as journal:
            journal.write(text)
            journal.flush()
            os.fsync(journal.fileno())


def spans_on_disk(part: Path, size_bytes: int) -> tuple[Span, ...]:
    """What a part holds by its journal; nothing where either is not there, or of another size.

    Raises:
        OSError: they cannot be read.
    """
    journal = part.with_suffix(JOURNAL_SUFFIX)
    if not part.is_file() or not journal.is_file() or part.stat().st_size != size_bytes:
        return ()
    return read_journal(journal.read_text(encoding="ascii", errors="replace"), size_bytes)


def room_taken_bytes(part: Path, size_bytes: int) -> int:
    """How much of a file's size its part has on the disk already, bytes of unfinished ranges among it.

    Raises:
        OSError: the part cannot be looked at.
    """
    if not part.is_file():
        return 0
    return min(part.stat().st_blocks * _BLOCK_BYTES, size_bytes)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
