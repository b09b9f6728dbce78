"""From a ModelDeployment in a file to its plan: the operator's own rules, asked without the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.api.conditions import Reason
from plimsoll.cli.errors import RefusedError, UnreachableError
from plimsoll.cli.facts import command_error, facts_by_id
from plimsoll.cli.sized import size
from plimsoll.hub.errors import HubProblem
from plimsoll.manifests.engine import EngineVersionUnknownError, choose_engine
from plimsoll.reconcile.planning import plan_for, serving_for
from plimsoll.reconcile.quota import needs, shortfalls
from plimsoll.reconcile.sized import HUB_REASONS
from plimsoll.reconcile.validate import validate
from plimsoll.sizing.plan import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.api.status import PlanStatus
    from plimsoll.cli.options import HubOptions
    from plimsoll.cli.sized import Sized
    from plimsoll.manifests.context import Settings
    from plimsoll.reconcile.node_pools import NodeSurvey
    from plimsoll.sizing.facts import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the operator would say of one ModelDeployment.

    Attributes:
        plan: also there where only a quota is in the way.
        reason: the reason that the condition Sized would have.
        message: the sentence beside it; "" where it fits.
        facts: of the model, where it could be read.
    """

    deployment: ModelDeployment
    plan: PlanStatus | None
    reason: Reason
    message: str = ""
    refusal: Refusal | None = None
    facts: ModelFacts | None = None

    @property
    def fits(self) -> bool:
        """Whether the operator would go on."""
        return self.reason is Reason.PLANNED


def verdict_on(
    deployment: ModelDeployment,
    survey: NodeSurvey,
    settings: Settings,
    hub: HubOptions,
) -> Verdict:
    """The plan of one ModelDeployment on some nodes, or why there is none.

    Raises:
        UnreachableError: the model could not be had.
    """
    invalid = problems_of(deployment)
    if invalid is not None:
        return Verdict(deployment=deployment, plan=None, reason=Reason.INVALID_SPEC, message=invalid)
    model = deployment.spec.model
    try:
        facts = facts_by_id(model.id, model.revision, hub)
    except HubProblem as problem:
        error = command_error(problem.failure, model.id)
        if isinstance(error, UnreachableError):
            raise error from None
        reason = HUB_REASONS[problem.kind]
        return Verdict(deployment=deployment, plan=None, reason=reason, message=str(problem))
    result = plan_for(deployment, facts, survey.pools, settings, survey.left_out, survey.elsewhere)
    if isinstance(result, Refusal):
        return Verdict(
            deployment=deployment,
            plan=None,
            reason=Reason(result.reason.value),
            message=result.message,
            refusal=result,
            facts=facts,
        )
    return Verdict(deployment=deployment, plan=result, reason=Reason.PLANNED, facts=facts)


def within_quotas(
    verdict: Verdict, quotas: Sequence[dict[str, Any]], children: Sequence[dict[str, Any]]
) -> Verdict:
    """The verdict once the ResourceQuotas of the namespace were held against the plan."""
    if verdict.plan is None:
        return verdict
    short = shortfalls(needs(verdict.plan, verdict.deployment.spec), quotas, children)
    if not short:
        return verdict
    text = "; ".join(str(one) for one in short)
    return Verdict(
        deployment=verdict.deployment,
        plan=verdict.plan,
        reason=Reason.QUOTA_EXCEEDED,
        message=f"{text}; raise the quota or free what is used.",
        facts=verdict.facts,
    )


def must_fit(verdict: Verdict) -> PlanStatus:
    """The plan.

    Raises:
        RefusedError: there is none.
    """
    if verdict.plan is None:
        name = verdict.deployment.name
        raise RefusedError(f"{name}: {verdict.reason.value}: {verdict.message}")
    return verdict.plan


def problems_of(deployment: ModelDeployment) -> str | None:
    """Every problem of a spec in one sentence; None where there is none."""
    problems = validate(deployment.spec)
    if not problems:
        return None
    return "; ".join(f"{problem.path}: {problem.message.rstrip('.')}" for problem in problems) + "."


def sized_manifest(
    deployment: ModelDeployment, survey: NodeSurvey, settings: Settings, hub: HubOptions
) -> Sized:
    """The estimate of a ModelDeployment with all that status does not keep of it.

    Raises:
        RefusedError: the spec is invalid, or its model is none that can be read.
        UnreachableError: the model could not be had.
    """
    invalid = problems_of(deployment)
    if invalid is not None:
        raise RefusedError(f"{deployment.name}: {invalid}")
    model = deployment.spec.model
    try:
        facts = facts_by_id(model.id, model.revision, hub)
        serving = serving_for(deployment.spec, choose_engine(deployment.spec, settings).version)
    except HubProblem as problem:
        raise command_error(problem.failure, model.id) from None
    except EngineVersionUnknownError as error:
        raise RefusedError(f"{deployment.name}: {error}") from None
    return size(facts, serving, survey.pools)
