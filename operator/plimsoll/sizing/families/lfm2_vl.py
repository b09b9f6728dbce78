"""LFM2-VL: LFM2 behind SigLIP 2 for images of any shape."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import lfm2
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, text_config, vision_config
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_ENCODER: Final = "siglip2_vision_model"
_MAX_FACTOR: Final = 64


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/lfm2_vl.py and lfm2_siglip2.py."""
    text = text_config(config, tied=None)
    kind = text.text("model_type", default="lfm2")
    if kind not in ("lfm2", lfm2.MOE):
        raise text.refuse("model_type", f"behind this encoder it is lfm2 or {lfm2.MOE}", WAY_OUT)
    shape = lfm2.build(text, architecture, kind)
    tower = Tower(
        tensors=(*_encoder(vision_config(config)), *_projector(config, shape.hidden_size)), buffer_bytes=0
    )
    return joined(shape, tower, architecture, model_type)


def _encoder(vision: Config) -> tuple[Tensor, ...]:
    """SigLIP with a table of positions that is stretched to the shape of each image."""
    if vision.text("model_type", default=_ENCODER) != _ENCODER:
        raise vision.refuse("model_type", f"vLLM takes {_ENCODER} only", WAY_OUT)
    positions = vision.integer("num_patches", maximum=MAX_WIDTH)
    side = isqrt(positions)
    if side * side != positions:
        raise vision.refuse("num_patches", "it must be a square")
    patch = vision.integer("patch_size", maximum=MAX_WIDTH)
    squared = Config({**vision.values, "image_size": side * patch}, vision.path)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    return siglip_layers(squared, depth, last_norm=True).tensors


def _projector(config: Config, text_width: int) -> tuple[Tensor, ...]:
    factor = config.integer("downsample_factor", maximum=_MAX_FACTOR, default=2)
    merged = vision_config(config).integer("hidden_size", maximum=MAX_WIDTH) * factor * factor
    inner = config.integer("projector_hidden_size", maximum=MAX_WIDTH)
    bias = 1 if config.flag("projector_bias", default=True) else 0
    norm = config.flag("projector_use_layernorm", default=True)
    return (
        *((whole("multi_modal_projector.layer_norm", 2 * merged),) if norm else ()),
        whole("multi_modal_projector.linear_1", inner, merged + bias),
        whole("multi_modal_projector.linear_2", text_width, inner + bias),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Lfm2VlForConditionalGeneration": (build, ("lfm2_vl",)),
}
