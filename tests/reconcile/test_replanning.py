"""An engine that refuses the planned length: planned anew once with its own, or refused where the length is the user's."""

from __future__ import annotations

from typing import Any

import pytest
from lives import READY, settled, the_hash
from parts import ENGINE_PODS, MODEL, waiting
from world import Script, World

from plimsoll.manifests import labels

Json = dict[str, Any]
PLANNED = 32768


def refusal(asked: int, suggested: int) -> str:
    return (
        f"ValueError: To serve at least one request with the model's max seq len ({asked}), (4.26 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (4.25 GiB). Based on the available memory, the "
        f"estimated maximum model length is {suggested}."
    )


def crashed(message: str) -> Json:
    return waiting(
        "CrashLoopBackOff",
        "back-off",
        restartCount=1,
        lastState={"terminated": {"exitCode": 1, "reason": "Error", "message": message}},
    )


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Json:
    """Pod statuses by the name of a behaviour, to be added to."""
    pods = dict(ENGINE_PODS)
    monkeypatch.setattr("world.ENGINE_PODS", pods)
    return pods


def length_of(world: World) -> str:
    (server,) = world.of("Deployment")
    args = server["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(args[args.index("--max-model-len") + 1])


class Engines:
    """Engines that take at most so many tokens, and say so; the behaviours are `ready`, or named by the length."""

    def __init__(self, pods: Json, fits: int, suggests: int | None = None) -> None:
        self.pods, self.fits, self.suggests = pods, fits, suggests or fits
        self.world: World | None = None

    def __call__(self, revision: str | None) -> str:
        assert self.world is not None
        (server,) = [
            item
            for item in self.world.of("Deployment")
            if item["metadata"]["labels"][labels.REVISION] == revision
        ]
        args = server["spec"]["template"]["spec"]["containers"][0]["args"]
        asked = int(args[args.index("--max-model-len") + 1])
        if asked <= self.fits:
            return "ready"
        self.pods[f"refuses-{asked}"] = crashed(refusal(asked, self.suggests))
        return f"refuses-{asked}"


def world_with(engine: Engines, **changes: Any) -> World:
    world = World(script=Script(engine=engine), **changes)
    engine.world = world
    world.settle()
    return world


def test_a_plan_is_made_anew_with_the_length_that_the_engine_suggests(engines: Json) -> None:
    world = world_with(Engines(engines, fits=17472))

    assert world.summary() == READY
    plan = world.status["plan"]
    assert (plan["maxModelLen"], plan["refusedMaxModelLen"]) == (17472, PLANNED)
    assert length_of(world) == "17472"
    assert len(world.revisions()) == 1
    assert the_hash(world) == world.public_revision()
    assert "refused 32768 tokens" in world.condition("Sized")["message"]
    (event,) = [event for event in world.events if event.reason == "PlannedAnew"]
    assert "a context of 32768 tokens" in event.message
    assert "with 17472, which it suggested; set engine.maxModelLen" in event.message


def test_the_revision_that_was_planned_anew_has_a_test_of_its_own(engines: Json) -> None:
    world = world_with(Engines(engines, fits=17472))

    (job,) = [name for kind, name in world.applied if kind == "Job" and "test" in name][:1]
    assert world.job("test")["metadata"]["name"] == job
    assert world.job("test")["metadata"]["labels"][labels.REVISION] == the_hash(world)


def test_it_happens_once(engines: Json) -> None:
    world = world_with(Engines(engines, fits=1000, suggests=17472))

    assert world.summary()["Ready"] == "False KVCacheTooSmall"
    assert world.condition("Stalled")["status"] == "True"
    assert world.status["plan"]["maxModelLen"] == 17472
    assert world.status["plan"]["refusedMaxModelLen"] == PLANNED
    assert [event.reason for event in world.events].count("PlannedAnew") == 1


def test_an_edit_begins_from_the_beginning(engines: Json) -> None:
    world = world_with(Engines(engines, fits=17472))
    world.edit(engine={"vllm": {"maxNumSeqs": 8}})
    world.settle()

    assert world.summary() == READY
    assert (world.status["plan"]["maxModelLen"], world.status["plan"]["refusedMaxModelLen"]) == (
        17472,
        PLANNED,
    )
    assert [event.reason for event in world.events].count("PlannedAnew") == 2


def test_a_length_that_the_user_set_is_refused_with_the_number(engines: Json) -> None:
    spec = {"model": {"id": MODEL}, "engine": {"maxModelLen": 20000}}
    world = world_with(Engines(engines, fits=17472), spec=spec)

    assert world.summary()["Loaded"] == "False KVCacheTooSmall"
    assert world.summary()["Stalled"] == "True KVCacheTooSmall"
    assert "refusedMaxModelLen" not in world.status["plan"]
    assert length_of(world) == "20000"
    message = world.condition("Loaded")["message"]
    assert "max seq len (20000)" in message
    assert message.endswith("; set engine.maxModelLen to at most 17472, which fits.")


def test_a_suggestion_that_is_no_shorter_changes_nothing(engines: Json) -> None:
    world = world_with(Engines(engines, fits=1, suggests=PLANNED))

    assert world.status["plan"]["maxModelLen"] == PLANNED
    assert world.summary()["Ready"] == "False KVCacheTooSmall"


def test_a_server_that_answers_was_not_refused(engines: Json) -> None:
    world = settled()
    (server,) = world.of("Deployment")
    before = the_hash(world)
    for (kind, _), pod in world.objects.items():
        if kind == "Pod" and pod["metadata"]["labels"][labels.COMPONENT] == "server":
            pod["status"] = crashed(refusal(PLANNED, 17472))
    assert server["status"]["readyReplicas"] == 1
    world.step()

    assert the_hash(world) == before


def test_the_last_good_revision_serves_while_an_edited_one_is_planned_anew(engines: Json) -> None:
    engine = Engines(engines, fits=PLANNED)
    world = world_with(engine)
    good = the_hash(world)
    engine.fits = engine.suggests = 17472
    world.script.engine = lambda revision: "ready" if revision == good else engine(revision)
    world.edit(engine={"vllm": {"maxNumSeqs": 8}})
    world.settle()

    assert world.summary() == READY
    assert world.public_revision() != good
    assert set(world.services_seen) == {None, good, world.public_revision()}
    assert world.status["plan"]["maxModelLen"] == 17472
