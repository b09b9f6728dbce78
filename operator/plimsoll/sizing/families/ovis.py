"""Ovis 2.5: a decoder of Qwen 3 behind SigLIP 2, whose patches become weights of a visual vocabulary."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, with_inherited
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_ENCODER: Final = "siglip2_navit"
_TEXTS: Final = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_INDICATORS: Final = 4  # rows of the vocabulary that no patch may become
_FLOAT32_BYTES: Final = 4
_MAX_STRIDE: Final = 64


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/ovis2_5.py and siglip2navit.py."""
    text = config.section("llm_config")
    if text is None:
        raise config.refuse("llm_config", "the config of the text must stand there", WAY_OUT)
    kind = text.text("model_type")
    if kind not in _TEXTS or text.texts("architectures") != (_TEXTS[kind],):
        raise text.refuse("architectures", f"behind Ovis it is {' or '.join(_TEXTS.values())}", WAY_OUT)
    shape = dense.build(with_inherited(config, text), architecture, kind)
    vision = config.section("vit_config")
    if vision is None:
        raise config.refuse("vit_config", "the config of the image encoder must stand there", WAY_OUT)
    if vision.text("model_type", default="") != _ENCODER:
        raise vision.refuse("model_type", f"vLLM takes {_ENCODER} only", WAY_OUT)
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    stride = vision.integer("hidden_stride", maximum=_MAX_STRIDE)
    vocabulary = config.integer("visual_vocab_size", maximum=MAX_WIDTH, minimum=_INDICATORS + 1)
    rows = vocabulary - _INDICATORS
    if config.integer("hidden_size", maximum=MAX_WIDTH, default=shape.hidden_size) != shape.hidden_size:
        raise config.refuse("hidden_size", f"it must be the text's, {shape.hidden_size}", WAY_OUT)
    tower = Tower(
        tensors=(
            *_encoder(vision),
            whole("visual_tokenizer.head.0", rows, width * stride**2),
            whole("visual_tokenizer.head.1", 2 * rows),
            whole("vte", vocabulary, shape.hidden_size),
        ),
        buffer_bytes=_frequencies(vision, width),
    )
    return joined(shape, tower, architecture, model_type)


def _encoder(vision: Config) -> tuple[Tensor, ...]:
    """SigLIP's layers; a table of positions where the original one is kept, by patches or by the image's size."""
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    count = vision.integer("num_patches", maximum=MAX_WIDTH, minimum=-1)
    patch = vision.integer("patch_size", maximum=MAX_WIDTH)
    if count > 0:
        side = isqrt(count)
        if side * side != count:
            raise vision.refuse("num_patches", "it must be a square, or -1")
        vision = Config({**vision.values, "image_size": side * patch}, vision.path)
    tensors = siglip_layers(vision, depth, last_norm=True).tensors
    if vision.values.get("preserve_original_pe") is None:
        raise vision.refuse("preserve_original_pe", "it must be true or false", WAY_OUT)
    if vision.flag("preserve_original_pe", default=True):
        return tensors
    return tuple(tensor for tensor in tensors if tensor.name != "embeddings.position_embedding")


def _frequencies(vision: Config, width: int) -> int:
    """Inverse frequencies, which the class keeps in float32 whether it turns positions or not."""
    size = width // vision.integer("num_attention_heads", maximum=MAX_WIDTH)
    return (size // 2 + 1) // 2 * _FLOAT32_BYTES


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Ovis2_5": (build, ("ovis2_5",)),
}
