"""The one plan anew: with the context length that the engine suggested when it refused the planned one.

It stands in status.plan under the hash of the inputs, so it happens once for them: an edit of what a plan is made
from, or the annotation plimsoll.dev/replan, begins from the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plimsoll.reconcile.serving_stage import refused_length

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.api.status import ModelDeploymentStatus, PlanStatus
    from plimsoll.reconcile.observed import Observed


def plan_anew(
    deployment: ModelDeployment, plan: PlanStatus, observed: Observed, revision: str
) -> PlanStatus | None:
    """The plan with the length that the engine of this revision suggests; None: there is nothing to change.

    A length that the user set is the user's: it is never changed, only refused with the number. A server that
    answers was not refused, whatever one of its pods said before.
    """
    engine = deployment.spec.engine
    if plan.refused_max_model_len is not None or (engine is not None and engine.max_model_len is not None):
        return None
    suggested = refused_length(deployment, observed, revision)
    if suggested is None or suggested >= plan.max_model_len:
        return None
    return plan.model_copy(
        update={
            "max_model_len": suggested,
            "refused_max_model_len": plan.max_model_len,
            "limited_by": f"the engine, which refused {plan.max_model_len} tokens and suggested this length",
            # The longest length that fits is the one at which a single request fills the cache.
            "max_concurrency": "1",
        }
    )


def replan_note(status: ModelDeploymentStatus) -> str | None:
    """The event's sentence about a plan that was made anew."""
    plan = status.plan
    if plan is None or plan.refused_max_model_len is None:
        return None
    return (
        f"The engine refused a context of {plan.refused_max_model_len} tokens, so the plan was made anew, once, with "
        f"{plan.max_model_len}, which it suggested; set engine.maxModelLen to fix a length."
    )
