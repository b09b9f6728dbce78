"""Jamba: Mamba 1 with attention in every n-th layer, an MLP or experts behind each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixers import (
    SCALARS,
    Mamba1,
    plain_heads,
    read_expanded,
    read_kernel,
    read_rank,
)
from plimsoll.sizing.families.parts import (
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/jamba.py."""
    body = plain_heads(read_body(config, architecture, model_type))
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    attends = _every(body, "attn_layer_period", "attn_layer_offset")
    experts = _experts(config)
    sparse = (False,) * body.layers
    if experts is not None:
        sparse = _every(body, "expert_layer_period", "expert_layer_offset")
    if not any(attends):
        raise config.refuse("attn_layer_period", "no layer of attention is left")
    mixer = _mixer(body)
    made = {
        key: _layer(body, mixer, attends=key[0], experts=experts if key[1] else None)
        for key in sorted(set(zip(attends, sparse, strict=True)))
    }
    layers = [made[key] for key in zip(attends, sparse, strict=True)]
    shape = decoder(
        body,
        layers,
        rope=None,
        intermediate=0 if all(sparse) else intermediate,
        experts=experts if any(sparse) else None,
    )
    # The class never ties its output layer, whatever the config says.
    return whole_on_every_stage(replace(shape, mixer_width=mixer.width, tied_embeddings=False))


def _every(body: Body, period: str, offset: str) -> tuple[bool, ...]:
    step = body.config.integer(period, maximum=MAX_LAYERS)
    first = body.config.integer(offset, maximum=step - 1, minimum=0)
    return tuple(index % step == first for index in range(body.layers))


def _experts(config: Config) -> MixtureOfExperts | None:
    if config.integer("num_experts", maximum=MAX_EXPERTS) == 1:
        return None
    return read_experts(config, count="num_experts", width="intermediate_size")


def _mixer(body: Body) -> Mamba1:
    config = body.config
    return Mamba1(
        inner=read_expanded(config, "mamba_expand", body.hidden),
        state=config.integer("mamba_d_state", maximum=MAX_WIDTH),
        kernel=read_kernel(config, "mamba_d_conv"),
        rank=read_rank(config, "mamba_dt_rank", body.hidden),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        bias=config.flag("mamba_proj_bias", default=False),
        normed=True,
    )


def _layer(body: Body, mixer: Mamba1, *, attends: bool, experts: MixtureOfExperts | None) -> Layer:
    width = body.config.integer("intermediate_size", maximum=MAX_WIDTH)
    if experts is None:
        behind = gated_mlp("feed_forward", body.hidden, width)
    else:
        behind = routed("feed_forward", body.hidden, experts)
    tensors = (*norms(body.hidden, 2), *behind)
    if attends:
        return Layer(cache=body.full, tensors=(*attention(body), *tensors), attentions=0, buffers=SCALARS)
    return Layer(cache=mixer.cache, tensors=(*mixer.tensors(body.hidden, "mixer"), *tensors), attentions=0)


FAMILIES: Final = {"JambaForCausalLM": (build, ("jamba",))}
