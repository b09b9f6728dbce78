"""Hybrids of gated delta nets and gated attention: Qwen3-Next, Qwen3.5 and 3.6."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixture import MTP, shared_expert, sparse_layers
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    Body,
    attention,
    decoder,
    layer_types,
    linear,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_ROTATED: Final = 0.25  # of a head, where the config leaves partial_rotary_factor out
_STATE_DTYPES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_MARLIN_METHODS: Final = ("awq", "gptq")
_MAX_KERNEL: Final = 64


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/qwen3_next.py and qwen3_5.py."""
    body = read_body(config, architecture, model_type)
    kinds = layer_types(config, body.layers, ("linear_attention", "full_attention")) or _interval(body)
    experts = _experts(config)
    is_sparse = sparse_layers(config, body.layers) if experts else (False,) * body.layers
    intermediate = 0
    if not all(is_sparse):
        intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    state = _state(config, model_type)
    made: dict[tuple[str, bool], Layer] = {}
    for kind, sparse in set(zip(kinds, is_sparse, strict=True)):
        mlp = _mlp(body, experts if sparse else None, intermediate)
        common = (*norms(body.hidden, 2), *mlp)
        if kind == "linear_attention":
            made[kind, sparse] = Layer(cache=state, tensors=(*_delta(body, state), *common), attentions=0)
        else:
            made[kind, sparse] = Layer(cache=body.full, tensors=(*_attention(body), *common))
    rope = read_rope(body, rotary_dim=rotary_dim_of(config, body.head_size, default=_ROTATED))
    layers = [made[key] for key in zip(kinds, is_sparse, strict=True)]
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, experts=experts)
    extra = config.integer("mtp_num_hidden_layers", maximum=body.layers, minimum=0, default=0)
    outputs = () if shape.tied_embeddings else shape.first_stage
    everywhere = model_type.startswith("qwen3_next")  # the output layer; the embedding is in both classes
    return replace(
        shape,
        unloaded=MTP if extra else None,
        mixer_width=_mixer_width(config, state),
        first_stage=(),
        every_stage=(*shape.first_stage, *(outputs if everywhere else ())),
        last_stage=(*shape.last_stage, *(() if everywhere else outputs)),
    )


def _interval(body: Body) -> tuple[str, ...]:
    every = body.config.integer("full_attention_interval", maximum=body.layers, default=4)
    return tuple(
        "linear_attention" if (index + 1) % every else "full_attention" for index in range(body.layers)
    )


def _experts(config: Config) -> MixtureOfExperts | None:
    if not config.values.get("num_experts"):
        return None
    shared = config.integer("shared_expert_intermediate_size", maximum=MAX_WIDTH, minimum=0)
    return read_experts(config, count="num_experts", width="moe_intermediate_size", shared=shared)


def _mlp(body: Body, experts: MixtureOfExperts | None, intermediate: int) -> tuple[Tensor, ...]:
    if experts is None:
        return gated_mlp("mlp", body.hidden, intermediate)
    return (
        *routed("mlp", body.hidden, experts),
        *shared_expert(body, experts.shared_intermediate_size),
    )


def _attention(body: Body) -> tuple[Tensor, ...]:
    gated = body.config.flag("attn_output_gate", default=True)
    bias = body.config.flag("qkv_bias", default=False)
    return (
        *attention(body, gated=gated, query_bias=bias),
        *norms(body.head_size, 2, "self_attn.head_norm"),
    )


def _state(config: Config, model_type: str) -> RecurrentState:
    keys = config.integer("linear_num_key_heads", maximum=MAX_HEADS)
    values = config.integer("linear_num_value_heads", maximum=MAX_HEADS)
    key_size = config.integer("linear_key_head_dim", maximum=MAX_WIDTH)
    value_size = config.integer("linear_value_head_dim", maximum=MAX_WIDTH)
    kernel = config.integer("linear_conv_kernel_dim", maximum=_MAX_KERNEL, minimum=2)
    own = None
    if not model_type.startswith("qwen3_next") and config.values.get("mamba_ssm_dtype") is not None:
        name = config.text("mamba_ssm_dtype")
        if name not in _STATE_DTYPES:
            raise config.refuse("mamba_ssm_dtype", f"it must be one of {', '.join(_STATE_DTYPES)}")
        own = _STATE_DTYPES[name]
    return RecurrentState(
        name="gated delta net",
        conv_channels=2 * keys * key_size + values * value_size,
        conv_rows=kernel - 1,
        state_elements=values * value_size * key_size,
        state_element_bytes=own,
        checkpoints=1,
        alignment=64,
    )


def _mixer_width(config: Config, state: RecurrentState) -> int:
    values = config.integer("linear_num_value_heads", maximum=MAX_HEADS) * config.integer(
        "linear_value_head_dim", maximum=MAX_WIDTH
    )
    return state.conv_channels + 3 * values


def _delta(body: Body, state: RecurrentState) -> tuple[Tensor, ...]:
    config = body.config
    keys = config.integer("linear_num_key_heads", maximum=MAX_HEADS) * config.integer(
        "linear_key_head_dim", maximum=MAX_WIDTH
    )
    heads = config.integer("linear_num_value_heads", maximum=MAX_HEADS)
    size = config.integer("linear_value_head_dim", maximum=MAX_WIDTH)
    values = heads * size
    name = "linear_attn"
    qkvz = _projections(body, name, keys=keys, values=values, heads=heads)
    return (
        *qkvz,
        Tensor(
            name=f"{name}.conv1d",
            rows=2 * keys + values,
            columns=state.conv_rows + 1,
            sharding=Sharding.COLUMN,
        ),
        Tensor(name=f"{name}.dt_bias", rows=heads, sharding=Sharding.COLUMN),
        Tensor(name=f"{name}.A_log", rows=heads, sharding=Sharding.COLUMN, element_bytes=FLOAT32_BYTES),
        Tensor(name=f"{name}.norm", rows=size),
        linear(f"{name}.out_proj", body.hidden, values, Sharding.ROW),
    )


def _projections(body: Body, name: str, *, keys: int, values: int, heads: int) -> tuple[Tensor, ...]:
    """Qwen3-Next stores them fused, its successors apart."""
    if body.model_type.startswith("qwen3_next"):
        return (
            linear(f"{name}.in_proj_qkvz", 2 * keys + 2 * values, body.hidden, Sharding.COLUMN),
            linear(f"{name}.in_proj_ba", 2 * heads, body.hidden, Sharding.COLUMN),
        )
    # Marlin needs wider outputs than a rank's share of these, so they stay whole beside its formats.
    section = body.config.section("quantization_config")
    marlin = section is not None and section.values.get("quant_method") in _MARLIN_METHODS
    gates = Sharding.REPLICATED if marlin else Sharding.COLUMN
    return (
        replace(linear(f"{name}.in_proj_qkv", 2 * keys + values, body.hidden, Sharding.COLUMN), partitions=3),
        replace(linear(f"{name}.in_proj_z", values, body.hidden, Sharding.COLUMN), follows=True),
        linear(f"{name}.in_proj_b", heads, body.hidden, gates),
        replace(linear(f"{name}.in_proj_a", heads, body.hidden, gates), follows=True),
    )


FAMILIES: Final = {
    "Qwen3NextForCausalLM": (build, ("qwen3_next",)),
    "Qwen3_5ForCausalLM": (build, ("qwen3_5_text",)),
    "Qwen3_5MoeForCausalLM": (build, ("qwen3_5_moe_text",)),
}
