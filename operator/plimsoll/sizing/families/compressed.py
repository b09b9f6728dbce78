"""Relatives of DeepSeek: the first DeepSeek MoE, MiniCPM 3, Mistral Large 3, Sarvam 30B and 105B."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.deepseek import deepseek_shape, latent_attention, latent_cache
from plimsoll.sizing.families.mixture import correction_bias
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    each,
    linear,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.families.routed import build as build_routed
from plimsoll.sizing.layers import FullAttention, MultiHeadLatent
from plimsoll.sizing.model import Layer, MixtureOfExperts
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

_CORRECTED: Final = "noaux_tc"  # the router with a bias that balances the experts
_SARVAM_SAYS: Final = (
    "head_dim", "num_shared_experts", "first_k_dense_replace", "use_qk_norm", "moe_router_enable_expert_bias"
)  # fmt: skip
_SAY_IT: Final = "set it in config.json"


def _refuse(config: Config, *fields: str) -> None:
    """Refuse fields that ask for what the class does not build."""
    for name in fields:
        if config.values.get(name):
            raise config.refuse(name, "such a variant is not one that can be sized", WAY_OUT)


def minicpm3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/minicpm3.py.

    Keys and values are projected up before the cache, which so holds them for every head, the values filled up to the
    width of the keys. Fields that name key and value heads, or a head's width, are not read.
    """
    _refuse(config, "num_experts", "attention_bias", "mlp_bias")
    body = read_body(
        replace(config, values={**config.values, "num_key_value_heads": None, "head_dim": None}),
        architecture,
        model_type,
    )
    turned = config.integer("qk_rope_head_dim", maximum=MAX_WIDTH)
    key = config.integer("qk_nope_head_dim", maximum=MAX_WIDTH) + turned
    value = config.integer("v_head_dim", maximum=MAX_WIDTH, default=body.head_size)
    if value > key:
        raise config.refuse("v_head_dim", f"vLLM fills values up to the width of a key, {key}", WAY_OUT)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    tensors = (
        *_compressed(body, key=key, turned=turned, value=value),
        *norms(body.hidden, 2),
        *gated_mlp("mlp", body.hidden, intermediate),
    )
    cache = FullAttention(num_kv_heads=body.heads, head_size=key)
    rope = read_rope(body, rotary_dim=rotary_dim_of(config, turned))
    layers = each((cache,) * body.layers, tensors)
    return whole_on_every_stage(decoder(body, layers, rope=rope, intermediate=intermediate, tied=True))


def _compressed(body: Body, *, key: int, turned: int, value: int) -> tuple[Tensor, ...]:
    """Projections down, whole on every rank, and up, by heads."""
    name = "self_attn"
    query_rank = body.config.integer("q_lora_rank", maximum=MAX_WIDTH)
    rank = body.config.integer("kv_lora_rank", maximum=MAX_WIDTH)
    return (
        linear(f"{name}.q_a_proj", query_rank, body.hidden),
        linear(f"{name}.q_b_proj", body.heads * key, query_rank, Sharding.COLUMN),
        linear(f"{name}.kv_a_proj_with_mqa", rank + turned, body.hidden),
        linear(f"{name}.kv_b_proj", body.heads * (key - turned + value), rank, Sharding.COLUMN),
        linear(f"{name}.o_proj", body.hidden, body.heads * value, Sharding.ROW),
        Tensor(name=f"{name}.q_a_layernorm", rows=query_rank),
        Tensor(name=f"{name}.kv_a_layernorm", rows=rank),
    )


def deepseek_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The first DeepSeek MoE: ordinary attention (vLLM 0.33.0, model_executor/models/deepseek_v2.py)."""
    _refuse(config, "attention_bias", "rswa_window")
    for field in ("n_group", "topk_group"):
        if field in config.values:
            config.integer(field, maximum=MAX_EXPERTS)
    body = read_body(config, architecture, model_type)
    if body.heads * body.head_size != body.hidden:
        raise config.refuse("head_dim", "vLLM's class splits hidden_size into heads", WAY_OUT)
    shared = config.integer("n_shared_experts", maximum=MAX_EXPERTS, minimum=0, default=0)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    experts = read_experts(
        config, count="n_routed_experts", width="moe_intermediate_size", shared=shared * width
    )
    common = (*attention(body), *norms(body.hidden, 2))
    sparse = _experts(body, experts, balanced=config.text("topk_method", default="") == _CORRECTED)
    first = config.integer("first_k_dense_replace", maximum=MAX_LAYERS, minimum=0, default=0)
    every = config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    is_sparse = tuple(index >= first and index % every == 0 for index in range(body.layers))
    layers, intermediate = _stack(body, body.full, common, is_sparse=is_sparse, sparse=sparse)
    shape = decoder(body, layers, rope=read_rope(body), intermediate=intermediate, experts=experts)
    return replace(shape, tied_embeddings=False)  # the class never ties them


def mistral_large3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """DeepSeek V3's layers (vLLM 0.33.0, model_executor/models/mistral_large_3.py).

    From the params.json of Mistral itself vLLM makes such a config.
    """
    return replace(deepseek_shape(config, architecture, model_type), tied_embeddings=False)


def sarvam_mla(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Sarvam 105B (vLLM 0.33.0, model_executor/models/sarvam.py)."""
    _refuse(
        config, "q_lora_rank"
    )  # published models have none, and the class does not fuse it as DeepSeek's does
    if config.values.get("rope_scaling") is None and config.values.get("rope_parameters") is None:
        raise config.refuse(
            "rope_scaling", "the model's own code has a scaling where it is left out", _SAY_IT
        )
    body = read_body(
        replace(config, values={**config.values, "num_key_value_heads": None}), architecture, model_type
    )
    experts = _sarvam_experts(config)
    cache = latent_cache(config, packed_fp8=False)
    common = latent_attention(config, body.hidden, body.heads, cache)
    balanced = config.flag("moe_router_enable_expert_bias", default=True)
    first = config.integer("first_k_dense_replace", maximum=MAX_LAYERS, minimum=0, default=1)
    every = config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    is_sparse = tuple(index >= first and (index - first) % every == 0 for index in range(body.layers))
    if not any(is_sparse):
        raise config.refuse("first_k_dense_replace", "vLLM's class must have a routed layer", WAY_OUT)
    layers, intermediate = _stack(
        body, cache, common, is_sparse=is_sparse, sparse=_experts(body, experts, balanced=balanced)
    )
    up_rows = next(tensor.rows for tensor in common if tensor.name == "self_attn.kv_b_proj")
    shape = decoder(
        body,
        layers,
        rope=read_rope(body, rotary_dim=rotary_dim_of(config, cache.qk_rope_head_dim)),
        intermediate=intermediate,
        experts=experts,
    )
    return replace(shape, latent_up_projection=(up_rows, cache.kv_lora_rank))


def sarvam_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Sarvam 30B: the class of Ling's, with other defaults in the model's own code (the same file)."""
    for field in _SARVAM_SAYS:
        if config.values.get(field) is None:
            raise config.refuse(field, "what the model's own code takes for it is not known", _SAY_IT)
    # The model's own code does not know this field, and vLLM takes false where the config leaves it out.
    values = {**config.values, "use_rmsnorm": config.flag("use_rmsnorm", default=False)}
    return build_routed(replace(config, values=values), architecture, model_type)


def _sarvam_experts(config: Config) -> MixtureOfExperts:
    number = config.integer("num_shared_experts", maximum=MAX_EXPERTS, minimum=0, default=1)
    named = "moe_shared_expert_intermediate_size"
    field = named if named in config.values else "moe_intermediate_size"
    shared = number * config.integer(field, maximum=MAX_WIDTH) if number else 0
    return read_experts(config, count="num_experts", width="moe_intermediate_size", shared=shared)


def _experts(body: Body, experts: MixtureOfExperts, *, balanced: bool) -> tuple[Tensor, ...]:
    shared = experts.shared_intermediate_size
    return (
        *routed("mlp", body.hidden, experts),
        *((correction_bias("mlp", experts),) if balanced else ()),
        *(gated_mlp("mlp.shared_experts", body.hidden, shared) if shared else ()),
    )


def _stack(
    body: Body,
    cache: FullAttention | MultiHeadLatent,
    common: tuple[Tensor, ...],
    *,
    is_sparse: tuple[bool, ...],
    sparse: tuple[Tensor, ...],
) -> tuple[tuple[Layer, ...], int]:
    """The layers in order, and the width of the dense MLPs among them, 0 where there is none."""
    routed_layer = Layer(cache=cache, tensors=(*common, *sparse))
    if all(is_sparse):
        return (routed_layer,) * body.layers, 0
    width = body.config.integer("intermediate_size", maximum=MAX_WIDTH)
    dense = Layer(cache=cache, tensors=(*common, *gated_mlp("mlp", body.hidden, width)))
    return tuple(routed_layer if flag else dense for flag in is_sparse), width


FAMILIES: Final = {
    "MiniCPM3ForCausalLM": (minicpm3, ("minicpm3",)),
    "DeepseekForCausalLM": (deepseek_moe, ("deepseek",)),
    "MistralLarge3ForCausalLM": (mistral_large3, ("deepseek_v3",)),
    "SarvamMoEForCausalLM": (sarvam_moe, ("sarvam_moe",)),
    "SarvamMLAForCausalLM": (sarvam_mla, ("sarvam_mla",)),
}
