"""Gemma 3n: embeddings per layer, alternating updates, low-rank residuals, layers that share keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    decoder,
    layer_types,
    linear,
    norms,
    read_body,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import NoCache, SlidingWindow
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import embedding, gated_mlp
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape

_SCALAR_BYTES: Final = 2
_EIGHT_BITS: Final = 8
_SCALARS: Final = 4  # of the embeddings
_MAX_INPUTS: Final = 64
_NORMS: Final = (
    7  # four around attention and MLP, and those of the input per layer, the router and the low-rank block
)


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/gemma3n.py."""
    if config.flag("attention_bias", default=False):
        raise config.refuse("attention_bias", "such a variant is not one that can be sized", WAY_OUT)
    if not config.flag("altup_correct_scale", default=True):
        raise config.refuse("altup_correct_scale", "vLLM refuses a model without it", WAY_OUT)
    body = read_body(config, architecture, model_type)
    kinds = layer_types(config, body.layers, ("full_attention", "sliding_attention"))
    if not kinds:
        raise config.refuse("layer_types", "it must say which layers slide", WAY_OUT)
    shared = config.integer("num_kv_shared_layers", minimum=0, maximum=MAX_LAYERS)
    if shared >= body.layers - 1:
        raise config.refuse(
            "num_kv_shared_layers", f"it must be below num_hidden_layers, {body.layers}, by 2"
        )
    widths = _widths(body)
    sliding = SlidingWindow(
        num_kv_heads=body.kv_heads,
        head_size=body.head_size,
        window=config.integer("sliding_window", maximum=MAX_TOKENS),
    )
    made: dict[tuple[str, int, bool], Layer] = {}
    layers = []
    for index, key in enumerate(zip(kinds, widths, strict=True)):
        shares = index >= body.layers - shared
        cache: CacheKind = body.full if key[0] == "full_attention" else sliding
        if (*key, shares) not in made:
            made[*key, shares] = _layer(body, cache, key[1], shares=shares)
        layers.append(made[*key, shares])
    rope = Rope(positions=body.positions, rotary_dim=body.head_size, max_model_len=body.positions)
    shape = decoder(body, layers, rope=rope, intermediate=max(widths), tied=True)
    shape = replace(shape, other_ropes=(rope,), buffer_bytes=_SCALAR_BYTES * _SCALARS, tied_embeddings=True)
    shape = whole_on_every_stage(shape)
    return replace(
        shape,
        every_stage=(*shape.every_stage, *_outside(body)),
        float16_unsafe=False,
        stages_problem="vLLM does not split Gemma 3n into pipeline stages",
    )


def _widths(body: Body) -> tuple[int, ...]:
    """The MLP of each layer: one width for all, or a list."""
    value = body.config.values.get("intermediate_size")
    if not isinstance(value, (list, tuple)):
        return (body.config.integer("intermediate_size", maximum=MAX_WIDTH),) * body.layers
    if len(value) != body.layers:
        raise body.config.refuse(
            "intermediate_size", f"it must have one entry for each of {body.layers} layers"
        )
    if any(
        isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= MAX_WIDTH
        for width in value
    ):
        raise body.config.refuse("intermediate_size", f"it must be whole numbers from 1 to {MAX_WIDTH}")
    return tuple(value)


def _inputs(config: Config) -> int:
    return config.integer("altup_num_inputs", maximum=_MAX_INPUTS)


def _outside(body: Body) -> tuple[Tensor, ...]:
    config = body.config
    per_layer = config.integer("hidden_size_per_layer_input", maximum=MAX_WIDTH)
    vocab = config.integer("vocab_size_per_layer_input", maximum=MAX_WIDTH)
    wide = per_layer * body.layers
    more = _inputs(config) - 1
    projection = Tensor(
        name="altup_projections",
        rows=body.hidden,
        columns=body.hidden,
        sharding=Sharding.COLUMN,
        copies=max(more, 1),
        quantized=True,
    )
    return (
        embedding("embed_tokens_per_layer", vocab, wide),
        linear("per_layer_model_projection", wide, body.hidden, Sharding.COLUMN),
        Tensor(name="per_layer_projection_norm", rows=per_layer),
        *((projection, replace(projection, name="altup_unembed_projections")) if more else ()),
    )


def _layer(body: Body, cache: CacheKind, width: int, *, shares: bool) -> Layer:
    config, hidden = body.config, body.hidden
    inputs = _inputs(config)
    rank = config.integer("laurel_rank", maximum=MAX_WIDTH)
    per_layer = config.integer("hidden_size_per_layer_input", maximum=MAX_WIDTH)
    heads = attention(body)
    if shares:
        query, _, _, output = heads
        heads = (query, output)
    tensors = (
        *heads,
        *norms(body.head_size, 1 if shares else 2, "self_attn.head_norm"),
        *gated_mlp("mlp", hidden, width),
        linear("altup.correction_coefs", inputs, inputs),
        linear("altup.prediction_coefs", inputs**2, inputs),
        linear("altup.modality_router", inputs, hidden),
        Tensor(name="altup.correct_output_scale", rows=hidden, element_bytes=FLOAT32_BYTES),
        linear("laurel.linear_left", rank, hidden, Sharding.COLUMN),
        linear("laurel.linear_right", hidden, rank, Sharding.ROW),
        linear("per_layer_input_gate", per_layer, hidden),
        linear("per_layer_projection", hidden, per_layer),
        *norms(hidden, _NORMS),
    )
    scale = Tensor(name="altup.router_input_scale", rows=1, element_bytes=_router_bytes(config))
    return Layer(cache=NoCache() if shares else cache, tensors=tensors, buffers=(scale,))


def _router_bytes(config: Config) -> int | None:
    """The scale has the dtype of the router's weights, which only 8 bit methods keep as they stand."""
    quantization = quantization_from_config(config)
    if quantization is None or any("altup" in entry for entry in quantization.skipped):
        return None
    if quantization.bits != _EIGHT_BITS:
        raise config.refuse("quantization_config", "Gemma 3n is sized in 16 or 8 bits only", WAY_OUT)
    return 1


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Gemma3nForCausalLM": (build, ("gemma3n_text",))
}
