"""Llama 4: chunked local attention with full layers between, routed experts, and an encoder of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.defaults import completed, warning
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.families.vision import joined, root_tie, text_config
from plimsoll.sizing.image_towers import llama4_tower
from plimsoll.sizing.layers import ChunkedLocal
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/llama4.py."""
    config, missing = completed(config, "llama4_text")
    body = read_body(config, architecture, model_type)
    wide = config.integer("intermediate_size", maximum=MAX_WIDTH)
    experts = replace(
        read_experts(config, count="num_local_experts", width="intermediate_size"),
        shared_intermediate_size=wide,
    )
    dense_width = config.integer("intermediate_size_mlp", maximum=MAX_WIDTH)
    common = (*attention(body), *norms(body.hidden, 2))
    sparse = (
        *common,
        *routed("feed_forward", body.hidden, experts),
        *gated_mlp("feed_forward.shared_expert", body.hidden, wide),
    )
    dense = (*common, *gated_mlp("feed_forward", body.hidden, dense_width))
    made: dict[tuple[CacheKind, bool], Layer] = {}
    caches, routes = _caches(body), _routes(body)
    for kind in zip(caches, routes, strict=True):
        made.setdefault(kind, Layer(cache=kind[0], tensors=sparse if kind[1] else dense))
    layers = [made[kind] for kind in zip(caches, routes, strict=True)]
    shape = decoder(
        body,
        layers,
        rope=read_rope(body),
        intermediate=0 if all(routes) else dense_width,
        experts=experts if any(routes) else None,
    )
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


def _routes(body: Body) -> tuple[bool, ...]:
    """Which layers are routed: every n-th, from the back of each group."""
    step = body.config.integer("interleave_moe_layer_step", minimum=0, maximum=MAX_LAYERS)
    return tuple(step > 0 and (index + 1) % step == 0 for index in range(body.layers))


def _caches(body: Body) -> tuple[CacheKind, ...]:
    """Full attention where positions are not turned, chunks elsewhere."""
    config = body.config
    turned = config.values.get("no_rope_layers") or ()
    if not isinstance(turned, (list, tuple)) or any(flag not in (0, 1) for flag in turned):
        raise config.refuse("no_rope_layers", "it must be a list of 0 and 1")
    if not turned:
        every = config.integer("no_rope_layer_interval", maximum=MAX_LAYERS)
        turned = tuple(int((index + 1) % every != 0) for index in range(body.layers))
    if len(turned) != body.layers:
        raise config.refuse("no_rope_layers", f"it must have one entry for each of {body.layers} layers")
    chunk = config.optional_integer("attention_chunk_size", minimum=0, maximum=MAX_TOKENS)
    if not chunk:
        return (body.full,) * body.layers
    local = ChunkedLocal(num_kv_heads=body.kv_heads, head_size=body.head_size, chunk=chunk)
    return tuple(local if flag else body.full for flag in turned)


def behind_vision(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Llama 4 behind its encoder of images (mllama4.py)."""
    text = text_config(config, tied=root_tie(config))
    shape = build(text, architecture, "llama4_text")
    vision, missing = completed(
        config.section("vision_config") or Config({}, "vision_config"), "llama4_vision_model"
    )
    if vision.text("model_type", default="llama4_vision_model") != "llama4_vision_model":
        raise vision.refuse(
            "model_type", "such an encoder is not one that can be sized with Llama 4", WAY_OUT
        )
    shape = joined(shape, llama4_tower(vision, shape.hidden_size), architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


TEXT: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {"Llama4ForCausalLM": (build, ("llama4_text",))}
FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Llama4ForConditionalGeneration": (behind_vision, ("llama4",))
}
