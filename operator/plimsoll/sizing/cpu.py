"""Serving without a GPU: weights and KV cache in the memory of one node."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.backend import cache_options, caches_on
from plimsoll.sizing.bill import draft_parts, lora_parts, modelled
from plimsoll.sizing.constants import ENGINE_PROCESS
from plimsoll.sizing.draft import built_draft
from plimsoll.sizing.engine import (
    CPU_BLOCK_SIZE,
    NULL_BLOCK,
    TOKENS_BY_CONCURRENCY,
    UnsupportedOptionError,
    default_utilization,
)
from plimsoll.sizing.files import parameter_count, stored_bytes
from plimsoll.sizing.host import HostLoad, component_resources, pickled_bytes
from plimsoll.sizing.interval import NOTHING, exactly
from plimsoll.sizing.kv_plan import CacheCapacity, cache_layout
from plimsoll.sizing.launch import Launch
from plimsoll.sizing.plan import KVCache, Part, PartName, Plan, Refusal, RefusalReason
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.search import longest_allowed
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.weights import rank_weights
from plimsoll.units import GIB, format_gib, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import NodePool
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.serving import Serving

_REQUESTS: Final = 4  # full-length requests that the cache should hold at once, where there is room
_GENEROUS_BYTES: Final = 16 * GIB  # beyond this the cache grows only as far as one request needs
_PROCESSES: Final = (
    ENGINE_PROCESS.bytes + ENGINE_PROCESS.bytes
)  # the API server, and the engine core with its worker
_PROCESSES_BYTES: Final = _PROCESSES.high
_SPACE_SOURCE: Final = (
    "vLLM's environment variable VLLM_CPU_KVCACHE_SPACE: whole GiB of host memory for the KV cache"
)
_GIVEN_SOURCE: Final = "vLLM 0.32.0, v1/worker/cpu_worker.py: --kv-cache-memory-bytes is taken as it is"
_SHAPES_SOURCE: Final = "vLLM 0.33.0, model_executor/layers: shapes of each tensor"
_PEAK_SOURCE: Final = "modelled as on a GPU: the forward pass or the sampler, whichever is higher"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """A length, the KV space that serves it, and what the rest of the engine takes."""

    max_model_len: int
    kv_bytes: int
    rest_bytes: int


def cpu_plan(
    shape: ModelShape,
    facts: ModelFacts,
    serving: Serving,
    version: EngineVersion,
    pools: Sequence[NodePool],
    warnings: tuple[str, ...],
) -> Plan | Refusal:
    """The plan on the first node that has room: nodes without a GPU first, those with more memory first."""
    if not pools:
        return Refusal(
            reason=RefusalReason.NO_MATCHING_NODE,
            message="There is no node to serve on: add one to the cluster.",
        )
    if serving.cpu_offload_bytes:
        raise UnsupportedOptionError(
            "engine.vllm.cpuOffload is set with tensorParallelSize 0: on CPU all weights are on the host; leave it out."
        )
    try:
        launch = _launch(shape, serving, version)
    except HardwareCannotError as problem:
        return Refusal(
            reason=RefusalReason.HARDWARE_CANNOT,
            message=f"CPU only: {problem}; set tensorParallelSize to 1 or more, or leave it unset.",
        )
    refusals = []
    for pool in sorted(
        pools, key=lambda pool: (pool.accelerator is not None, -(pool.allocatable_bytes or 0))
    ):
        space = _space(launch, pool.allocatable_bytes)
        if isinstance(space, _Space):
            return _plan(launch, facts, pool, space, warnings)
        refusals.append(space)
    return max(refusals, key=lambda refusal: refusal.available_bytes or 0)


def _launch(shape: ModelShape, serving: Serving, version: EngineVersion) -> Launch:
    precision = precision_for(shape, serving, None, version)
    draft = built_draft(shape, serving, version)
    stages = rank_weights(shape, 1, 1, precision.element_bytes, None, draft=draft)
    return Launch(
        shape=shape,
        serving=serving,
        version=version,
        accelerator=None,
        precision=precision,
        tensor_parallel_size=1,
        pipeline_parallel_size=1,
        stages=stages,
        layout=cache_layout(
            caches_on(shape, version, None, cache_options(shape, serving, precision.kv_cache_dtype)),
            stages=[stage.layers for stage in stages],
            tensor_parallel_size=1,
            element_bytes=precision.kv_element_bytes,
            block_size=serving.block_size or CPU_BLOCK_SIZE,
            state_element_bytes=precision.element_bytes,
            reserve_null_block=version.at_least(NULL_BLOCK),
            tokens_by_concurrency=version.at_least(TOKENS_BY_CONCURRENCY),
        ),
        usable_bytes=0,
        parameters=parameter_count(shape),
    )


def _rest_bytes(launch: Launch, max_model_len: int) -> int:
    """Weights, activations and processes: everything beside the KV cache."""
    return launch.costs(max_model_len)[0].total_bytes + _PROCESSES_BYTES


def _need_bytes(launch: Launch, max_model_len: int) -> int:
    return launch.layout.need_bytes(max_model_len, launch.limits(max_model_len).in_flight_tokens, 0)


def _space(launch: Launch, allocatable_bytes: int | None) -> _Space | Refusal:
    """Whole GiB for the KV cache: for some requests where there is room, for one at the least; or the given bytes."""
    wanted, given = launch.serving.max_model_len, launch.serving.kv_cache_memory_bytes
    limit = wanted or longest_allowed(launch.shape, launch.serving)

    def room(length: int) -> int | None:
        if allocatable_bytes is None:
            return None
        return (allocatable_bytes - _rest_bytes(launch, length)) // GIB * GIB

    def fits(length: int) -> bool:
        if given is not None:
            return _fits_given(launch, length, given, allocatable_bytes)
        free = room(length)
        return free is None or _need_bytes(launch, length) <= free

    low, high = (limit, limit) if fits(limit) else (0, limit - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0 or (wanted is not None and low < wanted):
        return _refusal(launch, limit, low, allocatable_bytes)
    if given is not None:
        return _Space(max_model_len=low, kv_bytes=given, rest_bytes=_rest_bytes(launch, low))
    one = _need_bytes(launch, low)
    kv_bytes = max(round_up(one, GIB), min(round_up(_REQUESTS * one, GIB), _GENEROUS_BYTES))
    free = room(low)
    return _Space(
        max_model_len=low,
        kv_bytes=kv_bytes if free is None else min(kv_bytes, free),
        rest_bytes=_rest_bytes(launch, low),
    )


def _fits_given(launch: Launch, length: int, given_bytes: int, allocatable_bytes: int | None) -> bool:
    """Whether a request of this length fits the space, and the space the node."""
    room = allocatable_bytes is None or given_bytes + _rest_bytes(launch, length) <= allocatable_bytes
    return room and _need_bytes(launch, length) <= given_bytes


def _refusal(launch: Launch, limit: int, shorter: int, allocatable_bytes: int | None) -> Refusal:
    length = limit if launch.serving.max_model_len is not None else 1
    given = launch.serving.kv_cache_memory_bytes
    if given is not None:
        return _given_refusal(launch, length, shorter, given, allocatable_bytes)
    allocatable_bytes = allocatable_bytes or 0
    needed = _rest_bytes(launch, length) + round_up(_need_bytes(launch, length), GIB)
    return Refusal(
        reason=RefusalReason.CONTEXT_TOO_LONG if shorter else RefusalReason.DOES_NOT_FIT,
        message=f"CPU only: a context of {length} tokens needs {format_gib(needed)} of host memory and the largest "
        f"node has {format_gib(allocatable_bytes)} allocatable; use a larger node"
        + (f" or maxModelLen {shorter}." if shorter else " or GPUs."),
        needed_bytes=needed,
        available_bytes=allocatable_bytes,
        would_fit=(f"maxModelLen {shorter} on CPU",) if shorter else (),
    )


def _given_refusal(
    launch: Launch, length: int, shorter: int, given_bytes: int, allocatable_bytes: int | None
) -> Refusal:
    """A space that the node has no room for, or one that is too small for the length."""
    rest = _rest_bytes(launch, shorter or 1)
    if allocatable_bytes is not None and given_bytes + rest > allocatable_bytes:
        return Refusal(
            reason=RefusalReason.DOES_NOT_FIT,
            message=f"CPU only: kvCacheMemory {format_gib(given_bytes)} beside {format_gib(rest)} for weights and "
            f"processes needs more than the {format_gib(allocatable_bytes)} that the largest node has allocatable; "
            "lower it or use a larger node.",
            needed_bytes=given_bytes + rest,
            available_bytes=allocatable_bytes,
        )
    needed = _need_bytes(launch, length)
    return Refusal(
        reason=RefusalReason.CONTEXT_TOO_LONG if shorter else RefusalReason.DOES_NOT_FIT,
        message=f"CPU only: a context of {length} tokens needs {needed} B of KV cache and kvCacheMemory gives "
        f"{given_bytes} B; raise it" + (f" or set maxModelLen {shorter}." if shorter else "."),
        needed_bytes=needed,
        available_bytes=given_bytes,
        would_fit=(f"maxModelLen {shorter} on CPU",) if shorter else (),
    )


def _plan(
    launch: Launch, facts: ModelFacts, pool: NodePool, space: _Space, warnings: tuple[str, ...]
) -> Plan:
    limits = launch.limits(space.max_model_len)
    capacity = launch.layout.capacity(space.max_model_len, limits.in_flight_tokens, (space.kv_bytes,))
    stored = sum(file.size_bytes for file in weight_files(facts.files))
    weights_bytes = stored or stored_bytes(launch.shape, launch.precision.element_bytes)
    own = launch.shape.max_model_len
    length = space.max_model_len
    return Plan(
        model_id=facts.model_id,
        engine_version=str(launch.version),
        pool=pool,
        tensor_parallel_size=0,
        pipeline_parallel_size=1,
        gpus=0,
        nodes=1,
        max_model_len=length,
        model_max_len=own,
        limited_by=_limited_by(launch.serving, length, own),
        gpu_memory_utilization=launch.serving.gpu_memory_utilization or default_utilization(launch.version),
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        dtype=launch.precision.dtype,
        quantization=None,
        kv_cache_dtype=launch.precision.kv_cache_dtype,
        weights_bytes=weights_bytes,
        usable_bytes=space.rest_bytes + space.kv_bytes,
        parts=_parts(launch, space),
        kv_cache=_cache(launch, space, capacity),
        resources=component_resources(
            HostLoad(
                weights_bytes=max(weights_bytes, launch.stages[0].total_bytes),
                pickled_bytes=pickled_bytes(facts.files),
                multimodal=bool(launch.shape.tower),
                kv_bytes=space.kv_bytes,
                batch_bytes=space.rest_bytes - launch.stages[0].total_bytes - _PROCESSES_BYTES,
                allocatable_bytes=pool.allocatable_bytes,
            )
        ),
        warnings=(*warnings, *launch.precision.warnings, *_block_warnings(launch.shape)),
        kv_cache_memory_bytes=launch.serving.kv_cache_memory_bytes,
    )


def _block_warnings(shape: ModelShape) -> tuple[str, ...]:
    """Source: vLLM 0.32.0, platforms/cpu.py: the block of latent attention goes by the processor."""
    if shape.latent_up_projection is None:
        return ()
    return (
        (
            f"Latent attention (MLA) is planned with blocks of {CPU_BLOCK_SIZE} tokens, as on a CPU with AMX; without "
            "AMX vLLM takes 16, and the number of blocks differs."
        ),
    )


def _limited_by(serving: Serving, length: int, own: int) -> str:
    if serving.max_model_len is not None:
        return "maxModelLen in the spec"
    if length == own:
        return "the model's own length"
    return "KV cache" if serving.kv_cache_memory_bytes is None else "kvCacheMemory in the spec"


def _cache(launch: Launch, space: _Space, capacity: CacheCapacity) -> KVCache:
    return KVCache(
        bytes_per_gpu=space.kv_bytes,
        bytes_per_token_per_gpu=launch.layout.token_bytes_by_stage[0],
        block_size=launch.layout.block_size,
        bytes_per_block=launch.layout.bytes_per_block,
        blocks=capacity.blocks,
        tokens=capacity.tokens,
        max_concurrency=Fraction(capacity.max_concurrency),
    )


def _parts(launch: Launch, space: _Space) -> tuple[Part, ...]:
    costs, drafted = launch.costs(space.max_model_len)[0], draft_parts(launch, 0)
    rows = (
        (
            PartName.WEIGHTS,
            exactly(costs.weights_bytes - sum(part.bytes for part in drafted)),
            "all weights in host memory",
            _SHAPES_SOURCE,
        ),
        (
            PartName.KV_CACHE,
            exactly(space.kv_bytes),
            f"{format_gib(space.kv_bytes)} in host memory",
            _SPACE_SOURCE if launch.serving.kv_cache_memory_bytes is None else _GIVEN_SOURCE,
        ),
        (PartName.STATE, NOTHING, "no layer keeps a recurrent state", _SHAPES_SOURCE),
        (
            PartName.ACTIVATIONS,
            costs.activations,
            "the peak of one batch",
            _PEAK_SOURCE,
        ),
        (PartName.GRAPHS, NOTHING, "no CUDA graphs on CPU", _SHAPES_SOURCE),
        (
            PartName.RUNTIME,
            costs.runtime + _PROCESSES,
            "the API server's and the engine's processes, and the buffers that the engine keeps",
            ENGINE_PROCESS.source,
        ),
        (PartName.MARGIN, NOTHING, "the pod asks for what is needed", "the sum of the parts above"),
    )
    weights, *rest = (modelled(*row) for row in rows)
    return (weights, *drafted, *lora_parts(launch, costs, 0), *rest)
