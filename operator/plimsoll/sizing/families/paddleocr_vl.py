"""PaddleOCR-VL: ERNIE 4.5 behind SigLIP with rotary positions beside its table of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.plain import plain_shape
from plimsoll.sizing.families.plain_rows import ROWS
from plimsoll.sizing.families.vision import joined, with_inherited, with_parts
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

# Sources: vLLM 0.33.0, model_executor/models/paddleocr_vl.py; transformers 5.19.0, its configuration class.
_FLOAT32_BYTES: Final = 4
_MERGED: Final = 4
_DECODER: Final = "Ernie4_5ForCausalLM"
_TEXT: Final = {
    "vocab_size": 103424,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "head_dim": 128,
}
_VISION: Final = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 384,
    "patch_size": 14,
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text stands at the root of the config, or in a part of its own."""
    own = config.section("text_config")
    text = config if own is None else with_inherited(config, own)
    text, missing = completed_with(text, _TEXT)
    text = replace(text, values={**text.values, "tie_word_embeddings": _tied(config, own)})
    shape = with_parts(plain_shape(text, _DECODER, "ernie4_5", ROWS[_DECODER][1]), text)
    vision = config.section("vision_config") or Config({}, "vision_config")
    vision, left_out = completed_with(vision, _VISION)
    shape = joined(shape, _tower(vision, shape.hidden_size), architecture, model_type)
    return replace(
        shape,
        warnings=(*shape.warnings, *warning((*missing, *left_out))),
        stages_problem="vLLM does not split PaddleOCR-VL into pipeline stages",
    )


def _tied(config: Config, own: Config | None) -> bool:
    """What the root says, unless its text, or the class of one that says nothing, ties them."""
    if config.flag("tie_word_embeddings", default=True):
        return True
    return own is None or own.flag("tie_word_embeddings", default=True)


def _tower(vision: Config, text_width: int) -> Tower:
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    layers = siglip_layers(vision, vision.integer("num_hidden_layers", maximum=MAX_LAYERS), last_norm=True)
    merged = _MERGED * width
    projector = (
        whole("mlp_AR.pre_norm", 2 * width),
        whole("mlp_AR.linear_1", merged, merged + 1),
        whole("mlp_AR.linear_2", text_width, merged + 1),
    )
    frequencies = _FLOAT32_BYTES * -(-(width // heads // 2) // 2)
    return Tower(tensors=(*layers.tensors, *projector), buffer_bytes=layers.buffer_bytes + frequencies)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "PaddleOCRVLForConditionalGeneration": (build, ("paddleocr_vl",)),
}
