"""Builds of bitsandbytes: what four bits take by release, what stays in 16 bits, and where they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import EngineVersion
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.facts import ModelFacts
from plimsoll.sizing.gpus import find
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem

NF4: dict[str, Any] = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
# Mistral 7B v0.3: 32 layers of 4096 x (4096 + 2 x 1024) + 4096 x 4096 + 3 x 4096 x 14336 weights.
IN_LAYERS = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
NORMS = 65 * 4096 * 2
VOCABULARY = 2 * 32768 * 4096 * 2
NESTED = IN_LAYERS // 64 + IN_LAYERS // 64 // 256 * 4
FLAT = IN_LAYERS // 64 * 4


def facts(section: dict[str, Any]) -> ModelFacts:
    known = lookup("mistralai/Mistral-7B-Instruct-v0.3")
    assert known is not None
    config = {**known.config, "quantization_config": section}
    return ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())


def parameter_bytes(section: dict[str, Any], release: tuple[int, int, int]) -> int:
    shape = shape_from_facts(facts(section))
    version = EngineVersion(release)
    accelerator = find("A10")
    assert accelerator is not None
    precision = precision_for(shape, Serving(engine_version=str(version)), accelerator, version)
    (rank,) = rank_weights(shape, 1, 1, 2, precision.quantization)
    return rank.parameter_bytes


@pytest.mark.parametrize(
    ("section", "release", "scales"),
    [
        pytest.param(NF4, (0, 9, 1), NESTED, id="nested scales stay nested before 0.9.2"),
        pytest.param(NF4, (0, 9, 2), FLAT, id="they are float32 once loaded from 0.9.2 on"),
        pytest.param(NF4, (0, 27, 0), FLAT, id="to the last release in the tree"),
        pytest.param(
            {**NF4, "bnb_4bit_use_double_quant": False}, (0, 9, 1), FLAT, id="scales that never were nested"
        ),
    ],
)
def test_layers_take_half_a_byte_and_their_scales_and_the_vocabulary_sixteen_bits(
    section: dict[str, Any], release: tuple[int, int, int], scales: int
) -> None:
    assert parameter_bytes(section, release) == IN_LAYERS // 2 + scales + NORMS + VOCABULARY


@pytest.mark.parametrize(
    ("skipped", "weights"),
    [
        pytest.param(["lm_head", "multi_modal_projector"], 0, id="nothing in the layers"),
        pytest.param(["down_proj"], 32 * 4096 * 14336, id="by a part of the name"),
        pytest.param(["model.layers.3.mlp"], 3 * 4096 * 14336, id="by the name from its start"),
    ],
)
def test_skipped_modules_stay_in_sixteen_bits(skipped: list[str], weights: int) -> None:
    section = {**NF4, "bnb_4bit_use_double_quant": False}
    whole = parameter_bytes(section, (0, 27, 0))

    kept = parameter_bytes({**section, "llm_int8_skip_modules": skipped}, (0, 27, 0))

    assert kept - whole == 2 * weights - weights // 2 - weights // 64 * 4


def test_they_are_refused_from_the_release_that_left_them_to_a_plugin() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"quant_method is 'bitsandbytes'.*plugin since vLLM 0\.28"
    ):
        parameter_bytes(NF4, (0, 28, 0))


def test_they_are_split_into_stages_and_not_between_ranks() -> None:
    shape = shape_from_facts(facts(NF4))

    assert tensor_parallel_problem(shape, 1, shape.quantization) is None
    assert "only its layers into stages" in str(tensor_parallel_problem(shape, 2, shape.quantization))


def test_experts_in_them_are_refused() -> None:
    known = lookup("mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert known is not None
    config = {**known.config, "quantization_config": NF4}
    mixture = ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())

    with pytest.raises(UnsupportedModelError, match="experts with 4 bit floats of bitsandbytes"):
        shape_from_facts(mixture)
