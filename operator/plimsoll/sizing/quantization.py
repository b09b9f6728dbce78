"""Quantized checkpoints: what a linear layer of N x K weights takes, by method."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.tensors import SCALE_BYTES
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.errors import UnsupportedModelError

# Sources: vLLM 0.33.0, model_executor/layers/quantization/{fp8,awq,gptq,modelopt,compressed_tensors}, by shape.


class WeightFormat(StrEnum):
    """How the weights of a quantized linear are stored."""

    FP8_TENSOR = "fp8, one scale per tensor"
    FP8_BLOCK = "fp8, one scale per block"
    BYTE_CHANNEL = "8 bit, one scale per output channel"
    AWQ = "awq"
    GPTQ = "gptq"


_GROUPED: Final = (WeightFormat.AWQ, WeightFormat.GPTQ)
_OLD_NAMES: Final = {  # what left vLLM, and what stands in for it
    "squeezellm": "vLLM dropped it; use an AWQ, GPTQ or FP8 build of the model",
    "bitsandbytes": "its weights depend on a plugin since vLLM 0.28; use an AWQ, GPTQ or FP8 build of the model",
    "gguf": "its weights depend on a plugin since vLLM 0.24; use an AWQ, GPTQ or FP8 build of the model",
    "fbgemm_fp8": "vLLM has deprecated it; use a build with compressed-tensors or fp8",
}
_KNOWN: Final = "use a build that is not quantized, or one with fp8, awq, gptq or 8 bit compressed-tensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What the checkpoint's quantization_config says, as far as bytes depend on it.

    Attributes:
        method: vLLM's name ("fp8", "awq", "gptq", "compressed-tensors", "modelopt").
        bits: per weight.
        group_size: input features that share a scale; None is the whole row.
        block: (rows, columns) that share a scale, for FP8_BLOCK.
        static_input_scale: one more float32 per tensor.
        integer: 8 bit integers (w8a8), not fp8.
        desc_act: GPTQ's activation order.
        skipped: module names that stay in 16 bits.
        attention_scale_bytes: scalars that the method adds to each attention layer, as vLLM creates them.
        kv_cache_fp8: the checkpoint asks for an 8 bit cache.
    """

    method: str
    weights: WeightFormat
    bits: int
    group_size: int | None = None
    block: tuple[int, int] | None = None
    static_input_scale: bool = False
    integer: bool = False
    desc_act: bool = False
    skipped: tuple[str, ...] = ()
    attention_scale_bytes: int = 0
    kv_cache_fp8: bool = False

    @property
    def grouped(self) -> bool:
        """Whether input features are split into groups with a scale each."""
        return self.weights in _GROUPED

    def linear_bytes(self, rows: int, columns: int, element_bytes: int) -> int:
        """Bytes of a linear layer of that shape on one rank, scales and zero points included."""
        match self.weights:
            case WeightFormat.FP8_TENSOR:
                return rows * columns + SCALE_BYTES * (2 if self.static_input_scale else 1)
            case WeightFormat.FP8_BLOCK:
                block_rows, block_columns = self.block or (rows, columns)
                return rows * columns + SCALE_BYTES * ceil_div(rows, block_rows) * ceil_div(
                    columns, block_columns
                )
            case WeightFormat.BYTE_CHANNEL:
                return rows * columns + SCALE_BYTES * rows
            case WeightFormat.AWQ | WeightFormat.GPTQ:
                groups = ceil_div(columns, self.group_size) if self.group_size else 1
                packed = ceil_div(rows * columns * self.bits, 8)
                zero_points = ceil_div(groups * rows * self.bits, 8)
                return packed + zero_points + groups * rows * element_bytes


def quantization_from_config(config: Config) -> Quantization | None:
    """Read quantization_config; None for a checkpoint that is not quantized.

    Raises:
        UnsupportedModelError: a method, or a field of one, that nobody taught this version to count.
    """
    section = config.section("quantization_config") or config.section("compression_config")
    if section is None:
        return None
    method = section.text("quant_method").lower()
    match method:
        case "fp8":
            return _fp8(section)
        case "awq":
            return _awq(section)
        case "gptq":
            return _gptq(section)
        case "compressed-tensors":
            return _compressed_tensors(section)
        case "modelopt":
            return _modelopt(section)
        case _:
            raise _unknown(section, "quant_method", method)


def _unknown(section: Config, field: str, method: str) -> UnsupportedModelError:
    """The refusal of a method by its name."""
    return section.refuse(
        field, "this quantization is not one that can be sized", _OLD_NAMES.get(method, _KNOWN)
    )


def _fp8(section: Config) -> Quantization:
    scheme = section.text("activation_scheme", default="dynamic")
    if scheme not in ("static", "dynamic"):
        raise section.refuse("activation_scheme", "it must be static or dynamic", _KNOWN)
    block = section.values.get("weight_block_size")
    skipped = section.texts("modules_to_not_convert") or section.texts("ignored_layers")
    if block is None:
        return Quantization(
            method="fp8",
            weights=WeightFormat.FP8_TENSOR,
            bits=8,
            static_input_scale=scheme == "static",
            skipped=skipped,
            attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
        )
    if not isinstance(block, (list, tuple)) or len(block) != 2 or not all(_is_width(size) for size in block):  # noqa: PLR2004
        raise section.refuse("weight_block_size", "it must be two whole numbers, such as [128, 128]", _KNOWN)
    return Quantization(
        method="fp8",
        weights=WeightFormat.FP8_BLOCK,
        bits=8,
        block=(block[0], block[1]),
        skipped=skipped,
        attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
    )


# Scalars q, k, v (and prob) of BaseKVCacheMethod in the model's dtype; compressed-tensors adds three in float32.
_FP8_ATTENTION_SCALE_BYTES: Final = 4 * 2
_COMPRESSED_TENSORS_ATTENTION_SCALE_BYTES: Final = 3 * 2 + 3 * 4


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WIDTH


def _group_size(section: Config) -> int | None:
    """Input features per scale; -1 is the whole row."""
    if section.values.get("group_size") == -1:
        return None
    return section.integer("group_size", maximum=MAX_WIDTH)


def _bits(section: Config, allowed: tuple[int, ...]) -> int:
    bits = section.integer("bits", maximum=16)
    if bits not in allowed:
        raise section.refuse("bits", f"it must be one of {', '.join(map(str, allowed))}", _KNOWN)
    return bits


def _awq(section: Config) -> Quantization:
    if "zero_point" not in section.values:
        raise section.refuse("zero_point", "vLLM refuses an AWQ checkpoint that does not say it", _KNOWN)
    return Quantization(
        method="awq",
        weights=WeightFormat.AWQ,
        bits=_bits(section, (4,)),
        group_size=_group_size(section),
        skipped=section.texts("modules_to_not_convert"),
    )


def _gptq(section: Config) -> Quantization:
    if "desc_act" not in section.values:
        raise section.refuse("desc_act", "vLLM refuses a GPTQ checkpoint that does not say it", _KNOWN)
    if section.flag("lm_head", default=False):
        raise section.refuse("lm_head", "a quantized output layer is not one that can be sized", _KNOWN)
    if section.values.get("dynamic"):
        raise section.refuse("dynamic", "rules by module are not ones that can be sized", _KNOWN)
    return Quantization(
        method="gptq",
        weights=WeightFormat.GPTQ,
        bits=_bits(section, (4, 8)),
        group_size=_group_size(section),
        desc_act=section.flag("desc_act", default=False),
    )


def _compressed_tensors(section: Config) -> Quantization:
    groups = section.section("config_groups")
    if groups is None or len(groups.values) != 1:
        raise section.refuse("config_groups", "one group of quantized layers is what can be sized", _KNOWN)
    (name,) = groups.values
    group = groups.section(name)
    if group is None or group.texts("targets") != ("Linear",):
        raise groups.refuse(name, 'its targets must be ["Linear"]', _KNOWN)
    weights = group.section("weights")
    if weights is None:
        raise group.refuse(
            "weights", "a group without quantized weights is not one that can be sized", _KNOWN
        )
    kind = weights.text("type")
    strategy = weights.text("strategy")
    if weights.integer("num_bits", maximum=16) != 8 or kind not in ("float", "int"):  # noqa: PLR2004
        raise weights.refuse("num_bits", f"8 bits of float or int are what can be sized, not {kind}", _KNOWN)
    if strategy not in ("channel", "tensor"):
        raise weights.refuse("strategy", "channel or tensor is what can be sized", _KNOWN)
    inputs = group.section("input_activations")
    static = inputs is not None and not inputs.flag("dynamic", default=False)
    if static and strategy == "channel":
        raise group.refuse(
            "input_activations", "static activations with channel scales cannot be sized", _KNOWN
        )
    return Quantization(
        method="compressed-tensors",
        weights=WeightFormat.BYTE_CHANNEL if strategy == "channel" else WeightFormat.FP8_TENSOR,
        bits=8,
        static_input_scale=static,
        integer=kind == "int",
        skipped=section.texts("ignore"),
        attention_scale_bytes=_COMPRESSED_TENSORS_ATTENTION_SCALE_BYTES,
        kv_cache_fp8=_asks_for_fp8_cache(section),
    )


def _modelopt(section: Config) -> Quantization:
    if section.text("quant_algo").upper() != "FP8":
        raise section.refuse("quant_algo", "FP8 is what can be sized", _KNOWN)
    return Quantization(
        method="modelopt",
        weights=WeightFormat.FP8_TENSOR,
        bits=8,
        static_input_scale=True,
        skipped=section.texts("ignore") or section.texts("exclude_modules"),
        attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
        kv_cache_fp8=_asks_for_fp8_cache(section),
    )


def _asks_for_fp8_cache(section: Config) -> bool:
    """Whether the checkpoint switches an automatic cache dtype to fp8."""
    scheme = section.section("kv_cache_scheme")
    if scheme is None:
        return False
    if scheme.integer("num_bits", maximum=16) != 8 or scheme.text("type") != "float":  # noqa: PLR2004
        raise section.refuse("kv_cache_scheme", "an 8 bit float cache is what can be sized", _KNOWN)
    return True
