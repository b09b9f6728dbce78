"""Events: one for every condition that changed, and for traffic that moved; none while nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import TERMINAL_REASONS, ConditionType, Reason
from plimsoll.reconcile.decision import Event
from plimsoll.reconcile.measured import plan_note
from plimsoll.reconcile.replanning import replan_note
from plimsoll.reconcile.situation import last_good

if TYPE_CHECKING:
    from plimsoll.api.status import Condition, ModelDeploymentStatus

MAX_NOTE_CHARACTERS: Final = 1024  # core/v1 and events.k8s.io refuse longer ones

# Said by the condition of the stage that is waited for.
_QUIET: Final = frozenset({Reason.WAITING, Reason.PROGRESSING, Reason.NOT_SERVING})
_WARNINGS: Final = TERMINAL_REASONS | {
    Reason.SECRET_NOT_FOUND,
    Reason.RATE_LIMITED,
    Reason.HUB_UNREACHABLE,
    Reason.NO_MATCHING_NODE,
    Reason.QUOTA_EXCEEDED,
    Reason.PLAN_NO_LONGER_PLACES,
    Reason.VOLUME_PENDING,
    Reason.CLAIM_NOT_FOUND,
    Reason.UNSCHEDULABLE,
    Reason.GPU_IN_USE,
    Reason.IMAGE_PULL_FAILED,
    Reason.SUITE_NOT_FOUND,
}
# Their summary repeats what a stage already said; only becoming ready is news.
_SUMMARIES: Final = frozenset(
    {ConditionType.READY.value, ConditionType.RECONCILING.value, ConditionType.STALLED.value}
)


def events_between(before: ModelDeploymentStatus, after: ModelDeploymentStatus) -> tuple[Event, ...]:
    """What happened, in the order of the stages; the same news twice (suspended) is told once."""
    old = {condition.type: condition for condition in before.conditions or ()}
    events: dict[tuple[str, str], Event] = {}
    for condition in after.conditions or ():
        if _is_news(old.get(condition.type), condition):
            event = _event(condition)
            events.setdefault((event.reason, condition.reason), event)
    moved_to = last_good(after)
    if moved_to is not None and last_good(before) not in {None, moved_to}:
        message = f"The public Service moves from revision {last_good(before)} to {moved_to}."
        events[("TrafficMoved", "")] = Event(type="Normal", reason="TrafficMoved", message=message)
    replanned = replan_note(after)
    if replanned is not None and replanned != replan_note(before):
        events[("PlannedAnew", "")] = Event(type="Warning", reason="PlannedAnew", message=replanned)
    note = plan_note(after)
    if note is not None and note != plan_note(before):
        events[("PlanDiffers", "")] = Event(type="Warning", reason="PlanDiffers", message=_clip(note))
    return tuple(events.values())


def _is_news(old: Condition | None, new: Condition) -> bool:
    if new.type in _SUMMARIES:
        became_ready = new.type == ConditionType.READY and new.status == "True"
        return became_ready and (old is None or old.status != "True")
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return False
    if new.reason in _QUIET:
        lost = old is not None and old.status == "True" and new.type == ConditionType.AVAILABLE
        return lost and new.reason == Reason.NOT_SERVING
    return True


def _event(condition: Condition) -> Event:
    lost = condition.type == ConditionType.AVAILABLE and condition.reason == Reason.NOT_SERVING
    reason = "Ready" if condition.type == ConditionType.READY else condition.reason
    return Event(
        type="Warning" if lost or condition.reason in _WARNINGS else "Normal",
        reason=reason,
        message=_clip(condition.message),
    )


def _clip(message: str) -> str:
    return message if len(message) <= MAX_NOTE_CHARACTERS else message[: MAX_NOTE_CHARACTERS - 3] + "..."
