"""Granite Speech: a Granite behind a conformer and the query transformer of BLIP-2."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.defaults import completed, completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, root_tie, with_inherited
from plimsoll.sizing.towers import Tower, column, row, whole
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

# Sources: vLLM 0.33.0, model_executor/models/granite_speech.py and blip2.py; transformers 5.19.0 for what is left out.
_ELEMENT_BYTES: Final = 2
_COUNTER_BYTES: Final = 8  # of the batches that a norm has seen, an int64
_TEXT: Final = "granite"
_QUERIES: Final = "blip_2_qformer"
_MAX_FACTOR: Final = 1024
_ENCODER: Final[Mapping[str, object]] = {
    "input_dim": 160,
    "num_layers": 10,
    "hidden_dim": 1024,
    "feedforward_mult": 4,
    "num_heads": 8,
    "output_dim": 42,
    "context_size": 200,
    "max_pos_emb": 512,
    "conv_kernel_size": 15,
    "conv_expansion_factor": 2,
}
_PROJECTOR: Final[Mapping[str, object]] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "cross_attention_frequency": 2,
    "encoder_hidden_size": 1408,
}
_OTHER_NAMES: Final = {  # under which the class reads the same
    "hidden_size": "hidden_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_mel_bins": "input_dim",
}
_ROOT: Final[Mapping[str, object]] = {"downsample_rate": 5, "window_size": 15}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text as it stands alone; of the conformer the MLPs are split, all else is whole on every rank."""
    config, unset = completed_with(config, _ROOT)
    section = config.section("text_config")
    if section is None:
        raise config.refuse("text_config", "the config of the text must stand there", WAY_OUT)
    if section.text("model_type", default=_TEXT) != _TEXT:
        raise section.refuse("model_type", f"{_TEXT} is the text that can be sized here", WAY_OUT)
    text, missing = completed(with_inherited(config, section, tied=root_tie(config, default=True)), _TEXT)
    shape = dense.build(text, architecture, _TEXT)
    if shape.quantization is not None:  # the engine would quantize a part of the encoder too
        raise text.refuse("quantization_config", "this model can be sized in 16 bits only", WAY_OUT)
    encoder, unheard = _section(config, "encoder_config", _ENCODER)
    projector, unasked = _section(config, "projector_config", _PROJECTOR)
    hearing = _conformer(encoder)
    tower = replace(
        hearing, tensors=(*hearing.tensors, *_query_transformer(config, projector, shape.hidden_size))
    )
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning((*unset, *missing, *unheard, *unasked))))


def _section(config: Config, field: str, defaults: Mapping[str, object]) -> tuple[Config, tuple[str, ...]]:
    return completed_with(config.section(field) or Config({}, config.name(field)), defaults)


def _conformer(encoder: Config) -> Tower:
    for other, name in _OTHER_NAMES.items():
        if other in encoder.values:
            raise encoder.refuse(other, f"this size is read under the name {name} only", WAY_OUT)
    width = encoder.integer("hidden_dim", maximum=MAX_WIDTH)
    depth = encoder.integer("num_layers", maximum=MAX_LAYERS)
    out = encoder.integer("output_dim", maximum=MAX_WIDTH)
    wide = width * encoder.integer("feedforward_mult", maximum=_MAX_FACTOR)
    inner = width * encoder.integer("conv_expansion_factor", maximum=_MAX_FACTOR)
    kernel = encoder.integer("conv_kernel_size", maximum=_MAX_FACTOR)
    return Tower(
        tensors=(
            whole("encoder.input_linear", width, encoder.integer("input_dim", maximum=MAX_WIDTH) + 1),
            *column("encoder.layers.ff.up_proj", wide, width, copies=2 * depth),
            *row("encoder.layers.ff.down_proj", width, wide, copies=2 * depth),
            *_attention(encoder, width, depth),
            whole("encoder.layers.conv.up_conv", 2 * inner, width + 1, copies=depth),
            whole("encoder.layers.conv.depth_conv", inner, kernel, copies=depth),
            whole("encoder.layers.conv.batch_norm", 2 * inner, copies=depth),
            whole("encoder.layers.conv.down_conv", width, inner + 1, copies=depth),
            # Layer norms before both MLPs, attention and convolutions, and one behind them.
            whole("encoder.layers.norms", 10 * width, copies=depth),
            *column("encoder.out", out, width),
            *row("encoder.out_mid", width, out),
        ),
        buffer_bytes=depth * (2 * inner * _ELEMENT_BYTES + _COUNTER_BYTES),
    )


def _attention(encoder: Config, width: int, depth: int) -> tuple[Tensor, ...]:
    heads = encoder.integer("num_heads", maximum=MAX_HEADS)
    size = encoder.integer("dim_head", maximum=MAX_WIDTH, default=max(1, width // heads))
    positions = encoder.integer("max_pos_emb", maximum=MAX_TOKENS)
    encoder.integer("context_size", maximum=positions)
    inner = heads * size
    return (
        whole("encoder.layers.attn.to_qkv", 3 * inner, width, copies=depth),
        whole("encoder.layers.attn.to_out", width, inner + 1, copies=depth),
        whole("encoder.layers.attn.rel_pos_emb", 2 * positions + 1, size, copies=depth),
    )


def _query_transformer(config: Config, projector: Config, text_width: int) -> tuple[Tensor, ...]:
    """BLIP-2's, on every rank: layers whose queries see each other, and in some also what was heard."""
    kind = projector.text("model_type", default=_QUERIES)
    if kind != _QUERIES:
        raise projector.refuse("model_type", f"{_QUERIES} is the projector that can be sized", WAY_OUT)
    if projector.text("position_embedding_type", default="absolute") != "absolute":
        raise projector.refuse("position_embedding_type", "vLLM takes absolute positions only", WAY_OUT)
    width = projector.integer("hidden_size", maximum=MAX_WIDTH)
    depth = projector.integer("num_hidden_layers", maximum=MAX_LAYERS)
    heads = projector.integer("num_attention_heads", maximum=MAX_HEADS)
    wide = projector.integer("intermediate_size", maximum=MAX_WIDTH)
    heard = projector.integer("encoder_hidden_size", maximum=MAX_WIDTH)
    every = projector.integer("cross_attention_frequency", maximum=MAX_LAYERS)
    if width % heads:
        raise projector.refuse("num_attention_heads", f"it must divide hidden_size, {width}")
    window = config.integer("window_size", maximum=MAX_WIDTH)
    queries = window // config.integer("downsample_rate", maximum=window)
    crossed = ceil_div(depth, every)
    return (
        whole("projector.query", queries, width),
        whole("projector.qformer.layernorm", 2 * width),
        # Query, key, value and output with their biases, and a layer norm.
        whole("projector.qformer.layer.attention", width, 4 * width + 6, copies=depth),
        whole("projector.qformer.layer.crossattention", width, 2 * (width + heard) + 6, copies=crossed),
        whole("projector.qformer.layer.intermediate_query", wide, width + 1, copies=depth),
        whole("projector.qformer.layer.output_query", width, wide + 3, copies=depth),
        whole("projector.linear", text_width, width + 1),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "GraniteSpeechForConditionalGeneration": (build, ("granite_speech",))
}
