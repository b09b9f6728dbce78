"""What a card cannot do: compute capability against dtype, quantization, cache dtype and engine release."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.outside import DTYPE_BYTES
from plimsoll.sizing.quantization import Quantization, WeightFormat

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.serving import Serving

# Capabilities from which a card can, and where that was read.
VOLTA: Final = (7, 0)  # vLLM 0.14's installation page: 7.0 or higher
TURING: Final = (7, 5)
AMPERE: Final = (8, 0)
ADA: Final = (8, 9)
HOPPER: Final = (9, 0)
BLACKWELL: Final = (10, 0)
CUDA_13: Final = (0, 20, 0)  # vllm-project/vllm#39878: CUDA 13 by default, which has no sm_70
FP8_CACHE_ON_AMPERE: Final = (0, 33, 0)  # seen in 0.33.0 (FlashInfer); older releases were not read
GPTQ_WITHOUT_ORDER: Final = (0, 33, 0)  # vLLM 0.33.0 refuses desc_act

_WORKSTATION: Final = (12, 0)
_TRTLLM_MULTIPLE: Final = 128
_TRITON_PADDING: Final = (64, 1)  # of an expert's intermediate and hidden size on a rank
_MARLIN_PADDING: Final = (128, 256)  # FlashInfer's kernels on Blackwell too

_FP8_CACHE: Final = ("fp8", "fp8_e4m3", "fp8_e5m2")
_ALIASES: Final = {
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
}
_DTYPE_ALIASES: Final = {"half": "float16", "float": "float32"}
GONE: Final = {
    "squeezellm": "vLLM dropped it in 0.8",
    "bitsandbytes": "its bytes depend on a plugin since vLLM 0.28",
    "gguf": "its bytes depend on a plugin since vLLM 0.24",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How weights, activations and cache are held on one kind of card.

    Attributes:
        dtype: of activations and of what is not quantized.
        expert_multiple: what the card's kernel rounds the width of experts in 16 bits to.
        online: the weights are quantized while they are loaded, so that all of them pass through in 16 bits.
    """

    dtype: str
    element_bytes: int
    quantization: Quantization | None
    online: bool
    kv_cache_dtype: str
    kv_element_bytes: int
    warnings: tuple[str, ...]
    expert_multiple: int = 1


def keeps_states(shape: ModelShape) -> bool:
    """Whether some layers keep a state of fixed size."""
    return any(isinstance(cache, RecurrentState) for layer in shape.layers for cache in layer.caches)


def quantization_for(shape: ModelShape, serving: Serving) -> tuple[Quantization | None, bool]:
    """The quantization that is served, and whether it is made while loading.

    Raises:
        UnsupportedOptionError: one that vLLM no longer has, or that is not the checkpoint's.
    """
    wanted = serving.quantization
    if wanted is None:
        return shape.quantization, False
    if wanted in GONE:
        raise UnsupportedOptionError(
            f"quantization is {wanted}: {GONE[wanted]}, so it cannot be planned; leave it unset and name an AWQ, "
            "GPTQ or FP8 build of the model."
        )
    method = _ALIASES.get(wanted, wanted)
    if shape.quantization is not None:
        if method == shape.quantization.method:
            return shape.quantization, False
        raise UnsupportedOptionError(
            f"quantization is {wanted}: the checkpoint is quantized with {shape.quantization.method}, and vLLM "
            "refuses another; leave it unset."
        )
    if method == "fp8":
        if shape.experts is not None:
            raise UnsupportedOptionError(
                "quantization is fp8: quantizing experts while loading cannot be planned; name an fp8 build of the model."
            )
        return Quantization(
            method="fp8", weights=WeightFormat.FP8_TENSOR, bits=8, attention_scale_bytes=8
        ), True
    raise UnsupportedOptionError(
        f"quantization is {wanted}: the checkpoint is not quantized, and vLLM makes only fp8 while loading; leave it "
        "unset, or name a build of the model that is quantized so."
    )


def precision_for(
    shape: ModelShape, serving: Serving, accelerator: Accelerator | None, version: EngineVersion
) -> Precision:
    """How the model is held on this card.

    Raises:
        UnsupportedOptionError: an option that no card makes right.
        HardwareCannotError: this card cannot.
    """
    quantization, online = quantization_for(shape, serving)
    if accelerator is not None:
        _check_card(accelerator, version)
        if shape.latent_up_projection is not None and accelerator.compute_capability < AMPERE:
            raise HardwareCannotError(
                f"{_named(accelerator)}: multi-head latent attention needs 8.0 or higher"
            )
        if shape.kernels.sparse and accelerator.compute_capability < HOPPER:
            raise HardwareCannotError(f"{_named(accelerator)}: sparse latent attention needs 9.0 or higher")
        if quantization is not None:
            _check_quantization(quantization, accelerator, version)
    dtype, warnings = _dtype(shape, serving, accelerator)
    kv_cache_dtype, kv_bytes = _cache_dtype(shape, serving, quantization, dtype)
    if quantization is not None and accelerator is not None:
        quantization = _padded(quantization, accelerator)
    if accelerator is not None and shape.kernels.sparse and kv_cache_dtype == "auto":
        kv_cache_dtype, kv_bytes = _sparse_cache_dtype(accelerator, kv_bytes)
    if accelerator is not None and kv_cache_dtype.startswith("fp8"):
        _check_fp8_cache(accelerator, version, latent=shape.latent_up_projection is not None)
    if accelerator is None and (quantization is not None or kv_bytes == 1):
        raise HardwareCannotError("quantized weights and an fp8 cache cannot be planned on CPU")
    if accelerator is None and (shape.kernels.sparse or keeps_states(shape)):
        raise HardwareCannotError("recurrent states and sparse attention cannot be planned on CPU")
    return Precision(
        dtype=dtype,
        element_bytes=DTYPE_BYTES[dtype],
        quantization=quantization,
        online=online,
        kv_cache_dtype=kv_cache_dtype,
        kv_element_bytes=kv_bytes,
        warnings=warnings,
        expert_multiple=_expert_multiple(accelerator, quantization),
    )


def _expert_multiple(accelerator: Accelerator | None, quantization: Quantization | None) -> int:
    """FlashInfer's experts in 16 bits on Blackwell (fused_moe/oracle/unquantized.py)."""
    if accelerator is None or quantization is not None:
        return 1
    return _TRTLLM_MULTIPLE if BLACKWELL <= accelerator.compute_capability < _WORKSTATION else 1


class HardwareCannotError(ValueError):
    """A card that cannot do what the model or the user asks: a clause without a full stop."""


def _check_card(accelerator: Accelerator, version: EngineVersion) -> None:
    capability = accelerator.compute_capability
    if capability < VOLTA:
        raise HardwareCannotError(f"{_named(accelerator)}: vLLM needs 7.0 or higher")
    if capability < TURING and version.at_least(CUDA_13):
        raise HardwareCannotError(
            f"{_named(accelerator)}: vLLM's images need 7.5 or higher since 0.20 (CUDA 13); an engine before that "
            "serves it"
        )


def _named(accelerator: Accelerator) -> str:
    major, minor = accelerator.compute_capability
    return f"{accelerator.alias} has compute capability {major}.{minor}"


def _check_quantization(quantization: Quantization, accelerator: Accelerator, version: EngineVersion) -> None:
    """Source: get_min_capability and the kernels of each method, vLLM 0.33.0."""
    capability = accelerator.compute_capability
    if (
        quantization.weights is WeightFormat.GPTQ
        and quantization.desc_act
        and version.at_least(GPTQ_WITHOUT_ORDER)
    ):
        raise UnsupportedOptionError(
            "quantization_config.desc_act is true: vLLM refuses GPTQ with activation order since 0.33; use another "
            "build of the model or an older engine."
        )
    if quantization.integer and capability >= BLACKWELL:
        raise HardwareCannotError(f"{_named(accelerator)}: vLLM has no 8 bit integer kernels from 10.0 on")
    least = TURING if quantization.grouped or quantization.integer else AMPERE
    if capability < least:
        raise HardwareCannotError(
            f"{_named(accelerator)}: {quantization.method} weights need {least[0]}.{least[1]} or higher"
        )


def _dtype(
    shape: ModelShape, serving: Serving, accelerator: Accelerator | None
) -> tuple[str, tuple[str, ...]]:
    """The dtype that vLLM ends with (config/model.py: _get_and_verify_dtype, _resolve_auto_dtype)."""
    wanted = serving.dtype
    has_bfloat16 = accelerator is None or accelerator.compute_capability >= AMPERE
    if wanted is not None and wanted != "auto":
        dtype = _DTYPE_ALIASES.get(wanted, wanted)
        if dtype not in DTYPE_BYTES:
            raise UnsupportedOptionError(
                f"dtype is {wanted!r}: it must be one of auto, {', '.join(DTYPE_BYTES)}; leave it unset to take the "
                "checkpoint's."
            )
        if dtype == "float16" and shape.float16_unsafe:
            raise UnsupportedOptionError(
                f"dtype is {wanted}: vLLM refuses float16 for {shape.model_type} (numerical instability); leave it "
                "unset or set bfloat16."
            )
        if dtype == "bfloat16" and not has_bfloat16 and accelerator is not None:
            raise HardwareCannotError(
                f"{_named(accelerator)}: bfloat16 needs 8.0 or higher; set dtype float16"
            )
        return dtype, ()
    # A float32 checkpoint is served in the card's preferred 16 bits.
    dtype = "bfloat16" if shape.dtype == "float32" else shape.dtype
    if dtype == "bfloat16" and not has_bfloat16 and accelerator is not None:
        fallback = "float32" if shape.float16_unsafe else "float16"
        return fallback, (
            f"{_named(accelerator)}: bfloat16 needs 8.0 or higher, so vLLM serves this checkpoint in {fallback}.",
        )
    if dtype == "float16" and shape.float16_unsafe:
        dtype = "bfloat16" if has_bfloat16 else "float32"
    return dtype, ()


def _cache_dtype(
    shape: ModelShape, serving: Serving, quantization: Quantization | None, dtype: str
) -> tuple[str, int]:
    wanted = serving.kv_cache_dtype
    if shape.kernels.ignores_cache_dtype and (wanted in _FP8_CACHE or wanted == dtype):
        return wanted, DTYPE_BYTES[dtype]
    if wanted is None or wanted == "auto":
        if quantization is not None and quantization.kv_cache_fp8:
            return "fp8", 1
        return "auto", DTYPE_BYTES[dtype]
    if wanted in _FP8_CACHE:
        return wanted, 1
    if wanted in DTYPE_BYTES and wanted == dtype:
        return wanted, DTYPE_BYTES[dtype]
    if wanted in DTYPE_BYTES:
        raise UnsupportedOptionError(
            f"kvCacheDtype is {wanted}: an explicit 16-bit cache must have the model's dtype, {dtype}; leave it unset."
        )
    raise UnsupportedOptionError(
        f"kvCacheDtype is {wanted!r:.80}: what can be planned for {shape.architecture} is auto, "
        f"{', '.join(_FP8_CACHE)}; leave it unset."
    )


def _padded(quantization: Quantization, accelerator: Accelerator) -> Quantization:
    """MXFP4 experts are rounded up to what the kernel of this card takes (layers/quantization/mxfp4.py)."""
    if quantization.weights is not WeightFormat.MXFP4:
        return quantization
    hopper = HOPPER <= accelerator.compute_capability < BLACKWELL
    return replace(quantization, padding=_TRITON_PADDING if hopper else _MARLIN_PADDING)


def _sparse_cache_dtype(accelerator: Accelerator, kv_bytes: int) -> tuple[str, int]:
    """Sparse attention on Blackwell keeps an 8 bit cache unless told otherwise (seen in vLLM 0.33.0)."""
    if BLACKWELL <= accelerator.compute_capability < _WORKSTATION:
        return "fp8", 1
    return "auto", kv_bytes


def _check_fp8_cache(accelerator: Accelerator, version: EngineVersion, *, latent: bool) -> None:
    """Source: vLLM 0.33.0's choice of backend on A100 and H100 with an fp8 cache."""
    dense = AMPERE if version.at_least(FP8_CACHE_ON_AMPERE) else ADA
    least = HOPPER if latent else dense
    if accelerator.compute_capability < least:
        raise HardwareCannotError(
            f"{_named(accelerator)}: an fp8 cache of this model needs {least[0]}.{least[1]} or higher with vLLM {version}"
        )
