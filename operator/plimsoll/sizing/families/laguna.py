"""Laguna (Poolside): heads, rotary table and gate by layer, routed MLPs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixed_layers import (
    FULL,
    KINDS,
    SLIDING,
    mlp_kinds,
    read_checked,
    window_caches,
)
from plimsoll.sizing.families.mixture import correction_bias
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    layer_types,
    linear,
    norms,
    read_experts,
    routed,
)
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import Rope, rope_from_config, rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

# What its Transformers class takes where config.json leaves a field out.
_DEFAULTS: Final[Mapping[str, object]] = {
    "head_dim": 128,
    "num_key_value_heads": 8,
    "sliding_window": 512,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 512,
    "gating": True,
    "rope_parameters": {
        FULL: {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
        SLIDING: {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    },
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/laguna.py."""
    body = read_checked(
        config,
        architecture,
        model_type,
        defaults=_DEFAULTS,
        refused=("moe_apply_router_weight_on_input", "swa_rope_parameters", "rope_scaling"),
    )
    # The class has no field for layers at the front: the first is dense where no list says otherwise.
    body = replace(
        body, config=replace(body.config, values={**body.config.values, "first_k_dense_replace": 1})
    )
    own = body.config
    shared = own.integer("shared_expert_intermediate_size", minimum=0, maximum=MAX_WIDTH)
    experts = read_experts(own, count="num_experts", width="moe_intermediate_size", shared=shared)
    kinds = layer_types(own, body.layers, KINDS) or (FULL,) * body.layers
    heads, is_sparse = _heads(body), mlp_kinds(body)
    caches = window_caches(body, kinds)
    intermediate = own.integer("intermediate_size", maximum=MAX_WIDTH)
    mlps = {True: _sparse(body, experts), False: _apart(gated_mlp("mlp", body.hidden, intermediate))}
    known: dict[tuple[str, int, bool], Layer] = {}
    for kind, number, flag, cache in zip(kinds, heads, is_sparse, caches, strict=True):
        if (kind, number, flag) not in known:
            attends = _attention(replace(body, heads=number), sinks=kind == SLIDING)
            known[kind, number, flag] = Layer(cache=cache, tensors=(*attends, *mlps[flag]))
    layers = [known[key] for key in zip(kinds, heads, is_sparse, strict=True)]
    tables = _tables(body, kinds)
    shape = decoder(body, layers, rope=tables[0], intermediate=intermediate, experts=experts)
    # The ranks must divide the heads of every layer.
    return replace(shape, other_ropes=tables[1:], num_attention_heads=math.gcd(body.heads, *heads))


def _heads(body: Body) -> tuple[int, ...]:
    """Query heads of each layer."""
    field = "num_attention_heads_per_layer"
    listed = body.config.values.get(field)
    if listed is None:
        return (body.heads,) * body.layers
    if not isinstance(listed, (list, tuple)) or len(listed) != body.layers:
        raise body.config.refuse(field, f"it must have a number for each of {body.layers} layers")
    numbers = tuple(
        Config({field: item}, body.config.path).integer(field, maximum=MAX_HEADS) for item in listed
    )
    if any(number % body.kv_heads for number in numbers):
        raise body.config.refuse(field, f"num_key_value_heads, {body.kv_heads}, must divide each")
    return numbers


def _attention(body: Body, *, sinks: bool) -> tuple[Tensor, ...]:
    """The attention of one layer, with norms of the layer and of a head, its gate and its sinks."""
    bias = body.config.flag("attention_bias", default=False)
    gate = _gate(body)
    return (
        *attention(body, query_bias=bias, output_bias=bias),
        *((linear("self_attn.g_proj", gate, body.hidden, Sharding.COLUMN),) if gate else ()),
        *(
            (Tensor(name="self_attn.sink", rows=body.heads, sharding=Sharding.COLUMN),)
            if sinks and body.config.flag("swa_attention_sink_enabled", default=False)
            else ()
        ),
        *norms(body.head_size, 2, "self_attn.head_norm"),
        *norms(body.hidden, 2),
    )


def _gate(body: Body) -> int:
    """Outputs of the gate: one for a head, or for each of its elements, or none."""
    match body.config.values.get("gating"):
        case True | "per-head":
            return body.heads
        case "per-element":
            return body.heads * body.head_size
        case False:
            return 0
    raise body.config.refuse("gating", "it must be true, false, 'per-head' or 'per-element'", WAY_OUT)


def _sparse(body: Body, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    shared = experts.shared_intermediate_size
    return (
        *routed("mlp", body.hidden, experts),
        correction_bias("mlp.experts", experts),
        *(_apart(gated_mlp("mlp.shared_expert", body.hidden, shared)) if shared else ()),
    )


def _apart(weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Gate and up projections that the class does not fuse."""
    return tuple(replace(tensor, follows=False) for tensor in weights)


def _tables(body: Body, kinds: Sequence[str]) -> tuple[Rope, ...]:
    """The distinct rotary tables, those of full layers first; one entry for all kinds is one table."""
    config = body.config
    section = config.section("rope_parameters")
    given = {} if section is None else section.values
    if not any(isinstance(value, dict) for value in given.values()):
        return (_table(body, config),)
    seen: list[Config] = []
    for kind in (kind for kind in KINDS if kind in kinds):
        name = kind if given.get(kind) else FULL
        part = None if section is None else section.section(name)
        if part is None or not part.values:
            raise config.refuse("rope_parameters", f"it must have an object for {name}", WAY_OUT)
        if all(part.values != other.values for other in seen):
            seen.append(part)
    return tuple(
        _table(body, replace(config, values={**config.values, "rope_parameters": part.values}))
        for part in seen
    )


def _table(body: Body, config: Config) -> Rope:
    section = config.section("rope_parameters")
    kind = "default" if section is None else section.text("rope_type", default="default")
    if kind not in ("default", "yarn"):
        raise config.refuse("rope_parameters", f"rope_type {kind!r:.80} is not known with Laguna", WAY_OUT)
    if (
        kind == "yarn"
        and section is not None
        and section.values.get("original_max_position_embeddings") is None
    ):
        raise config.refuse("rope_parameters", "yarn needs original_max_position_embeddings", WAY_OUT)
    return rope_from_config(
        config, rotary_dim=rotary_dim_of(config, body.head_size), max_position_embeddings=body.positions
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {"LagunaForCausalLM": (build, ("laguna",))}
