"""What a live engine reports of its KV cache, held against the plan: to the token, where the space is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plimsoll.sandbox.processes import wait_until
from support.early import Early, name_of
from support.node_models import MEASURED
from support.on_node import wait_for_condition
from support.stand import Stand

_KIND = "modeldeployments.plimsoll.dev"
_SECONDS = 180.0  # asked as soon as it is Loaded, and again after a quarter of a minute


@pytest.fixture(scope="module")
def namespace(stand: Stand, at_work: Early) -> Iterator[str]:
    """Where the engines are; they go when they were looked at."""
    yield at_work.namespace
    names = map(name_of, MEASURED)
    stand.kubectl("delete", _KIND, *names, "-n", at_work.namespace, "--wait=false")


@pytest.mark.parametrize("model_id", MEASURED)
def test_plan_and_engine_agree_to_the_token(stand: Stand, namespace: str, model_id: str) -> None:
    name = name_of(model_id)
    wait_for_condition(stand, name, namespace, "Loaded")
    found = _measured(stand, name, namespace)
    plan, measured = found["status"]["plan"], found["status"]["measured"]

    assert measured["kvCacheTokens"] == plan["kvCacheTokens"]
    assert (measured["blocks"], measured["blockSize"]) == (plan["kvCacheBlocks"], 128)
    assert measured["version"].startswith(plan["engineVersion"])
    assert measured["errorPercent"] == "0.00"
    series = f'plimsoll_plan_error_percent{{name="{name}",namespace="{namespace}"}} 0.00'
    assert series in stand.metrics().splitlines()


def _measured(stand: Stand, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def told() -> bool:
        stand.check()
        found.update(stand.kubectl.get(_KIND, name, "-n", namespace))
        return "measured" in found["status"]

    wait_until(told, what=f"what the engine of {name} measured", seconds=_SECONDS, poll_seconds=0.5)
    return found
