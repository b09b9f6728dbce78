"""Which images of earlier inputs can go: those of a repository that has a newer tag, and what only they were made from. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# "COPY dir:5e55... in /src/operator": the step of a stage is the same, what it copied is another.
_CONTENT: Final = re.compile(r"\b(?:file|dir|multi):[0-9a-f]+")

_DIGEST: Final = "sha256:"


def outdated(names: Iterable[str], current: str) -> tuple[str, ...]:
    """The names of the repository of `current` with another tag."""
    repository = _repository(current)
    return tuple(sorted({name for name in names if name != current and _repository(name) == repository}))


def orphans(listing: str) -> tuple[str, ...]:
    """The names by digest of images that have no other name: the kubelet's runtime gives each image one, and keeps it.

    Args:
        listing: what `ctr images list` prints: a head line, then name, type and digest of each image.
    """
    rows = [line.split()[:3] for line in listing.splitlines()[1:]]
    kept = {digest for name, _, digest in rows if not name.startswith(_DIGEST)}
    return tuple(name for name, _, digest in rows if name.startswith(_DIGEST) and digest not in kept)


def superseded(stages: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The images without a name that a later build of the same steps made anew.

    They are the last steps of a Dockerfile's inner stages; the newest of each is what the next build begins from.

    Args:
        stages: each with its `id`, `created` (RFC 3339), and `steps`: what made each layer, as the builder says it.
    """
    newest: dict[tuple[str, ...], Mapping[str, Any]] = {}
    gone: list[str] = []
    for stage in sorted(stages, key=lambda stage: str(stage["created"])):
        key = _steps(stage["steps"])
        if key in newest:
            gone.append(str(newest[key]["id"]))
        newest[key] = stage
    return tuple(gone)


def _steps(created_by: Sequence[str]) -> tuple[str, ...]:
    return tuple(_CONTENT.sub("", step) for step in created_by)


def _repository(name: str) -> str:
    repository, colon, tag = name.rpartition(":")
    return repository if colon and "/" not in tag else name
