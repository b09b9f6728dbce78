"""A.X K1: DeepSeek V3's attention and experts, and one more norm behind each MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families.deepseek import deepseek_shape
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.tensors import Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config
    from plimsoll.sizing.model import ModelShape

# What Transformers' AXK1Config and vLLM's class take where the config is silent, and DeepSeek's take otherwise.
_DEFAULTS: Final = {
    "first_k_dense_replace": 1,
    "n_group": 8,
    "n_routed_experts": 192,
    "n_shared_experts": 1,
    "q_lora_rank": 1536,
    "topk_group": 4,
    "topk_method": "noaux_tc",
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/AXK1.py."""
    for field in _DEFAULTS:
        if field in config.values and config.values[field] is None:
            raise config.refuse(field, "it must not be null for this model", WAY_OUT)
    if config.values.get("mlp_layer_types") is not None:
        raise config.refuse("mlp_layer_types", "such a variant is not one that can be sized", WAY_OUT)
    if config.flag("tie_word_embeddings", default=False):
        raise config.refuse("tie_word_embeddings", "vLLM's class has an output layer of its own", WAY_OUT)
    config, missing = completed_with(config, _DEFAULTS)
    shape = deepseek_shape(config, architecture, model_type)
    norm = Tensor(name="post_mlp_layernorm", rows=shape.hidden_size)
    layers = tuple(replace(layer, tensors=(*layer.tensors, norm)) for layer in shape.layers)
    return replace(shape, layers=layers, warnings=(*shape.warnings, *warning(missing)))


FAMILIES: Final = {"AXK1ForCausalLM": (build, ("axk1",))}
