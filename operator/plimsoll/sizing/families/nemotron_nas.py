"""Nemotron Super and Ultra (DeciLM): Llama with blocks of their own heads and widths, some left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import WAY_OUT, Body, attention, decoder, norms, read_body, read_rope
from plimsoll.sizing.layers import FullAttention, NoCache
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.units import round_up

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_MULTIPLE: Final = 256
_LARGEST_FACTOR: Final = 64.0


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/nemotron_nas.py."""
    for name in ("attention_bias", "bias", "mlp_bias", "qkv_bias"):
        if config.flag(name, default=False):
            raise config.refuse(name, "such a variant is not one that can be sized", WAY_OUT)
    body = read_body(config, architecture, model_type)
    blocks = config.values.get("block_configs")
    if not isinstance(blocks, (list, tuple)) or len(blocks) != body.layers:
        raise config.refuse("block_configs", f"it must have one entry for each of {body.layers} layers")
    made: dict[tuple[int, int], Layer] = {}
    layers, widest = [], 0
    for index, block in enumerate(blocks):
        if not isinstance(block, dict):
            raise config.refuse("block_configs", f"entry {index} must be an object")
        part = Config(block, config.name(f"block_configs[{index}]"))
        kind = (_kv_heads(part, body), _width(part, body))
        widest = max(widest, kind[1])
        layers.append(made.setdefault(kind, _layer(body, *kind)))
    return decoder(body, layers, rope=read_rope(body), intermediate=widest)


def _part(block: Config, name: str) -> Config | None:
    """One half of a block; None where it is left out."""
    part = block.section(name)
    if part is None:
        raise block.refuse(name, "it must be an object")
    if part.flag("no_op", default=False):
        return None
    if part.flag("replace_with_linear", default=False):
        raise part.refuse("replace_with_linear", "vLLM does not build it", WAY_OUT)
    return part


def _kv_heads(block: Config, body: Body) -> int:
    part = _part(block, "attention")
    if part is None:
        return 0
    group = part.integer("n_heads_in_group", maximum=MAX_HEADS)
    if body.heads % group:
        raise part.refuse("n_heads_in_group", f"it must divide num_attention_heads, {body.heads}")
    return body.heads // group


def _width(block: Config, body: Body) -> int:
    part = _part(block, "ffn")
    if part is None:
        return 0
    if part.values.get("ffn_mult") is None:
        return part.integer("intermediate_size", maximum=MAX_WIDTH)
    factor = part.number("ffn_mult", default=1.0, minimum=1 / MAX_WIDTH, maximum=_LARGEST_FACTOR)
    return round_up(int(2 * factor * body.hidden / 3), _MULTIPLE)


def _layer(body: Body, kv_heads: int, width: int) -> Layer:
    tensors: tuple[Tensor, ...] = ()
    cache: CacheKind = NoCache()
    if kv_heads:
        tensors = (*attention(body, kv_heads=kv_heads), *norms(body.hidden, 1, "input_layernorm"))
        cache = FullAttention(num_kv_heads=kv_heads, head_size=body.head_size)
    if width:
        tensors = (*tensors, *gated_mlp("mlp", body.hidden, width), *norms(body.hidden, 1, "post_layernorm"))
    return Layer(cache=cache, tensors=tensors, attentions=1 if kv_heads else 0)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "DeciLMForCausalLM": (build, ("nemotron-nas",))
}
