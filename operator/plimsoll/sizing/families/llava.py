"""LLaVA and its kin: a decoder behind CLIP, SigLIP or Pixtral, which is built up to the layer that is used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.defaults import DEFAULTS, completed, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, root_tie, with_inherited
from plimsoll.sizing.image_towers import clip_layers, llava_projector, siglip_layers
from plimsoll.sizing.towers import Tower, pixtral_layers, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_ENCODERS: Final = ("clip_vision_model", "siglip_vision_model", "pixtral")
_TEXTS: Final = ("llama", "mistral", "qwen2", "granite")
_WHOLE: Final = ("llava_onevision", "llava_next_video")  # the projector stands whole on every rank
_MAX_SCALE: Final = 64
_USED: Final = -2  # the layer of the encoder whose output is used, where the config does not say


def behind(config: Config, architecture: str) -> tuple[ModelShape, tuple[str, ...]]:
    """The decoder alone, and which fields its config leaves out."""
    text = config.section("text_config")
    if text is None:
        raise config.refuse("text_config", "the config of the text must stand there", WAY_OUT)
    kind = text.text("model_type", default="llama")
    if kind not in _TEXTS:
        raise text.refuse(
            "model_type", "behind LLaVA's encoder this text is not one that can be sized", WAY_OUT
        )
    text, missing = completed(with_inherited(config, text, tied=root_tie(config)), kind)
    return dense.build(text, architecture, kind), missing


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models: llava.py, llava_next.py, llava_next_video.py, llava_onevision.py."""
    shape, missing = behind(config, architecture)
    onevision = model_type == "llava_onevision"
    vision, kind, left_out = _vision(config, onevision=onevision)
    depths = _feature_layers(config, vision, default=-1 if onevision else _USED)
    tower = _encoder(kind, vision, max(depths))
    width = vision.integer("hidden_size", maximum=MAX_WIDTH) * (
        len(depths) if model_type == "llava_next" else 1
    )
    bias = config.flag("multimodal_projector_bias", default=True)
    text = shape.hidden_size
    projector: tuple[Tensor, ...] = llava_projector(width, text, bias=bias)
    if model_type in _WHOLE:
        extra = 1 if bias else 0
        projector = (
            whole("projector.linear_1", text, width + extra),
            whole("projector.linear_2", text, text + extra),
        )
    tower = Tower(tensors=(*tower.tensors, *projector), buffer_bytes=tower.buffer_bytes)
    shape = joined(shape, tower, architecture, model_type)
    if model_type in ("llava_next", "llava_onevision"):
        shape = replace(shape, every_stage=(*shape.every_stage, whole("image_newline", text)))
    return replace(shape, warnings=(*shape.warnings, *warning((*missing, *left_out))))


def _vision(config: Config, *, onevision: bool) -> tuple[Config, str, tuple[str, ...]]:
    """The encoder's config, its kind, and what it leaves out."""
    vision = config.section("vision_config")
    if vision is None:
        kind = "siglip_vision_model" if onevision else "clip_vision_model"
        family = "llava_onevision's" if onevision else "llava's"
        vision, missing = completed(Config({}, "vision_config"), f"{family} {kind}")
        return vision, kind, missing
    kind = vision.text("model_type", default="clip_vision_model")
    if kind not in _ENCODERS or kind not in DEFAULTS:
        raise vision.refuse("model_type", "such an encoder is not one that can be sized", WAY_OUT)
    vision, missing = completed(vision, kind)
    return vision, kind, missing


def _encoder(kind: str, vision: Config, depth: int) -> Tower:
    if kind == "clip_vision_model":
        return clip_layers(vision, depth, last_norm=False)
    if kind == "siglip_vision_model":
        return siglip_layers(vision, depth, last_norm=False)
    return pixtral_layers(vision, depth)


def _feature_layers(config: Config, vision: Config, *, default: int) -> tuple[int, ...]:
    """How many layers stand below each output that is used; negative ones count from the last."""
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    value = config.values.get("vision_feature_layer", default)
    chosen = value if isinstance(value, (list, tuple)) else (value,)
    if not 1 <= len(chosen) <= depth:
        raise config.refuse("vision_feature_layer", f"it must name 1 to {depth} layers")
    if any(
        isinstance(index, bool) or not isinstance(index, int) or not -depth <= index <= depth
        for index in chosen
    ):
        raise config.refuse("vision_feature_layer", f"it must be whole numbers from -{depth} to {depth}")
    return tuple(depth + index + 1 if index < 0 else index for index in chosen)


def idefics(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Idefics 3 and SmolVLM: Llama behind SigLIP's layers and one projection (idefics3.py), on one stage."""
    text = config.section("text_config")
    if text is None or text.text("model_type", default="llama") != "llama":
        raise config.refuse("text_config", "the config of a Llama must stand there", WAY_OUT)
    vision = config.section("vision_config")
    if vision is None:
        raise config.refuse("vision_config", "the config of the image encoder must stand there", WAY_OUT)
    shape = dense.build(with_inherited(config, text), architecture, "llama")
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    merged = width * config.integer("scale_factor", maximum=_MAX_SCALE) ** 2
    layers = siglip_layers(vision, vision.integer("num_hidden_layers", maximum=MAX_LAYERS), last_norm=True)
    tower = Tower(
        tensors=(*layers.tensors, whole("connector.modality_projection", shape.hidden_size, merged))
    )
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, stages_problem="vLLM does not split Idefics 3 into pipeline stages")


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Idefics3ForConditionalGeneration": (idefics, ("idefics3",)),
    "SmolVLMForConditionalGeneration": (idefics, ("smolvlm",)),
    "LlavaForConditionalGeneration": (build, ("llava",)),
    "LlavaNextForConditionalGeneration": (build, ("llava_next",)),
    "LlavaNextVideoForConditionalGeneration": (build, ("llava_next_video",)),
    "LlavaOnevisionForConditionalGeneration": (build, ("llava_onevision",)),
}
