"""MiMo V2 (Flash, Pro): full and sliding layers with heads of their own, values narrower than keys, routed experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.mixture import correction_bias
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    bias_of,
    decoder,
    linear,
    norms,
    read_body,
    read_experts,
    routed,
)
from plimsoll.sizing.families.plain import MTP
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import DTYPE_BYTES, gated_mlp
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.units import round_up

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

# Source of the whole file: vLLM 0.33.0, model_executor/models/mimo_v2.py.
_FUSED: Final = "MiMoV2ForCausalLM"  # its files hold query, key and value as one
_CHUNK_BLOCK: Final = 128  # what the rows of a chunk are filled up to
_THETA: Final = 1e6
_DRAFT: Final = "nobody held the draft layers of this class against the engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class InChunks(Tensor):
    """Keys and values that a rank with several chunks of the files keeps chunk by chunk, filled up to whole blocks.

    Attributes:
        chunks: of the files.
        chunk_rows: of one chunk on such a rank; 0 for the values, which stand with the keys.
    """

    chunks: int
    chunk_rows: int

    def rank_shape(self, tensor_parallel_size: int) -> tuple[int, int]:
        """Rows and columns on one rank."""
        if tensor_parallel_size < self.chunks and self.chunks % tensor_parallel_size == 0:
            return self.chunks // tensor_parallel_size * self.chunk_rows, self.columns
        return Tensor.rank_shape(self, tensor_parallel_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """One kind of attention."""

    heads: int
    kv_heads: int
    size: int
    value_size: int
    sinks: bool
    theta: float


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers as hybrid_layer_pattern and moe_layer_freq tell them apart."""
    _check(config)
    body = read_body(config, architecture, model_type)
    slides = tuple(value == 1 for value in _marks(config, "hybrid_layer_pattern", body.layers))
    is_sparse = (False,) * body.layers
    if not isinstance(config.values.get("moe_layer_freq", 0), int):  # one number means none
        is_sparse = tuple(value == 1 for value in _marks(config, "moe_layer_freq", body.layers))
    full, sliding = _heads(config, "", body.heads), None
    ropes = [_rope(body, full)]
    if any(slides):
        sliding = _heads(config, "swa_", config.integer("swa_num_attention_heads", maximum=MAX_HEADS))
        if not sliding.sinks and sliding.heads != body.heads:
            raise config.refuse("swa_num_attention_heads", "without sinks it must be as num_attention_heads")
        if all(slides):
            ropes = []
        if all(slides) or (sliding.theta, sliding.size) != (full.theta, full.size):
            ropes.append(_rope(body, sliding))
    experts = _experts(config) if any(is_sparse) else None
    made = {
        (slide, sparse): _layer(
            body, sliding if slide and sliding else full, experts if sparse else None, slide=slide
        )
        for slide, sparse in dict.fromkeys(zip(slides, is_sparse, strict=True))
    }
    shape = decoder(
        body,
        [made[kind] for kind in zip(slides, is_sparse, strict=True)],
        rope=ropes[0],
        intermediate=0 if all(is_sparse) else config.integer("intermediate_size", maximum=MAX_WIDTH),
        experts=experts,
    )
    return replace(shape, other_ropes=tuple(ropes[1:]), unloaded=MTP, uncounted_draft=_DRAFT)


def _check(config: Config) -> None:
    """What the class does not build, or nobody checked."""
    if config.text("hidden_act", default="silu") != "silu":
        raise config.refuse("hidden_act", "vLLM's class has silu only", WAY_OUT)
    for field in ("rope_scaling", "rope_parameters"):
        section = config.section(field)
        if section is None:
            continue
        for name in ("rope_type", "type"):
            if section.text(name, default="default") != "default":
                raise section.refuse(name, "vLLM's class does not scale its rotary embedding", WAY_OUT)
        for name in ("partial_rotary_factor", "rope_theta"):
            if section.values.get(name) is not None and config.values.get(name) is None:
                raise section.refuse(name, f"vLLM's class reads {name} beside it only", WAY_OUT)
    if config.flag("tie_word_embeddings", default=False):
        raise config.refuse("tie_word_embeddings", "vLLM's class has an output layer of its own", WAY_OUT)
    section = config.section("quantization_config")
    if section is not None and section.values.get("store_dtype") is not None:
        raise section.refuse("store_dtype", "experts stored so are not ones that can be sized", WAY_OUT)


def _marks(config: Config, field: str, layers: int) -> tuple[int, ...]:
    """A list of 0 and 1, one for each layer; further ones are of the draft."""
    values = config.values.get(field)
    if not isinstance(values, (list, tuple)) or not layers <= len(values) <= MAX_LAYERS:
        raise config.refuse(field, f"it must be a list with one entry for each of {layers} layers")
    if not all(isinstance(value, int) and value in (0, 1) for value in values):
        raise config.refuse(field, "it must be a list of 0 and 1")
    return tuple(int(value) for value in values[:layers])


def _heads(config: Config, prefix: str, heads: int) -> _Heads:
    kv_heads = config.integer(f"{prefix}num_key_value_heads", maximum=MAX_HEADS)
    if heads % kv_heads:
        raise config.refuse(f"{prefix}num_key_value_heads", f"it must divide the {heads} attention heads")
    size = config.integer(f"{prefix}head_dim", maximum=MAX_WIDTH)
    value_size = config.integer(f"{prefix}v_head_dim", maximum=MAX_WIDTH)
    if (size + value_size) % 2:
        raise config.refuse(f"{prefix}v_head_dim", f"it must be even with {prefix}head_dim", WAY_OUT)
    most = float(MAX_TOKENS)
    theta = config.number("rope_theta", default=_THETA, minimum=1.0, maximum=most)
    if prefix:
        theta = config.number("swa_rope_theta", default=theta, minimum=1.0, maximum=most)
    return _Heads(
        heads=heads,
        kv_heads=kv_heads,
        size=size,
        value_size=value_size,
        sinks=bool(prefix) and config.flag("add_swa_attention_sink_bias", default=False),
        theta=theta,
    )


def _rope(body: Body, heads: _Heads) -> Rope:
    """A table for each base; the class takes no scaled one."""
    factor = body.config.number("partial_rotary_factor", default=1.0, minimum=1 / MAX_WIDTH, maximum=1.0)
    return Rope(positions=body.positions, rotary_dim=int(heads.size * factor), max_model_len=body.positions)


def _experts(config: Config) -> MixtureOfExperts:
    return read_experts(config, count="n_routed_experts", width="moe_intermediate_size")


def _layer(body: Body, heads: _Heads, experts: MixtureOfExperts | None, *, slide: bool) -> Layer:
    # K and V of unlike widths stand in one page: as wide as two of their mean.
    mean = (heads.size + heads.value_size) // 2
    cache: FullAttention | SlidingWindow = FullAttention(num_kv_heads=heads.kv_heads, head_size=mean)
    if slide:
        window = body.config.integer("sliding_window_size", maximum=MAX_TOKENS)
        cache = SlidingWindow(num_kv_heads=heads.kv_heads, head_size=mean, window=window)
    if experts is None:
        width = body.config.integer("intermediate_size", maximum=MAX_WIDTH)
        mlp = gated_mlp("mlp", body.hidden, width)
    else:
        dtype = body.config.text("moe_router_dtype", default="float32")
        if dtype not in DTYPE_BYTES:
            raise body.config.refuse("moe_router_dtype", "this dtype is not one that can be sized", WAY_OUT)
        mlp = (
            *routed("mlp", body.hidden, experts, router_bytes=DTYPE_BYTES[dtype]),
            correction_bias("mlp", experts),
        )
    return Layer(cache=cache, tensors=(*_attention(body, heads), *mlp, *norms(body.hidden, 2)))


def _attention(body: Body, heads: _Heads) -> tuple[Tensor, ...]:
    fused = body.architecture == _FUSED
    names = ("qkv_proj",) * 3 if fused else ("q_proj", "k_proj", "v_proj")
    query = linear(f"self_attn.{names[0]}", heads.heads * heads.size, body.hidden, Sharding.COLUMN)
    key = Tensor(
        name=f"self_attn.{names[1]}",
        rows=heads.kv_heads * heads.size,
        columns=body.hidden,
        sharding=Sharding.KV_COLUMN,
        kv_heads=heads.kv_heads,
        quantized=True,
        follows=True,
    )
    value = replace(key, name=f"self_attn.{names[2]}", rows=heads.kv_heads * heads.value_size)
    rows = _chunk_rows(body, heads)
    if rows:
        key, value = _in_chunks(key, body.kv_heads, rows), _in_chunks(value, body.kv_heads, 0)
    made = [query, key, value]
    if body.config.flag("attention_bias", default=False):
        made += map(bias_of, (query, key, value))
    if heads.sinks:
        made.append(Tensor(name="self_attn.attention_sink_bias", rows=heads.heads, sharding=Sharding.COLUMN))
    output = linear("self_attn.o_proj", body.hidden, heads.heads * heads.value_size, Sharding.ROW)
    return (*made, output)


def _in_chunks(tensor: Tensor, chunks: int, rows: int) -> InChunks:
    return InChunks(
        name=tensor.name,
        rows=tensor.rows,
        columns=tensor.columns,
        sharding=tensor.sharding,
        kv_heads=tensor.kv_heads,
        quantized=True,
        follows=True,
        chunks=chunks,
        chunk_rows=rows,
    )


def _chunk_rows(body: Body, heads: _Heads) -> int:
    """Rows of keys and values of a chunk, filled up; 0 where each of them is whole blocks of scales anyway.

    The files of fp8 blocks hold one chunk of query, key and value for each KV head of a full layer.
    """
    config, chunks = body.config, body.kv_heads
    if config.text("attention_projection_layout", default="") != "fused_qkv" or not _in_blocks(config):
        return 0
    if heads.heads % chunks or heads.kv_heads % chunks:
        return 0
    each = heads.kv_heads // chunks
    query, key, value = heads.heads // chunks * heads.size, each * heads.size, each * heads.value_size
    if query % _CHUNK_BLOCK or (key % _CHUNK_BLOCK == 0 and value % _CHUNK_BLOCK == 0):
        return 0
    return round_up(key + value, _CHUNK_BLOCK)


def _in_blocks(config: Config) -> bool:
    quantization = quantization_from_config(config)
    return quantization is not None and (quantization.method, quantization.weights) == (
        "fp8",
        WeightFormat.FP8_BLOCK,
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "MiMoV2FlashForCausalLM": (build, ("mimo_v2_flash",)),
    "MiMoV2ForCausalLM": (build, ("mimo_v2",)),
}
