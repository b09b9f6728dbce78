"""Molmo: a decoder of its own behind a CLIP of fixed sizes whose patches attention pools."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT, Body, attention, decoder, norms, read_body, read_rope
from plimsoll.sizing.families.plain import wide_norms
from plimsoll.sizing.families.vision import joined
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import embedding, gated_mlp
from plimsoll.sizing.towers import Tower, column, row, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

# Source: vLLM 0.33.0, model_executor/models/molmo.py. The encoder has these sizes whatever the config says.
_WIDTH, _WIDE, _LAYERS, _POSITIONS, _PIXELS = 1024, 4096, 23, 577, 3 * 14 * 14
_LEVELS: Final = 2  # layers whose outputs are used side by side
_FURTHER: Final = 128  # rows of the embedding for marks of images
_DEFAULTS: Final = {"qkv_bias": False, "attention_layer_norm": False, "max_position_embeddings": 2048}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text stands at the root of the config; its embedding has more rows than its output layer."""
    if config.flag("weight_tying", default=False):
        raise config.refuse("weight_tying", f"vLLM's {architecture} does not build it", WAY_OUT)
    if config.text("layer_norm_type", default="rms") != "rms":
        raise config.refuse("layer_norm_type", "vLLM takes rms only", WAY_OUT)
    if config.values.get("num_key_value_heads") is None:
        raise config.refuse("num_key_value_heads", "vLLM takes no model that leaves it out", WAY_OUT)
    config, missing = completed_with(config, _DEFAULTS)
    body = read_body(replace(config, values={**config.values, "head_dim": None}), architecture, model_type)
    inner = config.integer("intermediate_size", maximum=MAX_WIDTH, minimum=2) // 2
    tensors = (
        *attention(body, query_bias=config.flag("qkv_bias", default=False)),
        *gated_mlp("mlp", body.hidden, inner),
        *norms(body.hidden, 2),
        *(wide_norms(body) if config.flag("attention_layer_norm", default=False) else ()),
    )
    layers = (Layer(cache=body.full, tensors=tensors),) * body.layers
    shape = decoder(body, layers, rope=read_rope(body), intermediate=inner)
    shape = joined(_ends(shape, body), _tower(body.hidden, inner), architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


def _ends(shape: ModelShape, body: Body) -> ModelShape:
    """Both tables and the norm stand on every stage; the tables differ, so neither is the other's copy."""
    rows = body.config.integer("embedding_size", maximum=MAX_WIDTH - _FURTHER, default=body.vocab)
    tables = (
        embedding("embed_tokens", rows + _FURTHER, body.hidden),
        embedding("lm_head", rows, body.hidden),
    )
    return replace(
        shape,
        first_stage=(),
        last_stage=(),
        every_stage=(*tables, *shape.last_stage),
        tied_embeddings=False,
    )


def _tower(text_width: int, inner: int) -> Tower:
    tensors = [
        whole("image_vit.class_embedding", _WIDTH),
        whole("image_vit.positional_embedding", _POSITIONS, _WIDTH),
        whole("image_vit.patch_embedding", _WIDTH, _PIXELS),
        whole("image_vit.pre_ln", 2 * _WIDTH),
        whole("image_vit.norms", 4 * _WIDTH, copies=_LAYERS),
        *row("image_vit.attention.wo", _WIDTH, _WIDTH, copies=_LAYERS),
        *column("image_vit.feed_forward.w1", _WIDE, _WIDTH, copies=_LAYERS),
        *row("image_vit.feed_forward.w2", _WIDTH, _WIDE, copies=_LAYERS),
        *row("image_pooling_2d.wo", _WIDTH, _WIDTH),
        whole("pad_embed", 2, _LEVELS * _WIDTH),
        *column("image_projector.gate_proj", inner, _WIDTH, bias=False),
        *column("image_projector.up_proj", inner, _WIDTH, bias=False),
        *row("image_projector.down_proj", text_width, inner, bias=False),
    ]
    for name in ("wq", "wk", "wv"):
        tensors += column(f"image_vit.attention.{name}", _WIDTH, _WIDTH, copies=_LAYERS)
        tensors += column(f"image_pooling_2d.{name}", _WIDTH, _LEVELS * _WIDTH)
    return Tower(tensors=tuple(tensors))


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "MolmoForCausalLM": (build, ("molmo",)),
}
