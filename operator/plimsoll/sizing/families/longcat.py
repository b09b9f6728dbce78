"""LongCat Flash: two latent attentions and two dense MLPs in each layer, experts beside them, some without weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.deepseek import latent_attention, latent_cache
from plimsoll.sizing.families.mixture import MTP
from plimsoll.sizing.families.parts import FLOAT32_BYTES, WAY_OUT, Body, decoder, read_experts
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import rope_from_config
from plimsoll.sizing.tensors import Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape

NOT_HELD: Final = "nobody held this class of them against the engine"
_TWICE: Final = 2
_SCALED: Final = ("mla_scale_q_lora", "mla_scale_kv_lora")


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/longcat_flash.py and deepseek_v2.py (the attention)."""
    _check(config)
    body = _body(config, architecture, model_type)
    cache = latent_cache(config, packed_fp8=False)
    intermediate = config.integer("ffn_hidden_size", maximum=MAX_WIDTH)
    experts = read_experts(
        config, count="n_routed_experts", width="expert_ffn_hidden_size", chosen="moe_topk"
    )
    attention = latent_attention(config, body.hidden, body.heads, cache)
    halves = (
        tensor
        for half in range(_TWICE)
        for tensor in (
            *(_of_half(part, half) for part in attention),
            *gated_mlp(f"mlps.{half}", body.hidden, intermediate),
        )
    )
    layer = Layer(
        cache=cache,
        extra_caches=(cache,),
        attentions=_TWICE,
        tensors=(*halves, *_routed(config, body.hidden, experts)),
    )
    rope = rope_from_config(config, rotary_dim=cache.qk_rope_head_dim, max_position_embeddings=body.positions)
    shape = decoder(body, (layer,) * body.layers, rope=rope, intermediate=intermediate, experts=experts)
    up = next(tensor for tensor in attention if tensor.name == "self_attn.kv_b_proj")
    return replace(
        shape, latent_up_projection=(up.rows, cache.kv_lora_rank), unloaded=MTP, uncounted_draft=NOT_HELD
    )


def _check(config: Config) -> None:
    """Refuse what vLLM's class does not build, or ends on."""
    for field in _SCALED:
        if config.values.get(field) is None:
            raise config.refuse(field, "vLLM ends on a config that does not say it", WAY_OUT)
        config.flag(field, default=False)
    config.integer("q_lora_rank", maximum=MAX_WIDTH)
    if config.text("zero_expert_type") != "identity":
        raise config.refuse("zero_expert_type", "the engine has only identity", WAY_OUT)
    if config.flag("tie_word_embeddings", default=False):
        raise config.refuse("tie_word_embeddings", "vLLM's class has an output layer of its own", WAY_OUT)
    if config.values.get("disable_quant_module"):
        raise config.refuse("disable_quant_module", "such a variant is not one that can be sized", WAY_OUT)


def _body(config: Config, architecture: str, model_type: str) -> Body:
    layers = config.integer("num_layers", maximum=MAX_LAYERS)
    attentions = config.integer("num_hidden_layers", maximum=_TWICE * MAX_LAYERS, default=_TWICE * layers)
    if attentions != _TWICE * layers:  # Transformers takes the one from the other, whichever comes last
        raise config.refuse("num_hidden_layers", f"it must be twice num_layers, {layers}, or absent")
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    return Body(
        config=config,
        architecture=architecture,
        model_type=model_type,
        hidden=config.integer("hidden_size", maximum=MAX_WIDTH),
        heads=heads,
        kv_heads=heads,
        head_size=config.integer("v_head_dim", maximum=MAX_WIDTH),
        layers=layers,
        vocab=config.integer("vocab_size", maximum=MAX_WIDTH),
        positions=config.integer("max_position_embeddings", maximum=MAX_TOKENS),
    )


def _of_half(tensor: Tensor, half: int) -> Tensor:
    """The tensor under the name that it has in one half of the layer."""
    if tensor.name.startswith("self_attn."):
        return replace(tensor, name=tensor.name.replace("self_attn.", f"self_attn.{half}.", 1))
    return replace(tensor, name=f"{tensor.name}.{half}")


def _routed(config: Config, hidden: int, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    """A router in float32, also over experts that hand their token on as it is; those have no weights."""
    rows = experts.num_experts + config.integer("zero_expert_num", minimum=0, maximum=MAX_EXPERTS)
    return (
        Tensor(name="mlp.router.classifier", rows=rows, columns=hidden, element_bytes=FLOAT32_BYTES),
        Tensor(name="mlp.router.e_score_correction_bias", rows=rows, element_bytes=FLOAT32_BYTES),
        *gated_mlp("mlp.experts", hidden, experts.intermediate_size, copies=experts.num_experts),
    )


FAMILIES: Final = {"LongcatFlashForCausalLM": (build, ("longcat_flash",))}
