"""OPT: learned positions, biases everywhere, no gate in the MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.parts import whole_on_every_stage
from plimsoll.sizing.layers import FullAttention
from plimsoll.sizing.model import Layer, ModelShape
from plimsoll.sizing.outside import decoder_dtype, embedding
from plimsoll.sizing.tensors import Sharding, Tensor

_POSITION_OFFSET: Final = 2  # OPTLearnedPositionalEmbedding keeps two rows for padding
_WAY_OUT: Final = "use an OPT checkpoint with biases and affine norms, as Meta published them"


def opt_shape(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers and tensors of an OPT model (vLLM 0.33.0, model_executor/models/opt.py)."""
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    layers = config.integer("num_hidden_layers", maximum=MAX_LAYERS)
    vocab = config.integer("vocab_size", maximum=MAX_WIDTH)
    ffn = config.integer("ffn_dim", maximum=MAX_WIDTH)
    positions = config.integer("max_position_embeddings", maximum=MAX_TOKENS)
    width = config.integer("word_embed_proj_dim", maximum=MAX_WIDTH, default=hidden)
    if hidden % heads:
        raise config.refuse("num_attention_heads", f"it must divide hidden_size, {hidden}")
    for field in ("enable_bias", "layer_norm_elementwise_affine"):
        if not config.flag(field, default=True):
            raise config.refuse(field, "such a variant is not one that can be sized", _WAY_OUT)
    layer = Layer(
        cache=FullAttention(num_kv_heads=heads, head_size=hidden // heads),
        tensors=_layer(hidden, ffn),
    )
    shape = ModelShape(
        architecture=architecture,
        model_type=model_type,
        dtype=decoder_dtype(config),
        quantization=quantization_from_config(config),
        hidden_size=hidden,
        intermediate_size=ffn,
        vocab_size=vocab,
        num_attention_heads=heads,
        layers=(layer,) * layers,
        first_stage=(embedding("embed_tokens", vocab, width),),
        last_stage=_outside(config, hidden, width, positions),
        every_stage=(),
        tied_embeddings=config.flag("tie_word_embeddings", default=True),
        rope=None,
        max_model_len=positions,
    )
    return whole_on_every_stage(shape)


def _outside(config: Config, hidden: int, width: int, positions: int) -> tuple[Tensor, ...]:
    tensors = [Tensor(name="embed_positions", rows=positions + _POSITION_OFFSET, columns=hidden)]
    if width != hidden:
        tensors += [
            Tensor(name="project_in", rows=hidden, columns=width),
            Tensor(name="project_out", rows=width, columns=hidden),
        ]
    has_norm = config.flag("do_layer_norm_before", default=True)
    if has_norm and not config.flag("_remove_final_layer_norm", default=False):
        tensors += [
            Tensor(name="final_layer_norm", rows=hidden),
            Tensor(name="final_layer_norm.bias", rows=hidden),
        ]
    return tuple(tensors)


def _layer(hidden: int, ffn: int) -> tuple[Tensor, ...]:
    query = Tensor(
        name="self_attn.q_proj", rows=hidden, columns=hidden, sharding=Sharding.COLUMN, quantized=True
    )
    columns = (
        query,
        replace(query, name="self_attn.k_proj"),
        replace(query, name="self_attn.v_proj"),
        replace(query, name="fc1", rows=ffn),
    )
    rows = (
        replace(query, name="self_attn.out_proj", sharding=Sharding.ROW),
        replace(query, name="fc2", columns=ffn, sharding=Sharding.ROW),
    )
    column_biases = tuple(replace(t, name=f"{t.name}.bias", columns=1, quantized=False) for t in columns)
    row_biases = tuple(Tensor(name=f"{t.name}.bias", rows=t.rows) for t in rows)
    norms = tuple(
        Tensor(name=name, rows=hidden)
        for norm in ("self_attn_layer_norm", "final_layer_norm")
        for name in (norm, f"{norm}.bias")
    )
    return (*columns, *rows, *column_biases, *row_biases, *norms)


FAMILIES: Final = {"OPTForCausalLM": (opt_shape, ("opt",))}
