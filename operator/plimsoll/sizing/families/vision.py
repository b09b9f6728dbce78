"""Decoders behind an encoder of images: the text exact as it stands alone, the encoder by its shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import Config
from plimsoll.sizing.families import delta, dense, gemma4, mixture
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import AttentionKernels
from plimsoll.sizing.towers import (
    gemma4_tower,
    intern_tower,
    pixtral_tower,
    qwen2_5_tower,
    qwen2_tower,
    qwen3_tower,
    siglip_tower,
)

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.towers import Tower

_INHERITED: Final = ("dtype", "torch_dtype", "quantization_config", "compression_config")
_ENCODER_WARNING: Final = (
    "The encoder's weights are counted and its working memory is not: if the engine runs out of memory while it "
    "profiles images, lower gpuMemoryUtilization or limit the images of a prompt."
)
_MAX_MERGE: Final = 64
_MAX_FRAME: Final = 2**16
_FRAMES: Final = 32  # of the largest video that the engine takes, each with its marks and time
_FRAME_MARKS: Final = 8
_HALF: Final = 0.5
_MROPE_POSITIONS: Final = 4  # tables of Qwen 2 VL are made for that many times the positions


def text_config(config: Config, *, tied: bool | None = None) -> Config:
    """The part of the config that describes the decoder, with what it leaves to the root.

    Raises:
        UnsupportedModelError: there is none.
    """
    text = config.section("text_config")
    if text is None:
        raise config.refuse("text_config", "the config of the text must stand there", WAY_OUT)
    return _with_inherited(config, text, tied=tied)


def _with_inherited(config: Config, text: Config, *, tied: bool | None = None) -> Config:
    """What the text says, and the root where it says nothing."""
    root = {field: config.values.get(field) for field in _INHERITED} | {"tie_word_embeddings": tied}
    missing = {
        key: value for key, value in root.items() if text.values.get(key) is None and value is not None
    }
    return Config({**text.values, **missing}, text.path)


def vision_config(config: Config) -> Config:
    """The part of the config that describes the encoder.

    Raises:
        UnsupportedModelError: there is none.
    """
    if config.flag("language_model_only", default=False):
        raise config.refuse("language_model_only", "without its encoder this model cannot be sized", WAY_OUT)
    vision = config.section("vision_config")
    if vision is None:
        raise config.refuse("vision_config", "the config of the image encoder must stand there", WAY_OUT)
    return vision


def joined(text: ModelShape, tower: Tower, architecture: str, model_type: str) -> ModelShape:
    """The decoder with the encoder on its first stage."""
    return replace(
        text,
        architecture=architecture,
        model_type=model_type,
        tower=tower.tensors,
        tower_buffer_bytes=tower.buffer_bytes,
        warnings=(*text.warnings, _ENCODER_WARNING),
    )


def qwen2_vl(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Qwen 2 VL and 2.5 VL: the text at the root of the config, or in a part of its own."""
    text = config if config.values.get("text_config") is None else text_config(config, tied=_root_tie(config))
    shape = dense.build(text, architecture, "qwen2")
    section = text.section("rope_parameters") or text.section("rope_scaling")
    if shape.rope is not None and section is not None and section.values.get("mrope_section") is not None:
        rope = replace(shape.rope, positions=shape.rope.positions * _MROPE_POSITIONS)
        shape = replace(shape, rope=rope)
    tower = qwen2_tower if model_type == "qwen2_vl" else qwen2_5_tower
    return joined(shape, tower(vision_config(config)), architecture, model_type)


def _root_tie(config: Config) -> bool | None:
    return (
        None
        if "tie_word_embeddings" not in config.values
        else config.flag("tie_word_embeddings", default=False)
    )


def _behind_qwen3(builder: Builder, text_type: str) -> Builder:
    def build(config: Config, architecture: str, model_type: str) -> ModelShape:
        text = builder(text_config(config, tied=_root_tie(config)), architecture, text_type)
        return joined(text, qwen3_tower(vision_config(config)), architecture, model_type)

    return build


def gemma3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Gemma 3 behind SigLIP (gemma3_mm.py)."""
    shape = dense.build(text_config(config, tied=_root_tie(config)), architecture, "gemma3_text")
    shape = joined(shape, siglip_tower(vision_config(config), shape.hidden_size), architecture, model_type)
    widest = max(
        cache.head_size
        for layer in shape.layers
        for cache in layer.caches
        if isinstance(cache, (FullAttention, SlidingWindow))
    )
    return replace(shape, kernels=AttentionKernels(prefix_masks=True, largest_head=widest))


def gemma4_mm(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Gemma 4 behind its encoder of images and videos (gemma4_mm.py)."""
    if config.values.get("audio_config") is not None:
        raise config.refuse("audio_config", "an encoder of sound is not one that can be sized", WAY_OUT)
    shape = gemma4.build(text_config(config, tied=_root_tie(config)), architecture, "gemma4_text")
    vision = vision_config(config)
    shape = joined(shape, gemma4_tower(vision, shape.hidden_size), architecture, model_type)
    frame = vision.integer("video_seq_length", maximum=_MAX_FRAME, default=70) + _FRAME_MARKS
    return replace(shape, least_batched_tokens=_FRAMES * frame)


def mistral3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Mistral Small 3 behind Pixtral (mistral3.py)."""
    tied = _root_tie(config)
    shape = dense.build(text_config(config, tied=True if tied is None else tied), architecture, "mistral")
    tower = pixtral_tower(
        vision_config(config),
        shape.hidden_size,
        merge=config.integer("spatial_merge_size", maximum=_MAX_MERGE, default=2),
        bias=config.flag("multimodal_projector_bias", default=False),
    )
    return joined(shape, tower, architecture, model_type)


def internvl(config: Config, architecture: str, model_type: str) -> ModelShape:
    """InternVL with a Qwen 2 or 3 or a Llama behind InternViT (internvl.py)."""
    field = "llm_config" if config.values.get("llm_config") is not None else "text_config"
    text = config.section(field)
    if text is None:
        raise config.refuse("llm_config", "the config of the text must stand there", WAY_OUT)
    kind = text.text("model_type")
    if kind not in ("qwen2", "qwen3", "llama"):
        raise text.refuse("model_type", "behind InternViT this text is not one that can be sized", WAY_OUT)
    if config.number("downsample_ratio", default=0.5, minimum=0.0, maximum=1.0) != _HALF:
        raise config.refuse("downsample_ratio", "0.5 is what can be sized", WAY_OUT)
    shape = dense.build(_with_inherited(config, text), architecture, kind)
    return joined(shape, intern_tower(vision_config(config), shape.hidden_size), architecture, model_type)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Qwen2VLForConditionalGeneration": (qwen2_vl, ("qwen2_vl",)),
    "Qwen2_5_VLForConditionalGeneration": (qwen2_vl, ("qwen2_5_vl",)),
    "Qwen3VLForConditionalGeneration": (_behind_qwen3(dense.build, "qwen3"), ("qwen3_vl",)),
    "Qwen3VLMoeForConditionalGeneration": (
        _behind_qwen3(mixture.qwen_moe, "qwen3_moe"),
        ("qwen3_vl_moe",),
    ),
    "Gemma3ForConditionalGeneration": (gemma3, ("gemma3",)),
    "Gemma4ForConditionalGeneration": (gemma4_mm, ("gemma4",)),
    "Mistral3ForConditionalGeneration": (mistral3, ("mistral3",)),
    "InternVLChatModel": (internvl, ("internvl_chat",)),
    "Qwen3_5ForConditionalGeneration": (_behind_qwen3(delta.build, "qwen3_5"), ("qwen3_5",)),
    "Qwen3_5MoeForConditionalGeneration": (_behind_qwen3(delta.build, "qwen3_5_moe"), ("qwen3_5_moe",)),
}
