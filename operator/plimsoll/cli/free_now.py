"""Whether a plan finds its GPUs free, and what the free ones would serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.api.status import PlanStatus
from plimsoll.reconcile.node_pools import placeable
from plimsoll.reconcile.planning import plan_for
from plimsoll.units import format_count

if TYPE_CHECKING:
    from plimsoll.cli.planned import Verdict
    from plimsoll.cli.supply import Supply
    from plimsoll.manifests.context import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeNow:
    """The answer for one plan.

    Attributes:
        places: enough GPUs of the planned kind are free.
        instead: the plan that the free nodes would get, where they are not.
    """

    name: str
    product: str
    places: bool
    instead: PlanStatus | None = None


def free_now(verdict: Verdict, supply: Supply, settings: Settings) -> FreeNow | None:
    """Hold a plan against what other pods leave; None where that is not known or no GPU is planned."""
    plan = verdict.plan
    survey = supply.free_survey(verdict.deployment)
    if plan is None or not plan.gpus or survey is None or verdict.facts is None:
        return None
    product = plan.hardware.product or "GPU"
    if placeable(plan, survey.pools):
        return FreeNow(name=verdict.deployment.name, product=product, places=True)
    other = plan_for(verdict.deployment, verdict.facts, survey.pools, settings, survey.left_out)
    return FreeNow(
        name=verdict.deployment.name,
        product=product,
        places=False,
        instead=other if isinstance(other, PlanStatus) else None,
    )


def document(answer: FreeNow) -> dict[str, Any]:
    """The answer as JSON."""
    return {
        "places": answer.places,
        "instead": answer.instead.to_json() if answer.instead is not None else None,
    }


def sentence(answer: FreeNow) -> str:
    """The answer where the GPUs are not free."""
    start = f"{answer.name}: not enough {answer.product} are free now, so its pod would wait"
    other = answer.instead
    if other is None:
        return f"{start}; no other GPUs that are free would serve it."
    return (
        f"{start}; what is free now would serve it on {other.gpus} x {other.hardware.product} (TP "
        f"{other.tensor_parallel_size}) with a context of {format_count(other.max_model_len)} tokens: name that in "
        "spec.hardware.gpu.product."
    )
