"""Gemma 4: sliding layers and full layers with heads of different size and number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    layer_types,
    norms,
    read_body,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import AttentionKernels, Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

_NORMALIZER_BYTES: Final = 2
_UNKNOWN: Final = ("hidden_size_per_layer_input", "num_kv_shared_layers", "num_experts", "enable_moe_block")


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/gemma4.py."""
    for field in (*_UNKNOWN, "use_double_wide_mlp", "attention_bias"):
        if config.values.get(field):
            raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)
    body = read_body(config, architecture, model_type)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    kinds = layer_types(config, body.layers, ("full_attention", "sliding_attention"))
    if not kinds:
        raise config.refuse("layer_types", "it must say which layers slide", WAY_OUT)
    full = _full(config, body)
    sliding = SlidingWindow(
        num_kv_heads=body.kv_heads,
        head_size=body.head_size,
        window=config.integer("sliding_window", maximum=MAX_TOKENS),
    )
    common = (*gated_mlp("mlp", body.hidden, intermediate), *norms(body.hidden, 4))
    made = {kind: _layer(body, kind, common) for kind in (full, sliding)}
    layers = [made[full if kind == "full_attention" else sliding] for kind in kinds]
    rope, local = (
        Rope(positions=body.positions, rotary_dim=size, max_model_len=body.positions)
        for size in (full.head_size, sliding.head_size)
    )
    _check_ropes(config)
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, tied=True)
    shape = replace(
        shape,
        other_ropes=(local,),
        buffer_bytes=_NORMALIZER_BYTES,
        kernels=AttentionKernels(prefix_masks=True, largest_head=max(full.head_size, sliding.head_size)),
    )
    return whole_on_every_stage(shape)


def _full(config: Config, body: Body) -> FullAttention:
    kv_heads = config.integer("num_global_key_value_heads", maximum=MAX_HEADS, default=body.kv_heads)
    if body.heads % kv_heads:
        raise config.refuse("num_global_key_value_heads", f"it must divide num_attention_heads, {body.heads}")
    size = config.integer("global_head_dim", maximum=MAX_WIDTH, default=body.head_size)
    return FullAttention(num_kv_heads=kv_heads, head_size=size)


def _layer(body: Body, cache: FullAttention | SlidingWindow, common: tuple[Tensor, ...]) -> Layer:
    return Layer(
        cache=cache,
        tensors=(
            *attention(body, kv_heads=cache.num_kv_heads, head_size=cache.head_size),
            *norms(cache.head_size, 2, "self_attn.head_norm"),
            *common,
        ),
        buffers=(Tensor(name="layer_scalar", rows=1),),
    )


def _check_ropes(config: Config) -> None:
    """Tables are as wide as the heads, whatever part of them turns; a scaled one would be longer."""
    section = config.section("rope_parameters")
    for kind in ("full_attention", "sliding_attention"):
        part = None if section is None else section.section(kind)
        name = "default" if part is None else part.text("rope_type", default="default")
        if part is not None and name not in ("default", "proportional"):
            raise part.refuse("rope_type", "this rope type is not known with Gemma 4", WAY_OUT)
