"""Granite 4: Mamba 2 or attention in each layer, and behind it experts, a shared MLP or both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixers import (
    Mamba2,
    checked_heads,
    plain_heads,
    read_expanded,
    read_kernel,
    whole_groups,
)
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape
    from plimsoll.sizing.tensors import Tensor

_ATTENTION: Final = ("attention", "full_attention")
_STATES: Final = ("mamba", "linear_attention")


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/granitemoehybrid.py."""
    body = plain_heads(read_body(config, architecture, model_type))
    kinds = layer_kinds(body, "layer_types", attention=_ATTENTION, states=_STATES)
    shared = config.integer("shared_intermediate_size", maximum=MAX_WIDTH, minimum=0)
    experts = _experts(config, shared)
    behind = (*norms(body.hidden, 2), *_behind(body, experts, shared))
    bias = config.flag("attention_bias", default=False)
    attends = (*attention(body, query_bias=bias, output_bias=bias), *behind)
    made = {True: Layer(cache=body.full, tensors=attends)}
    width = 0
    if not all(kinds):
        mixer = read_mixer(config, inner=read_expanded(config, "mamba_expand", body.hidden))
        width = mixer.width
        made[False] = Layer(
            cache=mixer.cache,
            tensors=(*mixer.tensors(body.hidden), *behind),
            attentions=0,
            buffers=mixer.conv("mixer"),
        )
    rope = read_rope(body)
    rotates = config.text("position_embedding_type", default="nope") == "rope"
    shape = decoder(
        body,
        [made[attends] for attends in kinds],
        rope=rope if rotates else None,
        intermediate=0 if experts else shared,
        experts=experts,
    )
    return whole_on_every_stage(replace(shape, mixer_width=width, max_model_len=rope.max_model_len))


def layer_kinds(
    body: Body, field: str, *, attention: tuple[str, ...], states: tuple[str, ...]
) -> tuple[bool, ...]:
    """Which layers hold attention, as the config lists them.

    Raises:
        UnsupportedModelError: no such list, or no attention in it.
    """
    kinds = body.config.texts(field)
    if len(kinds) != body.layers or not set(kinds) <= {*attention, *states}:
        raise body.config.refuse(
            field, f"it must name {body.layers} layers as {attention[0]} or {states[0]}", WAY_OUT
        )
    if not set(kinds) & set(attention):
        raise body.config.refuse(field, "no layer of attention is left", WAY_OUT)
    return tuple(kind in attention for kind in kinds)


def read_mixer(config: Config, *, inner: int, gated_norm: bool = True) -> Mamba2:
    """The widths of Mamba 2, under the names of Granite 4 and Falcon-H1."""
    heads = config.integer("mamba_n_heads", maximum=MAX_HEADS)
    checked_heads(config, "mamba_d_head", heads=heads, inner=inner)
    return whole_groups(
        config,
        "mamba_n_groups",
        Mamba2(
            heads=heads,
            inner=inner,
            groups=config.integer("mamba_n_groups", maximum=heads),
            state=config.integer("mamba_d_state", maximum=MAX_WIDTH),
            kernel=read_kernel(config, "mamba_d_conv"),
            conv_bias=config.flag("mamba_conv_bias", default=True),
            bias=config.flag("mamba_proj_bias", default=False),
            gated_norm=gated_norm,
        ),
    )


def _experts(config: Config, shared: int) -> MixtureOfExperts | None:
    if not config.integer("num_local_experts", maximum=MAX_EXPERTS, minimum=0):
        return None
    return read_experts(config, count="num_local_experts", width="intermediate_size", shared=shared)


def _behind(body: Body, experts: MixtureOfExperts | None, shared: int) -> tuple[Tensor, ...]:
    """What follows the mixer; the fused projection in is one module of the checkpoint."""
    sparse = () if experts is None else routed("block_sparse_moe", body.hidden, experts)
    if not shared:
        return sparse
    gate, up, down = gated_mlp("shared_mlp", body.hidden, shared)
    return (
        *sparse,
        replace(gate, name="shared_mlp.input_linear"),
        replace(up, name="shared_mlp.input_linear.up"),
        replace(down, name="shared_mlp.output_linear"),
    )


FAMILIES: Final = {"GraniteMoeHybridForCausalLM": (build, ("granitemoehybrid",))}
