"""Command A Vision: Cohere 2 behind SigLIP and a gated projection of merged patches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.defaults import completed, completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.plain import plain_shape
from plimsoll.sizing.families.plain_rows import ROWS
from plimsoll.sizing.families.vision import joined, text_config
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.towers import Tower, column, row

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_TEXT: Final = "Cohere2ForCausalLM"
_ENCODER: Final = "siglip_vision_model"
_DEFAULTS: Final = {"downsample_factor": 2, "alignment_intermediate_size": 36864}
_MAX_FACTOR: Final = 64


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/cohere2_vision.py."""
    text = text_config(config)
    if text.texts("architectures") != (_TEXT,) or text.text("model_type", default="cohere2") != "cohere2":
        raise text.refuse("architectures", f"behind this encoder it is {_TEXT}", WAY_OUT)
    if "sliding_window" not in text.values:  # as the class of this text has it
        text = replace(text, values={**text.values, "sliding_window": 4096})
    shape = plain_shape(text, _TEXT, "cohere2", ROWS[_TEXT][1])
    vision = config.section("vision_config")
    if vision is None:
        raise config.refuse("vision_config", "the config of the image encoder must stand there", WAY_OUT)
    if vision.text("model_type", default=_ENCODER) != _ENCODER:
        raise vision.refuse("model_type", f"vLLM takes {_ENCODER} only", WAY_OUT)
    vision, missing = completed(vision, _ENCODER)
    config, left_out = completed_with(config, _DEFAULTS)
    tower = _tower(config, vision, shape.hidden_size)
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning((*missing, *left_out))))


def _tower(config: Config, vision: Config, text_width: int) -> Tower:
    layers = siglip_layers(vision, vision.integer("num_hidden_layers", maximum=MAX_LAYERS), last_norm=True)
    factor = config.integer("downsample_factor", maximum=_MAX_FACTOR)
    merged = vision.integer("hidden_size", maximum=MAX_WIDTH) * factor**2
    inner = config.integer("alignment_intermediate_size", maximum=MAX_WIDTH, minimum=2) // 2
    projector = (
        *column("multi_modal_projector.linear_1.gate", inner, merged),
        *column("multi_modal_projector.linear_1.up", inner, merged),
        *row("multi_modal_projector.linear_2", text_width, inner),
    )
    return replace(layers, tensors=(*layers.tensors, *projector))


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Cohere2VisionForConditionalGeneration": (build, ("cohere2_vision",)),
}
