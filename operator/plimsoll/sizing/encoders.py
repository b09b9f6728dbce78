"""What an encoder of images or sound works on while the engine profiles: the largest items, as many as a batch holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from plimsoll.sizing.checked import MAX_WIDTH, Config

if TYPE_CHECKING:
    from plimsoll.sizing.engine import EngineVersion

# Sources: vLLM 0.33.0, multimodal/encoder_budget.py and the processors of the model classes; the largest image is
# the default of each family's image processor.
_CHANNELS: Final = 3
_QWEN2_TOKENS: Final = 16384  # 12,845,056 pixels in squares of 28
_QWEN3_TOKENS: Final = 16384  # 16,777,216 pixels in squares of 32
_QWEN2_FRAME_PAIRS: Final = 7
# Before this release Qwen 3 VL interpolated its positions for all patches at once, from four corners and in float32:
# what a budget of 0.11 left for it (Qwen3-VL 30B on 4 x RTX 3090).
_POSITIONS_BY_PIECES: Final = (0, 12, 0)
_CORNER_WIDTHS: Final = 20
_INTERNVL_TILES: Final = 13
_MOON_PATCHES: Final = 4096
_PADDLE_TOKENS: Final = 3600  # 2,822,400 pixels in squares of 28, as the published processor has it
_LLAMA4_TILES: Final = 17
_SOUND_TOKENS: Final = 750  # 30 seconds
_SOUND_FEATURES: Final = 256
_GATED_VALUES: Final = 3  # gate, up, and what the two make
_GATED: Final = ("qwen2_5_vl", "qwen2_5_omni", "pixtral")


class _Item(NamedTuple):
    tokens: int
    patches_per_token: int
    frame_pairs: int = 1
    interpolates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One encoder's widths, and its largest item.

    Attributes:
        width: elements of one patch between layers.
        inner: elements of one patch inside the widest layer, which ranks share.
        patch: elements of one patch as it arrives.
        patches_per_token: how many patches one token of the text stands for.
        item_tokens: of the largest image.
        frame_pairs: of the longest video, each as large as an image; 1 where videos are smaller.
        interpolates: positions are made by interpolation for each image.
        levels: outputs for each token, beside the one that is embedded.
    """

    width: int
    inner: int
    patch: int
    patches_per_token: int
    item_tokens: int
    frame_pairs: int = 1
    interpolates: bool = False
    levels: int = 0

    def largest_item(self, max_model_len: int) -> int:
        """Tokens of the largest item that the engine profiles with."""
        return self.item_tokens * max(1, min(self.frame_pairs, max_model_len // self.item_tokens))

    def patches(self, budget_tokens: int, max_model_len: int) -> int:
        """Patches of as many of the largest items as the encoder's budget holds, one at the least."""
        item = self.largest_item(max_model_len)
        return max(1, budget_tokens // item) * item * self.patches_per_token

    def elements(self, tensor_parallel_size: int) -> int:
        """Elements of one patch at the peak: inside a layer, what runs beside it, and the pixels with a copy."""
        return -(-self.inner // tensor_parallel_size) + 3 * self.width + 2 * self.patch

    def position_elements(self, version: EngineVersion) -> int:
        """Elements of one patch while its position is interpolated."""
        at_once = self.interpolates and not version.at_least(_POSITIONS_BY_PIECES)
        return _CORNER_WIDTHS * self.width if at_once else 0


def encoder_of(config: Config) -> Encoder | None:
    """The encoder that a config tells of; None where there is none, or none of these forms."""
    root = _section(config, "thinker_config") or config
    vision = _section(root, "vision_config") or _section(root, "vision_tower")
    if vision is not None:
        return _vision(root, vision)
    sound = _section(root, "audio_config")
    return None if sound is None else _sound(sound)


def _vision(root: Config, vision: Config) -> Encoder | None:
    family = _text(vision, "model_type") or _text(root, "model_type")
    width = _whole(vision, "embed_dim") or _whole(vision, "hidden_size")
    patch = _whole(vision, "patch_size")
    unmeasured = _text(root, "model_type").startswith("minicpmv")  # a resampler, a mask over padded slices
    if width is None or patch is None or unmeasured:
        return None
    inner = _whole(vision, "intermediate_size") or width * (_whole(vision, "mlp_ratio") or 4)
    item = _item(family, root, vision, patch)
    if item is None:
        return None
    gated = any(name in (family, _text(root, "model_type")) for name in _GATED)
    levels = vision.values.get("deepstack_visual_indexes")
    return Encoder(
        width=width,
        inner=inner * (_GATED_VALUES if gated else 1),
        patch=_CHANNELS * patch * patch * (_whole(vision, "temporal_patch_size") or 1),
        patches_per_token=item.patches_per_token,
        item_tokens=item.tokens,
        frame_pairs=item.frame_pairs,
        interpolates=item.interpolates,
        levels=min(len(levels), 8) if isinstance(levels, list) else 0,
    )


def _item(family: str, root: Config, vision: Config, patch: int) -> _Item | None:
    """The largest item by the family of processors."""
    kind = _text(root, "model_type")
    merge = (_whole(vision, "spatial_merge_size") or _whole(root, "spatial_merge_size") or 1) ** 2
    if kind.startswith("qwen3"):
        return _Item(_QWEN3_TOKENS, merge, interpolates=True)
    if kind.startswith("qwen2"):
        return _Item(_QWEN2_TOKENS, merge, _QWEN2_FRAME_PAIRS)
    if family.startswith("gemma4"):
        pooled = _whole(vision, "pooling_kernel_size") or 3
        return _Item(_whole(vision, "default_output_length") or 280, pooled * pooled)
    if kind.startswith("paddleocr_vl"):
        return _Item(_PADDLE_TOKENS, 4)
    if family.startswith("moonvit"):
        return _Item(_MOON_PATCHES // 4, 4)
    image = _whole(vision, "image_size")
    return None if image is None else _square(kind, family, root, (image // patch) ** 2, merge)


def _square(kind: str, family: str, root: Config, patches: int, merge: int) -> _Item:
    """Encoders that take squares of one size: whole, or in tiles."""
    if kind.startswith("gemma3"):
        tokens = _whole(root, "mm_tokens_per_image") or patches
        return _Item(tokens, max(1, patches // tokens))
    tiles = _LLAMA4_TILES if kind.startswith("llama4") else _INTERNVL_TILES
    if kind.startswith(("internvl", "llama4", "cohere2_vision")) or family.startswith("intern_vit"):
        return _Item(max(1, patches // 4) * tiles, 4)
    return _Item(max(1, patches // merge), merge)


def _sound(sound: Config) -> Encoder | None:
    width = _whole(sound, "d_model") or _whole(sound, "hidden_size")
    if width is None:
        return None
    inner = _whole(sound, "encoder_ffn_dim") or _whole(sound, "intermediate_size") or 4 * width
    return Encoder(
        width=width,
        inner=inner,
        patch=_SOUND_FEATURES,
        patches_per_token=2,
        item_tokens=_SOUND_TOKENS,
    )


def _section(config: Config, field: str) -> Config | None:
    value = config.values.get(field)
    return Config(value, field) if isinstance(value, dict) else None


def _text(config: Config, field: str) -> str:
    value = config.values.get(field)
    return value if isinstance(value, str) else ""


def _whole(config: Config, field: str) -> int | None:
    """A count, if one stands there; the builders of shapes have refused what must not be read past."""
    value = config.values.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_WIDTH else None
