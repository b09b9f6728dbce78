"""PLaMo 3: windows in all layers but every n-th, with a rotary table for each of the two kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    attention,
    decoder,
    each,
    norms,
    read_body,
    whole_on_every_stage,
    without_attention_scales,
)
from plimsoll.sizing.layers import SlidingWindow
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import MAX_ROPE_FACTOR, Rope

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Body, Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape

_LOCAL_BASE: Final = 10_000  # of the class of the config
_PADDING: Final = 16  # rows that vLLM's class rounds the output layer up to, beside its usual padding
# Releases of the class of the config differ in what they take for these.
_NEEDED: Final = ("head_dim", "num_key_value_heads", "sliding_window_pattern")
_REFUSED: Final = ("attention_bias", "model_max_length", "partial_rotary_factor")


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/plamo3.py, and the class of the config that comes with the models."""
    for name in _NEEDED:
        if config.values.get(name) is None:
            raise config.refuse(name, "vLLM needs a number there")
    for name in _REFUSED:
        if config.values.get(name):
            raise config.refuse(name, f"vLLM's {architecture} does not build it", WAY_OUT)
    body = read_body(config, architecture, model_type)
    if body.vocab % _PADDING:
        raise config.refuse("vocab_size", f"only a multiple of {_PADDING} can be sized here", WAY_OUT)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    tensors = (
        *attention(body),
        *gated_mlp("mlp", body.hidden, intermediate),
        *norms(body.hidden, 4),
        *norms(body.head_size, 2, "self_attn.head_norm"),
    )
    caches = _caches(body)
    ropes = _ropes(body, caches)
    shape = decoder(body, each(caches, tensors), rope=ropes[0], intermediate=intermediate, tied=True)
    return whole_on_every_stage(without_attention_scales(replace(shape, other_ropes=ropes[1:])))


def _caches(body: Body) -> tuple[CacheKind, ...]:
    """Full attention in every n-th layer, a window in the others."""
    config = body.config
    every = config.integer("sliding_window_pattern", maximum=MAX_LAYERS)
    window = SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=_window(config))
    return tuple(window if (index + 1) % every else body.full for index in range(body.layers))


def _window(config: Config) -> int:
    """The window under its name, and under the one of the first releases: a number, or a list with it and nulls."""
    older = config.values.get("sliding_window")
    if isinstance(older, (list, tuple)):
        lengths = {length for length in older if isinstance(length, int)}
        if len(lengths) != 1 or any(not isinstance(length, int) and length is not None for length in older):
            raise config.refuse("sliding_window", "it must have one length, and null")
        (older,) = lengths
    holder = replace(config, values={**config.values, "sliding_window": older})
    window = holder.optional_integer("window_size", maximum=MAX_TOKENS)
    if window is None:
        return holder.integer("sliding_window", maximum=MAX_TOKENS)
    if older not in (None, window):
        raise config.refuse("sliding_window", "it contradicts window_size")
    return window


def _ropes(body: Body, caches: tuple[CacheKind, ...]) -> tuple[Rope, ...]:
    """The tables of the kinds of layers that there are: the one of full attention may be scaled."""
    config = body.config
    local = Rope(positions=body.positions, rotary_dim=body.head_size, max_model_len=body.positions)
    whole = local
    factor = config.number("rope_scaling_factor", default=1.0, minimum=1.0, maximum=MAX_ROPE_FACTOR)
    if factor != 1:
        original = config.integer("initial_context_length", maximum=MAX_TOKENS)
        whole = replace(local, positions=int(original * factor))
    elif config.values.get("initial_context_length") is not None:
        raise config.refuse("initial_context_length", "it needs a rope_scaling_factor", WAY_OUT)
    base = config.values.get("rope_local_theta", _LOCAL_BASE)
    for name in ("rope_theta", "rope_global_theta"):
        if config.values.get(name) == base:
            raise config.refuse(name, "only another than rope_local_theta can be sized", WAY_OUT)
    sliding = [isinstance(cache, SlidingWindow) for cache in caches]
    return ((whole,) if not all(sliding) else ()) + ((local,) if any(sliding) else ())


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {"Plamo3ForCausalLM": (build, ("plamo3",))}
