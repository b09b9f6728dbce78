"""Stage: the promptfoo test of a loaded revision, once per revision and suite, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.api.spec import Gate
from plimsoll.api.status import ModelDeploymentStatus, TestStatus
from plimsoll.manifests.suite import suite_config_map
from plimsoll.manifests.test_job import test_job
from plimsoll.reconcile.jobs import JOB_API, JobTurn, job_turn, last_report, newest_ended
from plimsoll.reconcile.observed import Job, JobPhase, Pod
from plimsoll.reconcile.quoting import quote, sentence
from plimsoll.reconcile.reports import TestReport
from plimsoll.reconcile.situation import (
    TEST,
    Finding,
    Situation,
    Stage,
    deletion,
    jobs_of,
    name_of,
    no,
    paused,
    yes,
)
from plimsoll.reconcile.words import PodWords, ending, trouble_of

if TYPE_CHECKING:
    from plimsoll.reconcile.decision import Deletion, Manifest

SUITE_KEY: Final = "promptfooconfig.yaml"
SHOWN_FAILURES: Final = 3

WORDS: Final = PodWords(
    who="The test",
    failed=Reason.TEST_ERROR,
    image_field="the operator's promptfoo image",
    memory_field="resources.test.limits.memory",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The stage's answer and the numbers for status.test."""

    stage: Stage
    status: TestStatus | None

    @property
    def ended(self) -> bool:
        """Whether the test of this revision and suite ran to an end, whatever it said."""
        return self.stage.finding.reason in {Reason.PASSED, Reason.TEST_FAILED, Reason.TEST_ERROR}


def test_stage(situation: Situation, *, loaded: bool) -> Tested:
    """Suite and test Job; True once the test of exactly this revision and suite has passed."""
    if situation.gate is Gate.OFF:
        return Tested(stage=_gate_off(situation), status=None)
    missing, suites = _suite(situation)
    wanted = test_job(situation.context, situation.revision, situation.suite, situation.placement)
    recorded = recorded_pass(situation)
    if recorded is not None and not _present(situation, wanted):
        stage = Stage(finding=_passed(recorded), apply=suites, delete=_all_jobs(situation))
        return Tested(stage=stage, status=recorded)
    if missing is not None:
        return Tested(stage=Stage(finding=missing, delete=_all_jobs(situation)), status=None)
    turn = job_turn(situation, TEST, wanted, keep=_kept_jobs(situation))
    held = _held(situation, turn, loaded=loaded)
    if held is not None:
        delete = _all_jobs(situation) if paused(situation.deployment) else turn.delete
        return Tested(stage=Stage(finding=held, apply=suites, delete=delete), status=None)
    finding, status = _outcome(situation, turn)
    return Tested(
        stage=Stage(finding=finding, apply=(*suites, *turn.apply), delete=turn.delete), status=status
    )


test_stage.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def recorded_pass(situation: Situation) -> TestStatus | None:
    """The status' own record that this revision passed this suite: a finished Job may be cleaned away."""
    record = situation.previous.test
    if record is None or record.key != situation.test_key:
        return None
    return record if _said(situation.previous, Reason.PASSED) else None


def _said(previous: ModelDeploymentStatus, reason: Reason) -> bool:
    for condition in previous.conditions or ():
        if condition.type == ConditionType.TESTED:
            return condition.status == "True" and condition.reason == reason
    return False


def _gate_off(situation: Situation) -> Stage:
    finding = Finding(
        status="Unknown",
        reason=Reason.GATE_OFF,
        message="test.gate is Off: nothing was tested; set it to Required or ReportOnly to test.",
    )
    return Stage(finding=finding, delete=_all_jobs(situation))


def _present(situation: Situation, wanted: Manifest) -> bool:
    name = name_of(wanted)
    return any(job.id.name == name and not job.id.deleting for job in jobs_of(situation, TEST))


def _held(situation: Situation, turn: JobTurn, *, loaded: bool) -> Finding | None:
    """Why there is no result to read and no test to run now."""
    active = turn.job is not None and turn.job.phase is JobPhase.ACTIVE
    if paused(situation.deployment) and (turn.job is None or active):
        return no(Reason.SUSPENDED, "The test is skipped while nothing serves; resume, and it runs.")
    if turn.job is None and not loaded:
        return no(Reason.WAITING, "The test waits for the engine; see condition Loaded.")
    return None


def _suite(situation: Situation) -> tuple[Finding | None, tuple[Manifest, ...]]:
    """What is wrong with the user's suite, or the ConfigMap of ours that holds one."""
    promptfoo = situation.deployment.spec.test.promptfoo if situation.deployment.spec.test else None
    if promptfoo is None or promptfoo.config_map_ref is None:
        return None, (suite_config_map(situation.context, situation.suite),)
    name = promptfoo.config_map_ref.name
    found = next((item for item in situation.observed.config_maps if item.id.name == name), None)
    if found is None:
        return no(
            Reason.SUITE_NOT_FOUND,
            f"ConfigMap {name} (test.promptfoo.configMapRef) is not in namespace "
            f"{situation.deployment.namespace}; create it with the key {SUITE_KEY}.",
        ), ()
    if SUITE_KEY not in found.keys:
        has = ", ".join(found.keys[:SHOWN_FAILURES]) or "no key at all"
        return no(
            Reason.SUITE_NOT_FOUND,
            f"ConfigMap {name} (test.promptfoo.configMapRef) has {has}; put the suite under the key {SUITE_KEY}.",
        ), ()
    return None, ()


def _kept_jobs(situation: Situation) -> frozenset[str]:
    """Finished tests of the last good revision stay while it may be gone back to."""
    return frozenset(
        job.id.name
        for job in jobs_of(situation, TEST)
        if job.phase is JobPhase.COMPLETE
        and job.id.revision == situation.last_good
        and job.id.revision != situation.revision
    )


def _all_jobs(situation: Situation) -> tuple[Deletion, ...]:
    """Every test Job but those that are kept: none is wanted now."""
    keep = _kept_jobs(situation)
    return tuple(
        deletion(JOB_API, "Job", job.id)
        for job in jobs_of(situation, TEST)
        if job.id.name not in keep and not job.id.deleting
    )


def _outcome(situation: Situation, turn: JobTurn) -> tuple[Finding, TestStatus | None]:
    if turn.waits_for is not None:
        return no(
            Reason.WAITING, f"The test waits until {turn.waits_for} is gone; nothing is to be done."
        ), None
    if turn.job is None or turn.job.phase is JobPhase.ACTIVE:
        trouble = trouble_of(turn.pods, WORDS)
        if trouble is not None:
            return no(trouble.reason, trouble.message), None
        return no(
            Reason.TESTING, f"The test of revision {situation.revision} runs; wait for its Job to end."
        ), None
    report = last_report(turn.pods, TEST, turn.job.id.name)
    numbers = report if isinstance(report, TestReport) else None
    status = _status(situation, numbers)
    if turn.job.phase is JobPhase.COMPLETE and not (numbers and (numbers.failed or numbers.errors)):
        return _passed(status), status
    return _failed(turn.job, numbers, newest_ended(turn.pods)), status


def _status(situation: Situation, report: TestReport | None) -> TestStatus:
    if report is None:
        # The pod and its message may be gone long before the Job is.
        before = situation.previous.test
        same = before is not None and before.key == situation.test_key
        return before if before is not None and same else TestStatus(key=situation.test_key)
    return TestStatus(
        passed=report.passed,
        failed=report.failed,
        total=report.total,
        report=report.report,
        proven_context=report.proven_context,
        key=situation.test_key,
    )


def _passed(status: TestStatus) -> Finding:
    counted = f"{status.passed} of {status.total} assertions held" if status.total else "the Job succeeded"
    proven = f", and a request of {status.proven_context} tokens was served" if status.proven_context else ""
    return yes(Reason.PASSED, f"The test passed: {counted}{proven}; the revision may take traffic.")


def _failed(job: Job, report: TestReport | None, pod: Pod | None) -> Finding:
    again = "edit the spec, or set the annotation plimsoll.dev/replan to a new value to test again"
    if report is not None and report.failed:
        shown = ", ".join(f"{item.assertion} in {item.test!r}" for item in report.failures[:SHOWN_FAILURES])
        which = f" ({quote(shown)})" if shown else ""
        where = f"read the report at {report.report}, then " if report.report else ""
        return no(
            Reason.TEST_FAILED,
            f"{report.failed} of {report.total} assertions failed{which}; {where}{again}.",
        )
    if report is not None and report.error is not None:
        return no(Reason.TEST_ERROR, f"The test did not end: {sentence(quote(report.error))} Then {again}.")
    if pod is not None and pod.exit_code is not None and report is None:
        return no(Reason.TEST_ERROR, f"The test {ending(pod, WORDS)} To test again, {again}.")
    said = sentence(quote(job.message) or "its pods are gone")
    return no(Reason.TEST_ERROR, f"Job {job.id.name} failed: {said} To test again, {again}.")
