"""The choice over mixed pools: fewest GPUs, then fewest nodes, then the longest context, then most concurrency."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import MIG_SUFFIX, find
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"
OPT = "facebook/opt-125m"


def pool(gpu: str, gpus: int = 1, nodes: int = 1) -> NodePool:
    resource = f"nvidia.com/mig-{gpu.partition(MIG_SUFFIX)[2]}" if MIG_SUFFIX in gpu else "nvidia.com/gpu"
    return NodePool(
        name=f"{nodes} with {gpus} x {gpu}",
        accelerator=find(gpu),
        gpus_per_node=gpus,
        nodes=nodes,
        resource_name=resource,
    )


def asked(model_id: str, pools: list[NodePool], **serving: Any) -> Plan | Refusal:
    facts = lookup(model_id)
    assert facts is not None
    return estimate(shape_from_facts(facts), facts, Serving(engine_version="0.33.0", **serving), pools)


@pytest.mark.parametrize(
    ("model_id", "pools", "serving", "chosen"),
    [
        pytest.param(MISTRAL, [pool("T4", 8), pool("A10")], {}, ("A10", 1, 1), id="fewest GPUs"),
        pytest.param(
            MISTRAL, [pool("A10", 4), pool("A100-80GB", 8)], {}, ("A100-80GB", 1, 1), id="most concurrency"
        ),
        pytest.param(
            MISTRAL, [pool("L4", 4), pool("A10", 4)], {"max_model_len": 4096}, ("A10", 1, 1), id="of equals"
        ),
        pytest.param(
            "Qwen/Qwen2.5-14B-Instruct",
            [pool("A100-40GB", 4), pool("A100-80GB", 4)],
            {},
            ("A100-80GB", 1, 1),
            id="longest context",
        ),
        pytest.param(MISTRAL, [pool("V100-32GB", 8), pool("L4", 8)], {}, ("L4", 1, 1), id="a card that can"),
        pytest.param(
            DEEPSEEK,
            [pool("A100-80GB", 8, 4), pool("H200", 8, 1)],
            {"max_nodes": 4},
            ("H200", 8, 1),
            id="one node before two",
        ),
        pytest.param(
            MISTRAL, [pool("A100-80GB-MIG-1g.10gb"), pool("A10")], {}, ("A10", 1, 1), id="a slice too small"
        ),
        pytest.param(
            MISTRAL,
            [pool("A100-80GB-MIG-1g.10gb"), pool("A100-80GB-MIG-3g.40gb")],
            {},
            ("A100-80GB-MIG-3g.40gb", 1, 1),
            id="a larger slice",
        ),
        pytest.param(
            LLAMA_70B,
            [pool("A10", 4), pool("A100-80GB", 4)],
            {"tensor_parallel_size": 4},
            ("A100-80GB", 4, 1),
            id="a size that is asked for",
        ),
    ],
)
def test_the_best_of_a_mixed_cluster_is_chosen(
    model_id: str, pools: list[NodePool], serving: dict[str, Any], chosen: tuple[str, int, int]
) -> None:
    for order in (pools, pools[::-1]):  # whatever the order that the nodes come in
        plan = asked(model_id, order, **serving)
        assert isinstance(plan, Plan), plan
        assert plan.pool.accelerator is not None
        assert chosen == (plan.pool.accelerator.alias, plan.gpus, plan.nodes)


def test_a_slice_is_asked_for_by_its_own_resource() -> None:
    plan = asked(OPT, [pool("H100-MIG-1g.10gb")])
    assert isinstance(plan, Plan)
    assert plan.pool.resource_name == "nvidia.com/mig-1g.10gb"


@pytest.mark.parametrize(
    "serving", [{"tensor_parallel_size": 2}, {"gpus": 2}, {"pipeline_parallel_size": 2}], ids=str
)
def test_a_replica_has_one_slice(serving: dict[str, Any]) -> None:
    """CUDA shows a process one slice, so two of them make no tensor parallel pair."""
    found = asked(OPT, [pool("H100-MIG-1g.10gb")], **serving)

    assert isinstance(found, Refusal)
    assert found.reason is RefusalReason.NO_MATCHING_NODE
    assert "gives one replica 1" in found.message


@pytest.mark.parametrize(
    ("pools", "limited_by"),
    [
        pytest.param([pool("A100-80GB")], "the model's own length", id="the model"),
        pytest.param([pool("A100-80GB-MIG-1g.20gb")], "KV cache", id="the card"),
    ],
)
def test_an_unset_length_is_the_largest_and_says_what_limits_it(
    pools: list[NodePool], limited_by: str
) -> None:
    plan = asked("meta-llama/Llama-3.1-8B-Instruct", pools)
    assert isinstance(plan, Plan)
    assert plan.limited_by == limited_by
    longer = asked("meta-llama/Llama-3.1-8B-Instruct", pools, max_model_len=plan.max_model_len + 1)
    assert isinstance(longer, Refusal)
