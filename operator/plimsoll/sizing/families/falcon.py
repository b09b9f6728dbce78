"""Falcon: attention and MLP side by side, one or two norms with biases, rotary positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    linear,
    norms,
    read_rope,
    whole_on_every_stage,
)
from plimsoll.sizing.model import AttentionKernels, Layer
from plimsoll.sizing.tensors import Sharding

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

_POSITIONS: Final = 2048  # what the Transformers class takes where the config leaves them out
_NORMS_OF_NEW: Final = 2


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/falcon.py."""
    for field in ("alibi", "bias"):
        if config.flag(field, default=False):
            raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    new = config.flag("new_decoder_architecture", default=False)
    if hidden % heads:
        raise config.refuse("num_attention_heads", f"it must divide hidden_size, {hidden}")
    if not config.flag("parallel_attn", default=True) and not new:
        raise config.refuse("parallel_attn", "such a variant is not one that can be sized", WAY_OUT)
    body = Body(
        config=config,
        architecture=architecture,
        model_type=model_type,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads, new=new),
        head_size=hidden // heads,
        layers=config.integer("num_hidden_layers", maximum=MAX_LAYERS),
        vocab=config.integer("vocab_size", maximum=MAX_WIDTH),
        positions=config.integer("max_position_embeddings", maximum=MAX_TOKENS, default=_POSITIONS),
    )
    wide = config.integer("ffn_hidden_size", maximum=MAX_WIDTH, default=4 * hidden)
    count = config.integer(
        "num_ln_in_parallel_attn", maximum=_NORMS_OF_NEW, default=_NORMS_OF_NEW if new else 1
    )
    tensors = (
        *attention(body, name="self_attention"),
        linear("mlp.dense_h_to_4h", wide, hidden, Sharding.COLUMN),
        linear("mlp.dense_4h_to_h", hidden, wide, Sharding.ROW),
        *norms(2 * hidden, count),
    )
    layer = Layer(cache=body.full, tensors=tensors)
    shape = decoder(body, (layer,) * body.layers, rope=read_rope(body), intermediate=wide, tied=True)
    shape = replace(
        shape,
        last_stage=norms(2 * hidden, 1, "ln_f"),
        kernels=AttentionKernels(ignores_cache_dtype=True),
    )
    return whole_on_every_stage(shape)


def _kv_heads(config: Config, heads: int, *, new: bool) -> int:
    """One head for the first models, a few for the new architecture."""
    if new:
        return config.integer("num_kv_heads", maximum=heads, default=heads)
    return 1 if config.flag("multi_query", default=True) else heads


FAMILIES: Final = {"FalconForCausalLM": (build, ("falcon",))}
