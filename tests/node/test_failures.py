"""Engines that end: the operator reads why from the kubelet, and says it in words."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from support.node_models import NO_TOKENIZER
from support.on_node import condition, small_deployment, wait_for_condition
from support.stand import Stand

_RECORDED = Path(__file__).parents[1] / "reconcile" / "recorded_failures" / "quoted.toml"
_SAYS = {name: found["text"] for name, found in tomllib.loads(_RECORDED.read_text()).items()}
_FITS = 5632  # the length that the recorded message of `kv_cache` suggests
_RESOURCES = {
    part: {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    for part in ("download", "server", "test")
}


@pytest.fixture(scope="module")
def failing(mutants: str, kubectl: Kubectl, shared_namespace: str) -> str:
    """All of them at once; returns their namespace."""

    def mutant(name: str, cpu: str = "1", **variables: str) -> dict[str, Any]:
        server = {**_RESOURCES["server"], "limits": {"cpu": cpu, "memory": "256Mi"}}
        env = [{"name": key, "value": value} for key, value in {"MUTANT": name, **variables}.items()]
        engine = {"type": "vLLM", "image": mutants, "env": env}
        return small_deployment(
            name,
            shared_namespace,
            "tiny/long",
            engine=engine,
            resources={**_RESOURCES, "server": server},
            test={"gate": "Off"},
        )

    real = small_deployment("no-tokenizer", shared_namespace, NO_TOKENIZER)
    kubectl.apply(
        [
            mutant("crashing", SAYS=_SAYS["loading"]),
            mutant("short", SAYS=_SAYS["kv_cache"], LONGEST=str(_FITS)),
            mutant("hungry"),
            mutant("busy", cpu="100m"),
            real,
        ]
    )
    return shared_namespace


def test_the_log_of_a_crashed_engine_tells_why(stand: Stand, kubectl: Kubectl, failing: str) -> None:
    found = wait_for_condition(
        stand, "crashing", failing, "Loaded", status="False", reason="OutOfMemoryLoading"
    )

    message = condition(found, "Loaded")["message"]
    assert "CUDA out of memory. Tried to allocate 896.00 MiB" in message
    (pod,) = kubectl.items(
        "pods", "-n", failing, "-l", "plimsoll.dev/model-deployment=crashing,plimsoll.dev/component=server"
    )
    (status,) = pod["status"]["containerStatuses"]
    ended = status["state"].get("terminated") or status["lastState"]["terminated"]
    assert ended["exitCode"] == 1
    assert "CUDA" not in ended["message"]  # so the log was read, and not the termination message


def test_a_length_that_the_engine_refuses_is_planned_anew_once(
    stand: Stand, kubectl: Kubectl, failing: str
) -> None:
    found = wait_for_condition(stand, "short", failing, "Ready")

    plan = found["status"]["plan"]
    assert (plan["refusedMaxModelLen"], plan["maxModelLen"]) == (8192, _FITS)
    events = kubectl.items("events", "-n", failing, "--field-selector", "reason=PlannedAnew")
    assert [event["involvedObject"]["name"] for event in events] == ["short"]


def test_an_engine_that_the_kernel_ends_for_its_memory_is_told(stand: Stand, failing: str) -> None:
    found = wait_for_condition(stand, "hungry", failing, "Loaded", status="False", reason="HostOutOfMemory")

    assert "resources.server.limits.memory" in condition(found, "Loaded")["message"]


def test_vllms_own_words_about_a_missing_tokenizer_are_understood(stand: Stand, failing: str) -> None:
    found = wait_for_condition(
        stand, "no-tokenizer", failing, "Loaded", status="False", reason="TokenizerMissing"
    )

    assert "tokenizer.json" in condition(found, "Loaded")["message"]


def test_a_throttled_engine_that_does_not_come_up_is_told(
    stand: Stand, kubectl: Kubectl, failing: str
) -> None:
    wait_until(
        lambda: kubectl.items("deployments", "-n", failing, "-l", "plimsoll.dev/model-deployment=busy") != (),
        what="the server of busy",
        seconds=180,
        poll_seconds=0.5,
    )
    (server,) = kubectl.items("deployments", "-n", failing, "-l", "plimsoll.dev/model-deployment=busy")

    kubectl.apply([_impatient(server, failing)])

    found = wait_for_condition(stand, "busy", failing, "Loaded", status="False", reason="CPUThrottled")
    assert "raise resources.server.limits.cpu." in condition(found, "Loaded")["message"]


def _impatient(server: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A pod like the server's own, but for the quarter of an hour that an engine has to come up."""
    template = copy.deepcopy(server["spec"]["template"])
    (container,) = template["spec"]["containers"]
    container["startupProbe"] |= {"periodSeconds": 2, "failureThreshold": 4}
    template["spec"]["terminationGracePeriodSeconds"] = 5
    metadata = {**template["metadata"], "name": "busy-impatient", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
