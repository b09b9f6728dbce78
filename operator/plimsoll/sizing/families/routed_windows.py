"""Decoders whose layers differ twice, in what they attend to and in whether they are routed.

AFMoE (Trinity), Hunyuan 3, EXAONE MoE (K-EXAONE), Cohere 2 MoE (North, Command A+), Param 2 MoE.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixed_layers import (
    FULL,
    KINDS,
    SLIDING,
    behind_dense,
    mixed,
    mlp_kinds,
    read_checked,
    shared_mlp,
    window_caches,
    window_kinds,
    with_predicted,
)
from plimsoll.sizing.families.mixture import correction_bias
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    bias_of,
    decoder,
    layer_types,
    linear,
    norms,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.families.plain import window_everywhere
from plimsoll.sizing.layers import SlidingWindow
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import Layer, MixtureOfExperts, ModelShape
    from plimsoll.sizing.tensors import Tensor

# What the Transformers class of each takes where config.json leaves a field out.
_AFMOE: Final = {
    "head_dim": 128,
    "sliding_window": 1024,
    "num_dense_layers": 1,
    "num_shared_experts": 2,
    "global_attn_every_n_layers": 4,
}
_HUNYUAN: Final = {"head_dim": 128, "num_key_value_heads": 8, "num_shared_experts": 1}
_EXAONE: Final = {
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "first_k_dense_replace": 1,
    "num_shared_experts": 1,
}
_COHERE: Final = {
    "head_dim": 128,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "prefix_dense_sliding_window_pattern": 1,
    "first_k_dense_replace": 0,
    "num_shared_experts": 0,
}
_PARAM: Final = (  # and what Param 2 must say, for its class is in code of the model's own
    "head_dim",
    "num_key_value_heads",
    "use_qk_norm",
    "first_k_dense_replace",
    "num_shared_experts",
    "tie_word_embeddings",
    "moe_router_enable_expert_bias",
)


def afmoe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/afmoe.py."""
    body = read_checked(
        config,
        architecture,
        model_type,
        defaults=_AFMOE,
        refused=("attention_bias", "tie_word_embeddings"),
        needed=("route_norm", "score_func", "n_group", "topk_group"),
    )
    kinds = window_kinds(body, "global_attn_every_n_layers")
    experts = _experts(body.config, width="moe_intermediate_size")
    common = (
        *attention(body),
        linear("self_attn.gate_proj", body.heads * body.head_size, body.hidden, Sharding.COLUMN),
        *norms(body.head_size, 2, "self_attn.head_norm"),
        *norms(body.hidden, 4),
    )
    sparse = (*_float32_routed(body, experts), *shared_mlp(body, "mlp.shared_experts", experts))
    first = body.config.integer("num_dense_layers", minimum=0, maximum=MAX_LAYERS)
    rope = read_rope(body)
    shape = decoder(
        body,
        mixed(
            common, window_caches(body, kinds), behind_dense(body, first), dense=_dense(body), sparse=sparse
        ),
        rope=rope if SLIDING in kinds else None,  # full layers do not turn
        intermediate=_intermediate(body),
        experts=experts,
    )
    return replace(shape, max_model_len=rope.max_model_len)


def hy_v3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/hy_v3.py; its attention kernels of its own are not the default."""
    body = read_checked(
        config,
        architecture,
        model_type,
        defaults=_HUNYUAN,
        refused=("attention_bias", "mlp_bias"),
        needed=("route_norm", "first_k_dense_replace"),
    )
    if SLIDING in layer_types(body.config, body.layers, KINDS):
        raise config.refuse("layer_types", f"vLLM's {architecture} has one kind of layer", WAY_OUT)
    experts = _experts(body.config, width="expert_hidden_dim")
    common = (
        *attention(body),
        *_head_norms(body, "qk_norm"),
        *norms(body.hidden, 2),
    )
    sparse = (*_float32_routed(body, experts), *shared_mlp(body, "mlp.shared_mlp", experts))
    is_sparse = _last_dense(body, "first_k_dense_replace")
    cache = body.full if config.texts("layer_types") else window_everywhere(body)
    layers = mixed(common, (cache,) * body.layers, is_sparse, dense=_dense(body), sparse=sparse)
    shape = _framed(body, layers, experts)
    return with_predicted(whole_on_every_stage(shape), config)


def exaone_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/exaone_moe.py."""
    body = read_checked(
        config,
        architecture,
        model_type,
        defaults=_EXAONE,
    )
    own = body.config
    experts = _experts(own, width="moe_intermediate_size")
    bias = own.flag("attention_bias", default=False) or own.flag("bias", default=False)
    common = (
        *attention(body, query_bias=bias, output_bias=bias),
        *norms(body.head_size, 2, "self_attn.head_norm"),
        *norms(body.hidden, 2),
    )
    dense = _dense(body)
    if own.flag("mlp_bias", default=False):
        dense = (*dense, *map(bias_of, dense))
    sparse = (
        *routed("mlp", body.hidden, experts),
        correction_bias("mlp", experts),
        *shared_mlp(body, "mlp.shared_experts", experts),
    )
    kinds = window_kinds(body, "sliding_window_pattern")
    layers = mixed(common, _own_windows(body, kinds), mlp_kinds(body), dense=dense, sparse=sparse)
    shape = _framed(body, layers, experts)
    return with_predicted(shape, config)


def cohere2_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/cohere2_moe.py; the output layer is the embedding, whatever the config says."""
    body = read_checked(
        config,
        architecture,
        model_type,
        defaults=_COHERE,
        refused=("attention_bias", "use_qk_norm"),
    )
    own = body.config
    body = replace(
        body, positions=own.integer("model_max_length", maximum=MAX_TOKENS, default=body.positions)
    )
    experts = _experts(own, width="intermediate_size")
    width = own.integer(
        "prefix_dense_intermediate_size", maximum=MAX_WIDTH, default=experts.intermediate_size
    )
    sparse = (*routed("mlp", body.hidden, experts), *shared_mlp(body, "mlp.shared_experts", experts))
    is_sparse = mlp_kinds(body)
    layers = mixed(
        (*attention(body), *norms(body.hidden, 1)),
        window_caches(body, _prefixed_kinds(body), plus=1),
        is_sparse,
        dense=gated_mlp("mlp", body.hidden, width),
        sparse=sparse,
    )
    dense = 0 if all(is_sparse) else width
    shape = decoder(body, layers, rope=read_rope(body), intermediate=dense, experts=experts)
    return whole_on_every_stage(replace(shape, tied_embeddings=True))


def param2_moe(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/param2moe.py."""
    body = read_checked(
        config,
        architecture,
        model_type,
        refused=("rope_scaling", "rope_parameters"),  # it turns parts of heads in a way that nobody checked
        needed=_PARAM,
    )
    if config.number("partial_rotary_factor", default=1.0, minimum=0.0, maximum=1.0) != 1.0:
        raise config.refuse("partial_rotary_factor", "heads that turn in part cannot be sized here", WAY_OUT)
    experts = _experts(config, width="moe_intermediate_size")
    whole = config.optional_integer("moe_shared_expert_intermediate_size", maximum=MAX_WIDTH)
    if whole is not None and experts.shared_intermediate_size:  # of all shared experts together
        experts = replace(experts, shared_intermediate_size=whole)
    common = (
        *attention(
            body,
            query_bias=config.flag("use_qkv_bias", default=False),
            output_bias=config.flag("use_bias", default=False),
        ),
        *_head_norms(body, "use_qk_norm"),
        *norms(body.hidden, 2),
    )
    router, *weights = _float32_routed(body, experts)
    if not config.flag("moe_router_enable_expert_bias", default=True):
        weights.pop()
    sparse = (router, *weights, *shared_mlp(body, "mlp.shared_experts", experts))
    is_sparse = _last_dense(body, "first_k_dense_replace")
    caches = (window_everywhere(body),) * body.layers
    layers = mixed(common, caches, is_sparse, dense=_dense(body), sparse=sparse)
    shape = _framed(body, layers, experts)
    # The class copies no KV heads, so the ranks must divide both numbers.
    return replace(with_predicted(shape, config), num_attention_heads=math.gcd(body.heads, body.kv_heads))


def _experts(config: Config, *, width: str) -> MixtureOfExperts:
    """The experts, and as wide as each of them those that every token passes."""
    experts = read_experts(config, count="num_experts", width=width)
    number = config.integer("num_shared_experts", minimum=0, maximum=MAX_EXPERTS)
    return replace(experts, shared_intermediate_size=number * experts.intermediate_size)


def _float32_routed(body: Body, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    return (
        *routed("mlp", body.hidden, experts, router_bytes=FLOAT32_BYTES),
        correction_bias("mlp", experts),
    )


def _framed(body: Body, layers: Sequence[Layer], experts: MixtureOfExperts) -> ModelShape:
    """The frame of a class with one rotary table."""
    return decoder(body, layers, rope=read_rope(body), intermediate=_intermediate(body), experts=experts)


def _last_dense(body: Body, field: str) -> tuple[bool, ...]:
    """Which layers are routed, with one at least."""
    first = body.config.integer(field, minimum=0, maximum=MAX_LAYERS)
    if first >= body.layers:
        raise body.config.refuse(field, "vLLM wants a routed layer", WAY_OUT)
    return behind_dense(body, first)


def _head_norms(body: Body, field: str) -> tuple[Tensor, ...]:
    return norms(body.head_size, 2, "self_attn.head_norm") if body.config.flag(field, default=False) else ()


def _intermediate(body: Body) -> int:
    return body.config.integer("intermediate_size", maximum=MAX_WIDTH)


def _dense(body: Body) -> tuple[Tensor, ...]:
    return gated_mlp("mlp", body.hidden, _intermediate(body))


def _prefixed_kinds(body: Body) -> tuple[str, ...]:
    """Cohere 2 MoE: the dense layers at the front have a pattern of their own, and the others start a new one."""
    listed = layer_types(body.config, body.layers, KINDS)
    if listed:
        return listed
    first = body.config.integer("first_k_dense_replace", minimum=0, maximum=body.layers)
    front = body.config.integer("prefix_dense_sliding_window_pattern", maximum=MAX_LAYERS)
    rest = body.config.integer("sliding_window_pattern", maximum=MAX_LAYERS)
    steps = [
        *((index, front) for index in range(first)),
        *((index, rest) for index in range(body.layers - first)),
    ]
    return tuple(SLIDING if (index + 1) % every else FULL for index, every in steps)


def _own_windows(body: Body, kinds: Sequence[str]) -> tuple[CacheKind, ...]:
    """EXAONE MoE: sliding_windows has a length for each layer, those of full layers unread."""
    lengths = body.config.values.get("sliding_windows")
    if lengths is None:
        return window_caches(body, kinds)
    if not isinstance(lengths, (list, tuple)) or len(lengths) != body.layers:
        raise body.config.refuse("sliding_windows", f"it must have a length for each of {body.layers} layers")
    caches: list[CacheKind] = []
    for index, kind in enumerate(kinds):
        if kind == FULL:
            caches.append(body.full)
            continue
        window = Config({"sliding_windows": lengths[index]}, body.config.path).integer(
            "sliding_windows", maximum=MAX_TOKENS
        )
        caches.append(SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=window))
    return tuple(caches)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "AfmoeForCausalLM": (afmoe, ("afmoe",)),
    "HYV3ForCausalLM": (hy_v3, ("hy_v3",)),
    "ExaoneMoEForCausalLM": (exaone_moe, ("exaone_moe",)),
    "ExaoneMoeForCausalLM": (exaone_moe, ("exaone_moe",)),
    "Cohere2MoeForCausalLM": (cohere2_moe, ("cohere2_moe",)),
    "Param2MoEForCausalLM": (param2_moe, ("param2moe",)),
}
