from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.files import disagreement, parameter_count, stored_bytes
from plimsoll.sizing.layers import FullAttention, MultiHeadLatent, SlidingWindow
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.shape import shape_from_facts
from support.configs import facts

MISSING = object()


def config_of(model_id: str) -> dict[str, Any]:
    known = lookup(model_id)
    assert known is not None
    return copy.deepcopy(dict(known.config))


MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"


@pytest.mark.parametrize("model_id", model_ids())
def test_shapes_of_the_catalogue_account_for_its_files(model_id: str) -> None:
    known = lookup(model_id)
    assert known is not None
    shape = shape_from_facts(known)
    assert disagreement(shape, known) is None
    if shape.unloaded is None:
        total = sum(file.size_bytes for file in weight_files(known.files))
        total -= sum(known.unloaded_bytes.values())
        assert stored_bytes(shape, 4 if shape.dtype == "float32" else 2) == pytest.approx(total, rel=3e-4)


@pytest.mark.parametrize(
    ("model_id", "parameters"),
    [
        pytest.param("facebook/opt-125m", 125_239_296, id="opt-125m"),
        pytest.param("google/gemma-2-2b-it", 2_614_341_888, id="gemma-2-2b"),
    ],
)
def test_tied_models_have_their_published_number_of_parameters(model_id: str, parameters: int) -> None:
    assert parameters == parameter_count(shape_from_facts(facts(config_of(model_id))))


@pytest.mark.parametrize(
    ("model_id", "kinds"),
    [
        pytest.param(MISTRAL, {FullAttention(num_kv_heads=8, head_size=128): 32}, id="full"),
        pytest.param(
            "google/gemma-2-9b-it",
            {
                SlidingWindow(num_kv_heads=8, head_size=256, window=4096): 21,
                FullAttention(num_kv_heads=8, head_size=256): 21,
            },
            id="interleaved",
        ),
        pytest.param(DEEPSEEK, {MultiHeadLatent(kv_lora_rank=512, qk_rope_head_dim=64): 61}, id="latent"),
        pytest.param(
            "microsoft/Phi-3-mini-4k-instruct",
            {SlidingWindow(num_kv_heads=32, head_size=96, window=2047): 32},
            id="all-sliding",
        ),
        pytest.param(
            "Qwen/Qwen2.5-7B-Instruct", {FullAttention(num_kv_heads=4, head_size=128): 28}, id="window-off"
        ),
    ],
)
def test_each_layer_has_its_kind_of_cache(model_id: str, kinds: dict[object, int]) -> None:
    shape = shape_from_facts(facts(config_of(model_id)))
    caches = [layer.cache for layer in shape.layers]
    assert kinds == {kind: caches.count(kind) for kind in caches}


def test_long_rope_reaches_its_full_length_and_says_what_it_costs() -> None:
    shape = shape_from_facts(facts(config_of("microsoft/Phi-3-mini-128k-instruct")))
    assert shape.max_model_len == 131072
    assert any("4096" in warning for warning in shape.warnings)
    assert shape.rope is not None
    assert shape.rope.positions == 4096 + 131072


@pytest.mark.parametrize(
    ("scaling", "length"),
    [
        pytest.param({"rope_type": "linear", "factor": 4.0}, 4 * 32768, id="linear"),
        pytest.param({"type": "dynamic", "factor": 2}, 2 * 32768, id="dynamic-old-name"),
        pytest.param({"rope_type": "llama3", "factor": 8.0}, 32768, id="llama3"),
        pytest.param(
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 32768, id="yarn"
        ),
        pytest.param(None, 32768, id="none"),
    ],
)
def test_the_length_follows_the_rope_type(scaling: dict[str, Any] | None, length: int) -> None:
    shape = shape_from_facts(facts({**config_of(MISTRAL), "rope_scaling": scaling}))
    assert length == shape.max_model_len


@pytest.mark.parametrize(("kind", "rows"), [("linear", 4 * 32768), ("dynamic", 32768)])
def test_a_linear_table_is_longer_and_a_dynamic_one_is_not(kind: str, rows: int) -> None:
    scaling = {"rope_type": kind, "factor": 4.0}
    shape = shape_from_facts(facts({**config_of(MISTRAL), "rope_scaling": scaling}))
    assert shape.rope is not None
    assert rows == shape.rope.positions


def test_where_nobody_says_a_length_long_rope_gets_that_of_its_short_factors() -> None:
    shape = shape_from_facts(facts(config_of("microsoft/Phi-3-mini-128k-instruct")))
    assert shape.unset_max_model_len == 4096
    plain = shape_from_facts(facts(config_of(MISTRAL)))
    assert plain.unset_max_model_len == plain.max_model_len


REFUSALS = [
    ("heads-zero", MISTRAL, {"num_attention_heads": 0}, "num_attention_heads", "between 1"),
    ("heads-negative", MISTRAL, {"num_attention_heads": -32}, "num_attention_heads", "between 1"),
    ("heads-null", MISTRAL, {"num_attention_heads": None}, "num_attention_heads", "whole number"),
    ("heads-text", MISTRAL, {"num_attention_heads": "32"}, "num_attention_heads", "whole number"),
    ("heads-bool", MISTRAL, {"num_attention_heads": True}, "num_attention_heads", "whole number"),
    ("heads-float", MISTRAL, {"num_attention_heads": 32.0}, "num_attention_heads", "whole number"),
    ("heads-missing", MISTRAL, {"num_attention_heads": MISSING}, "num_attention_heads", "whole number"),
    ("heads-list", MISTRAL, {"num_attention_heads": [32]}, "num_attention_heads", "whole number"),
    ("heads-huge", MISTRAL, {"num_attention_heads": 10**40}, "num_attention_heads", "between 1"),
    ("layers-huge", MISTRAL, {"num_hidden_layers": 2**21}, "num_hidden_layers", "between 1"),
    ("hidden-odd", MISTRAL, {"hidden_size": 4097}, "num_attention_heads", "divide hidden_size"),
    ("kv-heads", MISTRAL, {"num_key_value_heads": 5}, "num_key_value_heads", "divide num_attention_heads"),
    ("architecture", MISTRAL, {"architectures": ["RwkvForCausalLM"]}, "architectures", "RwkvForCausalLM"),
    ("llama-4", MISTRAL, {"architectures": ["Llama4ForConditionalGeneration"]}, "model_type", "llama4"),
    ("no-architecture", MISTRAL, {"architectures": []}, "architectures", "one architecture"),
    ("model-type", MISTRAL, {"model_type": "mamba"}, "model_type", "mistral"),
    ("vision", MISTRAL, {"vision_config": {"a": 1}}, "vision_config", "beside the text"),
    ("layer-type", MISTRAL, {"layer_types": ["linear_attention"] * 32}, "layer_types", "linear_attention"),
    ("layer-types-short", MISTRAL, {"layer_types": ["full_attention"]}, "layer_types", "32 layers"),
    ("window-missing", MISTRAL, {"layer_types": ["sliding_attention"] * 32}, "sliding_window", "its length"),
    (
        "some-windows",
        "Qwen/Qwen2.5-7B-Instruct",
        {"use_sliding_window": True},
        "use_sliding_window",
        "not sized",
    ),
    ("dtype", MISTRAL, {"torch_dtype": "int3"}, "torch_dtype", "not one that can be sized"),
    ("rope-type", MISTRAL, {"rope_scaling": {"rope_type": "spiral"}}, "rope_scaling.rope_type", "not known"),
    (
        "rope-factor",
        MISTRAL,
        {"rope_scaling": {"type": "linear", "factor": float("nan")}},
        "factor",
        "between",
    ),
    (
        "quantization",
        MISTRAL,
        {"quantization_config": {"quant_method": "squeezellm"}},
        "quant_method",
        "dropped",
    ),
    ("gguf", MISTRAL, {"quantization_config": {"quant_method": "gguf"}}, "quant_method", "plugin"),
    (
        "bitsandbytes-8-bit",
        MISTRAL,
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        "load_in_4bit",
        "4 bit builds",
    ),
    (
        "bitsandbytes-type",
        MISTRAL,
        {
            "quantization_config": {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "af4",
            }
        },
        "bnb_4bit_quant_type",
        "nf4 or fp4",
    ),
    (
        "bitsandbytes-storage",
        MISTRAL,
        {
            "quantization_config": {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_quant_storage": "bfloat16",
            }
        },
        "bnb_4bit_quant_storage",
        "uint8 only",
    ),
    ("no-method", MISTRAL, {"quantization_config": {"bits": 4}}, "quant_method", "must be a string"),
    ("quantization-list", MISTRAL, {"quantization_config": ["fp8"]}, "quantization_config", "an object"),
    (
        "awq-bits",
        MISTRAL,
        {"quantization_config": {"quant_method": "awq", "bits": 3, "zero_point": True}},
        "bits",
        "4",
    ),
    (
        "awq-zero",
        MISTRAL,
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        "zero_point",
        "vLLM refuses",
    ),
    (
        "gptq-order",
        MISTRAL,
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "desc_act",
        "vLLM refuses",
    ),
    (
        "regular-expression",
        MISTRAL,
        {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["re:.*down_proj"]}},
        "quantization_config",
        "not understood",
    ),
    ("sparse", DEEPSEEK, {"index_topk": 2048}, "index_topk", "sparse attention"),
    ("groups", DEEPSEEK, {"n_group": None}, "n_group", "grouped experts"),
    ("experts", DEEPSEEK, {"num_experts_per_tok": 10**6}, "num_experts_per_tok", "between 1 and 256"),
    (
        "expert-format",
        DEEPSEEK,
        {"quantization_config": {"quant_method": "mxfp4"}},
        "quant_method",
        "experts",
    ),
    ("opt-bias", "facebook/opt-125m", {"enable_bias": False}, "enable_bias", "variant"),
]


@pytest.mark.parametrize(
    ("model_id", "patch", "field", "words"),
    [pytest.param(*case[1:], id=case[0]) for case in REFUSALS],
)
def test_what_is_not_known_is_refused_by_field_and_value(
    model_id: str, patch: dict[str, Any], field: str, words: str
) -> None:
    config = config_of(model_id)
    for key, value in patch.items():
        if value is MISSING:
            del config[key]
        else:
            config[key] = value
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(config))
    message = str(refusal.value)
    assert field in message
    assert words in message
    assert len(message) < 800
    assert "\n" not in message


def test_modules_that_stay_in_16_bits_are_counted_so() -> None:
    config = config_of(MISTRAL)
    config["quantization_config"] = {"quant_method": "fp8"}
    everywhere = stored_bytes(shape_from_facts(facts(config)), 2)
    config["quantization_config"]["modules_to_not_convert"] = ["lm_head", "model.layers.0.mlp.down_proj"]
    all_but_one = stored_bytes(shape_from_facts(facts(config)), 2)
    # A byte more for each weight, and no scale.
    assert all_but_one - everywhere == 4096 * 14336 - 4


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["yarn", "full_attention", "awq", "fp8", "gptq", "compressed-tensors", "modelopt", "float32"]
    ),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = sorted(
    {field for model_id in model_ids() for field in config_of(model_id)}
    | {"layer_types", "rope_parameters", "quantization_config", "head_dim", "dtype", "partial_rotary_factor"}
)


@settings(max_examples=400, deadline=None)
@given(
    model_id=st.sampled_from(model_ids()),
    patch=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, min_size=1, max_size=3),
)
def test_any_config_is_read_or_refused_in_one_sentence(model_id: str, patch: dict[str, Any]) -> None:
    config = config_of(model_id) | patch
    try:
        shape = shape_from_facts(facts(config))
    except UnsupportedModelError as refusal:
        assert str(refusal).startswith("config.json: ")  # noqa: PT017 - a refusal is one of two good ends
    else:
        assert shape.max_model_len >= 1
        assert stored_bytes(shape, 2) > 0


QUANT_KEYS = ["quant_method", "bits", "group_size", "weight_block_size", "zero_point", "desc_act", "config_groups",
              "ignore", "modules_to_not_convert", "kv_cache_scheme", "quant_algo", "activation_scheme"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["fp8", "awq", "gptq", "compressed-tensors", "modelopt", "mxfp4"]),
    section=st.dictionaries(st.sampled_from(QUANT_KEYS), JSON_VALUES, max_size=5),
)
def test_any_quantization_is_read_or_refused(method: str, section: dict[str, Any]) -> None:
    config = config_of(MISTRAL) | {"quantization_config": {"quant_method": method} | section}
    json.dumps(config)  # the strategy makes nothing that JSON does not
    try:
        shape = shape_from_facts(facts(config))
    except UnsupportedModelError as refusal:
        assert "quantization_config" in str(refusal)  # noqa: PT017
    else:
        assert shape.quantization is not None
