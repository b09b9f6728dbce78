"""What pods hold is not free; nodes whose GPUs only DRA offers are named."""

from __future__ import annotations

from typing import Any

import pytest
from plan_samples import spec

from plimsoll.api.spec import ModelDeployment
from plimsoll.reconcile.node_pools import survey_nodes
from plimsoll.reconcile.node_usage import dra_nodes, free_nodes

OURS = {"plimsoll.dev/model-deployment": "chat"}
DEPLOYMENT = ModelDeployment(name="chat", namespace="team", uid="u", spec=spec())


def node(name: str = "n", gpus: int = 4) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"},
        },
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "8", "memory": "64Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})},
        },
    }


def pod(gpus: int = 1, *, on: str | None = "n", phase: str = "Running", **more: Any) -> dict[str, Any]:
    asked = {"limits": {"nvidia.com/gpu": str(gpus), "cpu": "1"}}
    return {
        "metadata": {"namespace": "other", "labels": {}, **more.get("metadata", {})},
        "spec": {
            "nodeName": on,
            "containers": [{"resources": asked}, {}],
            "initContainers": more.get("init", []),
        },
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("pods", "free"),
    [
        pytest.param([], "4", id="nobody"),
        pytest.param([pod(1), pod(2)], "1", id="two pods"),
        pytest.param([pod(9)], "0", id="never below none"),
        pytest.param([pod(on="elsewhere")], "4", id="another node"),
        pytest.param([pod(on=None, phase="Pending")], "4", id="not scheduled"),
        pytest.param([pod(phase="Succeeded"), pod(phase="Failed")], "4", id="over"),
        pytest.param(
            [pod(metadata={"namespace": "team", "labels": OURS})], "4", id="the deployment's own pod"
        ),
        pytest.param([pod(metadata={"labels": OURS})], "3", id="another namespace's of that name"),
        pytest.param(
            [pod(1, init=[{"resources": {"requests": {"nvidia.com/gpu": 3}}}])], "1", id="an init container"
        ),
    ],
)
def test_what_pods_hold_is_taken_off(pods: list[dict[str, Any]], free: str) -> None:
    (found,) = free_nodes([node()], pods, DEPLOYMENT)

    assert str(found["status"]["allocatable"]["nvidia.com/gpu"]) == free
    assert found["status"]["allocatable"]["memory"] == "64Gi"


def test_the_nodes_that_are_given_stay_as_they_are() -> None:
    given = node()
    free_nodes([given], [pod(4)], DEPLOYMENT)
    assert given == node()


@pytest.mark.parametrize(
    ("slices", "named"),
    [
        pytest.param([{"spec": {"driver": "gpu.nvidia.com", "nodeName": "n"}}], True, id="its GPUs"),
        pytest.param(
            [{"spec": {"driver": "compute-domain.nvidia.com", "nodeName": "n"}}], False, id="another driver"
        ),
        pytest.param([{"spec": {"driver": "gpu.nvidia.com", "nodeName": "m"}}], False, id="another node"),
        pytest.param([{"spec": {"driver": "gpu.nvidia.com", "allNodes": True}}], False, id="no node"),
        pytest.param([], False, id="none"),
    ],
)
def test_nodes_whose_gpus_only_dra_offers_are_named(slices: list[dict[str, Any]], named: bool) -> None:
    survey = survey_nodes([node(gpus=0)], spec(), dra_nodes(slices))

    assert survey.pools == ()
    assert ("offered by DRA alone (ResourceSlices of gpu.nvidia.com)" in survey.left_out[0]) is named


def test_a_device_plugin_beside_dra_is_used() -> None:
    slices = [{"spec": {"driver": "gpu.nvidia.com", "nodeName": "n"}}]
    survey = survey_nodes([node()], spec(), dra_nodes(slices))

    assert [pool.name for pool in survey.pools] == ["1 node with 4 x NVIDIA-A10"]
