"""From a config to a `ModelShape`: one builder per family of architectures, anything else refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import Config
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.families import deepseek, delta, dense, falcon, mixture, nemotron, opt, vision
from plimsoll.sizing.model import ModelShape
from plimsoll.sizing.skips import skip_modules

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.families.parts import Builder

# vLLM's class -> the builder of its family, and the model types whose config it may carry.
_FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    **{name: (dense.build, types) for name, types in dense.FAMILY.items()},
    **mixture.FAMILIES,
    **delta.FAMILIES,
    **nemotron.FAMILIES,
    **falcon.FAMILIES,
    **vision.FAMILIES,
    **deepseek.FAMILIES,
    **opt.FAMILIES,
}
__all__ = ["SUPPORTED_ARCHITECTURES", "ModelShape", "shape_from_facts"]

SUPPORTED_ARCHITECTURES: Final = tuple(_FAMILIES)
_WAY_OUT: Final = (
    "what can be sized is Llama 2 and 3, Mistral, Mixtral, Qwen 1.5 to 3.6 with and without vision, Phi 3, Gemma 1 to 4, "
    "Granite 3, gpt-oss, DeepSeek V2 to V3.2, Kimi K2, GLM 4.5 to 5, MiniMax M2, Nemotron-H, Falcon, InternVL, "
    "Mistral Small 3 and OPT"
)
_SECTIONS: Final = ("text_config", "vision_config", "audio_config", "llm_config", "thinker_config")


def shape_from_facts(facts: ModelFacts) -> ModelShape:
    """Read a model's config into layers and tensors.

    Raises:
        UnsupportedModelError: an architecture, or the value of a field, that this version cannot count.
    """
    config = Config(facts.config)
    builder, architecture, model_type = _family(config)
    if architecture not in vision.FAMILIES:
        _only_text(config)
    return skip_modules(builder(config, architecture, model_type))


def _only_text(config: Config) -> None:
    for section in _SECTIONS:
        if config.values.get(section) is not None:
            raise UnsupportedModelError(
                section, "...", "parts beside the text are not sized with this architecture", _WAY_OUT
            )


def _family(config: Config) -> tuple[Builder, str, str]:
    """The builder, the class that vLLM will choose and the model type, if they belong together."""
    names = config.texts("architectures")
    if len(names) != 1:
        raise config.refuse("architectures", "it must name one architecture", _WAY_OUT)
    (architecture,) = names
    if architecture not in _FAMILIES:
        raise UnsupportedModelError(
            "architectures", architecture, "this architecture is not one that can be sized", _WAY_OUT
        )
    builder, types = _FAMILIES[architecture]
    model_type = config.text("model_type")
    if model_type not in types:
        raise config.refuse("model_type", f"{architecture} has {' or '.join(types)}", _WAY_OUT)
    return builder, architecture, model_type
