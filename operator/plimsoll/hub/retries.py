"""How long to wait before a request is made again, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from plimsoll.reconcile.sources import HubFailure

DEFAULT_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """A backoff that doubles, and that does what the Hub asks.

    Attributes:
        tries: of one request that brings nothing; the last one's failure is final for this run.
        base_seconds: the first wait.
        longest_seconds: the longest wait of our own choice.
        longest_asked_seconds: the longest Retry-After that is waited for in this run; beyond it the run ends, and
            the Job's own backoff waits without a pod.
        stall_seconds: without a byte, after which a request has failed.
    """

    tries: int = DEFAULT_TRIES
    base_seconds: float = 1.0
    longest_seconds: float = 30.0
    longest_asked_seconds: float = 300.0
    stall_seconds: float = 30.0

    def wait_seconds(self, failures: int, failure: HubFailure) -> float | None:
        """How long to wait after so many failures in a row; None: not at all, it is final.

        Args:
            failures: in a row, this one counted.
            failure: the last one.
        """
        if not failure.retryable or failures >= self.tries:
            return None
        asked = failure.retry_after_seconds
        if asked is not None:
            return None if asked > self.longest_asked_seconds else max(asked, 0.0)
        return min(self.base_seconds * (1 << min(failures - 1, 16)), self.longest_seconds)
