"""From the stages' answers to one Decision: the status, whether it changed, the events and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.manifests import labels
from plimsoll.reconcile.decision import Decision, Deletion, Manifest, Scale
from plimsoll.reconcile.events import events_between
from plimsoll.reconcile.outcome import SizingOutcome, Waiting
from plimsoll.reconcile.sources import DEFAULT_REVISION, HubFailure
from plimsoll.reconcile.summary import Findings, Standing, conditions, summarize

if TYPE_CHECKING:
    from datetime import datetime

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.api.status import ModelDeploymentStatus

# Slow safeties: whatever is waited for reports by itself, through a watch.
RETRY_SECONDS: Final = 30.0
WAITING_SECONDS: Final = 60.0
PROGRESS_SECONDS: Final = 30.0
UNFINISHED_SECONDS: Final = 120.0
# A licence may be accepted, a repository made: outside of the cluster, so no watch tells.
REFUSED_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All stages' answers together; `status` has everything but the conditions."""

    stages: Findings
    standing: Standing
    status: ModelDeploymentStatus
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Deletion, ...] = ()
    scale: tuple[Scale, ...] = ()


def finish(
    deployment: ModelDeployment,
    previous: ModelDeploymentStatus,
    sized: SizingOutcome,
    outcome: Outcome,
    now: datetime,
) -> Decision:
    """Compose the Decision; the status is None, and no event posted, when nothing is news."""
    findings = summarize(outcome.stages, outcome.standing)
    listed = conditions(findings, previous.conditions or (), deployment.generation, now)
    status = outcome.status.model_copy(
        update={"observed_generation": deployment.generation, "conditions": listed}
    )
    changed = status.to_json() != previous.to_json()
    return Decision(
        apply=outcome.apply,
        delete=outcome.delete,
        scale=outcome.scale,
        status=status.to_json() if changed else None,
        events=events_between(previous, status) if changed else (),
        requeue_after_seconds=_requeue(sized, findings),
    )


def requested_revision(deployment: ModelDeployment) -> str:
    """What the spec asks for."""
    return deployment.spec.model.revision or DEFAULT_REVISION


def selector(deployment: ModelDeployment, revision: str | None) -> str | None:
    """The label selector of one revision's pods, for autoscalers."""
    if revision is None:
        return None
    pairs = labels.server_selector(deployment.name, revision)
    return ",".join(f"{key}={value}" for key, value in pairs.items())


def _requeue(sized: SizingOutcome, findings: Findings) -> float | None:
    if isinstance(sized, HubFailure) and not findings[ConditionType.SIZED].holds:
        if sized.retry_after_seconds is not None:
            return sized.retry_after_seconds
        return RETRY_SECONDS if sized.retryable else REFUSED_SECONDS
    if isinstance(sized, Waiting):
        return WAITING_SECONDS
    if findings[ConditionType.DOWNLOADED].reason in {Reason.DOWNLOADING, Reason.VOLUME_PENDING}:
        return PROGRESS_SECONDS
    return UNFINISHED_SECONDS if ConditionType.RECONCILING in findings else None
