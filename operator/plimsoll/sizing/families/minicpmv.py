"""MiniCPM-V 2.5 to 4.5: Llama, Qwen 2 or Qwen 3 behind SigLIP and a resampler; 4.6: Qwen 3.5 behind two mergers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import delta, dense
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.parts import WAY_OUT
from plimsoll.sizing.families.vision import joined, text_config, vision_config
from plimsoll.sizing.image_towers import siglip_layers
from plimsoll.sizing.towers import Tower, row, split_heads, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

# The fields of the text stand at the root; which text it is, the version says.
_TEXTS: Final = {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"}
_TIMED: Final = "4.5"
_SIDE: Final = 70  # of the table of positions
_TIMES: Final = 36000  # of the table of times
_HEAD: Final = 128
_MAX_QUERIES: Final = 2**16
_ELEMENT_BYTES: Final = 2  # tables are made in float32 and kept in the model's dtype

_MERGED: Final = 4  # patches that each merger of 4.6 joins
_TEXT: Final = "qwen3_5_text"
# What the Transformers class of 4.6's encoder takes where the config leaves it out (transformers 5.19.0).
_ENCODER: Final = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/minicpmv.py."""
    version = _version(config)
    for name in ("tie_word_embeddings", "drop_vision_last_layer"):
        if config.values.get(name) is None:  # classes of the repositories differ in what they take then
            raise config.refuse(name, "it must be true or false", WAY_OUT)
    shape = dense.build(config, architecture, _TEXTS[version])
    vision = vision_config(config)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    if config.flag("drop_vision_last_layer", default=False):
        depth -= 1
    layers = siglip_layers(vision, depth, last_norm=True)
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    tower = Tower(
        tensors=(*layers.tensors, *_resampler(config, width, shape.hidden_size)),
        buffer_bytes=(_SIDE**2 + (_TIMES if version == _TIMED else 0)) * shape.hidden_size * _ELEMENT_BYTES,
    )
    return joined(shape, tower, architecture, model_type)


def _version(config: Config) -> str:
    """As the engine chooses its class by it; a config without one is not told apart here."""
    value = config.values.get("version")
    version = str(value) if isinstance(value, (str, float)) else ""
    if version not in _TEXTS:
        raise config.refuse("version", f"what can be sized is {', '.join(_TEXTS)}", WAY_OUT)
    return version


def _resampler(config: Config, width: int, text_width: int) -> tuple[Tensor, ...]:
    """Attention of learned queries to the patches, whole on every rank."""
    heads = text_width // _HEAD
    if heads == 0 or text_width % heads or text_width % 4:
        raise config.refuse("hidden_size", f"the resampler wants a width that {heads} heads and 4 divide")
    queries = config.integer("query_num", maximum=_MAX_QUERIES)
    return (
        whole("resampler.query", queries, text_width),
        *((whole("resampler.kv_proj", text_width, width),) if width != text_width else ()),
        whole("resampler.attn.in_proj", 3 * text_width, text_width + 1),
        whole("resampler.attn.out_proj", text_width, text_width + 1),
        whole("resampler.norms", 6 * text_width),
        whole("resampler.proj", text_width, text_width),
    )


def merging(config: Config, architecture: str, model_type: str) -> ModelShape:
    """MiniCPM-V 4.6: one merger inside the encoder and one behind it (minicpmv4_6.py)."""
    text = text_config(config)
    tied = text.values.get("tie_word_embeddings")
    if tied is None and config.flag("tie_word_embeddings", default=False):
        raise text.refuse("tie_word_embeddings", "it must stand here too, where vLLM reads it", WAY_OUT)
    # The engine follows the state's own dtype for the classes of Qwen 3.5 alone.
    text = replace(text, values={**text.values, "mamba_ssm_dtype": None})
    if text.text("model_type", default=_TEXT) != _TEXT:
        raise text.refuse("model_type", f"behind this encoder it is {_TEXT}", WAY_OUT)
    if config.integer("merger_times", maximum=_MERGED, default=1) != 1:
        raise config.refuse("merger_times", "vLLM builds one merger behind the encoder", WAY_OUT)
    shape = delta.build(text, architecture, _TEXT)
    vision, left_out = completed_with(vision_config(config), _ENCODER)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    if config.flag("drop_vision_last_layer", default=False):
        depth -= 1
    layers = siglip_layers(vision, depth, last_norm=True)
    tower = Tower(tensors=(*layers.tensors, *_mergers(vision, shape.hidden_size)))
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(left_out)))


def _mergers(vision: Config, text_width: int) -> tuple[Tensor, ...]:
    """Attention in windows is split over the ranks, what merges is whole on each."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    wide = _MERGED * vision.integer("intermediate_size", maximum=MAX_WIDTH)
    merged = _MERGED * width
    return (
        *split_heads(vision, width, 1, bias=True),
        *row("vit_merger.self_attn.out_proj", width, width),
        whole("vit_merger.norms", 2 * width + 2 * merged),
        whole("vit_merger.linear_1", wide, merged + 1),
        whole("vit_merger.linear_2", width, wide + 1),
        whole("merger.pre_norm", 2 * merged),
        whole("merger.linear_1", merged, merged + 1),
        whole("merger.linear_2", text_width, merged + 1),
    )


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "MiniCPMV": (build, ("minicpmv",)),
    "MiniCPMV4_6ForConditionalGeneration": (merging, ("minicpmv4_6",)),
}
