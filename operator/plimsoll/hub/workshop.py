"""What a download keeps beside the model's files: unfinished parts, notes of finished files, a lock.

All of it lies in `.cache/plimsoll` inside the model's folder; nothing outside of it is ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from plimsoll.hub.checks import Digest

WORKSHOP: Final = (".cache", "plimsoll")
PART_SUFFIX: Final = ".part"
JOURNAL_SUFFIX: Final = ".ranges"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class FolderProblem(Exception):  # noqa: N818 - the sibling of HubProblem
    """The folder, not the Hub, keeps a download from ending; the text ends with the next step.

    Attributes:
        retryable: waiting may mend it without anybody's doing.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        """Carry a sentence."""
        super().__init__(message)
        self.retryable = retryable


@contextlib.contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Say in words what the file system refuses.

    Raises:
        FolderProblem: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise folder_problem(error, folder) from None


def folder_problem(error: OSError, folder: Path) -> FolderProblem:
    """The words for an error of the file system."""
    if error.errno in _NO_ROOM:
        return FolderProblem(
            f"{folder} is full ({error.strerror}): make the volume larger (storage.size); what has come is kept."
        )
    return FolderProblem(
        f"{folder} cannot be written ({error.strerror or type(error).__name__}): check that the volume is mounted "
        "read-write and that its owner may write (fsGroup)."
    )


class Workshop:
    """The folder `.cache/plimsoll` of one model's folder; a context manager that holds its lock."""

    def __init__(self, folder: Path) -> None:
        """Name the model's folder; nothing is made before the context is entered."""
        self._folder = folder
        self._root = folder.joinpath(*WORKSHOP)
        self.parts = self._root / "parts"
        self._notes = self._root / "notes"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folders and take the lock.

        Raises:
            FolderProblem: they cannot be made, or another download has the lock.
        """
        with telling(self._folder):
            self.parts.mkdir(parents=True, exist_ok=True)
            self._notes.mkdir(exist_ok=True)
            self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        if not _take(self._lock, where_unsupported=True):
            self.__exit__()
            raise FolderProblem(
                f"another download is writing into {self._folder}: wait until it has ended, or end it.",
                retryable=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove_orphans(self, wanted: Collection[str]) -> None:
        """Take away parts that this download will not finish, here and where a killed one left them beside.

        Args:
            wanted: names of parts, as `part_name` gives them, that are still of use in this folder.

        Raises:
            FolderProblem: the file system refuses.
        """
        with telling(self._folder):
            _remove_parts(self.parts, wanted)
            for neighbour in self._neighbours():
                with contextlib.suppress(OSError):  # not ours to write, or gone: then it is left alone
                    _remove_parts_of_the_dead(neighbour)

    def _neighbours(self) -> list[Path]:
        """The workshops of the model's other commits on the volume."""
        try:
            return [
                root
                for folder in self._folder.parent.iterdir()
                if folder != self._folder and (root := folder.joinpath(*WORKSHOP)).joinpath("lock").is_file()
            ]
        except OSError:  # a parent that may not be listed
            return []

    def is_finished(self, path: str, size_bytes: int, identity: str, digest: Digest | None) -> bool:
        """Whether a file lies there with the listed content: by its note if untouched since, else by its hash.

        Args:
            path: inside the model's folder.
            size_bytes: as listed.
            identity: what the note must say that the content is.
            digest: the listed hash; None where the Hub lists none, so that only a note can tell.

        Raises:
            FolderProblem: it cannot be read.
        """
        file = self._folder / path
        with telling(self._folder):
            if not file.is_file() or file.stat().st_size != size_bytes:
                return False
            note = self._read_note(path)
            if note is not None and note.get("modified_ns") == file.stat().st_mtime_ns:
                return note.get("identity") == identity
            if digest is None or digest.of(file) != digest:
                return False
        self.note_finished(path, identity)
        return True

    def note_finished(self, path: str, identity: str) -> None:
        """Write down that a file is whole and what it holds, so that the next run need not read it.

        Raises:
            FolderProblem: the file system refuses.
        """
        with telling(self._folder):
            modified_ns = (self._folder / path).stat().st_mtime_ns
            note = self._note_of(path)
            fresh = note.with_suffix(".new")
            fresh.write_text(json.dumps({"path": path, "identity": identity, "modified_ns": modified_ns}))
            fresh.replace(note)

    def _note_of(self, path: str) -> Path:
        return self._notes / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"

    def _read_note(self, path: str) -> dict[str, Any] | None:
        try:
            data = json.loads(self._note_of(path).read_bytes())
        except (OSError, ValueError):  # none, or one that a kill cut short
            return None
        return data if isinstance(data, dict) and data.get("path") == path else None


def part_name(etag: str) -> str:
    """The name of the part of a file with this ETag."""
    if not _FILE_NAME.fullmatch(etag):
        etag = hashlib.sha256(etag.encode()).hexdigest()
    return f"{etag}{PART_SUFFIX}"


def _remove_parts(folder: Path, wanted: Collection[str]) -> None:
    for file in folder.iterdir():
        name = f"{file.stem}{PART_SUFFIX}"
        if file.suffix in (PART_SUFFIX, JOURNAL_SUFFIX) and name not in wanted:
            file.unlink(missing_ok=True)


def _remove_parts_of_the_dead(workshop: Path) -> None:
    lock = os.open(workshop / "lock", os.O_RDWR)
    try:
        if _take(lock, where_unsupported=False):
            _remove_parts(workshop / "parts", ())
    finally:
        os.close(lock)


def _take(lock: int, *, where_unsupported: bool) -> bool:
    """Take the lock, which the kernel gives back when the process ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return where_unsupported and error.errno not in _BUSY  # a network file system without locks
    return True
