"""Decoders with routed experts and ordinary attention, each class of vLLM told by a row of a table.

OLMoE, Phi 3.5 MoE, Granite 3 MoE, Ling and Ring (BailingMoe), ERNIE 4.5 MoE, Sarvam.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixture import MTP, correction_bias
from plimsoll.sizing.families.parts import (
    FLOAT32_BYTES,
    WAY_OUT,
    Body,
    as_transformers,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
    whole_on_every_stage,
    without_attention_scales,
)
from plimsoll.sizing.families.plain import Bias, has, renamed, wide_norms, window_everywhere
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import MixtureOfExperts, ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """How one class of vLLM differs from Mixtral's.

    Attributes:
        names: the family's own names of the common fields.
        count, width, chosen: fields of the experts: how many, how wide, how many for a token.
        shared: field that says how many experts every token passes; shared_width of one, or `width`.
        whole_shared: field with the width of all of those together.
        query_bias, output_bias: on query, key and value, on the output.
        head_norms: field that asks for norms of query and key over one head.
        bare_norms: field that is false where those norms have a bias.
        wide_norms: norms of query and key over all heads, whole on every rank.
        norms, last_norms: vectors of the hidden size in a layer and behind the last.
        router_float32: the router is kept in float32, always or where a field says "fp32".
        correction: the router has a bias that balances the experts, always or where a field says so.
        dense_first: field with the number of layers at the front that are not routed.
        between: fields with the first and the last routed layer, and the step from one to the next.
        head_bias: the output layer has a bias.
        every_stage: the class builds embedding, norm and output layer on every stage.
        refused: fields that ask for what vLLM's class does not build, or what nobody checked.
        tied_stages: the class finds a tied output layer on every pipeline stage.
        single: fields that may be a list with the same number for every layer.
        bare_attention: the class hands no quantization to its attention, which then has no scales.
        plain_router: the router is a linear layer as others, which a checkpoint may quantize.
        inverse: the class is Transformers' own, which keeps inverse frequencies instead of a table.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    count: str = "num_local_experts"
    width: str = "intermediate_size"
    chosen: str = "num_experts_per_tok"
    shared: str | None = None
    shared_width: str | None = None
    whole_shared: str | None = None
    query_bias: Bias = False
    output_bias: Bias = False
    head_norms: str | None = None
    bare_norms: str | None = None
    wide_norms: bool = False
    norms: int = 2
    last_norms: int = 1
    router_float32: bool | str = False
    correction: bool | str = False
    dense_first: str | None = None
    between: tuple[str, str, str] | None = None
    head_bias: bool = False
    every_stage: bool = False
    tied: bool = False
    refused: tuple[str, ...] = ()
    tied_stages: bool = True
    single: tuple[str, ...] = ()
    bare_attention: bool = False
    plain_router: bool = False
    inverse: bool = False


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Layers and tensors as the row of this class says."""
    row = ROWS[architecture]
    for name in row.refused:
        if config.values.get(name):
            raise config.refuse(
                name, f"such a variant of {architecture} is not one that can be sized", WAY_OUT
            )
    body = read_body(renamed(_single(config, row), row.names, {}), architecture, model_type)
    experts = _experts(body.config, row)
    common = (
        *attention(body, query_bias=has(body, row.query_bias), output_bias=has(body, row.output_bias)),
        *_query_norms(body, row),
        *norms(body.hidden, row.norms),
    )
    cache = window_everywhere(body)
    sparse = Layer(cache=cache, tensors=(*common, *_routed(body, row, experts)))
    is_sparse = _sparse(body, row)
    dense, intermediate = sparse, 0
    if not all(is_sparse):
        intermediate = body.config.integer("intermediate_size", maximum=MAX_WIDTH)
        dense = Layer(cache=cache, tensors=(*common, *gated_mlp("mlp", body.hidden, intermediate)))
    layers = [sparse if flag else dense for flag in is_sparse]
    shape = decoder(
        body,
        layers,
        rope=read_rope(body, rotary_dim=_rotary(body)),
        intermediate=intermediate,
        experts=experts,
        tied=row.tied,
    )
    return _around(shape, body, row)


def _around(shape: ModelShape, body: Body, row: Routed) -> ModelShape:
    """What stands outside the layers."""
    shape = replace(shape, last_stage=norms(body.hidden, row.last_norms))
    if row.bare_attention:
        shape = without_attention_scales(shape)
    if row.inverse:
        shape = as_transformers(shape)
    if row.head_bias:
        bias = Tensor(name="lm_head.bias", rows=body.vocab, sharding=Sharding.VOCAB)
        shape = replace(shape, last_stage=(*shape.last_stage, bias))
    if body.config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0):
        shape = replace(shape, unloaded=MTP)
    if shape.tied_embeddings and not row.tied_stages:
        shape = replace(
            shape, stages_problem=f"vLLM's {body.architecture} with tied embeddings fails on several stages"
        )
    return whole_on_every_stage(shape) if row.every_stage else shape


def _single(config: Config, row: Routed) -> Config:
    """The config with one number where it has the same for every layer."""
    made: dict[str, object] = {}
    for name in row.single:
        value = config.values.get(name)
        if isinstance(value, (list, tuple)):
            if not value or any(item != value[0] for item in value[:MAX_LAYERS]) or len(value) > MAX_LAYERS:
                raise config.refuse(name, "layers that differ in it cannot be sized", WAY_OUT)
            made[name] = value[0]
    return replace(config, values={**config.values, **made})


def _experts(config: Config, row: Routed) -> MixtureOfExperts:
    experts = read_experts(config, count=row.count, width=row.width, chosen=row.chosen)
    shared = 0
    if row.shared is not None:
        number = config.integer(row.shared, minimum=0, maximum=MAX_EXPERTS, default=0)
        width = experts.intermediate_size
        if row.shared_width is not None:
            width = config.integer(row.shared_width, maximum=MAX_WIDTH, default=width)
        shared = number * width
    if row.whole_shared is not None:
        shared = config.integer(row.whole_shared, minimum=0, maximum=MAX_WIDTH, default=0)
    return replace(experts, shared_intermediate_size=shared)


def _routed(body: Body, row: Routed, experts: MixtureOfExperts) -> tuple[Tensor, ...]:
    config = body.config
    wide = row.router_float32
    if isinstance(wide, str):
        wide = config.text(wide, default="") == "fp32"
    tensors = routed("mlp", body.hidden, experts, router_bytes=FLOAT32_BYTES if wide else None)
    if row.plain_router:
        tensors = (replace(tensors[0], quantized=True), *tensors[1:])
    balanced = (
        row.correction if isinstance(row.correction, bool) else config.flag(row.correction, default=False)
    )
    if balanced:
        tensors = (*tensors, correction_bias("mlp", experts))
    if experts.shared_intermediate_size:
        tensors = (*tensors, *gated_mlp("mlp.shared_experts", body.hidden, experts.shared_intermediate_size))
    return tensors


def _query_norms(body: Body, row: Routed) -> tuple[Tensor, ...]:
    if row.wide_norms:
        return wide_norms(body)
    if row.head_norms is None or not body.config.flag(row.head_norms, default=False):
        return ()
    bare = row.bare_norms is None or body.config.flag(row.bare_norms, default=True)
    return norms(body.head_size, 2 if bare else 4, "self_attn.head_norm")


def _rotary(body: Body) -> int | None:
    if body.config.values.get("rotary_dim") is None:
        return None
    return body.config.integer("rotary_dim", maximum=body.head_size)


def _sparse(body: Body, row: Routed) -> tuple[bool, ...]:
    """Which layers are routed."""
    config = body.config
    first, last, step = 0, body.layers - 1, 1
    if row.dense_first is not None:
        first = config.integer(row.dense_first, minimum=0, maximum=MAX_LAYERS, default=0)
    if row.between is not None:
        start, end, every = row.between
        first = config.integer(start, minimum=0, maximum=MAX_LAYERS, default=0)
        last = config.integer(end, minimum=0, maximum=MAX_LAYERS, default=last)
        step = config.integer(every, maximum=MAX_LAYERS, default=1)
    return tuple(first <= index <= last and (index + 1) % step == 0 for index in range(body.layers))


_BAILING: Final = Routed(
    count="num_experts",
    width="moe_intermediate_size",
    shared="num_shared_experts",
    shared_width="moe_shared_expert_intermediate_size",
    query_bias=("use_bias", "use_qkv_bias"),
    output_bias=("use_bias",),
    head_norms="use_qk_norm",
    bare_norms="use_rmsnorm",
    router_float32="router_dtype",
    correction="moe_router_enable_expert_bias",
    dense_first="first_k_dense_replace",
    bare_attention=True,
    refused=("use_bias",),
)
# Sources: vLLM 0.33.0, model_executor/models: olmoe, phimoe, granitemoe, granitemoeshared, bailing_moe, ernie45_moe.
ROWS: Final[dict[str, Routed]] = {
    "OlmoeForCausalLM": Routed(
        count="num_experts", wide_norms=True, every_stage=True, refused=("attention_bias",)
    ),
    "PhiMoEForCausalLM": Routed(
        query_bias=True, output_bias=True, norms=4, last_norms=2, head_bias=True, every_stage=True
    ),
    "GraniteMoeForCausalLM": Routed(every_stage=True, refused=("attention_bias",)),
    "GraniteMoeSharedForCausalLM": Routed(
        whole_shared="shared_intermediate_size", every_stage=True, refused=("attention_bias",)
    ),
    "BailingMoeForCausalLM": _BAILING,
    "BailingMoeV2ForCausalLM": _BAILING,
    "SarvamMoEForCausalLM": _BAILING,  # its own module registers it
    "Ernie4_5_MoeForCausalLM": Routed(
        count="moe_num_experts",
        width="moe_intermediate_size",
        chosen="moe_k",
        shared="moe_num_shared_experts",
        router_float32=True,
        correction=True,
        between=("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval"),
        tied=True,
        tied_stages=False,
        refused=("use_bias",),
    ),
    "HunYuanMoEV1ForCausalLM": Routed(
        count="num_experts",
        width="moe_intermediate_size",
        chosen="moe_topk",
        shared="num_shared_expert",
        head_norms="use_qk_norm",
        single=("moe_intermediate_size", "moe_topk", "num_shared_expert"),
        inverse=True,
        plain_router=True,
        refused=("attention_bias",),
    ),
}
_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "OlmoeForCausalLM": ("olmoe",),
    "PhiMoEForCausalLM": ("phimoe",),
    "GraniteMoeForCausalLM": ("granitemoe",),
    "GraniteMoeSharedForCausalLM": ("granitemoeshared",),
    "BailingMoeForCausalLM": ("bailing_moe",),
    "HunYuanMoEV1ForCausalLM": ("hunyuan_v1_moe",),
    "BailingMoeV2ForCausalLM": ("bailing_moe_v2", "bailing_moe"),
    "Ernie4_5_MoeForCausalLM": ("ernie4_5_moe",),
}
FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    name: (build, types) for name, types in _TYPES.items()
}
