"""One model on one choice of hardware: the facts, the wishes, and what sizing says of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import Accelerator, NodePool
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """An estimate with what it was made from."""

    facts: ModelFacts
    serving: Serving
    pools: tuple[NodePool, ...]
    result: Plan | Refusal

    @property
    def accelerator(self) -> Accelerator | None:
        """The card that was chosen, or of a refusal the one that was asked for; None for CPU or several."""
        if isinstance(self.result, Plan):
            return self.result.pool.accelerator
        cards = {pool.accelerator for pool in self.pools}
        return cards.pop() if len(cards) == 1 else None

    def notes(self) -> tuple[str, ...]:
        """What the reader should know: the facts that nobody checked, and the plan's own warnings."""
        told = self.result.warnings if isinstance(self.result, Plan) else ()
        said = " ".join(told)
        notes: list[str] = []
        if self.facts.provenance is Provenance.RECALLED and self.facts.model_id not in said:
            notes.append(
                f"The facts of {self.facts.model_id} were not checked against its repository: {self.facts.source}."
            )
        card = self.accelerator
        if card is not None and card.provenance is Provenance.RECALLED and card.source not in said:
            notes.append(f"The facts of {card.alias} were not checked on a real card: {card.source}.")
        return (*notes, *told)

    def command(self) -> str | None:
        """The command that runs the engine as it was planned; None for a refusal."""
        return " ".join(self.command_lines()) or None

    def command_lines(self) -> tuple[str, ...]:
        """The command, one flag with its value per line; empty for a refusal."""
        return serve_command(self.result, self.serving) if isinstance(self.result, Plan) else ()


def size(facts: ModelFacts, serving: Serving, pools: Sequence[NodePool]) -> Sized:
    """Estimate one model; a config that cannot be read is a refusal like any other."""
    result: Plan | Refusal
    try:
        result = estimate(shape_from_facts(facts), facts, serving, pools)
    except UnsupportedModelError as error:
        result = Refusal(reason=RefusalReason.UNSUPPORTED_MODEL, message=str(error))
    return Sized(facts=facts, serving=serving, pools=tuple(pools), result=result)


def serve_command(plan: Plan, serving: Serving) -> tuple[str, ...]:
    """`vllm serve` with every computed value, and what the user set besides: the command, then its flags."""
    flags: list[tuple[str, str | int | None]] = [("--max-model-len", plan.max_model_len)]
    if plan.gpus:
        flags += [
            ("--tensor-parallel-size", plan.tensor_parallel_size),
            ("--gpu-memory-utilization", f"{float(plan.gpu_memory_utilization):g}"),
        ]
    if plan.pipeline_parallel_size > 1:
        flags.append(("--pipeline-parallel-size", plan.pipeline_parallel_size))
    flags += [
        ("--kv-cache-memory-bytes", serving.kv_cache_memory_bytes),
        ("--cpu-offload-gb", _gib(serving.cpu_offload_bytes)),
        ("--dtype", serving.dtype),
        ("--quantization", serving.quantization),
        ("--kv-cache-dtype", serving.kv_cache_dtype),
        ("--block-size", serving.block_size),
        ("--max-num-seqs", serving.max_num_seqs or plan.lowered_max_num_seqs),
        ("--max-num-batched-tokens", serving.max_num_batched_tokens),
        ("--speculative-config", None if serving.speculative is None else serving.speculative.text),
        *_lora(serving),
    ]
    lines = [shlex.join((flag, str(value))) for flag, value in flags if value is not None]
    lines += [flag for flag, is_set in _switches(serving) if is_set]
    command = shlex.join(("vllm", "serve", plan.model_id))
    if not plan.gpus and serving.kv_cache_memory_bytes is None:
        command = f"VLLM_CPU_KVCACHE_SPACE={plan.kv_cache.bytes_per_gpu // GIB} {command}"
    return (command, *lines)


def _switches(serving: Serving) -> tuple[tuple[str, bool], ...]:
    """Flags without a value, and whether the user set them."""
    chunked, prefixes = serving.enable_chunked_prefill, serving.enable_prefix_caching
    return (
        ("--enable-chunked-prefill", chunked is True),
        ("--no-enable-chunked-prefill", chunked is False),
        ("--enable-prefix-caching", prefixes is True),
        ("--no-enable-prefix-caching", prefixes is False),
        ("--disable-hybrid-kv-cache-manager", serving.disable_hybrid_kv_cache_manager),
        ("--enable-expert-parallel", serving.enable_expert_parallel),
        ("--enforce-eager", serving.enforce_eager),
        ("--enable-lora", serving.lora is not None),
        ("--fully-sharded-loras", serving.lora is not None and serving.lora.fully_sharded),
        ("--allow-deprecated-quantization", serving.allow_deprecated_quantization),
    )


def _lora(serving: Serving) -> tuple[tuple[str, int | None], ...]:
    """Slots for adapters."""
    slots = serving.lora
    if slots is None:
        return ()
    return (
        ("--max-loras", slots.max_loras),
        ("--max-lora-rank", slots.max_lora_rank),
        ("--max-cpu-loras", slots.max_cpu_loras),
    )


def _gib(size_bytes: int) -> str | None:
    """Bytes in GiB, which vLLM's flag takes and calls GB; None for nothing."""
    return f"{size_bytes / GIB:g}" if size_bytes else None
