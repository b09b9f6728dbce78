"""Decoders with one kind of attention and one MLP, each class of vLLM told by a row of a table.

Cohere, GLM 4, Nemotron, EXAONE, Apertus, InternLM, MiMo, MiniCPM, StableLM, Solar, Orion, ERNIE 4.5, GPT-2, GPT-J,
BLOOM: what differs is where biases, norms and gates stand, how much of a head turns, what a stage builds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    as_transformers,
    attention,
    bias_of,
    decoder,
    each,
    layer_types,
    linear,
    norms,
    read_body,
    read_rope,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import SlidingWindow
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape

Bias = bool | tuple[str, ...]  # always, never, or where one of these fields is true


@dataclass(frozen=True, slots=True)
class Renamed(Config):
    """A config whose family has other names for the common fields, which its errors still say as they stand."""

    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, field: str) -> str:
        """The path of the field under the family's own name."""
        return Config.name(self, self.names.get(field, field))


def renamed(config: Config, names: Mapping[str, str], defaults: Mapping[str, object]) -> Config:
    """The config under the common names, with what the family's class takes for what is left out."""
    values = dict(config.values)
    used = {}
    for common, own in names.items():
        if own in values and values.get(common) is None:
            values[common] = values[own]
            used[common] = own
    missing = {key: value for key, value in defaults.items() if key not in values}
    return Renamed({**values, **missing}, config.path, used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """How one class of vLLM differs from Llama's.

    Attributes:
        names: the family's own names of the common fields.
        defaults: what its Transformers class takes for fields that the config leaves out, where bytes depend on them.
        query_bias, output_bias, mlp_bias: on query, key and value, on the output, in the MLP.
        gated: the MLP has a gate beside its up projection.
        norms, last_norms: vectors of the hidden size in a layer and behind the last, two for a norm with a bias.
        head_norms: a norm of query and key over one head.
        split_norms: fields that ask for norms of query and key over all heads, which the ranks share.
        rotated: what part of a head turns, where the config does not say.
        wide_norms: norms of query and key over all heads, whole on every rank.
        learned: positions are a table of that many rows more than the model's length; None for rotary ones.
        inverse: the class is Transformers' own, which keeps inverse frequencies instead of a table.
        turns: whether the engine turns positions at all.
        outside: further vectors of the hidden size on every stage.
        head_bias: the output layer has one.
        every_stage: the class builds embedding, norm and output layer on every stage.
        own_output: False where the class has no output layer but the embedding.
        window_plus: tokens that the class adds to the window of the config.
        pattern: every n-th layer is full where layer_types does not say.
        refused, required: fields that ask for what vLLM's class does not build, if they are true, or false.
        extra, buffers: small parameters and buffers of each layer, as elements in the model's dtype.
        unloaded: field that says that the files hold layers for speculative decoding.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    query_bias: Bias = False
    output_bias: Bias = False
    mlp_bias: Bias = False
    gated: bool = True
    norms: int = 2
    last_norms: int = 1
    head_norms: bool = False
    split_norms: tuple[str, ...] = ()
    rotated: float = 1.0
    wide_norms: bool = False
    learned: int | None = None
    inverse: bool = False
    turns: bool = True
    outside: int = 0
    head_bias: bool = False
    every_stage: bool = False
    own_output: bool = True
    tied: bool = False
    window_plus: int = 0
    pattern: int = 0
    windows: bool = False
    refused: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    extra: int = 0
    buffers: int = 0
    unloaded: str | None = None


def builder(row: Plain) -> Builder:
    """What builds the shape of a class as its row says."""

    def build(config: Config, architecture: str, model_type: str) -> ModelShape:
        return plain_shape(config, architecture, model_type, row)

    return build


def plain_shape(config: Config, architecture: str, model_type: str, row: Plain) -> ModelShape:
    """Layers and tensors as the row of this class says.

    Raises:
        UnsupportedModelError: a field that is absent or that asks for what the class does not build.
    """
    for name in row.refused:
        if config.values.get(name):
            raise config.refuse(name, f"vLLM's {architecture} does not build it", WAY_OUT)
    for name in row.required:
        if not config.flag(name, default=True):
            raise config.refuse(name, f"without it {architecture} is not one that can be sized", WAY_OUT)
    body = read_body(renamed(config, row.names, row.defaults), architecture, model_type)
    body = replace(body, positions=_length(body))
    intermediate = body.config.integer("intermediate_size", maximum=MAX_WIDTH, default=4 * body.hidden)
    tensors = (
        *attention(body, query_bias=has(body, row.query_bias), output_bias=has(body, row.output_bias)),
        *_mlp(body, row, intermediate),
        *norms(body.hidden, row.norms),
        *(norms(body.head_size, 2, "self_attn.head_norm") if row.head_norms else ()),
        *_split_norms(body, row),
        *norms(1, row.extra, "scalar"),
    )
    layers = each(_caches(body, row), tensors)
    if row.buffers:
        layers = tuple(replace(layer, buffers=norms(1, row.buffers, "buffer")) for layer in layers)
    rope = read_rope(body, rotary_dim=_rotary(body, row)) if row.turns and row.learned is None else None
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, tied=row.tied)
    return _around(shape, body, row)


def _around(shape: ModelShape, body: Body, row: Plain) -> ModelShape:
    """What stands outside the layers."""
    shape = replace(shape, last_stage=norms(body.hidden, row.last_norms))
    if row.inverse:
        shape = as_transformers(shape)
    if row.head_bias:
        bias = Tensor(name="lm_head.bias", rows=body.vocab, sharding=Sharding.VOCAB)
        shape = replace(shape, last_stage=(*shape.last_stage, bias))
    if not row.own_output:
        shape = replace(shape, tied_embeddings=True)
    if row.every_stage:
        shape = whole_on_every_stage(shape)
    if row.learned is not None:
        table = Tensor(name="embed_positions", rows=body.positions + row.learned, columns=body.hidden)
        shape = replace(shape, every_stage=(*shape.every_stage, table))
    if row.outside:
        shape = replace(shape, every_stage=(*shape.every_stage, *norms(body.hidden, row.outside, "outside")))
    if row.unloaded and body.config.integer(row.unloaded, maximum=MAX_WIDTH, minimum=0, default=0):
        shape = replace(shape, unloaded=MTP)
    return shape


MTP: Final = "the multi-token prediction layers, which serve speculative decoding only"


def _length(body: Body) -> int:
    """The model's length; model_max_length overrides the others."""
    return body.config.integer("model_max_length", maximum=MAX_TOKENS, default=body.positions)


def has(body: Body, bias: Bias) -> bool:
    """Whether there is one: always, never, or as one of the fields says."""
    if isinstance(bias, bool):
        return bias
    return any(body.config.flag(name, default=False) for name in bias)


def _mlp(body: Body, row: Plain, intermediate: int) -> tuple[Tensor, ...]:
    if row.gated:
        weights = gated_mlp("mlp", body.hidden, intermediate)
    else:
        weights = (
            linear("mlp.up_proj", intermediate, body.hidden, Sharding.COLUMN),
            linear("mlp.down_proj", body.hidden, intermediate, Sharding.ROW),
        )
    return (*weights, *map(bias_of, weights)) if has(body, row.mlp_bias) else weights


def _split_norms(body: Body, row: Plain) -> tuple[Tensor, ...]:
    if row.wide_norms:
        return wide_norms(body)
    if not has(body, row.split_norms):
        return ()
    query = Tensor(name="self_attn.q_norm", rows=body.heads * body.head_size, sharding=Sharding.COLUMN)
    key = Tensor(
        name="self_attn.k_norm",
        rows=body.kv_heads * body.head_size,
        sharding=Sharding.KV_COLUMN,
        kv_heads=body.kv_heads,
    )
    return query, key


def wide_norms(body: Body) -> tuple[Tensor, ...]:
    """Norms of query and key over all heads, whole on every rank."""
    return (
        *norms(body.heads * body.head_size, 1, "self_attn.q_norm"),
        *norms(body.kv_heads * body.head_size, 1, "self_attn.k_norm"),
    )


def _rotary(body: Body, row: Plain) -> int | None:
    """Elements of a head that turn, where the class has its own way to say it."""
    if body.config.values.get("rotary_dim") is not None:
        return body.config.integer("rotary_dim", maximum=body.head_size)
    section = body.config.section("rope_parameters") or body.config.section("rope_scaling") or body.config
    holders = (section, body.config)
    if row.rotated == 1.0 or any(
        holder.values.get("partial_rotary_factor") is not None for holder in holders
    ):
        return None
    return int(body.head_size * row.rotated)


def window_everywhere(body: Body) -> CacheKind:
    """The cache of all layers of a class that leaves windows to the engine: a window wherever the config has one."""
    window = body.config.optional_integer("sliding_window", maximum=MAX_TOKENS)
    if window is None or not body.config.flag("use_sliding_window", default=True):
        return body.full
    return SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=window)


def _caches(body: Body, row: Plain) -> tuple[CacheKind, ...]:
    """The cache of each layer, as layer_types or the family's pattern says."""
    config = body.config
    kinds = layer_types(config, body.layers, ("full_attention", "sliding_attention"))
    if not row.windows:
        if "sliding_attention" in kinds:
            raise config.refuse("layer_types", f"vLLM's {body.architecture} has one kind of layer", WAY_OUT)
        return (body.full if kinds else window_everywhere(body),) * body.layers
    if not kinds and row.pattern:
        every = config.integer("sliding_window_pattern", maximum=body.layers, default=row.pattern)
        kinds = tuple(
            "sliding_attention" if (index + 1) % every else "full_attention" for index in range(body.layers)
        )
    if not kinds:
        return (window_everywhere(body),) * body.layers
    if "sliding_attention" not in kinds:
        return (body.full,) * body.layers
    sliding = SlidingWindow(
        num_kv_heads=body.kv_heads,
        head_size=body.head_size,
        window=config.integer("sliding_window", maximum=MAX_TOKENS) + row.window_plus,
    )
    return tuple(body.full if kind == "full_attention" else sliding for kind in kinds)
