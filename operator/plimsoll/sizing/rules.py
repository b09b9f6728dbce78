"""What a card cannot do: compute capability against dtype, quantization, cache dtype and engine release."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.cache_rules import cache_dtype
from plimsoll.sizing.cards import (
    ADA,
    AMPERE,
    BLACKWELL,
    HOPPER,
    TURING,
    VOLTA,
    HardwareCannotError,
    is_blackwell,
    named,
)
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.outside import DTYPE_BYTES
from plimsoll.sizing.quantization import Quantization, WeightFormat
from plimsoll.sizing.releases import GONE, LEFT_THE_TREE, as_loaded, check_class

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.serving import Serving

__all__ = ["GONE", "HardwareCannotError", "Precision", "keeps_states", "precision_for", "quantization_for"]

CUDA_13: Final = (0, 20, 0)  # vllm-project/vllm#39878: CUDA 13 by default, which has no sm_70
MARLIN_ON_TURING: Final = (0, 33, 0)  # seen in 0.33.0; older releases were not read
GPTQ_WITHOUT_ORDER: Final = (0, 33, 0)  # vLLM 0.33.0 refuses desc_act

# Asked of 0.33.0 with 1 to 1024 on dense, latent and hybrid models: another backend takes what the first does not.
_BLOCK_MULTIPLE: Final = 16
_TRTLLM_MULTIPLE: Final = 128
_TRITON_PADDING: Final = (64, 1)  # of an expert's intermediate and hidden size on a rank
_MARLIN_PADDING: Final = (128, 256)  # FlashInfer's kernels on Blackwell too
_ROCM_PADDING: Final = (256, 256)

_ALIASES: Final = {
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
}
_DEPRECATED: Final = ("fbgemm_fp8",)
_DEPRECATED_SEEN: Final = (0, 32, 0)  # older releases were not read
_PACKED_DTYPES: Final = (None, "auto", "fp8", "fp8_e4m3", "fp8_ds_mla")
_DTYPE_ALIASES: Final = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityRule:
    """Weights of one format need a card of at least this compute capability.

    Attributes:
        integer, method: narrow the format down; None: whatever they are.
        since: the release from which it holds; of several rows the first that matches counts.
        source: the file of vLLM 0.33.0 under model_executor/layers/quantization, or where else it was read.
    """

    weights: WeightFormat
    least: tuple[int, int]
    source: str
    since: tuple[int, int, int] = (0, 0, 0)
    integer: bool | None = None
    method: str | None = None


_OLDER: Final = "its get_min_capability before the Marlin kernels took 7.5"
CAPABILITIES: Final = (
    CapabilityRule(weights=WeightFormat.AWQ, least=TURING, source="auto_awq.py"),
    # 6.0 in auto_gptq.py, through the ExLlama kernels; vLLM itself needs 7.0.
    CapabilityRule(weights=WeightFormat.GPTQ, least=VOLTA, source="auto_gptq.py"),
    CapabilityRule(
        weights=WeightFormat.PACKED,
        least=TURING,
        source="compressed_tensors/schemes/compressed_tensors_wNa16.py",
    ),
    CapabilityRule(
        weights=WeightFormat.BYTE_CHANNEL,
        integer=True,
        least=TURING,
        source="compressed_tensors/schemes/compressed_tensors_w8a8_int8.py",
    ),
    CapabilityRule(
        weights=WeightFormat.FP8_TENSOR,
        integer=True,
        least=TURING,
        source="compressed_tensors/schemes/compressed_tensors_w8a8_int8.py",
    ),
    CapabilityRule(
        weights=WeightFormat.FP8_TENSOR,
        method="modelopt",
        least=AMPERE,
        source="modelopt.py (ModelOptFp8Config)",
    ),
    *(
        CapabilityRule(weights=weights, least=least, source=source, since=since)
        for weights in (WeightFormat.FP8_TENSOR, WeightFormat.FP8_BLOCK, WeightFormat.BYTE_CHANNEL)
        for least, source, since in (
            (TURING, "fp8.py, utils/marlin_utils_fp8.py", MARLIN_ON_TURING),
            (AMPERE, _OLDER, (0, 0, 0)),
        )
    ),
    CapabilityRule(
        weights=WeightFormat.NVFP4, least=TURING, source="modelopt.py (NVFP4)", since=MARLIN_ON_TURING
    ),
    CapabilityRule(weights=WeightFormat.NVFP4, least=AMPERE, source=_OLDER),
    CapabilityRule(weights=WeightFormat.MXFP4, least=AMPERE, source="mxfp4.py"),
    CapabilityRule(weights=WeightFormat.NF4, least=VOLTA, source="bitsandbytes.py of vLLM 0.27"),
    CapabilityRule(weights=WeightFormat.PLAIN, least=VOLTA, source="a stub that vLLM builds in 16 bits"),
)


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


def quantization_for(
    shape: ModelShape, serving: Serving, version: EngineVersion
) -> tuple[Quantization | None, bool]:
    """The quantization that is served, and whether it is made while loading.

    Raises:
        UnsupportedOptionError: one that vLLM no longer has, or that is not the checkpoint's.
        UnsupportedModelError: the release no longer has the model's class, or its quantization.
    """
    wanted = serving.quantization
    check_class(shape, version)
    _check_deprecated(shape, serving, version)
    stored = as_loaded(shape.quantization, version)
    if wanted is None or (stored is not None and wanted == stored.method):
        return stored, False
    if wanted in GONE:
        known = version.at_least(LEFT_THE_TREE[wanted])
        why = GONE[wanted] if known else f"what its weights take in vLLM {version} was not checked"
        raise UnsupportedOptionError(
            f"quantization is {wanted}: {why}, so it cannot be planned; leave it unset and name an AWQ, GPTQ or FP8 "
            "build of the model."
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
    quantization, online = quantization_for(shape, serving, version)
    is_sparse = shape.kernels.sparse or shape.kernels.fixed_block > 0
    _check_packed(shape, serving)
    if serving.enable_expert_parallel and shape.experts is None:
        raise UnsupportedOptionError(
            f"enable_expert_parallel is set: {shape.architecture} has no experts here, and vLLM refuses it; leave it out."
        )
    if accelerator is not None and serving.block_size is not None and serving.block_size % _BLOCK_MULTIPLE:
        raise UnsupportedOptionError(
            f"block_size is {serving.block_size}: vLLM's attention backends on GPUs take multiples of {_BLOCK_MULTIPLE}; "
            "set one, or leave it unset."
        )
    if accelerator is not None:
        _check_card(accelerator, version)
        if shape.latent_up_projection is not None and accelerator.compute_capability < AMPERE:
            raise HardwareCannotError(
                f"{named(accelerator)}: multi-head latent attention needs 8.0 or higher"
            )
        if is_sparse and accelerator.compute_capability < HOPPER:
            raise HardwareCannotError(f"{named(accelerator)}: sparse latent attention needs 9.0 or higher")
        if quantization is not None:
            _check_quantization(quantization, accelerator, version)
    dtype, warnings = _dtype(shape, serving, accelerator)
    kv_cache_dtype, kv_bytes = cache_dtype(shape, serving, quantization, dtype, accelerator, version)
    if quantization is not None and accelerator is not None:
        quantization = _padded(quantization, accelerator, lora=serving.lora is not None)
    if accelerator is None and (quantization is not None or kv_bytes == 1):
        raise HardwareCannotError("quantized weights and an fp8 cache cannot be planned on CPU")
    if accelerator is None and (is_sparse or keeps_states(shape)):
        raise HardwareCannotError("recurrent states and sparse attention cannot be planned on CPU")
    return Precision(
        dtype=dtype,
        element_bytes=DTYPE_BYTES[dtype],
        quantization=quantization,
        online=online,
        kv_cache_dtype=kv_cache_dtype,
        kv_element_bytes=kv_bytes,
        warnings=(*warnings, *_computed_in_16_bits(quantization, accelerator)),
        expert_multiple=1 if serving.lora is not None else _expert_multiple(accelerator, quantization),
    )


def _check_deprecated(shape: ModelShape, serving: Serving, version: EngineVersion) -> None:
    """Source: vLLM 0.32.0 and 0.33.0, layers/quantization/__init__.py (DEPRECATED_QUANTIZATION_METHODS)."""
    method = None if shape.quantization is None else shape.quantization.method
    if method not in _DEPRECATED or serving.allow_deprecated_quantization:
        return
    if version.at_least(_DEPRECATED_SEEN):
        raise UnsupportedOptionError(
            f"the checkpoint is quantized with {method}: vLLM {version} refuses it as deprecated; add "
            "--allow-deprecated-quantization, or use a build with compressed-tensors or fp8."
        )


def _check_packed(shape: ModelShape, serving: Serving) -> None:
    """DeepSeek V4 keeps its caches in one packed layout of 8 bits, with blocks of one size (models/deepseek_v4)."""
    block = shape.kernels.fixed_block
    if not block:
        return
    if serving.kv_cache_dtype not in _PACKED_DTYPES:
        raise UnsupportedOptionError(
            f"kv_cache_dtype is {serving.kv_cache_dtype}: {shape.architecture} is planned with its own layout of 8 bits; "
            "set fp8, or leave it unset."
        )
    if serving.block_size not in (None, block):
        raise UnsupportedOptionError(
            f"block_size is {serving.block_size}: {shape.architecture} keeps blocks of {block}; leave it unset."
        )


def _expert_multiple(accelerator: Accelerator | None, quantization: Quantization | None) -> int:
    """FlashInfer's experts in 16 bits on Blackwell (fused_moe/oracle/unquantized.py), where no adapters are served."""
    if accelerator is None or quantization is not None:
        return 1
    return _TRTLLM_MULTIPLE if is_blackwell(accelerator) else 1


def _check_card(accelerator: Accelerator, version: EngineVersion) -> None:
    capability = accelerator.compute_capability
    if capability < VOLTA:
        raise HardwareCannotError(f"{named(accelerator)}: vLLM needs 7.0 or higher")
    if capability < TURING and version.at_least(CUDA_13):
        raise HardwareCannotError(
            f"{named(accelerator)}: vLLM's images need 7.5 or higher since 0.20 (CUDA 13); an engine before that "
            "serves it"
        )


def _check_quantization(quantization: Quantization, accelerator: Accelerator, version: EngineVersion) -> None:
    """Source: get_min_capability and the kernels of each method, vLLM 0.33.0."""
    if (
        quantization.weights is WeightFormat.GPTQ
        and quantization.desc_act
        and version.at_least(GPTQ_WITHOUT_ORDER)
    ):
        raise UnsupportedOptionError(
            "quantization_config.desc_act is true: vLLM refuses GPTQ with activation order since 0.33; use another "
            "build of the model or an older engine."
        )
    capability = accelerator.compute_capability
    for part in (quantization, *quantization.modules.values()):
        if part.integer and capability >= BLACKWELL:
            raise HardwareCannotError(f"{named(accelerator)}: vLLM has no 8 bit integer kernels from 10.0 on")
        least = least_capability(part, version)
        if capability < least:
            raise HardwareCannotError(
                f"{named(accelerator)}: {quantization.method} weights need {least[0]}.{least[1]} or higher with vLLM "
                f"{version}"
            )


def least_capability(quantization: Quantization, version: EngineVersion) -> tuple[int, int]:
    """From which compute capability vLLM takes weights of this format."""
    return next(
        row.least
        for row in CAPABILITIES
        if row.weights is quantization.weights
        and row.integer in (None, quantization.integer)
        and row.method in (None, quantization.method)
        and version.at_least(row.since)
    )


def _computed_in_16_bits(
    quantization: Quantization | None, accelerator: Accelerator | None
) -> tuple[str, ...]:
    """Cards without 8 bit floats unpack such weights for each multiplication (Marlin)."""
    if quantization is None or accelerator is None or accelerator.compute_capability >= ADA:
        return ()
    formats = {part.weights for part in (quantization, *quantization.modules.values()) if not part.integer}
    if formats.isdisjoint((WeightFormat.FP8_TENSOR, WeightFormat.FP8_BLOCK, WeightFormat.BYTE_CHANNEL)):
        return ()
    told = "fp8 multiplication needs 8.9 or higher, so vLLM keeps these weights in 8 bits and computes in 16."
    return (f"{named(accelerator)}: {told}",)


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
                f"{named(accelerator)}: bfloat16 needs 8.0 or higher; set dtype float16"
            )
        return dtype, ()
    # A float32 checkpoint is served in the card's preferred 16 bits.
    dtype = "bfloat16" if shape.dtype == "float32" else shape.dtype
    if dtype == "bfloat16" and not has_bfloat16 and accelerator is not None:
        fallback = "float32" if shape.float16_unsafe else "float16"
        return fallback, (
            f"{named(accelerator)}: bfloat16 needs 8.0 or higher, so vLLM serves this checkpoint in {fallback}.",
        )
    if dtype == "float16" and shape.float16_unsafe:
        dtype = "bfloat16" if has_bfloat16 else "float32"
    return dtype, ()


def _padded(quantization: Quantization, accelerator: Accelerator, *, lora: bool) -> Quantization:
    """MXFP4 experts are rounded up to what the kernel of this card takes (layers/fused_moe/oracle/mxfp4.py).

    With LoRA that is Marlin's on Hopper too: Triton's has no place for adapters.
    """
    if quantization.weights is not WeightFormat.MXFP4:
        return quantization
    if accelerator.platform == "rocm":
        return replace(quantization, padding=_ROCM_PADDING)
    hopper = HOPPER <= accelerator.compute_capability < BLACKWELL
    return replace(quantization, padding=_TRITON_PADDING if hopper and not lora else _MARLIN_PADDING)
