"""Quantized checkpoints: what a linear layer of N x K weights takes, by method."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import gcd
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.tensors import SCALE_BYTES, Sharding
from plimsoll.units import ceil_div, round_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.tensors import Tensor

# Sources: vLLM 0.33.0, model_executor/layers/quantization/{fp8,awq,gptq,modelopt,compressed_tensors}, by shape.


class WeightFormat(StrEnum):
    """How the weights of a quantized linear are stored."""

    FP8_TENSOR = "fp8, one scale per tensor"
    FP8_BLOCK = "fp8, one scale per block"
    BYTE_CHANNEL = "8 bit, one scale per output channel"
    AWQ = "awq"
    GPTQ = "gptq"
    PACKED = "packed integers, one scale per group"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"
    NF4 = "4 bit floats of bitsandbytes"
    PLAIN = "16 bit"


_GROUPED: Final = (WeightFormat.AWQ, WeightFormat.GPTQ, WeightFormat.PACKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What the checkpoint's quantization_config says, as far as bytes depend on it.

    Attributes:
        method: vLLM's name ("fp8", "awq", "gptq", "compressed-tensors", "modelopt").
        bits: per weight.
        group_size: input features that share a scale; None is the whole row.
        block: (rows, columns) that share a scale, for FP8_BLOCK.
        scale_bytes: of such a scale, float32 or an exponent alone.
        static_input_scale: one more float32 per tensor.
        integer: 8 bit integers (w8a8), not fp8.
        desc_act: GPTQ's activation order.
        skipped: module names that stay in 16 bits.
        attention_scale_bytes: scalars that the method adds to each attention layer, as vLLM creates them.
        kv_cache_fp8: the checkpoint asks for an 8 bit cache.
        zero_points: kept beside grouped weights.
        nested_scales: the scales of NF4 are 8 bits, with a scale of their own for each 256 of them.
        modules: where the checkpoint mixes formats, the quantization of each module by name; others stay in 16 bits.
        bounded_inputs: each linear layer keeps one more float32, the bound of its activations (fbgemm).
        padding: for MXFP4, what the kernel rounds the intermediate and the hidden size of an expert to.
    """

    method: str
    weights: WeightFormat
    bits: int
    group_size: int | None = None
    block: tuple[int, int] | None = None
    scale_bytes: int = SCALE_BYTES
    static_input_scale: bool = False
    integer: bool = False
    desc_act: bool = False
    skipped: tuple[str, ...] = ()
    attention_scale_bytes: int = 0
    kv_cache_fp8: bool = False
    zero_points: bool = True
    bounded_inputs: bool = False
    padding: tuple[int, int] = (1, 1)
    nested_scales: bool = False
    modules: Mapping[str, Quantization] = field(default_factory=dict, compare=False)

    @property
    def grouped(self) -> bool:
        """Whether input features are split into groups with a scale each."""
        return self.weights in _GROUPED

    @property
    def scalar_bytes(self) -> int:
        """Scales of a whole tensor: the weights', and the activations' where they are static."""
        if self.weights not in (WeightFormat.FP8_TENSOR, WeightFormat.NVFP4):
            return 0
        if self.weights is WeightFormat.NVFP4 and not self.static_input_scale:
            return SCALE_BYTES + _WEIGHT_ONLY_INPUT_BYTES
        return SCALE_BYTES * (2 if self.static_input_scale else 1)

    def tensor_bytes(self, tensor: Tensor, rows: int, columns: int, element_bytes: int) -> int:
        """Bytes of one quantized tensor with these rows and columns on a rank."""
        if self.weights is WeightFormat.MXFP4:
            down = ".down_proj" in tensor.name
            tall, wide = reversed(self.padding) if down else self.padding
            if tensor.columns == 1:  # the bias of an expert is padded with its outputs
                return round_up(rows, tall) * element_bytes
            return self.linear_bytes(round_up(rows, tall), round_up(columns, wide), element_bytes)
        if tensor.expert:
            return self._expert_bytes(tensor, rows, columns, element_bytes)
        size = self.linear_bytes(rows, columns, element_bytes)
        size += (tensor.partitions - 1) * self.scalar_bytes
        if self.weights is WeightFormat.PACKED and not tensor.follows:
            size += _SHAPE_BYTES
        if self.bounded_inputs and not tensor.follows:
            size += SCALE_BYTES
        return size

    def _expert_bytes(self, tensor: Tensor, rows: int, columns: int, element_bytes: int) -> int:
        """Experts may be cut inside a block or group: the engine refines it, for all three projections alike."""
        if self.weights is WeightFormat.FP8_TENSOR:  # gate and up share the scale of what comes in
            shared = SCALE_BYTES if self.static_input_scale and not tensor.follows else 0
            return rows * columns + SCALE_BYTES + shared
        if (
            self.weights is WeightFormat.PACKED
        ):  # the unpacked shape stands in two elements of the model's dtype
            return self.linear_bytes(rows, columns, element_bytes) + (
                0 if tensor.follows else 2 * element_bytes
            )
        width = columns if tensor.sharding is Sharding.ROW else rows
        refined = self
        if self.block:
            refined = replace(self, block=(gcd(width, self.block[0]), gcd(width, self.block[1])))
        elif self.grouped and self.group_size:
            refined = replace(self, group_size=gcd(width, self.group_size))
        if self.weights is WeightFormat.GPTQ and refined == self:
            # Room for biases, whether the files have them or not.
            return refined.linear_bytes(rows, columns, element_bytes) + rows * element_bytes
        if (
            self.weights is WeightFormat.GPTQ
        ):  # Marlin does not cut a group; the kernel in its place has no zero points
            refined = replace(refined, zero_points=False)
        return refined.linear_bytes(rows, columns, element_bytes)

    def linear_bytes(self, rows: int, columns: int, element_bytes: int) -> int:
        """Bytes of a linear layer of that shape on one rank, scales and zero points included."""
        cells = rows * columns
        match self.weights:
            case WeightFormat.PLAIN:
                size = cells * element_bytes
            case WeightFormat.FP8_TENSOR:
                size = cells + self.scalar_bytes
            case WeightFormat.FP8_BLOCK:
                tall, wide = self.block or (rows, columns)
                size = cells + self.scale_bytes * ceil_div(rows, tall) * ceil_div(columns, wide)
            case WeightFormat.BYTE_CHANNEL:
                size = cells + SCALE_BYTES * rows
            case WeightFormat.NVFP4:
                size = cells // 2 + cells // NVFP4_GROUP + self.scalar_bytes
            case WeightFormat.MXFP4:
                size = cells // 2 + cells // _MXFP4_GROUP
            case WeightFormat.NF4:
                blocks = ceil_div(cells, _NF4_BLOCK)
                nested = blocks + SCALE_BYTES * ceil_div(blocks, _NESTED_BLOCK)
                size = ceil_div(cells, 2) + (nested if self.nested_scales else SCALE_BYTES * blocks)
            case WeightFormat.AWQ | WeightFormat.GPTQ | WeightFormat.PACKED:
                groups = columns // self.group_size if self.group_size else 1
                zero_points = ceil_div(groups * rows * self.bits, 8) if self.zero_points else 0
                size = ceil_div(cells * self.bits, 8) + zero_points + groups * rows * element_bytes
        return size


NVFP4_GROUP: Final = 16  # weights that share an fp8 scale
_WEIGHT_ONLY_INPUT_BYTES: Final = 2  # room for an input scale in the dtype of the activations
_NF4_BLOCK: Final = 64  # weights that share a scale (bitsandbytes, functional.py: quantize_4bit)
_NESTED_BLOCK: Final = 256  # scales that share a scale
_MXFP4_GROUP: Final = 32  # weights that share an exponent
_SHAPE_BYTES: Final = 2 * 8  # compressed-tensors keeps the unpacked shape beside packed weights, as two int64
