"""The one exception of the Hub: it carries a failure from the closed list, with the next step in words."""

from __future__ import annotations

from plimsoll.reconcile.sources import HubFailure, HubFailureKind


class HubProblem(Exception):  # noqa: N818 - named in the contract between the parts
    """The facts of a model could not be had; `failure` says why and what to do."""

    def __init__(self, failure: HubFailure) -> None:
        """Carry a failure; its message is the exception's text."""
        super().__init__(failure.message)
        self.failure = failure

    @property
    def kind(self) -> HubFailureKind:
        """Which of the closed list it is."""
        return self.failure.kind


def problem(kind: HubFailureKind, message: str, retry_after_seconds: float | None = None) -> HubProblem:
    """Build the exception for a kind, a message that ends with the next step, and the wait the Hub asked for."""
    return HubProblem(HubFailure(kind=kind, message=message, retry_after_seconds=retry_after_seconds))
