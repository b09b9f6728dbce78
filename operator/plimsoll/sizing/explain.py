"""Each number of a plan with its sum and where the rule comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.times import (
    DOWNLOAD_BYTES_PER_SECOND,
    DOWNLOAD_RATE,
    LOAD_BYTES_PER_SECOND,
    LOAD_RATE,
    expected_times,
)
from plimsoll.units import format_gib

if TYPE_CHECKING:
    from plimsoll.sizing.plan import Part, Plan

_KV_SOURCE = "vLLM 0.33.0, v1/core/kv_cache_planning.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One number in words."""

    name: str
    value: str
    formula: str
    source: str


def explain(plan: Plan) -> tuple[Explanation, ...]:
    """The numbers of a plan in the order in which they follow from each other."""
    return (_usable(plan), *(_part(part) for part in plan.parts), *_cache(plan), *_host(plan), *_times(plan))


def _usable(plan: Plan) -> Explanation:
    accelerator = plan.pool.accelerator
    if accelerator is None or plan.gpus == 0:
        formula, source = (
            "weights, KV cache and the engine's processes in host memory",
            "the sum of the parts",
        )
    else:
        utilization = float(plan.gpu_memory_utilization)
        memory = f"{accelerator.memory_bytes} B of {accelerator.alias}"
        formula = f"{memory} x {utilization:g}, rounded up as the engine does"
        if plan.kv_cache_memory_bytes is not None:
            formula = f"{memory} less {BASELINE.high_bytes} B in use before vLLM looks: kvCacheMemory is held against the card"
        source = accelerator.source
    return Explanation(name="usable_bytes", value=_bytes(plan.usable_bytes), formula=formula, source=source)


def _part(part: Part) -> Explanation:
    value = _bytes(part.bytes)
    if part.low_bytes != part.bytes:
        value += f", most likely {_bytes(part.expected_bytes)}, at the least {_bytes(part.low_bytes)}"
    kind = "" if part.exact else " (modelled)"
    return Explanation(
        name=f"{part.name.value}_bytes", value=value, formula=part.formula + kind, source=part.source
    )


def _cache(plan: Plan) -> tuple[Explanation, ...]:
    cache = plan.kv_cache
    return (
        Explanation(
            name="kv_cache.bytes_per_token",
            value=f"{cache.bytes_per_token_per_gpu} B",
            formula="every layer's keys and values of one token on one GPU",
            source=_KV_SOURCE,
        ),
        Explanation(
            name="kv_cache.blocks",
            value=str(cache.blocks),
            formula=f"{cache.bytes_per_gpu} B // {cache.bytes_per_block} B",
            source=_KV_SOURCE,
        ),
        Explanation(
            name="kv_cache.max_concurrency",
            value=f"{float(cache.max_concurrency):.2f}",
            formula=f"{cache.blocks} blocks over the blocks of one request of {plan.max_model_len} tokens",
            source=_KV_SOURCE,
        ),
        Explanation(
            name="kv_cache.tokens",
            value=str(cache.tokens),
            formula="the engine's log line: concurrency x length, or blocks x block size before 0.20.1",
            source=_KV_SOURCE,
        ),
        Explanation(
            name="max_model_len",
            value=str(plan.max_model_len),
            formula=f"limited by {plan.limited_by}; the model's own length is {plan.model_max_len}",
            source="vLLM 0.33.0, config/model.py (_get_and_verify_max_len)",
        ),
    )


def _host(plan: Plan) -> tuple[Explanation, ...]:
    resources = plan.resources
    return tuple(
        Explanation(
            name=f"resources.{name}",
            value=(
                f"{host.cpu_request_millicores}m to {host.cpu_limit_millicores}m CPU, "
                f"{format_gib(host.memory_request_bytes)} to {format_gib(host.memory_limit_bytes)} of memory"
            ),
            formula=host.reason,
            source="rules of thumb by size, raised to what vLLM's processes hold where that is more; sizing/host.py",
        )
        for name, host in (
            ("download", resources.download),
            ("server", resources.server),
            ("test", resources.test),
        )
    )


def _times(plan: Plan) -> tuple[Explanation, ...]:
    times, stored = expected_times(plan.weights_bytes), plan.weights_bytes
    return (
        Explanation(
            name="expected.download_seconds",
            value=f"{times.download_seconds} s",
            formula=f"{stored} B of weight files / {DOWNLOAD_BYTES_PER_SECOND} B/s",
            source=f"the rate is an assumption: {DOWNLOAD_RATE}",
        ),
        Explanation(
            name="expected.load_seconds",
            value=f"{times.load_seconds} s",
            formula=f"{stored} B of weight files / {LOAD_BYTES_PER_SECOND} B/s; every file is read from the volume once",
            source=f"the rate is an assumption: {LOAD_RATE}",
        ),
    )


def _bytes(size_bytes: int) -> str:
    return f"{size_bytes} B ({format_gib(size_bytes)})"
