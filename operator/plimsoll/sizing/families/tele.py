"""TeleChat 2 and 3, Tele-FLM: Llama's decoder under other names, with other biases, with a rope type of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from plimsoll.sizing.checked import MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families.parts import WAY_OUT, bias_of, linear
from plimsoll.sizing.families.plain import Plain, plain_shape
from plimsoll.sizing.tensors import Sharding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_BIAS: Final = ("attention_bias", "bias")
_LLAMA: Final = Plain(
    query_bias=_BIAS,
    output_bias=_BIAS,
    mlp_bias=("mlp_bias",),
    refused=("qkv_bias", "model_max_length", "dual_chunk_attention_config"),
)
_NAMES: Final = {
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "ffn_hidden_size",
}
_TELECHAT2: Final = Plain(
    names=_NAMES,
    output_bias=True,
    refused=(
        "embed_layernorm",
        "head_dim",
        "layer_types",
        "model_max_length",
        "rope_parameters",
        "rope_scaling",
    ),
)
_ROPE_LENGTH: Final = 8192  # of the class, where the config has no max_position_embeddings
_OWN_YARN: Final = "telechat3-yarn"


def telechat2(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/telechat2.py: biases behind the output and the down projection alone."""
    for name, own in _NAMES.items():
        size = config.integer(own, maximum=MAX_WIDTH)
        if config.values.get(name) not in (None, size):
            raise config.refuse(name, f"it contradicts {own}")
    if config.values.get("num_key_value_heads") is None:
        raise config.refuse("num_key_value_heads", "vLLM's class needs a number there", WAY_OUT)
    positions = config.optional_integer("max_position_embeddings", maximum=MAX_TOKENS)
    longest = config.integer("seq_length", maximum=MAX_TOKENS, default=positions)
    longest = min(longest, positions or longest)
    values = {**config.values, "max_position_embeddings": positions or _ROPE_LENGTH}
    shape = plain_shape(replace(config, values=values), architecture, model_type, _TELECHAT2)
    down = linear("mlp.down_proj", shape.hidden_size, shape.intermediate_size, Sharding.ROW)
    layer = replace(shape.layers[0], tensors=(*shape.layers[0].tensors, bias_of(down)))
    shape = replace(shape, layers=(layer,) * len(shape.layers))
    rope = shape.rope and replace(shape.rope, max_model_len=longest)
    return replace(shape, rope=rope, max_model_len=longest)


def llama(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/llama.py, teleflm.py; transformers_utils/config.py for the rope type."""
    if config.values.get("intermediate_size") is None:
        raise config.refuse("intermediate_size", "vLLM's class needs a number there")
    return plain_shape(_with_yarn(config), architecture, model_type, _LLAMA)


def _with_yarn(config: Config) -> Config:
    """The config with YaRN where it says TeleChat 3's own, which differs in a factor of attention alone."""
    made: dict[str, Mapping[str, Any]] = {}
    for name in ("rope_parameters", "rope_scaling"):
        section = config.section(name)
        if section is None or _OWN_YARN not in (section.values.get("rope_type"), section.values.get("type")):
            continue
        if section.values.get("rope_type", _OWN_YARN) != section.values.get("type", _OWN_YARN):
            raise section.refuse("type", "it contradicts rope_type")
        if section.values.get("factor") is None:
            raise section.refuse("factor", "vLLM needs a number there")
        rest = {key: value for key, value in section.values.items() if key != "type"}
        made[name] = {**cast("Mapping[str, Any]", rest), "rope_type": "yarn"}
    return replace(config, values={**config.values, **made})


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "TeleChat2ForCausalLM": (telechat2, ("telechat",)),
    "TeleFLMForCausalLM": (llama, ("TeleFLM",)),
    "TeleChat3ForCausalLM": (llama, ("telechat3",)),
}
