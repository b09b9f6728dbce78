"""Ready, Reconciling and Stalled: the summary of the stages, as people and kstatus read it; and the list of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from plimsoll.api.conditions import TERMINAL_REASONS, ConditionType, Reason
from plimsoll.api.status import Condition
from plimsoll.reconcile.situation import Finding, no, yes

STAGES: Final = (
    ConditionType.SIZED,
    ConditionType.DOWNLOADED,
    ConditionType.LOADED,
    ConditionType.TESTED,
    ConditionType.AVAILABLE,
)

Findings = Mapping[ConditionType, Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the summary needs beside the stages' findings.

    Attributes:
        acted_on: the spec has a plan that is acted on; False: it stops at Sized.
        serving: the public Service answers with the requested revision, as this generation asks for it.
        test_satisfied: the test said what the gate asks for.
        settled: the children are as wanted, nothing more moves.
        paused: no server is wanted.
    """

    acted_on: bool
    serving: bool
    test_satisfied: bool
    settled: bool
    paused: bool


def summarize(stages: Findings, standing: Standing) -> dict[ConditionType, Finding]:
    """The stages and their summary; Reconciling and Stalled are there only while they are true."""
    found = dict(stages)
    blocking = _blocking(stages, standing)
    if blocking is None:
        ready = yes(Reason.SERVING, stages[ConditionType.AVAILABLE].message)
    else:
        ready = no(blocking.reason, blocking.message)
    found[ConditionType.READY] = ready
    stalled = blocking is not None and blocking.reason in TERMINAL_REASONS
    if stalled:
        found[ConditionType.STALLED] = yes(ready.reason, ready.message)
    elif (ready.reason is not Reason.SUSPENDED and not ready.holds) or not standing.settled:
        found[ConditionType.RECONCILING] = yes(Reason.PROGRESSING, _under_way(stages, ready))
    return found


def _blocking(stages: Findings, standing: Standing) -> Finding | None:
    """The first thing that keeps the requested revision from serving."""
    if not standing.acted_on:
        return stages[ConditionType.SIZED]
    if standing.paused:
        return stages[ConditionType.LOADED]
    if standing.serving and standing.test_satisfied:
        return None
    for kind in STAGES:
        finding = stages[kind]
        if finding.holds or (kind is ConditionType.TESTED and standing.test_satisfied):
            continue
        return finding
    return no(Reason.PROGRESSING, "The requested revision is good and takes the traffic now; wait a moment.")


def _under_way(stages: Findings, ready: Finding) -> str:
    if not ready.holds:
        return ready.message
    for kind in STAGES:
        finding = stages[kind]
        if finding.status == "False" and finding.reason is not Reason.TEST_FAILED:
            return finding.message
    return "Further replicas are on their way; wait for them, or see their pods."


def conditions(
    findings: Findings, previous: tuple[Condition, ...], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The list for the status, in the order of the stages; times move only when a status flips."""
    before = {condition.type: condition for condition in previous}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    built: list[Condition] = []
    for kind in ConditionType:
        finding = findings.get(kind)
        if finding is None:
            continue
        last = before.get(kind.value)
        same = last is not None and last.status == finding.status
        built.append(
            Condition(
                type=kind.value,
                status=finding.status,
                reason=finding.reason.value,
                message=finding.message,
                observed_generation=generation,
                last_transition_time=last.last_transition_time if last is not None and same else stamp,
            )
        )
    return tuple(built)
