"""OLMo Hybrid: gated delta nets with attention in every fourth layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.granite import layer_kinds
from plimsoll.sizing.families.mixers import plain_heads, read_kernel
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    linear,
    norms,
    read_body,
    read_rope,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.rope import Rope


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/olmo_hybrid.py and layers/mamba/gdn/olmo_gdn_linear_attn.py."""
    body = plain_heads(read_body(config, architecture, model_type))
    _unpacked(config)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    kinds = layer_kinds(body, "layer_types", attention=("full_attention",), states=("linear_attention",))
    if all(kinds):
        raise config.refuse("layer_types", "no layer of linear attention is left")
    common = (*gated_mlp("mlp", body.hidden, intermediate), *norms(body.hidden, 2))
    head_norms = (
        *norms(body.hidden, 1, "self_attn.q_norm"),
        *norms(body.kv_heads * body.head_size, 1, "self_attn.k_norm"),
    )
    state, mixer, width = _delta(body)
    made = {
        True: Layer(cache=body.full, tensors=(*attention(body), *head_norms, *common)),
        False: Layer(cache=state, tensors=(*mixer, *common), attentions=0),
    }
    layers = [made[attends] for attends in kinds]
    shape = decoder(body, layers, rope=_rope(body), intermediate=intermediate)
    return whole_on_every_stage(replace(shape, mixer_width=width))


def _unpacked(config: Config) -> None:
    """Refuse formats in groups, whose kernels need wider outputs than the gates of a delta net have.

    Raises:
        UnsupportedModelError: it is one.
    """
    quantization = quantization_from_config(config)
    if quantization is not None and quantization.grouped:
        section = config.section("quantization_config") or config
        raise section.refuse(
            "quant_method",
            f"{quantization.weights} weights of this model are not ones that can be sized",
            WAY_OUT,
        )


def _rope(body: Body) -> Rope | None:
    """No rotation where the config says null for its base; without a word the base is the library's."""
    section = body.config.section("rope_parameters")
    if section is not None and "rope_theta" in section.values and section.values["rope_theta"] is None:
        return None
    return read_rope(body)


def _delta(body: Body) -> tuple[RecurrentState, tuple[Tensor, ...], int]:
    """The state of a gated delta net, its tensors and its width."""
    config, name = body.config, "linear_attn"
    heads = config.integer("linear_num_value_heads", maximum=MAX_HEADS)
    size = config.integer("linear_value_head_dim", maximum=MAX_WIDTH)
    key_heads = config.integer("linear_num_key_heads", maximum=MAX_HEADS)
    key_size = config.integer("linear_key_head_dim", maximum=MAX_WIDTH)
    kernel = read_kernel(config, "linear_conv_kernel_dim")
    keys, values = key_heads * key_size, heads * size
    query = linear(f"{name}.q_proj", keys, body.hidden, Sharding.COLUMN)
    gates = linear(f"{name}.b_proj", heads, body.hidden, Sharding.COLUMN)
    conv = Tensor(name=f"{name}.conv1d", rows=keys, columns=kernel, sharding=Sharding.COLUMN)
    per_head = Tensor(name=f"{name}.dt_bias", rows=heads, sharding=Sharding.COLUMN)
    tensors = (
        query,
        replace(query, name=f"{name}.k_proj", follows=True),
        replace(query, name=f"{name}.v_proj", rows=values, follows=True),
        replace(query, name=f"{name}.g_proj", rows=values, follows=True),
        gates,
        replace(gates, name=f"{name}.a_proj"),
        conv,
        replace(conv, follows=True),
        replace(conv, rows=values, follows=True),
        per_head,
        replace(per_head, name=f"{name}.A_log"),
        *norms(size, 1, f"{name}.o_norm"),
        linear(f"{name}.o_proj", body.hidden, values, Sharding.ROW),
    )
    state = RecurrentState(
        name="gated delta net",
        conv_channels=2 * keys + values,
        conv_rows=kernel - 1,
        state_elements=values * key_size,
    )
    return state, tensors, 2 * keys + 4 * values


FAMILIES: Final = {"OlmoHybridForCausalLM": (build, ("olmo_hybrid",))}
