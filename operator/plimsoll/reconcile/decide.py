"""The decision: from one ModelDeployment, its plan and what is there, to what has to be done. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.api.spec import Gate, ModelDeployment
from plimsoll.api.status import ModelDeploymentStatus, RevisionStatus
from plimsoll.manifests.context import Context, Settings
from plimsoll.manifests.download_job import download_job
from plimsoll.manifests.placement import Placement
from plimsoll.manifests.revision import revision_hash, suite_hash
from plimsoll.reconcile.compose import Outcome, finish, requested_revision, selector
from plimsoll.reconcile.decision import Decision, Manifest
from plimsoll.reconcile.downloading import download_stage, download_status
from plimsoll.reconcile.measured import measured_status, plan_note
from plimsoll.reconcile.outcome import SizingOutcome, Waiting
from plimsoll.reconcile.replanning import plan_anew
from plimsoll.reconcile.serving_stage import older_servers, server_stage, settled
from plimsoll.reconcile.situation import (
    DOWNLOAD,
    Finding,
    Situation,
    Stage,
    foreign,
    jobs_of,
    last_good,
    name_of,
    no,
    paused,
    yes,
)
from plimsoll.reconcile.sized import Sized, describe, sized_stage
from plimsoll.reconcile.summary import Standing
from plimsoll.reconcile.testing import Tested, test_stage
from plimsoll.reconcile.traffic import (
    Traffic,
    availability,
    direct,
    look,
    service_manifests,
    serving_replicas,
    superseded,
    url,
)
from plimsoll.reconcile.volume import access_modes, bound_to_one_node, find_claim, sharing_problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from plimsoll.reconcile.observed import Claim, Identity, Observed

__all__ = ["SizingOutcome", "Waiting", "decide"]


def decide(
    deployment: ModelDeployment,
    previous: ModelDeploymentStatus,
    sized: SizingOutcome,
    observed: Observed,
    settings: Settings,
    now: datetime,
) -> Decision:
    """Decide once, from the present state alone; asked again about an unchanged world, it changes nothing.

    A ModelDeployment that is being deleted is left to the garbage collector: its children have owner references.
    """
    if deployment.deleting:
        return Decision()
    answer = sized_stage(deployment, previous, sized)
    outcome = _outcome(deployment, previous, answer, observed, settings, now)
    return finish(deployment, previous, sized, outcome, now)


def _outcome(
    deployment: ModelDeployment,
    previous: ModelDeploymentStatus,
    answer: Sized,
    observed: Observed,
    settings: Settings,
    now: datetime,
) -> Outcome:
    if answer.plan is None:
        context = _kept_context(deployment, previous, settings)
        return _blocked(deployment, previous, answer, observed, context)
    claim = find_claim(deployment, observed)
    context = Context(deployment=deployment, plan=answer.plan, settings=settings)
    problem = sharing_problem(deployment, answer.plan, claim)
    if problem is not None:
        answer = Sized(finding=no(Reason.VOLUME_CANNOT_BE_SHARED, problem), plan=answer.plan)
        return _blocked(deployment, previous, answer, observed, context)
    situation = _situation(context, previous, observed, claim, now)
    anew = plan_anew(deployment, context.plan, observed, situation.revision) if answer.finding.holds else None
    if anew is not None:
        answer = Sized(finding=yes(Reason.PLANNED, describe(anew)), plan=anew)
        situation = _situation(replace(context, plan=anew), previous, observed, claim, now)
    if answer.finding.reason is Reason.QUOTA_EXCEEDED and not _begun(situation):
        return _blocked(deployment, previous, answer, observed, context)
    return _acted_on(situation, answer.finding)


def _situation(
    context: Context,
    previous: ModelDeploymentStatus,
    observed: Observed,
    claim: Claim | None,
    now: datetime,
) -> Situation:
    deployment = context.deployment
    return Situation(
        deployment=deployment,
        previous=previous,
        context=context,
        observed=observed,
        revision=revision_hash(context),
        suite=suite_hash(context, _own_suite(deployment, observed)),
        claim=claim,
        placement=Placement(
            co_locate_with_volume_users=bound_to_one_node(access_modes(deployment, claim)),
        ),
        gate=_gate(deployment),
        now=now,
    )


def _own_suite(deployment: ModelDeployment, observed: Observed) -> str | None:
    """The text of the user's own suite: an edit of it is tested like an edit of the spec."""
    promptfoo = deployment.spec.test.promptfoo if deployment.spec.test is not None else None
    if promptfoo is None or promptfoo.config_map_ref is None:
        return None
    name = promptfoo.config_map_ref.name
    return next((item.suite for item in observed.config_maps if item.id.name == name), None)


def _gate(deployment: ModelDeployment) -> Gate:
    test = deployment.spec.test
    return test.gate if test is not None and test.gate is not None else Gate.REQUIRED


def _kept_context(
    deployment: ModelDeployment, previous: ModelDeploymentStatus, settings: Settings
) -> Context | None:
    """What the public Service of the last good revision is made from while the new spec has no plan."""
    if previous.plan is None:
        return None
    return Context(deployment=deployment, plan=previous.plan, settings=settings)


def _begun(situation: Situation) -> bool:
    """Whether anything of the plan was made already: a quota holds up only what is not there yet."""
    wanted = name_of(download_job(situation.context, situation.placement))
    downloading = any(job.id.name == wanted and not job.id.deleting for job in jobs_of(situation, DOWNLOAD))
    return downloading or situation.server(situation.revision) is not None


def _blocked(
    deployment: ModelDeployment,
    previous: ModelDeploymentStatus,
    answer: Sized,
    observed: Observed,
    context: Context | None,
) -> Outcome:
    """It stops at Sized: nothing is made and nothing is removed, and what is good goes on serving."""
    traffic = look(deployment, observed, last_good(previous))
    waiting = no(Reason.WAITING, "Not begun; see condition Sized.")
    stages = {
        ConditionType.SIZED: answer.finding,
        ConditionType.DOWNLOADED: waiting,
        ConditionType.LOADED: waiting,
        ConditionType.TESTED: waiting,
        ConditionType.AVAILABLE: availability(deployment, traffic, None),
    }
    planned = answer.plan is not None and context is not None
    status = ModelDeploymentStatus(
        revision=RevisionStatus(
            requested=requested_revision(deployment),
            resolved=answer.plan.commit if answer.plan is not None else None,
            hash=revision_hash(context) if planned and context is not None else None,
            last_good=traffic.good,
        ),
        plan=answer.plan or previous.plan,
        measured=previous.measured,
        url=url(context, traffic) if context is not None else previous.url,
        replicas=serving_replicas(deployment, observed, traffic.good),
        selector=selector(deployment, traffic.good),
    )
    return Outcome(
        stages=stages,
        standing=Standing(
            acted_on=False, serving=False, test_satisfied=False, settled=True, paused=paused(deployment)
        ),
        apply=_applicable(deployment, observed, service_manifests(context, traffic) if context else ()),
        scale=older_servers(
            deployment,
            observed,
            good=traffic.good,
            requested=None,
            grow=answer.finding.reason is not Reason.VOLUME_CANNOT_BE_SHARED,
        ),
        status=status,
    )


def _acted_on(situation: Situation, sized: Finding) -> Outcome:
    """The stages one after the other, each looking at what the one before it found."""
    deployment, observed = situation.deployment, situation.observed
    downloaded = download_stage(situation)
    served = server_stage(situation, downloaded=downloaded.finding.holds)
    tested = test_stage(situation, loaded=served.finding.holds)
    traffic = direct(situation, loaded=served.finding.holds, tested=tested)
    stages = {
        ConditionType.SIZED: sized,
        ConditionType.DOWNLOADED: downloaded.finding,
        ConditionType.LOADED: served.finding,
        ConditionType.TESTED: tested.stage.finding,
        ConditionType.AVAILABLE: availability(deployment, traffic, situation.revision),
    }
    status = _status(situation, traffic, tested, downloaded.finding)
    stages[ConditionType.SIZED] = _held_against_the_engine(sized, status)
    children = (downloaded, served, tested.stage)
    apply = (*_each_apply(children), *service_manifests(situation.context, traffic))
    gone = superseded(situation, traffic, _names(apply, "ConfigMap"))
    delete = (*(item for stage in children for item in stage.delete), *gone)
    return Outcome(
        stages=stages,
        standing=Standing(
            acted_on=True,
            serving=served.finding.holds and traffic.pointed_at == situation.revision,
            test_satisfied=_satisfied(situation.gate, tested),
            settled=not delete and settled(situation, traffic.pointed_at) and downloaded.finding.holds,
            paused=paused(deployment),
        ),
        apply=_applicable(deployment, observed, apply),
        delete=delete,
        scale=older_servers(deployment, observed, good=traffic.good, requested=situation.revision),
        status=status,
    )


def _held_against_the_engine(sized: Finding, status: ModelDeploymentStatus) -> Finding:
    """A plan that the engine does not bear out still holds, and says so."""
    note = plan_note(status)
    return sized if note is None else replace(sized, message=f"{sized.message} {note}")


def _satisfied(gate: Gate, tested: Tested) -> bool:
    """Whether the test said what the gate asks for: nothing, anything, or that it passed."""
    if gate is Gate.OFF:
        return True
    return tested.ended if gate is Gate.REPORT_ONLY else tested.stage.finding.holds


def _status(
    situation: Situation, traffic: Traffic, tested: Tested, downloaded: Finding
) -> ModelDeploymentStatus:
    plan = situation.context.plan
    shown = traffic.good or situation.revision
    return ModelDeploymentStatus(
        revision=RevisionStatus(
            requested=requested_revision(situation.deployment),
            resolved=plan.commit,
            hash=situation.revision,
            last_good=traffic.good,
        ),
        plan=plan,
        measured=measured_status(
            situation.previous.measured, situation.observed.engine, plan, situation.revision
        ),
        download=download_status(situation, downloaded),
        test=tested.status,
        url=url(situation.context, traffic),
        replicas=serving_replicas(situation.deployment, situation.observed, shown),
        selector=selector(situation.deployment, shown),
    )


def _each_apply(stages: Iterable[Stage]) -> tuple[Manifest, ...]:
    return tuple(manifest for stage in stages for manifest in stage.apply)


def _names(manifests: Iterable[Manifest], kind: str) -> frozenset[str]:
    return frozenset(name_of(manifest) for manifest in manifests if manifest["kind"] == kind)


def _applicable(
    deployment: ModelDeployment, observed: Observed, manifests: tuple[Manifest, ...]
) -> tuple[Manifest, ...]:
    """Leave out what is on its way out: it is made when it is gone, and its going wakes the queue."""
    leaving = {
        (kind, child.name)
        for kind, children in _identities(observed)
        for child in children
        if child.deleting or foreign(deployment, child)
    }
    return tuple(manifest for manifest in manifests if (manifest["kind"], name_of(manifest)) not in leaving)


def _identities(observed: Observed) -> tuple[tuple[str, tuple[Identity, ...]], ...]:
    return (
        ("PersistentVolumeClaim", tuple(item.id for item in observed.claims)),
        ("Job", tuple(item.id for item in observed.jobs)),
        ("Deployment", tuple(item.id for item in observed.servers)),
        ("Service", tuple(item.id for item in observed.services)),
        ("ConfigMap", tuple(item.id for item in observed.config_maps)),
    )
