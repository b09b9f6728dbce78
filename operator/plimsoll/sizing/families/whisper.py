"""Whisper: an encoder of sound, and a decoder whose layers attend to it and to their own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.layers import CrossAttention, FullAttention
from plimsoll.sizing.model import Layer, ModelShape
from plimsoll.sizing.outside import decoder_dtype
from plimsoll.sizing.sound import split_layers
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.sizing.towers import column, row, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder

_ATTENTIONS: Final = 2


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/whisper.py; no part of it is split into pipeline stages."""
    if quantization_from_config(config) is not None:
        raise config.refuse(
            "quantization_config", "a quantized Whisper is not one that can be sized", WAY_OUT
        )
    width = config.integer("d_model", maximum=MAX_WIDTH)
    heads = config.integer("decoder_attention_heads", maximum=MAX_HEADS)
    if width % heads:
        raise config.refuse("decoder_attention_heads", f"it must divide d_model, {width}")
    wide = config.integer("decoder_ffn_dim", maximum=MAX_WIDTH)
    vocab = config.integer("vocab_size", maximum=MAX_WIDTH)
    positions = config.integer("max_target_positions", maximum=MAX_TOKENS)
    size = width // heads
    layer = Layer(
        cache=FullAttention(num_kv_heads=heads, head_size=size),
        extra_caches=(CrossAttention(num_kv_heads=heads, head_size=size),),
        tensors=_layer(width, heads, wide),
        attentions=_ATTENTIONS,
    )
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        dtype=decoder_dtype(config),
        quantization=None,
        hidden_size=width,
        intermediate_size=wide,
        vocab_size=vocab,
        num_attention_heads=heads,
        layers=(layer,) * config.integer("decoder_layers", maximum=MAX_LAYERS),
        first_stage=(),
        last_stage=(),
        every_stage=_outside(vocab, positions, width),
        tied_embeddings=True,
        rope=None,
        max_model_len=positions,
        tower=split_layers(config, width),
        stages_problem="vLLM does not split Whisper into pipeline stages",
    )


def _outside(vocab: int, positions: int, width: int) -> tuple[Tensor, ...]:
    return (
        whole("embed_tokens", vocab, width),
        whole("embed_positions", positions, width),
        whole("layer_norm", 2 * width),
    )


def _attention(name: str, width: int, heads: int) -> tuple[Tensor, ...]:
    query = Tensor(
        name=f"{name}.qkv_proj", rows=3 * width, columns=width, sharding=Sharding.KV_COLUMN, kv_heads=heads
    )
    bias = Tensor(name=f"{name}.qkv_proj.bias", rows=3 * width, sharding=Sharding.KV_COLUMN, kv_heads=heads)
    return (query, bias, *row(f"{name}.out_proj", width, width))


def _layer(width: int, heads: int, wide: int) -> tuple[Tensor, ...]:
    return (
        *_attention("self_attn", width, heads),
        *_attention("encoder_attn", width, heads),
        *column("mlp.fc1", wide, width),
        *row("mlp.fc2", width, wide),
        whole("norms", 6 * width),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "WhisperForConditionalGeneration": (build, ("whisper",))
}
