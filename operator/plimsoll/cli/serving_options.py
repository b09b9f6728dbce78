"""vLLM's engine arguments as options, by vLLM's own names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from plimsoll.cli.gathered import gathered
from plimsoll.cli.params import (
    GIB_COUNT,
    KV_CACHE_SIZE,
    MAX_PARALLEL,
    MODEL_LENGTH,
    SPECULATION,
    TOKENS,
    ShareType,
)
from plimsoll.sizing.lora import DEFAULT_RANK, MOST_SLOTS, RANKS, LoraSlots
from plimsoll.sizing.serving import Serving

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.sizing.speculation import Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """vLLM's engine arguments; None is left to the engine's defaults or to the plan."""

    engine_version: str | None
    max_model_len: int | None
    gpu_memory_utilization: Fraction | None
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    enable_expert_parallel: bool
    quantization: str | None
    allow_deprecated_quantization: bool
    dtype: str | None
    kv_cache_dtype: str | None
    block_size: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    enable_chunked_prefill: bool | None
    enable_prefix_caching: bool | None
    disable_hybrid_kv_cache_manager: bool
    enforce_eager: bool
    speculative_config: Speculation | None
    enable_lora: bool
    max_loras: int
    max_lora_rank: str
    fully_sharded_loras: bool
    max_cpu_loras: int | None
    concurrency: int | None
    kv_cache_memory_bytes: int | None
    cpu_offload_gb: int | None

    def serving(self, default_version: str, *, max_nodes: int) -> Serving:
        """The wishes as sizing takes them."""
        return Serving(
            engine_version=self.engine_version or default_version,
            max_model_len=self.max_model_len,
            gpu_memory_utilization=self.gpu_memory_utilization,
            quantization=self.quantization,
            dtype=self.dtype,
            kv_cache_dtype=self.kv_cache_dtype,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            enable_chunked_prefill=self.enable_chunked_prefill,
            cpu_offload_bytes=self.cpu_offload_gb or 0,
            concurrency=self.concurrency,
            kv_cache_memory_bytes=self.kv_cache_memory_bytes,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            max_nodes=max_nodes,
            block_size=self.block_size,
            enforce_eager=self.enforce_eager,
            enable_prefix_caching=self.enable_prefix_caching,
            disable_hybrid_kv_cache_manager=self.disable_hybrid_kv_cache_manager,
            enable_expert_parallel=self.enable_expert_parallel,
            allow_deprecated_quantization=self.allow_deprecated_quantization,
            speculative=self.speculative_config,
            lora=self._lora(),
        )

    def _lora(self) -> LoraSlots | None:
        """Slots for adapters, which the other options only shape."""
        if not self.enable_lora:
            return None
        return LoraSlots(
            max_loras=self.max_loras,
            max_lora_rank=int(self.max_lora_rank),
            fully_sharded=self.fully_sharded_loras,
            max_cpu_loras=self.max_cpu_loras,
        )


_ENGINE = (
    click.option("--engine-version", metavar="X.Y.Z", help="vLLM release; unset: the operator's default."),
    click.option(
        "--max-model-len",
        type=MODEL_LENGTH,
        help="Context in tokens, such as 32768 or 32K; unset, auto or -1: the largest that fits.",
    ),
    click.option("--gpu-memory-utilization", type=ShareType(), help="Share of each GPU that vLLM may use."),
)
CONCURRENCY = click.option(
    "--concurrency",
    type=click.IntRange(1, 65536),
    help="Requests of full length that the KV cache must hold at once, with the bytes of it that do; unset: 1.",
)
_PARALLELISM = (
    click.option(
        "-tp",
        "--tensor-parallel-size",
        type=click.IntRange(0, MAX_PARALLEL),
        help="GPUs that share each layer; 0: CPU only; unset: the fewest that fit.",
    ),
    click.option(
        "-pp",
        "--pipeline-parallel-size",
        type=click.IntRange(1, MAX_PARALLEL),
        help="Stages that the layers are split into; unset: computed.",
    ),
    click.option(
        "--enable-expert-parallel",
        is_flag=True,
        help="Give each GPU whole experts instead of a slice of all of them.",
    ),
)
_TYPES = (
    click.option(
        "-q", "--quantization", metavar="METHOD", help="vLLM's name; unset: what the checkpoint says."
    ),
    click.option(
        "--allow-deprecated-quantization",
        is_flag=True,
        help="Serve a quantization that vLLM is about to drop, such as fbgemm_fp8.",
    ),
    click.option("--dtype", metavar="TYPE", help="Type of weights and activations; unset: auto."),
    click.option("--kv-cache-dtype", metavar="TYPE", help="Type of the KV cache, such as fp8; unset: auto."),
    click.option(
        "--block-size",
        type=click.IntRange(1, 65536),
        help="Tokens in a block of the KV cache; unset: what the attention backend takes.",
    ),
)
_SCHEDULER = (
    click.option("--max-num-seqs", type=click.IntRange(1, 65536), help="Most sequences in one batch."),
    click.option("--max-num-batched-tokens", type=TOKENS, help="Most tokens in one forward pass."),
    click.option(
        "--enable-chunked-prefill/--no-enable-chunked-prefill",
        default=None,
        help="Split long prompts over several forward passes, or not; unset: they are split.",
    ),
    click.option(
        "--enable-prefix-caching/--no-enable-prefix-caching",
        default=None,
        help="Keep the KV cache of common beginnings; it decides how models with states keep them.",
    ),
    click.option(
        "--disable-hybrid-kv-cache-manager",
        is_flag=True,
        help="Keep the cache of sliding windows in full, as vLLM does without its hybrid manager.",
    ),
    click.option("--enforce-eager", is_flag=True, help="Run without CUDA graphs."),
    click.option(
        "-sc",
        "--speculative-config",
        type=SPECULATION,
        help='Speculative decoding, such as \'{"method": "mtp", "num_speculative_tokens": 1}\' for the model\'s own '
        "draft layers; of another model as a draft the plan warns.",
    ),
)
_LORA = (
    click.option("--enable-lora", is_flag=True, help="Allot slots for LoRA adapters at the start."),
    click.option(
        "--max-loras",
        type=click.IntRange(1, MOST_SLOTS),
        default=1,
        show_default=True,
        help="Slots: adapters in one batch.",
    ),
    click.option(
        "--max-lora-rank",
        type=click.Choice([str(rank) for rank in RANKS]),
        default=str(DEFAULT_RANK),
        show_default=True,
        help="Rank that every slot has room for.",
    ),
    click.option(
        "--fully-sharded-loras", is_flag=True, help="Split both matrices of an adapter over the GPUs."
    ),
    click.option(
        "--max-cpu-loras",
        type=click.IntRange(1, MOST_SLOTS),
        help="Adapters that host memory holds; unset: as many as there are slots.",
    ),
)
_MEMORY = (
    CONCURRENCY,
    click.option(
        "--kv-cache-memory-bytes",
        "--kv-cache-memory",
        "kv_cache_memory_bytes",
        type=KV_CACHE_SIZE,
        help="KV cache of each GPU (on CPU: in host memory), such as 8Gi; unset: what is left.",
    ),
    click.option(
        "--cpu-offload-gb",
        type=GIB_COUNT,
        help="Weights of each GPU that stay in host memory, in GiB, such as 4.",
    ),
)

serving_options = gathered(
    "wishes", ServingOptions, (*_ENGINE, *_PARALLELISM, *_TYPES, *_SCHEDULER, *_LORA, *_MEMORY)
)
