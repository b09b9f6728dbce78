"""Sizing says no, or not yet: nothing is made, what is good goes on serving, and a kept plan stands."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from lives import settled
from parts import MODEL, plan_for
from world import World

from plimsoll.api.conditions import Reason
from plimsoll.api.spec import ModelDeployment
from plimsoll.reconcile.decide import SizingOutcome, Waiting
from plimsoll.reconcile.sources import HubFailure, HubFailureKind
from plimsoll.sizing.plan import Refusal, RefusalReason

Json = dict[str, Any]


def refuse(_deployment: ModelDeployment) -> SizingOutcome:
    return Refusal(
        reason=RefusalReason.DOES_NOT_FIT,
        message="691 GiB are needed per replica and 640 GiB are there",
        would_fit=("16 x H100 80 GB on 2 nodes", "8 x H200"),
    )


def hub(kind: HubFailureKind, seconds: float | None = None) -> Callable[[ModelDeployment], SizingOutcome]:
    failure = HubFailure(kind=kind, message="The Hub says no; do something", retry_after_seconds=seconds)
    return lambda _deployment: failure


def wait(reason: Reason, *, planned: bool = False) -> Callable[[ModelDeployment], SizingOutcome]:
    def outcome(deployment: ModelDeployment) -> SizingOutcome:
        return Waiting(
            reason=reason,
            message="Something is short; add it.",
            plan=plan_for(deployment) if planned else None,
        )

    return outcome


@pytest.mark.parametrize(
    ("sizing", "reason", "summary", "requeue"),
    [
        pytest.param(refuse, "DoesNotFit", "Stalled", None, id="refused"),
        pytest.param(
            hub(HubFailureKind.INVALID_REFERENCE), "InvalidSpec", "Stalled", 300.0, id="no such name"
        ),
        pytest.param(
            hub(HubFailureKind.NOT_FOUND), "ModelNotFound", "Stalled", 300.0, id="no such repository"
        ),
        pytest.param(
            hub(HubFailureKind.REVISION_NOT_FOUND),
            "RevisionNotFound",
            "Stalled",
            300.0,
            id="no such revision",
        ),
        pytest.param(hub(HubFailureKind.GATED), "Gated", "Stalled", 300.0, id="gated"),
        pytest.param(hub(HubFailureKind.TOKEN_REFUSED), "TokenRefused", "Stalled", 300.0, id="token refused"),
        pytest.param(
            hub(HubFailureKind.RATE_LIMITED, 17.0), "RateLimited", "Reconciling", 17.0, id="rate limited"
        ),
        pytest.param(
            hub(HubFailureKind.UNREACHABLE), "HubUnreachable", "Reconciling", 30.0, id="unreachable"
        ),
        pytest.param(
            hub(HubFailureKind.NOT_A_TRANSFORMER), "NotATransformer", "Stalled", 300.0, id="not a transformer"
        ),
        pytest.param(
            hub(HubFailureKind.CONFIG_NOT_JSON), "ConfigInvalid", "Stalled", 300.0, id="config no JSON"
        ),
        pytest.param(
            hub(HubFailureKind.CONFIG_TOO_LARGE), "ConfigInvalid", "Stalled", 300.0, id="config too large"
        ),
        pytest.param(
            wait(Reason.SECRET_NOT_FOUND), "SecretNotFound", "Reconciling", 60.0, id="secret missing"
        ),
        pytest.param(wait(Reason.INVALID_SPEC), "InvalidSpec", "Stalled", 60.0, id="invalid spec"),
        pytest.param(
            wait(Reason.QUOTA_EXCEEDED, planned=True), "QuotaExceeded", "Reconciling", 60.0, id="quota short"
        ),
    ],
)
def test_without_a_plan_to_act_on_nothing_is_made(
    sizing: Callable[[ModelDeployment], SizingOutcome], reason: str, summary: str, requeue: float | None
) -> None:
    world = World(sizing=sizing)
    decision = world.settle()

    assert world.objects == {}
    assert world.summary()["Sized"] == f"False {reason}"
    assert world.summary()["Ready"] == f"False {reason}"
    assert world.condition(summary)["status"] == "True"
    assert world.summary()["Downloaded"] == "False Waiting"
    assert decision.requeue_after_seconds == requeue
    assert world.status_writes == 1
    assert world.take_events() == [f"Warning {reason}"]

    world.sizing = plan_for
    world.settle()

    assert world.summary()["Ready"] == "True Serving"


def test_every_hub_failure_has_a_reason() -> None:
    for kind in HubFailureKind:
        world = settled(sizing=hub(kind))
        assert world.summary()["Sized"].startswith("False ")


def test_a_refusal_ends_with_what_would_fit() -> None:
    world = settled(sizing=refuse)

    assert world.condition("Sized")["message"] == (
        "691 GiB are needed per replica and 640 GiB are there. What would fit: 16 x H100 80 GB on 2 nodes; 8 x H200."
    )


@pytest.mark.parametrize(
    "sizing",
    [refuse, hub(HubFailureKind.UNREACHABLE), wait(Reason.SECRET_NOT_FOUND), wait(Reason.INVALID_SPEC)],
    ids=["refused", "hub down", "secret missing", "invalid"],
)
def test_the_last_good_goes_on_serving_while_an_edit_has_no_plan(
    sizing: Callable[[ModelDeployment], SizingOutcome],
) -> None:
    world = settled()
    hash_ = world.status["revision"]["hash"]
    before = copy.deepcopy(world.of("Deployment"))
    world.sizing = sizing
    world.edit(model={"id": MODEL, "revision": "v9"}, replicas=2)
    world.settle()

    assert world.summary()["Available"] == "True ServingLastGood"
    assert world.public_revision() == hash_
    assert world.summary()["Ready"].startswith("False")
    assert [item["spec"]["template"] for item in before] == [
        item["spec"]["template"] for item in world.of("Deployment")
    ]
    assert world.status["replicas"] == 2

    world.edit(suspend=True)
    world.settle()
    assert [item["spec"]["replicas"] for item in world.of("Deployment")] == [0]

    world.edit(suspend=None, replicas=1)
    world.sizing = plan_for
    world.settle()
    assert world.summary()["Ready"] == "True Serving"
    assert world.status["revision"]["lastGood"] != hash_


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(refuse, "False PlanNoLongerPlaces", id="pools are gone"),
        pytest.param(hub(HubFailureKind.UNREACHABLE), "True Planned", id="hub is down"),
        pytest.param(wait(Reason.SECRET_NOT_FOUND), "True Planned", id="token is gone"),
        pytest.param(
            wait(Reason.PLAN_NO_LONGER_PLACES, planned=True),
            "False PlanNoLongerPlaces",
            id="said by the controller",
        ),
    ],
)
def test_a_plan_from_the_same_inputs_is_kept(
    outcome: Callable[[ModelDeployment], SizingOutcome], expected: str
) -> None:
    world = settled()
    plan = world.status["plan"]
    world.sizing = outcome
    world.settle()

    assert world.status["plan"] == plan
    assert world.summary()["Sized"] == expected
    assert world.summary()["Ready"] == "True Serving"
    assert len(world.of("Deployment")) == 1


def test_another_plan_from_the_same_inputs_does_not_replace_the_kept_one() -> None:
    world = settled()
    world.sizing = lambda deployment: plan_for(deployment, max_model_len=1024)
    world.settle()

    assert world.status["plan"]["maxModelLen"] == 32768


def test_quota_that_shrinks_later_stops_nothing_that_has_begun() -> None:
    world = settled()
    world.sizing = wait(Reason.QUOTA_EXCEEDED, planned=True)
    world.settle()

    assert world.summary()["Sized"] == "False QuotaExceeded"
    assert world.summary()["Ready"] == "True Serving"


def test_event_notes_fit() -> None:
    world = settled(sizing=lambda _: Waiting(reason=Reason.INVALID_SPEC, message="x" * 5000 + "."))

    assert [len(event.message) for event in world.events] == [1024]
