"""The draft layers of each class of vLLM that has them (multi-token prediction), from what its model is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.draft import Draft
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.families.deepseek import with_indexer
from plimsoll.sizing.families.mixture import sparse_layers
from plimsoll.sizing.families.parts import linear, norms
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import embedding, gated_mlp
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plimsoll.sizing.model import ModelShape

    Builder = Callable[[Config, ModelShape], Draft | None]

# Sources: vLLM 0.33.0, config/speculative.py (hf_config_override), model_executor/models: deepseek_mtp, glm4_moe_mtp,
# glm4_moe_lite_mtp, mimo_mtp, ernie_mtp, nemotron_h_mtp, qwen3_next_mtp, qwen3_5_mtp, and models/deepseek_v4.
_PREDICTED: Final = "num_nextn_predict_layers"
_NOT_HELD: Final = "nobody held this class of them against the engine"
_UNCOUNTED: Final = "bailing_hybrid"
_LETTERS: Final = {"full_attention": "*", "attention": "*", "moe": "E"}
_WAY_OUT: Final = "serve the model without them"


def with_draft(shape: ModelShape, config: Config) -> ModelShape:
    """The model with its draft layers, if the engine builds any; what cannot be read of them is no fault of the model."""
    builder = _BUILDERS.get(shape.architecture)
    if builder is not None:
        try:
            return replace(shape, draft=builder(config, shape))
        except UnsupportedModelError as problem:
            return replace(shape, uncounted_draft=str(problem).rstrip("."))
    if shape.model_type == _UNCOUNTED and config.values.get(_PREDICTED):
        return replace(shape, uncounted_draft=_NOT_HELD)
    return shape


def _count(config: Config, default: int = 0) -> int:
    return config.integer(_PREDICTED, minimum=0, maximum=MAX_LAYERS, default=default)


def _deepseek(config: Config, shape: ModelShape) -> Draft | None:
    """DeepSeek V3 and V3.2, R1, GLM 5 and GLM 4.7 Flash; Kimi K2 has none."""
    defaults = {"deepseek_v3": 1, "deepseek_v32": 0, "glm_moe_dsa": 0, "glm4_moe_lite": 0}
    if shape.model_type not in defaults:
        return None
    every = config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    return _behind(config, shape, count=_count(config, defaults[shape.model_type]), first=0, every=every)


def _glm4_moe(config: Config, shape: ModelShape) -> Draft | None:
    return _behind(config, shape, count=_count(config, 1), first=1, every=1)


def _behind(config: Config, shape: ModelShape, *, count: int, first: int, every: int) -> Draft | None:
    """Layers like the model's, each with a projection, three norms and an output layer, which is now the model's."""
    first = config.integer("first_k_dense_replace", minimum=0, maximum=MAX_LAYERS, default=first)
    indices = range(len(shape.layers), len(shape.layers) + count)
    layers = [
        with_indexer(
            config, _like(config, shape, routed=index >= first and index % every == 0), shape.model_type
        )
        for index in indices
    ]
    draft = _numbered(shape, layers, _joined(shape, norms_of_each=3))
    head = embedding("shared_head.head", shape.vocab_size, shape.hidden_size)
    return None if draft is None else replace(draft, heads=(head,) * count)


def _deepseek_v4(config: Config, shape: ModelShape) -> Draft | None:
    """A layer that compresses as the list goes on to say, routes by scores, and reads every residual stream."""
    hidden, start = shape.hidden_size, len(shape.layers)
    ratios = config.values["compress_ratios"]  # a list that is long enough, or there were no shape
    drafted = ratios[start : start + _count(config)]
    layers = []
    for ratio in drafted:
        if ratio not in ratios[:start]:
            raise config.refuse("compress_ratios", "no layer of the model is like its draft layers", _WAY_OUT)
        own = shape.layers[ratios.index(ratio)]
        tensors = (*_feed_forward(own, is_it=False), *_feed_forward(shape.layers[-1], is_it=True))
        layers.append(replace(own, tensors=tensors))
    project = linear("e_proj", hidden, hidden)
    outside = (*norms(hidden, 3, "draft_norm"), project, replace(project, name="h_proj"), *shape.every_stage)
    draft = _numbered(shape, layers, outside)
    if draft is None:
        return None
    # The table of layers that compress nothing stands where the first of them do.
    tables = (shape.rope,) if shape.rope is not None and 0 in drafted else ()
    return replace(draft, apart_ropes=tables, streams=config.integer("hc_mult", maximum=MAX_HEADS))


def _feed_forward(layer: Layer, *, is_it: bool) -> tuple[Tensor, ...]:
    """The feed-forward of a layer, or all beside it."""
    return tuple(tensor for tensor in layer.tensors if tensor.name.startswith("ffn.") == is_it)


def _mimo(config: Config, shape: ModelShape) -> Draft | None:
    return _numbered(shape, [shape.layers[0]] * _count(config), _joined(shape, norms_of_each=3))


def _ernie(config: Config, shape: ModelShape) -> Draft | None:
    """A Llama layer, whose rotary embedding turns other pairs, so that it has a table of its own."""
    own = shape.layers[0]
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    tensors = (
        *(tensor for tensor in own.tensors if not tensor.name.startswith("mlp.")),
        *gated_mlp("mlp", shape.hidden_size, intermediate),
    )
    layers = [Layer(cache=own.cache, tensors=tensors)] * _count(config)
    draft = _numbered(shape, layers, _joined(shape, norms_of_each=2))
    return None if draft is None else replace(draft, ropes=(shape.rope,) if shape.rope else ())


def _joined(shape: ModelShape, *, norms_of_each: int) -> tuple[Tensor, ...]:
    """What joins the hidden state and the next token's embedding, never quantized, and the norms around a layer."""
    hidden = shape.hidden_size
    projection = Tensor(name="eh_proj", rows=hidden, columns=2 * hidden)
    return projection, *norms(hidden, norms_of_each, "draft_norm")


def _numbered(shape: ModelShape, layers: Sequence[Layer], around: tuple[Tensor, ...]) -> Draft | None:
    """Layers that are numbered on from the model's, with as much around each; None without one."""
    if not layers:
        return None
    start = len(shape.layers)
    return Draft(
        layers=tuple(layers),
        modules=len(layers),
        names=tuple(f"model.layers.{start + index}" for index in range(len(layers))),
        outside=around * len(layers),
        apart=(embedding("embed_tokens", shape.vocab_size, shape.hidden_size),),
    )


def _nemotron(config: Config, shape: ModelShape) -> Draft | None:
    """One layer of attention and one of experts, as a pattern spells them; the embedding is on every stage."""
    if _count(config) == 0:
        return None
    kinds = config.texts("mtp_layers_block_type")
    pattern = config.text("mtp_hybrid_override_pattern", default="*E")
    if kinds:
        pattern = "".join(_LETTERS.get(kind, "?") for kind in kinds)
    if _count(config) > 1 or not pattern or set(pattern) - set(_LETTERS.values()):
        raise config.refuse(
            _PREDICTED, f"one predictor is what can be sized, spelled {pattern!r:.80}", _WAY_OUT
        )
    like = {"*": _like(config, shape, routed=False), "E": _like(config, shape, routed=True, attends=False)}
    projection = linear("layers.0.eh_proj", shape.hidden_size, 2 * shape.hidden_size, Sharding.COLUMN)
    return Draft(
        layers=tuple(like[letter] for letter in pattern),
        modules=1,
        names=tuple(f"mtp.layers.{index}" for index in range(len(pattern))),
        outside=(projection, *norms(shape.hidden_size, 3, "draft_norm")),
    )


def _qwen3_next(config: Config, shape: ModelShape) -> Draft | None:
    return _mtp(config, shape, _count(config, 1), routed=sparse_layers(config, 1)[0])


def _qwen3_5(config: Config, shape: ModelShape) -> Draft | None:
    text = config.section("text_config") or config
    count = text.integer("mtp_num_hidden_layers", minimum=0, maximum=MAX_LAYERS, default=1)
    return _mtp(config, shape, count, routed=shape.experts is not None)


def _mtp(config: Config, shape: ModelShape, count: int, *, routed: bool) -> Draft | None:
    """Layers of full attention under a name of their own, with one projection and three norms for all of them."""
    if not count:
        return None
    hidden = shape.hidden_size
    # A checkpoint in NVFP4 never has the projection quantized, whether its list says so or not.
    plain = shape.quantization is not None and shape.quantization.weights is WeightFormat.NVFP4
    projection = linear("fc", hidden, 2 * hidden, Sharding.COLUMN, quantized=not plain)
    return Draft(
        layers=(_like(config, shape, routed=routed),) * count,
        modules=count,
        names=tuple(f"mtp.layers.{index}" for index in range(count)),
        outside=(projection, *norms(hidden, 3, "draft_norm")),
        apart=(embedding("embed_tokens", shape.vocab_size, hidden),),
    )


def _like(config: Config, shape: ModelShape, *, routed: bool, attends: bool = True) -> Layer:
    """A layer of the model that attends and is routed, or is not.

    Raises:
        UnsupportedModelError: the model has none.
    """
    for layer in shape.layers:
        is_routed = any(tensor.expert for tensor in layer.tensors)
        if is_routed == routed and bool(layer.attentions) == attends:
            return layer
    raise config.refuse("num_hidden_layers", "no layer of the model is like its draft layers", _WAY_OUT)


_BUILDERS: Final[dict[str, Builder]] = {
    "DeepseekV3ForCausalLM": _deepseek,
    "DeepseekV32ForCausalLM": _deepseek,
    "DeepseekV4ForCausalLM": _deepseek_v4,
    "GlmMoeDsaForCausalLM": _deepseek,
    "Glm4MoeLiteForCausalLM": _deepseek,
    "Glm4MoeForCausalLM": _glm4_moe,
    "MiMoForCausalLM": _mimo,
    "Ernie4_5_MoeForCausalLM": _ernie,
    "NemotronHForCausalLM": _nemotron,
    "Qwen3NextForCausalLM": _qwen3_next,
    "Qwen3_5ForCausalLM": _qwen3_5,
    "Qwen3_5MoeForCausalLM": _qwen3_5,
    "Qwen3_5ForConditionalGeneration": _qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": _qwen3_5,
}
