"""PaliGemma 1 and 2: Gemma or Gemma 2 behind SigLIP and one linear layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.encoders import encoder_of
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.defaults import completed, completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import ENCODER_WARNING, joined, text_config, vision_config
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.model import AttentionKernels
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_ENCODER: Final = "siglip_vision_model"
# What the Transformers classes take where the config leaves it out (transformers 5.19.0), as PaliGemma's first ones do.
_TEXTS: Final[dict[str, Mapping[str, object]]] = {
    "gemma": {"head_dim": 256, "max_position_embeddings": 8192},
    "gemma2": {"head_dim": 256, "max_position_embeddings": 8192},
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/paligemma.py."""
    text = text_config(config)
    kind = text.text("model_type", default="gemma")
    if kind not in _TEXTS:
        raise text.refuse("model_type", f"behind PaliGemma's encoder it is {' or '.join(_TEXTS)}", WAY_OUT)
    if not text.flag("tie_word_embeddings", default=True):
        raise text.refuse("tie_word_embeddings", "vLLM's Gemma has no output layer of its own", WAY_OUT)
    text, missing = completed_with(text, _TEXTS[kind])
    shape = dense.build(text, architecture, kind)
    vision = vision_config(config)
    if vision.text("model_type", default=_ENCODER) != _ENCODER:
        raise vision.refuse("model_type", f"vLLM takes {_ENCODER} only", WAY_OUT)
    vision, left_out = completed(vision, _ENCODER)
    layers = siglip_layers(vision, vision.integer("num_hidden_layers", maximum=MAX_LAYERS), last_norm=True)
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    # the width that the projector gives stands at the root, and must be the text's
    out = config.integer("projection_dim", maximum=MAX_WIDTH, default=2048)
    if out != shape.hidden_size:
        raise config.refuse("projection_dim", f"it must be the text's hidden_size, {shape.hidden_size}")
    tower = Tower(
        tensors=(*layers.tensors, whole("multi_modal_projector.linear", out, width + 1)),
        buffer_bytes=layers.buffer_bytes,
    )
    shape = joined(shape, tower, architecture, model_type)
    kernels = AttentionKernels(prefix_masks=True, largest_head=text.integer("head_dim", maximum=MAX_WIDTH))
    encoder = encoder_of(Config({**config.values, "vision_config": dict(vision.values)}))
    warnings = shape.warnings if encoder is None else tuple(w for w in shape.warnings if w != ENCODER_WARNING)
    return replace(
        shape,
        float16_unsafe=False,  # the engine goes by the model type of the root
        kernels=kernels,
        encoder=encoder,
        warnings=(*warnings, *warning((*missing, *left_out))),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "PaliGemmaForConditionalGeneration": (build, ("paligemma",)),
}
