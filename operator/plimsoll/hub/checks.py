"""Whether a file holds the bytes that the Hub lists: by SHA-256 in LFS, by git's blob hash beside it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A hash that names a content."""

    algorithm: str  # "sha256", or "git-sha1": of git's header for a blob and the content
    value: str  # hex

    def __str__(self) -> str:
        """As messages show it."""
        return f"{self.algorithm} {self.value}"

    def of(self, path: Path) -> Digest:
        """The hash of the same kind of what a file holds.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as stream:
            if self.algorithm == "sha256":
                hasher = hashlib.sha256()
            else:
                header = b"blob %d\0" % path.stat().st_size
                hasher = hashlib.sha1(header, usedforsecurity=False)
            while chunk := stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return Digest(algorithm=self.algorithm, value=hasher.hexdigest())


def digest_named_by(etag: str | None) -> Digest | None:
    """The hash that an ETag of the Hub is; None where it is none, as a mirror's may be."""
    text = (etag or "").lower()
    if _SHA256.fullmatch(text):
        return Digest(algorithm="sha256", value=text)
    if _GIT_SHA1.fullmatch(text):
        return Digest(algorithm="git-sha1", value=text)
    return None


class WrongBytesError(Exception):
    """What came is not what the Hub lists, and came so twice; the text names file, expected, got and next step."""
