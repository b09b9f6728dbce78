"""The first half of a reconcile: from a spec to a plan, a refusal, a failure of the Hub, or something to wait for.

A plan that is kept in status is used as long as what it was made from is the same; the Hub is asked only for
a new one. Nothing is decided here but the order of the questions: each answer is a pure rule of `reconcile`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.api.status import PlanStatus
from plimsoll.cluster.kinds import NODE, RESOURCE_QUOTA
from plimsoll.cluster.secrets import SecretProblem, read_token
from plimsoll.hub.errors import HubProblem
from plimsoll.manifests import labels
from plimsoll.manifests.context import Context
from plimsoll.manifests.names import label_value
from plimsoll.manifests.revision import revision_hash
from plimsoll.reconcile.node_pools import placeable, survey_nodes
from plimsoll.reconcile.outcome import SizingOutcome, Waiting
from plimsoll.reconcile.planning import inputs_hash, plan_for
from plimsoll.reconcile.quota import needs, shortfalls
from plimsoll.reconcile.sources import DEFAULT_REVISION
from plimsoll.reconcile.validate import validate

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.api.status import ModelDeploymentStatus
    from plimsoll.cluster.client import ClusterClient
    from plimsoll.cluster.store import Store
    from plimsoll.controller.metrics import Metrics
    from plimsoll.manifests.context import Settings
    from plimsoll.sizing.facts import ModelFacts

# The Hub's client has its own deadline; this one also bounds the wait for another's flight.
HUB_SECONDS: Final = 45.0


class Hub(Protocol):
    """What answers for a model: the Hub through its cache."""

    @property
    def endpoint(self) -> str:
        """The Hub's base URL."""

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        """The facts of one revision."""


class Sizer:
    """Answers how a ModelDeployment is to be run."""

    def __init__(
        self, *, client: ClusterClient, store: Store, hub: Hub, settings: Settings, metrics: Metrics
    ) -> None:
        """Read Secrets through the client, nodes and quotas from the store, models from the Hub."""
        self._client = client
        self._store = store
        self._hub = hub
        self._settings = settings
        self._metrics = metrics

    async def size(self, deployment: ModelDeployment, previous: ModelDeploymentStatus) -> SizingOutcome:
        """The plan to act on, or why there is none.

        Raises:
            ClusterError: the API server did not answer.
        """
        problems = validate(deployment.spec)
        if problems:
            return Waiting(reason=Reason.INVALID_SPEC, message=" ".join(str(problem) for problem in problems))
        survey = survey_nodes(self._store.all(NODE), deployment.spec)
        kept = previous.plan
        if kept is not None and kept.inputs_hash == inputs_hash(deployment):
            if not placeable(kept, survey.pools):
                return _no_longer_places(kept)
            return kept if _settled(deployment, previous) else self._within_quota(deployment, kept)
        try:
            facts = await self._facts(deployment)
        except SecretProblem as problem:
            return Waiting(reason=problem.reason, message=str(problem))
        except HubProblem as problem:
            self._metrics.hub_asked(problem.kind.value)
            return problem.failure
        self._metrics.hub_asked("Answered")
        outcome = plan_for(deployment, facts, survey.pools, self._settings, survey.left_out, survey.elsewhere)
        return self._within_quota(deployment, outcome) if isinstance(outcome, PlanStatus) else outcome

    async def _facts(self, deployment: ModelDeployment) -> ModelFacts:
        model = deployment.spec.model
        token = None
        if model.token_secret_ref is not None:
            token = await read_token(
                self._client, deployment.namespace, model.token_secret_ref, self._hub.endpoint
            )
        async with asyncio.timeout(HUB_SECONDS):
            return await self._hub.fetch(model.id, model.revision or DEFAULT_REVISION, token)

    def _within_quota(self, deployment: ModelDeployment, plan: PlanStatus) -> SizingOutcome:
        quotas = [
            quota
            for quota in self._store.all(RESOURCE_QUOTA)
            if quota["metadata"].get("namespace") == deployment.namespace
        ]
        children = self._store.children(deployment.namespace, label_value(deployment.name))
        context = Context(deployment=deployment, plan=plan, settings=self._settings)
        need = needs(plan, deployment.spec)
        short = shortfalls(need, quotas, children, revision=revision_hash(context))
        if not short:
            return plan
        text = "; ".join(str(shortfall) for shortfall in short)
        return Waiting(
            reason=Reason.QUOTA_EXCEEDED,
            message=f"{text}; raise the quota or free what is used, and it goes on by itself.",
            plan=plan,
        )


def _settled(deployment: ModelDeployment, status: ModelDeploymentStatus) -> bool:
    """Whether all that this generation needs is there: a quota that others fill up later takes nothing away."""
    if status.observed_generation != deployment.generation:
        return False
    return any(one.type == ConditionType.READY and one.status == "True" for one in status.conditions or ())


def _no_longer_places(plan: PlanStatus) -> Waiting:
    product = plan.hardware.product or "a CPU-only node"
    return Waiting(
        reason=Reason.PLAN_NO_LONGER_PLACES,
        message=(
            f"the plan needs {plan.gpus} x {product} on {plan.nodes} node(s), which the cluster no longer has; bring "
            f"the nodes back, or set the annotation {labels.REPLAN} to any new value for a plan on what is there."
        ),
        plan=plan,
    )
