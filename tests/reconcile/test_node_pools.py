"""Nodes become pools of alike nodes; what cannot be planned with is left out by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from plan_samples import a10_plan, spec

from plimsoll.reconcile.node_gpus import PRODUCT
from plimsoll.reconcile.node_pools import NodeSurvey, placeable, survey_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.api.spec import ModelDeploymentSpec
    from plimsoll.sizing.accelerators import NodePool

A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
A10 = {"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"}


def pools_from_nodes(nodes: Iterable[dict[str, Any]], wanted: ModelDeploymentSpec) -> tuple[NodePool, ...]:
    return survey_nodes(nodes, wanted).pools


def node(
    labels: dict[str, str] | None = None,
    gpus: int = 4,
    *,
    ready: str = "True",
    taints: Any = None,
    **allocatable: str,
) -> dict[str, Any]:
    amounts = {
        "cpu": "63500m",
        "memory": "500Gi",
        **({"nvidia.com/gpu": str(gpus)} if gpus else {}),
        **allocatable,
    }
    return {
        "metadata": {"name": "n", "labels": A10 if labels is None else labels},
        "spec": {"taints": taints or []},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "allocatable": amounts},
    }


def names(survey: NodeSurvey) -> list[str]:
    return [pool.name for pool in survey.pools]


def test_alike_nodes_are_one_pool() -> None:
    pools = pools_from_nodes([node(), node(A100, 8), node()], spec())
    assert [pool.name for pool in pools] == [
        "2 nodes with 4 x NVIDIA-A10",
        "1 node with 8 x NVIDIA-A100-SXM4-80GB",
    ]
    a10 = pools[0]
    assert (a10.nodes, a10.gpus_per_node, a10.resource_name) == (2, 4, "nvidia.com/gpu")
    assert a10.node_labels == (("nvidia.com/gpu.product", "NVIDIA-A10"),)
    assert (a10.allocatable_millicores, a10.allocatable_bytes) == (63500, 500 * 2**30)


def test_two_memories_under_one_product_are_told_apart_by_the_label() -> None:
    small = {**A10, "nvidia.com/gpu.memory": "12000"}
    pools = pools_from_nodes([node(), node(small)], spec())
    assert {dict(pool.node_labels)["nvidia.com/gpu.memory"] for pool in pools} == {"12000", "23028"}


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        pytest.param(node(ready="False"), "not Ready", id="not-ready"),
        pytest.param({**node(), "spec": {"unschedulable": True}}, "cordoned", id="cordoned"),
        pytest.param(node({}, 0), "no nvidia.com/gpu", id="no-gpu"),
        pytest.param(node({}), "no label nvidia.com/gpu.product", id="no-labels"),
        pytest.param(node(gpus=0), "DRA alone does", id="no-device-plugin"),
        pytest.param(node({**A10, "nvidia.com/gpu.replicas": "4"}, 16), "time slicing", id="time-sliced"),
        pytest.param(
            node({**A10, "nvidia.com/gpu.product": "NVIDIA-A10-SHARED"}, 16), "time slicing", id="shared"
        ),
        pytest.param(
            node(A10, 0, **{"nvidia.com/gpu.shared": "16"}), "time slicing", id="shared-by-another-name"
        ),
        pytest.param(node({**A10, "nvidia.com/gpu.sharing-strategy": "mps"}, 16), "MPS", id="mps"),
        pytest.param(
            node(A100, 0, **{"nvidia.com/mig-9g.99gb": "2"}), "9g.99gb", id="unknown-profile-without-memory"
        ),
        pytest.param(
            node(taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}]),
            "the taint team=a:NoSchedule",
            id="taint",
        ),
        pytest.param(
            node({"nvidia.com/gpu.product": "NVIDIA-FutureCard"}),
            "NVIDIA-FutureCard",
            id="unknown-card-without-memory",
        ),
    ],
)
def test_what_cannot_be_planned_with_is_left_out_by_name(left_out: dict[str, Any], reason: str) -> None:
    survey = survey_nodes([left_out, node(A100, 8)], spec())
    assert names(survey) == ["1 node with 8 x NVIDIA-A100-SXM4-80GB"]
    assert len(survey.left_out) == 1
    assert survey.left_out[0].startswith("1 node: ")
    assert reason in survey.left_out[0]


@pytest.mark.parametrize("strategy", ["single", "mixed"], ids=["single", "mixed"])
def test_a_mig_strategy_without_slices_is_a_whole_card(strategy: str) -> None:
    survey = survey_nodes(
        [node({**A100, "nvidia.com/mig.strategy": strategy, "nvidia.com/gpu.replicas": "1"}, 8)], spec()
    )
    assert names(survey) == ["1 node with 8 x NVIDIA-A100-SXM4-80GB"]


@pytest.mark.parametrize("taint", ["nvidia.com/gpu"])
def test_the_usual_taint_of_gpu_nodes_is_tolerated_without_a_word(taint: str) -> None:
    tainted = node(taints=[{"key": taint, "value": "present", "effect": "NoSchedule"}])
    assert len(pools_from_nodes([tainted], spec())) == 1
    assert pools_from_nodes([tainted], spec(parallelism={"tensorParallelSize": 0})) == ()


@pytest.mark.parametrize(
    ("toleration", "lands"),
    [
        ({"key": "team", "operator": "Exists"}, True),
        ({"key": "team", "operator": "Equal", "value": "a"}, True),
        ({"key": "team", "value": "b"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_the_users_tolerations_open_nodes(toleration: dict[str, str], lands: bool) -> None:
    tainted = node(taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}])
    assert bool(pools_from_nodes([tainted], spec(pod={"tolerations": [toleration]}))) is lands


@pytest.mark.parametrize(
    ("product", "pools"),
    [
        ("A10", ["2 nodes with 4 x NVIDIA-A10"]),
        ("NVIDIA-A10", ["2 nodes with 4 x NVIDIA-A10"]),
        ("nvidia-a10", ["2 nodes with 4 x NVIDIA-A10"]),
        ("A100-80GB", ["1 node with 8 x NVIDIA-A100-SXM4-80GB"]),
        ("H100", []),
        ("NVIDIA-Unheard-Of", []),
    ],
)
def test_product_is_a_label_or_an_alias(product: str, pools: list[str]) -> None:
    survey = survey_nodes([node(), node(), node(A100, 8)], spec(hardware={"gpu": {"product": product}}))
    assert names(survey) == pools
    if not pools:
        assert "2 nodes: NVIDIA-A10, not the " in survey.left_out[0]


@pytest.mark.parametrize(
    ("expression", "lands"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "rank", "operator": "Gt", "values": ["6"]}, True),
        ({"key": "rank", "operator": "Lt", "values": ["6"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["6"]}, False),
        ({"key": "zone", "operator": "Near", "values": ["a"]}, False),
    ],
)
def test_required_node_affinity_is_obeyed(expression: dict[str, Any], lands: bool) -> None:
    required = {"nodeSelectorTerms": [{}, {"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    there = node({**A10, "zone": "a", "rank": "7"})
    assert bool(pools_from_nodes([there], spec(pod={"affinity": affinity}))) is lands
    assert bool(pools_from_nodes([there], spec(pod={"nodeSelector": {"zone": "b"}}))) is False


def test_cpu_only_takes_any_node() -> None:
    survey = survey_nodes([node({}, 0), node()], spec(parallelism={"tensorParallelSize": 0}))
    assert names(survey) == ["2 nodes with CPU only"]
    assert survey.pools[0].accelerator is None
    assert survey.pools[0].node_labels == ()


@pytest.mark.parametrize(
    ("nodes", "still"),
    [
        pytest.param([node()], True, id="there"),
        pytest.param([node(gpus=8)], True, id="more-in-a-node"),
        pytest.param([node(gpus=1)], False, id="fewer-in-a-node"),
        pytest.param([node(A100, 8)], False, id="another-card"),
        pytest.param([], False, id="gone"),
        pytest.param([node({**A10, "nvidia.com/gpu.memory": "12000"})], False, id="less-memory"),
    ],
)
def test_a_plan_places_as_long_as_its_nodes_are_there(nodes: list[dict[str, Any]], still: bool) -> None:
    plan = a10_plan(gpus=2, tensor_parallel_size=2)
    assert placeable(plan, pools_from_nodes(nodes, spec())) is still


@pytest.mark.parametrize(("nodes", "still"), [([node({}, 0)], True), ([], False)], ids=["a-node", "none"])
def test_a_cpu_plan_places_on_any_node(nodes: list[dict[str, Any]], still: bool) -> None:
    plan = a10_plan(gpus=0, tensor_parallel_size=0)
    assert placeable(plan, pools_from_nodes(nodes, spec(parallelism={"tensorParallelSize": 0}))) is still


SINGLE = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia.com/gpu.memory": "9728"}
MIXED = {"nvidia.com/mig-1g.10gb": "3", "nvidia.com/mig-3g.40gb": "2"}
SLICES = [
    "1 node with slices NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
    "1 node with slices NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
]


@pytest.mark.parametrize(
    ("sliced", "resource", "memory_bytes"),
    [
        pytest.param(node(SINGLE, 7), "nvidia.com/gpu", 9728 * 2**20, id="single-strategy"),
        pytest.param(
            node({**A100, "nvidia.com/mig-1g.10gb.memory": "9728"}, 0, **{"nvidia.com/mig-1g.10gb": "7"}),
            "nvidia.com/mig-1g.10gb",
            9728 * 2**20,
            id="mixed-strategy",
        ),
    ],
)
def test_a_slice_is_a_gpu_of_its_own_and_one_replica_gets_one(
    sliced: dict[str, Any], resource: str, memory_bytes: int
) -> None:
    (pool,) = pools_from_nodes([sliced], spec())

    assert pool.accelerator is not None
    assert (pool.resource_name, pool.gpus_per_node) == (resource, 1)
    assert pool.accelerator.product == "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"
    assert pool.accelerator.memory_bytes == memory_bytes


def test_a_mixed_node_offers_its_whole_cards_and_every_size_of_slice() -> None:
    survey = survey_nodes([node(A100, 4, **MIXED)], spec())

    assert sorted(names(survey)) == sorted([*SLICES, "1 node with 4 x NVIDIA-A100-SXM4-80GB"])
    assert {pool.node_labels for pool in survey.pools} == {
        (("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),)
    }


@pytest.mark.parametrize(
    ("gpu", "pools"),
    [
        pytest.param({"resourceName": "nvidia.com/mig-3g.40gb"}, SLICES[1:], id="by resource"),
        pytest.param({"product": "A100-80GB-MIG-3g.40gb"}, SLICES[1:], id="by alias"),
        pytest.param({"product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}, SLICES[:1], id="by label"),
        pytest.param(
            {"resourceName": "nvidia.com/mig-3g.40gb", "product": "A100-80GB"}, SLICES[1:], id="by both"
        ),
        pytest.param({"product": "A100-80GB"}, ["1 node with 4 x NVIDIA-A100-SXM4-80GB"], id="whole cards"),
        pytest.param(
            {"resourceName": "nvidia.com/gpu"}, ["1 node with 4 x NVIDIA-A100-SXM4-80GB"], id="whole resource"
        ),
    ],
)
def test_whole_cards_and_slices_are_told_apart(gpu: dict[str, Any], pools: list[str]) -> None:
    assert names(survey_nodes([node(A100, 4, **MIXED)], spec(hardware={"gpu": gpu}))) == pools


SHARES = spec(hardware={"gpu": {"shared": True}}, engine={"vllm": {"gpuMemoryUtilization": 0.4}})


@pytest.mark.parametrize(
    ("sliced", "resource"),
    [
        pytest.param(node({**A10, "nvidia.com/gpu.replicas": "4"}, 16), "nvidia.com/gpu", id="replicas"),
        pytest.param(
            node({**A10, "nvidia.com/gpu.product": "NVIDIA-A10-SHARED"}, 16), "nvidia.com/gpu", id="suffix"
        ),
        pytest.param(
            node(A10, 0, **{"nvidia.com/gpu.shared": "16"}), "nvidia.com/gpu.shared", id="renamed resource"
        ),
    ],
)
def test_time_sliced_gpus_are_used_where_they_are_asked_for(sliced: dict[str, Any], resource: str) -> None:
    survey = survey_nodes([sliced, node()], SHARES)

    (pool,) = survey.pools
    assert (pool.name, pool.resource_name) == ("1 node with NVIDIA-A10, shared by time slicing", resource)
    assert (pool.shared, pool.gpus_per_node) == (True, 1)
    assert pool.node_labels == (("nvidia.com/gpu.product", sliced["metadata"]["labels"][PRODUCT]),)
    assert survey.left_out == ("1 node: its GPUs are not shared, which spec.hardware.gpu.shared asks for",)


def test_a_slice_that_is_shared_is_left_out() -> None:
    labels = {**A100, "nvidia.com/mig-1g.10gb.replicas": "4", "nvidia.com/mig-1g.10gb.memory": "9728"}
    survey = survey_nodes([node(labels, 0, **{"nvidia.com/mig-1g.10gb": "28"})], spec())

    assert survey.pools == ()
    assert "time slicing" in survey.left_out[0]
