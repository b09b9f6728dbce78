"""Stage: the download Job, once per commit, and what it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from plimsoll.api.conditions import Reason
from plimsoll.api.status import DownloadStatus
from plimsoll.manifests.download_job import download_job
from plimsoll.reconcile.jobs import JobTurn, job_turn, last_report, newest_ended
from plimsoll.reconcile.observed import Claim, Job, JobPhase, Pod
from plimsoll.reconcile.quoting import quote, sentence
from plimsoll.reconcile.reports import DownloadReport, Progress
from plimsoll.reconcile.situation import DOWNLOAD, Finding, Situation, Stage, name_of, no, yes
from plimsoll.reconcile.volume import claim_manifest, claim_problem, pending_message
from plimsoll.reconcile.words import PodWords, ending, trouble_of
from plimsoll.units import format_size

# A provisioner that works answers within seconds; a claim that is still pending then deserves a word.
VOLUME_PATIENCE: Final = timedelta(seconds=60)

WORDS: Final = PodWords(
    who="The download",
    failed=Reason.DOWNLOAD_FAILED,
    image_field="the operator's image",
    memory_field="resources.download.limits.memory",
)

# Of the downloader's own words (the file system's, and its look at the free space before it begins).
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded|make the volume larger")


def download_stage(situation: Situation) -> Stage:
    """Claim and download Job; True once the files of the planned commit are on the volume."""
    claim = claim_manifest(situation.context, situation.claim)
    claims = (claim,) if claim is not None else ()
    problem = claim_problem(situation.deployment, situation.claim)
    if problem is not None:
        return Stage(finding=problem, apply=claims)
    job = download_job(situation.context, situation.placement)
    turn = job_turn(situation, DOWNLOAD, job, made_before=_older_than_the_volume)
    apply = (*claims, *turn.apply)
    return Stage(finding=_finding(situation, turn, name_of(job)), apply=apply, delete=turn.delete)


def download_status(situation: Situation, finding: Finding) -> DownloadStatus:
    """How far the download of the planned commit is."""
    total = situation.context.plan.download_bytes
    if finding.holds:
        report = last_report(situation.observed.pods, DOWNLOAD, None)
        done = report.bytes if isinstance(report, DownloadReport) else total
        return DownloadStatus(bytes=done, total=total)
    progress = situation.observed.progress
    if progress is None:
        return DownloadStatus(total=total)
    return DownloadStatus(
        bytes=progress.bytes,
        total=progress.total or total,
        rate=None if progress.rate is None else f"{format_size(progress.rate)}/s",
        eta=None if progress.eta is None else _duration(progress.eta),
    )


def _duration(seconds: int) -> str:
    return str(timedelta(seconds=min(seconds, 10**9)))


def _older_than_the_volume(situation: Situation, job: Job) -> bool:
    """Whether a Job filled a volume that is gone: its claim was made anew since."""
    claim = situation.claim
    return claim is not None and job.id.created < claim.id.created


def _finding(situation: Situation, turn: JobTurn, name: str) -> Finding:
    plan = situation.context.plan
    if turn.waits_for is not None:
        return no(
            Reason.WAITING, f"The download waits until {turn.waits_for} is gone; nothing is to be done."
        )
    if turn.job is None or turn.job.phase is JobPhase.ACTIVE:
        return _running(situation, turn, name)
    if turn.job.phase is JobPhase.COMPLETE:
        return yes(
            Reason.DOWNLOAD_COMPLETE,
            f"{format_size(plan.download_bytes)} of {plan.model_id} at commit {plan.commit} are on the volume; "
            "the server can load them.",
        )
    said = _failure(turn.job, newest_ended(turn.pods))
    return no(Reason.VOLUME_FULL if _FULL.search(said) else Reason.DOWNLOAD_FAILED, said)


def _running(situation: Situation, turn: JobTurn, name: str) -> Finding:
    claim = situation.claim
    alive = tuple(pod for pod in turn.pods if not pod.ended)
    if claim is not None and claim.phase == "Pending" and _has_waited(claim, alive, situation.now):
        scheduler = next((pod.unschedulable for pod in alive if pod.unschedulable), None)
        return no(Reason.VOLUME_PENDING, pending_message(claim, scheduler))
    trouble = trouble_of(alive, WORDS)
    if trouble is not None:
        return no(trouble.reason, trouble.message)
    plan = situation.context.plan
    said = _progress(situation.observed.progress)
    return no(
        Reason.DOWNLOADING,
        f"Job {name} downloads {format_size(plan.download_bytes)} of {plan.model_id}{said}; "
        "watch status.download.",
    )


def _progress(progress: Progress | None) -> str:
    # Numbers stand in status.download alone: a message that moves with every byte would hide what changed.
    return "" if progress is None or not progress.total else " and reports progress"


def _has_waited(claim: Claim, pods: tuple[Pod, ...], now: datetime) -> bool:
    """Whether the claim's volume is late: somebody complained, or nobody did for too long."""
    if claim.problem is not None:
        return True
    unplaced = [pod for pod in pods if pod.node is None]
    if any(pod.unschedulable and "persistentvolume" in pod.unschedulable.lower() for pod in unplaced):
        return True
    return any(_age(pod.id.created, now) > VOLUME_PATIENCE for pod in unplaced)


def _age(created: str, now: datetime) -> timedelta:
    try:
        born = datetime.fromisoformat(created)
    except ValueError:
        return timedelta(0)
    return now - (born if born.tzinfo is not None else born.replace(tzinfo=UTC))


def _failure(job: Job, pod: Pod | None) -> str:
    again = "edit the spec, or set the annotation plimsoll.dev/replan to a new value to try again"
    report = last_report((pod,), DOWNLOAD, job.id.name) if pod is not None else None
    if isinstance(report, DownloadReport) and report.error is not None:
        return f"Job {job.id.name} failed: {sentence(quote(report.error))} When that is mended, {again}."
    if pod is not None and pod.exit_code is not None:
        return f"Job {job.id.name} failed: the download {ending(pod, WORDS)} To try again, {again}."
    return (
        f"Job {job.id.name} failed: {sentence(quote(job.message) or 'its pods are gone')} To go on, {again}."
    )
