"""HyperCLOVA X: Llama's layers with scaled sums, and two norms more behind attention and MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.families.plain import Plain, plain_shape

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_NORMS: Final = 4
_ROW: Final = Plain(
    query_bias=("attention_bias",),
    output_bias=("attention_bias",),
    mlp_bias=("mlp_bias",),
    refused=("dual_chunk_attention_config", "model_max_length"),
)


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/hyperclovax.py."""
    config.integer("intermediate_size", maximum=MAX_WIDTH)
    row = replace(_ROW, norms=_NORMS) if config.flag("use_post_norm", default=True) else _ROW
    shape = plain_shape(config, architecture, model_type, row)
    if shape.hidden_size % shape.num_attention_heads:
        raise config.refuse("num_attention_heads", f"it must divide hidden_size, {shape.hidden_size}")
    return shape


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "HyperCLOVAXForCausalLM": (build, ("hyperclovax",))
}
