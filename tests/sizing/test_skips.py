"""Modules left in 16 bits: each method's way of naming them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.facts import ModelFacts
from plimsoll.sizing.shape import shape_from_facts

CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for vector in json.loads(Path(__file__).with_name("data").joinpath("vllm_plans.json").read_text())
}
LLAMA = CONFIGS["meta-llama/Llama-3.1-8B-Instruct"]
MOE = CONFIGS["Qwen/Qwen3-Coder-30B-A3B-Instruct"]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
TENSORS = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
            "input_activations": {"dynamic": True},
        }
    },
}


def quantized(base: dict[str, Any], section: dict[str, Any]) -> list[set[str]]:
    """The quantized tensors of the first two layers."""
    facts = ModelFacts(
        model_id="a/b",
        requested_revision="main",
        commit="0" * 40,
        config=base | {"quantization_config": section},
        files=(),
    )
    layers = shape_from_facts(facts).layers[:2]
    return [{tensor.name for tensor in layer.tensors if tensor.quantized} for layer in layers]


ALL = {f"self_attn.{name}_proj" for name in "qkvo"} | {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
MLP = {name for name in ALL if name.startswith("mlp")}
EXPERTS = {f"mlp.experts.{name}_proj" for name in ("gate", "up", "down")}


@pytest.mark.parametrize(
    ("section", "first", "second"),
    [
        pytest.param(FP8, ALL, ALL, id="nothing-named"),
        pytest.param(
            FP8 | {"modules_to_not_convert": ["model.layers.0.mlp.down_proj"]},
            ALL - {"mlp.down_proj"},
            ALL,
            id="fp8-one-module",
        ),
        pytest.param(
            FP8 | {"modules_to_not_convert": ["model.layers.1.self_attn"]}, ALL, MLP, id="fp8-a-whole-module"
        ),
        pytest.param(FP8 | {"modules_to_not_convert": ["gate", "lm_head"]}, ALL, ALL, id="fp8-is-exact"),
        pytest.param(AWQ | {"modules_to_not_convert": ["self_attn"]}, MLP, MLP, id="awq-part-of-a-name"),
        pytest.param(GPTQ | {"dynamic": {"-:.*attn.*": {}}}, MLP, MLP, id="gptq-rule"),
        pytest.param(GPTQ | {"dynamic": {"-:attn": {}}}, ALL, ALL, id="gptq-rules-match-from-the-start"),
        pytest.param(MODELOPT | {"ignore": ["model.layers.0.self_attn*"]}, MLP, ALL, id="modelopt-wildcard"),
        pytest.param(
            MODELOPT | {"ignore": ["model.language_model.layers.1.mlp*"]},
            ALL,
            ALL - MLP,
            id="modelopt-prefix",
        ),
        pytest.param(TENSORS | {"ignore": ["re:.*self_attn.*"]}, MLP, MLP, id="expression"),
        pytest.param(
            TENSORS | {"ignore": [r"re:.*mlp\.(gate|up|down)_proj$"]}, ALL - MLP, ALL - MLP, id="alternatives"
        ),
        pytest.param(TENSORS | {"ignore": [r"re:.*(?:mlp|self_attn)\..*"]}, set(), set(), id="no-capture"),
        pytest.param(
            TENSORS | {"ignore": ["re:.*layers\\.0\\..*"]}, set(), ALL, id="expression-with-escaped-dots"
        ),
        pytest.param(TENSORS | {"ignore": ["re:.*down_proj$"]}, ALL - {"mlp.down_proj"}, None, id="end"),
        pytest.param(TENSORS | {"ignore": ["re:.*down$"]}, ALL, ALL, id="an-end-that-does-not-match"),
        pytest.param(TENSORS | {"ignore": ["lm_head"]}, ALL, ALL, id="output-layer"),
    ],
)
def test_what_is_named_stays_in_16_bits(
    section: dict[str, Any], first: set[str], second: set[str] | None
) -> None:
    assert [first, first if second is None else second] == quantized(LLAMA, section)


def test_experts_are_one_module() -> None:
    attention = {name for name in ALL if name.startswith("self_attn")}
    section = FP8 | {"modules_to_not_convert": ["model.layers.0.mlp.experts", "model.layers.0.mlp.gate"]}
    assert quantized(MOE, section) == [attention, attention | EXPERTS | {"mlp.gate"}]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        pytest.param(TENSORS | {"ignore": ["re:(a+)+$"]}, "not understood", id="nested-repeats"),
        pytest.param(TENSORS | {"ignore": ["re:model.layers.[0-9]+"]}, "not understood", id="classes"),
        pytest.param(TENSORS | {"ignore": ["re:" + ".*a" * 200]}, "not understood", id="too-long"),
        pytest.param(TENSORS | {"ignore": ["re:(up|down)*x"]}, "not understood", id="repeated-words"),
        pytest.param(TENSORS | {"ignore": ["re:" + "(a|b)" * 50]}, "so many alternatives", id="alternatives"),
        pytest.param(FP8 | {"ignored_layers": ["re:.*down_proj"]}, "not understood", id="fp8-has-none"),
        pytest.param(
            MODELOPT | {"ignore": ["model.layers.[01].mlp"]}, "not understood", id="other-wildcards"
        ),
        pytest.param(
            TENSORS | {"ignore": ["model.layers.0.self_attn.k_proj"]},
            "fuses it",
            id="a-part-of-a-fused-layer",
        ),
        pytest.param(GPTQ | {"dynamic": {"+:.*": {"bits": 8}}}, "change the bits", id="gptq-other-bits"),
    ],
)
def test_what_is_not_understood_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        quantized(LLAMA, section)


def test_many_wildcards_take_linear_time() -> None:
    section = TENSORS | {"ignore": ["re:" + ".*a" * 80 for _ in range(100)]}
    started = time.process_time()
    quantized(LLAMA, section)
    assert time.process_time() - started < 5
