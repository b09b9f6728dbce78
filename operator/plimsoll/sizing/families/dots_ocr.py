"""dots.ocr: Qwen 2 behind an encoder of its own, with RMS norms, gated MLPs and rotary positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import dense
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.vision import joined
from plimsoll.sizing.towers import Tower, column, row, split_heads, square_patches, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

# Sources: vLLM 0.33.0, model_executor/models/dots_ocr.py and transformers_utils/configs/dotsocr.py.
_FLOAT32_BYTES: Final = 4
_MAX_MERGE: Final = 64
_DEFAULTS: Final = {
    "embed_dim": 1536,
    "hidden_size": 1536,
    "intermediate_size": 4224,
    "num_hidden_layers": 42,
    "num_attention_heads": 12,
    "num_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text stands at the root of the config."""
    shape = dense.build(config, architecture, "qwen2")
    vision = config.section("vision_config") or Config({}, config.name("vision_config"))
    vision, missing = completed_with(vision, _DEFAULTS)
    shape = joined(shape, _tower(vision, shape.hidden_size), architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning(missing)))


def _tower(vision: Config, text_width: int) -> Tower:
    width = vision.integer("embed_dim", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    merged = width * vision.integer("spatial_merge_size", maximum=_MAX_MERGE) ** 2
    bias = vision.flag("use_bias", default=False)
    out = vision.integer("hidden_size", maximum=MAX_WIDTH)
    if out < text_width:  # what is wider is cut
        raise vision.refuse("hidden_size", f"it must be at least hidden_size of the text, {text_width}")
    last = vision.flag("post_norm", default=True)
    tensors = (
        square_patches(vision, width),
        whole("patch_embed.proj.bias", width),
        whole("patch_embed.norm", width),
        whole("blocks.norms", 2 * width, copies=depth),
        *split_heads(vision, width, depth, bias=bias),
        *row("blocks.attn.proj", width, width, bias=bias, copies=depth),
        *column("blocks.mlp.fc1", wide, width, bias=bias, copies=depth),
        *column("blocks.mlp.fc3", wide, width, bias=bias, copies=depth),
        *row("blocks.mlp.fc2", width, wide, bias=bias, copies=depth),
        *((whole("post_trunk_norm", width),) if last else ()),
        whole("merger.ln_q", 2 * width),
        *column("merger.mlp.0", merged, merged),
        *row("merger.mlp.2", out, merged),
    )
    return Tower(tensors=tensors, buffer_bytes=_FLOAT32_BYTES * -(-(width // heads // 2) // 2))


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "DotsOCRForCausalLM": (build, ("dots_ocr",)),
}
