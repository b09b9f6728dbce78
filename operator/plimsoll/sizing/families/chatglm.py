"""ChatGLM 2 and 3, GLM 4 in its first form: a plain decoder whose config has names and defaults of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.plain import Plain, plain_shape

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_ROW: Final = Plain(
    names={
        "num_hidden_layers": "num_layers",
        "num_key_value_heads": "multi_query_group_num",
        "intermediate_size": "ffn_hidden_size",
        "vocab_size": "padded_vocab_size",
        "max_position_embeddings": "seq_length",
    },
    query_bias=("add_bias_linear", "add_qkv_bias"),
    output_bias=("add_bias_linear",),
    mlp_bias=("add_bias_linear",),
    rotated=0.5,
    every_stage=True,
)
# The class of the config has a default for each of the sizes; a published config says them all.
_SIZES: Final = (
    "hidden_size",
    "num_attention_heads",
    "num_layers",
    "multi_query_group_num",
    "ffn_hidden_size",
    "padded_vocab_size",
    "seq_length",
)
# What the engine reads beside the names of the class, and what the class does not read.
_REFUSED: Final = (
    "head_dim",
    "intermediate_size",
    "layer_types",
    "model_max_length",
    "num_key_value_heads",
    "partial_rotary_factor",
    "rope_parameters",
    "rope_scaling",
    "rotary_dim",
)
_SAME: Final = {
    "num_hidden_layers": "num_layers",
    "max_position_embeddings": "seq_length",
    "n_head_kv": "multi_query_group_num",
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/chatglm.py and transformers_utils/configs/chatglm.py."""
    for name in _REFUSED:
        if config.values.get(name):
            raise config.refuse(name, f"vLLM's {architecture} does not read it", WAY_OUT)
    for name in _SIZES:
        config.integer(name, maximum=MAX_LAYERS if name == "num_layers" else MAX_WIDTH)
    for name, own in _SAME.items():
        if config.values.get(name) not in (None, config.values[own]):
            raise config.refuse(name, f"it contradicts {own}")
    if not config.flag("multi_query_attention", default=False):
        raise config.refuse("multi_query_attention", "only groups of heads can be sized here", WAY_OUT)
    for name in ("rmsnorm", "post_layer_norm"):
        if not config.flag(name, default=True):
            raise config.refuse(name, "without it the model is not one that can be sized", WAY_OUT)
    if config.values.get("original_rope") is None:
        raise config.refuse("original_rope", "vLLM needs it to be true or false")
    config.flag("original_rope", default=True)
    values = {name: value for name, value in config.values.items() if name not in (*_SAME, "vocab_size")}
    return plain_shape(replace(config, values=values), architecture, model_type, _ROW)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "ChatGLMModel": (build, ("chatglm",)),
    "ChatGLMForConditionalGeneration": (build, ("chatglm",)),
}
