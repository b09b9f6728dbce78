"""GLM 4.1V, 4.5V and 4.6V: the GLM decoders behind their encoder of images and videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families import mixture
from plimsoll.sizing.families.plain import plain_shape
from plimsoll.sizing.families.plain_rows import ROWS
from plimsoll.sizing.families.vision import joined, root_tie, text_config, vision_config, with_parts
from plimsoll.sizing.image_towers import glm_tower

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_DENSE: Final = "Glm4ForCausalLM"


def dense(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/glm4_1v.py."""
    text = text_config(config, tied=root_tie(config))
    shape = with_parts(plain_shape(text, _DENSE, "glm4", ROWS[_DENSE][1]), text)
    return joined(shape, glm_tower(vision_config(config)), architecture, model_type)


def routed(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The same with routed experts."""
    text = text_config(config, tied=root_tie(config))
    shape = with_parts(mixture.glm4_moe(text, "Glm4MoeForCausalLM", "glm4_moe"), text)
    return joined(shape, glm_tower(vision_config(config)), architecture, model_type)


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Glm4vForConditionalGeneration": (dense, ("glm4v",)),
    "Glm4vMoeForConditionalGeneration": (routed, ("glm4v_moe",)),
}
