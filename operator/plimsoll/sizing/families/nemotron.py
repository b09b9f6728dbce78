"""Nemotron-H: one mixer in each layer, Mamba 2, attention, an MLP or experts, as a pattern spells it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixture import MTP
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    decoder,
    linear,
    norms,
    read_body,
    read_experts,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import NoCache, RecurrentState
from plimsoll.sizing.model import Layer
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_MAX_KERNEL: Final = 64
_STATE_DTYPES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mamba:
    """Widths of a Mamba 2 mixer."""

    heads: int
    inner: int
    groups: int
    state: int
    kernel: int
    state_element_bytes: int


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/nemotron_h.py and layers/mamba/mamba_mixer2.py."""
    body = read_body(config, architecture, model_type)
    pattern = config.text("hybrid_override_pattern")
    if len(pattern) != body.layers or set(pattern) - set("M*-E"):
        raise config.refuse(
            "hybrid_override_pattern", f"it must spell {body.layers} layers with M, *, - and E", WAY_OUT
        )
    for field in ("use_bias", "mlp_bias", "attention_bias", "mamba_proj_bias"):
        if config.flag(field, default=False):
            raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)
    experts = _experts(config) if "E" in pattern else None
    intermediate = 0
    if "-" in pattern:
        intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    made = {letter: _layer(letter, body, experts, intermediate) for letter in sorted(set(pattern))}
    shape = decoder(
        body, [made[letter] for letter in pattern], rope=None, intermediate=intermediate, experts=experts
    )
    extra = config.integer("num_nextn_predict_layers", maximum=MAX_LAYERS, minimum=0, default=0)
    width = _mixer_width(_mamba(config)) if "M" in pattern else 0
    return whole_on_every_stage(replace(shape, unloaded=MTP if extra else None, mixer_width=width))


def _mixer_width(mamba: _Mamba) -> int:
    return 4 * mamba.inner + 2 * mamba.groups * mamba.state + mamba.heads


def _layer(letter: str, body: Body, experts: MixtureOfExperts | None, intermediate: int) -> Layer:
    norm = norms(body.hidden, 1)
    match letter:
        case "M":
            return _mamba_layer(body, norm)
        case "*":
            return Layer(cache=body.full, tensors=(*norm, *attention(body, name="mixer")))
        case "-":
            mlp = _mlp("mixer", body.hidden, intermediate)
            return Layer(cache=NoCache(), tensors=(*norm, *mlp), attentions=0)
        case _:
            sparse = () if experts is None else _sparse(body, experts)
            return Layer(cache=NoCache(), tensors=(*norm, *sparse), attentions=0)


def _mlp(name: str, hidden: int, intermediate: int, *, copies: int = 1) -> tuple[Tensor, ...]:
    """Up and down, without a gate."""
    up = replace(
        linear(f"{name}.up_proj", intermediate, hidden, Sharding.COLUMN), copies=copies, expert=copies > 1
    )
    down = replace(up, name=f"{name}.down_proj", rows=hidden, columns=intermediate, sharding=Sharding.ROW)
    return up, down


def _mamba_layer(body: Body, norm: tuple[Tensor, ...]) -> Layer:
    mamba = _mamba(body.config)
    in_groups = Tensor(
        name="mixer.in_proj.B",
        rows=mamba.groups * mamba.state,
        columns=body.hidden,
        sharding=Sharding.GROUPS,
        kv_heads=mamba.groups,
        quantized=True,
        follows=True,
    )
    inner = linear("mixer.in_proj", mamba.inner, body.hidden, Sharding.COLUMN)
    heads = replace(inner, name="mixer.in_proj.dt", rows=mamba.heads, follows=True)
    conv = _conv(mamba)
    bias = body.config.flag("use_conv_bias", default=True)
    per_head = Tensor(name="mixer.D", rows=mamba.heads, sharding=Sharding.COLUMN)
    tensors = (
        *norm,
        inner,
        replace(inner, name="mixer.in_proj.x", follows=True),
        in_groups,
        replace(in_groups, name="mixer.in_proj.C"),
        heads,
        *conv,
        *((replace(tensor, name=f"{tensor.name}.bias", columns=1) for tensor in conv) if bias else ()),
        replace(per_head, name="mixer.A", element_bytes=FLOAT32_BYTES),
        per_head,
        replace(per_head, name="mixer.dt_bias"),
        Tensor(name="mixer.norm", rows=mamba.inner, sharding=Sharding.COLUMN),
        linear("mixer.out_proj", body.hidden, mamba.inner, Sharding.ROW),
    )
    return Layer(cache=_state(mamba), tensors=tensors, attentions=0, buffers=conv)


def _state(mamba: _Mamba) -> RecurrentState:
    return RecurrentState(
        name="Mamba 2",
        conv_channels=mamba.inner,
        conv_rows=mamba.kernel - 1,
        group_channels=2 * mamba.state,
        groups=mamba.groups,
        state_elements=mamba.inner * mamba.state,
        state_element_bytes=mamba.state_element_bytes,
        checkpoints=1,
    )


def _conv(mamba: _Mamba) -> tuple[Tensor, ...]:
    """The convolution over the inner channels and those of the groups."""
    groups = Tensor(
        name="mixer.conv1d.groups",
        rows=2 * mamba.groups * mamba.state,
        columns=mamba.kernel,
        sharding=Sharding.GROUPS,
        kv_heads=mamba.groups,
    )
    return (
        Tensor(name="mixer.conv1d", rows=mamba.inner, columns=mamba.kernel, sharding=Sharding.COLUMN),
        groups,
    )


def _mamba(config: Config) -> _Mamba:
    heads = config.integer("mamba_num_heads", maximum=MAX_HEADS)
    name = config.text("mamba_ssm_cache_dtype", default="float32")
    if name not in _STATE_DTYPES:
        raise config.refuse("mamba_ssm_cache_dtype", f"it must be one of {', '.join(_STATE_DTYPES)}")
    return _Mamba(
        heads=heads,
        inner=heads * config.integer("mamba_head_dim", maximum=MAX_WIDTH),
        groups=config.integer("n_groups", maximum=heads),
        state=config.integer("ssm_state_size", maximum=MAX_WIDTH),
        kernel=config.integer("conv_kernel", maximum=_MAX_KERNEL, minimum=2),
        state_element_bytes=_STATE_DTYPES[name],
    )


def _experts(config: Config) -> MixtureOfExperts:
    number = config.integer("n_shared_experts", maximum=MAX_EXPERTS, minimum=0, default=0)
    shared = 0
    if number:
        shared = number * config.integer("moe_shared_expert_intermediate_size", maximum=MAX_WIDTH)
    return read_experts(config, count="n_routed_experts", width="moe_intermediate_size", shared=shared)


def _sparse(body: Body, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    """Experts in a narrower space, where the config names one, between two projections."""
    latent = body.config.optional_integer("moe_latent_size", maximum=MAX_WIDTH)
    bridges: tuple[Tensor, ...] = ()
    if latent is not None:
        bridges = (
            linear("mixer.fc1_latent_proj", latent, body.hidden),
            linear("mixer.fc2_latent_proj", body.hidden, latent),
        )
    shared = experts.shared_intermediate_size
    return (
        Tensor(name="mixer.gate", rows=experts.num_experts, columns=body.hidden),
        Tensor(
            name="mixer.gate.e_score_correction_bias",
            rows=experts.num_experts,
            element_bytes=FLOAT32_BYTES,
        ),
        *_mlp("mixer.experts", latent or body.hidden, experts.intermediate_size, copies=experts.num_experts),
        *(_mlp("mixer.shared_experts", body.hidden, shared) if shared else ()),
        *bridges,
    )


FAMILIES: Final = {"NemotronHForCausalLM": (build, ("nemotron_h",))}
