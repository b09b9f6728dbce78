"""Nemotron-H: one mixer in each layer, Mamba 2, attention, an MLP or experts, as a pattern spells it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixers import Mamba2, read_kernel, read_state_bytes, whole_groups
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
from plimsoll.sizing.layers import NoCache
from plimsoll.sizing.model import Layer
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

_LETTERS: Final = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/nemotron_h.py and layers/mamba/mamba_mixer2.py."""
    pattern = _pattern(config)
    config = Config({**config.values, "num_hidden_layers": len(pattern)}, config.path)
    body = read_body(config, architecture, model_type)
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
    width = _mamba(config).width if "M" in pattern else 0
    return whole_on_every_stage(replace(shape, unloaded=MTP if extra else None, mixer_width=width))


def _pattern(config: Config) -> str:
    """One letter for each layer, from the list of newer configs or from the pattern of older ones.

    Raises:
        UnsupportedModelError: neither says it, or it says more than this class of the engine knows.
    """
    kinds = config.texts("layers_block_type")
    if kinds:
        if len(kinds) > MAX_LAYERS or not set(kinds) <= set(_LETTERS):
            raise config.refuse(
                "layers_block_type",
                f"it must name up to {MAX_LAYERS} layers as {', '.join(_LETTERS)}",
                WAY_OUT,
            )
        return "".join(_LETTERS[kind] for kind in kinds)
    pattern = config.text("hybrid_override_pattern")
    layers = config.optional_integer("num_hidden_layers", maximum=MAX_LAYERS) or len(pattern)
    if not 0 < len(pattern) <= MAX_LAYERS or len(pattern) != layers or set(pattern) - set(_LETTERS.values()):
        raise config.refuse(
            "hybrid_override_pattern", f"it must spell {layers} layers with M, *, - and E", WAY_OUT
        )
    return pattern


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
    return Layer(
        cache=mamba.cache,
        tensors=(*norm, *mamba.tensors(body.hidden)),
        attentions=0,
        buffers=mamba.conv("mixer"),
    )


def _mamba(config: Config) -> Mamba2:
    heads = config.integer("mamba_num_heads", maximum=MAX_HEADS)
    mixer = Mamba2(
        heads=heads,
        inner=heads * config.integer("mamba_head_dim", maximum=MAX_WIDTH),
        groups=config.integer("n_groups", maximum=heads),
        state=config.integer("ssm_state_size", maximum=MAX_WIDTH),
        kernel=read_kernel(config, "conv_kernel"),
        conv_bias=config.flag("use_conv_bias", default=True),
        state_element_bytes=read_state_bytes(config, "mamba_ssm_cache_dtype", "float32"),
    )
    return whole_groups(config, "n_groups", mixer)


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
