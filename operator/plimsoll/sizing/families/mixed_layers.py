"""What decoders share whose layers differ twice: in what they attend to, and in whether they are routed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_TOKENS, Config
from plimsoll.sizing.families.mixture import MTP
from plimsoll.sizing.families.parts import WAY_OUT, Body, layer_types, read_body
from plimsoll.sizing.families.plain import renamed
from plimsoll.sizing.layers import SlidingWindow
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape
    from plimsoll.sizing.tensors import Tensor

FULL, SLIDING = "full_attention", "sliding_attention"
KINDS: Final = (FULL, SLIDING)
_NOT_COUNTED: Final = "nobody held the draft layers of this class against the engine"
_MLPS: Final = ("dense", "sparse")


def read_checked(
    config: Config,
    architecture: str,
    model_type: str,
    *,
    defaults: Mapping[str, object] | None = None,
    refused: Sequence[str] = (),
    needed: Sequence[str] = (),
) -> Body:
    """The common fields, with what the Transformers class takes for fields that are absent.

    Raises:
        UnsupportedModelError: a field that asks for what the class does not build, or one that it cannot do without.
    """
    for name in refused:
        if config.values.get(name):
            raise config.refuse(name, f"vLLM's {architecture} does not build it", WAY_OUT)
    for name in needed:
        if config.values.get(name) is None:
            raise config.refuse(name, f"vLLM's {architecture} needs it", WAY_OUT)
    if config.text("hidden_act", default="silu") != "silu":
        raise config.refuse("hidden_act", f"vLLM's {architecture} has silu only", WAY_OUT)
    return read_body(renamed(config, {}, defaults or {}), architecture, model_type)


def window_kinds(body: Body, pattern: str) -> tuple[str, ...]:
    """The kind of each layer as listed, else every n-th full."""
    listed = layer_types(body.config, body.layers, KINDS)
    if listed:
        return listed
    every = body.config.integer(pattern, maximum=MAX_LAYERS)
    return tuple(SLIDING if (index + 1) % every else FULL for index in range(body.layers))


def window_caches(body: Body, kinds: Sequence[str], *, plus: int = 0) -> tuple[CacheKind, ...]:
    """The cache of each layer, where all windows have one length."""
    if SLIDING not in kinds:
        return (body.full,) * body.layers
    window = body.config.integer("sliding_window", maximum=MAX_TOKENS) + plus
    sliding = SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=window)
    return tuple(sliding if kind == SLIDING else body.full for kind in kinds)


def mlp_kinds(body: Body) -> tuple[bool, ...]:
    """Which layers are routed, as mlp_layer_types lists them or first_k_dense_replace says."""
    listed = body.config.texts("mlp_layer_types")
    if not listed:
        first = body.config.integer("first_k_dense_replace", minimum=0, maximum=MAX_LAYERS)
        return behind_dense(body, first)
    if len(listed) != body.layers or not set(listed) <= set(_MLPS):
        raise body.config.refuse(
            "mlp_layer_types", f"it must name {body.layers} layers as {_MLPS[0]} or {_MLPS[1]}"
        )
    return tuple(kind == "sparse" for kind in listed)


def mixed(
    common: tuple[Tensor, ...],
    caches: Sequence[CacheKind],
    is_sparse: Sequence[bool],
    *,
    dense: tuple[Tensor, ...],
    sparse: tuple[Tensor, ...],
) -> tuple[Layer, ...]:
    """The layers of each cache and each MLP; equal ones are one object."""
    pairs = list(zip(caches, is_sparse, strict=True))
    made = {
        (cache, flag): Layer(cache=cache, tensors=(*common, *(sparse if flag else dense)))
        for cache, flag in dict.fromkeys(pairs)
    }
    return tuple(made[pair] for pair in pairs)


def shared_mlp(body: Body, name: str, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    """What every token passes beside its experts."""
    if not experts.shared_intermediate_size:
        return ()
    return gated_mlp(name, body.hidden, experts.shared_intermediate_size)


def with_predicted(shape: ModelShape, config: Config) -> ModelShape:
    """Layers for speculative decoding, which the files hold and the engine does not load with the model."""
    if not config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0):
        return shape
    return replace(shape, unloaded=MTP, uncounted_draft=_NOT_COUNTED)


def behind_dense(body: Body, first: int) -> tuple[bool, ...]:
    """Which layers are routed, where some at the front are not."""
    return tuple(index >= first for index in range(body.layers))
