"""What the sizing stage hands to `decide`: a plan, a refusal, a failure of the Hub, or something to wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.api.status import PlanStatus
from plimsoll.reconcile.sources import HubFailure
from plimsoll.sizing.plan import Refusal

if TYPE_CHECKING:
    from plimsoll.api.conditions import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Sizing is not done, or its plan may not be acted on.

    Attributes:
        reason: a reason of `Sized` (InvalidSpec, SecretNotFound, QuotaExceeded, PlanNoLongerPlaces, ...).
        message: sentences that end with the next step.
        plan: the plan, where there is one. With QuotaExceeded nothing new is made for it; with
            PlanNoLongerPlaces it is kept and acted on, so that what still runs goes on running.
    """

    reason: Reason
    message: str
    plan: PlanStatus | None = None


SizingOutcome = PlanStatus | Refusal | HubFailure | Waiting
