"""Intern-S1: Qwen 3, dense or with experts, behind InternViT as Transformers names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.families import dense, mixture
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, text_config, vision_config
from plimsoll.sizing.image_towers import intern_hf_tower
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_HALF: Final = 0.5
_ATTENTION: Final = "encoder.layer.attention"


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/interns1.py and interns1_vit.py."""
    text = text_config(config)
    kind = text.text("model_type")
    if config.number("downsample_ratio", default=0.5, minimum=0.0, maximum=1.0) != _HALF:
        raise config.refuse("downsample_ratio", "0.5 is what can be sized", WAY_OUT)
    if kind == "qwen3_moe":
        shape = mixture.qwen_moe(text, architecture, kind)
    elif kind == "qwen3":
        shape = dense.build(text, architecture, kind)
    else:
        raise text.refuse("model_type", "behind this encoder it is qwen3 or qwen3_moe", WAY_OUT)
    return joined(shape, _tower(vision_config(config), shape.hidden_size), architecture, model_type)


def _tower(vision: Config, text_width: int) -> Tower:
    """The larger encoder has norms of query and key, and no bias on them and on value."""
    bias = vision.flag("attention_bias", default=False)
    normed = vision.flag("use_qk_norm", default=False)
    usual = replace(vision, values={**vision.values, "attention_bias": True, "use_qk_norm": False})
    tower = intern_hf_tower(usual, text_width)
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = next(tensor.copies for tensor in tower.tensors if tensor.name == _ATTENTION)
    tensors = tower.tensors
    if not bias:
        kept = (
            whole(_ATTENTION, 4 * width, width, copies=depth),
            whole(f"{_ATTENTION}.projection_layer.bias", width, copies=depth),
        )
        tensors = (*(tensor for tensor in tensors if tensor.name != _ATTENTION), *kept)
    if normed:
        tensors = (*tensors, whole(f"{_ATTENTION}.qk_norm", 2 * width, copies=depth))
    return replace(tower, tensors=tensors)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "InternS1ForConditionalGeneration": (build, ("interns1",)),
}
