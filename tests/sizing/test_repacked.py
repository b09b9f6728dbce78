"""What loading makes of weights, held against sums made by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from plimsoll.sizing.backend import caches_on
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import EngineVersion
from plimsoll.sizing.gpus import find
from plimsoll.sizing.interval import NOTHING, Interval
from plimsoll.sizing.layers import MultiHeadLatent
from plimsoll.sizing.repacked import repacked
from plimsoll.sizing.shape import shape_from_facts
from support.launches import built

# DeepSeek V3: 128 heads, queries from 1536, a latent of 512 and 64 rotary elements, hidden 7168, 61 layers, fp8.
V3_LAYER = 16 * (1536 * (512 + 64) + 512 * 7168)
# DeepSeek V2 Lite: 16 heads, queries from the hidden 2048, the same latent, 27 layers in 16 bits.
LITE_LAYER = 16 * (2048 * (512 + 64) + 512 * 2048) * 2


def added(model_id: str, card: str, release: tuple[int, int, int], size: int) -> Interval:
    return repacked(built(model_id, release, card, size, gpu_memory_utilization=Fraction("0.9")), 0)


@pytest.mark.parametrize(
    ("model_id", "release", "size", "expected"),
    [
        pytest.param(
            "deepseek-ai/DeepSeek-V3", (0, 7, 3), 8, 61 * V3_LAYER, id="in-8-bits-as-the-checkpoint"
        ),
        pytest.param("deepseek-ai/DeepSeek-V2-Lite-Chat", (0, 7, 1), 1, 27 * LITE_LAYER, id="in-16-bits"),
        pytest.param("deepseek-ai/DeepSeek-V3", (0, 7, 0), 8, 0, id="before-latent-attention"),
        pytest.param("deepseek-ai/DeepSeek-V3", (0, 8, 0), 8, 0, id="since-the-second-engine"),
        pytest.param("meta-llama/Llama-3.1-8B-Instruct", (0, 7, 3), 1, 0, id="without-latent-attention"),
    ],
)
def test_the_first_engine_kept_absorbed_products_of_latent_attention(
    model_id: str, release: tuple[int, int, int], size: int, expected: int
) -> None:
    assert added(model_id, "H200", release, size) == Interval(expected, expected, expected)


@pytest.mark.parametrize(
    ("card", "grows"),
    [
        pytest.param("H100", True, id="hopper"),
        pytest.param("A100-80GB", False, id="ampere"),
        pytest.param("MI300X", False, id="rocm-with-a-number-like-hoppers"),
    ],
)
def test_mxfp4_experts_grow_on_hopper_alone(card: str, *, grows: bool) -> None:
    assert (added("openai/gpt-oss-120b", card, (0, 11, 0), 1) != NOTHING) is grows


@pytest.mark.parametrize(("card", "token_bytes"), [("H200", 656), ("MI300X", 576)])
def test_latents_in_8_bits_are_packed_by_nvidias_kernels_alone(card: str, token_bytes: int) -> None:
    facts = lookup("zai-org/GLM-5.1-FP8")
    assert facts is not None
    (caches, *_) = caches_on(shape_from_facts(facts), EngineVersion((0, 33, 0)), find(card))
    (latent,) = (cache for cache in caches if isinstance(cache, MultiHeadLatent))
    assert latent.token_bytes(8, 1) == token_bytes
