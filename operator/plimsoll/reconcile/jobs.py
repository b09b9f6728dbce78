"""The rule for Jobs: made once per hash, never patched, replaced by deletion, and final when they fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.manifests import labels
from plimsoll.reconcile.observed import Job, JobPhase, Pod
from plimsoll.reconcile.reports import Report, parse
from plimsoll.reconcile.situation import (
    Situation,
    deletion,
    foreign,
    jobs_of,
    name_of,
    running_pods,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from plimsoll.reconcile.decision import Deletion, Manifest

JOB_API: Final = "batch/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTurn:
    """Whose turn it is.

    Attributes:
        job: the wanted Job, if it is there and counts.
        pods: of that Job.
        apply: the wanted Job, if it has to be made now.
        delete: Jobs that have had their time.
        waits_for: an earlier Job or pod that has to be gone first, in words.
    """

    job: Job | None = None
    pods: tuple[Pod, ...] = ()
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Deletion, ...] = ()
    waits_for: str | None = None


def job_turn(
    situation: Situation,
    component: str,
    wanted: Manifest,
    *,
    made_before: Callable[[Situation, Job], bool] = lambda _situation, _job: False,
    keep: frozenset[str] = frozenset(),
) -> JobTurn:
    """Find the wanted Job, or make it when all earlier ones and their pods are gone.

    Args:
        situation: the ModelDeployment and what is there.
        component: the stage.
        wanted: the manifest of the Job.
        made_before: whether a Job of this name no longer counts.
        keep: names of finished Jobs of other revisions that stay.
    """
    name = name_of(wanted)
    present = jobs_of(situation, component)
    current = next((job for job in present if job.id.name == name and not job.id.deleting), None)
    if current is not None and (_outdated(situation, current) or made_before(situation, current)):
        current = None
    old = tuple(job for job in present if job is not current and job.id.name not in keep)
    delete = tuple(deletion(JOB_API, "Job", job.id) for job in old if not job.id.deleting)
    if current is not None:
        pods = tuple(pod for pod in situation.observed.pods if pod.job == name)
        return JobTurn(job=current, pods=pods, delete=delete)
    waits_for = _blocker(situation, component, name, old)
    if waits_for is not None:
        return JobTurn(delete=delete, waits_for=waits_for)
    return JobTurn(apply=(_stamped(situation, wanted),), delete=delete)


def _outdated(situation: Situation, job: Job) -> bool:
    """Whether a failed Job may run again: the annotation plimsoll.dev/replan has changed since it was made."""
    return job.phase is JobPhase.FAILED and job.id.attempt != situation.attempt


def _blocker(situation: Situation, component: str, name: str, old: tuple[Job, ...]) -> str | None:
    for job in situation.observed.jobs:
        if job.id.name == name and foreign(situation.deployment, job.id):
            return f"Job {name} of an earlier ModelDeployment of this name"
    if old:
        return f"Job {old[0].id.name}"
    for pod in running_pods(situation.observed.pods, component):
        return f"pod {pod.id.name} of an earlier Job"
    return None


def _stamped(situation: Situation, wanted: Manifest) -> Manifest:
    """The Job with the annotation that it was made under, so that a later value can be told from it."""
    if situation.attempt is None:
        return wanted
    metadata = dict(wanted["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), labels.REPLAN: situation.attempt}
    return {**wanted, "metadata": metadata}


def newest_ended(pods: Iterable[Pod]) -> Pod | None:
    """The pod that ended last; pods come oldest first."""
    ended = [pod for pod in pods if pod.ended]
    return ended[-1] if ended else None


def last_report(pods: Iterable[Pod], component: str, job: str | None) -> Report | None:
    """The newest report that a pod of a stage left."""
    for pod in reversed([pod for pod in pods if pod.id.component == component]):
        if job is None or pod.job == job:
            report = parse(pod.termination)
            if report is not None:
                return report
    return None
