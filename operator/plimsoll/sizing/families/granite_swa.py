"""Granite with sliding windows: sinks in every layer, a rotary base for each, dense or routed MLPs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.families.mixed_layers import FULL, KINDS, SLIDING, read_checked, window_caches
from plimsoll.sizing.families.mixers import plain_heads
from plimsoll.sizing.families.parts import (
    Body,
    attention,
    bias_of,
    decoder,
    each,
    layer_types,
    norms,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_STEP: Final = 4  # without a list the first of so many layers is full
_MAX_THETA: Final = 1e30
_THETA: Final = 10000.0  # the base that Transformers takes where nothing says one


def dense(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/granite.py."""
    body = _body(config, architecture, model_type, {"num_key_value_heads": 4})
    bias = config.flag("attention_bias", default=False) or config.flag("bias", default=False)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    mlp = gated_mlp("mlp", body.hidden, intermediate)
    if config.flag("mlp_bias", default=False):
        mlp = (*mlp, *map(bias_of, mlp))
    tensors = (*attention(body, query_bias=bias, output_bias=bias), *mlp)
    return _shape(body, tensors, intermediate=intermediate, tied=True)


def mixture(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/granitemoeshared.py."""
    body = plain_heads(_body(config, architecture, model_type, {}, refused=("attention_bias",)))
    shared = config.integer("shared_intermediate_size", minimum=0, maximum=MAX_WIDTH, default=0)
    experts = read_experts(config, count="num_local_experts", width="intermediate_size", shared=shared)
    tensors = (*attention(body), *routed("block_sparse_moe", body.hidden, experts), *_shared(body, shared))
    return whole_on_every_stage(_shape(body, tensors, experts=experts))


def _body(
    config: Config,
    architecture: str,
    model_type: str,
    defaults: Mapping[str, object],
    refused: tuple[str, ...] = (),
) -> Body:
    return read_checked(
        config, architecture, model_type, defaults={"sliding_window": 128, **defaults}, refused=refused
    )


def _shape(
    body: Body,
    tensors: tuple[Tensor, ...],
    *,
    intermediate: int = 0,
    experts: MixtureOfExperts | None = None,
    tied: bool = False,
) -> ModelShape:
    """The layers with their norms and sinks, and a rotary table for each base."""
    config = body.config
    kinds = layer_types(config, body.layers, KINDS) or tuple(
        SLIDING if index % _STEP else FULL for index in range(body.layers)
    )
    sinks = Tensor(name="self_attn.sinks", rows=body.heads, sharding=Sharding.COLUMN)
    own = (sinks,) if config.flag("attention_sinks", default=True) else ()
    rope, bases = read_rope(body), _bases(body)
    shape = decoder(
        body,
        each(window_caches(body, kinds), (*tensors, *own, *norms(body.hidden, 2))),
        rope=rope if bases else None,
        intermediate=intermediate,
        experts=experts,
        tied=tied,
    )
    return replace(shape, other_ropes=(rope,) * (len(bases) - 1), max_model_len=rope.max_model_len)


def _bases(body: Body) -> frozenset[float]:
    """The distinct bases of the layers that turn; 0 is one that does not."""
    config, field = body.config, "layer_rope_theta"
    listed = config.values.get(field)
    if listed is None:
        section = config.section("rope_parameters") or config.section("rope_scaling") or config
        holder = section if section.values.get("rope_theta") is not None else config
        theta = holder.number("rope_theta", default=_THETA, minimum=0.0, maximum=_MAX_THETA)
        return frozenset({theta} - {0.0})
    if not isinstance(listed, (list, tuple)) or len(listed) != body.layers:
        raise config.refuse(field, f"it must have a base for each of {body.layers} layers")
    holders = (Config({field: item}, config.path) for item in listed)
    bases = {holder.number(field, default=-1.0, minimum=0.0, maximum=_MAX_THETA) for holder in holders}
    if -1.0 in bases:
        raise config.refuse(field, "it must have a number for each layer")
    return frozenset(bases - {0.0})


def _shared(body: Body, width: int) -> tuple[Tensor, ...]:
    """The MLP that every token passes; its fused projection in is one module of the checkpoint."""
    if not width:
        return ()
    gate, up, down = gated_mlp("shared_mlp", body.hidden, width)
    return (
        replace(gate, name="shared_mlp.input_linear"),
        replace(up, name="shared_mlp.input_linear.up"),
        replace(down, name="shared_mlp.output_linear"),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "GraniteSWAForCausalLM": (dense, ("granite_swa",)),
    "GraniteMoeSWAForCausalLM": (mixture, ("granitemoe_swa",)),
}
