"""DBRX: routed experts in every layer, its sizes under names of its own and in sections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, Config
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    routed,
    whole_on_every_stage,
)
from plimsoll.sizing.families.plain import renamed, window_everywhere
from plimsoll.sizing.model import Layer
from plimsoll.sizing.rope import Rope

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Body, Builder
    from plimsoll.sizing.model import ModelShape

_NAMES: Final = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "max_position_embeddings": "max_seq_len",
}
# The class reads none of these, and each would change what the engine takes beside it.
_REFUSED: Final = (
    "head_dim",
    "layer_types",
    "model_max_length",
    "num_key_value_heads",
    "rope_parameters",
    "rope_scaling",
    "tie_word_embeddings",
)
_LARGEST_BASE: Final = 2.0**60


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/dbrx.py."""
    for name in (*_REFUSED, *_NAMES):
        if config.values.get(name):
            raise config.refuse(name, f"vLLM's {architecture} does not build it", WAY_OUT)
    body = _body(config, architecture, model_type)
    experts = read_experts(
        _section(config, "ffn_config"), count="moe_num_experts", width="ffn_hidden_size", chosen="moe_top_k"
    )
    tensors = (*attention(body), *routed("ffn", body.hidden, experts), *norms(body.hidden, 2))
    layer = Layer(cache=window_everywhere(body), tensors=tensors)
    rope = Rope(positions=body.positions, rotary_dim=body.head_size, max_model_len=body.positions)
    shape = decoder(body, (layer,) * body.layers, rope=rope, intermediate=0, experts=experts)
    return whole_on_every_stage(shape)


def _body(config: Config, architecture: str, model_type: str) -> Body:
    inside = _section(config, "attn_config")
    if inside.number("rope_theta", default=0.0, minimum=0.0, maximum=_LARGEST_BASE) < 1:
        raise inside.refuse("rope_theta", "vLLM needs a number there")
    body = read_body(renamed(config, _NAMES, {}), architecture, model_type)
    kv_heads = inside.integer("kv_n_heads", maximum=MAX_HEADS)
    if body.heads % kv_heads:
        raise inside.refuse("kv_n_heads", f"it must divide n_heads, {body.heads}")
    return replace(body, kv_heads=kv_heads)


def _section(config: Config, name: str) -> Config:
    section = config.section(name)
    if section is None:
        raise config.refuse(name, "it must be an object")
    return section


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {"DbrxForCausalLM": (build, ("dbrx",))}
