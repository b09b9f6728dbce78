"""Decoders with routed experts and ordinary attention: Mixtral, Qwen 2 and 3 MoE, MiniMax M2, GLM 4.5, gpt-oss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    decoder,
    each,
    layer_types,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import SlidingWindow
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_GLM_ROTATED: Final = 0.5  # of a head, where the config leaves partial_rotary_factor out


def mixtral(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/mixtral.py."""
    body = read_body(config, architecture, model_type)
    experts = read_experts(config, count="num_local_experts", width="intermediate_size")
    window = config.optional_integer("sliding_window", maximum=MAX_TOKENS)
    cache = (
        body.full
        if window is None
        else SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=window)
    )
    tensors = (
        *attention(body),
        *routed("block_sparse_moe", body.hidden, experts),
        *norms(body.hidden, 2),
    )
    layers = each((cache,) * body.layers, tensors)
    shape = decoder(body, layers, rope=read_rope(body), intermediate=0, experts=experts)
    return whole_on_every_stage(shape)


def qwen_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/qwen2_moe.py and qwen3_moe.py."""
    body = read_body(config, architecture, model_type)
    second = model_type.startswith("qwen2")
    if config.flag("use_sliding_window", default=False):
        raise config.refuse(
            "use_sliding_window", "windows in some layers of this model are not sized", WAY_OUT
        )
    shared = config.integer("shared_expert_intermediate_size", maximum=MAX_WIDTH, minimum=0) if second else 0
    experts = read_experts(config, count="num_experts", width="moe_intermediate_size", shared=shared)
    common = (
        *attention(
            body,
            query_bias=second or config.flag("attention_bias", default=False),
        ),
        *norms(body.hidden, 2),
        *(() if second else norms(body.head_size, 2, "self_attn.head_norm")),
    )
    router, *weights = routed("mlp", body.hidden, experts)
    router = replace(router, quantized=not second)
    sparse = (*common, router, *weights, *shared_expert(body, shared))
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH, minimum=0, default=0)
    is_sparse = sparse_layers(config, body.layers)
    dense = sparse
    if not all(is_sparse):
        dense = (
            *common,
            *gated_mlp("mlp", body.hidden, config.integer("intermediate_size", maximum=MAX_WIDTH)),
        )
    kinds = {True: Layer(cache=body.full, tensors=sparse), False: Layer(cache=body.full, tensors=dense)}
    layers = [kinds[flag] for flag in is_sparse]
    shape = decoder(
        body,
        layers,
        rope=read_rope(body),
        intermediate=0 if all(is_sparse) else intermediate,
        experts=experts,
    )
    return whole_on_every_stage(shape)


def shared_expert(body: Body, width: int) -> tuple[Tensor, ...]:
    """An expert that every token passes, behind a gate of one output."""
    if not width:
        return ()
    return (
        *gated_mlp("mlp.shared_expert", body.hidden, width),
        Tensor(name="mlp.shared_expert_gate", rows=1, columns=body.hidden),
    )


def sparse_layers(config: Config, layers: int) -> tuple[bool, ...]:
    """Which layers are routed: every n-th, less those that the config names."""
    step = config.integer("decoder_sparse_step", maximum=MAX_LAYERS, default=1)
    named = config.values.get("mlp_only_layers") or ()
    if not isinstance(named, (list, tuple)) or not all(isinstance(index, int) for index in named):
        raise config.refuse("mlp_only_layers", "it must be a list of layer numbers")
    dense = set(named)
    return tuple((index + 1) % step == 0 and index not in dense for index in range(layers))


def minimax_m2(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/minimax_m2.py."""
    body = read_body(config, architecture, model_type)
    experts = read_experts(config, count="num_local_experts", width="intermediate_size")
    query_norm = Tensor(name="self_attn.q_norm", rows=body.heads * body.head_size, sharding=Sharding.COLUMN)
    key_norm = Tensor(
        name="self_attn.k_norm",
        rows=body.kv_heads * body.head_size,
        sharding=Sharding.KV_COLUMN,
        kv_heads=body.kv_heads,
    )
    tensors = (
        *attention(body),
        query_norm,
        key_norm,
        *routed("block_sparse_moe", body.hidden, experts, router_bytes=FLOAT32_BYTES),
        *_correction(config, experts),
        *norms(body.hidden, 2),
    )
    rotary = config.integer("rotary_dim", maximum=MAX_WIDTH, default=body.head_size)
    layers = each((body.full,) * body.layers, tensors)
    shape = decoder(body, layers, rope=read_rope(body, rotary_dim=rotary), intermediate=0, experts=experts)
    if config.flag("use_mtp", default=False):
        return replace(shape, unloaded=MTP)
    return shape


MTP: Final = "the multi-token prediction layer, which serves speculative decoding only"


def _correction(config: Config, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    if not config.flag("use_routing_bias", default=False):
        return ()
    return (correction_bias("block_sparse_moe", experts),)


def correction_bias(name: str, experts: MixtureOfExperts) -> Tensor:
    """The bias that balances the experts, in float32 whatever the model's dtype."""
    return Tensor(
        name=f"{name}.gate.e_score_correction_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES
    )


def glm4_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/glm4_moe.py."""
    body = read_body(config, architecture, model_type)
    number = config.integer("n_shared_experts", maximum=MAX_LAYERS, minimum=0, default=0)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    experts = read_experts(
        config, count="n_routed_experts", width="moe_intermediate_size", shared=number * width
    )
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    common = (
        *attention(body, query_bias=config.flag("attention_bias", default=False)),
        *(
            norms(body.head_size, 2, "self_attn.head_norm")
            if config.flag("use_qk_norm", default=False)
            else ()
        ),
        *norms(body.hidden, 2),
    )
    sparse = (
        *common,
        *routed("mlp", body.hidden, experts, router_bytes=FLOAT32_BYTES),
        correction_bias("mlp", experts),
        *(gated_mlp("mlp.shared_experts", body.hidden, number * width) if number else ()),
    )
    dense = (*common, *gated_mlp("mlp", body.hidden, intermediate))
    first = config.integer("first_k_dense_replace", maximum=MAX_LAYERS, minimum=0, default=1)
    kinds = (Layer(cache=body.full, tensors=dense), Layer(cache=body.full, tensors=sparse))
    layers = [kinds[index >= first] for index in range(body.layers)]
    factor = config.number("partial_rotary_factor", default=_GLM_ROTATED, minimum=1 / MAX_WIDTH, maximum=1.0)
    rope = read_rope(body, rotary_dim=int(body.head_size * factor))
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, experts=experts)
    extra = config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0)
    return replace(shape, unloaded=MTP if extra else None)


def gpt_oss(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/gpt_oss.py."""
    body = read_body(config, architecture, model_type)
    experts = read_experts(config, count="num_local_experts", width="intermediate_size")
    kinds = layer_types(config, body.layers, ("full_attention", "sliding_attention")) or tuple(
        "full_attention" if index % 2 else "sliding_attention" for index in range(body.layers)
    )
    sliding = SlidingWindow(
        num_kv_heads=body.kv_heads,
        head_size=body.head_size,
        window=config.integer("sliding_window", maximum=MAX_TOKENS, default=128),
    )
    router, *weights = routed("mlp", body.hidden, experts)
    # The bias of an expert's linear is padded with its outputs, so it is one more column beside what is quantized.
    biases = [
        replace(tensor, name=f"{tensor.name}.bias", columns=1, follows=False, sharding=_BIAS[tensor.sharding])
        for tensor in weights
    ]
    tensors = (
        *attention(body, query_bias=True, output_bias=True),
        Tensor(name="self_attn.sinks", rows=body.heads, sharding=Sharding.COLUMN),
        replace(router, name="mlp.router"),
        Tensor(name="mlp.router.bias", rows=experts.num_experts),
        *weights,
        *biases,
        *norms(body.hidden, 2),
    )
    tensors = tuple(
        replace(tensor, quantized=False) if tensor.name.startswith("self_attn") else tensor
        for tensor in tensors
    )
    caches = [body.full if kind == "full_attention" else sliding for kind in kinds]
    rope = replace(read_rope(body), element_bytes=FLOAT32_BYTES)
    return whole_on_every_stage(
        decoder(body, each(caches, tensors), rope=rope, intermediate=0, experts=experts)
    )


_BIAS: Final = {Sharding.COLUMN: Sharding.COLUMN, Sharding.ROW: Sharding.REPLICATED}
FAMILIES: Final = {
    "MixtralForCausalLM": (mixtral, ("mixtral",)),
    "Qwen2MoeForCausalLM": (qwen_moe, ("qwen2_moe",)),
    "Qwen3MoeForCausalLM": (qwen_moe, ("qwen3_moe",)),
    "MiniMaxM2ForCausalLM": (minimax_m2, ("minimax_m2",)),
    "Glm4MoeForCausalLM": (glm4_moe, ("glm4_moe",)),
    "GptOssForCausalLM": (gpt_oss, ("gpt_oss",)),
}
