"""A KV space that is given: the plan is what the engine then reports, and it must stand beside everything else."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts, Provenance, RepoFile
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import PartName, Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
CPU = NodePool(
    name="1 node without a GPU", accelerator=None, gpus_per_node=0, nodes=1, allocatable_bytes=16 * GIB
)
_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False, "max_position_embeddings": 8192, "head_dim": 64,
    "vocab_size": 259, "torch_dtype": "bfloat16",
}  # fmt: skip
_GEMMA = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False,
    "max_position_embeddings": 8192, "sliding_window": 1024, "query_pre_attn_scalar": 64,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 64, "tie_word_embeddings": True,
    "vocab_size": 259, "torch_dtype": "bfloat16",
}  # fmt: skip


def sized(base: dict[str, Any], layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        **base,
        "hidden_size": 64 * heads,
        "intermediate_size": 128 * heads,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **more,
    }


# What vLLM 0.32.0 on CPU reported in vllm:cache_config_info of /metrics, started with these configs (weights of
# --load-format dummy, which take the same space), --max-model-len and --kv-cache-memory-bytes, and no other option
# that has to do with memory: blocks, tokens, concurrency.
REPORTED = [
    pytest.param(sized(_LLAMA, 2, 4, 2, tie_word_embeddings=False), 8192, 100_000_000, 762, 97_536, 11.90625, id="GQA, 2 layers"),
    pytest.param(sized(_LLAMA, 5, 8, 1, tie_word_embeddings=False), 5000, 123_456_789, 753, 94_125, 18.825, id="GQA, 5 layers"),
    pytest.param(sized(_GEMMA, 4, 4, 2), 8192, 300_000_001, 2288, 210_598, 25.707865168539325, id="sliding window, 4 layers"),
    pytest.param(sized(_GEMMA, 7, 8, 4), 4096, 700_000_000, 1335, 95_932, 23.42105263157895, id="sliding window, 7 layers"),
    pytest.param(sized(_LLAMA, 3, 4, 4, tie_word_embeddings=True), 8192, 200_000_000, 508, 65_024, 7.9375, id="tied, 3 layers"),
    pytest.param(sized(_LLAMA, 6, 8, 2, tie_word_embeddings=True), 8192, 268_435_456, 682, 87_296, 10.65625, id="tied, 6 layers"),
]  # fmt: skip


def facts_of(config: dict[str, Any]) -> ModelFacts:
    known = lookup(MISTRAL)
    assert known is not None
    files = (RepoFile(path="model.safetensors", size_bytes=0),)
    return replace(known, model_id="a/b", config=config, files=files, provenance=Provenance.PUBLISHED)


def run(facts: ModelFacts, pool: NodePool, version: str = "0.33.0", **serving: Any) -> Plan | Refusal:
    return estimate(shape_from_facts(facts), facts, Serving(engine_version=version, **serving), (pool,))


def mistral(pool: NodePool, **serving: Any) -> Plan | Refusal:
    known = lookup(MISTRAL)
    assert known is not None
    return run(known, pool, **serving)


def planned(result: Plan | Refusal) -> Plan:
    assert isinstance(result, Plan), result
    return result


def refused(result: Plan | Refusal) -> Refusal:
    assert isinstance(result, Refusal), result
    return result


def gpus(card: str, gpus_per_node: int = 1) -> NodePool:
    return NodePool(
        name="nodes", accelerator=find(card), gpus_per_node=gpus_per_node, nodes=1, allocatable_bytes=None
    )


@pytest.mark.parametrize(("config", "length", "given_bytes", "blocks", "tokens", "concurrency"), REPORTED)
def test_on_cpu_the_plan_is_what_the_engine_reported(
    config: dict[str, Any], length: int, given_bytes: int, blocks: int, tokens: int, concurrency: float
) -> None:
    found = planned(
        run(
            facts_of(config),
            CPU,
            version="0.32.0",
            tensor_parallel_size=0,
            max_model_len=length,
            kv_cache_memory_bytes=given_bytes,
        )
    )
    cache = found.kv_cache
    assert (cache.block_size, cache.blocks, cache.tokens) == (128, blocks, tokens)
    assert float(cache.max_concurrency) == concurrency
    assert (cache.bytes_per_gpu, found.kv_cache_memory_bytes) == (given_bytes, given_bytes)


@pytest.mark.parametrize("given_gib", [2, 5])
def test_on_a_gpu_the_blocks_are_those_of_the_given_bytes(given_gib: int) -> None:
    found = planned(mistral(gpus("A10"), kv_cache_memory_bytes=given_gib * GIB))
    assert found.kv_cache.blocks == given_gib * GIB // 2_097_152
    assert found.kv_cache.bytes_per_gpu == given_gib * GIB


def test_a_small_cache_limits_the_context_and_is_named() -> None:
    found = planned(mistral(gpus("A10"), kv_cache_memory_bytes=2 * GIB))
    # 1,024 blocks of 16 tokens, one of which vLLM keeps for itself
    assert (found.max_model_len, found.limited_by) == (1023 * 16, "kvCacheMemory in the spec")


def test_the_bill_is_held_against_the_card_and_not_against_the_share() -> None:
    card = find("A10")
    found = planned(
        mistral(gpus("A10"), kv_cache_memory_bytes=3 * GIB, gpu_memory_utilization=Fraction(1, 2))
    )
    assert found.usable_bytes == card.memory_bytes - BASELINE.high_bytes
    assert sum(part.bytes for part in found.parts) == found.usable_bytes


def test_a_share_that_the_card_cannot_have_free_at_the_start_is_refused_all_the_same() -> None:
    found = refused(mistral(gpus("A10"), kv_cache_memory_bytes=GIB, gpu_memory_utilization=Fraction(1)))
    assert (found.reason, "gpuMemoryUtilization 1" in found.message) == (RefusalReason.DOES_NOT_FIT, True)


def test_a_cache_without_room_beside_the_weights_is_refused_with_a_way_out() -> None:
    found = refused(mistral(gpus("A10"), kv_cache_memory_bytes=12 * GIB))
    assert found.reason is RefusalReason.DOES_NOT_FIT
    assert (
        "kvCacheMemory 12.00 GiB, which stands beside weights, activations and graphs, needs" in found.message
    )
    assert found.would_fit[0].startswith("kvCacheMemory left unset, with a context of ")


def test_a_cache_too_small_for_the_context_is_refused_with_the_length_that_fits() -> None:
    found = refused(mistral(gpus("A10"), kv_cache_memory_bytes=2 * GIB, max_model_len=32768))
    assert (found.reason, found.available_bytes) == (RefusalReason.CONTEXT_TOO_LONG, 2 * GIB)
    assert found.needed_bytes == (32768 // 16 + 1) * 2_097_152
    assert "16368 tokens would fit there" in found.message


@pytest.mark.parametrize(
    ("version", "tensor_parallel_size", "says"),
    [
        pytest.param("0.10.1", None, "on a GPU; use 0.10.2 or newer", id="gpu"),
        pytest.param("0.19.1", 0, "on CPU; use 0.20.0 or newer", id="cpu"),
    ],
)
def test_a_release_that_would_not_take_it_is_refused(
    version: str, tensor_parallel_size: int | None, says: str
) -> None:
    pool = CPU if tensor_parallel_size == 0 else gpus("A10")
    found = refused(
        mistral(
            pool, version=version, tensor_parallel_size=tensor_parallel_size, kv_cache_memory_bytes=2 * GIB
        )
    )
    assert (found.reason, says in found.message) == (RefusalReason.UNSUPPORTED_OPTION, True)


@pytest.mark.parametrize(
    ("given_bytes", "length", "reason", "says"),
    [
        pytest.param(15 * GIB, 1024, RefusalReason.DOES_NOT_FIT, "lower it or use a larger node", id="node"),
        pytest.param(2 * GIB, 32768, RefusalReason.CONTEXT_TOO_LONG, "or set maxModelLen 16256", id="length"),
        pytest.param(4096, None, RefusalReason.DOES_NOT_FIT, "gives 4096 B; raise it.", id="nothing"),
    ],
)
def test_on_cpu_the_node_and_the_length_are_told_apart(
    given_bytes: int, length: int | None, reason: RefusalReason, says: str
) -> None:
    pool = replace(CPU, allocatable_bytes=24 * GIB)
    found = refused(
        mistral(pool, tensor_parallel_size=0, kv_cache_memory_bytes=given_bytes, max_model_len=length)
    )
    assert (found.reason, says in found.message) == (reason, True), found.message


def test_before_graphs_were_budgeted_they_still_need_room_on_the_card() -> None:
    found = planned(mistral(gpus("A10"), version="0.19.0", kv_cache_memory_bytes=2 * GIB))
    graphs = next(part for part in found.parts if part.name is PartName.GRAPHS)
    assert graphs.bytes > 0


@settings(deadline=None, max_examples=30)
@given(
    given_bytes=st.integers(1, 40 * GIB),
    card=st.sampled_from(["A10", "L40S", "A100-80GB"]),
    stages=st.sampled_from([1, 2, 3]),
    length=st.sampled_from([None, 1, 500, 8192, 32768]),
)
def test_what_is_planned_has_room_and_holds_one_request(
    given_bytes: int, card: str, stages: int, length: int | None
) -> None:
    result = mistral(
        gpus(card, 4),
        kv_cache_memory_bytes=given_bytes,
        pipeline_parallel_size=stages,
        tensor_parallel_size=1,
        max_model_len=length,
    )
    if isinstance(result, Refusal):
        assert result.reason in {RefusalReason.DOES_NOT_FIT, RefusalReason.CONTEXT_TOO_LONG}
        return
    assert all(part.bytes >= 0 for part in result.parts)
    assert (
        result.kv_cache.bytes_per_gpu
        <= given_bytes
        < result.kv_cache.bytes_per_gpu + result.kv_cache.bytes_per_block
    )
    assert result.kv_cache.max_concurrency >= 1


def test_the_block_of_latent_attention_on_cpu_is_said_to_go_by_the_processor() -> None:
    known = lookup("deepseek-ai/DeepSeek-V3")
    assert known is not None
    config = {name: value for name, value in known.config.items() if name != "quantization_config"}
    roomy = replace(CPU, allocatable_bytes=256 * GIB)
    found = planned(
        run(facts_of({**config, "num_hidden_layers": 4}), roomy, tensor_parallel_size=0, max_model_len=4096)
    )
    assert any("without AMX vLLM takes 16" in warning for warning in found.warnings)
