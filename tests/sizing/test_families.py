"""Every family: what is read, what is refused, and that no config brings another exception."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.backend import caches_on, kernel_block_size
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.kv_plan import cache_layout
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.plan import PartName, Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import SUPPORTED_ARCHITECTURES, ModelShape, shape_from_facts
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem
from plimsoll.units import GIB
from support.configs import facts, patched

CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for path in sorted(Path(__file__).with_name("data").glob("vllm_plans*.json"))
    for vector in json.loads(path.read_text())
}
SMALL = [name for name, config in CONFIGS.items() if len(json.dumps(config)) < 6000]
QWEN35 = "Qwen/Qwen3.5-9B"
QWEN3_VL = "Qwen/Qwen3-VL-2B-Instruct"
NEMOTRON = "nvidia/NVIDIA-Nemotron-Nano-9B-v2"
MIXED = "sakamakismile/Qwen3.6-27B-Text-NVFP4-MTP"


REFUSALS = [
    (
        "delta-kernel",
        QWEN35,
        {"text_config.linear_conv_kernel_dim": 10**6},
        "linear_conv_kernel_dim",
        "between",
    ),
    ("delta-dtype", QWEN35, {"text_config.mamba_ssm_dtype": "int3"}, "mamba_ssm_dtype", "one of"),
    ("layer-kind", QWEN35, {"text_config.layer_types": ["full"] * 32}, "layer_types", "'full'"),
    ("no-text", QWEN35, {"text_config": None}, "text_config", "the text"),
    ("no-vision", QWEN3_VL, {"vision_config": None}, "vision_config", "image encoder"),
    ("vision-heads", QWEN3_VL, {"vision_config.num_heads": 7}, "vision_config.num_heads", "divide"),
    ("levels", QWEN3_VL, {"vision_config.deepstack_visual_indexes": 3}, "deepstack_visual_indexes", "list"),
    ("pattern-short", NEMOTRON, {"hybrid_override_pattern": "M*"}, "hybrid_override_pattern", "56 layers"),
    (
        "pattern-letter",
        NEMOTRON,
        {"hybrid_override_pattern": "M" * 55 + "Q"},
        "hybrid_override_pattern",
        "spell",
    ),
    ("mamba-bias", NEMOTRON, {"use_bias": True}, "use_bias", "variant"),
    ("alibi", "tiiuae/falcon-7b", {"alibi": True}, "alibi", "variant"),
    (
        "per-layer",
        "google/gemma-4-31B-it",
        {"text_config.num_kv_shared_layers": 60},
        "num_kv_shared",
        "below num_hidden_layers",
    ),
    (
        "sound",
        "google/gemma-4-31B-it",
        {"audio_config": {"a": 1}},
        "audio_config.hidden_size",
        "whole number",
    ),
    ("dense-layers", "Qwen/Qwen3-Coder-30B-A3B-Instruct", {"mlp_only_layers": 3}, "mlp_only_layers", "list"),
    ("index", "zai-org/GLM-5.1-FP8", {"index_topk": None}, "index_topk", "whole number"),
    (
        "mxfp4-elsewhere",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        {"quantization_config": {"quant_method": "mxfp4"}},
        "quant_method",
        "experts with mxfp4",
    ),
    (
        "gpt-oss-elsewhere",
        "openai/gpt-oss-120b",
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        "quant_method",
        "experts with fp8",
    ),
    (
        "encoder-quantized-too",
        QWEN3_VL,
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        "quantization_config",
        "encoder beside the text",
    ),
    (
        "mixed-empty",
        MIXED,
        {"quantization_config.quantized_layers": {}},
        "quantized_layers",
        "names no layers",
    ),
]


@pytest.mark.parametrize(
    ("model", "patch", "field", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSALS]
)
def test_what_a_family_does_not_know_is_refused_by_field(
    model: str, patch: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(patched(CONFIGS[model], patch)))
    assert field in str(refusal.value)
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 800


def test_every_supported_architecture_but_one_that_only_shares_a_builder_has_a_vector() -> None:
    seen = {config["architectures"][0] for config in CONFIGS.values()}
    shared = {  # the same builder as a neighbour with a vector
        "BambaForCausalLM",  # test_bamba: 0.33 has no class for it, so that there is no vector
        "DeepseekV32ForCausalLM",  # GlmMoeDsaForCausalLM
        "DeepseekV4ForCausalLM",  # test_deepseek_v4
        "OPTForCausalLM",  # test_catalogue and the sandbox's small models
    }
    assert set(SUPPORTED_ARCHITECTURES) - seen == shared


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def fields_of(config: dict[str, Any]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in config.items():
        found.append((key,))
        if isinstance(value, dict):
            found += [(key, *rest) for rest in fields_of(value)]
    return found


@given(data=st.data(), model=st.sampled_from(SMALL), size=st.sampled_from([1, 2, 3, 8]))
def test_any_value_in_any_field_gives_a_shape_or_a_refusal(
    data: st.DataObject, model: str, size: int
) -> None:
    config = copy.deepcopy(CONFIGS[model])
    *sections, field = data.draw(st.sampled_from(fields_of(config)))
    part = config
    for section in sections:
        part = part[section]
    part[field] = data.draw(JSON)
    with contextlib.suppress(UnsupportedModelError):
        layout_on_hopper(shape_from_facts(facts(config)), size)


def layout_on_hopper(shape: ModelShape, size: int) -> None:
    version, card = parse_version("0.33.0"), find("H100")
    if tensor_parallel_problem(shape, size, shape.quantization) is not None:
        return
    ranks = rank_weights(shape, size, 1, 2, shape.quantization)
    layout = cache_layout(
        caches_on(shape, version, card),
        stages=[rank.layers for rank in ranks],
        tensor_parallel_size=size,
        element_bytes=2,
        block_size=kernel_block_size(shape, version, card, fp8_cache=False),
        reserve_null_block=True,
    )
    assert ranks[0].parameter_bytes > 0
    assert layout.bytes_per_block > 0
    assert layout.need_blocks(shape.max_model_len, 16384) > 0


NEXT = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "dtype": "bfloat16",
    "attention_bias": False,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.25,
    "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}


@pytest.mark.parametrize(
    ("size", "block", "per_block"),
    [pytest.param(4, 320, 3_932_160, id="tp4"), pytest.param(8, 192, None, id="tp8")],
)
def test_qwen3_next_has_vllms_bytes_and_blocks(size: int, block: int, per_block: int | None) -> None:
    shape = shape_from_facts(facts(NEXT))
    (rank,) = rank_weights(shape, size, 1, 2, None)
    version, card = parse_version("0.33.0"), find("H100")
    layout = cache_layout(
        caches_on(shape, version, card),
        stages=[rank.layers],
        tensor_parallel_size=size,
        element_bytes=2,
        block_size=16,
        reserve_null_block=True,
    )
    assert block == layout.block_size
    if per_block is not None:
        assert rank.parameter_bytes == 39_925_738_176
        assert per_block == layout.bytes_per_block
        assert layout.need_blocks(262144, 16384) == 829


@pytest.mark.parametrize(
    ("release", "block", "need"),
    [
        pytest.param("0.33.0", 576, 456 + 3 * 3, id="0.33"),
        pytest.param("0.32.0", 544, 482 + 3 * 3, id="0.32"),
        pytest.param("0.28.0", 544, 482 + 3 * 2, id="before-checkpoints"),
        pytest.param("0.25.0", 544, 482 + 3 * 1, id="before-prefix-caching"),
    ],
)
def test_blocks_of_a_hybrid_depend_on_the_release(release: str, block: int, need: int) -> None:
    shape = shape_from_facts(facts(CONFIGS["Qwen/Qwen3.5-35B-A3B"] | NEXT_TEXT))
    version, card = parse_version(release), find("H100")
    layout = cache_layout(
        caches_on(shape, version, card),
        stages=[(0, len(shape.layers))],
        tensor_parallel_size=2,
        element_bytes=2,
        block_size=16,
        reserve_null_block=True,
    )
    assert block == layout.block_size
    assert need == layout.need_blocks(262144, 16384)


# Qwen3-Next's text behind the class of its successor, whose state follows the model's dtype where none is named.
NEXT_TEXT = {"text_config": NEXT | {"model_type": "qwen3_5_moe_text"}}


def pool(alias: str, gpus: int = 8) -> NodePool:
    return NodePool(name=alias, accelerator=find(alias), gpus_per_node=gpus, nodes=1)


def test_a_hybrid_is_planned_and_its_states_are_told() -> None:
    config = CONFIGS[NEMOTRON]
    plan = estimate(
        shape_from_facts(facts(config)), facts(config), Serving(engine_version="0.33.0"), [pool("H100")]
    )
    assert isinstance(plan, Plan)
    (state,) = (part for part in plan.parts if part.name is PartName.STATE)
    assert state.bytes == 0
    assert "27 layers of Mamba 2 state in 7 groups" in state.formula
    assert sum(part.bytes for part in plan.parts) == plan.usable_bytes
    assert plan.kv_cache.block_size == 1312


def test_a_hybrid_is_refused_on_cpu() -> None:
    config = CONFIGS[NEMOTRON]
    node = NodePool(name="cpu", accelerator=None, gpus_per_node=0, nodes=1, allocatable_bytes=256 * GIB)
    refusal = estimate(
        shape_from_facts(facts(config)),
        facts(config),
        Serving(engine_version="0.33.0", tensor_parallel_size=0),
        [node],
    )
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.HARDWARE_CANNOT
    assert "recurrent states" in refusal.message


def test_sparse_attention_needs_hopper() -> None:
    config = CONFIGS["zai-org/GLM-5.1-FP8"]
    refusal = estimate(
        shape_from_facts(facts(config)), facts(config), Serving(engine_version="0.33.0"), [pool("A100-80GB")]
    )
    assert isinstance(refusal, Refusal)
    assert "sparse latent attention" in refusal.message


@pytest.mark.parametrize(
    ("card", "checkpoints"), [("H100", 1), ("B200", 1), ("A100-80GB", 0), ("L4", 0)], ids=str
)
def test_delta_nets_keep_checkpoints_where_the_prefill_kernel_runs(card: str, checkpoints: int) -> None:
    shape = shape_from_facts(facts(CONFIGS[QWEN35]))
    caches = caches_on(shape, parse_version("0.33.0"), find(card))
    states = {cache for layer in caches for cache in layer if isinstance(cache, RecurrentState)}
    assert [checkpoints] == [state.checkpoints for state in states]


def test_an_encoder_is_on_the_first_stage_only_and_its_work_is_known() -> None:
    shape = shape_from_facts(facts(CONFIGS["google/gemma-3-12b-it"]))
    first, last = rank_weights(shape, 1, 2, 2, None)
    tower = sum(tensor.rank_bytes(1, 2, None) for tensor in shape.tower)
    assert first.parameter_bytes - last.parameter_bytes == tower
    assert first.buffer_bytes - last.buffer_bytes == shape.tower_buffer_bytes
    assert shape.encoder is not None
    assert shape.encoder.item_tokens == 256
    assert not any("working memory" in warning for warning in shape.warnings)


def test_mamba_groups_are_not_cut() -> None:
    shape = shape_from_facts(facts(CONFIGS["nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8"]))
    assert tensor_parallel_problem(shape, 8, None) is None
    assert "mixer.in_proj.B" in (tensor_parallel_problem(shape, 16, None) or "")


def test_expert_parallelism_gives_the_first_rank_whole_experts() -> None:
    shape = shape_from_facts(facts(CONFIGS["Qwen/Qwen1.5-MoE-A2.7B"]))
    (split,) = rank_weights(shape, 4, 1, 2, None)
    (whole,) = rank_weights(shape, 4, 1, 2, None, expert_parallel=True)
    assert whole.parameter_bytes == split.parameter_bytes  # 60 experts are 15 on each of 4 ranks
    assert whole.buffer_bytes - split.buffer_bytes == 24 * 60 * 4
    (eight,) = rank_weights(shape, 8, 1, 2, None)
    (uneven,) = rank_weights(shape, 8, 1, 2, None, expert_parallel=True)
    assert uneven.parameter_bytes > eight.parameter_bytes  # 8 of 60 experts, where an eighth is 7.5
