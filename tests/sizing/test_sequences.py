"""Sequences of models with recurrent states: one block each, or vLLM does not start (recipes of Qwen3.6, 0.19 to 0.28)."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

HYBRID = "Qwen/Qwen3-Next-80B-A3B-Instruct"
DENSE = "meta-llama/Llama-3.1-8B-Instruct"


def asked(model_id: str, gpus: int = 4, **options: Any) -> Plan | Refusal:
    facts = lookup(model_id)
    assert facts is not None
    pool = NodePool(name="H100", accelerator=find("H100"), gpus_per_node=gpus, nodes=1)
    serving = Serving(**{"engine_version": "0.33.0", **options})
    return estimate(shape_from_facts(facts), facts, serving, (pool,))


def test_the_default_is_lowered_to_the_blocks_there_are_and_said() -> None:
    plan = asked(HYBRID, tensor_parallel_size=4, max_model_len=32768)
    assert isinstance(plan, Plan)
    assert plan.lowered_max_num_seqs is None  # room enough: nothing to tell
    assert plan.kv_cache.blocks >= plan.max_num_seqs == 1024
    tight = asked(HYBRID, tensor_parallel_size=4, max_model_len=8192, kv_cache_memory_bytes=500 * 3_932_160)
    assert isinstance(tight, Plan)
    assert (tight.max_num_seqs, tight.lowered_max_num_seqs) == (500, 500)
    assert tight.kv_cache.blocks == 500
    assert any("told to take 500" in warning for warning in tight.warnings)


def test_a_number_that_was_set_is_refused_with_the_one_that_would_do() -> None:
    given = {"tensor_parallel_size": 4, "max_model_len": 8192, "kv_cache_memory_bytes": 500 * 3_932_160}
    refusal = asked(HYBRID, max_num_seqs=501, **given)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.DOES_NOT_FIT
    assert "The maxNumSeqs of 501 is above the 500 blocks that 4 x H100 have room for" in refusal.message
    assert "set maxNumSeqs to 500 or less" in refusal.message
    plan = asked(HYBRID, max_num_seqs=500, **given)
    assert isinstance(plan, Plan)
    assert plan.lowered_max_num_seqs is None


@pytest.mark.parametrize(
    ("model_id", "options"),
    [
        pytest.param(DENSE, {"kv_cache_memory_bytes": 600 * 2_097_152}, id="no-recurrent-state"),
        pytest.param(
            HYBRID,
            {"tensor_parallel_size": 4, "kv_cache_memory_bytes": 500 * 3_932_160, "enforce_eager": True},
            id="without-graphs",
        ),
        pytest.param(
            HYBRID,
            {"tensor_parallel_size": 4, "kv_cache_memory_bytes": 500 * 3_932_160, "engine_version": "0.18.0"},
            id="before-0.19",
        ),
    ],
)
def test_elsewhere_sequences_are_not_bound_by_blocks(model_id: str, options: dict[str, Any]) -> None:
    plan = asked(model_id, max_model_len=8192, **options)
    assert isinstance(plan, Plan)
    assert plan.lowered_max_num_seqs is None
    assert plan.max_num_seqs == 1024 > plan.kv_cache.blocks
