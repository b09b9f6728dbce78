"""Gemma 4: sliding and full layers with heads of their own, layers that share keys, experts, embeddings per layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
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
from plimsoll.sizing.layers import FullAttention, NoCache, SlidingWindow
from plimsoll.sizing.model import AttentionKernels, Layer, MixtureOfExperts
from plimsoll.sizing.outside import embedding, gated_mlp
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_SCALAR_BYTES: Final = 2  # one scalar in the model's dtype on every rank
_EMBEDDING_SCALARS: Final = 3  # what embeddings per layer add
_NORMS, _EXPERT_NORMS = 4, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What the config asks for beside sliding and full layers.

    Attributes:
        shared: layers at the end that use the keys and values of earlier ones.
        double: their MLPs are twice as wide.
        per_layer: width of the embedding that each layer gets of its own; 0 for none.
    """

    shared: int
    double: bool
    per_layer: int
    experts: MixtureOfExperts | None


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/gemma4.py."""
    if config.flag("attention_bias", default=False):
        raise config.refuse("attention_bias", "such a variant is not one that can be sized", WAY_OUT)
    body = read_body(config, architecture, model_type)
    variant = _variant(config, body)
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
    own = body.layers - variant.shared
    if not set(kinds[own:]) <= set(kinds[:own]):
        raise config.refuse("num_kv_shared_layers", "the layers before must have one of each kind to share")
    made = {
        (kind, shares): _layer(body, kind, variant, intermediate, shares=shares)
        for kind in (full, sliding)
        for shares in (False, True)
    }
    layers = [
        made[full if kind == "full_attention" else sliding, index >= own] for index, kind in enumerate(kinds)
    ]
    shape = decoder(
        body, layers, rope=_rope(body, full), intermediate=intermediate, experts=variant.experts, tied=True
    )
    return _around(shape, body, variant, local=_rope(body, sliding))


def _rope(body: Body, cache: FullAttention | SlidingWindow) -> Rope:
    """A table as wide as the heads, whatever part of them turns."""
    return Rope(positions=body.positions, rotary_dim=cache.head_size, max_model_len=body.positions)


def _around(shape: ModelShape, body: Body, variant: _Variant, *, local: Rope) -> ModelShape:
    """What stands outside the layers, and what is not parameters."""
    _check_ropes(body.config)
    widest = max(shape.rope.rotary_dim if shape.rope else 0, local.rotary_dim)
    shape = replace(
        shape,
        other_ropes=(local,),
        buffer_bytes=_SCALAR_BYTES * (1 + (_EMBEDDING_SCALARS if variant.per_layer else 0)),
        kernels=AttentionKernels(prefix_masks=True, largest_head=widest),
    )
    if variant.shared:
        shape = replace(shape, stages_problem="vLLM keeps layers that share keys on the stage of those keys")
    shape = whole_on_every_stage(shape)
    return replace(shape, every_stage=(*shape.every_stage, *_embeddings(body, variant)))


def _variant(config: Config, body: Body) -> _Variant:
    shared = config.integer("num_kv_shared_layers", minimum=0, maximum=MAX_LAYERS, default=0)
    if shared >= body.layers:
        raise config.refuse("num_kv_shared_layers", f"it must be below num_hidden_layers, {body.layers}")
    return _Variant(
        shared=shared,
        double=config.flag("use_double_wide_mlp", default=False),
        per_layer=config.integer("hidden_size_per_layer_input", minimum=0, maximum=MAX_WIDTH, default=0),
        experts=_experts(config),
    )


def _experts(config: Config) -> MixtureOfExperts | None:
    """Experts beside a dense MLP in every layer, where the config has them."""
    count = config.optional_integer("num_experts", maximum=MAX_EXPERTS)
    if count is None:
        return None
    field = "moe_intermediate_size"
    if config.values.get(field) is None:
        field = "expert_intermediate_size"
    return MixtureOfExperts(
        num_experts=count,
        num_experts_per_token=config.integer("top_k_experts", maximum=count),
        intermediate_size=config.integer(field, maximum=MAX_WIDTH),
        shared_intermediate_size=0,
    )


def _embeddings(body: Body, variant: _Variant) -> tuple[Tensor, ...]:
    """A table with a row for every layer at once, and the projection that joins it with the hidden state."""
    if not variant.per_layer:
        return ()
    wide = variant.per_layer * body.layers
    vocab = body.config.integer("vocab_size_per_layer_input", maximum=MAX_WIDTH, default=body.vocab)
    return (
        embedding("embed_tokens_per_layer", vocab, wide),
        linear("per_layer_model_projection", wide, body.hidden, Sharding.COLUMN),
        Tensor(name="per_layer_projection_norm", rows=variant.per_layer),
    )


def _full(config: Config, body: Body) -> FullAttention:
    kv_heads = config.integer("num_global_key_value_heads", maximum=MAX_HEADS, default=body.kv_heads)
    if body.heads % kv_heads:
        raise config.refuse("num_global_key_value_heads", f"it must divide num_attention_heads, {body.heads}")
    size = config.integer("global_head_dim", maximum=MAX_WIDTH, default=body.head_size)
    return FullAttention(num_kv_heads=kv_heads, head_size=size)


def _layer(
    body: Body, cache: FullAttention | SlidingWindow, variant: _Variant, intermediate: int, *, shares: bool
) -> Layer:
    wide = intermediate * (2 if shares and variant.double else 1)
    buffers = [Tensor(name="layer_scalar", rows=1)]
    tensors = [*gated_mlp("mlp", body.hidden, wide), *norms(body.hidden, _NORMS)]
    if variant.per_layer:
        tensors += [
            linear("per_layer_input_gate", variant.per_layer, body.hidden),
            linear("per_layer_projection", body.hidden, variant.per_layer),
            *norms(body.hidden, 1, "post_per_layer_input_norm"),
        ]
    if variant.experts is not None:
        tensors += _routed(body, variant.experts)
        buffers.append(Tensor(name="router.root_size", rows=1))
    heads = _attention(body, cache)
    if shares:
        query, _, _, output = heads
        heads = (query, output)
    head_norms = norms(cache.head_size, 1 if shares else 2, "self_attn.head_norm")
    return Layer(
        cache=NoCache() if shares else cache,
        tensors=(*heads, *head_norms, *tensors),
        buffers=tuple(buffers),
    )


def _attention(body: Body, cache: FullAttention | SlidingWindow) -> tuple[Tensor, ...]:
    """The projections; where full layers take their keys for values, the files hold no value projection."""
    made = attention(body, kv_heads=cache.num_kv_heads, head_size=cache.head_size)
    if isinstance(cache, SlidingWindow) or not body.config.flag("attention_k_eq_v", default=False):
        return made
    return tuple(replace(tensor, stored=not tensor.name.endswith(".v_proj")) for tensor in made)


def _routed(body: Body, experts: MixtureOfExperts) -> list[Tensor]:
    return [
        Tensor(name="router.proj", rows=experts.num_experts, columns=body.hidden),
        Tensor(name="router.scale", rows=body.hidden),
        Tensor(name="router.per_expert_scale", rows=experts.num_experts),
        *gated_mlp("experts", body.hidden, experts.intermediate_size, copies=experts.num_experts),
        *norms(body.hidden, _EXPERT_NORMS, "expert_norm"),
    ]


def _check_ropes(config: Config) -> None:
    """Tables are as wide as the heads, whatever part of them turns; a scaled one would be longer."""
    section = config.section("rope_parameters")
    for kind in ("full_attention", "sliding_attention"):
        part = None if section is None else section.section(kind)
        name = "default" if part is None else part.text("rope_type", default="default")
        if part is not None and name not in ("default", "proportional"):
            raise part.refuse("rope_type", "this rope type is not known with Gemma 4", WAY_OUT)


TEXT: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {"Gemma4ForCausalLM": (build, ("gemma4_text",))}
