"""What the tests of whole lives share: a ModelDeployment that is ready or settled, and scripts of failures."""

from __future__ import annotations

from typing import Any

from parts import test_message
from world import Script, World

READY = {
    "Sized": "True Planned",
    "Downloaded": "True DownloadComplete",
    "Loaded": "True EngineReady",
    "Tested": "True Passed",
    "Available": "True Serving",
    "Ready": "True Serving",
}


def ready_world(**changes: object) -> World:
    world = World(**changes)  # type: ignore[arg-type]
    world.settle()
    assert world.summary() == READY
    world.take_events()
    world.applied.clear()
    world.status_writes = 0
    return world


def the_hash(world: World) -> str:
    return str(world.status["revision"]["hash"])


def failing(revision_that_passes: str) -> Script:
    return Script(
        test=lambda revision: (
            "complete" if revision == revision_that_passes else f"fail:100:{test_message(2)}"
        )
    )


def settled(script: Script | None = None, **changes: Any) -> World:
    world = World(script=script or Script(), **changes)
    world.settle()
    return world


def engine(behaviour: str) -> Script:
    return Script(engine=lambda _: behaviour)


def download(behaviour: str) -> Script:
    return Script(download=lambda _: behaviour)


def suite_test(behaviour: str) -> Script:
    return Script(test=lambda _: behaviour)
