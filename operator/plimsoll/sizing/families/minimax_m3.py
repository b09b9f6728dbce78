"""MiniMax M3, the text alone: attention over chosen blocks of tokens, and routed experts behind some dense layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixture import MTP
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.families.vision import text_config
from plimsoll.sizing.layers import SparseIndexer
from plimsoll.sizing.model import AttentionKernels, Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_BLOCK: Final = 128  # of the sparse backend, whatever the others take
_INDEX_BYTES: Final = 2
_SPARSE: Final = "sparse_attention_config"
_CHOICES: Final = "sparse_attention_freq"
_TURNED: Final = "partial_rotary_factor"  # the class reads it there, not among the rope parameters
# vLLM's own config class fills these in, with the values of one published model.
_NEEDED: Final = ("head_dim", "num_key_value_heads", _TURNED, "use_routing_bias", _SPARSE)
_QUANTIZED: Final = ("quantization_config", "compression_config")
_NOT_HELD: Final = "nobody held this class of them against the engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class _IndexKeys(SparseIndexer):
    """Index keys in 16 bits, whatever the dtype of the cache."""

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Bytes of one token in this layer, the same on every rank."""
        return self.head_size * _INDEX_BYTES


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, models/minimax_m3/nvidia/model.py and common/indexer.py."""
    config = text_config(config, tied=None)
    _check(config)
    body = read_body(config, architecture, model_type)
    shared = config.integer("n_shared_experts", minimum=0, maximum=MAX_EXPERTS)
    width = config.integer("intermediate_size", maximum=MAX_WIDTH)
    experts = read_experts(
        config, count="num_local_experts", width="intermediate_size", shared=shared * width
    )
    intermediate = config.integer("dense_intermediate_size", maximum=MAX_WIDTH)
    sparse = config.section(_SPARSE)
    indexed = _flags(sparse, _CHOICES, body.layers) if sparse is not None else (False,) * body.layers
    index = _indexer(sparse, body) if sparse is not None and any(indexed) else None
    dense, sparse_mlp = gated_mlp("mlp", body.hidden, intermediate), _routed(config, body.hidden, experts)
    layers = [
        _layer(body, index if has_index else None, sparse_mlp if is_routed else dense)
        for has_index, is_routed in zip(indexed, _flags(config, "moe_layer_freq", body.layers), strict=True)
    ]
    turned = rotary_dim_of(replace(config, values={_TURNED: config.values[_TURNED]}), body.head_size)
    rope = read_rope(body, rotary_dim=turned)
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, experts=experts)
    shape = replace(shape, kernels=AttentionKernels(fixed_block=_BLOCK if index else 0))
    if config.integer("num_mtp_modules", minimum=0, maximum=MAX_LAYERS, default=1):
        shape = replace(shape, unloaded=MTP, uncounted_draft=_NOT_HELD)
    return shape


def _check(config: Config) -> None:
    """Refuse what vLLM's class does not build, or ends on."""
    if config.text("hidden_act") != "swigluoai":
        raise config.refuse("hidden_act", "vLLM's class takes swigluoai only", WAY_OUT)
    if config.flag("tie_word_embeddings", default=False):
        raise config.refuse("tie_word_embeddings", "vLLM's class has an output layer of its own", WAY_OUT)
    for field in ("rope_scaling", "rope_parameters"):
        section = config.section(field)
        kind = section and section.text("rope_type", default=section.text("type", default="default"))
        if kind not in (None, "default"):
            raise config.refuse(field, "vLLM's class takes no scaling from the config", WAY_OUT)
    for field in _NEEDED:
        if config.values.get(field) is None:
            raise config.refuse(field, "the config must say it", WAY_OUT)
    for field in _QUANTIZED:
        if config.values.get(field) is not None:
            raise config.refuse(field, "quantized builds of it are not ones that can be sized", WAY_OUT)


def _flags(config: Config, field: str, layers: int) -> tuple[bool, ...]:
    """One number for each layer, of which zero says no."""
    values = config.values.get(field)
    if (
        not isinstance(values, (list, tuple))
        or len(values) != layers
        or any(isinstance(value, bool) or value not in (0, 1) for value in values)
    ):
        raise config.refuse(field, f"it must be a list of 0 and 1 for each of {layers} layers", WAY_OUT)
    return tuple(value == 1 for value in values)


def _indexer(sparse: Config, body: Body) -> tuple[_IndexKeys, tuple[Tensor, ...]]:
    """The cache of index keys, and what projects and norms them; queries lie as the keys of the attention do."""
    size = sparse.integer("sparse_index_dim", maximum=MAX_WIDTH)
    heads = sparse.integer("sparse_num_index_heads", maximum=MAX_WIDTH)
    if heads != body.kv_heads:
        raise sparse.refuse("sparse_num_index_heads", f"it must be num_key_value_heads, {body.kv_heads}")
    if size != body.head_size:
        raise sparse.refuse("sparse_index_dim", f"it must be head_dim, {body.head_size}", WAY_OUT)
    if sparse.integer("sparse_block_size", maximum=MAX_WIDTH) != _BLOCK:
        raise sparse.refuse("sparse_block_size", f"the engine's kernels take {_BLOCK}", WAY_OUT)
    sparse.integer("sparse_topk_blocks", maximum=MAX_WIDTH)
    queries = Tensor(
        name="self_attn.index_q_proj",
        rows=heads * size,
        columns=body.hidden,
        sharding=Sharding.KV_COLUMN,
        kv_heads=heads,
        quantized=True,
        follows=True,
    )
    keys = replace(
        queries, name="self_attn.index_k_proj", rows=size, sharding=Sharding.REPLICATED, kv_heads=None
    )
    return _IndexKeys(head_size=size), (queries, keys, *norms(size, 2, "self_attn.index_norm"))


def _layer(body: Body, index: tuple[_IndexKeys, tuple[Tensor, ...]] | None, mlp: tuple[Tensor, ...]) -> Layer:
    query, key, value, *others = attention(body)
    cache, tensors = index if index is not None else (None, ())
    return Layer(
        cache=body.full,
        extra_caches=() if cache is None else (cache,),
        tensors=(
            *(query, key, value, *tensors, *others),
            *norms(body.head_size, 2, "self_attn.head_norm"),
            *norms(body.hidden, 2),
            *mlp,
        ),
    )


def _routed(config: Config, hidden: int, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    name = "block_sparse_moe"
    tensors = routed(name, hidden, experts, router_bytes=FLOAT32_BYTES)
    if experts.shared_intermediate_size:
        tensors = (*tensors, *gated_mlp(f"{name}.shared_experts", hidden, experts.shared_intermediate_size))
    if not config.flag("use_routing_bias", default=True):
        return tensors
    correction = Tensor(
        name=f"{name}.e_score_correction_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES
    )
    return (*tensors, correction)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "MiniMaxM3SparseForCausalLM": (build, ("minimax_m3_vl",)),
}
