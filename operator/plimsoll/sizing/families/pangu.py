"""openPangu: the dense Embedded models, and Ultra MoE with latent attention and routed experts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.deepseek import latent_attention, latent_cache
from plimsoll.sizing.families.mixture import MTP
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    attention,
    bias_of,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.families.plain import window_everywhere
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

NOT_HELD: Final = "nobody held this class of them against the engine"
_OTHER_ATTENTION: Final = ("interleaved_sliding_window", "param_sink_number")
_LATENT: Final = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_NEEDED: Final = ("norm_topk_prob", "routed_scaling_factor")
_SANDWICH: Final = 2  # further norms of a layer


def embedded(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/openpangu.py (PanguEmbeddedForCausalLM)."""
    for field in (*_OTHER_ATTENTION, *_LATENT, "n_routed_experts"):
        _refuse_if_there(config, field)
    if not config.flag("is_causal", default=True):
        raise config.refuse("is_causal", "such a variant is not one that can be sized", WAY_OUT)
    body = read_body(config, architecture, model_type)
    if all(config.values.get(field) is None for field in ("bias", "attention_bias")):
        raise config.refuse("bias", "the model's own code says it where the config does not", WAY_OUT)
    bias = config.flag("attention_bias", default=False) or config.flag("bias", default=False)
    query_bias = config.flag("qkv_bias", default=False) if "qkv_bias" in config.values else bias
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    layer = Layer(
        cache=window_everywhere(body),
        tensors=(
            *attention(body, query_bias=query_bias, output_bias=bias),
            *_dense(config, body.hidden, intermediate),
            *_norms(config, body.hidden),
        ),
    )
    return decoder(body, (layer,) * body.layers, rope=read_rope(body), intermediate=intermediate)


def ultra(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/openpangu.py (PanguUltraMoEForCausalLM)."""
    _refuse_if_there(config, "param_sink_number")
    for field in _NEEDED:
        if config.values.get(field) is None:
            raise config.refuse(field, "vLLM ends on a config that does not say it", WAY_OUT)
    body = _latent_body(config, architecture, model_type)
    cache = latent_cache(config, packed_fp8=False)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    shared = config.integer("n_shared_experts", maximum=MAX_EXPERTS)
    width = config.integer("moe_intermediate_size", maximum=MAX_WIDTH)
    experts = read_experts(
        config, count="n_routed_experts", width="moe_intermediate_size", shared=shared * width
    )
    first = config.integer("first_k_dense_replace", minimum=0, maximum=MAX_LAYERS)
    if first >= body.layers:
        raise config.refuse("first_k_dense_replace", "vLLM refuses this class without a routed layer")
    projections = latent_attention(config, body.hidden, body.heads, cache)
    common = (*projections, *_norms(config, body.hidden)[_SANDWICH:])
    dense = Layer(cache=cache, tensors=(*common, *_dense(config, body.hidden, intermediate)))
    sparse = Layer(cache=cache, tensors=(*common, *_sparse(config, body.hidden, experts)))
    layers = (dense,) * first + (sparse,) * (body.layers - first)
    shape = decoder(body, layers, rope=_rope(config, body), intermediate=intermediate, experts=experts)
    up = next(tensor for tensor in projections if tensor.name == "self_attn.kv_b_proj")
    shape = replace(shape, latent_up_projection=(up.rows, cache.kv_lora_rank))
    if config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0):
        shape = replace(shape, unloaded=MTP, uncounted_draft=NOT_HELD)
    return shape


def _refuse_if_there(config: Config, field: str) -> None:
    if field in config.values:
        raise config.refuse(field, "such a variant is not one that can be sized", WAY_OUT)


def _latent_body(config: Config, architecture: str, model_type: str) -> Body:
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    return Body(
        config=config,
        architecture=architecture,
        model_type=model_type,
        hidden=config.integer("hidden_size", maximum=MAX_WIDTH),
        heads=heads,
        kv_heads=heads,
        head_size=config.integer("v_head_dim", maximum=MAX_WIDTH),
        layers=config.integer("num_hidden_layers", maximum=MAX_LAYERS),
        vocab=config.integer("vocab_size", maximum=MAX_WIDTH),
        positions=config.integer("max_position_embeddings", maximum=MAX_TOKENS),
    )


def _rope(config: Config, body: Body) -> Rope:
    """The class has a table of its own making, whatever the config says of scaling; that may say another length."""
    for field in ("rope_scaling", "rope_parameters"):
        section = config.section(field)
        kind = section and section.text("rope_type", default=section.text("type", default="default"))
        if kind not in (None, "default"):
            raise config.refuse(field, "vLLM's class takes no scaling from the config", WAY_OUT)
    rotary_dim = config.integer("qk_rope_head_dim", maximum=MAX_WIDTH)
    return Rope(positions=body.positions, rotary_dim=rotary_dim, max_model_len=body.positions)


def _norms(config: Config, hidden: int) -> tuple[Tensor, ...]:
    """Before attention and MLP, and behind both where the config asks for it."""
    sandwich = config.flag("sandwich_norm", default=False)
    return norms(hidden, 2 + (_SANDWICH if sandwich else 0), "layernorm")


def _dense(config: Config, hidden: int, intermediate: int) -> tuple[Tensor, ...]:
    weights = gated_mlp("mlp", hidden, intermediate)
    return (*weights, *map(bias_of, weights)) if config.flag("mlp_bias", default=False) else weights


def _sparse(config: Config, hidden: int, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    bias: tuple[Tensor, ...] = ()
    if config.flag("router_enable_expert_bias", default=False):
        bias = (
            Tensor(
                name="mlp.gate.e_score_correction_bias",
                rows=experts.num_experts,
                element_bytes=FLOAT32_BYTES,
            ),
        )
    return (
        *routed("mlp", hidden, experts),
        *gated_mlp("mlp.shared_experts", hidden, experts.shared_intermediate_size),
        *bias,
    )


FAMILIES: Final = {
    "PanguEmbeddedForCausalLM": (embedded, ("PanguEmbedded",)),
    "PanguUltraMoEForCausalLM": (ultra, ("pangu_ultra_moe",)),
}
