"""What the families share: fields that nearly every config has, projections, norms, experts, the frame of a shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.layers import FullAttention
from plimsoll.sizing.model import Layer, MixtureOfExperts, ModelShape
from plimsoll.sizing.outside import decoder_dtype, embedding, gated_mlp, needs_expert_support
from plimsoll.sizing.rope import rope_from_config, rotary_dim_of
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.sizing.towers import frequency_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.rope import Rope

    Builder = Callable[[Config, str, str], ModelShape]

WAY_OUT: Final = "use the model as its authors published it, or one of another architecture"
FLOAT32_BYTES: Final = 4
_TRANSFORMERS_SCALE_BYTES: Final = 6 * 2  # what compressed-tensors adds to attention, all in 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The fields of a decoder's config that its bytes depend on."""

    config: Config
    architecture: str
    model_type: str
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    layers: int
    vocab: int
    positions: int

    @property
    def full(self) -> FullAttention:
        """The cache of a layer of full attention."""
        return FullAttention(num_kv_heads=self.kv_heads, head_size=self.head_size)


def read_body(config: Config, architecture: str, model_type: str) -> Body:
    """Read the common fields.

    Raises:
        UnsupportedModelError: one that is absent, or that contradicts another.
    """
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    kv_heads = config.integer("num_key_value_heads", maximum=MAX_HEADS, default=heads)
    if heads % kv_heads:
        raise config.refuse("num_key_value_heads", f"it must divide num_attention_heads, {heads}")
    head_size = config.optional_integer("head_dim", maximum=MAX_WIDTH)
    if head_size is None and hidden % heads:
        raise config.refuse(
            "num_attention_heads", f"it must divide hidden_size, {hidden}, or head_dim must be set"
        )
    return Body(
        config=config,
        architecture=architecture,
        model_type=model_type,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size or hidden // heads,
        layers=config.integer("num_hidden_layers", maximum=MAX_LAYERS),
        vocab=config.integer("vocab_size", maximum=MAX_WIDTH),
        positions=config.integer("max_position_embeddings", maximum=MAX_TOKENS),
    )


def linear(
    name: str, rows: int, columns: int, sharding: Sharding = Sharding.REPLICATED, *, quantized: bool = True
) -> Tensor:
    """A projection that a checkpoint may quantize."""
    return Tensor(name=name, rows=rows, columns=columns, sharding=sharding, quantized=quantized)


def bias_of(tensor: Tensor) -> Tensor:
    """The bias of a projection: split with the outputs, whole where the inputs are split."""
    sharding = Sharding.REPLICATED if tensor.sharding is Sharding.ROW else tensor.sharding
    return replace(
        tensor, name=f"{tensor.name}.bias", columns=1, sharding=sharding, quantized=False, follows=False
    )


def attention(
    body: Body,
    *,
    kv_heads: int | None = None,
    head_size: int | None = None,
    query_bias: bool = False,
    output_bias: bool = False,
    gated: bool = False,
    name: str = "self_attn",
) -> tuple[Tensor, ...]:
    """Query, key, value and output projections; a gate doubles the query's rows."""
    heads, size, kept = body.heads, head_size or body.head_size, kv_heads or body.kv_heads
    query = linear(f"{name}.q_proj", heads * size * (2 if gated else 1), body.hidden, Sharding.COLUMN)
    key = Tensor(
        name=f"{name}.k_proj",
        rows=kept * size,
        columns=body.hidden,
        sharding=Sharding.KV_COLUMN,
        kv_heads=kept,
        quantized=True,
        follows=True,
    )
    value = replace(key, name=f"{name}.v_proj")
    output = linear(f"{name}.o_proj", body.hidden, heads * size, Sharding.ROW)
    biases: tuple[Tensor, ...] = ()
    if query_bias:
        biases = tuple(map(bias_of, (query, key, value)))
    if output_bias:
        biases = (*biases, bias_of(output))
    return (query, key, value, output, *biases)


def norms(width: int, count: int, name: str = "norm") -> tuple[Tensor, ...]:
    """Vectors of that width."""
    return tuple(Tensor(name=f"{name}_{index}", rows=width) for index in range(count))


def routed(
    name: str, hidden: int, experts: MixtureOfExperts, *, router_bytes: int | None = None
) -> tuple[Tensor, ...]:
    """A router and its experts."""
    return (
        Tensor(name=f"{name}.gate", rows=experts.num_experts, columns=hidden, element_bytes=router_bytes),
        *gated_mlp(f"{name}.experts", hidden, experts.intermediate_size, copies=experts.num_experts),
    )


def read_experts(
    config: Config, *, count: str, width: str, shared: int = 0, chosen: str = "num_experts_per_tok"
) -> MixtureOfExperts:
    """The widths of the routed layers, under the names that this family has for them."""
    number = config.integer(count, maximum=MAX_EXPERTS, minimum=2)
    return MixtureOfExperts(
        num_experts=number,
        num_experts_per_token=config.integer(chosen, maximum=number),
        intermediate_size=config.integer(width, maximum=MAX_WIDTH),
        shared_intermediate_size=shared,
    )


def read_rope(body: Body, *, rotary_dim: int | None = None) -> Rope:
    """The rotary embedding over all of a head, or as much of it as the config says."""
    return rope_from_config(
        body.config,
        rotary_dim=rotary_dim or rotary_dim_of(body.config, body.head_size),
        max_position_embeddings=body.positions,
    )


def decoder(
    body: Body,
    layers: Sequence[Layer],
    *,
    rope: Rope | None,
    intermediate: int,
    experts: MixtureOfExperts | None = None,
    tied: bool = False,
) -> ModelShape:
    """The frame around the layers: embedding, last norm, output layer, length."""
    config = body.config
    quantization = quantization_from_config(config)
    if experts is not None:
        needs_expert_support(
            config, quantization.weights if quantization else None, model_type=body.model_type
        )
    return ModelShape(
        architecture=body.architecture,
        model_type=body.model_type,
        dtype=decoder_dtype(config),
        quantization=quantization,
        hidden_size=body.hidden,
        intermediate_size=intermediate,
        vocab_size=body.vocab,
        num_attention_heads=body.heads,
        layers=tuple(layers),
        first_stage=(embedding("embed_tokens", body.vocab, body.hidden),),
        last_stage=(Tensor(name="norm", rows=body.hidden),),
        every_stage=(),
        tied_embeddings=config.flag("tie_word_embeddings", default=tied),
        rope=rope,
        max_model_len=body.positions if rope is None else rope.max_model_len,
        experts=experts,
        warnings=_rope_warnings(rope),
    )


def whole_on_every_stage(shape: ModelShape) -> ModelShape:
    """A class that builds embedding, norm and output layer on every stage, whether it uses them or not."""
    outputs = () if shape.tied_embeddings else shape.first_stage
    return replace(
        shape,
        first_stage=(),
        last_stage=(),
        every_stage=(*shape.first_stage, *outputs, *shape.last_stage),
    )


def as_transformers(shape: ModelShape) -> ModelShape:
    """A class of Transformers itself: inverse frequencies for each kind of layer, scales in the model's dtype."""
    if shape.rope is not None:
        kinds = len({layer.cache for layer in shape.layers})
        frequencies = kinds * frequency_bytes(shape.rope.rotary_dim // 2)
        shape = replace(shape, rope=None, buffer_bytes=frequencies)
    quantization = shape.quantization
    if quantization is None or quantization.attention_scale_bytes <= _TRANSFORMERS_SCALE_BYTES:
        return shape
    return replace(shape, quantization=replace(quantization, attention_scale_bytes=_TRANSFORMERS_SCALE_BYTES))


def without_attention_scales(shape: ModelShape) -> ModelShape:
    """A class that hands no quantization to its attention, which then has no scales for the cache."""
    if shape.quantization is None:
        return shape
    return replace(shape, quantization=replace(shape.quantization, attention_scale_bytes=0))


def _rope_warnings(rope: Rope | None) -> tuple[str, ...]:
    if rope is None or rope.long_factors_from is None:
        return ()
    return (
        (
            f"LongRoPE: with a context above {rope.long_factors_from} tokens vLLM uses the long factors for short "
            f"prompts too; set maxModelLen to {rope.long_factors_from} if prompts are short."
        ),
    )


def layer_types(config: Config, layers: int, allowed: Sequence[str]) -> tuple[str, ...]:
    """The kind of each layer as the config lists it; empty where it does not.

    Raises:
        UnsupportedModelError: a list of another length, or a kind that this family does not have.
    """
    kinds = config.texts("layer_types")
    if not kinds:
        return ()
    if len(kinds) != layers:
        raise config.refuse("layer_types", f"it must have one entry for each of {layers} layers")
    for kind in kinds:
        if kind not in allowed:
            raise config.refuse(
                "layer_types", f"{kind!r:.80} is not a kind of layer that can be sized", WAY_OUT
            )
    return kinds


def each(caches: Sequence[CacheKind], tensors: tuple[Tensor, ...]) -> tuple[Layer, ...]:
    """Layers that differ only in their cache; equal ones are one object."""
    known = {cache: Layer(cache=cache, tensors=tensors) for cache in dict.fromkeys(caches)}
    return tuple(known[cache] for cache in caches)
