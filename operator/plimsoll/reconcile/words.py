"""Failures of pods in words: what Kubernetes and the container say, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.reconcile.failures import EXIT_KILLED, Failure, classify, last_words
from plimsoll.reconcile.image_pulls import IMAGE_REASONS, judge_image_pull
from plimsoll.reconcile.quoting import quote
from plimsoll.reconcile.scheduling import what_would_help

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.reconcile.observed import Pod

_START_REASONS: Final = frozenset(
    {"CreateContainerError", "RunContainerError", "CreateContainerConfigError", "StartError"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWords:
    """How the pods of one stage are called, and which fields mend them.

    Attributes:
        who: the subject of the sentence ("The engine").
        failed: the stage's own reason for a failure.
        image_field, memory_field: what the user edits.
        engine: whether the container is the engine, whose own words are known; ours report by themselves.
    """

    who: str
    failed: Reason
    image_field: str
    memory_field: str
    engine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a pod does not get on: a reason and sentences that end with the next step.

    Attributes:
        suggested_max_model_len: the context length in tokens that the engine says would fit.
    """

    reason: Reason
    message: str
    suggested_max_model_len: int | None = None


def trouble_of(pods: Iterable[Pod], words: PodWords) -> Trouble | None:
    """The worst trouble among pods that should run: one that failed before one that waits for a node."""
    alive = [pod for pod in pods if not pod.ended and not pod.id.deleting]
    for judge in (_waiting, _exited, _unscheduled):
        for pod in alive:
            trouble = judge(pod, words)
            if trouble is not None:
                return trouble
    return None


def _waiting(pod: Pod, words: PodWords) -> Trouble | None:
    said = quote(pod.waiting_message or pod.waiting_reason)
    if pod.waiting_reason in IMAGE_REASONS:
        pull = judge_image_pull(pod.waiting_reason, pod.waiting_message, words.image_field)
        message = f"{words.who} did not start: its image {pull.what} ({said}); {pull.next_step}."
        return Trouble(reason=pull.reason, message=message)
    if pod.waiting_reason == "CreateContainerConfigError" and "not found" in said:
        return Trouble(
            reason=Reason.SECRET_NOT_FOUND,
            message=f"{words.who} waits for an object that it refers to ({said}); create it, and the pod goes on.",
        )
    if pod.waiting_reason in _START_REASONS:
        return Trouble(
            reason=words.failed,
            message=(
                f"{words.who} did not start ({pod.waiting_reason}: {said}); "
                "correct what the message names in the spec or in the objects that it refers to."
            ),
        )
    return None


def _exited(pod: Pod, words: PodWords) -> Trouble | None:
    # A Job's pod ends with its container, a moment later in its status; how it ended, the Job says then.
    if pod.ready or pod.exit_code is None or pod.job is not None:
        return None
    failure = _failure(pod, words)
    if failure is None:
        return Trouble(reason=words.failed, message=f"{words.who} {ending(pod, words)}")
    return Trouble(
        reason=failure.reason,
        message=f"{words.who} {failure.what}; {failure.next_step}.",
        suggested_max_model_len=failure.suggested_max_model_len,
    )


def _failure(pod: Pod, words: PodWords) -> Failure | None:
    """What is known of it: the log's end tells more than the message, which may hold the parent process alone."""
    for text in (pod.log, pod.termination) if words.engine else ("",):
        failure = classify(
            exit_code=pod.exit_code or 0,
            exit_reason=pod.exit_reason,
            log_tail=text or "",
            memory_field=words.memory_field,
        )
        if failure is not None:
            return failure
    return None


def ending(pod: Pod, words: PodWords) -> str:
    """How a container ended, as the rest of a sentence and the next step."""
    failure = _failure(pod, words)
    if failure is not None:
        return f"{failure.what}; {failure.next_step}."
    said = last_words(pod.log or pod.termination)
    last = f", saying: {said}" if said else ""
    hint = " (killed from outside)" if pod.exit_code == EXIT_KILLED else ""
    return (
        f"ended with exit code {pod.exit_code}{hint}{last}; read `kubectl logs {pod.id.name} --previous` "
        "and edit the spec."
    )


def _unscheduled(pod: Pod, words: PodWords) -> Trouble | None:
    if pod.unschedulable is None:
        return None
    return Trouble(
        reason=Reason.UNSCHEDULABLE,
        message=(
            f"{words.who} finds no node: the scheduler says {quote(pod.unschedulable)!r}; "
            f"{what_would_help(pod.unschedulable)}."
        ),
    )
