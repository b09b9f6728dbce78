"""Admission of ModelDeployments: every error at once, and the plan as warnings.

What is refused and what is only warned of: GitOps tools apply objects in any order, and apply them again and
again, so an object may be refused only for what no edit of anything but itself can mend.
- Refused: a spec that the types cannot read, every problem that `reconcile.validate` finds (conflicting
  arguments, malformed quantities, options that the engine does not have), an engine version that cannot be
  told, an option that vLLM refuses everywhere, a parallelism that does not divide the model.
- Admitted with a warning: whatever depends on the cluster (nodes that are missing or too small, a quota) or on
  the Hub (gated, not found, not reached in time, a model that this version cannot size). The operator reports
  the same in the status, and goes on by itself when it changes.
An update that leaves the spec as it is is never refused: it may be the one that lets the object go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from plimsoll.api.malformed import malformed_fields
from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import PlanStatus
from plimsoll.cluster.errors import ClusterError
from plimsoll.hub.errors import HubProblem
from plimsoll.reconcile.advice import admission_warnings
from plimsoll.reconcile.node_pools import survey_nodes
from plimsoll.reconcile.planning import plan_for
from plimsoll.reconcile.quota import needs, shortfalls
from plimsoll.reconcile.validate import validate
from plimsoll.sizing.plan import RefusalReason
from plimsoll.webhook.facts import quick_facts

if TYPE_CHECKING:
    from plimsoll.manifests.context import Settings
    from plimsoll.webhook.cached import CachedReads
    from plimsoll.webhook.facts import Hub

MAX_WARNING_LENGTH: Final = 240
# Reasons that lie in the spec alone, whatever the cluster has.
_OF_THE_SPEC: Final = frozenset({RefusalReason.UNSUPPORTED_OPTION, RefusalReason.NOT_DIVISIBLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer: refused if there is an error."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ModelDeploymentReview:
    """Looks at one ModelDeployment as it is sent."""

    def __init__(self, *, reads: CachedReads, hub: Hub, settings: Settings) -> None:
        """The settings are the operator's, or the two would come to other plans."""
        self._reads = reads
        self._hub = hub
        self._settings = settings

    async def review(self, body: dict[str, Any], old: dict[str, Any] | None) -> Verdict:
        """Judge a new or a changed object."""
        if (body.get("metadata") or {}).get("deletionTimestamp") is not None:
            return Verdict()
        if old is not None and old.get("spec") == body.get("spec"):
            return Verdict()
        try:
            deployment = ModelDeployment.from_object(body)
        except ValidationError as error:
            return Verdict(errors=malformed_fields(error))
        problems = validate(deployment.spec)
        if problems:
            return Verdict(errors=tuple(str(problem) for problem in problems))
        return await self._advise(deployment)

    async def _advise(self, deployment: ModelDeployment) -> Verdict:
        spec = deployment.spec
        try:
            facts = await quick_facts(self._hub, spec.model.id, spec.model.revision)
            nodes = await self._reads.nodes()
            quotas = await self._reads.quotas(deployment.namespace)
        except HubProblem as problem:
            return Verdict(warnings=(cut(f"not sized yet: {problem}"),))
        except ClusterError as error:
            return Verdict(warnings=(cut(f"not sized yet: {error}; the operator does it."),))
        survey = survey_nodes(nodes, spec)
        outcome = plan_for(deployment, facts, survey.pools, self._settings, survey.left_out, survey.elsewhere)
        if not isinstance(outcome, PlanStatus) and outcome.reason in _OF_THE_SPEC:
            return Verdict(errors=(outcome.message,))
        warnings = [cut(text) for text in admission_warnings(outcome, spec)]
        if isinstance(outcome, PlanStatus):
            short = shortfalls(needs(outcome, spec), quotas, ())
            warnings += [cut(str(shortfall)) for shortfall in short]
        return Verdict(warnings=tuple(warnings))


def cut(text: str) -> str:
    """One line of at most 240 characters: kubectl shows each warning on a line, and the API server cuts the sum."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_WARNING_LENGTH else f"{line[: MAX_WARNING_LENGTH - 3]}..."
