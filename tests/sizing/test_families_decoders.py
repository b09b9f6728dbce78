"""Decoders and encoders told by tables: what the tables mean, what they refuse, what a default is worth."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.backend import caches_on
from plimsoll.sizing.engine import EngineVersion
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.families.defaults import DEFAULTS
from plimsoll.sizing.gpus import find
from plimsoll.sizing.layers import ChunkedLocal, CrossAttention, FullAttention, NoCache, SlidingWindow
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem
from support.configs import MISSING, facts, patched

DATA = Path(__file__).with_name("data")
CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for name in ("decoders", "encoders", "quantized")
    for vector in json.loads(DATA.joinpath(f"vllm_plans_{name}.json").read_text())
}

REFUSALS = [
    ("own-name", "gpt2", {"n_embd": "768"}, "n_embd", "whole number"),
    ("own-name-missing", "gpt2", {"n_embd": MISSING}, "hidden_size", "whole number"),
    ("not-built", "stablelm-3b", {"qk_layernorm": True}, "qk_layernorm", "does not build it"),
    ("needed", "starcoder2-15b", {"use_bias": False}, "use_bias", "without it"),
    ("one-kind", "glm-4-9b-0414", {"layer_types": ["sliding_attention"] * 40}, "layer_types", "one kind"),
    ("window", "command-r7b", {"sliding_window": MISSING}, "sliding_window", "whole number"),
    ("rotary-wide", "gpt-j-6b", {"rotary_dim": 1024}, "rotary_dim", "between 1 and 256"),
    ("routed-bias", "ling-lite", {"use_bias": True}, "use_bias", "variant"),
    ("routed-lists", "hunyuan-a13b", {"moe_topk": [8, 4]}, "moe_topk", "differ"),
    ("experts-none", "olmoe-1b-7b", {"num_experts": MISSING}, "num_experts", "whole number"),
    ("blocks-short", "nemotron-super-49b", {"block_configs": [{}]}, "block_configs", "one entry"),
    ("blocks-text", "nemotron-super-49b", {"block_configs": ["a"] * 20}, "block_configs", "object"),
    ("blocks-empty", "nemotron-super-49b", {"block_configs": [{}] * 20}, "attention", "object"),
    ("no-rope", "llama4-scout", {"text_config.no_rope_layers": [1, 2]}, "no_rope_layers", "0 and 1"),
    ("no-rope-short", "llama4-scout", {"text_config.no_rope_layers": [1, 0]}, "no_rope_layers", "48 layers"),
    ("llama4-encoder", "llama4-scout", {"vision_config.model_type": "clip"}, "model_type", "Llama 4"),
    ("llava-text", "llava-1.5-7b", {"text_config.model_type": "bert"}, "model_type", "this text"),
    ("llava-encoder", "llava-1.5-7b", {"vision_config.model_type": "eva"}, "model_type", "such an encoder"),
    ("llava-layer", "llava-1.5-7b", {"vision_feature_layer": -40}, "vision_feature_layer", "-24 to 24"),
    ("llava-layers", "llava-1.5-7b", {"vision_feature_layer": []}, "vision_feature_layer", "1 to 24 layers"),
    ("merge", "kimi-vl-a3b-full", {"vision_config.merge_kernel_size": [2]}, "merge_kernel_size", "two whole"),
    ("thinker", "qwen3-omni-30b", {"thinker_config": MISSING}, "thinker_config", "must stand there"),
    ("hearing", "qwen3-omni-30b", {"thinker_config.audio_config": MISSING}, "audio_config", "must stand"),
    ("shared-all", "gemma-3n-e4b", {"num_kv_shared_layers": 35}, "num_kv_shared_layers", "below"),
    ("widths", "gemma-3n-e4b", {"intermediate_size": [1, 2]}, "intermediate_size", "35 layers"),
    ("width-kind", "gemma-3n-e4b", {"intermediate_size": [True] * 35}, "intermediate_size", "whole numbers"),
    ("shared-kinds", "gemma-4-e2b-text", {"num_kv_shared_layers": 33}, "num_kv_shared_layers", "each kind"),
    ("channels", "gemma-4-e2b-mm", {"audio_config.subsampling_conv_channels": [1]}, "channels", "two whole"),
    (
        "whisper-heads",
        "whisper-large-v3",
        {"decoder_attention_heads": 7},
        "decoder_attention_heads",
        "divide",
    ),
    (
        "whisper-quantized",
        "whisper-large-v3",
        {"quantization_config": {"quant_method": "fp8"}},
        "",
        "Whisper",
    ),
]


@pytest.mark.parametrize(
    ("model", "patch", "field", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSALS]
)
def test_what_a_table_does_not_hold_is_refused_by_field(
    model: str, patch: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(patched(CONFIGS[model], patch)))
    assert field in refusal.value.field
    assert words in str(refusal.value)


def test_a_family_with_names_of_its_own_reads_them() -> None:
    shape = shape_from_facts(facts(CONFIGS["gpt2"]))
    assert (shape.hidden_size, shape.intermediate_size, shape.max_model_len) == (768, 4 * 768, 1024)
    assert shape.rope is None


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        pytest.param("command-r7b", [SlidingWindow] * 3 + [FullAttention], id="every-fourth-full"),
        pytest.param("llama4-scout", [ChunkedLocal] * 3 + [FullAttention], id="chunked"),
        pytest.param("solar-pro", [SlidingWindow] * 4, id="window-of-the-config"),
        pytest.param("glm-4-9b-0414", [FullAttention] * 4, id="full"),
    ],
)
def test_the_first_layers_have_the_caches_that_the_class_gives_them(model: str, kinds: list[type]) -> None:
    shape = shape_from_facts(facts(CONFIGS[model]))
    assert kinds == [type(layer.cache) for layer in shape.layers[:4]]


def test_cohere_2_counts_the_token_itself_beside_the_window() -> None:
    cache = shape_from_facts(facts(CONFIGS["command-r7b"])).layers[0].cache
    assert isinstance(cache, SlidingWindow)
    assert cache.window == 4096 + 1


@pytest.mark.parametrize("model", ["gemma-3n-e4b", "gemma-4-e2b-text"])
def test_layers_that_share_keys_have_no_cache_of_their_own(model: str) -> None:
    layers = shape_from_facts(facts(CONFIGS[model])).layers
    shared = CONFIGS[model]["num_kv_shared_layers"]
    assert [isinstance(layer.cache, NoCache) for layer in layers] == [False] * (35 - shared) + [True] * shared


def test_cross_attention_holds_one_batch_of_the_encoder_whatever_the_length() -> None:
    layer = shape_from_facts(facts(CONFIGS["whisper-large-v3"])).layers[0]
    kinds = [type(cache) for cache in layer.caches]
    assert kinds == [CrossAttention, FullAttention]
    cross = layer.caches[0]
    assert {cross.blocks_for(tokens, 16, 2 * 8192) for tokens in (1, 100, 448)} == {512}
    assert cross.token_bytes(2, 2) == 10 * 2 * 64 * 2
    assert cross.describe() == "cross attention"


@pytest.mark.parametrize(
    ("version", "in_flight"),
    [
        pytest.param((0, 25, 0), 2048, id="one-batch-in-flight"),
        pytest.param((0, 26, 0), 4096, id="two-batches"),
    ],
)
def test_cross_attention_holds_as_much_whatever_is_in_flight(
    version: tuple[int, int, int], in_flight: int
) -> None:
    shape = shape_from_facts(facts(CONFIGS["whisper-large-v3"]))
    (cross, _), *_ = caches_on(shape, EngineVersion(version), find("L4"))
    assert isinstance(cross, CrossAttention)
    assert cross.blocks_for(448, 16, in_flight) == 128


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        pytest.param("gemma-3n-e4b", "pipeline stages", id="no-support"),
        pytest.param("whisper-large-v3", "pipeline stages", id="encoder-decoder"),
        pytest.param("gemma-4-e2b-text", "share keys", id="shared-keys"),
        pytest.param("ernie-4.5-21b-a3b", "tied", id="tied"),
        pytest.param("ernie-4.5-300b-a47b", "", id="not-tied"),
        pytest.param("gemma-4-26b-a4b-text", "", id="keys-of-their-own"),
    ],
)
def test_a_class_that_is_not_split_into_stages_says_so(model: str, problem: str) -> None:
    said = shape_from_facts(facts(CONFIGS[model])).stages_problem
    assert (said is None) == (problem == "")
    assert problem in (said or "")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        pytest.param("llava-1.5-7b", "vision_config", id="llava"),
        pytest.param("kimi-vl-a3b-full", "vision_config", id="kimi-vl"),
        pytest.param("qwen2-audio-7b", "audio_config", id="qwen2-audio"),
    ],
)
def test_an_encoder_that_the_config_leaves_out_is_the_class_own_and_the_plan_says_so(
    model: str, field: str
) -> None:
    full = shape_from_facts(facts(CONFIGS[model]))
    shape = shape_from_facts(facts(patched(CONFIGS[model], {field: MISSING})))
    assert full.tower == shape.tower
    assert any("leaves out" in warning and f"sizes of {field}" in warning for warning in shape.warnings)


def test_defaults_hold_sizes_only() -> None:
    for fields in DEFAULTS.values():
        assert fields
        assert all(isinstance(value, (int, float)) for value in fields.values())


@pytest.mark.parametrize(
    ("root", "text", "tied"),
    [
        pytest.param(True, False, True, id="the-root-rules"),
        pytest.param(False, True, False, id="the-root-rules-too"),
        pytest.param(MISSING, False, True, id="its-class-where-it-says-nothing"),
    ],
)
def test_tied_embeddings_behind_an_encoder_are_the_roots_to_say(
    root: object, text: object, *, tied: bool
) -> None:
    patch = {"tie_word_embeddings": root, "text_config.tie_word_embeddings": text}
    assert tied == shape_from_facts(facts(patched(CONFIGS["ministral-3-8b"], patch))).tied_embeddings


def test_packed_experts_are_not_split_inside_a_group() -> None:
    shape = shape_from_facts(facts(CONFIGS["q3moe-w4a16"]))
    assert tensor_parallel_problem(shape, 2, shape.quantization) is None
    problem = tensor_parallel_problem(shape, 4, shape.quantization)
    assert problem is not None
    assert "groups of 128" in problem
    assert tensor_parallel_problem(shape, 4, shape.quantization, expert_parallel=True) is None


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        pytest.param({"group_size": 32}, "tensor_group of 16", id="group"),
        pytest.param({"strategy": "channel"}, "tensor_group of 16", id="strategy"),
    ],
)
def test_packed_floats_of_another_layout_are_refused(weights: dict[str, Any], words: str) -> None:
    config = copy.deepcopy(CONFIGS["q3moe-nvfp4-ct"])
    config["quantization_config"]["config_groups"]["group_0"]["weights"] |= weights
    with pytest.raises(UnsupportedModelError, match=words):
        shape_from_facts(facts(config))


def test_packed_floats_without_4_bit_activations_are_refused() -> None:
    config = copy.deepcopy(CONFIGS["q3moe-nvfp4-ct"])
    config["quantization_config"]["config_groups"]["group_0"]["input_activations"] = None
    with pytest.raises(UnsupportedModelError, match="4 bit activations"):
        shape_from_facts(facts(config))


def test_a_latent_projection_that_is_not_quantized_leaves_nothing_absorbed_beside_it() -> None:
    shape = shape_from_facts(facts(CONFIGS["kimi-k2.5-short"]))
    (rank,) = rank_weights(shape, 1, 1, 2, shape.quantization)
    assert rank.post_load_bytes == 0
