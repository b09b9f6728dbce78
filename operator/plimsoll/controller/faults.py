"""The one place that says what a failed reconcile means: wait, try again, tell the user, or look at the bug.

An invalid spec is no failure: it is a condition, and waits for the next edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plimsoll.cluster.apply import ForeignObjectError
from plimsoll.cluster.errors import (
    ApiError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NamespaceEndingError,
    NotFoundError,
    RejectedError,
)


class FaultKind(StrEnum):
    """How a reconcile failed."""

    STALE = "stale"  # somebody was faster: look again at once
    TRANSIENT = "transient"  # the API server is busy or away: later
    REFUSED = "refused"  # the API server said no to what we made: the user or an administrator has to know
    BUG = "bug"  # ours: with a trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A failure, judged.

    Attributes:
        sentence: for the log, and for an event where the user has to know.
        at_least_seconds: what the server asked for, or what is pointless to undercut.
        fresh_read: whether what we know of the object has to be read anew before the next attempt.
    """

    kind: FaultKind
    sentence: str
    at_least_seconds: float = 0.0
    fresh_read: bool = False

    @property
    def tell_user(self) -> bool:
        """Whether an event on the ModelDeployment has to say so."""
        return self.kind is FaultKind.REFUSED


# The first that fits counts: the more special class stands before its parent.
_KINDS: tuple[tuple[type[Exception], FaultKind, float], ...] = (
    (ConflictError, FaultKind.STALE, 0.0),
    (NotFoundError, FaultKind.STALE, 0.0),
    # The ModelDeployment itself goes within moments, and with it the key.
    (NamespaceEndingError, FaultKind.STALE, 5.0),
    (ForeignObjectError, FaultKind.REFUSED, 5.0),
    (RejectedError, FaultKind.REFUSED, 5.0),
    (ForbiddenError, FaultKind.REFUSED, 5.0),
    (ClusterError, FaultKind.TRANSIENT, 0.0),
    (TimeoutError, FaultKind.TRANSIENT, 0.0),
)


def judge(error: Exception) -> Fault:
    """Sort an exception of a reconcile."""
    sentence = str(error) or type(error).__name__
    for kind_of_error, kind, seconds in _KINDS:
        if isinstance(error, kind_of_error):
            asked = error.retry_after_seconds if isinstance(error, ApiError) else None
            return Fault(
                kind=kind,
                sentence=sentence,
                at_least_seconds=max(seconds, asked or 0.0),
                fresh_read=kind is FaultKind.STALE,
            )
    return Fault(kind=FaultKind.BUG, sentence=f"{type(error).__name__}: {sentence}")
