"""DeepSeek V4: windows of latents beside compressed ones, hyper-connections, and experts in MXFP4.

Source: vLLM 0.33.0, models/deepseek_v4 (attention.py, compressor.py, nvidia/model.py, quant_config.py), and what its
classes build without a GPU, parameter by parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.layers import PackedCache
from plimsoll.sizing.model import AttentionKernels, Layer, MixtureOfExperts, ModelShape
from plimsoll.sizing.outside import decoder_dtype, embedding, gated_mlp
from plimsoll.sizing.quantization import Quantization, WeightFormat
from plimsoll.sizing.rope import rope_from_config
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.units import round_up

if TYPE_CHECKING:
    from plimsoll.sizing.layers import CacheKind

_WAY_OUT: Final = "use DeepSeek V4 as published"
_FLOAT32_BYTES: Final = 4
_BLOCK: Final = 256  # tokens of a block of compressed latents
_WINDOW_BLOCK: Final = 64
_STATE_BLOCKS: Final = {4: 4, 128: 8}  # tokens of a page of a compressor's states, by its ratio
_OVERLAP: Final = 4  # the ratio whose windows overlap: it keeps twice the states
_HEADS: Final = (64, 128)  # query heads that the decode kernel takes
_PAGE_MULTIPLE: Final = 576  # of the packed 8 bit layout
_LATENT_BYTES: Final = 584  # 448 without rotation in 8 bits, 64 rotated in 16, 8 of scales
_LATENT_WIDTH: Final = 512  # of which that layout holds one token
_INDEX_SCALE_WIDTH: Final = 128  # index keys that share a float32 scale
_EXPERTS: Final = {"fp4": WeightFormat.MXFP4, "fp8": None}  # None: as the other linear layers
_EXPONENT_BYTES: Final = 1  # scales of linear layers beside MXFP4 experts are exponents alone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """The widths of one layer's attention."""

    hidden: int
    heads: int
    head_size: int
    query_rank: int
    output_groups: int
    output_rank: int
    window: int
    index_heads: int
    index_size: int


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers and tensors of a DeepSeek V4 model."""
    widths = _widths(config)
    vocab = config.integer("vocab_size", maximum=MAX_WIDTH)
    experts = _experts(config)
    ratios = _ratios(config)
    quantization, of_experts = _quantization(config)
    longest = config.integer("max_position_embeddings", maximum=MAX_TOKENS)
    rotary = config.integer("qk_rope_head_dim", maximum=widths.head_size)
    rope = rope_from_config(config, rotary_dim=rotary, max_position_embeddings=longest)
    rope = replace(rope, element_bytes=_FLOAT32_BYTES)
    mixes = config.integer("hc_mult", maximum=MAX_HEADS)
    head = _connection("hc_head", mixes, mixes * widths.hidden, scales=1)
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        dtype=decoder_dtype(config),
        quantization=quantization,
        hidden_size=widths.hidden,
        intermediate_size=0,
        vocab_size=vocab,
        num_attention_heads=widths.heads,
        layers=_layers(config, widths, ratios, _routed(config, widths, vocab, experts, of_experts), mixes),
        kernels=AttentionKernels(fixed_block=_BLOCK),
        first_stage=(embedding("embed_tokens", vocab, widths.hidden),),
        last_stage=(Tensor(name="norm", rows=widths.hidden),),
        every_stage=head,
        tied_embeddings=config.flag("tie_word_embeddings", default=False),
        rope=rope,
        # Layers that compress nothing rotate with another base: a table of their own, where the first ones stand.
        tower_buffer_bytes=rope.table_bytes(_FLOAT32_BYTES) if 0 in ratios else 0,
        max_model_len=rope.max_model_len,
        experts=experts,
        unloaded="the multi-token prediction layers, which serve speculative decoding only",
    )


def _widths(config: Config) -> _Attention:
    head_size = config.integer("head_dim", maximum=MAX_WIDTH)
    if head_size != _LATENT_WIDTH:
        raise config.refuse("head_dim", f"the packed layout of its cache is for {_LATENT_WIDTH}", _WAY_OUT)
    heads = config.integer("num_attention_heads", maximum=_HEADS[-1])
    groups = config.integer("o_groups", maximum=heads)
    if heads % groups:
        raise config.refuse("o_groups", f"it must divide num_attention_heads, {heads}", _WAY_OUT)
    return _Attention(
        hidden=config.integer("hidden_size", maximum=MAX_WIDTH),
        heads=heads,
        head_size=head_size,
        query_rank=config.integer("q_lora_rank", maximum=MAX_WIDTH),
        output_groups=groups,
        output_rank=config.integer("o_lora_rank", maximum=MAX_WIDTH),
        window=config.integer("sliding_window", maximum=MAX_TOKENS),
        index_heads=config.integer("index_n_heads", maximum=MAX_HEADS),
        index_size=config.integer("index_head_dim", maximum=MAX_WIDTH),
    )


def _quantization(config: Config) -> tuple[Quantization, Quantization | None]:
    """Of the linear layers, and of the experts where it is another."""
    found = quantization_from_config(config)
    if found is None or found.weights is not WeightFormat.FP8_BLOCK:
        raise config.refuse("quantization_config", "DeepSeek V4 is served in fp8 with blocks", _WAY_OUT)
    stored = config.text("expert_dtype", default="fp4")
    if stored not in _EXPERTS:
        raise config.refuse("expert_dtype", f"it must be one of {', '.join(_EXPERTS)}", _WAY_OUT)
    found = replace(found, attention_scale_bytes=0)
    weights = _EXPERTS[stored]
    if weights is None:
        return found, None
    return replace(found, scale_bytes=_EXPONENT_BYTES), Quantization(method="mxfp4", weights=weights, bits=4)


def _experts(config: Config) -> MixtureOfExperts:
    count = config.integer("n_routed_experts", maximum=MAX_EXPERTS)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    shared = config.integer("n_shared_experts", minimum=0, maximum=MAX_EXPERTS, default=0)
    return MixtureOfExperts(
        num_experts=count,
        num_experts_per_token=config.integer("num_experts_per_tok", maximum=count),
        intermediate_size=width,
        shared_intermediate_size=shared * width,
    )


def _routed(
    config: Config, widths: _Attention, vocab: int, experts: MixtureOfExperts, own: Quantization | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The feed-forward of a layer that routes by a table of token ids, and of one that routes by scores."""
    routed = gated_mlp("ffn.experts", widths.hidden, experts.intermediate_size, copies=experts.num_experts)
    tensors = (
        Tensor(name="ffn.gate", rows=experts.num_experts, columns=widths.hidden),
        *(replace(tensor, own=own) for tensor in routed),
    )
    if experts.shared_intermediate_size:
        tensors += gated_mlp("ffn.shared_experts", widths.hidden, experts.shared_intermediate_size)
    table = Tensor(
        name="ffn.gate.tid2eid", rows=vocab, columns=experts.num_experts_per_token, element_bytes=4
    )
    bias = Tensor(
        name="ffn.gate.e_score_correction_bias", rows=experts.num_experts, element_bytes=_FLOAT32_BYTES
    )
    scored = config.text("topk_method", default="noaux_tc") == "noaux_tc"
    return (*tensors, table), (*tensors, bias) if scored else tensors


def _ratios(config: Config) -> tuple[int, ...]:
    """How many tokens one latent stands for, by layer; 0 where nothing is compressed."""
    layers = config.integer("num_hidden_layers", maximum=MAX_LAYERS)
    found = config.values.get("compress_ratios")
    if not isinstance(found, list) or len(found) < layers:
        raise config.refuse("compress_ratios", f"it must be a list of at least {layers} ratios", _WAY_OUT)
    if any(isinstance(ratio, bool) or ratio not in (0, 1, *_STATE_BLOCKS) for ratio in found[:layers]):
        raise config.refuse("compress_ratios", "each must be 0, 4 or 128", _WAY_OUT)
    ratios = tuple(0 if ratio == 1 else ratio for ratio in found[:layers])
    compressed = [index for index, ratio in enumerate(ratios) if ratio]
    if any(ratio == 0 for ratio in ratios[compressed[0] if compressed else 0 :]):
        raise config.refuse("compress_ratios", "layers without compression must be the first ones", _WAY_OUT)
    return ratios


def _layers(
    config: Config,
    widths: _Attention,
    ratios: tuple[int, ...],
    routed: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
    mixes: int,
) -> tuple[Layer, ...]:
    by_table = config.integer("num_hash_layers", minimum=0, maximum=MAX_LAYERS)
    around = (
        *_connection("hc_attn", (2 + mixes) * mixes, mixes * widths.hidden, scales=3),
        *_connection("hc_ffn", (2 + mixes) * mixes, mixes * widths.hidden, scales=3),
        Tensor(name="attn_norm", rows=widths.hidden),
        Tensor(name="ffn_norm", rows=widths.hidden),
    )
    of_kind: dict[tuple[int, bool], Layer] = {}  # layers that are alike are one object
    for index, ratio in enumerate(ratios):
        key = ratio, index < by_table
        if key not in of_kind:
            *extra, last = _caches(widths, ratio)
            of_kind[key] = Layer(
                cache=last,
                extra_caches=tuple(extra),
                tensors=(*around, *_attention(widths, ratio), *routed[0 if key[1] else 1]),
                attentions=0,
            )
    return tuple(of_kind[ratio, index < by_table] for index, ratio in enumerate(ratios))


def _connection(name: str, rows: int, columns: int, *, scales: int) -> tuple[Tensor, ...]:
    """The mixing of the residual streams, in float32 on every rank."""
    return (
        Tensor(name=f"{name}_fn", rows=rows, columns=columns, element_bytes=_FLOAT32_BYTES),
        Tensor(name=f"{name}_base", rows=rows, element_bytes=_FLOAT32_BYTES),
        Tensor(name=f"{name}_scale", rows=scales, element_bytes=_FLOAT32_BYTES),
    )


def _attention(widths: _Attention, ratio: int) -> tuple[Tensor, ...]:
    latents = widths.output_groups * widths.output_rank
    values = widths.heads * widths.head_size
    padded = next(heads for heads in _HEADS if widths.heads <= heads)
    tensors: tuple[Tensor, ...] = (
        Tensor(
            name="attn.attn_sink",
            rows=padded,
            sharding=Sharding.COLUMN,
            least_width=_HEADS[0],
            element_bytes=_FLOAT32_BYTES,
        ),
        _linear(
            "attn.fused_wqa_wkv", widths.query_rank + widths.head_size, widths.hidden, Sharding.REPLICATED
        ),
        _linear("attn.wq_b", values, widths.query_rank, Sharding.COLUMN),
        _linear("attn.wo_a", latents, values // widths.output_groups, Sharding.COLUMN),
        _linear("attn.wo_b", widths.hidden, latents, Sharding.ROW),
        Tensor(name="attn.q_norm", rows=widths.query_rank),
        Tensor(name="attn.kv_norm", rows=widths.head_size),
    )
    if ratio == 0:
        return tensors
    tensors += _compressor("attn.compressor", widths.hidden, widths.head_size, ratio)
    if ratio != _OVERLAP:
        return tensors
    return (
        *tensors,
        _linear(
            "attn.indexer.wq_b",
            widths.index_heads * widths.index_size,
            widths.query_rank,
            Sharding.REPLICATED,
        ),
        Tensor(name="attn.indexer.weights_proj", rows=widths.index_heads, columns=widths.hidden),
        *_compressor("attn.indexer.compressor", widths.hidden, widths.index_size, ratio),
    )


def _compressor(name: str, hidden: int, size: int, ratio: int) -> tuple[Tensor, ...]:
    held = (2 if ratio == _OVERLAP else 1) * size
    return (
        Tensor(name=f"{name}.ape", rows=ratio, columns=held, element_bytes=_FLOAT32_BYTES),
        Tensor(name=f"{name}.fused_wkv_wgate", rows=2 * held, columns=hidden),
        Tensor(name=f"{name}.norm", rows=size),
    )


def _caches(widths: _Attention, ratio: int) -> tuple[CacheKind, ...]:
    """Of one layer, in the order in which the engine registers them."""
    window = PackedCache(
        name="latents",
        tokens=_WINDOW_BLOCK,
        page_bytes=_page(_WINDOW_BLOCK * _LATENT_BYTES),
        window=widths.window,
    )
    if ratio == 0:
        return (window,)
    latents = PackedCache(
        name=f"latents of {ratio} tokens each",
        tokens=_BLOCK,
        page_bytes=_page(_BLOCK // ratio * _LATENT_BYTES),
    )
    states = _states(widths.head_size, ratio)
    if ratio != _OVERLAP:
        return window, latents, states
    keys = widths.index_size + widths.index_size // _INDEX_SCALE_WIDTH * _FLOAT32_BYTES
    index = PackedCache(name="index keys", tokens=_BLOCK, page_bytes=_page(_BLOCK // ratio * keys))
    return index, _states(widths.index_size, ratio), window, latents, states


def _states(size: int, ratio: int) -> PackedCache:
    """What a compressor keeps of the tokens that it has not yet compressed: values and scores in float32."""
    overlaps = 2 if ratio == _OVERLAP else 1
    tokens = _STATE_BLOCKS[ratio]
    return PackedCache(
        name="states of a compressor",
        tokens=tokens,
        page_bytes=_page(tokens * 2 * overlaps * size * _FLOAT32_BYTES),
        window=overlaps * ratio,
    )


def _page(size_bytes: int) -> int:
    return round_up(size_bytes, _PAGE_MULTIPLE)


def _linear(name: str, rows: int, columns: int, sharding: Sharding) -> Tensor:
    return Tensor(name=name, rows=rows, columns=columns, sharding=sharding, quantized=True)


FAMILIES: Final = {"DeepseekV4ForCausalLM": (build, ("deepseek_v4",))}
