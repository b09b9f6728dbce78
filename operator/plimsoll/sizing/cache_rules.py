"""Which dtype the KV cache gets on a card, and which one that model and card cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.cache_dtypes import (
    FLASHINFER_HEADS,
    FP8,
    FP8_E5M2,
    NOT_PLANNED,
    PACKED,
    PACKED_SINCE,
    SPARSE_FP8,
)
from plimsoll.sizing.cards import ADA, AMPERE, HOPPER, HardwareCannotError, is_blackwell, named
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.layers import ChunkedLocal, FullAttention, NoCache, RecurrentState, SlidingWindow
from plimsoll.sizing.outside import DTYPE_BYTES

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.serving import Serving

# Source of the whole file: vLLM 0.33.0, platforms/cuda.py (_get_backend_priorities) and the backends' own checks,
# asked for seven models, every dtype and seven cards.
_READ: Final = (
    0,
    33,
    0,
)  # FlashInfer below Ada and Triton's latent attention from it on; older ones were not read
_WITH_HEADS: Final = (FullAttention, SlidingWindow, ChunkedLocal, RecurrentState, NoCache)
_SINKS: Final = "gpt_oss"
_NVFP4_HEAD: Final = 64  # FlashInfer's older prefill kernel misreads it


def cache_dtype(
    shape: ModelShape,
    serving: Serving,
    quantization: Quantization | None,
    dtype: str,
    accelerator: Accelerator | None,
    version: EngineVersion,
) -> tuple[str, int]:
    """The cache's dtype as it is given to the engine, and the bytes of an element; 1 for packed formats.

    Raises:
        UnsupportedOptionError: a dtype that no card makes right for this model.
        HardwareCannotError: this card cannot.
    """
    wanted = serving.kv_cache_dtype
    if shape.kernels.ignores_cache_dtype and (wanted in FP8 or wanted == dtype):
        return wanted, DTYPE_BYTES[dtype]
    if wanted is None or wanted == "auto":
        found = _automatic(shape, quantization, dtype, accelerator)
    elif wanted in DTYPE_BYTES:
        found = wanted, _explicit_bytes(wanted, dtype)
    elif wanted in FP8 or (wanted == SPARSE_FP8 and shape.kernels.sparse):
        found = wanted, 1
    elif wanted in PACKED:
        _check_packed(wanted, shape, version)
        found = wanted, 1
    else:
        raise _unknown(wanted, shape)
    if found[0] == FP8_E5M2:
        _check_e5m2(shape, quantization)
    if accelerator is not None:
        _check_card(found[0], shape, accelerator, version)
    return found


def _automatic(
    shape: ModelShape, quantization: Quantization | None, dtype: str, accelerator: Accelerator | None
) -> tuple[str, int]:
    """What the checkpoint asks for; sparse attention on Blackwell keeps 8 bits unless told otherwise."""
    if quantization is not None and quantization.kv_cache_fp8:
        return "fp8", 1
    if accelerator is not None and shape.kernels.sparse and is_blackwell(accelerator):
        return "fp8", 1
    return "auto", DTYPE_BYTES[dtype]


def _explicit_bytes(wanted: str, dtype: str) -> int:
    if wanted != dtype:
        raise UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: an explicit 16-bit cache must have the model's dtype, {dtype}; leave it unset."
        )
    return DTYPE_BYTES[dtype]


def _unknown(wanted: str, shape: ModelShape) -> UnsupportedOptionError:
    if wanted in NOT_PLANNED:
        return UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: {NOT_PLANNED[wanted]}, so it cannot be planned; set fp8 or leave it unset."
        )
    return UnsupportedOptionError(
        f"kvCacheDtype is {wanted!r:.80}: what can be planned for {shape.architecture} is auto, "
        f"{', '.join((*FP8, *PACKED))}; leave it unset."
    )


def _check_packed(wanted: str, shape: ModelShape, version: EngineVersion) -> None:
    """A packed format belongs to one backend, which takes some kinds of attention only."""
    if not version.at_least(PACKED_SINCE):
        since = ".".join(map(str, PACKED_SINCE))
        raise UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: it was read in vLLM {since}, and {version} is older; use {since} or newer, or set "
            "fp8."
        )
    kinds = {type(cache) for layer in shape.layers for cache in layer.caches}
    if not kinds <= set(_WITH_HEADS):
        raise UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: vLLM has no backend that reads it with the attention of {shape.architecture} "
            "(latent, or of another kind than keys and values of whole heads); set fp8 or leave it unset."
        )
    if PACKED[wanted].backend == "TURBOQUANT" and not kinds.isdisjoint((SlidingWindow, ChunkedLocal)):
        raise UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: vLLM's TurboQuant takes no sliding windows, which {shape.architecture} has; set "
            "int4_per_token_head or fp8."
        )


def _check_e5m2(shape: ModelShape, quantization: Quantization | None) -> None:
    if not all(isinstance(cache, _WITH_HEADS) for layer in shape.layers for cache in layer.caches):
        raise UnsupportedOptionError(
            f"kvCacheDtype is fp8_e5m2: no backend for the attention of {shape.architecture} reads it; set fp8."
        )
    if quantization is not None and (quantization.method == "fp8" or quantization.kv_cache_fp8):
        raise UnsupportedOptionError(
            "kvCacheDtype is fp8_e5m2: vLLM refuses it beside an fp8 checkpoint; set fp8 or leave it unset."
        )


def _check_card(found: str, shape: ModelShape, accelerator: Accelerator, version: EngineVersion) -> None:
    if found in PACKED:
        _check_packed_on(found, shape, accelerator, version)
    elif found.startswith("fp8"):
        _check_fp8_on(shape, accelerator, version)


def _check_fp8_on(shape: ModelShape, accelerator: Accelerator, version: EngineVersion) -> None:
    """Triton has 8 bit floats from 8.9; on Ampere FlashInfer reads them, where it takes the model at all."""
    capability = accelerator.compute_capability
    latent = shape.latent_up_projection is not None
    read = version.at_least(_READ)
    # Without latents 3090s served it before 0.33 as well (start-up logs of Qwen 3.6 with fp8 and fp8_e5m2).
    least = (ADA if read else HOPPER) if latent else AMPERE
    if capability < least:
        raise HardwareCannotError(
            f"{named(accelerator)}: an fp8 cache of this model needs {least[0]}.{least[1]} or higher with vLLM {version}"
        )
    if capability < ADA and not _flashinfer_takes(shape):
        raise HardwareCannotError(
            f"{named(accelerator)}: an fp8 cache of {shape.architecture} needs 8.9 or higher, since FlashInfer, which "
            "reads one below that, does not take its attention"
        )


def _flashinfer_takes(shape: ModelShape) -> bool:
    """Heads of some sizes, no sinks, no masks over image tokens."""
    sizes = _head_sizes(shape)
    return shape.model_type != _SINKS and not shape.kernels.prefix_masks and sizes <= set(FLASHINFER_HEADS)


def _head_sizes(shape: ModelShape) -> set[int]:
    return {
        cache.head_size
        for layer in shape.layers
        for cache in layer.caches
        if isinstance(cache, (FullAttention, SlidingWindow, ChunkedLocal))
    }


def _check_packed_on(found: str, shape: ModelShape, accelerator: Accelerator, version: EngineVersion) -> None:
    capability, backend = accelerator.compute_capability, PACKED[found].backend
    least = ADA if found == "fp8_per_token_head" else AMPERE if backend == "FLASHINFER" else None
    if least is not None and capability < least:
        raise HardwareCannotError(
            f"{named(accelerator)}: a {found} cache needs {least[0]}.{least[1]} or higher"
        )
    if backend != "FLASHINFER":
        return
    if not _head_sizes(shape) <= set(FLASHINFER_HEADS):
        raise HardwareCannotError(
            f"{named(accelerator)}: FlashInfer, which alone reads a {found} cache, takes heads of "
            f"{', '.join(map(str, FLASHINFER_HEADS))} and {shape.architecture} has {max(_head_sizes(shape), default=0)}"
        )
    if is_blackwell(accelerator):
        return
    if found != "nvfp4" or not version.at_least(_READ):
        raise HardwareCannotError(f"{named(accelerator)}: a {found} cache needs 10.0 with vLLM {version}")
    if not _flashinfer_takes(shape) or _NVFP4_HEAD in _head_sizes(shape):
        raise HardwareCannotError(
            f"{named(accelerator)}: FlashInfer reads no nvfp4 cache of {shape.architecture} below 10.0"
        )
