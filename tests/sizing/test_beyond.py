"""What a start needs outside its share of the card, held against the card."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"  # 32 layers: 0.78 GiB of graphs are likely, 1.03 GiB the most


def asked(share: str, release: str, **serving: Any) -> Plan | Refusal:
    facts = lookup(LLAMA)
    assert facts is not None
    pool = NodePool(name="one", accelerator=find("A10"), gpus_per_node=1, nodes=1)
    wishes = Serving(
        engine_version=release, gpu_memory_utilization=Fraction(share), max_model_len=4096, **serving
    )
    return estimate(shape_from_facts(facts), facts, wishes, (pool,))


def test_graphs_that_find_no_room_outside_the_share_are_refused_with_three_ways_out() -> None:
    # An A10 shows 22.1 GiB: 4 % are 0.88 GiB, less than 0.41 GiB of the driver and CUDA and 0.7 GiB of graphs.
    refused = asked("0.96", "0.19.0", max_num_seqs=128)

    assert isinstance(refused, Refusal)
    assert refused.reason is RefusalReason.DOES_NOT_FIT
    assert "gpuMemoryUtilization 0.96, beside 0.5" in refused.message
    assert "of CUDA graphs that vLLM 0.19.0 takes outside that share" in refused.message
    assert "(set 0.95 or less, fewer maxNumSeqs, or enforceEager)" in refused.message


@pytest.mark.parametrize(
    ("share", "release", "serving"),
    [
        pytest.param("0.95", "0.19.0", {"max_num_seqs": 128}, id="the-share-that-is-named"),
        pytest.param("0.96", "0.19.0", {"max_num_seqs": 16}, id="fewer-sequences"),
        pytest.param("0.96", "0.19.0", {"max_num_seqs": 128, "enforce_eager": True}, id="eager"),
        pytest.param("0.96", "0.20.0", {"max_num_seqs": 128}, id="graphs-inside-the-share"),
        pytest.param(
            "0.96",
            "0.19.0",
            {"max_num_seqs": 128, "kv_cache_memory_bytes": 2**30},
            id="a-given-space-is-held-against-the-card",
        ),
    ],
)
def test_each_way_out_leads_out(share: str, release: str, serving: dict[str, Any]) -> None:
    assert isinstance(asked(share, release, **serving), Plan)


def test_where_only_the_most_would_not_fit_the_plan_warns() -> None:
    plan = asked("0.95", "0.19.0", max_num_seqs=128)

    assert isinstance(plan, Plan)
    assert any("come on top" in warning for warning in plan.warnings)


def test_a_share_that_is_taken_before_the_engine_looks_is_refused() -> None:
    refused = asked("0.98", "0.33.0")

    assert isinstance(refused, Refusal)
    assert "beside what the driver and CUDA take before vLLM looks (set 0.97 or less)" in refused.message
