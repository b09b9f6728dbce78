"""From a config to a `ModelShape`: one builder per family of architectures, anything else refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import Config
from plimsoll.sizing.encoders import encoder_of
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.families import (
    deepseek,
    deepseek_v4,
    dense,
    draft,
    falcon,
    further,
    hybrids,
    mixture,
    opt,
    vision,
)
from plimsoll.sizing.files import with_own_output
from plimsoll.sizing.model import ModelShape
from plimsoll.sizing.skips import one_for_equals, skip_modules

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.families.parts import Builder

# vLLM's class -> the builder of its family, and the model types whose config it may carry.
_FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    **{name: (dense.build, types) for name, types in dense.FAMILY.items()},
    **mixture.FAMILIES,
    **hybrids.DECODERS,
    **falcon.FAMILIES,
    **vision.FAMILIES,
    **deepseek.FAMILIES,
    **deepseek_v4.FAMILIES,
    **opt.FAMILIES,
    **further.DECODERS,
    **further.WITH_ENCODERS,
}
# Classes whose published configs name no model type (vLLM 0.33.0, transformers_utils/config.py).
_UNNAMED: Final = {"LongcatFlashForCausalLM": "longcat_flash"}
__all__ = ["SUPPORTED_ARCHITECTURES", "ModelShape", "shape_from_facts"]

SUPPORTED_ARCHITECTURES: Final = tuple(_FAMILIES)
_WAY_OUT: Final = (
    "what can be sized is Llama, Mistral, Mixtral, Qwen, Phi, Gemma, Granite, gpt-oss, DeepSeek, Kimi, GLM, MiniMax, MiMo, "
    "Step, LongCat, Nemotron, Falcon, Cohere, OLMo, EXAONE, ERNIE 4.5, Hunyuan, Pangu, Ling, InternLM, MiniCPM, DBRX, "
    "StarCoder 2, GPT-2, GPT-NeoX, BLOOM, OPT, hybrids such as Jamba, Zamba 2 and LFM2, and encoders with decoders such as "
    "LLaVA, InternVL, Qwen-Omni, PaliGemma, MiniCPM-V, Molmo and Whisper"
)
_SECTIONS: Final = ("text_config", "vision_config", "audio_config", "llm_config", "thinker_config")


def shape_from_facts(facts: ModelFacts) -> ModelShape:
    """Read a model's config into layers and tensors.

    Raises:
        UnsupportedModelError: an architecture, or the value of a field, that this version cannot count.
    """
    config = Config(facts.config)
    builder, architecture, model_type = _family(config)
    if architecture not in vision.FAMILIES and architecture not in further.WITH_ENCODERS:
        _only_text(config)
    shape = skip_modules(draft.with_draft(builder(config, architecture, model_type), config))
    shape = replace(shape, layers=one_for_equals(shape.layers))
    if architecture in vision.TIED_BY_CLASS and config.values.get("tie_word_embeddings") is None:
        shape = with_own_output(shape, facts)
    return _with_encoder(shape, config) if shape.tower else shape


def _with_encoder(shape: ModelShape, config: Config) -> ModelShape:
    """What the encoder works on while the engine profiles; where it is not known, the warning stays."""
    encoder = encoder_of(config)
    if encoder is None:
        return shape
    warnings = tuple(warning for warning in shape.warnings if warning != vision.ENCODER_WARNING)
    return replace(shape, encoder=encoder, warnings=warnings)


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
    if architecture in hybrids.DROPPED:
        raise UnsupportedModelError(
            "architectures",
            architecture,
            f"vLLM has no class for it after {hybrids.DROPPED[architecture]}",
            _WAY_OUT,
        )
    if architecture not in _FAMILIES:
        raise UnsupportedModelError(
            "architectures", architecture, "this architecture is not one that can be sized", _WAY_OUT
        )
    builder, types = _FAMILIES[architecture]
    model_type = config.text("model_type", default=_UNNAMED.get(architecture))
    if model_type not in types:
        raise config.refuse("model_type", f"{architecture} has {' or '.join(types)}", _WAY_OUT)
    return builder, architecture, model_type
