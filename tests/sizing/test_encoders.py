"""What a config tells of an encoder's work while the engine profiles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.checked import Config
from plimsoll.sizing.encoders import encoder_of
from plimsoll.sizing.engine import EngineVersion

NEW, OLD = EngineVersion((0, 33, 0)), EngineVersion((0, 11, 0))
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 896}
QWEN3 = {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16, "spatial_merge_size": 2}

# name, config, tokens of the largest image, patches of a token
FAMILIES: list[tuple[str, dict[str, Any], int, int]] = [
    ("gemma-3", {"model_type": "gemma3", "mm_tokens_per_image": 256, "vision_config": SIGLIP}, 256, 16),
    ("qwen-2-vl", {"model_type": "qwen2_vl", "vision_config": {**QWEN3, "patch_size": 14}}, 16384, 4),
    ("qwen-3-vl", {"model_type": "qwen3_vl", "vision_config": QWEN3}, 16384, 4),
    (
        "gemma-4",
        {"vision_config": {"model_type": "gemma4_vision", "hidden_size": 1152, "patch_size": 16}},
        280,
        9,
    ),
    (
        "pixtral",
        {
            "model_type": "mistral3",
            "spatial_merge_size": 2,
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 1024,
                "patch_size": 14,
                "image_size": 1540,
            },
        },
        3025,
        4,
    ),
    (
        "internvl",
        {"model_type": "internvl_chat", "vision_config": {**SIGLIP, "image_size": 448}},
        13 * 256,
        4,
    ),
    ("llama-4", {"model_type": "llama4", "vision_config": {**SIGLIP, "image_size": 336}}, 17 * 144, 4),
    (
        "kimi-vl",
        {
            "model_type": "kimi_vl",
            "vision_config": {"model_type": "moonvit", "hidden_size": 1152, "patch_size": 14},
        },
        1024,
        4,
    ),
    ("siglip", {"model_type": "paligemma", "vision_config": SIGLIP}, 4096, 1),
    ("sound", {"model_type": "qwen2_audio", "audio_config": {"d_model": 1280}}, 750, 2),
]


@pytest.mark.parametrize(
    ("config", "tokens", "patches"), [pytest.param(*case[1:], id=case[0]) for case in FAMILIES]
)
def test_each_family_has_its_largest_image(config: dict[str, Any], tokens: int, patches: int) -> None:
    encoder = encoder_of(Config(config))
    assert encoder is not None
    assert (encoder.item_tokens, encoder.patches_per_token) == (tokens, patches)
    assert encoder.patches(1, 4096) == tokens * patches  # one item at the least
    assert encoder.patches(3 * tokens + 1, 4096) == 3 * tokens * patches


def test_positions_of_qwen_3_were_interpolated_at_once_before_0_12() -> None:
    encoder = encoder_of(Config({"model_type": "qwen3_vl", "vision_config": QWEN3}))
    assert encoder is not None
    assert (encoder.position_elements(OLD), encoder.position_elements(NEW)) == (20 * 1152, 0)
    assert encoder.largest_item(262144) == 16384


def test_videos_of_qwen_2_grow_with_the_context_up_to_seven_pairs() -> None:
    encoder = encoder_of(Config({"model_type": "qwen2_vl", "vision_config": {**QWEN3, "patch_size": 14}}))
    assert encoder is not None
    assert [encoder.largest_item(length) for length in (4096, 32768, 131072)] == [16384, 32768, 7 * 16384]


def test_ranks_share_the_inner_width_alone() -> None:
    encoder = encoder_of(Config({"model_type": "qwen3_vl", "vision_config": QWEN3}))
    assert encoder is not None
    assert [encoder.elements(size) for size in (1, 2)] == [
        4304 + 3 * 1152 + 2 * 768,
        2152 + 3 * 1152 + 2 * 768,
    ]


def test_levels_that_are_fed_into_the_decoder_count() -> None:
    vision = {**QWEN3, "deepstack_visual_indexes": [8, 16, 24]}
    encoder = encoder_of(Config({"model_type": "qwen3_vl", "vision_config": vision}))
    assert encoder is not None
    assert encoder.levels == 3


@pytest.mark.parametrize("ratio", [float("inf"), float("nan"), 4.5, 4.0, 4])
def test_a_ratio_that_is_no_count_falls_back_to_four(ratio: float) -> None:
    vision = {"embed_dim": 1280, "mlp_ratio": ratio, "patch_size": 14, "spatial_merge_size": 2}
    encoder = encoder_of(Config({"model_type": "qwen2_vl", "vision_config": vision}))
    assert encoder is not None
    assert encoder.inner == 4 * 1280


def test_a_model_of_text_alone_has_none() -> None:
    assert encoder_of(Config({"model_type": "llama", "hidden_size": 4096})) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = ("model_type", "hidden_size", "intermediate_size", "patch_size", "image_size", "spatial_merge_size")


@given(
    vision=st.dictionaries(st.sampled_from((*_FIELDS, "deepstack_visual_indexes", "mlp_ratio")), _JSON),
    kind=st.sampled_from(("qwen3_vl", "gemma3", "internvl_chat", "llama4", "")),
)
def test_whatever_stands_there_gives_an_encoder_or_none(vision: dict[str, Any], kind: str) -> None:
    encoder = encoder_of(Config({"model_type": kind, "vision_config": vision}))
    assert encoder is None or encoder.patches(8192, 131072) > 0
