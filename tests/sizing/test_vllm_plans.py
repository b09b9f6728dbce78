"""What vLLM 0.33.0's own planning code answers, met to the integer.

The vectors in data/vllm_plans*.json were written from runs of vLLM's configuration, model classes and KV planner
without a GPU: for a config, a card and a split they say weights and buffers per rank, blocks and capacity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plimsoll.sizing.backend import CacheOptions, caches_on, kernel_block_size
from plimsoll.sizing.engine import batch_limits, parse_version
from plimsoll.sizing.gpus import find
from plimsoll.sizing.kv_plan import CacheLayout, cache_layout
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import RankWeights, rank_weights, tensor_parallel_problem
from plimsoll.units import GIB
from support.configs import facts

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

VERSION = parse_version("0.33.0")
CARDS = {"h100-80": "H100", "a100-80": "A100-80GB", "h200": "H200", "b200": "B200"}
VECTORS: list[dict[str, Any]] = [
    vector
    for path in sorted(Path(__file__).with_name("data").glob("vllm_plans*.json"))
    for vector in json.loads(path.read_text())
]
CASES = [
    pytest.param(
        vector,
        plan,
        id=f"{vector['model']}-{plan['gpu']}-tp{plan['tp']}-pp{plan['pp']}-{plan['kv']}-{plan['available_gib']}GiB"
        + "".join(f"-{option}={value}" for option, value in plan.get("engine", {}).items()),
    )
    for vector in VECTORS
    for plan in vector["plans"]
]


class Built:
    """One vector through our own code."""

    def __init__(self, vector: dict[str, Any], plan: dict[str, Any]) -> None:
        self.shape: ModelShape = shape_from_facts(facts(vector["config"]))
        serving = Serving(engine_version="0.33.0", kv_cache_dtype=plan["kv"])
        card = find(CARDS[plan["gpu"]])
        engine = plan.get("engine", {})
        precision = precision_for(self.shape, serving, card, VERSION)
        self.quantization = precision.quantization
        self.ranks: tuple[RankWeights, ...] = rank_weights(
            self.shape,
            plan["tp"],
            plan["pp"],
            precision.element_bytes,
            precision.quantization,
            expert_parallel=engine.get("enable_expert_parallel", False),
            expert_multiple=precision.expert_multiple,
        )
        self.limits = batch_limits(
            VERSION,
            card,
            serving,
            max_model_len=self.shape.unset_max_model_len,
            pipeline_parallel_size=plan["pp"],
            least_batched_tokens=self.shape.least_batched_tokens,
        )
        options = CacheOptions(
            prefix_caching=engine.get("enable_prefix_caching"),
            hybrid_manager=not engine.get("disable_hybrid_kv_cache_manager", False),
        )
        self.layout: CacheLayout = cache_layout(
            caches_on(self.shape, VERSION, card, options),
            stages=[rank.layers for rank in self.ranks],
            tensor_parallel_size=plan["tp"],
            element_bytes=precision.kv_element_bytes,
            block_size=kernel_block_size(
                self.shape, VERSION, card, fp8_cache=precision.kv_element_bytes == 1
            ),
            state_element_bytes=precision.element_bytes,
            reserve_null_block=True,
        )
        self.available = (plan["available_gib"] * GIB,) * plan["pp"]


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_weights_and_buffers_of_each_rank_equal_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    built = Built(vector, plan)
    ends = built.ranks if len(built.ranks) == 1 else (built.ranks[0], built.ranks[-1])
    assert plan["parameters"] == [rank.parameter_bytes for rank in ends]
    assert plan["buffers"] == [rank.buffer_bytes for rank in ends]
    assert tensor_parallel_problem(built.shape, plan["tp"], built.quantization) is None


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_batch_limits_and_length_equal_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    built = Built(vector, plan)
    limits = built.limits
    assert vector["max_model_len"] == built.shape.unset_max_model_len
    assert plan["batch"] == [limits.max_num_batched_tokens, limits.max_num_seqs, limits.in_flight_tokens]


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_kv_plan_equals_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    built = Built(vector, plan)
    layout, length, in_flight = built.layout, built.shape.unset_max_model_len, built.limits.in_flight_tokens
    assert plan["block"] == [layout.block_size, layout.bytes_per_block]
    assert plan["need"] == layout.need_blocks(length, in_flight)
    capacity = layout.capacity(length, in_flight, built.available)
    assert plan["blocks"] == capacity.blocks
    fits = layout.fits(length, in_flight, built.available)
    assert (plan["at_own_length"] is not None) == fits
    if fits:
        tokens, concurrency = plan["at_own_length"]
        assert tokens == capacity.tokens
        assert concurrency == pytest.approx(float(capacity.max_concurrency), abs=1e-6)


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_longest_context_equals_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    built = Built(vector, plan)
    in_flight = built.limits.in_flight_tokens
    longest = built.layout.longest(built.shape.unset_max_model_len, in_flight, built.available)
    tokens = built.layout.capacity(longest, in_flight, built.available).tokens
    assert plan["longest"] == [longest, tokens]


@pytest.mark.parametrize(("vector", "plan"), [case for case in CASES if case.values[1]["at_8192"]])
def test_plan_for_8192_tokens_equals_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    built = Built(vector, plan)
    in_flight = built.limits.in_flight_tokens
    need, tokens = plan["at_8192"]
    assert need == built.layout.need_blocks(8192, in_flight)
    if tokens is not None:
        assert tokens == built.layout.capacity(8192, in_flight, built.available).tokens


LLAMA_8B = next(
    vector["config"] for vector in VECTORS if vector["model"] == "meta-llama/Llama-3.1-8B-Instruct"
)
MISTRAL = next(
    vector["config"] for vector in VECTORS if vector["model"] == "mistralai/Mistral-7B-Instruct-v0.3"
)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        pytest.param(None, 16_060_522_496, id="bf16"),
        pytest.param({"quant_method": "fp8", "weight_block_size": [128, 128]}, 9_082_904_832, id="fp8-block"),
        pytest.param(
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 5_727_854_592, id="awq"
        ),
        pytest.param(
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
            5_727_854_592,
            id="gptq4",
        ),
        pytest.param(
            {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False},
            9_244_778_496,
            id="gptq8",
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128},
                    }
                },
            },
            5_700_594_240,
            id="compressed-tensors-w4a16",
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                        "input_activations": {"dynamic": True},
                    }
                },
            },
            9_086_706_240,
            id="compressed-tensors-fp8",
        ),
        pytest.param({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 6_027_749_376, id="nvfp4"),
    ],
)
def test_quantized_llama_8b_has_vllms_bytes(quantization: dict[str, Any] | None, expected: int) -> None:
    shape = shape_from_facts(facts({**LLAMA_8B, "quantization_config": quantization}))
    (rank,) = rank_weights(shape, 1, 1, 2, shape.quantization)
    assert expected == rank.parameter_bytes


def test_a_window_without_layer_types_slides_in_every_layer() -> None:
    config = {**MISTRAL, "sliding_window": 4096, "vocab_size": 32000}
    built = Built({"config": config}, {"kv": "auto", "gpu": "h100-80", "tp": 1, "pp": 1, "available_gib": 3})
    assert built.ranks[0].parameter_bytes == 14_483_464_192
    assert len(built.layout.groups) == 1
    assert built.layout.need_blocks(32768, built.limits.in_flight_tokens) == 1281
    assert built.layout.capacity(32768, built.limits.in_flight_tokens, built.available).tokens == 39290


def test_a_quantized_deepseek_keeps_absorbed_weights_after_loading() -> None:
    (config,) = (vector["config"] for vector in VECTORS if vector["model"] == "deepseek-ai/DeepSeek-V3")
    shape = shape_from_facts(facts(config))
    (rank,) = rank_weights(shape, 8, 1, 2, shape.quantization)
    assert rank.post_load_bytes == 61 * 128 // 8 * (128 + 128) * 512 * 2
    assert round(rank.total_bytes / GIB, 2) == 79.55
