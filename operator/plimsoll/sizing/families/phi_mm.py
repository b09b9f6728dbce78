"""Phi 3 and 3.5 vision behind CLIP, Phi 4 multimodal behind SigLIP and a conformer; their text is built as a Llama."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.conformer import phi4_audio_tower
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.defaults import DEFAULTS
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined
from plimsoll.sizing.image_towers import clip_layers, siglip_layers
from plimsoll.sizing.outside import embedding
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

# The engine has the encoders' sizes in its classes, since no config tells them.
_CLIP: Final = Config(DEFAULTS["llava's clip_vision_model"], "img_processor")
_CLIP_DEPTH: Final = 24
_CLIP_WIDTH: Final = 1024
_SIGLIP_WIDTH: Final = 1152
_SIGLIP_DEPTH: Final = 27
_SIGLIP: Final = Config(
    {
        "hidden_size": _SIGLIP_WIDTH,
        "image_size": 448,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "img_processor",
)
_MERGED: Final = 4  # patches that Phi 3 joins before its projection
_USED: Final = -2  # the layer of the encoder whose output is used, where the config does not say
_MAX_TOKENS_OF_IMAGE: Final = 2**16


def phi3_vision(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/phi3v.py: an embedding of its own beside the text's."""
    shape = _text(config, architecture)
    encoder, embeds = config.section("img_processor"), config.section("embd_layer")
    if encoder is None or embeds is None:
        field = "img_processor" if encoder is None else "embd_layer"
        raise config.refuse(field, "what describes the image encoder must stand there", WAY_OUT)
    for name in ("use_hd_transform", "with_learnable_separator"):
        if not embeds.flag(name, default=False):
            raise embeds.refuse(name, "vLLM wants it true", WAY_OUT)
    encoder.integer("num_img_tokens", maximum=_MAX_TOKENS_OF_IMAGE)
    if encoder.integer("image_dim_out", maximum=MAX_WIDTH) != _CLIP_WIDTH:
        raise encoder.refuse("image_dim_out", f"it is {_CLIP_WIDTH}, as wide as the encoder", WAY_OUT)
    depth = _depth(encoder, _CLIP_DEPTH)
    layers = clip_layers(_CLIP, depth, last_norm=depth == _CLIP_DEPTH)
    merged = _MERGED * _CLIP_WIDTH
    tower = Tower(
        tensors=(
            embedding("vision_embed_tokens.wte", shape.vocab_size, shape.hidden_size),
            *layers.tensors,
            *_projection(merged, shape.hidden_size),
        ),
        buffer_bytes=layers.buffer_bytes,
    )
    return joined(shape, tower, architecture, model_type)


def phi4_multimodal(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/phi4mm.py, phi4mm_audio.py.

    Whole on every rank is all that is neither text nor SigLIP; adapters of the repository are not loaded with it.
    """
    shape = _text(config, architecture)
    encoder = config.section("img_processor") or Config({}, config.name("img_processor"))
    layers = siglip_layers(_SIGLIP, _depth(encoder, _SIGLIP_DEPTH), last_norm=False)
    hearing = phi4_audio_tower(config, shape.hidden_size)
    tower = Tower(
        tensors=(*layers.tensors, *_projection(_SIGLIP_WIDTH, shape.hidden_size), *hearing.tensors),
        buffer_bytes=hearing.buffer_bytes,
    )
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, stages_problem="vLLM does not split Phi 4 multimodal into pipeline stages")


def _text(config: Config, architecture: str) -> ModelShape:
    if config.values.get("n_embd") is not None:
        raise config.refuse("n_embd", "the width stands in hidden_size", WAY_OUT)
    for name in ("tie_word_embeddings", "num_key_value_heads"):
        if config.values.get(name) is None:  # what the class of the repository takes then is not known here
            raise config.refuse(name, "it must be there", WAY_OUT)
    config.integer("max_position_embeddings", maximum=MAX_TOKENS)
    return dense.build(config, architecture, "llama")


def _depth(encoder: Config, layers: int) -> int:
    """Layers below the output that is used; negative ones count from the last."""
    value = encoder.values.get("layer_idx", _USED)
    if isinstance(value, bool) or not isinstance(value, int) or not -layers <= value < layers:
        raise encoder.refuse("layer_idx", f"it must be a whole number from -{layers} to {layers - 1}")
    return value + 1 + (layers if value < 0 else 0)


def _projection(width: int, text_width: int) -> tuple[Tensor, ...]:
    """What separates the lines and the parts of an image, and two linear layers, whole on every rank."""
    return (
        whole("separators", 2 * width),
        whole("img_projection.0", text_width, width + 1),
        whole("img_projection.2", text_width, text_width + 1),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Phi3VForCausalLM": (phi3_vision, ("phi3_v",)),
    "Phi4MMForCausalLM": (phi4_multimodal, ("phi4mm",)),
}
