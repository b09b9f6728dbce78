"""DeepSeek V2 to V3.2, Kimi K2 and GLM 5: multi-head latent attention and routed experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.layers import MultiHeadLatent, SparseIndexer
from plimsoll.sizing.model import AttentionKernels, Layer, MixtureOfExperts, ModelShape
from plimsoll.sizing.outside import decoder_dtype, embedding, gated_mlp, needs_expert_support
from plimsoll.sizing.rope import rope_from_config
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.errors import UnsupportedModelError

_WAY_OUT: Final = "use DeepSeek V2, V3 or R1 as published, or a model of another architecture"
_FLOAT32_BYTES: Final = 4
_SPARSE_TYPES: Final = ("deepseek_v32", "glm_moe_dsa")
_OWN, _SHARED = "F", "S"  # of index_topk_pattern: full and shared
_OFFSET: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Indexer:
    """What an indexer of sparse attention adds to a layer.

    Attributes:
        layers: those that have one of their own.
        rope_of_layer: it turns the same pairs as the layer's queries, so both read one rotary table.
    """

    cache: SparseIndexer
    tensors: tuple[Tensor, ...]
    layers: frozenset[int]
    rope_of_layer: bool


def deepseek_shape(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers and tensors of a DeepSeek V2 or V3 model (vLLM 0.33.0, model_executor/models/deepseek_v2.py)."""
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    vocab = config.integer("vocab_size", maximum=MAX_WIDTH)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    quantization = quantization_from_config(config)
    experts = _experts(config)
    needs_expert_support(
        config, quantization.weights if quantization and experts else None, model_type=model_type
    )
    indexer = _indexer(config, hidden, model_type)
    cache = latent_cache(config, packed_fp8=indexer is not None)
    longest = config.integer("max_position_embeddings", maximum=MAX_TOKENS)
    rope = rope_from_config(config, rotary_dim=cache.qk_rope_head_dim, max_position_embeddings=longest)
    attention = latent_attention(config, hidden, heads, cache)
    dense = gated_mlp("mlp", hidden, intermediate)
    routed = dense if experts is None else _routed(config, hidden, experts)
    up_rows = next(tensor.rows for tensor in attention if tensor.name == "self_attn.kv_b_proj")
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        dtype=decoder_dtype(config),
        quantization=quantization,
        hidden_size=hidden,
        intermediate_size=intermediate,
        vocab_size=vocab,
        num_attention_heads=heads,
        layers=_stack(config, cache, attention, dense=dense, routed=routed, indexer=indexer),
        kernels=AttentionKernels(sparse=indexer is not None),
        first_stage=(embedding("embed_tokens", vocab, hidden),),
        last_stage=(Tensor(name="norm", rows=hidden),),
        every_stage=(),
        tied_embeddings=False,  # the class builds an output layer whatever the config says
        rope=rope,
        other_ropes=() if indexer is None or indexer.rope_of_layer else (rope,),
        max_model_len=rope.max_model_len,
        experts=experts,
        latent_up_projection=(up_rows, cache.kv_lora_rank),
        unloaded=_unloaded(config),
    )


def latent_cache(config: Config, *, packed_fp8: bool) -> MultiHeadLatent:
    """The cache of a layer of multi-head latent attention."""
    return MultiHeadLatent(
        kv_lora_rank=config.integer("kv_lora_rank", maximum=MAX_WIDTH),
        qk_rope_head_dim=config.integer("qk_rope_head_dim", maximum=MAX_WIDTH),
        packed_fp8=packed_fp8,
    )


def _stack(
    config: Config,
    cache: MultiHeadLatent,
    attention: tuple[Tensor, ...],
    *,
    dense: tuple[Tensor, ...],
    routed: tuple[Tensor, ...],
    indexer: _Indexer | None,
) -> tuple[Layer, ...]:
    """The layers in order: the first ones with a dense MLP, then every n-th with routed experts."""
    layers = config.integer("num_hidden_layers", maximum=MAX_LAYERS)
    first_routed = config.integer("first_k_dense_replace", minimum=0, maximum=MAX_LAYERS, default=0)
    every = config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    stack = []
    for index in range(layers):
        own = indexer if indexer is not None and index in indexer.layers else None
        mlp = routed if index >= first_routed and index % every == 0 else dense
        stack.append(
            Layer(
                cache=cache,
                extra_caches=() if own is None else (own.cache,),
                tensors=(*attention, *(() if own is None else own.tensors), *mlp),
            )
        )
    return tuple(stack)


def _indexer(config: Config, hidden: int, model_type: str) -> _Indexer | None:
    """The indexer of sparse attention, if the model has one; DeepSeek V2 and V3 do not."""
    if model_type not in _SPARSE_TYPES:
        if config.values.get("index_topk") is not None:
            raise config.refuse("index_topk", f"sparse attention is not a part of {model_type}", _WAY_OUT)
        return None
    config.integer("index_topk", maximum=MAX_TOKENS)
    cache = _cache(config)
    return _Indexer(
        cache=cache,
        tensors=_projections(config, hidden, cache.head_size),
        layers=_indexed_layers(config),
        rope_of_layer=config.flag("indexer_rope_interleave", default=False),
    )


def with_indexer(config: Config, layer: Layer, model_type: str) -> Layer:
    """The layer with an indexer of its own, which the draft layers of sparse attention have whatever the pattern."""
    if model_type not in _SPARSE_TYPES or layer.extra_caches:
        return layer
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    cache = _cache(config)
    tensors = (*layer.tensors, *_projections(config, hidden, cache.head_size))
    return replace(layer, extra_caches=(cache,), tensors=tensors)


def _cache(config: Config) -> SparseIndexer:
    return SparseIndexer(head_size=config.integer("index_head_dim", maximum=MAX_WIDTH))


def _indexed_layers(config: Config) -> frozenset[int]:
    """The layers that choose tokens themselves; the others take what the last one of these chose.

    Source: vLLM 0.33.0, models/deepseek_v32/attention.py. It reads neither indexer_types nor use_index_cache.
    """
    layers = range(config.integer("num_hidden_layers", maximum=MAX_LAYERS))
    pattern = config.values.get("index_topk_pattern")
    if pattern is not None:
        letters = pattern if isinstance(pattern, Sequence) else (None,)
        if not all(letter in (_OWN, _SHARED) for letter in letters):
            raise config.refuse(
                "index_topk_pattern",
                "it must be a string, or a list, of the letters F (the layer has an indexer) and S (it shares one)",
                "correct it, or leave it out for an indexer in every layer",
            )
        return frozenset(layers) - {index for index, letter in enumerate(letters) if letter == _SHARED}
    every = _whole(config, "index_topk_freq", minimum=1, default=1)
    offset = _whole(config, "index_skip_topk_offset", minimum=-MAX_TOKENS, default=_OFFSET)
    return frozenset(index for index in layers if max(index - offset + 1, 0) % every == 0)


def _whole(config: Config, field: str, *, minimum: int, default: int) -> int:
    """A whole number where vLLM takes null for one too, and ends."""
    if field in config.values and config.values[field] is None:
        raise config.refuse(field, "vLLM does not take null for absent here", "set a number, or leave it out")
    return config.integer(field, minimum=minimum, maximum=MAX_TOKENS, default=default)


def _projections(config: Config, hidden: int, size: int) -> tuple[Tensor, ...]:
    """Replicated projections of the index keys and their weights, and a norm in float32."""
    heads = config.integer("index_n_heads", maximum=MAX_HEADS)
    queries = config.integer("q_lora_rank", maximum=MAX_WIDTH)
    name = "self_attn.indexer"
    return (
        _linear(f"{name}.wq_b", heads * size, queries, Sharding.REPLICATED),
        Tensor(name=f"{name}.wk_weights_proj", rows=size + heads, columns=hidden),
        Tensor(name=f"{name}.k_norm", rows=2 * size, element_bytes=_FLOAT32_BYTES),
    )


def _unloaded(config: Config) -> str | None:
    extra = config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0)
    return "the multi-token prediction layer, which serves speculative decoding only" if extra else None


def _experts(config: Config) -> MixtureOfExperts | None:
    count = config.optional_integer("n_routed_experts", maximum=MAX_EXPERTS)
    if count is None:
        return None
    for field in ("n_group", "topk_group"):
        if config.values.get(field) is None:
            raise _missing(config, field)
        config.integer(field, maximum=MAX_EXPERTS)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    shared = config.integer("n_shared_experts", minimum=0, maximum=MAX_EXPERTS, default=0)
    return MixtureOfExperts(
        num_experts=count,
        num_experts_per_token=config.integer("num_experts_per_tok", maximum=count),
        intermediate_size=width,
        shared_intermediate_size=shared * width,
    )


def _missing(config: Config, field: str) -> UnsupportedModelError:
    return config.refuse(field, "vLLM refuses a model with grouped experts that does not say it", _WAY_OUT)


def latent_attention(config: Config, hidden: int, heads: int, cache: MultiHeadLatent) -> tuple[Tensor, ...]:
    """The projections of multi-head latent attention, and the norms of its layer."""
    nope = config.integer("qk_nope_head_dim", maximum=MAX_WIDTH)
    value = config.integer("v_head_dim", maximum=MAX_WIDTH)
    latent, rope = cache.kv_lora_rank, cache.qk_rope_head_dim
    query_rank = config.optional_integer("q_lora_rank", maximum=MAX_WIDTH)
    if config.flag("attention_bias", default=False):
        raise config.refuse("attention_bias", "such a variant is not one that can be sized", _WAY_OUT)
    query_rows = heads * (nope + rope)
    if query_rank is None:
        query = (
            _linear("self_attn.q_proj", query_rows, hidden, Sharding.COLUMN),
            _linear("self_attn.kv_a_proj_with_mqa", latent + rope, hidden, Sharding.REPLICATED),
        )
    else:  # q_a and kv_a are one replicated layer in the engine
        query = (
            _linear("self_attn.fused_qkv_a_proj", query_rank + latent + rope, hidden, Sharding.REPLICATED),
            _linear("self_attn.q_b_proj", query_rows, query_rank, Sharding.COLUMN),
        )
    norms = (latent,) if query_rank is None else (latent, query_rank)
    return (
        *query,
        _linear("self_attn.kv_b_proj", heads * (nope + value), latent, Sharding.COLUMN),
        _linear("self_attn.o_proj", hidden, heads * value, Sharding.ROW),
        *(Tensor(name=f"self_attn.a_layernorm_{width}", rows=width) for width in norms),
        Tensor(name="input_layernorm", rows=hidden),
        Tensor(name="post_attention_layernorm", rows=hidden),
    )


def _linear(name: str, rows: int, columns: int, sharding: Sharding) -> Tensor:
    return Tensor(name=name, rows=rows, columns=columns, sharding=sharding, quantized=True)


def _routed(config: Config, hidden: int, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    tensors = (
        Tensor(name="mlp.gate", rows=experts.num_experts, columns=hidden),
        *gated_mlp("mlp.experts", hidden, experts.intermediate_size, copies=experts.num_experts),
    )
    if experts.shared_intermediate_size:
        tensors = (*tensors, *gated_mlp("mlp.shared_experts", hidden, experts.shared_intermediate_size))
    if config.text("topk_method", default="greedy") == "noaux_tc":
        bias = Tensor(
            name="mlp.gate.e_score_correction_bias", rows=experts.num_experts, element_bytes=_FLOAT32_BYTES
        )
        tensors = (*tensors, bias)
    return tensors


def glm4_moe_lite(config: Config, architecture: str, model_type: str) -> ModelShape:
    """GLM 4.7 Flash: the same attention with GLM's router, in float32 with its correction (glm4_moe_lite.py)."""
    shape = deepseek_shape(
        replace(config, values={**config.values, "topk_method": "noaux_tc"}), architecture, model_type
    )
    layers = tuple(
        replace(
            layer,
            tensors=tuple(
                replace(tensor, element_bytes=_FLOAT32_BYTES) if tensor.name == "mlp.gate" else tensor
                for tensor in layer.tensors
            ),
        )
        for layer in shape.layers
    )
    return replace(shape, layers=layers)


FAMILIES: Final = {
    "DeepseekV2ForCausalLM": (deepseek_shape, ("deepseek_v2",)),
    "DeepseekV3ForCausalLM": (deepseek_shape, ("deepseek_v3", "kimi_k2")),
    "DeepseekV32ForCausalLM": (deepseek_shape, ("deepseek_v32",)),
    "Glm4MoeLiteForCausalLM": (glm4_moe_lite, ("glm4_moe_lite",)),
    "GlmMoeDsaForCausalLM": (deepseek_shape, ("glm_moe_dsa",)),
}
