"""Laws of the decision, over random lives: edits, failures, deletions and outages in any order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import MODEL, plan_for, test_message
from world import SETTINGS, Script, World

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import ModelDeploymentStatus
from plimsoll.manifests import labels
from plimsoll.reconcile.decide import Waiting, decide
from plimsoll.reconcile.decision import Decision
from plimsoll.reconcile.sources import HubFailure, HubFailureKind
from plimsoll.sizing.plan import Refusal, RefusalReason

ENGINES = ["ready", "loading", "crash", "oom", "pull", "secret", "unschedulable"]
JOBS = ["complete", "run", "pull", "unschedulable", "fail:1:boom", f"fail:100:{test_message(2)}"]
KINDS = ["Deployment", "Service", "ConfigMap", "Job", "PersistentVolumeClaim", "Pod"]
SIZINGS: dict[str, Callable[[ModelDeployment], Any]] = {
    "planned": plan_for,
    "refused": lambda _: Refusal(reason=RefusalReason.DOES_NOT_FIT, message="too large"),
    "hub down": lambda _: HubFailure(kind=HubFailureKind.UNREACHABLE, message="down; wait."),
    "no secret": lambda _: Waiting(reason=Reason.SECRET_NOT_FOUND, message="no Secret; make it."),
    "invalid": lambda _: Waiting(reason=Reason.INVALID_SPEC, message="wrong; edit."),
    "no quota": lambda d: Waiting(reason=Reason.QUOTA_EXCEEDED, message="short; ask.", plan=plan_for(d)),
    "no pool": lambda d: Waiting(
        reason=Reason.PLAN_NO_LONGER_PLACES, message="gone; wait.", plan=plan_for(d)
    ),
}


@dataclass
class Watched:
    """A world whose every step is checked against what really happened in it."""

    world: World = field(default_factory=World)
    passed: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)

    def step(self) -> None:
        world = self.world
        before = world.public_revision()
        self._check_idempotence()
        decision = world.step()
        after = world.public_revision()
        self._check(decision, before, after)

    def play(self) -> None:
        self.world.play()
        for item in self.world.of("Deployment"):
            if item["status"]["readyReplicas"]:
                self.loaded.add(item["metadata"]["labels"][labels.REVISION])
        for item in self.world.of("Job"):
            about = item["metadata"]["labels"]
            conditions = item["status"].get("conditions", [])
            if about[labels.COMPONENT] == "test" and any(c["type"] == "Complete" for c in conditions):
                self.passed.add(about[labels.REVISION])

    def _check_idempotence(self) -> None:
        world = self.world
        deployment, observed = world.deployment, world.observed()
        sized = world.sizing(deployment)
        first = decide(deployment, world.previous(), sized, observed, SETTINGS, world.now)
        written = ModelDeploymentStatus.model_validate(first.status) if first.status else world.previous()
        again = decide(deployment, written, sized, observed, SETTINGS, world.now)
        assert (again.status, again.events) == (None, ())

    def _check(self, decision: Decision, before: str | None, after: str | None) -> None:
        world = self.world
        gate = world.spec.get("test", {}).get("gate", "Required")
        assert [item for item in decision.delete if item.kind == "PersistentVolumeClaim"] == []
        assert before is None or after is not None
        if after != before and after != world.status["revision"].get("lastGood", after):
            raise AssertionError("the status names another revision than the Service")
        if after not in {None, before}:
            assert after in (self.passed if gate == "Required" else self.loaded | self.passed)
        conditions = world.summary()
        if conditions["Ready"].startswith("True"):
            assert after == world.status["revision"]["hash"]
            assert gate != "Required" or after in self.passed
            assert conditions["Available"] == "True Serving"
        assert not {"Stalled", "Reconciling"} <= set(conditions)
        assert decision.status is not None or decision.events == ()
        for condition in world.status["conditions"]:
            assert condition["observedGeneration"] == world.generation
            assert condition["message"].endswith(".")
            assert condition["reason"] in set(Reason)
            assert condition["type"] in set(ConditionType)


EDITS = st.one_of(
    st.sampled_from(["main", "v2", "v3"]).map(lambda r: {"model": {"id": MODEL, "revision": r}}),
    st.sampled_from([4096, 8192]).map(lambda n: {"engine": {"maxModelLen": n}}),
    st.sampled_from([0, 1, 2, 4, 6]).map(lambda n: {"replicas": n}),
    st.booleans().map(lambda b: {"suspend": b}),
    st.sampled_from(["Required", "ReportOnly", "Off"]).map(lambda g: {"test": {"gate": g}}),
    st.just({"test": {"promptfoo": {"tests": [{"assert": [{"type": "is-json"}]}]}}}),
    st.sampled_from(["1", "2"]).map(lambda cpu: {"resources": {"server": {"requests": {"cpu": cpu}}}}),
)
ACTIONS = st.one_of(
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("play"), st.none()),
    st.tuples(st.just("turns"), st.integers(1, 8)),
    st.tuples(st.just("edit"), EDITS),
    st.tuples(st.just("engine"), st.sampled_from(ENGINES)),
    st.tuples(st.just("download"), st.sampled_from(JOBS)),
    st.tuples(st.just("test"), st.sampled_from(JOBS)),
    st.tuples(st.just("sizing"), st.sampled_from(sorted(SIZINGS))),
    st.tuples(st.just("replan"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("remove"), st.tuples(st.sampled_from(KINDS), st.integers(0, 5))),
)


def act(watched: Watched, action: str, value: Any) -> None:
    world, script = watched.world, watched.world.script
    if action in {"step", "play"}:
        getattr(watched, action)()
    elif action == "turns":
        for _ in range(value):
            watched.step()
            watched.play()
    elif action == "edit":
        world.edit(**value)
    elif action in {"engine", "download", "test"}:
        setattr(script, action, lambda _: value)
    elif action == "sizing":
        world.sizing = SIZINGS[value]
    elif action == "replan":
        world.annotations = {labels.REPLAN: value}
    elif names := world.names(value[0]):
        world.remove(value[0], names[value[1] % len(names)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS, min_size=1, max_size=25))
def test_any_life_keeps_the_laws_and_ends_ready(actions: list[tuple[str, Any]]) -> None:
    watched = Watched()
    for action, value in actions:
        act(watched, action, value)
    world = watched.world

    # Whatever happened: with everything mended and one edit, it becomes ready, and nothing is left over.
    world.script, world.sizing = Script(), plan_for
    world.annotations = {labels.REPLAN: "mended"}
    world.edit(suspend=None, replicas=1, test=None)
    for _ in range(25):
        before = copy.deepcopy((world.objects, world.status))
        watched.step()
        watched.play()
        if before == (world.objects, world.status):
            break

    assert world.summary()["Ready"] == "True Serving"
    assert {"Stalled", "Reconciling"}.isdisjoint(world.summary())
    assert world.revisions() == {world.status["revision"]["hash"]}
    assert len(world.of("Service")) == 2
    assert len(world.of("ConfigMap")) == 1
    assert len(world.of("Job")) <= 2


@pytest.mark.parametrize("gate", ["Required", "ReportOnly", "Off"])
def test_a_settled_world_costs_no_write(gate: str) -> None:
    world = World(spec={"model": {"id": MODEL}, "test": {"gate": gate}})
    world.settle()
    writes = world.status_writes
    world.take_events()

    for _ in range(5):
        world.step()
        world.play()

    assert world.status_writes == writes
    assert world.take_events() == []


def test_a_decision_is_a_function_of_what_it_is_given() -> None:
    world = World()
    for _ in range(8):
        assert world.decide() == world.decide()
        world.step()
        world.play()
