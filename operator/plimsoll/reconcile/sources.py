"""Where the facts of a model come from, and the closed list of what can be wrong with a source.

The names are rules, not I/O: `hub` raises these failures, `reconcile` turns them into conditions and waits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_REVISION: Final = "main"
# The Hub's limit, for the namespace and the name together.
_MAX_REPO_ID_LENGTH: Final = 96
_MAX_REVISION_LENGTH: Final = 250
_REPO_ID: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)?[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHOWN_LENGTH: Final = 120


class HubFailureKind(StrEnum):
    """Everything that can keep the facts of a model away; each needs another answer."""

    INVALID_REFERENCE = "InvalidReference"  # the id or the revision is refused before any request
    NOT_FOUND = (
        "NotFound"  # no such repository, or one that this token may not see: the Hub tells no difference
    )
    REVISION_NOT_FOUND = "RevisionNotFound"
    GATED = "Gated"  # the licence is not accepted, or no token was given
    TOKEN_REFUSED = "TokenRefused"  # noqa: S105 - a kind of failure, not a secret
    RATE_LIMITED = "RateLimited"
    UNREACHABLE = "Unreachable"
    NOT_A_TRANSFORMER = "NotATransformer"
    CONFIG_NOT_JSON = "ConfigNotJson"
    CONFIG_TOO_LARGE = "ConfigTooLarge"


RETRYABLE_KINDS: Final[frozenset[HubFailureKind]] = frozenset(
    {HubFailureKind.RATE_LIMITED, HubFailureKind.UNREACHABLE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFailure:
    """Why the facts of a model are not there.

    Attributes:
        message: for a person, ending with the next step; never holds a token.
        retry_after_seconds: what the Hub asked to wait; None where it asked nothing.
    """

    kind: HubFailureKind
    message: str
    retry_after_seconds: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether waiting may mend it without anybody's doing."""
        return self.kind in RETRYABLE_KINDS


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit hash, which never moves."""
    return _COMMIT.fullmatch(revision) is not None


def check_reference(model_id: str, revision: str) -> HubFailure | None:
    """Refuse an id or a revision that no repository can have, before it reaches a URL, a path or a shell."""
    if not _is_repo_id(model_id):
        return HubFailure(
            kind=HubFailureKind.INVALID_REFERENCE,
            message=(
                f"model id {_shown(model_id)} cannot be a Hugging Face repository: write NAMESPACE/NAME with letters, "
                "digits, '-', '_' and '.', such as mistralai/Mistral-7B-Instruct-v0.3."
            ),
        )
    if not _is_revision(revision):
        return HubFailure(
            kind=HubFailureKind.INVALID_REFERENCE,
            message=(
                f"revision {_shown(revision)} cannot be a branch, a tag or a commit: write its name with letters, "
                "digits, '-', '_', '.' and '/', such as main, or the 40 hex digits of a commit; a path is not one."
            ),
        )
    return None


def _is_repo_id(text: str) -> bool:
    return (
        len(text) <= _MAX_REPO_ID_LENGTH
        and _REPO_ID.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def _is_revision(text: str) -> bool:
    return (
        len(text) <= _MAX_REVISION_LENGTH
        and _REVISION.fullmatch(text) is not None
        and ".." not in text
        and "//" not in text
        and "/." not in text
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "...")
