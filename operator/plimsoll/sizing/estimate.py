"""The entry point: a model, a way of serving it and the nodes there are in; a `Plan` or a `Refusal` out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.alternatives import Refused, would_fit
from plimsoll.sizing.bill import bill, expected_capacity, fullest_stage, kv_cache
from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.cpu import cpu_plan
from plimsoll.sizing.draft import check_speculation, speculation_warnings
from plimsoll.sizing.engine import (
    NEWEST,
    EngineVersion,
    UnsupportedOptionError,
    parse_version,
)
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.files import disagreement, stored_bytes, with_what_headers_say
from plimsoll.sizing.gpus import compute_share
from plimsoll.sizing.host import HostLoad, component_resources, pickled_bytes
from plimsoll.sizing.lora import adapter_bytes, check_lora, lora_warnings
from plimsoll.sizing.options import check_serving
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.search import Fit, Miss, Search
from plimsoll.sizing.selection import weight_files
from plimsoll.units import ceil_div, format_gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import NodePool
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.placement import Placement
    from plimsoll.sizing.serving import Serving

# Where several reasons stand side by side, the first of these is the one to tell.
_ORDER: Final = (
    RefusalReason.CONTEXT_TOO_LONG,
    RefusalReason.DOES_NOT_FIT,
    RefusalReason.NOT_DIVISIBLE,
    RefusalReason.HARDWARE_CANNOT,
    RefusalReason.NO_MATCHING_NODE,
)


def estimate(
    shape: ModelShape,
    facts: ModelFacts,
    serving: Serving,
    pools: Sequence[NodePool],
    *,
    elsewhere: Sequence[NodePool] = (),
) -> Plan | Refusal:
    """Find the smallest launch that serves the model on these pools.

    `elsewhere` are nodes that the user's choice of GPU keeps out: a refusal says if they would do.
    """
    try:
        version = parse_version(serving.engine_version)
        check_serving(serving, version)
        check_speculation(shape, serving)
        check_lora(shape, serving)
        shape = with_what_headers_say(shape, facts)
        if serving.max_model_len is not None and serving.max_model_len > shape.length_limit:
            return _beyond_the_model(shape, serving.max_model_len)
        if serving.tensor_parallel_size == 0:
            return cpu_plan(shape, facts, serving, version, pools, _warnings(shape, facts, serving, version))
        search = Search(shape, serving, version)
        found = search.run(pools)
        if found.fit is not None:
            return plan_of(search, found.fit, facts)
        refused = Refused(search=search, pools=pools, model_id=facts.model_id, elsewhere=elsewhere)
        return _refusal(refused, found.misses)
    except UnsupportedOptionError as problem:
        return Refusal(reason=RefusalReason.UNSUPPORTED_OPTION, message=str(problem))
    except UnsupportedModelError as problem:
        return Refusal(reason=RefusalReason.UNSUPPORTED_MODEL, message=str(problem))


def _beyond_the_model(shape: ModelShape, wanted: int) -> Refusal:
    return Refusal(
        reason=RefusalReason.CONTEXT_TOO_LONG,
        message=f"maxModelLen is {wanted}: the model is made for at most {shape.max_model_len} tokens; lower it or "
        "leave it unset.",
        would_fit=(f"maxModelLen {shape.max_model_len}, the model's own length, memory permitting",),
    )


def plan_of(search: Search, fit: Fit, facts: ModelFacts) -> Plan:
    """The plan of a fit, with its bill."""
    launch, placement, length = fit.launch, fit.placement, fit.max_model_len
    limits = launch.limits(length)
    stage = fullest_stage(launch, length)
    capacity = launch.layout.capacity(length, limits.in_flight_tokens, launch.available_bytes(length))
    expected = expected_capacity(launch, length)
    serving, shape = search.serving, search.shape
    stored = sum(file.size_bytes for file in weight_files(facts.files))
    weights_bytes = stored or stored_bytes(shape, placement.precision.element_bytes)
    return Plan(
        model_id=facts.model_id,
        engine_version=str(search.version),
        pool=placement.pool,
        tensor_parallel_size=placement.tensor_parallel_size,
        pipeline_parallel_size=placement.pipeline_parallel_size,
        gpus=placement.gpus,
        nodes=placement.nodes,
        max_model_len=length,
        model_max_len=shape.max_model_len,
        limited_by=_limited_by(search, length),
        gpu_memory_utilization=search.utilization,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        dtype=placement.precision.dtype,
        quantization=None
        if placement.precision.quantization is None
        else placement.precision.quantization.method,
        kv_cache_dtype=placement.precision.kv_cache_dtype,
        weights_bytes=weights_bytes,
        usable_bytes=launch.usable_bytes,
        parts=bill(launch, length, capacity, expected, stage),
        kv_cache=kv_cache(launch, capacity, stage),
        expected_kv_cache=kv_cache(launch, expected, stage),
        lowered_max_num_seqs=None if launch.serving == serving else launch.serving.max_num_seqs,
        resources=component_resources(_host_load(search, placement, facts, weights_bytes)),
        warnings=(*_warnings(shape, facts, serving, search.version), *_fit_warnings(fit, search)),
        kv_cache_memory_bytes=serving.kv_cache_memory_bytes,
        concurrency=launch.requests,
        pinned_kv_cache_bytes=launch.cache_bytes(length),
    )


def _host_load(search: Search, placement: Placement, facts: ModelFacts, weights_bytes: int) -> HostLoad:
    return HostLoad(
        weights_bytes=weights_bytes,
        workers=ceil_div(placement.gpus, placement.nodes),
        pickled_bytes=pickled_bytes(facts.files),
        multimodal=bool(search.shape.tower),
        cpu_offload_bytes=search.serving.cpu_offload_bytes,
        adapter_bytes=adapter_bytes(search.launch(placement)),
        allocatable_bytes=placement.pool.allocatable_bytes,
    )


def _limited_by(search: Search, length: int) -> str:
    if search.serving.max_model_len is not None:
        return "maxModelLen in the spec"
    if length == search.shape.max_model_len:
        return "the model's own length"
    if length == search.limit:
        return "maxNumBatchedTokens without chunked prefill"
    return "KV cache" if search.serving.kv_cache_memory_bytes is None else "kvCacheMemory in the spec"


def _warnings(
    shape: ModelShape, facts: ModelFacts, serving: Serving, version: EngineVersion
) -> tuple[str, ...]:
    """What the user should know whatever the card."""
    warnings = [
        *facts.warnings,
        *shape.warnings,
        *speculation_warnings(shape, serving),
        *lora_warnings(shape, serving),
    ]
    if facts.provenance is Provenance.RECALLED:
        warnings.append(
            f"The facts about {facts.model_id} were written from memory and not checked ({facts.source})."
        )
    if version.newer_than_known:
        warnings.append(
            f"vLLM {version} is newer than {'.'.join(map(str, NEWEST))}, the newest whose arithmetic is known: "
            "computed as that one."
        )
    difference = disagreement(shape, facts)
    if difference is not None:
        warnings.append(difference)
    return tuple(warnings)


def _fit_warnings(fit: Fit, search: Search) -> tuple[str, ...]:
    """What the user should know of this card and this split."""
    serving = search.serving
    accelerator = fit.placement.accelerator
    warnings = [*fit.placement.precision.warnings, *_card_warnings(fit)]
    if serving.max_model_len is None and fit.max_model_len < search.useful_tokens:
        warnings.append(f"Only {fit.max_model_len} tokens of context fit: use a larger card or more of them.")
    if fit.launch.serving != serving:
        warnings.append(
            f"The engine would not start with its own maxNumSeqs: each sequence of this model takes a block for its "
            f"recurrent state, so it is told to take {fit.launch.serving.max_num_seqs}."
        )
    if serving.cpu_offload_bytes:
        warnings.append(
            "cpuOffload reads the offloaded weights over the bus for every token: expect slow answers."
        )
    if serving.kv_cache_memory_bytes is not None:
        return tuple(warnings)  # the graphs are in the sum
    most = fit.launch.graphs.high
    beyond = accelerator.memory_bytes - fit.launch.usable_bytes - BASELINE.high_bytes
    if not fit.launch.graphs_charged and beyond < most:
        warnings.append(
            f"CUDA graphs are not in the budget of vLLM {fit.launch.version} with this model: up to {format_gib(most)} "
            f"come on top and {format_gib(beyond)} are left; lower gpuMemoryUtilization if the engine runs out of memory."
        )
    return tuple(warnings)


def _card_warnings(fit: Fit) -> tuple[str, ...]:
    """What the user should know of this card, whatever runs on it."""
    accelerator = fit.placement.accelerator
    warnings: list[str] = []
    share = compute_share(accelerator)
    if share is not None:
        warnings.append(
            f"{accelerator.alias} is a slice with {share[0]} of {share[1]} parts of the card's multiprocessors: expect "
            "that share of its speed."
        )
    if fit.placement.pool.shared:
        warnings.append(
            f"{accelerator.alias} is shared by time slicing, which keeps no memory apart: gpuMemoryUtilization of all "
            "servers on one card must add up to less than one (`plimsoll plan` on their files divides it)."
        )
    if accelerator.provenance is Provenance.RECALLED:
        warnings.append(f"The memory of {accelerator.alias} was not checked ({accelerator.source}).")
    if accelerator.platform == "rocm":
        warnings.append(
            f"{accelerator.alias} runs vLLM on ROCm: weights and KV cache are counted as on CUDA, the rest of the bill "
            "was fitted on NVIDIA's cards and is taken with 1 % of the card more room."
        )
    return tuple(warnings)


def _refusal(refused: Refused, misses: Sequence[Miss]) -> Refusal:
    """The reason of the candidate that came nearest, and what would fit."""
    if not misses:
        return Refusal(
            reason=RefusalReason.NO_MATCHING_NODE,
            message="No node has a GPU: add GPU nodes, or set tensorParallelSize to 0 to serve on CPU.",
            would_fit=would_fit(refused),
        )
    reason = next(reason for reason in _ORDER if any(miss.reason is reason for miss in misses))
    nearest = min(
        (miss for miss in misses if miss.reason is reason),
        key=lambda miss: (miss.needed_bytes or 0) - (miss.available_bytes or 0),
    )
    alternatives = would_fit(refused)
    return Refusal(
        reason=reason,
        message=_message(refused.search, nearest, has_alternatives=bool(alternatives)),
        needed_bytes=nearest.needed_bytes,
        available_bytes=nearest.available_bytes,
        would_fit=alternatives,
    )


def _message(search: Search, miss: Miss, *, has_alternatives: bool) -> str:
    """The numbers in a sentence; what would fit stands beside it, for each reader to show in his own way."""
    way_out = (
        "" if has_alternatives else " Nothing in the catalogue of GPUs would fit it on up to 4 nodes of 8."
    )
    placement = miss.placement
    if placement is None or miss.needed_bytes is None or miss.available_bytes is None:
        return f"{miss.problem[:1].upper()}{miss.problem[1:]}.{way_out}"
    where = (
        f"{placement.gpus} x {placement.accelerator.alias} (TP {placement.tensor_parallel_size}, "
        f"PP {placement.pipeline_parallel_size})"
    )
    shorter = f"; {miss.shorter} tokens would fit there" if miss.shorter else ""
    return (
        f"On {where} {miss.problem} needs {format_gib(miss.needed_bytes)} per GPU and "
        f"{format_gib(miss.available_bytes)} are there with vLLM {search.version}{shorter}.{way_out}"
    )
