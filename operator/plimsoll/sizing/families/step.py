"""StepFun's text models: Step 3.5 (full and sliding layers with heads of their own), Step 3 (one KV head), Step 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
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
    routed,
    without_attention_scales,
)
from plimsoll.sizing.families.plain import MTP, renamed
from plimsoll.sizing.layers import FullAttention, SlidingWindow
from plimsoll.sizing.model import Layer, MixtureOfExperts
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.rope import Rope
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

# Sources of the whole file: vLLM 0.33.0, model_executor/models/step3p5.py, step3_text.py and step1.py; the config
# classes in transformers (step3p7) and vLLM (step3_vl).
_LENGTHS: Final = ("max_position_embeddings", "max_seq_len", "seq_length", "max_sequence_length", "seq_len")
_NAMES: Final = {"num_key_value_heads": "num_attention_groups"}
_SKIPPED: Final = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
_PARTS: Final = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_FULL, _SLIDING = "full_attention", "sliding_attention"
_HALF: Final = 0.5
_KEPT: Final = ("default", "llama3")  # rope types that change neither the table's length nor the model's
_DRAFT: Final = "nobody held the draft layers of this class against the engine"
_DIGITS: Final = 6  # of a layer number
_FIRST_ROUTED: Final = 3  # of Step 3.5, where no list says which layers are


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turning:
    """What makes a rotary table one of its own."""

    kind: str
    theta: float
    part: float
    scaled: tuple[object, ...]


def _one_name(config: Config, names: Mapping[str, str]) -> Config:
    """The config under the common names; one that says a thing twice must agree with itself."""
    for common, own in names.items():
        values = (config.values.get(common), config.values.get(own))
        if None not in values and values[0] != values[1]:
            raise config.refuse(own, f"it contradicts {common}, {values[0]!r:.40}")
    return renamed(config, names, {})


def _length(config: Config) -> int:
    """The smallest of the lengths that the config names."""
    found = [
        config.integer(name, maximum=MAX_TOKENS) for name in _LENGTHS if config.values.get(name) is not None
    ]
    if config.values.get("model_max_length") is not None:
        return config.integer("model_max_length", maximum=MAX_TOKENS)
    if not found:
        raise config.refuse("max_position_embeddings", f"it must be there, or {_LENGTHS[1]}")
    return min(found)


def _own_output(config: Config) -> None:
    if config.flag("tie_word_embeddings", default=False):
        raise config.refuse("tie_word_embeddings", "vLLM's class has an output layer of its own", WAY_OUT)


def step3p5(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Step 3.5 Flash."""
    _own_output(config)
    _check_step3p5(config)
    body = read_body(_one_name(config, _STEP3P5_NAMES), architecture, model_type)
    draft = config.integer("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0)
    kinds = _listed(config, "layer_types", body.layers, draft, (_FULL, _SLIDING)) or (_FULL,) * body.layers
    is_sparse = _sparse(config, body.layers, draft)
    experts = replace(
        read_experts(body.config, count="moe_num_experts", width="moe_intermediate_size", chosen="moe_top_k"),
        shared_intermediate_size=config.integer("share_expert_dim", maximum=MAX_WIDTH),
    )
    if not any(is_sparse):
        raise config.refuse("moe_layers_enum", "vLLM's class wants a routed layer", WAY_OUT)
    pairs = tuple(zip(kinds, is_sparse, strict=True))
    made = {
        (kind, sparse): _step3p5_layer(body, kind, experts if sparse else None) for kind, sparse in set(pairs)
    }
    tables = {_turning(config, kinds, kind) for kind in set(kinds)}
    length = _length(config)
    ropes = [
        Rope(
            positions=body.positions,
            rotary_dim=int(body.head_size * turning.part),
            max_model_len=length,
        )
        for turning in tables
    ]
    shape = decoder(
        body,
        [made[pair] for pair in pairs],
        rope=ropes[0],
        intermediate=0 if all(is_sparse) else config.integer("intermediate_size", maximum=MAX_WIDTH),
        experts=experts,
    )
    shape = replace(shape, other_ropes=tuple(ropes[1:]))
    return replace(shape, unloaded=MTP, uncounted_draft=_DRAFT) if draft else shape


_STEP3P5_NAMES: Final = {
    **_NAMES,
    "n_routed_experts": "moe_num_experts",
    "num_experts_per_tok": "moe_top_k",
}


def _check_step3p5(config: Config) -> None:
    for name in ("use_moe_router_bias", "need_fp32_gate"):
        if not config.flag(name, default=False):
            raise config.refuse(name, "vLLM's class wants it to be true", WAY_OUT)
    if config.text("att_impl_type", default="GQA") != "GQA":
        raise config.refuse("att_impl_type", "vLLM's class has GQA only", WAY_OUT)
    if config.values.get("per_layer_config") is not None:
        raise config.refuse("per_layer_config", "layers told so apart cannot be sized", WAY_OUT)
    # The engine has the shared expert inside another module than the files.
    _check_skipped(config, lambda entry: ".moe.share" in entry or entry.endswith(".moe"))


def _check_skipped(config: Config, renames: Callable[[str], bool]) -> None:
    """Refuse a list of modules in 16 bits that names one which the engine has under another name."""
    section = config.section("quantization_config")
    if section is None:
        return
    for name in _SKIPPED:
        if any(map(renames, section.texts(name))):
            raise section.refuse(name, "it names a module that vLLM has under another name", WAY_OUT)


def _listed(config: Config, field: str, layers: int, draft: int, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """One word for each layer, further ones for those of the draft; empty where there is no list."""
    words = config.texts(field)
    if not words:
        return ()
    if len(words) not in (layers, layers + draft):
        raise config.refuse(field, f"it must have one entry for each of {layers} layers")
    for word in words:
        if word not in allowed:
            raise config.refuse(field, f"{word!r:.80} is not a kind of layer that can be sized", WAY_OUT)
    return words[:layers]


def _sparse(config: Config, layers: int, draft: int) -> tuple[bool, ...]:
    """Which layers are routed."""
    words = _listed(config, "mlp_layer_types", layers, draft, ("sparse", "dense"))
    if words:
        return tuple(word == "sparse" for word in words)
    if config.values.get("moe_layers_enum") is None:
        return tuple(index >= _FIRST_ROUTED for index in range(layers))
    chosen = _numbers(config, "moe_layers_enum")
    return tuple(index in chosen for index in range(layers))


def _numbers(config: Config, field: str) -> frozenset[int]:
    """Layer numbers in one string, between commas."""
    parts = [part.strip() for part in config.text(field).split(",")]
    if len(parts) > MAX_LAYERS or not all(
        part.isascii() and part.isdigit() and len(part) <= _DIGITS for part in parts
    ):
        raise config.refuse(field, "it must be layer numbers between commas")
    return frozenset(map(int, parts))


def _step3p5_layer(body: Body, kind: str, experts: MixtureOfExperts | None) -> Layer:
    config = body.config
    slides = kind == _SLIDING
    heads = _sliding_heads(config, body.heads) if slides else body.heads
    gated = config.flag("use_head_wise_attn_gate", default=False)
    if heads != body.heads and not gated:
        raise config.refuse("use_head_wise_attn_gate", "without it layers must have as many heads", WAY_OUT)
    if heads % body.kv_heads:
        raise config.refuse(
            "num_sliding_attention_heads", f"the {body.kv_heads} KV heads must divide {heads}"
        )
    cache: FullAttention | SlidingWindow = body.full
    window = config.optional_integer("sliding_window", maximum=MAX_TOKENS)
    if slides and window is not None:
        cache = SlidingWindow(num_kv_heads=body.kv_heads, head_size=body.head_size, window=window)
    tensors = [
        *attention(replace(body, heads=heads), query_bias=config.flag("attention_bias", default=False)),
        *norms(body.head_size, 2, "self_attn.head_norm"),
        *norms(body.hidden, 2),
    ]
    if gated:
        tensors.append(linear("self_attn.g_proj", heads, body.hidden, Sharding.COLUMN))
    if experts is None:
        tensors += gated_mlp("mlp", body.hidden, config.integer("intermediate_size", maximum=MAX_WIDTH))
    else:
        tensors += [
            *routed("moe", body.hidden, experts, router_bytes=FLOAT32_BYTES),
            Tensor(name="moe.router_bias", rows=experts.num_experts, element_bytes=FLOAT32_BYTES),
            *gated_mlp("share_expert", body.hidden, experts.shared_intermediate_size),
        ]
    return Layer(cache=cache, tensors=tuple(tensors))


def _sliding_heads(config: Config, heads: int) -> int:
    """Query heads of a sliding layer."""
    if config.values.get("num_sliding_attention_heads") is not None:
        return config.integer("num_sliding_attention_heads", maximum=MAX_HEADS)
    other = config.section("attention_other_setting")
    return heads if other is None else other.integer("num_attention_heads", maximum=MAX_HEADS, default=heads)


def _turning(config: Config, kinds: tuple[str, ...], kind: str) -> _Turning:
    """How layers of this kind turn positions, from sections by kind or from lists by layer."""
    sections = config.section("rope_parameters")
    if sections is not None:
        own = sections.section(kind)
        if own is None:
            raise sections.refuse(kind, "it must say how such layers turn positions")
        return _read_turning(own, default=1.0, theta=1e4)
    first = kinds.index(kind)
    theta = _of_layer(config, "rope_theta", first, default=1e4, minimum=1.0, maximum=float(MAX_TOKENS))
    part = _of_layer(config, "partial_rotary_factors", first, default=1.0, minimum=0.0, maximum=1.0)
    scaling = config.section("rope_scaling") if kind == _FULL else None
    return _read_turning(scaling or Config({}, "rope_scaling"), default=part, theta=theta)


def _read_turning(section: Config, *, default: float, theta: float) -> _Turning:
    kind = section.text("rope_type", default="default")
    if kind not in _KEPT or section.values.get("type") is not None:
        raise section.refuse("rope_type", "this rope type is not known with Step 3.5", WAY_OUT)
    part = section.number("partial_rotary_factor", default=default, minimum=0.0, maximum=1.0)
    if part not in (_HALF, 1.0):
        raise section.refuse(
            "partial_rotary_factor", "vLLM's class turns half of a head or all of it", WAY_OUT
        )
    theta = section.number("rope_theta", default=theta, minimum=1.0, maximum=float(MAX_TOKENS))
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    scaled = tuple(
        section.number(name, default=0.0, minimum=0.0, maximum=float(MAX_TOKENS)) for name in names
    )
    return _Turning(kind=kind, theta=theta, part=part, scaled=scaled if kind != "default" else ())


def _of_layer(
    config: Config, field: str, index: int, *, default: float, minimum: float, maximum: float
) -> float:
    """A number for all layers, or that of one in a list."""
    value = config.values.get(field)
    if isinstance(value, (list, tuple)):
        if index >= len(value):
            raise config.refuse(field, "it must have one entry for each layer")
        config = Config({field: value[index]}, config.path)
    return config.number(field, default=default, minimum=minimum, maximum=maximum)


def step3(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text of Step 3: every token's key and value are one head, on every rank."""
    _own_output(config)
    for field in ("rope_scaling", "rope_parameters"):
        section = config.section(field)
        plain = section is None or (
            section.text("rope_type", default="default") == "default"
            and section.values.get("partial_rotary_factor") is None
        )
        if not plain:
            raise config.refuse(field, "vLLM's class with it is not one that can be sized", WAY_OUT)
    if config.integer("num_attention_groups", maximum=MAX_HEADS) != 1:
        raise config.refuse("num_attention_groups", "vLLM's class has one KV head", WAY_OUT)
    for field in ("num_key_value_heads", "partial_rotary_factor"):
        if config.values.get(field) is not None:
            raise config.refuse(field, "Step 3 has no such field", WAY_OUT)
    # The class does not say what it fuses, so that names of the parts mean nothing to the engine.
    _check_skipped(config, _names_a_part)
    head_size = config.integer("head_dim", maximum=MAX_WIDTH)
    positions = config.integer("max_position_embedding", maximum=MAX_TOKENS)
    length = _length(config)
    names = {**_NAMES, "max_position_embeddings": "max_position_embedding"}
    body = replace(
        read_body(renamed(config, names, {}), architecture, model_type), kv_heads=1, positions=positions
    )
    experts = read_experts(config, count="moe_num_experts", width="moe_intermediate_size", chosen="moe_top_k")
    layers = _step3_layers(body, experts)
    rope = Rope(positions=positions, rotary_dim=head_size, max_model_len=length)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    shape = decoder(body, layers, rope=rope, intermediate=intermediate, experts=experts)
    if config.values.get("tie_word_embeddings") is None:
        problem = f"vLLM's {architecture} without tie_word_embeddings in its config fails on several stages"
        shape = replace(shape, stages_problem=problem)
    return without_attention_scales(shape)


def _names_a_part(entry: str) -> bool:
    bare = entry.replace("qkv_proj", "").replace("gate_up_proj", "")
    return any(part in bare for part in _PARTS)


def _step3_layers(body: Body, experts: MixtureOfExperts) -> list[Layer]:
    config = body.config
    if "moe_layers_enum" not in config.values:
        raise config.refuse("moe_layers_enum", "it must be layer numbers between commas")
    if config.values["moe_layers_enum"] is None:
        chosen = frozenset(range(1, body.layers))
    else:
        chosen = _numbers(config, "moe_layers_enum")
    shared = config.integer("share_expert_dim", maximum=MAX_WIDTH)
    common = (*_step3_attention(body), *norms(body.hidden, 2))
    sparse = Layer(
        cache=body.full,
        tensors=(
            *common,
            *routed("moe", body.hidden, experts),
            *gated_mlp("share_expert", body.hidden, shared),
        ),
    )
    width = config.integer("intermediate_size", maximum=MAX_WIDTH)
    dense = Layer(cache=body.full, tensors=(*common, *gated_mlp("mlp", body.hidden, width)))
    return [sparse if index in chosen else dense for index in range(body.layers)]


def _step3_attention(body: Body) -> tuple[Tensor, ...]:
    """A narrow query, key and value on every rank; a second projection widens the query to all heads."""
    narrow = body.config.integer("share_q_dim", maximum=MAX_WIDTH, default=body.head_size)
    wide = body.heads * body.head_size
    return (
        linear("self_attn.qkv_proj", narrow + 2 * body.head_size, body.hidden),
        linear("self_attn.wq", wide, narrow, Sharding.COLUMN),
        linear("self_attn.o_proj", body.hidden, wide, Sharding.ROW),
        *norms(narrow, 1, "self_attn.inter_norm"),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Step3p5ForCausalLM": (step3p5, ("step3p5",)),
    "Step3TextForCausalLM": (step3, ("step3_text",)),
}
