"""Failures of pods and Jobs in words: what Kubernetes knows, quoted, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.reconcile.observed import Pod

MAX_QUOTE_CHARACTERS: Final = 400
EXIT_KILLED: Final = 137  # 128 + SIGKILL

_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_START_REASONS: Final = frozenset(
    {"CreateContainerError", "RunContainerError", "CreateContainerConfigError", "StartError"}
)


def counted(number: int, noun: str) -> str:
    """A number with its noun ("1 GPU", "2 GPUs")."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWords:
    """How the pods of one stage are called, and which fields mend them.

    Attributes:
        who: the subject of the sentence ("The engine").
        failed: the stage's own reason for a failure.
        image_field, memory_field: what the user edits.
    """

    who: str
    failed: Reason
    image_field: str
    memory_field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a pod does not get on: a reason and sentences that end with the next step."""

    reason: Reason
    message: str


def quote(text: str | None, characters: int = MAX_QUOTE_CHARACTERS) -> str:
    """Somebody else's words on one line, cut at the front of what is too long: the end tells the cause."""
    line = " ".join((text or "").split())
    return line if len(line) <= characters else "..." + line[-characters:]


def sentence(text: str) -> str:
    """The text, ending as a sentence does."""
    return text if text.endswith((".", "!", "?")) else text + "."


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
    if pod.waiting_reason in _IMAGE_REASONS:
        return Trouble(
            reason=words.failed,
            message=(
                f"{words.who} did not start: its image cannot be pulled ({said}); "
                f"check {words.image_field} and pod.imagePullSecrets."
            ),
        )
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
    if pod.ready or pod.exit_code is None:
        return None
    return Trouble(reason=words.failed, message=f"{words.who} {ending(pod, words)}")


def ending(pod: Pod, words: PodWords) -> str:
    """How a container ended, as the rest of a sentence and the next step."""
    if pod.exit_reason == "OOMKilled":
        return f"was killed for using more memory than its limit (OOMKilled); raise {words.memory_field}."
    said = quote(pod.termination)
    last_words = f", saying: {said}" if said else ""
    hint = " (killed from outside)" if pod.exit_code == EXIT_KILLED else ""
    return (
        f"ended with exit code {pod.exit_code}{hint}{last_words}; read `kubectl logs {pod.id.name} --previous` "
        "and edit the spec."
    )


def _unscheduled(pod: Pod, words: PodWords) -> Trouble | None:
    if pod.unschedulable is None:
        return None
    return Trouble(
        reason=Reason.UNSCHEDULABLE,
        message=(
            f"{words.who} finds no node: the scheduler says {quote(pod.unschedulable)!r}; "
            "free what it lacks, add a node, or change hardware, resources or pod in the spec."
        ),
    )
