"""What can go wrong between us and the API server, by what to do about it."""

from __future__ import annotations


class ClusterError(Exception):
    """Anything that the API server answered or failed to answer; the text is one sentence."""


class UnreachableError(ClusterError):
    """No answer: refused, reset, timed out. Trying again may help."""


class ApiError(ClusterError):
    """An answer that is no success.

    Attributes:
        status: the HTTP status.
        reason: Kubernetes' own word ("NotFound", "AlreadyExists", "Invalid"), or "".
        retry_after_seconds: how long the server asks to be left alone, if it does.
    """

    def __init__(
        self, action: str, *, status: int, reason: str, message: str, retry_after_seconds: float | None = None
    ) -> None:
        """Build the sentence from what was tried and what was answered."""
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"cannot {action}: {message or reason} (HTTP {status})")


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class ConflictError(ApiError):
    """409: somebody was faster, or the object is another one by now."""


class ForbiddenError(ApiError):
    """401 or 403: our own rights, an admission plugin or a quota."""


class NamespaceEndingError(ForbiddenError):
    """403 because the namespace is being deleted: nothing is to be made there any more."""


class RejectedError(ApiError):
    """400, 413 or 422: the object itself is refused; sending it again changes nothing."""


class BusyError(ApiError):
    """429 or a failure of the server: later."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: RejectedError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: RejectedError,
    422: RejectedError,
    429: BusyError,
}
_FIRST_SERVER_ERROR = 500


def api_error(
    action: str, *, status: int, reason: str, message: str, retry_after_seconds: float | None = None
) -> ApiError:
    """The error class that the HTTP status stands for."""
    kind = BusyError if status >= _FIRST_SERVER_ERROR else _BY_STATUS.get(status, ApiError)
    return kind(
        action, status=status, reason=reason, message=message, retry_after_seconds=retry_after_seconds
    )
