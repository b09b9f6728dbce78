"""From a config to a `ModelShape`: one builder per family of architectures, anything else refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.deepseek import deepseek_shape
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import Layer, ModelShape
from plimsoll.sizing.opt import opt_shape
from plimsoll.sizing.outside import decoder_dtype, embedding, gated_mlp, skip_modules
from plimsoll.sizing.quantization import quantization_from_config
from plimsoll.sizing.rope import Rope, rope_from_config, rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.layers import CacheKind

# vLLM's class -> the model types whose config it may carry.
_DENSE: Final = {
    "LlamaForCausalLM": ("llama",),
    "MistralForCausalLM": ("mistral",),
    "Qwen2ForCausalLM": ("qwen2",),
    "Phi3ForCausalLM": ("phi3",),
    "Gemma2ForCausalLM": ("gemma2",),
}
_LATENT: Final = {"DeepseekV2ForCausalLM": ("deepseek_v2",), "DeepseekV3ForCausalLM": ("deepseek_v3",)}
_OPT: Final = {"OPTForCausalLM": ("opt",)}
__all__ = ["SUPPORTED_ARCHITECTURES", "ModelShape", "shape_from_facts"]

SUPPORTED_ARCHITECTURES: Final = (*_DENSE, *_LATENT, *_OPT)
_WAY_OUT: Final = f"models that can be sized now are those of {', '.join(SUPPORTED_ARCHITECTURES)}"

# What the Transformers classes take where config.json leaves a field out.
_TIED_BY_DEFAULT: Final = ("gemma2",)
_WINDOW_BY_DEFAULT: Final = {"mistral": 4096, "gemma2": 4096}
_QKV_BIAS: Final = ("qwen2",)
_NORMS_PER_LAYER: Final = {"gemma2": 4}
_FLOAT16_UNSAFE: Final = ("gemma2",)  # vLLM 0.33.0, config/model.py: _FLOAT16_NOT_SUPPORTED_MODELS
_SECTIONS: Final = ("text_config", "vision_config", "audio_config", "llm_config", "thinker_config")


def shape_from_facts(facts: ModelFacts) -> ModelShape:
    """Read a model's config into layers and tensors.

    Raises:
        UnsupportedModelError: an architecture, or the value of a field, that this version cannot count.
    """
    config = Config(facts.config)
    architecture, model_type = _architecture(config)
    for section in _SECTIONS:
        if config.values.get(section) is not None:
            raise UnsupportedModelError(
                section, "...", "models with parts beside the text are not sized", _WAY_OUT
            )
    if architecture in _LATENT:
        shape = deepseek_shape(config, architecture, model_type)
    elif architecture in _OPT:
        shape = opt_shape(config, architecture, model_type)
    else:
        shape = _dense_shape(config, architecture, model_type)
    return skip_modules(shape)


def _architecture(config: Config) -> tuple[str, str]:
    """The class that vLLM will choose and the model type, if they belong together."""
    names = config.texts("architectures")
    if len(names) != 1:
        raise config.refuse("architectures", "it must name one architecture", _WAY_OUT)
    known = _DENSE | _LATENT | _OPT
    if names[0] not in known:
        raise UnsupportedModelError(
            "architectures", names[0], "this architecture is not one that can be sized", _WAY_OUT
        )
    model_type = config.text("model_type")
    if model_type not in known[names[0]]:
        raise config.refuse("model_type", f"{names[0]} has {' or '.join(known[names[0]])}", _WAY_OUT)
    return names[0], model_type


def _dense_shape(config: Config, architecture: str, model_type: str) -> ModelShape:
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    layers = config.integer("num_hidden_layers", maximum=MAX_LAYERS)
    vocab = config.integer("vocab_size", maximum=MAX_WIDTH)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    kv_heads = _kv_heads(config, heads)
    head_size = _head_size(config, hidden, heads)
    tied = config.flag("tie_word_embeddings", default=model_type in _TIED_BY_DEFAULT)
    longest = config.integer("max_position_embeddings", maximum=MAX_TOKENS)
    rope = rope_from_config(
        config, rotary_dim=rotary_dim_of(config, head_size), max_position_embeddings=longest
    )
    tensors = (
        *_attention(config, model_type, hidden, heads, kv_heads, head_size),
        *_mlp(config, hidden, intermediate),
        *(Tensor(name=f"norm_{index}", rows=hidden) for index in range(_NORMS_PER_LAYER.get(model_type, 2))),
    )
    caches = _caches(config, model_type, layers, FullAttention(num_kv_heads=kv_heads, head_size=head_size))
    norm = Tensor(name="norm", rows=hidden)
    gemma = model_type == "gemma2"
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        dtype=decoder_dtype(config),
        quantization=quantization_from_config(config),
        hidden_size=hidden,
        intermediate_size=intermediate,
        vocab_size=vocab,
        num_attention_heads=heads,
        layers=tuple(Layer(cache=cache, tensors=tensors) for cache in caches),
        first_stage=(embedding("embed_tokens", vocab, hidden),),
        last_stage=() if gemma else (norm,),
        every_stage=(norm,) if gemma else (),
        tied_embeddings=tied,
        rope=rope,
        max_model_len=rope.max_model_len,
        buffer_bytes=_GEMMA2_NORMALIZER_BYTES if gemma else 0,
        float16_unsafe=model_type in _FLOAT16_UNSAFE,
        warnings=_rope_warnings(rope),
    )


_GEMMA2_NORMALIZER_BYTES: Final = 2  # one scalar in the model's dtype on every rank


def _rope_warnings(rope: Rope) -> tuple[str, ...]:
    if rope.long_factors_from is None:
        return ()
    return (
        (
            f"LongRoPE: with a context above {rope.long_factors_from} tokens vLLM uses the long factors for short "
            f"prompts too; set maxModelLen to {rope.long_factors_from} if prompts are short."
        ),
    )


def _kv_heads(config: Config, heads: int) -> int:
    kv_heads = config.integer("num_key_value_heads", maximum=MAX_HEADS, default=heads)
    if heads % kv_heads:
        raise config.refuse("num_key_value_heads", f"it must divide num_attention_heads, {heads}")
    return kv_heads


def _head_size(config: Config, hidden: int, heads: int) -> int:
    head_size = config.optional_integer("head_dim", maximum=MAX_WIDTH)
    if head_size is not None:
        return head_size
    if hidden % heads:
        raise config.refuse(
            "num_attention_heads", f"it must divide hidden_size, {hidden}, or head_dim must be set"
        )
    return hidden // heads


def _attention(
    config: Config, model_type: str, hidden: int, heads: int, kv_heads: int, head_size: int
) -> tuple[Tensor, ...]:
    """Query, key, value and output projections; fused ones take the same bytes."""
    bias = model_type in _QKV_BIAS or config.flag("attention_bias", default=False)
    output_bias = config.flag("attention_bias", default=False) and model_type not in _QKV_BIAS
    if bias and model_type in ("phi3", "mistral", "gemma2"):
        raise config.refuse("attention_bias", f"vLLM's {model_type} has no bias there", _WAY_OUT)
    query = Tensor(name="self_attn.q_proj", rows=heads * head_size, columns=hidden, sharding=Sharding.COLUMN)
    key = Tensor(
        name="self_attn.k_proj",
        rows=kv_heads * head_size,
        columns=hidden,
        sharding=Sharding.KV_COLUMN,
        kv_heads=kv_heads,
    )
    value = replace(key, name="self_attn.v_proj")
    output = Tensor(name="self_attn.o_proj", rows=hidden, columns=heads * head_size, sharding=Sharding.ROW)
    projections = tuple(replace(tensor, quantized=True) for tensor in (query, key, value, output))
    biases = (
        tuple(replace(tensor, name=f"{tensor.name}.bias", columns=1) for tensor in (query, key, value))
        if bias
        else ()
    )
    if output_bias:
        biases = (*biases, Tensor(name="self_attn.o_proj.bias", rows=hidden))
    return (*projections, *biases)


def _mlp(config: Config, hidden: int, intermediate: int) -> tuple[Tensor, ...]:
    if config.flag("mlp_bias", default=False):
        raise config.refuse("mlp_bias", "biases of the MLP are not ones that can be sized", _WAY_OUT)
    return gated_mlp("mlp", hidden, intermediate)


def _caches(config: Config, model_type: str, layers: int, full: FullAttention) -> tuple[CacheKind, ...]:
    """The cache of each layer: layer_types where given, else one window for all, else full attention."""
    if config.flag("use_sliding_window", default=False):
        raise config.refuse(
            "use_sliding_window", "windows in some layers of this model are not sized", _WAY_OUT
        )
    window = config.optional_integer("sliding_window", maximum=MAX_TOKENS)
    if "sliding_window" not in config.values:
        window = _WINDOW_BY_DEFAULT.get(model_type)
    if "use_sliding_window" in config.values:  # it is false, or it would have been refused
        window = None
    kinds = config.texts("layer_types")
    if not kinds and model_type == "gemma2":
        kinds = tuple("full_attention" if index % 2 else "sliding_attention" for index in range(layers))
    if not kinds:
        sliding = (
            None
            if window is None
            else SlidingWindow(num_kv_heads=full.num_kv_heads, head_size=full.head_size, window=window)
        )
        return (sliding or full,) * layers
    if len(kinds) != layers:
        raise config.refuse("layer_types", f"it must have one entry for each of {layers} layers")
    return tuple(_cache_of(config, kind, window, full) for kind in kinds)


def _cache_of(config: Config, kind: str, window: int | None, full: FullAttention) -> CacheKind:
    if kind == "full_attention":
        return full
    if kind != "sliding_attention":
        raise UnsupportedModelError(
            config.name("layer_types"), kind, "this kind of layer is not one that can be sized", _WAY_OUT
        )
    if window is None:
        raise config.refuse("sliding_window", "layers with a sliding window need its length")
    return SlidingWindow(num_kv_heads=full.num_kv_heads, head_size=full.head_size, window=window)
