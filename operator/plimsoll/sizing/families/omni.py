"""Decoders behind encoders of images and sound: the thinkers of Qwen2.5-Omni and Qwen3-Omni, Qwen2-Audio, Kimi-VL, Kimi K2.5."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import Config
from plimsoll.sizing.families import deepseek, mixture
from plimsoll.sizing.families.defaults import completed, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import (
    joined,
    qwen2_text,
    root_tie,
    text_config,
    with_inherited,
    with_parts,
)
from plimsoll.sizing.image_towers import moon_tower
from plimsoll.sizing.sound import omni3_audio_tower, omni_audio_tower, qwen2_audio_tower
from plimsoll.sizing.towers import Tower, grid, qwen2_5_tower, qwen3_tower

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_MERGE: Final = (2, 2)
_MAX_MERGE: Final = 64
_MAX_FRAMES: Final = 4096


def section_of(config: Config, field: str, kind: str) -> tuple[Config, tuple[str, ...]]:
    """A part of the config, completed from the class of that kind; absent, it is all of that class."""
    return completed(config.section(field) or Config({}, config.name(field)), kind)


def qwen2_5_omni(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The thinker alone (qwen2_5_omni_thinker.py); the talker is not served."""
    thinker = config.section("thinker_config")
    if thinker is None:
        raise config.refuse("thinker_config", "the config of the thinker must stand there", WAY_OUT)
    thinker = with_inherited(config, thinker)
    text = text_config(thinker)
    text = replace(
        text, values={"tie_word_embeddings": True, **text.values}
    )  # as the class of this text has it
    shape = qwen2_text(text, architecture)
    vision, left_out = section_of(thinker, "vision_config", "qwen2_5_vl vision")
    audio, missing = section_of(thinker, "audio_config", "qwen2_5_omni audio")
    seeing, hearing = qwen2_5_tower(vision), omni_audio_tower(audio)
    tower = Tower(
        tensors=(*hearing.tensors, *seeing.tensors), buffer_bytes=hearing.buffer_bytes + seeing.buffer_bytes
    )
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning((*left_out, *missing))))


def qwen3_omni(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The thinker alone (qwen3_omni_moe_thinker.py); talker and code to wave are not served."""
    thinker = config.section("thinker_config")
    if thinker is None:
        raise config.refuse("thinker_config", "the config of the thinker must stand there", WAY_OUT)
    thinker = with_inherited(config, thinker)
    text = text_config(thinker, tied=root_tie(config, default=None))
    shape = with_parts(mixture.qwen_moe(text, architecture, "qwen3_moe"), text)
    vision, audio = thinker.section("vision_config"), thinker.section("audio_config")
    if vision is None or audio is None:
        field = "audio_config" if audio is None else "vision_config"
        raise thinker.refuse(field, "the config of the encoder must stand there", WAY_OUT)
    positions = {"num_position_embeddings": grid(vision) ** 2}
    seeing = qwen3_tower(replace(vision, values={**vision.values, **positions}))
    hearing = omni3_audio_tower(audio)
    tower = Tower(
        tensors=(*hearing.tensors, *seeing.tensors), buffer_bytes=hearing.buffer_bytes + seeing.buffer_bytes
    )
    return joined(shape, tower, architecture, model_type)


def qwen2_audio(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Qwen 2 behind Whisper's encoder (qwen2_audio.py)."""
    text, left_out = completed(text_config(config, tied=root_tie(config, default=None)), "qwen2")
    shape = qwen2_text(text, architecture)
    audio, missing = section_of(config, "audio_config", "qwen2_audio_encoder")
    shape = joined(shape, qwen2_audio_tower(audio, shape.hidden_size), architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning((*left_out, *missing))))


def kimi_vl(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Moonlight's latent attention and experts behind MoonViT (kimi_vl.py)."""
    text = text_config(config, tied=root_tie(config, default=None))
    shape = deepseek.deepseek_shape(text, architecture, text.text("model_type", default="deepseek_v2"))
    vision, missing = section_of(config, "vision_config", "moonvit")
    tower = moon_tower(vision, shape.hidden_size, _merge(vision))
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


def kimi_k25(config: Config, architecture: str, model_type: str) -> ModelShape:
    """Kimi K2.5 and K2.6: K2 behind MoonViT for images and videos (kimi_k25.py)."""
    text = text_config(config, tied=root_tie(config, default=True))
    shape = deepseek.deepseek_shape(text, architecture, text.text("model_type", default="deepseek_v3"))
    vision, _ = section_of(
        config, "vision_config", "kimi_k25_vision"
    )  # files have older names, with these values
    frames = vision.integer("pos_emb_time", maximum=_MAX_FRAMES)
    tower = moon_tower(vision, shape.hidden_size, _merge(vision), frames=frames)
    return joined(shape, tower, architecture, model_type)


def _merge(vision: Config) -> tuple[int, int]:
    merge = vision.values.get("merge_kernel_size", _MERGE)
    if not isinstance(merge, (list, tuple)) or len(merge) != 2 or not all(_is_merge(size) for size in merge):  # noqa: PLR2004
        raise vision.refuse("merge_kernel_size", "it must be two whole numbers, such as [2, 2]")
    return merge[0], merge[1]


def _is_merge(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _MAX_MERGE


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Qwen2_5OmniModel": (qwen2_5_omni, ("qwen2_5_omni",)),
    "Qwen2_5OmniForConditionalGeneration": (qwen2_5_omni, ("qwen2_5_omni",)),
    "Qwen3OmniMoeForConditionalGeneration": (qwen3_omni, ("qwen3_omni_moe",)),
    "Qwen2AudioForConditionalGeneration": (qwen2_audio, ("qwen2_audio",)),
    "KimiK25ForConditionalGeneration": (kimi_k25, ("kimi_k25",)),
    "KimiVLForConditionalGeneration": (kimi_vl, ("kimi_vl",)),
}
