"""Engines that fail, through the real API server: the reason, the next step, and the one plan made anew."""

from __future__ import annotations

import pytest

BEHAVIOUR = "sandbox.plimsoll.dev/behaviour"


def failing(world, behaviour, **spec):
    return world.manifest(
        model="Qwen/Qwen2.5-7B-Instruct", pod={"annotations": {BEHAVIOUR: behaviour}}, hardware={}, **spec
    )


@pytest.mark.parametrize(
    ("behaviour", "reason", "words"),
    [
        ("out-of-memory", "OutOfMemoryLoading", "Failed to load model - not enough GPU memory"),
        ("crashing-server", "HostOutOfMemory", "raise resources.server.limits.memory."),
        ("throttled-server", "CPUThrottled", "raise resources.server.limits.cpu."),
    ],
)
def test_an_engine_that_fails_says_why_and_what_helps(world, behaviour, reason, words):
    world.apply(failing(world, behaviour))

    world.wait_reason("Loaded", reason)

    assert words in world.message("Loaded")
    world.wait_reason("Stalled", reason)
    assert world.conditions()["Ready"] == ("False", reason)


def test_an_image_that_is_not_there_is_told_where_it_is_needed_first(world):
    world.apply(failing(world, "image-missing"))

    world.wait_reason("Downloaded", "ImageNotFound")

    assert "the registry has no such image" in world.message("Downloaded")


def test_a_length_that_the_engine_refuses_is_planned_anew_once(world):
    world.apply(failing(world, "context-too-long"))

    status = world.wait_ready()["status"]

    plan = status["plan"]
    assert plan["maxModelLen"] == 4096
    assert plan["refusedMaxModelLen"] > 4096
    assert status["test"]["provenContext"] == 4096
    events = world.kubectl("get", "events", "-n", world.namespace).stdout
    assert events.count("PlannedAnew") == 1
    servers = world.children(kinds="deployments")
    assert list(servers) == [f"Deployment/m-{status['revision']['hash']}"]
    world.settle()
    assert world.read()["status"]["plan"] == plan


def test_a_length_of_the_users_own_is_refused_with_the_number(world):
    world.apply(failing(world, "context-too-long", engine={"maxModelLen": 16384}))

    world.wait_reason("Stalled", "KVCacheTooSmall")

    assert world.message("Loaded").endswith("; set engine.maxModelLen to at most 4096, which fits.")
    assert "refusedMaxModelLen" not in world.read()["status"]["plan"]
