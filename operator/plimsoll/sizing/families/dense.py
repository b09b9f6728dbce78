"""Decoders with full or sliding attention and one gated MLP: Llama, Mistral, Qwen 2 and 3, Phi 3, Gemma, Granite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    each,
    layer_types,
    norms,
    read_body,
    read_rope,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import Rope

if TYPE_CHECKING:
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How vLLM's class of a model type differs from Llama's.

    Attributes:
        query_bias: "always", "config" (attention_bias) or "never" on query, key and value.
        output_bias: "config" or "never" on the output projection.
        head_norms: norms of query and key over one head.
        norms: vectors of the hidden size in a layer.
        tied, window: what the Transformers class takes where config.json leaves the field out.
        pattern: every n-th layer is full where layer_types does not say; 0 for one kind of layer.
        normalizer: the Gemma classes keep one scalar beside the embedding.
    """

    query_bias: str = "config"
    output_bias: str = "config"
    head_norms: bool = False
    norms: int = 2
    tied: bool = False
    window: int | None = None
    pattern: int = 0
    normalizer: bool = False
    float16_unsafe: bool = False


_GEMMA: Final = Traits(query_bias="never", output_bias="never", tied=True, normalizer=True)
TRAITS: Final = {
    "llama": Traits(),
    "granite": Traits(),
    "mistral": Traits(query_bias="never", output_bias="never", window=4096),
    "qwen2": Traits(query_bias="always", output_bias="never"),
    "qwen3": Traits(output_bias="never", head_norms=True),
    "phi3": Traits(query_bias="never", output_bias="never"),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, window=4096, pattern=2, float16_unsafe=True),
    "gemma3_text": replace(_GEMMA, head_norms=True, norms=4, window=4096, pattern=6, float16_unsafe=True),
}
FAMILY: Final = {
    "LlamaForCausalLM": ("llama",),
    "MistralForCausalLM": ("mistral",),
    "Qwen2ForCausalLM": ("qwen2",),
    "Qwen3ForCausalLM": ("qwen3",),
    "Phi3ForCausalLM": ("phi3",),
    "GemmaForCausalLM": ("gemma",),
    "Gemma2ForCausalLM": ("gemma2",),
    "Gemma3ForCausalLM": ("gemma3_text",),
    "GraniteForCausalLM": ("granite",),
}
_NORMALIZER_BYTES: Final = 2  # one scalar in the model's dtype on every rank


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers and tensors of a dense decoder (vLLM 0.33.0, model_executor/models/llama.py and its kin)."""
    traits = TRAITS[model_type]
    body = read_body(config, architecture, model_type)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    if config.flag("mlp_bias", default=False):
        raise config.refuse("mlp_bias", "biases of the MLP are not ones that can be sized", WAY_OUT)
    tensors = (
        *_attention(body, traits),
        *gated_mlp("mlp", body.hidden, intermediate),
        *norms(body.hidden, traits.norms),
        *(norms(body.head_size, 2, "self_attn.head_norm") if traits.head_norms else ()),
    )
    rope = read_rope(body)
    if model_type == "gemma3_text":  # a scaled table is longer, and the model's length stays
        rope = replace(rope, max_model_len=body.positions)
    caches = _caches(body, traits)
    shape = decoder(body, each(caches, tensors), rope=rope, intermediate=intermediate, tied=traits.tied)
    shape = replace(shape, float16_unsafe=traits.float16_unsafe)
    if model_type == "gemma3_text" and any(isinstance(cache, SlidingWindow) for cache in caches):
        shape = replace(shape, other_ropes=_local_ropes(body, rope))
    if not traits.normalizer:
        return shape
    return whole_on_every_stage(replace(shape, buffer_bytes=_NORMALIZER_BYTES))


def _local_ropes(body: Body, rope: Rope) -> tuple[Rope, ...]:
    """Gemma 3 turns its sliding layers with a base of their own, without the scaling of the full ones."""
    return (Rope(positions=body.positions, rotary_dim=rope.rotary_dim, max_model_len=body.positions),)


def _attention(body: Body, traits: Traits) -> tuple[Tensor, ...]:
    wanted = body.config.flag("attention_bias", default=False)
    if wanted and traits.query_bias == "never":
        raise body.config.refuse("attention_bias", f"vLLM's {body.model_type} has no bias there", WAY_OUT)
    return attention(
        body,
        query_bias=traits.query_bias == "always" or wanted,
        output_bias=traits.output_bias == "config" and wanted,
    )


def _caches(body: Body, traits: Traits) -> tuple[CacheKind, ...]:
    """The cache of each layer: layer_types where given, else the family's pattern, else one kind for all."""
    config = body.config
    if config.flag("use_sliding_window", default=False):
        raise config.refuse(
            "use_sliding_window", "windows in some layers of this model are not sized", WAY_OUT
        )
    window = config.optional_integer("sliding_window", maximum=MAX_TOKENS)
    if "sliding_window" not in config.values:
        window = traits.window
    if "use_sliding_window" in config.values:  # it is false, or it would have been refused
        window = None
    kinds = layer_types(config, body.layers, ("full_attention", "sliding_attention")) or _pattern(
        body, traits
    )
    full = body.full
    if not kinds:
        return ((full if window is None else _sliding(full, window)),) * body.layers
    if window is None and "sliding_attention" in kinds:
        raise config.refuse("sliding_window", "layers with a sliding window need its length")
    return tuple(
        full if kind == "full_attention" or window is None else _sliding(full, window) for kind in kinds
    )


def _pattern(body: Body, traits: Traits) -> tuple[str, ...]:
    if not traits.pattern:
        return ()
    every = body.config.integer("sliding_window_pattern", maximum=body.layers, default=traits.pattern)
    return tuple(
        "sliding_attention" if (index + 1) % every else "full_attention" for index in range(body.layers)
    )


def _sliding(full: FullAttention, window: int) -> SlidingWindow:
    return SlidingWindow(num_kv_heads=full.num_kv_heads, head_size=full.head_size, window=window)
