"""Families whose layers keep states: what they refuse, what ranks copy and how stages are split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.backend import CacheOptions, caches_on
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.families.hybrids import DROPPED
from plimsoll.sizing.families.state_defaults import DEFAULTS
from plimsoll.sizing.fused import chains, shared_scale_bytes
from plimsoll.sizing.gpus import find
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.quantization import Quantization, WeightFormat
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.tensors import Tensor
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem
from plimsoll.units import GIB
from support.configs import facts, patched

VERSION = parse_version("0.33.0")
CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"].rpartition("/")[2]: vector["config"]
    for vector in json.loads(Path(__file__).with_name("data").joinpath("vllm_plans_states.json").read_text())
}
GRANITE = "granite-4.0-h-tiny"
DENSE_GRANITE = "granite-4.0-h-micro"
FALCON = "Falcon-H1-7B-Instruct"
JAMBA = "AI21-Jamba-1.5-Mini"
ZAMBA = "Zamba2-1.2B"
LFM2 = "LFM2-1.2B"
LFM2_VL = "LFM2-VL-1.6B"
LING = "a small Ling 2.5"
LFM2_MOE = "LFM2-8B-A1B"
KIMI = "Kimi-Linear-48B-A3B-Instruct"
OLMO = "Olmo-Hybrid-7B"
MAMBA = "mamba-2.8b-hf"
MAMBA2 = "mamba2-2.7b-hf"
NEMOTRON_FIELDS = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "mamba_num_heads": 16,
    "mamba_head_dim": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
FP8_TENSOR = {"quant_method": "fp8", "activation_scheme": "static"}


REFUSALS = [
    ("granite-kinds", GRANITE, {"layer_types": ["mamba"] * 39}, "layer_types", "40 layers"),
    (
        "granite-no-attention",
        GRANITE,
        {"layer_types": ["mamba"] * 40},
        "layer_types",
        "no layer of attention",
    ),
    ("granite-unknown-kind", GRANITE, {"layer_types": ["rwkv"] * 40}, "layer_types", "attention or mamba"),
    (
        "granite-shared",
        GRANITE,
        {"shared_intermediate_size": None},
        "shared_intermediate_size",
        "whole number",
    ),
    ("granite-experts", GRANITE, {"num_local_experts": None}, "num_local_experts", "whole number"),
    ("granite-heads", GRANITE, {"mamba_n_heads": 47}, "mamba_d_head", "47 heads"),
    ("granite-head-size", GRANITE, {"mamba_d_head": 32}, "mamba_d_head", "inner width, 3072"),
    ("granite-groups", GRANITE, {"mamba_n_groups": 7}, "mamba_n_groups", "divide the heads"),
    ("granite-kernel", GRANITE, {"mamba_d_conv": 1}, "mamba_d_conv", "between 2 and 64"),
    ("granite-head-dim", GRANITE, {"head_dim": 64}, "head_dim", "share out the hidden size"),
    ("one-group-no-bias", GRANITE, {"mamba_conv_bias": False}, "mamba_n_groups", "without bias"),
    ("falcon-rotary", FALCON, {"attn_rotary_emb": 4096}, "attn_rotary_emb", "between 1 and 128"),
    ("falcon-inner", FALCON, {"mamba_d_ssm": 3000}, "mamba_d_head", "inner width, 3000"),
    ("jamba-offset", JAMBA, {"attn_layer_offset": 8}, "attn_layer_offset", "between 0 and 7"),
    (
        "jamba-no-attention",
        JAMBA,
        {"attn_layer_period": 99, "attn_layer_offset": 98},
        "attn_layer_period",
        "no",
    ),
    ("jamba-rank", JAMBA, {"mamba_dt_rank": "large"}, "mamba_dt_rank", "whole number"),
    ("zamba-quantized", ZAMBA, {"quantization_config": FP8_TENSOR}, "quant_method", "quantized zamba2"),
    ("zamba-kv", ZAMBA, {"num_key_value_heads": 8}, "num_key_value_heads", "32 attention heads"),
    ("zamba-kinds", ZAMBA, {"layers_block_type": None}, "layers_block_type", "38 layers"),
    ("zamba-blocks", ZAMBA, {"num_mem_blocks": 0}, "num_mem_blocks", "between 1"),
    ("lfm2-width", LFM2, {"conv_dim": 1024}, "conv_dim", "hidden size, 2048"),
    ("lfm2-numbers", LFM2, {"full_attn_idxs": [1.5]}, "full_attn_idxs", "list of layer numbers"),
    ("lfm2-no-attention", LFM2, {"full_attn_idxs": [99]}, "full_attn_idxs", "no layer of attention"),
    ("lfm2-nothing", LFM2, {"full_attn_idxs": None}, "layer_types", "16 layers"),
    ("lfm2-factor", LFM2, {"block_ffn_dim_multiplier": float("nan")}, "block_ffn_dim_multiplier", "between"),
    ("lfm2-moe-dense", LFM2_MOE, {"num_dense_layers": None}, "num_dense_layers", "whole number"),
    ("kimi-rope", KIMI, {"mla_use_nope": False}, "mla_use_nope", "vLLM refuses"),
    ("kimi-variant", KIMI, {"q_lora_rank": 512}, "q_lora_rank", "variant"),
    ("kimi-gate", KIMI, {"linear_attn_config.use_full_rank_gate": True}, "use_full_rank_gate", "variant"),
    ("kimi-layers", KIMI, {"linear_attn_config.kda_layers": "all"}, "linear_attn_config.kda_layers", "list"),
    ("kimi-all", KIMI, {"linear_attn_config.kda_layers": list(range(99))}, "kda_layers", "some of 27"),
    ("kimi-section", KIMI, {"linear_attn_config": None}, "linear_attn_config", "which layers"),
    ("olmo-all", OLMO, {"layer_types": ["full_attention"] * 32}, "layer_types", "linear attention"),
    ("olmo-packed", OLMO, {"quantization_config": GPTQ}, "quant_method", "gptq weights"),
    ("vl-no-encoder", LFM2_VL, {"vision_config": None}, "vision_config", "image encoder"),
    ("vl-encoder", LFM2_VL, {"vision_config.model_type": "clip"}, "vision_config.model_type", "siglip2"),
    ("vl-patches", LFM2_VL, {"vision_config.num_patches": 255}, "vision_config.num_patches", "square"),
    ("vl-text", LFM2_VL, {"text_config.model_type": "llama"}, "text_config.model_type", "lfm2"),
    ("vl-projector", LFM2_VL, {"projector_hidden_size": None}, "projector_hidden_size", "whole number"),
    ("ling-groups", LING, {"layer_group_size": 99}, "layer_group_size", "20 layers"),
    ("ling-rope", LING, {"rope_scaling": {"type": "yarn"}}, "rope_scaling", "variant"),
    ("ling-router", LING, {"router_dtype": ["fp32"]}, "router_dtype", "fp32 or bf16"),
    ("mamba-quantized", MAMBA, {"quantization_config": FP8_TENSOR}, "quant_method", "quantized mamba"),
    ("mamba2-inner", MAMBA2, {"intermediate_size": 4096}, "intermediate_size", "inner width, 5120"),
    ("mamba2-heads", MAMBA2, {"num_heads": None}, "num_heads", "whole number"),
]


@pytest.mark.parametrize(
    ("model", "patch", "field", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSALS]
)
def test_what_cannot_be_exact_is_refused_by_field(
    model: str, patch: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(patched(CONFIGS[model], patch)))
    assert field in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("architecture", DROPPED, ids=str)
def test_a_class_that_left_the_engine_is_refused_with_its_last_release(architecture: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"no class for it after {DROPPED[architecture]}"):
        shape_from_facts(facts({"architectures": [architecture], "model_type": "bamba"}))


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        pytest.param(GRANITE, 8, "12 attention heads", id="attention-heads"),
        pytest.param("Falcon-H1-34B-Instruct", 4, "mixer.in_proj.B has 2 features", id="two-groups-on-four"),
        pytest.param("Falcon-H1-34B-Instruct", 2, None, id="two-groups-on-two"),
        pytest.param(DENSE_GRANITE, 8, None, id="one-group-is-copied"),
        pytest.param(MAMBA, 3, "not divisible by 3", id="channels"),
        pytest.param(LING, 16, "group_norm_size has 8 features", id="groups-of-a-norm"),
        pytest.param(LING, 8, None, id="one-group-of-a-norm-each"),
    ],
)
def test_sizes_of_tensor_parallelism(model: str, size: int, words: str | None) -> None:
    problem = tensor_parallel_problem(shape_from_facts(facts(CONFIGS[model])), size, None)
    assert (words is None) == (problem is None)
    assert words is None or words in (problem or "")


@pytest.mark.parametrize(
    ("quantization", "splits"),
    [
        pytest.param(None, True, id="bf16"),
        pytest.param(FP8_TENSOR, False, id="fp8"),
        pytest.param(GPTQ, False, id="gptq"),
    ],
)
def test_one_group_of_quantized_mamba_2_is_not_split(
    quantization: dict[str, Any] | None, splits: bool
) -> None:
    shape = shape_from_facts(facts(patched(CONFIGS[DENSE_GRANITE], {"quantization_config": quantization})))
    assert tensor_parallel_problem(shape, 1, shape.quantization) is None
    assert splits == (tensor_parallel_problem(shape, 2, shape.quantization) is None)


def test_one_group_of_mamba_2_lies_whole_on_every_rank() -> None:
    shape = shape_from_facts(facts(CONFIGS[DENSE_GRANITE]))
    (layer,) = {
        id(layer): layer for layer in shape.layers if isinstance(layer.cache, RecurrentState)
    }.values()
    (group,) = (tensor for tensor in layer.tensors if tensor.name == "mixer.in_proj.C")
    assert group.rank_shape(1) == group.rank_shape(8) == (128, 2048)


@pytest.mark.parametrize(
    ("size", "width"), [(1, 1024), (2, 512), (4, 256), (8, 256)], ids=["tp1", "tp2", "tp4", "tp8"]
)
def test_narrow_experts_of_kimi_linear_are_filled_up(size: int, width: int) -> None:
    shape = shape_from_facts(facts(CONFIGS[KIMI]))
    gate, down = (
        next(tensor for tensor in shape.layers[-1].tensors if tensor.name.endswith(f".experts.{name}_proj"))
        for name in ("gate", "down")
    )
    assert gate.rank_shape(size) == (width, 2304)
    assert down.rank_shape(size) == (2304, width)


def test_shared_blocks_of_zamba_are_counted_once() -> None:
    config = CONFIGS["Zamba2-7B"]
    (one,) = rank_weights(shape_from_facts(facts({**config, "num_mem_blocks": 1})), 1, 1, 2, None)
    (two,) = rank_weights(shape_from_facts(facts(config)), 1, 1, 2, None)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    block = 3 * (2 * hidden) ** 2 + 2 * hidden * hidden + 3 * hidden * inner + 3 * hidden
    assert two.parameter_bytes - one.parameter_bytes == 2 * block


def pool(gpus: int) -> NodePool:
    return NodePool(
        name="p", accelerator=find("H100"), gpus_per_node=gpus, nodes=1, allocatable_bytes=512 * GIB
    )


@pytest.mark.parametrize("model", [ZAMBA, MAMBA2], ids=str)
def test_classes_without_stages_are_never_split_into_them(model: str) -> None:
    config = facts(CONFIGS[model])
    shape = shape_from_facts(config)
    asked = Serving(engine_version="0.33.0", tensor_parallel_size=1, pipeline_parallel_size=2)
    refusal = estimate(shape, config, asked, [pool(2)])
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.NOT_DIVISIBLE
    assert "pipelineParallelSize of 2 is not possible" in refusal.message


def test_tied_falcon_h1_is_not_split_into_stages() -> None:
    assert shape_from_facts(facts(CONFIGS[FALCON])).stages_problem is None
    tied = shape_from_facts(facts(patched(CONFIGS[FALCON], {"tie_word_embeddings": True})))
    assert "only the first stage has" in (tied.stages_problem or "")


@pytest.mark.parametrize(
    ("asked", "states"), [(None, 1), (True, 2), (False, 1)], ids=["default", "asked-for", "off"]
)
def test_models_without_attention_have_no_prefix_cache_unless_asked(asked: bool | None, states: int) -> None:
    shape = shape_from_facts(facts(CONFIGS[MAMBA]))
    caches = caches_on(shape, VERSION, find("H100"), CacheOptions(prefix_caching=asked))
    kinds = {kind for layer in caches for kind in layer}
    assert [states] == [kind.blocks_for(2048, 16, 16384) for kind in kinds]


def test_a_length_that_the_config_does_not_name_may_be_asked_for() -> None:
    config = facts(CONFIGS[MAMBA2])
    shape = shape_from_facts(config)
    plan = estimate(shape, config, Serving(engine_version="0.33.0", max_model_len=8192), [pool(1)])
    assert isinstance(plan, Plan)
    assert plan.max_model_len == 8192
    assert any("names no length" in warning for warning in shape.warnings)
    named = shape_from_facts(facts(patched(CONFIGS[MAMBA2], {"max_position_embeddings": 4096})))
    assert (named.max_model_len, named.length_limit) == (4096, 4096)


def test_a_model_without_attention_is_planned() -> None:
    config = facts(CONFIGS[MAMBA2])
    plan = estimate(shape_from_facts(config), config, Serving(engine_version="0.33.0"), [pool(1)])
    assert isinstance(plan, Plan)
    assert plan.max_model_len == 2048


@pytest.mark.parametrize(
    "layers",
    [{"layers_block_type": ["mamba", "attention", "mlp", "mamba"]}, {"hybrid_override_pattern": "M*-M"}],
)
def test_layers_of_nemotron_are_read_from_the_list_and_from_the_pattern(layers: dict[str, Any]) -> None:
    shape = shape_from_facts(facts({**NEMOTRON_FIELDS, **layers}))
    assert [layer.cache.describe() for layer in shape.layers] == [
        "Mamba 2 state",
        "full attention",
        "no cache",
        "Mamba 2 state",
    ]


def test_an_unknown_kind_of_layer_in_nemotrons_list_is_refused() -> None:
    config = {**NEMOTRON_FIELDS, "layers_block_type": ["mamba", "rwkv"]}
    with pytest.raises(UnsupportedModelError, match="layers_block_type"):
        shape_from_facts(facts(config))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        pytest.param(
            {"quant_method": "fp8", "weight_block_size": [128, 128]}, None, id="fp8-lets-a-seam-cut-a-block"
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {
                            "num_bits": 8,
                            "type": "float",
                            "strategy": "block",
                            "block_structure": [128, 128],
                        },
                        "input_activations": {"num_bits": 8, "type": "float", "dynamic": True},
                    }
                },
            },
            "not whole blocks of 128",
            id="compressed-tensors-does-not",
        ),
    ],
)
def test_blocks_across_the_seams_of_fused_projections(section: dict[str, Any], words: str | None) -> None:
    shape = shape_from_facts(
        facts(patched(CONFIGS["Falcon-H1-34B-Instruct"], {"quantization_config": section}))
    )
    problem = tensor_parallel_problem(shape, 2, shape.quantization)
    assert (words is None) == (problem is None)
    assert words is None or words in (problem or "")


def test_scales_of_blocks_that_reach_across_a_seam_are_counted_once() -> None:
    tensors = (
        Tensor(name="q", rows=192, columns=256, quantized=True),
        Tensor(name="k", rows=64, columns=256, quantized=True, follows=True),
        Tensor(name="o", rows=100, columns=100, quantized=True),
    )
    fp8 = Quantization(method="fp8", weights=WeightFormat.FP8_BLOCK, bits=8, block=(128, 128))
    assert [[tensor.name for tensor in chain] for chain in chains(tensors)] == [["q", "k"], ["o"]]
    assert (
        shared_scale_bytes(tensors, 1, fp8) == 1 * 2 * 4
    )  # 2 + 1 rows of scales apart, 2 together, 2 columns
    assert shared_scale_bytes(tensors, 1, None) == 0


def test_a_size_that_the_config_leaves_out_is_its_classes_and_told() -> None:
    config = CONFIGS[JAMBA]
    without = {field: value for field, value in config.items() if field not in DEFAULTS["jamba"]}
    whole, completed = shape_from_facts(facts(config)), shape_from_facts(facts(without))
    assert replace(completed, warnings=()) == whole
    assert "config.json leaves out" in completed.warnings[0]


def test_a_size_that_is_null_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="mamba_d_conv"):
        shape_from_facts(facts(patched(CONFIGS[JAMBA], {"mamba_d_conv": None})))
