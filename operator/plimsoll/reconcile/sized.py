"""Stage: what the sizing outcome means for the condition Sized, and which plan is acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.api.status import ModelDeploymentStatus, PlanStatus
from plimsoll.reconcile.outcome import SizingOutcome, Waiting
from plimsoll.reconcile.planning import inputs_hash
from plimsoll.reconcile.quoting import sentence
from plimsoll.reconcile.situation import Finding, no, yes
from plimsoll.reconcile.sources import HubFailure, HubFailureKind

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.sizing.plan import Refusal

HUB_REASONS: Final[dict[HubFailureKind, Reason]] = {
    HubFailureKind.INVALID_REFERENCE: Reason.INVALID_SPEC,
    HubFailureKind.NOT_FOUND: Reason.MODEL_NOT_FOUND,
    HubFailureKind.REVISION_NOT_FOUND: Reason.REVISION_NOT_FOUND,
    HubFailureKind.GATED: Reason.GATED,
    HubFailureKind.TOKEN_REFUSED: Reason.TOKEN_REFUSED,
    HubFailureKind.RATE_LIMITED: Reason.RATE_LIMITED,
    HubFailureKind.UNREACHABLE: Reason.HUB_UNREACHABLE,
    HubFailureKind.NOT_A_TRANSFORMER: Reason.NOT_A_TRANSFORMER,
    HubFailureKind.CONFIG_NOT_JSON: Reason.CONFIG_INVALID,
    HubFailureKind.CONFIG_TOO_LARGE: Reason.CONFIG_INVALID,
}
# A plan that is there stands although its token has gone since.
_NEEDED_FOR_A_NEW_PLAN: Final = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_NOT_USABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """The stage's answer.

    Attributes:
        plan: the plan that is recorded; None: there is none for this spec.
    """

    finding: Finding
    plan: PlanStatus | None


def sized_stage(
    deployment: ModelDeployment, previous: ModelDeploymentStatus, outcome: SizingOutcome
) -> Sized:
    """Judge the outcome; a plan made from the same inputs is kept, whatever sizing would say today."""
    kept = previous.plan
    if kept is not None and kept.inputs_hash != inputs_hash(deployment):
        kept = None
    if isinstance(outcome, PlanStatus):
        same = kept is not None and kept.inputs_hash == outcome.inputs_hash
        plan = kept if kept is not None and same else outcome
        return Sized(finding=yes(Reason.PLANNED, describe(plan)), plan=plan)
    if isinstance(outcome, Waiting):
        if kept is not None and outcome.reason in _NEEDED_FOR_A_NEW_PLAN:
            return Sized(finding=yes(Reason.PLANNED, describe(kept)), plan=kept)
        return Sized(finding=no(outcome.reason, sentence(outcome.message)), plan=outcome.plan)
    if kept is not None:
        return _kept(kept, outcome)
    if isinstance(outcome, HubFailure):
        return Sized(finding=no(HUB_REASONS[outcome.kind], sentence(outcome.message)), plan=None)
    return Sized(finding=no(Reason(outcome.reason.value), refusal_message(outcome)), plan=None)


def _kept(plan: PlanStatus, outcome: Refusal | HubFailure) -> Sized:
    if isinstance(outcome, HubFailure):
        return Sized(finding=yes(Reason.PLANNED, describe(plan)), plan=plan)
    message = (
        f"The plan ({shape(plan)}) no longer places: {sentence(outcome.message)} What runs is left alone; bring "
        "the nodes back, or set the annotation plimsoll.dev/replan to a new value to plan anew."
    )
    return Sized(finding=no(Reason.PLAN_NO_LONGER_PLACES, message), plan=plan)


def shape(plan: PlanStatus) -> str:
    """The plan in a few words."""
    if not plan.gpus:
        return "CPU only"
    split = f"tensor parallel size {plan.tensor_parallel_size}"
    if plan.pipeline_parallel_size > 1:
        split += f", pipeline parallel size {plan.pipeline_parallel_size}"
    return f"{plan.gpus} x {plan.hardware.product or 'GPU'}, {split}"


def describe(plan: PlanStatus) -> str:
    """The plan in a sentence."""
    return (
        f"{shape(plan)}, context of {plan.max_model_len} tokens, limited by {plan.limited_by}; see status.plan for "
        "the bill."
    )


def refusal_message(refusal: Refusal) -> str:
    """The refusal with what would fit as the next step."""
    message = sentence(refusal.message)
    if not refusal.would_fit:
        return f"{message} Edit spec.model, spec.engine, spec.parallelism or spec.hardware accordingly."
    return f"{message} What would fit: {'; '.join(refusal.would_fit)}."
