from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
ORDERED = {**GPTQ, "desc_act": True}
FP8 = {"quant_method": "fp8"}
W8A8 = {
    "quant_method": "compressed-tensors",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
            "input_activations": {"dynamic": True},
        }
    },
}


def card(major: int, minor: int) -> Accelerator:
    return Accelerator(
        alias="any",
        product="ANY-GPU",
        memory_bytes=80 * GIB,
        compute_capability=(major, minor),
        provenance=Provenance.MEASURED,
        source="test",
    )


def facts(model_id: str, quantization: dict[str, Any] | None) -> ModelFacts:
    known = lookup(model_id)
    assert known is not None
    config = dict(known.config)
    if quantization is not None:
        config["quantization_config"] = quantization
    return ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())


def outcome(
    capability: tuple[int, int],
    quantization: dict[str, Any] | None,
    serving: dict[str, Any],
    version: str,
    model_id: str = "mistralai/Mistral-7B-Instruct-v0.3",
) -> str:
    """The dtype that is served, or which kind of refusal there is."""
    shape = shape_from_facts(facts(model_id, quantization))
    try:
        found = precision_for(
            shape, Serving(engine_version=version, **serving), card(*capability), parse_version(version)
        )
    except HardwareCannotError:
        return "card"
    except UnsupportedOptionError:
        return "option"
    return found.dtype


@pytest.mark.parametrize(
    ("capability", "quantization", "serving", "version", "expected"),
    [
        pytest.param((6, 1), None, {}, "0.33.0", "card", id="pascal"),
        pytest.param((7, 0), None, {}, "0.19.1", "float16", id="volta-before-cuda-13"),
        pytest.param((7, 0), None, {}, "0.20.0", "card", id="volta-since-cuda-13"),
        pytest.param((7, 5), None, {}, "0.33.0", "float16", id="turing-falls-back"),
        pytest.param((7, 5), None, {"dtype": "bfloat16"}, "0.33.0", "card", id="turing-bfloat16"),
        pytest.param((7, 5), None, {"dtype": "half"}, "0.33.0", "float16", id="half-is-float16"),
        pytest.param((8, 0), None, {}, "0.33.0", "bfloat16", id="ampere"),
        pytest.param((8, 0), None, {"dtype": "float32"}, "0.33.0", "float32", id="float32"),
        pytest.param((7, 5), AWQ, {}, "0.33.0", "float16", id="awq-on-turing"),
        pytest.param((7, 0), AWQ, {}, "0.19.0", "card", id="awq-on-volta"),
        pytest.param((7, 5), GPTQ, {}, "0.33.0", "float16", id="gptq-on-turing"),
        pytest.param((8, 0), ORDERED, {}, "0.33.0", "option", id="gptq-order-in-0.33"),
        pytest.param((8, 0), ORDERED, {}, "0.32.0", "bfloat16", id="gptq-order-before"),
        pytest.param((8, 0), FP8, {}, "0.33.0", "bfloat16", id="fp8-weights-on-ampere"),
        pytest.param((7, 5), FP8, {}, "0.33.0", "card", id="fp8-weights-on-turing"),
        pytest.param((9, 0), W8A8, {}, "0.33.0", "bfloat16", id="int8-on-hopper"),
        pytest.param((10, 0), W8A8, {}, "0.33.0", "card", id="int8-on-blackwell"),
        pytest.param((8, 0), None, {"kv_cache_dtype": "fp8"}, "0.33.0", "bfloat16", id="fp8-cache-on-ampere"),
        pytest.param((8, 0), None, {"kv_cache_dtype": "fp8"}, "0.32.0", "card", id="fp8-cache-on-ampere-before"),
        pytest.param((8, 9), None, {"kv_cache_dtype": "fp8_e4m3"}, "0.19.0", "bfloat16", id="fp8-cache-on-ada"),
        pytest.param((8, 0), AWQ, {"quantization": "awq_marlin"}, "0.33.0", "bfloat16", id="marlin-is-awq"),
        pytest.param((8, 0), AWQ, {"quantization": "gptq"}, "0.33.0", "option", id="another-method"),
        pytest.param((8, 9), None, {"quantization": "fp8"}, "0.33.0", "bfloat16", id="fp8-while-loading"),
        pytest.param((8, 9), None, {"quantization": "gguf"}, "0.33.0", "option", id="gguf"),
    ],
)  # fmt: skip
def test_cards_and_options_are_held_against_the_engine(
    capability: tuple[int, int],
    quantization: dict[str, Any] | None,
    serving: dict[str, Any],
    version: str,
    expected: str,
) -> None:
    assert expected == outcome(capability, quantization, serving, version)


@pytest.mark.parametrize(
    ("capability", "serving", "expected"),
    [
        pytest.param((7, 5), {}, "card", id="latent-on-turing"),
        pytest.param((8, 0), {}, "bfloat16", id="latent-on-ampere"),
        pytest.param((8, 0), {"kv_cache_dtype": "fp8"}, "card", id="latent-fp8-cache-on-ampere"),
        pytest.param((9, 0), {"kv_cache_dtype": "fp8"}, "bfloat16", id="latent-fp8-cache-on-hopper"),
    ],
)
def test_latent_attention_has_rules_of_its_own(
    capability: tuple[int, int], serving: dict[str, Any], expected: str
) -> None:
    assert expected == outcome(capability, None, serving, "0.33.0", "deepseek-ai/DeepSeek-V3")


@pytest.mark.parametrize(
    ("capability", "serving", "expected"),
    [
        pytest.param((7, 5), {}, "float32", id="turing"),
        pytest.param((8, 0), {}, "bfloat16", id="ampere"),
        pytest.param((8, 0), {"dtype": "float16"}, "option", id="asked-for"),
    ],
)
def test_gemma_2_is_never_served_in_float16(
    capability: tuple[int, int], serving: dict[str, Any], expected: str
) -> None:
    assert expected == outcome(capability, None, serving, "0.33.0", "google/gemma-2-9b-it")
