"""What engines say when they fail, each with where it was recorded; the first that fits counts.

Texts are those of vLLM 0.6 to 0.33; tests/reconcile/recorded_failures.toml has the recordings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from plimsoll.api.conditions import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """One way to fail.

    Attributes:
        signs: patterns that are all in the end of the log; the first marks the words that are quoted.
        what: the rest of a sentence that begins with "The engine".
        next_step: what mends it, without a full stop.
        source: where such a message was recorded.
    """

    reason: Reason
    signs: tuple[re.Pattern[str], ...]
    what: str
    next_step: str
    source: str


_OUT_OF_MEMORY: Final = r"(?:CUDA|HIP) out of memory|(?:CUDA|HIP) error: out of memory|OutOfMemoryError: "
_LOWER_OR_SPLIT: Final = (
    "name a GPU with more memory in hardware.gpu.product, raise parallelism.tensorParallelSize, or name a "
    "quantized model"
)


def _known(reason: Reason, signs: tuple[str, ...], what: str, next_step: str, source: str) -> KnownFailure:
    return KnownFailure(
        reason=reason,
        signs=tuple(re.compile(sign) for sign in signs),
        what=what,
        next_step=next_step,
        source=source,
    )


KNOWN_FAILURES: Final[tuple[KnownFailure, ...]] = (
    _known(
        Reason.KV_CACHE_TOO_SMALL,
        (
            (
                r"To serve at least one request with the model.{0,3}s max seq len"
                r"|The model's max seq len \(\d+\) is larger than the maximum number of tokens"
            ),
        ),
        "has too little memory for the KV cache of one request of the planned length",
        "set engine.maxModelLen to a length that fits",
        "vLLM 0.32 v1/core/kv_cache_utils.py; vllm-project/tpu-inference#223, kaito-project/kaito#2132; before 0.8 "
        "vllm-project/vllm#2418",
    ),
    _known(
        Reason.KV_CACHE_TOO_SMALL,
        (r"No available memory for the cache blocks",),
        "has no memory left for the KV cache once the model is loaded",
        f"raise engine.vllm.gpuMemoryUtilization, lower engine.vllm.maxNumBatchedTokens, or {_LOWER_OR_SPLIT}",
        "vllm-project/vllm#10439, vllm-project/vllm#27508",
    ),
    _known(
        Reason.OUT_OF_MEMORY_SAMPLING,
        (r"out of memory occurred when warming up sampler",),
        "ran out of GPU memory when it warmed up the sampler",
        "lower engine.vllm.maxNumSeqs, or engine.vllm.gpuMemoryUtilization",
        "vllm-project/vllm#17939, vllm-project/vllm#15105",
    ),
    _known(
        Reason.OUT_OF_MEMORY_CAPTURING,
        (_OUT_OF_MEMORY, r"\bcapture_model\b|\bin capture\b"),
        "ran out of GPU memory when it captured CUDA graphs",
        "lower engine.vllm.gpuMemoryUtilization or engine.vllm.maxNumSeqs, or add --enforce-eager to "
        "engine.vllm.extraArgs",
        "vllm-project/vllm#39788, vllm-project/vllm#49224, gpustack/gpustack#1897",
    ),
    _known(
        Reason.OUT_OF_MEMORY_PROFILING,
        (_OUT_OF_MEMORY, r"\b(?:determine_available_memory|profile_run|determine_num_available_blocks)\b"),
        "ran out of GPU memory in the trial run that measures what is left for the KV cache",
        f"lower engine.vllm.maxNumBatchedTokens or engine.vllm.maxNumSeqs, or {_LOWER_OR_SPLIT}",
        "vLLM 0.32 v1/worker/gpu_worker.py; vllm-project/vllm#12529",
    ),
    _known(
        Reason.OUT_OF_MEMORY_LOADING,
        (r"Failed to load model - not enough GPU memory",),
        "ran out of GPU memory when it loaded the weights",
        _LOWER_OR_SPLIT,
        "vLLM 0.32 v1/worker/gpu_model_runner.py",
    ),
    _known(
        Reason.OUT_OF_MEMORY_LOADING,
        (_OUT_OF_MEMORY, r"\b(?:load_model|create_weights|make_layers|initialize_model)\b"),
        "ran out of GPU memory when it loaded the weights",
        _LOWER_OR_SPLIT,
        "vllm-project/vllm#28143, vllm-project/vllm#16343",
    ),
    _known(
        Reason.GPU_OUT_OF_MEMORY,
        (_OUT_OF_MEMORY,),
        "ran out of GPU memory",
        f"lower engine.vllm.maxNumSeqs or engine.maxModelLen, or {_LOWER_OR_SPLIT}",
        "vllm-project/vllm#26863",
    ),
    _known(
        Reason.GPU_IN_USE,
        (r"Free memory on device .{0,80}on startup is less than desired GPU memory utilization",),
        "found its GPU partly taken by another process",
        "free the GPU of it (another pod without a GPU request, time-slicing), or lower "
        "engine.vllm.gpuMemoryUtilization",
        "vllm-project/vllm#25837, vllm-project/vllm#20305",
    ),
    _known(
        Reason.REMOTE_CODE_NEEDED,
        (
            (
                r"requires you to execute the (?:configuration|tokenizer) file in that repo"
                r"|contains custom code which must be executed"
                r"|Failed to load the (?:model config|tokenizer)\. If the .{0,12} is a custom"
            ),
        ),
        "needs code that comes with the model",
        "read that code, then set engine.vllm.trustRemoteCode to true, or name another model",
        "vllm-project/vllm#5244, vllm-project/vllm#37408",
    ),
    _known(
        Reason.UNSUPPORTED_ARCHITECTURE,
        (
            (
                r"Model architectures \[[^\]]{0,200}\] (?:are not supported for now|failed to be inspected)"
                r"|The checkpoint you are trying to load has model type .{1,80} but Transformers does not recognize"
            ),
        ),
        "does not know the model's architecture",
        "set engine.image to a release that does, or name another model",
        "vllm-project/vllm#22231, vllm-project/vllm#32338, vllm-project/vllm#13579",
    ),
    _known(
        Reason.UNSUPPORTED_DTYPE,
        (
            (
                r"Bfloat16 is only supported on GPUs with compute capability"
                r"|torch\.\w+ is not supported for quantization method"
            ),
        ),
        "cannot compute in this dtype on this GPU",
        "set engine.vllm.dtype to float16, or name a newer GPU in hardware.gpu.product",
        "vllm-project/vllm#1157, substratusai/vllm-docker#37",
    ),
    _known(
        Reason.UNSUPPORTED_QUANTIZATION,
        (
            (
                r"Unknown quantization method: |Found unknown quantization"
                r"|The quantization method \S+ is not supported for the current GPU"
                r"|Quantization scheme is not supported for"
                r"|Quantization method specified in the model config .{1,60} does not match"
                r"|\S+ quantization is currently not supported in"
            ),
        ),
        "cannot run this quantization",
        "change or remove engine.vllm.quantization, name another GPU in hardware.gpu.product, or another model",
        "vllm-project/vllm#1919, vllm-project/vllm#4202, vllm-project/vllm#14040, vllm-project/vllm#19050",
    ),
    _known(
        Reason.TOKENIZER_MISSING,
        (
            (
                r"Can't load tokenizer for|No tokenizer file found in directory"
                r"|Couldn't instantiate the backend tokenizer"
            ),
        ),
        "found no tokenizer among the model's files",
        "check that the repository has one (tokenizer.json, tokenizer.model) and that model.allowPatterns takes it",
        "vllm-project/vllm#31444, meta-llama/llama3#384",
    ),
    _known(
        Reason.WEIGHTS_DAMAGED,
        (r"Error while deserializing header|MetadataIncompleteBuffer|file not fully covered",),
        "found a weight file that is cut off",
        "delete the claim of the model's volume, and it is downloaded anew",
        "QwenLM/Qwen3-VL#264, MiniMax-AI/MiniMax-M2.5#37",
    ),
    _known(
        Reason.CONTEXT_TOO_LONG,
        (r"User-specified max_model_len \(\d+\) is greater than the derived max_model_len",),
        "refuses a context that is longer than the model's own",
        "set engine.maxModelLen to at most that length",
        "vllm-project/vllm#3676",
    ),
    _known(
        Reason.VOLUME_FULL,
        (r"No space left on device|Disk quota exceeded",),
        "found a disk full",
        "free the node's disk: the engine writes to its cache directory and /dev/shm only, the model's volume is "
        "read-only to it",
        "kserve/kserve#3408",
    ),
)
