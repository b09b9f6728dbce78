"""Kimi Linear: Kimi delta attention (KDA) with multi-head latent attention in every few layers, and experts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixers import read_kernel, read_length
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    decoder,
    linear,
    norms,
    read_body,
    read_experts,
    routed,
)
from plimsoll.sizing.layers import MultiHeadLatent, RecurrentState
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_LEAST_EXPERT_WIDTH: Final = 256  # of an expert on a rank, to which the engine fills narrower ones up
# Scalars of a layer of latent attention: q, k, v and prob scale, and a one, float32.
_SCALARS: Final = (Tensor(name="self_attn.scales", rows=5, element_bytes=FLOAT32_BYTES),)
_OTHER_VARIANTS: Final = (
    "attn_res_block_size",
    "routed_expert_hidden_size",
    "mla_use_output_gate",
    "q_lora_rank",
)


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, models/kimi_k3/nvidia/model.py and layers/mamba/gdn/kimi_gdn_linear_attn.py."""
    config = Config({**config.values, "max_position_embeddings": read_length(config)[0]}, config.path)
    body = read_body(config, architecture, model_type)
    _same_variant(config)
    section = _section(config)
    attends = _attends(body, section)
    experts = _experts(config)
    sparse = _sparse(body)
    intermediate = 0 if all(sparse) else config.integer("intermediate_size", maximum=MAX_WIDTH)
    mixers = {True: _latent_layer(body), False: _delta_layer(body, section)}
    made = {
        (latent, routes): replace(
            mixers[latent],
            tensors=(*mixers[latent].tensors, *_behind(body, experts if routes else None, intermediate)),
        )
        for latent, routes in sorted(set(zip(attends, sparse, strict=True)))
    }
    layers = [made[key] for key in zip(attends, sparse, strict=True)]
    shape = decoder(
        body, layers, rope=None, intermediate=intermediate, experts=experts if any(sparse) else None
    )
    heads, size = _delta_heads(section)
    up = next(tensor for tensor in mixers[True].tensors if tensor.name == "self_attn.kv_b_proj")
    return replace(
        shape,
        tied_embeddings=False,  # the class never ties them
        mixer_width=6 * heads * size,
        latent_up_projection=(up.rows, up.columns),
    )


def _same_variant(config: Config) -> None:
    if not config.flag("mla_use_nope", default=False):
        raise config.refuse("mla_use_nope", "vLLM refuses this class with rotary attention", WAY_OUT)
    for field in _OTHER_VARIANTS:
        if config.values.get(field) not in (None, False):
            raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)


def _section(config: Config) -> Config:
    section = config.section("linear_attn_config")
    if section is None:
        raise config.refuse("linear_attn_config", "it must say which layers hold KDA and of which size")
    if section.flag("use_full_rank_gate", default=False):
        raise section.refuse("use_full_rank_gate", "such a variant is not one that can be sized", WAY_OUT)
    return section


def _attends(body: Body, section: Config) -> tuple[bool, ...]:
    """Which layers hold latent attention; the list counts from one."""
    numbers = section.values.get("kda_layers")
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        raise section.refuse("kda_layers", "it must be a list of layer numbers")
    known = set(numbers)
    attends = tuple(index + 1 not in known for index in range(body.layers))
    if all(attends) or not any(attends):
        raise section.refuse("kda_layers", f"it must name some of {body.layers} layers, counted from 1")
    return attends


def _delta_heads(section: Config) -> tuple[int, int]:
    heads = section.integer("num_heads", maximum=MAX_HEADS)
    return heads, section.integer("head_dim", maximum=MAX_WIDTH)


def _delta_layer(body: Body, section: Config) -> Layer:
    """A layer of KDA, whose state is float32 whatever the model's dtype."""
    heads, size = _delta_heads(section)
    kernel = read_kernel(section, "short_conv_kernel_size")
    inner, name = heads * size, "self_attn"
    query = linear(f"{name}.q_proj", inner, body.hidden, Sharding.COLUMN)
    tensors = (
        query,
        replace(query, name=f"{name}.k_proj", follows=True),
        replace(query, name=f"{name}.v_proj", follows=True),
        replace(query, name=f"{name}.b_proj", rows=heads, follows=True),
        replace(query, name=f"{name}.f_a_proj", rows=size, sharding=Sharding.REPLICATED, follows=True),
        linear(f"{name}.f_b_proj", inner, size, Sharding.COLUMN),
        linear(f"{name}.g_a_proj", size, body.hidden),
        linear(f"{name}.g_b_proj", inner, size, Sharding.COLUMN),
        linear(f"{name}.o_proj", body.hidden, inner, Sharding.ROW),
        _float32(f"{name}.conv1d", 3 * inner, kernel),
        _float32(f"{name}.dt_bias", inner),
        _float32(f"{name}.A_log", heads),
        *norms(size, 1, f"{name}.o_norm"),
    )
    state = RecurrentState(
        name="KDA",
        conv_channels=3 * inner,
        conv_rows=kernel - 1,
        state_elements=inner * size,
        state_element_bytes=FLOAT32_BYTES,
    )
    return Layer(cache=state, tensors=tensors, attentions=0)


def _float32(name: str, rows: int, columns: int = 1) -> Tensor:
    return Tensor(
        name=name, rows=rows, columns=columns, sharding=Sharding.COLUMN, element_bytes=FLOAT32_BYTES
    )


def _latent_layer(body: Body) -> Layer:
    config, name = body.config, "self_attn"
    nope = config.integer("qk_nope_head_dim", maximum=MAX_WIDTH)
    value = config.integer("v_head_dim", maximum=MAX_WIDTH)
    cache = MultiHeadLatent(
        kv_lora_rank=config.integer("kv_lora_rank", maximum=MAX_WIDTH),
        qk_rope_head_dim=config.integer("qk_rope_head_dim", maximum=MAX_WIDTH),
    )
    latent, rope = cache.kv_lora_rank, cache.qk_rope_head_dim
    tensors = (
        linear(f"{name}.q_proj", body.heads * (nope + rope), body.hidden, Sharding.COLUMN),
        linear(f"{name}.kv_a_proj_with_mqa", latent + rope, body.hidden),
        linear(f"{name}.kv_b_proj", body.heads * (nope + value), latent, Sharding.COLUMN),
        linear(f"{name}.o_proj", body.hidden, body.heads * value, Sharding.ROW),
        *norms(latent, 1, f"{name}.kv_a_layernorm"),
    )
    return Layer(cache=cache, tensors=tensors, attentions=0, buffers=_SCALARS)


def _sparse(body: Body) -> tuple[bool, ...]:
    config = body.config
    first = config.integer("first_k_dense_replace", maximum=MAX_LAYERS, minimum=0, default=0)
    every = config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    return tuple(index >= first and index % every == 0 for index in range(body.layers))


def _experts(config: Config) -> MixtureOfExperts:
    shared = config.integer("num_shared_experts", maximum=MAX_EXPERTS, minimum=0, default=0)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    return read_experts(
        config,
        count="num_experts",
        width="moe_intermediate_size",
        shared=shared * width,
        chosen="num_experts_per_token",
    )


def _behind(body: Body, experts: MixtureOfExperts | None, intermediate: int) -> tuple[Tensor, ...]:
    around = norms(body.hidden, 2)
    if experts is None:
        return (*gated_mlp("mlp", body.hidden, intermediate), *around)
    name = "block_sparse_moe"
    least = body.config.integer(
        "min_moe_intermediate_per_partition", maximum=MAX_WIDTH, default=_LEAST_EXPERT_WIDTH
    )
    router, *weights = routed(name, body.hidden, experts)
    bias = Tensor(
        name=f"{name}.gate.e_score_correction_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES
    )
    shared = experts.shared_intermediate_size
    return (
        router,
        bias,
        *(replace(weight, least_width=least) for weight in weights),
        *(gated_mlp(f"{name}.shared_experts", body.hidden, shared) if shared else ()),
        *around,
    )


FAMILIES: Final = {"KimiLinearForCausalLM": (build, ("kimi_linear",))}
