"""How the engine is to be run: what the user fixed; None is left to the engine's defaults or to the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.sizing.lora import LoraSlots
    from plimsoll.sizing.speculation import Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The wishes of one deployment, in vLLM's own terms.

    Attributes:
        engine_version: vLLM's release; defaults and overheads differ by gigabytes between releases.
        gpus: GPUs per replica, if fixed.
        max_nodes: how many nodes one replica may span.
        kv_cache_memory_bytes: of each GPU (of the host on CPU) for the KV cache; the engine takes it as given.
        min_gpu_memory_bytes: cards below it are not considered.
        tensor_parallel_size: 0 means CPU only.
        concurrency: requests of full length that the KV cache must hold at once; None: one.
        block_size: tokens of a block of the KV cache; None: what the attention backends prefer.
        enforce_eager: without CUDA graphs.
        enable_prefix_caching: None is the release's default.
        disable_hybrid_kv_cache_manager: windows beside full attention are kept in full.
        allow_deprecated_quantization: what vLLM is about to drop is served all the same.
        enable_expert_parallel: whole experts on each rank instead of a slice of all.
        lora: room for adapters on each card; None: there is none.
        speculative: what proposes tokens for the model to verify; None: nothing does.
    """

    engine_version: str
    max_model_len: int | None = None
    gpu_memory_utilization: Fraction | None = None
    quantization: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    enable_chunked_prefill: bool | None = None
    cpu_offload_bytes: int = 0
    kv_cache_memory_bytes: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    gpus: int | None = None
    max_nodes: int = 1
    min_gpu_memory_bytes: int = 0
    block_size: int | None = None
    enforce_eager: bool = False
    enable_prefix_caching: bool | None = None
    disable_hybrid_kv_cache_manager: bool = False
    enable_expert_parallel: bool = False
    allow_deprecated_quantization: bool = False
    concurrency: int | None = None
    speculative: Speculation | None = None
    lora: LoraSlots | None = None
