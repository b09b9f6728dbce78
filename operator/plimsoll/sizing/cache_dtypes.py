"""The names that vLLM has for the KV cache's dtype: what a token takes in each, and which backends read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll.units import ceil_div

# Source of the whole file: vLLM 0.33.0, config/cache.py (CacheDType), v1/kv_cache_interface.py and
# v1/attention/backends/{triton_attn,flashinfer,turboquant_attn}.py; 0.32.0 has the same names.
FP8: Final = ("fp8", "fp8_e4m3", "fp8_e5m2")
FP8_E5M2: Final = "fp8_e5m2"
SPARSE_FP8: Final = "fp8_ds_mla"
PACKED_SINCE: Final = (0, 32, 0)  # older releases were not read
FLASHINFER_HEADS: Final = (64, 128, 256, 512)
_SCALE_BYTES: Final = 4  # float32, one for the keys and one for the values of a head
_NVFP4_GROUP: Final = 16  # elements that share an 8 bit scale
_KEY_NORM_BYTES: Final = 2
_VALUE_SCALE_BYTES: Final = 4  # scale and zero point in 16 bits
_WHOLE_BYTE: Final = 8
TURBOQUANT_BLOCK: Final = 32  # seen in 0.33.0 where the preset is served
TURBOQUANT_KEPT: Final = 2  # layers at either end that stay in 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFormat:
    """A cache whose keys and values are packed with their scales.

    Attributes:
        key_bits, value_bits: of one element.
        backend: the one that reads it, in vLLM's words.
    """

    key_bits: int
    value_bits: int
    backend: str

    def pair_bytes(self, head_size: int) -> int:
        """Bytes of the key and the value of one token and head."""
        if self.backend == "TRITON_ATTN":
            return ceil_div(head_size * (self.key_bits + self.value_bits), _WHOLE_BYTE) + 2 * _SCALE_BYTES
        if self.backend == "FLASHINFER":
            return 2 * (head_size // 2 + head_size // _NVFP4_GROUP)
        key = ceil_div(head_size * self.key_bits, _WHOLE_BYTE)
        if self.key_bits < _WHOLE_BYTE:
            key += _KEY_NORM_BYTES
        value = ceil_div(head_size * self.value_bits, _WHOLE_BYTE) + _VALUE_SCALE_BYTES
        return key + value + (key + value) % 2


def _per_token_head(bits: int) -> PackedFormat:
    return PackedFormat(key_bits=bits, value_bits=bits, backend="TRITON_ATTN")


def _turboquant(key_bits: int, value_bits: int) -> PackedFormat:
    return PackedFormat(key_bits=key_bits, value_bits=value_bits, backend="TURBOQUANT")


_NVFP4: Final = PackedFormat(key_bits=4, value_bits=4, backend="FLASHINFER")
PACKED: Final = {
    "int8_per_token_head": _per_token_head(8),
    "fp8_per_token_head": _per_token_head(8),
    "int4_per_token_head": _per_token_head(4),
    "nvfp4": _NVFP4,
    "nvfp4_4over6": _NVFP4,
    "turboquant_k8v4": _turboquant(8, 4),
    "turboquant_4bit_nc": _turboquant(4, 4),
    "turboquant_k3v4_nc": _turboquant(3, 4),
    "turboquant_3bit_nc": _turboquant(3, 3),
}
# Names that vLLM has and that are not planned with.
NOT_PLANNED: Final = {
    "fp8_inc": "it is for Intel Gaudi",
    "ultraquant_4bit": "it is for AMD GPUs",
    "octave_k3v4": "it is for AMD GPUs",
    "octave_k3v3": "it is for AMD GPUs",
    "octave_k3v3_compact": "it is for AMD GPUs",
    "nvfp4_ds_mla": "its layout was not checked",
}
