"""LFM2: gated short convolutions with attention in some layers, an MLP or experts behind each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.granite import layer_kinds
from plimsoll.sizing.families.mixers import SCALARS, plain_heads, read_kernel, short_conv
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Tensor
from plimsoll.units import round_up

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

MOE: Final = "lfm2_moe"
_NAMES: Final = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2", "o_proj": "out_proj"}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/lfm2.py and lfm2_moe.py."""
    body = plain_heads(read_body(config, architecture, model_type))
    attends = _attends(body)
    kernel = read_kernel(config, "conv_L_cache")
    sparse, experts, width = (False,) * body.layers, None, 0
    if model_type == MOE:
        first = config.integer("num_dense_layers", maximum=MAX_LAYERS, minimum=0)
        sparse = tuple(index >= first for index in range(body.layers))
        experts = read_experts(config, count="num_experts", width="moe_intermediate_size")
        width = config.integer("intermediate_size", maximum=MAX_WIDTH)
    else:
        _same_width(body, "block_dim", "conv_dim")
        width = _adjusted_width(config)
    made = {
        key: _layer(body, kernel, attends=key[0], width=width, experts=experts if key[1] else None)
        for key in sorted(set(zip(attends, sparse, strict=True)))
    }
    layers = [made[key] for key in zip(attends, sparse, strict=True)]
    shape = decoder(
        body,
        layers,
        rope=read_rope(body),
        intermediate=0 if all(sparse) else width,
        experts=experts if any(sparse) else None,
    )
    # The embedding stands on every stage, and the output layer is always tied to it.
    return replace(
        shape,
        first_stage=(),
        every_stage=shape.first_stage,
        tied_embeddings=True,
        mixer_width=5 * body.hidden,
    )


def _attends(body: Body) -> tuple[bool, ...]:
    """Which layers hold attention, listed by kind or by number."""
    numbers = body.config.values.get("full_attn_idxs")
    if body.config.values.get("layer_types") is not None or body.model_type == MOE or numbers is None:
        return layer_kinds(body, "layer_types", attention=("full_attention",), states=("conv", "short_conv"))
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        raise body.config.refuse("full_attn_idxs", "it must be a list of layer numbers")
    known = set(numbers)
    attends = tuple(index in known for index in range(body.layers))
    if not any(attends):
        raise body.config.refuse("full_attn_idxs", "no layer of attention is left")
    return attends


def _same_width(body: Body, *fields: str) -> None:
    for field in fields:
        if body.config.integer(field, maximum=MAX_WIDTH) != body.hidden:
            raise body.config.refuse(field, f"it must be the hidden size, {body.hidden}")


def _adjusted_width(config: Config) -> int:
    """The width of the MLP: two thirds of what the config names, times a factor, rounded up."""
    named = "block_ff_dim" if config.values.get("block_ff_dim") is not None else "intermediate_size"
    width = config.integer(named, maximum=MAX_WIDTH)
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    factor = config.number(
        "block_ffn_dim_multiplier", default=1.0, minimum=1 / MAX_WIDTH, maximum=float(MAX_WIDTH)
    )
    multiple = config.integer("block_multiple_of", maximum=MAX_WIDTH, default=256)
    return round_up(int(factor * int(2 * width / 3)), multiple)


def _layer(body: Body, kernel: int, *, attends: bool, width: int, experts: MixtureOfExperts | None) -> Layer:
    config = body.config
    if experts is None:
        behind = gated_mlp("feed_forward", body.hidden, width)
    else:
        router, *weights = routed("feed_forward", body.hidden, experts)
        behind = (replace(router, quantized=True), *weights)
        if config.flag("use_expert_bias", default=True):
            bias = Tensor(
                name="feed_forward.expert_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES
            )
            behind = (*behind, bias)
    common = (*_renamed(behind), *norms(body.hidden, 2))
    if attends:
        mixer = (*_renamed(attention(body)), *norms(body.head_size, 2, "self_attn.head_norm"))
        return Layer(cache=body.full, tensors=(*mixer, *common), attentions=0, buffers=SCALARS)
    conv = short_conv(body.hidden, kernel, bias=config.flag("conv_bias", default=False))
    state = RecurrentState(name="short convolution", conv_channels=body.hidden, conv_rows=kernel - 1)
    return Layer(cache=state, tensors=(*conv, *common), attentions=0)


def _renamed(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same tensors under the names that these checkpoints have for them."""
    named = []
    for tensor in tensors:
        path, _, last = tensor.name.rpartition(".")
        named.append(replace(tensor, name=f"{path}.{_NAMES.get(last, last)}"))
    return tuple(named)


FAMILIES: Final = {
    "Lfm2ForCausalLM": (build, ("lfm2",)),
    "Lfm2MoeForCausalLM": (build, (MOE,)),
}
