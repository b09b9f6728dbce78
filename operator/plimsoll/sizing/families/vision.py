"""Decoders behind an encoder of images: the text exact as it stands alone, the encoder by its shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import delta, dense, gemma4, mixture
from plimsoll.sizing.families.defaults import completed, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.image_towers import intern_hf_tower
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import AttentionKernels
from plimsoll.sizing.sound import gemma4_audio_tower
from plimsoll.sizing.towers import (
    Tower,
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

_INHERITED: Final = ("dtype", "torch_dtype", "quantization_config", "compression_config")
ENCODER_WARNING: Final = (
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
    return with_inherited(config, text, tied=tied)


def with_inherited(config: Config, text: Config, *, tied: bool | None = None) -> Config:
    """What the text says, and the root where it says nothing; tied embeddings are the root's to say, if it does."""
    root = {field: config.values.get(field) for field in _INHERITED}
    missing = {
        key: value for key, value in root.items() if text.values.get(key) is None and value is not None
    }
    own = text.values if tied is None else {**text.values, "tie_word_embeddings": tied}
    return Config({**own, **missing}, text.path)


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
        decoder_type=text.model_type,
        tower=tower.tensors,
        tower_buffer_bytes=tower.buffer_bytes,
        warnings=(*text.warnings, ENCODER_WARNING),
    )


def qwen2_vl(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Qwen 2 VL and 2.5 VL: the text at the root of the config, or in a part of its own."""
    text = config if config.values.get("text_config") is None else text_config(config, tied=root_tie(config))
    shape = qwen2_text(text, architecture)
    if model_type == "qwen2_vl":
        return joined(shape, qwen2_tower(vision_config(config)), architecture, model_type)
    missing: tuple[str, ...] = ()
    if "vision_config" in config.values:
        vision = vision_config(config)
    else:
        vision, missing = completed(Config({}, "vision_config"), "qwen2_5_vl vision")
    shape = joined(shape, qwen2_5_tower(vision), architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


def qwen2_text(text: Config, architecture: str) -> ModelShape:
    """Qwen 2, with positions in three parts where the config has them."""
    return with_parts(dense.build(text, architecture, "qwen2"), text)


def with_parts(shape: ModelShape, text: Config) -> ModelShape:
    """The same with positions in parts, if the config says so: a longer table."""
    section = text.section("rope_parameters") or text.section("rope_scaling")
    if shape.rope is None or section is None or section.values.get("mrope_section") is None:
        return shape
    return replace(shape, rope=replace(shape.rope, positions=shape.rope.positions * _MROPE_POSITIONS))


def root_tie(config: Config, *, default: bool | None = False) -> bool | None:
    """What the root says of tied embeddings, or its class where it says nothing; None where that has no say."""
    if config.values.get("tie_word_embeddings") is None:
        return default
    return config.flag("tie_word_embeddings", default=False)


def _behind_qwen3(builder: Builder, text_type: str) -> Builder:
    def build(config: Config, architecture: str, model_type: str) -> ModelShape:
        text = builder(text_config(config, tied=root_tie(config)), architecture, text_type)
        return joined(text, qwen3_tower(vision_config(config)), architecture, model_type)

    return build


def gemma3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Gemma 3 behind SigLIP (gemma3_mm.py)."""
    shape = dense.build(text_config(config, tied=root_tie(config, default=True)), architecture, "gemma3_text")
    shape = joined(shape, siglip_tower(vision_config(config), shape.hidden_size), architecture, model_type)
    widest = max(
        cache.head_size
        for layer in shape.layers
        for cache in layer.caches
        if isinstance(cache, (FullAttention, SlidingWindow))
    )
    return replace(shape, kernels=AttentionKernels(prefix_masks=True, largest_head=widest))


def gemma4_mm(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Gemma 4 behind its encoder of images and videos, and of sound where it has one (gemma4_mm.py)."""
    text = text_config(config, tied=root_tie(config, default=True))
    shape = gemma4.build(text, architecture, "gemma4_text")
    vision = vision_config(config)
    tower = gemma4_tower(vision, shape.hidden_size)
    audio = config.section("audio_config")
    if audio is not None:
        hearing = gemma4_audio_tower(audio, shape.hidden_size)
        tower = Tower(
            tensors=(*tower.tensors, *hearing.tensors), buffer_bytes=tower.buffer_bytes + hearing.buffer_bytes
        )
    shape = joined(shape, tower, architecture, model_type)
    frame = vision.integer("video_seq_length", maximum=_MAX_FRAME, default=70) + _FRAME_MARKS
    return replace(shape, least_batched_tokens=_FRAMES * frame, kept_per_token=embeddings_per_layer(text))


def embeddings_per_layer(text: Config) -> int:
    """Elements of a token's embeddings per layer, which Gemma 3n and 4 keep for a batch beside their buffers."""
    width = text.integer("hidden_size_per_layer_input", minimum=0, maximum=MAX_WIDTH, default=0)
    return width * text.integer("num_hidden_layers", maximum=MAX_LAYERS)


def mistral3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Mistral Small 3 behind Pixtral (mistral3.py)."""
    shape = dense.build(text_config(config, tied=root_tie(config, default=True)), architecture, "mistral")
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
    shape = dense.build(with_inherited(config, text), architecture, kind)
    return joined(shape, intern_tower(vision_config(config), shape.hidden_size), architecture, model_type)


def internvl_hf(config: Config, architecture: str, model_type: str) -> ModelShape:
    """InternVL under Transformers' names (interns1.py)."""
    text = text_config(config, tied=root_tie(config, default=True))
    kind = text.text("model_type")
    if kind not in ("qwen2", "qwen3", "llama"):
        raise text.refuse("model_type", "behind InternViT this text is not one that can be sized", WAY_OUT)
    if config.number("downsample_ratio", default=0.5, minimum=0.0, maximum=1.0) != _HALF:
        raise config.refuse("downsample_ratio", "0.5 is what can be sized", WAY_OUT)
    shape = dense.build(text, architecture, kind)
    return joined(shape, intern_hf_tower(vision_config(config), shape.hidden_size), architecture, model_type)


# Configs that leave tie_word_embeddings out get it from these classes, also where the files hold an output layer.
TIED_BY_CLASS: Final = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "Gemma4ForConditionalGeneration",
        "Mistral3ForConditionalGeneration",
        "InternVLForConditionalGeneration",
    }
)
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
    "InternVLForConditionalGeneration": (internvl_hf, ("internvl",)),
    "InternVLChatModel": (internvl, ("internvl_chat",)),
    "Qwen3_5ForConditionalGeneration": (_behind_qwen3(delta.build, "qwen3_5"), ("qwen3_5",)),
    "Qwen3_5MoeForConditionalGeneration": (_behind_qwen3(delta.build, "qwen3_5_moe"), ("qwen3_5_moe",)),
}
