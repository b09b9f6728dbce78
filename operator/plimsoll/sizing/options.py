"""The user's options in vLLM's terms, checked before anything is computed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import GIVEN_CACHE, GIVEN_CACHE_ON_CPU, UnsupportedOptionError
from plimsoll.sizing.lora import check_slots

if TYPE_CHECKING:
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.serving import Serving

_LARGEST: Final = 2**40  # of a count; bytes are not counts
_FIELDS: Final = (  # field, the spec's name, the least value
    ("max_model_len", "engine.maxModelLen", 1),
    ("max_num_seqs", "engine.vllm.maxNumSeqs", 1),
    ("max_num_batched_tokens", "engine.vllm.maxNumBatchedTokens", 1),
    ("tensor_parallel_size", "parallelism.tensorParallelSize", 0),
    ("pipeline_parallel_size", "parallelism.pipelineParallelSize", 1),
    ("gpus", "hardware.gpu.count", 1),
    ("max_nodes", "the number of nodes", 1),
    ("cpu_offload_bytes", "engine.vllm.cpuOffload", 0),
    ("kv_cache_memory_bytes", "engine.vllm.kvCacheMemory", 1),
    ("block_size", "block_size", 1),
    ("concurrency", "the number of requests at once", 1),
    ("min_gpu_memory_bytes", "hardware.gpu.minMemory", 0),
)


def check_serving(serving: Serving, version: EngineVersion) -> None:
    """Refuse values out of range, and values that exclude each other.

    Raises:
        UnsupportedOptionError: one sentence that names the field and the value.
    """
    for field, name, least in _FIELDS:
        value = getattr(serving, field)
        if value is not None and not least <= value <= _LARGEST:
            raise UnsupportedOptionError(
                f"{name} is {value}: it must be {least} or more, and at most {_LARGEST}."
            )
    utilization = serving.gpu_memory_utilization
    if utilization is not None and not 0 < utilization <= 1:
        raise UnsupportedOptionError(
            f"engine.vllm.gpuMemoryUtilization is {float(utilization):g}: it must be above 0 and at most 1."
        )
    _check_given_cache(serving, version)
    check_slots(serving.lora)
    size, stages, gpus = serving.tensor_parallel_size, serving.pipeline_parallel_size, serving.gpus
    if size == 0 and (gpus is not None or (stages or 1) > 1):
        raise UnsupportedOptionError(
            "parallelism.tensorParallelSize is 0, which means CPU only: leave out GPUs and pipelineParallelSize."
        )
    if size and stages and gpus is not None and size * stages != gpus:
        raise UnsupportedOptionError(
            f"hardware.gpu.count is {gpus}: tensorParallelSize {size} x pipelineParallelSize {stages} make "
            f"{size * stages}; set one of them less."
        )


def _check_given_cache(serving: Serving, version: EngineVersion) -> None:
    """A release without the flag would not start, or on CPU take another space without a word."""
    since, where = (
        (GIVEN_CACHE_ON_CPU, "on CPU") if serving.tensor_parallel_size == 0 else (GIVEN_CACHE, "on a GPU")
    )
    if serving.kv_cache_memory_bytes is not None and not version.at_least(since):
        raise UnsupportedOptionError(
            f"engine.vllm.kvCacheMemory is {serving.kv_cache_memory_bytes} bytes: vLLM {version} does not take the "
            f"KV space as given {where}; use {'.'.join(map(str, since))} or newer, or leave it unset."
        )
