from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.cards import VOLTA
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.quantization import Quantization, WeightFormat
from plimsoll.sizing.rules import (
    CAPABILITIES,
    CapabilityRule,
    HardwareCannotError,
    _check_quantization,
    least_capability,
    precision_for,
)
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
        pytest.param((7, 5), FP8, {}, "0.33.0", "float16", id="fp8-weights-on-turing"),
        pytest.param((7, 5), FP8, {}, "0.32.0", "card", id="fp8-weights-on-turing-before"),
        pytest.param((7, 0), GPTQ, {}, "0.19.0", "float16", id="gptq-on-volta"),
        pytest.param((8, 0), None, {"enable_expert_parallel": True}, "0.33.0", "option", id="experts-of-a-dense-model"),
        pytest.param((8, 0), None, {"block_size": 24}, "0.33.0", "option", id="block-of-24"),
        pytest.param((8, 0), None, {"block_size": 48}, "0.33.0", "bfloat16", id="block-of-48"),
        pytest.param((9, 0), W8A8, {}, "0.33.0", "bfloat16", id="int8-on-hopper"),
        pytest.param((10, 0), W8A8, {}, "0.33.0", "card", id="int8-on-blackwell"),
        pytest.param((8, 0), None, {"kv_cache_dtype": "fp8"}, "0.33.0", "bfloat16", id="fp8-cache-on-ampere"),
        pytest.param((8, 0), None, {"kv_cache_dtype": "fp8"}, "0.28.0", "bfloat16", id="fp8-cache-on-ampere-before"),
        pytest.param((7, 5), None, {"kv_cache_dtype": "fp8"}, "0.33.0", "card", id="fp8-cache-on-turing"),
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


def below(capability: tuple[int, int]) -> tuple[int, int]:
    known = [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
    return max((one for one in known if one < capability), default=(6, 1))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{row.weights.value}-{row.method or 'any'}-{row.integer}-{row.since}")
        for row in CAPABILITIES
    ],
)
def test_each_row_of_the_table_holds_at_its_capability_and_not_below(row: CapabilityRule) -> None:
    """A row is asked with the oldest release that it holds for; below it another row, or none, would do."""
    version = parse_version("0.19.0" if row.since < (0, 19, 0) else ".".join(map(str, row.since)))
    quantization = Quantization(
        method=row.method or "any", weights=row.weights, bits=8, integer=bool(row.integer)
    )

    assert row.source
    assert row.least == least_capability(quantization, version)
    _check_quantization(quantization, card(*row.least), version)
    if row.least > VOLTA:
        with pytest.raises(HardwareCannotError, match=r"need \d+\.\d or higher"):
            _check_quantization(quantization, card(*below(row.least)), version)


def test_every_format_of_weights_has_its_row() -> None:
    assert {row.weights for row in CAPABILITIES if row.since == (0, 0, 0)} == set(WeightFormat)


@pytest.mark.parametrize(
    ("capability", "quantization", "told"),
    [
        pytest.param((8, 0), FP8, True, id="fp8 on Ampere"),
        pytest.param((8, 9), FP8, False, id="fp8 on Ada"),
        pytest.param((8, 0), AWQ, False, id="awq"),
        pytest.param((8, 0), W8A8, False, id="int8"),
        pytest.param((8, 0), None, False, id="16 bits"),
    ],
)
def test_fp8_weights_without_fp8_units_are_served_with_a_word(
    capability: tuple[int, int], quantization: dict[str, Any] | None, told: bool
) -> None:
    shape = shape_from_facts(facts("mistralai/Mistral-7B-Instruct-v0.3", quantization))
    found = precision_for(shape, Serving(engine_version="0.33.0"), card(*capability), parse_version("0.33.0"))
    assert any("computes in 16" in warning for warning in found.warnings) is told


@pytest.mark.parametrize(
    ("method", "version", "why"),
    [
        ("squeezellm", "0.10.0", "vLLM dropped it in 0.8"),
        ("bitsandbytes", "0.28.0", "a plugin since vLLM 0.28"),
        ("bitsandbytes", "0.27.0", "in vLLM 0.27.0 was not checked"),
        ("gguf", "0.24.0", "a plugin since vLLM 0.24"),
        ("gguf", "0.23.0", "in vLLM 0.23.0 was not checked"),
    ],
)
def test_methods_that_left_vllm_are_refused_by_release(method: str, version: str, why: str) -> None:
    shape = shape_from_facts(facts("mistralai/Mistral-7B-Instruct-v0.3", None))
    serving = Serving(engine_version=version, quantization=method)

    with pytest.raises(UnsupportedOptionError, match=why):
        precision_for(shape, serving, card(8, 0), parse_version(version))
