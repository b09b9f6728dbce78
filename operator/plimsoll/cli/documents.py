"""The results of sizing as JSON documents: a contract for scripts, so fields are only ever added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plimsoll.sizing.plan import ComponentResources, HostResources, KVCache, Plan, Refusal
from plimsoll.sizing.times import DOWNLOAD_BYTES_PER_SECOND, LOAD_BYTES_PER_SECOND, expected_times
from plimsoll.units import bytes_quantity, millicores_quantity

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.cli.sized import Sized
    from plimsoll.sizing.accelerators import Accelerator


def estimate_document(sized: Sized) -> dict[str, Any]:
    """One estimate; the fields of a plan are null where it was refused."""
    facts, result = sized.facts, sized.result
    plan = result if isinstance(result, Plan) else None
    refusal = result if isinstance(result, Refusal) else None
    return {
        "verdict": "fits" if plan else "refused",
        "model": {
            "id": facts.model_id,
            "revision": facts.requested_revision,
            "commit": facts.commit,
            "source": facts.source,
            "provenance": facts.provenance.value,
        },
        "gpu": _gpu(sized.accelerator),
        "engine": _engine(sized, plan),
        "tensor_parallel_size": plan.tensor_parallel_size if plan else None,
        "pipeline_parallel_size": plan.pipeline_parallel_size if plan else None,
        "gpus": plan.gpus if plan else None,
        "nodes": plan.nodes if plan else None,
        "max_model_len": plan.max_model_len if plan else None,
        "model_max_len": plan.model_max_len if plan else None,
        "limited_by": plan.limited_by if plan else None,
        "weights_bytes": plan.weights_bytes if plan else None,
        "usable_bytes": plan.usable_bytes if plan else None,
        "kv_cache": _kv_cache(plan.kv_cache) if plan else None,
        "expected_kv_cache": _kv_cache(plan.expected_kv_cache or plan.kv_cache) if plan else None,
        "pinned": pinned_document(plan) if plan else None,
        "per_gpu": _parts(plan) if plan else [],
        "resources": resources_document(plan.resources) if plan else None,
        "expected": _expected(plan) if plan else None,
        "warnings": list(sized.notes()),
        "command": sized.command(),
        "refusal": refusal_document(refusal) if refusal else None,
    }


def _expected(plan: Plan) -> dict[str, int]:
    times = expected_times(plan.weights_bytes)
    return {
        "download_seconds": times.download_seconds,
        "download_bytes_per_second": DOWNLOAD_BYTES_PER_SECOND,
        "load_seconds": times.load_seconds,
        "load_bytes_per_second": LOAD_BYTES_PER_SECOND,
    }


def pinned_document(plan: Plan) -> dict[str, Any]:
    """The KV space of each GPU that holds just the requests asked for, to be given to the engine."""
    return {
        "concurrency": plan.concurrency,
        "max_model_len": plan.max_model_len,
        "kv_cache_memory_bytes": plan.pinned_kv_cache_bytes,
    }


def refusal_document(refusal: Refusal) -> dict[str, Any]:
    """Why it was refused, and what would fit."""
    return {
        "reason": refusal.reason.value,
        "message": refusal.message,
        "needed_bytes": refusal.needed_bytes,
        "available_bytes": refusal.available_bytes,
        "would_fit": list(refusal.would_fit),
    }


def resources_document(resources: ComponentResources) -> dict[str, Any]:
    """CPU and host memory of the three pods, as Kubernetes quantities."""
    return {
        "download": _host(resources.download),
        "server": _host(resources.server),
        "test": _host(resources.test),
    }


def _host(need: HostResources) -> dict[str, str]:
    return {
        "cpu_request": millicores_quantity(need.cpu_request_millicores),
        "cpu_limit": millicores_quantity(need.cpu_limit_millicores),
        "memory_request": bytes_quantity(need.memory_request_bytes),
        "memory_limit": bytes_quantity(need.memory_limit_bytes),
        "reason": need.reason,
    }


def _gpu(accelerator: Accelerator | None) -> dict[str, Any] | None:
    if accelerator is None:
        return None
    return {
        "name": accelerator.alias,
        "product": accelerator.product,
        "memory_bytes": accelerator.memory_bytes,
        "compute_capability": ".".join(str(number) for number in accelerator.compute_capability),
        "provenance": accelerator.provenance.value,
        "source": accelerator.source,
    }


def _engine(sized: Sized, plan: Plan | None) -> dict[str, Any]:
    serving = sized.serving
    share = plan.gpu_memory_utilization if plan else serving.gpu_memory_utilization
    return {
        "name": "vLLM",
        "version": serving.engine_version,
        "gpu_memory_utilization": _number(share),
        "kv_cache_memory_bytes": serving.kv_cache_memory_bytes,
        "dtype": plan.dtype if plan else serving.dtype,
        "quantization": plan.quantization if plan else serving.quantization,
        "kv_cache_dtype": plan.kv_cache_dtype if plan else serving.kv_cache_dtype,
        "max_num_seqs": plan.max_num_seqs if plan else serving.max_num_seqs,
        "max_num_batched_tokens": plan.max_num_batched_tokens if plan else serving.max_num_batched_tokens,
    }


def _kv_cache(cache: KVCache) -> dict[str, Any]:
    return {
        "bytes_per_gpu": cache.bytes_per_gpu,
        "bytes_per_token_per_gpu": cache.bytes_per_token_per_gpu,
        "block_size": cache.block_size,
        "bytes_per_block": cache.bytes_per_block,
        "blocks": cache.blocks,
        "tokens": cache.tokens,
        "max_concurrency": round(float(cache.max_concurrency), 4),
    }


def _parts(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "part": part.name.value,
            "bytes": part.bytes,
            "expected_bytes": part.expected_bytes,
            "low_bytes": part.low_bytes,
            "exact": part.exact,
            "formula": part.formula,
            "source": part.source,
        }
        for part in plan.parts
    ]


def _number(share: Fraction | None) -> float | None:
    return None if share is None else float(share)
