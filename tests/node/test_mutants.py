"""The smoke suite on engines that are broken on purpose, and on one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sandbox.kubectl import Kubectl
from support.on_node import condition, small_deployment, wait_for_condition
from support.stand import Stand

_BROKEN = {
    "empty": "not-empty",
    "repeated": "not-one-repeated-token",
    "renamed": "served-model-name",
}


@pytest.fixture(scope="module")
def engines(mutants: str, kubectl: Kubectl, shared_namespace: str) -> str:
    """All of them at once; returns their namespace."""
    kubectl.apply([_deployment(name, shared_namespace, mutants) for name in (*_BROKEN, "sound")])
    return shared_namespace


def _deployment(name: str, namespace: str, image: str) -> dict[str, Any]:
    engine = {"type": "vLLM", "image": image, "env": [{"name": "MUTANT", "value": name}]}
    resources = {
        part: {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
        for part in ("download", "server", "test")
    }
    return small_deployment(name, namespace, "tiny/llama-chat", engine=engine, resources=resources)


@pytest.mark.parametrize(("name", "assertion"), _BROKEN.items(), ids=list(_BROKEN))
def test_a_broken_engine_fails_the_smoke_suite_and_the_assertion_is_named(
    stand: Stand, engines: str, name: str, assertion: str
) -> None:
    found = wait_for_condition(stand, name, engines, "Tested", status="False", reason="TestFailed")

    assert assertion in condition(found, "Tested")["message"]
    assert condition(found, "Available")["status"] == "False"


def test_the_same_engine_unbroken_passes(stand: Stand, engines: str) -> None:
    found = wait_for_condition(stand, "sound", engines, "Ready")

    assert found["status"]["test"]["failed"] == 0
