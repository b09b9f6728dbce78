from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.explain import explain
from plimsoll.sizing.facts import ModelFacts, Provenance, RepoFile
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import PartName, Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
OPT = "facebook/opt-125m"


def facts_of(model_id: str) -> ModelFacts:
    known = lookup(model_id)
    assert known is not None
    return known


def pool(card: str, gpus_per_node: int = 8, nodes: int = 1) -> NodePool:
    return NodePool(
        name=f"{nodes} nodes with {gpus_per_node} x {card}",
        accelerator=find(card),
        gpus_per_node=gpus_per_node,
        nodes=nodes,
    )


CPU = NodePool(
    name="1 node without a GPU", accelerator=None, gpus_per_node=0, nodes=1, allocatable_bytes=64 * GIB
)


def run(model_id: str, *pools: NodePool, version: str = "0.33.0", **serving: Any) -> Plan | Refusal:
    facts = facts_of(model_id)
    return estimate(shape_from_facts(facts), facts, Serving(engine_version=version, **serving), pools)


def plan(model_id: str, *pools: NodePool, **serving: Any) -> Plan:
    result = run(model_id, *pools, **serving)
    assert isinstance(result, Plan), result
    return result


def refusal(model_id: str, *pools: NodePool, **serving: Any) -> Refusal:
    result = run(model_id, *pools, **serving)
    assert isinstance(result, Refusal), result
    return result


def test_mistral_7b_fits_one_a10_with_its_whole_context() -> None:
    found = plan(MISTRAL, pool("A10", 4))
    assert (found.tensor_parallel_size, found.gpus, found.nodes) == (1, 1, 1)
    assert found.max_model_len == 32768
    assert found.limited_by == "the model's own length"
    assert found.kv_cache.max_concurrency > 1


def test_deepseek_v3_on_two_a100_is_refused_with_cards_that_would_do() -> None:
    found = refusal(DEEPSEEK, pool("A100-80GB", 2))
    assert found.reason is RefusalReason.DOES_NOT_FIT
    assert found.needed_bytes is not None
    assert found.available_bytes is not None
    assert found.needed_bytes > 300 * GIB > 80 * GIB > found.available_bytes
    assert any(clause.startswith("8 x H200 (TP 8, PP 1)") for clause in found.would_fit)
    assert any(clause.startswith("4 x B300 (TP 4, PP 1)") for clause in found.would_fit)


@pytest.mark.parametrize(
    ("model_id", "card", "split"),
    [
        pytest.param("meta-llama/Llama-2-70b-chat-hf", "A100-80GB", (2, 1, 1), id="70b-on-a100-80"),
        pytest.param("meta-llama/Llama-2-13b-chat-hf", "A10", (2, 1, 1), id="13b-on-a10"),
        pytest.param("google/gemma-2-9b-it", "A100-40GB", (1, 1, 1), id="gemma-2-9b"),
        pytest.param(DEEPSEEK, "H200", (8, 1, 1), id="deepseek-v3-on-h200"),
        pytest.param("Qwen/Qwen2.5-7B-Instruct", "L4", (1, 1, 1), id="qwen-7b-on-l4"),
    ],
)
def test_the_fewest_gpus_are_taken(model_id: str, card: str, split: tuple[int, int, int]) -> None:
    found = plan(model_id, pool(card))
    assert split == (found.tensor_parallel_size, found.pipeline_parallel_size, found.nodes)
    assert found.gpus == found.tensor_parallel_size * found.pipeline_parallel_size


def test_several_nodes_hold_one_stage_each() -> None:
    found = plan(DEEPSEEK, pool("H100", 8, 4), max_nodes=4)
    assert (found.tensor_parallel_size, found.pipeline_parallel_size, found.nodes) == (8, 2, 2)


def test_more_nodes_than_allowed_are_not_taken() -> None:
    assert refusal(DEEPSEEK, pool("H100", 8, 4), max_nodes=1).reason is RefusalReason.DOES_NOT_FIT


def test_the_pipeline_splits_a_node_where_heads_do_not_divide() -> None:
    # 28 heads: TP 8 is not legal, and the pipeline takes over what is left of the node.
    found = plan("Qwen/Qwen2.5-7B-Instruct", pool("T4", 8), gpus=8)
    assert (found.gpus, found.nodes) == (8, 1)
    assert found.tensor_parallel_size in {1, 2, 4}
    assert found.tensor_parallel_size * found.pipeline_parallel_size == 8


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        pytest.param({"tensor_parallel_size": 4}, (4, 1, 4), id="tp"),
        pytest.param({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, (2, 2, 4), id="tp-and-pp"),
        pytest.param({"gpus": 4}, (4, 1, 4), id="gpus"),
        pytest.param({"pipeline_parallel_size": 2}, (1, 2, 2), id="pp"),
    ],
)
def test_fixed_sizes_are_kept(serving: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = plan(MISTRAL, pool("A10", 4), **serving)
    sizes = (found.tensor_parallel_size, found.pipeline_parallel_size, found.gpus)
    assert expected[2] == sizes[2]
    if "gpus" not in serving:
        assert expected == sizes


def test_parts_sum_to_the_usable_bytes_and_all_are_named() -> None:
    found = plan(DEEPSEEK, pool("H200"))
    assert found.usable_bytes == sum(part.bytes for part in found.parts)
    assert found.usable_bytes == sum(part.expected_bytes for part in found.parts)
    asked_for = (PartName.DRAFT, PartName.LORA)  # lines of their own, where they are asked for
    named = [name for name in PartName if name not in asked_for]
    assert named == [part.name for part in found.parts]
    assert all(part.low_bytes <= part.bytes for part in found.parts)
    assert all(part.exact == (part.low_bytes == part.bytes) for part in found.parts)
    margin = next(part.bytes for part in found.parts if part.name is PartName.MARGIN)
    assert 0 <= margin < found.kv_cache.bytes_per_block


def test_explain_names_every_part_with_its_source() -> None:
    found = plan(MISTRAL, pool("A10"))
    lines = explain(found)
    names = [line.name for line in lines]
    assert {f"{part.name.value}_bytes" for part in found.parts} <= set(names)
    assert len(names) == len(set(names))
    assert all(line.value and line.formula and line.source for line in lines)
    assert f"{found.usable_bytes} B" in lines[0].value


def test_a_length_that_does_not_fit_is_refused_with_the_one_that_would() -> None:
    found = refusal(LLAMA_8B, pool("A10", 1), max_model_len=131072)
    assert found.reason is RefusalReason.CONTEXT_TOO_LONG
    shorter = plan(LLAMA_8B, pool("A10", 1)).max_model_len
    assert shorter < 131072
    assert f"maxModelLen {shorter} on 1 x A10 (TP 1, PP 1)" in found.would_fit
    assert plan(LLAMA_8B, pool("A10", 1), max_model_len=shorter).max_model_len == shorter


def test_an_fp8_cache_is_offered_where_it_makes_the_length_fit() -> None:
    longest = plan(LLAMA_8B, pool("L4", 1)).max_model_len
    wanted = longest * 3 // 2
    found = refusal(LLAMA_8B, pool("L4", 1), max_model_len=wanted)
    assert f"kvCacheDtype fp8 with a context of {wanted} tokens on 1 x L4 (TP 1, PP 1)" in found.would_fit
    assert plan(LLAMA_8B, pool("L4", 1), max_model_len=wanted, kv_cache_dtype="fp8").kv_cache_dtype == "fp8"


@pytest.mark.parametrize(
    ("model_id", "card", "serving", "reason", "words"),
    [
        pytest.param(
            MISTRAL, "A10", {"max_model_len": 40000}, "ContextTooLong", "at most 32768 tokens", id="beyond-the-model"
        ),
        pytest.param(MISTRAL, "A10", {"tensor_parallel_size": 3}, "NotDivisible", "not divisible by 3", id="tp-3"),
        pytest.param(MISTRAL, "A10", {"tensor_parallel_size": 16}, "NoMatchingNode", "16 GPUs", id="tp-16"),
        pytest.param(MISTRAL, "A10", {"pipeline_parallel_size": 33}, "NotDivisible", "32 layers", id="pp-33"),
        pytest.param(MISTRAL, "A10", {"gpus": 64}, "NoMatchingNode", "64 GPUs", id="gpus-64"),
        pytest.param(MISTRAL, "V100-32GB", {}, "HardwareCannot", "7.5 or higher", id="card-too-old"),
        pytest.param(MISTRAL, "T4", {"dtype": "bfloat16"}, "HardwareCannot", "8.0 or higher", id="bfloat16-on-t4"),
        pytest.param(MISTRAL, "T4", {"kv_cache_dtype": "fp8"}, "HardwareCannot", "fp8 cache", id="fp8-cache-on-t4"),
        pytest.param(
            MISTRAL, "A10", {"min_gpu_memory_bytes": 40 * GIB}, "NoMatchingNode", "minMemory", id="min-memory"
        ),
        pytest.param(
            MISTRAL, "H100", {"gpu_memory_utilization": Fraction(999, 1000)}, "DoesNotFit", "0.99 or less", id="util"
        ),
        pytest.param(MISTRAL, "A10", {"quantization": "squeezellm"}, "UnsupportedOption", "dropped", id="squeezellm"),
        pytest.param(MISTRAL, "A10", {"quantization": "awq"}, "UnsupportedOption", "not quantized", id="awq-of-bf16"),
        pytest.param(DEEPSEEK, "H200", {"quantization": "awq"}, "UnsupportedOption", "with fp8", id="awq-of-fp8"),
        pytest.param(MISTRAL, "A10", {"dtype": "int8"}, "UnsupportedOption", "dtype is 'int8'", id="dtype"),
        pytest.param(MISTRAL, "A10", {"kv_cache_dtype": "octave_k3v4"}, "UnsupportedOption", "AMD", id="amd-cache"),
        pytest.param(MISTRAL, "A10", {"kv_cache_dtype": "nvfp4_4over6"}, "HardwareCannot", "10.0", id="nvfp4-cache"),
        pytest.param(MISTRAL, "A10", {"kv_cache_dtype": "float16"}, "UnsupportedOption", "bfloat16", id="other-16"),
        pytest.param(MISTRAL, "A10", {"max_num_seqs": 0}, "UnsupportedOption", "maxNumSeqs is 0", id="seqs-0"),
        pytest.param(
            MISTRAL,
            "A10",
            {"max_num_seqs": 64, "max_num_batched_tokens": 8},
            "UnsupportedOption",
            "at least maxNumSeqs",
            id="batch-below-seqs",
        ),
        pytest.param(
            MISTRAL, "A10", {"gpus": 4, "tensor_parallel_size": 2, "pipeline_parallel_size": 1},
            "UnsupportedOption", "hardware.gpu.count is 4", id="sizes-that-disagree",
        ),
        pytest.param("google/gemma-2-9b-it", "A10", {"dtype": "float16"}, "UnsupportedOption", "gemma2", id="gemma-fp16"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_reason(
    model_id: str, card: str, serving: dict[str, Any], reason: str, words: str
) -> None:
    found = refusal(model_id, pool(card), **serving)
    assert reason == found.reason.value
    assert words in found.message
    assert found.message.endswith(".")


@pytest.mark.parametrize("version", ["latest", "", "0.9", "v0", "0.8.5", "1.2.3.4", "0.33.0; rm"])
def test_versions_that_say_nothing_are_refused(version: str) -> None:
    found = run(MISTRAL, pool("A10"), version=version)
    assert isinstance(found, Refusal)
    assert found.reason is RefusalReason.UNSUPPORTED_OPTION
    assert "engine.version" in found.message


def test_a_newer_engine_is_computed_as_the_newest_known_with_a_warning() -> None:
    newer = plan(MISTRAL, pool("A10"), version="0.40.1")
    assert any("newer than 0.33.0" in warning for warning in newer.warnings)
    assert newer.parts == plan(MISTRAL, pool("A10")).parts
    assert not plan(MISTRAL, pool("A10"), version="0.33.2").warnings


def test_versions_differ_by_what_they_count() -> None:
    old = plan(MISTRAL, pool("A10"), version="0.19.1")
    new = plan(MISTRAL, pool("A10"), version="0.20.0")
    assert (old.gpu_memory_utilization, new.gpu_memory_utilization) == (Fraction(9, 10), Fraction(92, 100))
    graphs = [next(p.bytes for p in found.parts if p.name is PartName.GRAPHS) for found in (old, new)]
    assert graphs[0] == 0 < graphs[1]


def test_bfloat16_falls_back_on_old_cards_with_a_warning() -> None:
    found = plan(MISTRAL, pool("T4"))
    assert found.dtype == "float16"
    assert any("served" in warning or "serves" in warning for warning in found.warnings)
    assert plan("google/gemma-2-2b-it", pool("T4")).dtype == "float32"


def test_a_batch_that_must_hold_the_prompt_limits_the_context() -> None:
    found = plan(OPT, pool("T4"), enable_chunked_prefill=False, max_num_batched_tokens=1024)
    assert (found.max_model_len, found.gpus) == (1024, 1)
    assert found.limited_by == "maxNumBatchedTokens without chunked prefill"


def test_no_gpu_node_is_refused_with_a_way_out() -> None:
    found = refusal(MISTRAL, CPU)
    assert found.reason is RefusalReason.NO_MATCHING_NODE
    assert "tensorParallelSize to 0" in found.message


def test_weights_quantized_while_loading_must_pass_through_the_card() -> None:
    found = refusal(LLAMA_8B, pool("T4", 1), quantization="fp8", version="0.32.0")
    assert found.reason is RefusalReason.HARDWARE_CANNOT
    llama_70b = "meta-llama/Llama-3.1-70B-Instruct"
    found = refusal(llama_70b, pool("RTX-PRO-6000", 1), quantization="fp8", version="0.15.1")
    assert found.reason is RefusalReason.DOES_NOT_FIT
    assert "passes all weights" in found.message
    assert "before vLLM 0.16" in found.message
    # Llama 3.1 70B in fp8 on one RTX PRO 6000 came up with 0.23.
    assert plan(llama_70b, pool("RTX-PRO-6000", 1), quantization="fp8", version="0.23.0").gpus == 1
    half = plan(LLAMA_8B, pool("L4", 1), quantization="fp8")
    assert half.quantization == "fp8"
    weights = {p.name: p.bytes for p in half.parts}[PartName.WEIGHTS]
    assert weights < {p.name: p.bytes for p in plan(LLAMA_8B, pool("L4", 1)).parts}[PartName.WEIGHTS]


def test_offloaded_weights_leave_the_card_and_enter_the_host() -> None:
    kept = plan(MISTRAL, pool("A10", 1))
    moved = plan(MISTRAL, pool("A10", 1), cpu_offload_bytes=4 * GIB)
    by_name = [{p.name: p.bytes for p in found.parts} for found in (kept, moved)]
    assert by_name[0][PartName.WEIGHTS] - by_name[1][PartName.WEIGHTS] == 4 * GIB
    hosts = [found.resources.server.memory_request_bytes for found in (kept, moved)]
    assert hosts[1] - hosts[0] == 4 * GIB
    assert any("cpuOffload" in warning for warning in moved.warnings)


def test_opt_125m_is_served_on_cpu() -> None:
    found = plan(OPT, CPU, tensor_parallel_size=0)
    assert (found.gpus, found.tensor_parallel_size, found.nodes) == (0, 0, 1)
    assert found.max_model_len == 2048
    assert found.kv_cache.block_size == 128
    assert found.kv_cache.bytes_per_gpu % GIB == 0
    assert found.usable_bytes == sum(part.bytes for part in found.parts)
    assert found.resources.server.memory_request_bytes >= found.usable_bytes


@pytest.mark.parametrize(
    ("memory_gib", "serving", "reason"),
    [
        pytest.param(8, {}, RefusalReason.DOES_NOT_FIT, id="weights"),
        pytest.param(18, {"max_model_len": 32768}, RefusalReason.CONTEXT_TOO_LONG, id="length"),
    ],
)
def test_a_node_too_small_for_cpu_serving_is_refused(
    memory_gib: int, serving: dict[str, Any], reason: RefusalReason
) -> None:
    small = replace(CPU, allocatable_bytes=memory_gib * GIB)
    found = refusal(MISTRAL, small, tensor_parallel_size=0, **serving)
    assert found.reason is reason
    assert found.needed_bytes is not None
    assert found.available_bytes == memory_gib * GIB
    assert found.needed_bytes > found.available_bytes


def test_cpu_serving_passes_over_a_small_node() -> None:
    small = replace(CPU, allocatable_bytes=8 * GIB)
    large = replace(pool("A10"), allocatable_bytes=64 * GIB)
    assert plan(MISTRAL, small, large, tensor_parallel_size=0).pool is large


def test_quantized_weights_on_cpu_are_refused() -> None:
    found = refusal(DEEPSEEK, CPU, tensor_parallel_size=0)
    assert found.reason is RefusalReason.HARDWARE_CANNOT


def test_files_that_are_not_the_models_are_told() -> None:
    facts = replace(facts_of(MISTRAL), files=(RepoFile(path="model.safetensors", size_bytes=3 * GIB),))
    found = estimate(shape_from_facts(facts), facts, Serving(engine_version="0.33.0"), [pool("A10")])
    assert isinstance(found, Plan)
    assert any("The files hold 3.00 GiB" in warning for warning in found.warnings)


def test_facts_from_memory_are_told() -> None:
    facts = replace(facts_of(MISTRAL), provenance=Provenance.RECALLED)
    found = estimate(shape_from_facts(facts), facts, Serving(engine_version="0.33.0"), [pool("A10")])
    assert isinstance(found, Plan)
    assert any("not checked" in warning for warning in found.warnings)


def test_every_model_of_the_catalogue_fits_some_card() -> None:
    for model_id in model_ids():
        found = refusal(model_id, replace(CPU))
        assert found.would_fit, model_id
