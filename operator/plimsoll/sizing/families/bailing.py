"""Ling and Ring 2.5: linear attention with multi-head latent attention in every n-th layer, and experts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.deepseek import latent_attention, latent_cache
from plimsoll.sizing.families.mixers import unquantized
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    bias_of,
    decoder,
    linear,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.model import Layer, MixtureOfExperts
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

_ROUTER_BYTES: Final = {None: 4, "fp32": 4, "bf16": 2}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/bailing_moe_linear.py and layers/mamba/linear."""
    unquantized(config)
    body = read_body(config, architecture, model_type)
    for field in ("rope_scaling", "rope_parameters"):
        if config.values.get(field) is not None:
            raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)
    attends = _attends(body)
    experts = _experts(config)
    first = config.integer("first_k_dense_replace", maximum=MAX_LAYERS, minimum=0, default=0)
    sparse = tuple(experts is not None and index >= first for index in range(body.layers))
    intermediate = 0 if all(sparse) else config.integer("intermediate_size", maximum=MAX_WIDTH)
    made = {
        key: _layer(body, attends=key[0], experts=experts if key[1] else None, intermediate=intermediate)
        for key in sorted(set(zip(attends, sparse, strict=True)))
    }
    layers = [made[key] for key in zip(attends, sparse, strict=True)]
    rope = read_rope(body, rotary_dim=rotary_dim_of(config, body.head_size))
    shape = decoder(
        body,
        layers,
        rope=rope,
        intermediate=intermediate,
        experts=experts if any(sparse) else None,
    )
    nope, value = _latent_widths(config)
    latent = latent_cache(config, packed_fp8=False)
    return replace(
        shape,
        tied_embeddings=False,  # the class never ties them
        other_ropes=(read_rope(body, rotary_dim=latent.qk_rope_head_dim),),
        mixer_width=6 * body.heads * body.head_size,
        latent_up_projection=(body.heads * (nope + value), latent.kv_lora_rank),
    )


def _latent_widths(config: Config) -> tuple[int, int]:
    nope = config.integer("qk_nope_head_dim", maximum=MAX_WIDTH)
    return nope, config.integer("v_head_dim", maximum=MAX_WIDTH)


def _attends(body: Body) -> tuple[bool, ...]:
    """Which layers hold latent attention: the last of each group."""
    group = body.config.integer("layer_group_size", maximum=MAX_LAYERS, minimum=2)
    attends = tuple((index + 1) % group == 0 for index in range(body.layers))
    if not any(attends):
        raise body.config.refuse("layer_group_size", f"it must not be above {body.layers} layers")
    return attends


def _experts(config: Config) -> MixtureOfExperts | None:
    if config.integer("num_experts", maximum=MAX_EXPERTS) == 1:
        return None
    number = config.integer("num_shared_experts", maximum=MAX_EXPERTS, minimum=0)
    named = "moe_shared_expert_intermediate_size"
    field = named if named in config.values else "moe_intermediate_size"
    shared = number * config.integer(field, maximum=MAX_WIDTH) if number else 0
    return read_experts(config, count="num_experts", width="moe_intermediate_size", shared=shared)


def _layer(body: Body, *, attends: bool, experts: MixtureOfExperts | None, intermediate: int) -> Layer:
    behind = _behind(body, experts, intermediate)
    if attends:
        cache = latent_cache(body.config, packed_fp8=False)
        return Layer(
            cache=cache,
            tensors=(*latent_attention(body.config, body.hidden, body.heads, cache), *behind),
        )
    state = RecurrentState(
        name="linear attention", state_elements=body.heads * body.head_size * body.head_size
    )
    return Layer(
        cache=state, tensors=(*_linear_attention(body), *norms(body.hidden, 2), *behind), attentions=0
    )


def _linear_attention(body: Body) -> tuple[Tensor, ...]:
    config, name = body.config, "attention"
    inner = body.heads * body.head_size
    bias = config.flag("use_bias", default=False)
    query = linear(f"{name}.query_key_value", inner, body.hidden, Sharding.COLUMN)
    key = replace(query, name=f"{name}.query_key_value.key", follows=True)
    projections = (query, key, replace(key, name=f"{name}.query_key_value.value"))
    output = linear(f"{name}.dense", body.hidden, inner, Sharding.ROW)
    biased: tuple[Tensor, ...] = ()
    if bias or config.flag("use_qkv_bias", default=False):
        biased = projections
    groups = config.integer("group_norm_size", maximum=MAX_HEADS, default=1)
    return (
        *projections,
        linear(f"{name}.g_proj", inner, body.hidden, Sharding.COLUMN),
        output,
        *map(bias_of, (*biased, *((output,) if bias else ()))),
        *(norms(body.head_size, 2, f"{name}.head_norm") if config.flag("use_qk_norm", default=False) else ()),
        Tensor(name=f"{name}.g_norm", rows=inner, sharding=Sharding.COLUMN),
        # No bytes: a rank must hold whole groups of that norm.
        Tensor(name=f"{name}.group_norm_size", rows=groups, columns=0, sharding=Sharding.COLUMN),
    )


def _behind(body: Body, experts: MixtureOfExperts | None, intermediate: int) -> tuple[Tensor, ...]:
    config = body.config
    if experts is None:
        return _biased(body, gated_mlp("mlp", body.hidden, intermediate))
    dtype = config.values.get("router_dtype")
    if not (dtype is None or isinstance(dtype, str)) or dtype not in _ROUTER_BYTES:
        raise config.refuse("router_dtype", "it must be fp32 or bf16")
    bias = Tensor(name="mlp.gate.expert_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES)
    shared = experts.shared_intermediate_size
    return (
        *routed("mlp", body.hidden, experts, router_bytes=_ROUTER_BYTES[dtype]),
        *((bias,) if config.flag("moe_router_enable_expert_bias", default=False) else ()),
        *(_biased(body, gated_mlp("mlp.shared_experts", body.hidden, shared)) if shared else ()),
    )


def _biased(body: Body, mlp: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (*mlp, *map(bias_of, mlp)) if body.config.flag("use_bias", default=False) else mlp


FAMILIES: Final = {"BailingMoeV2_5ForCausalLM": (build, ("bailing_hybrid",))}
