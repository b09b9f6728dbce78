"""Serving without a GPU: weights and KV cache in the memory of one node."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.constants import ENGINE_PROCESS
from plimsoll.sizing.engine import (
    CPU_BLOCK_SIZE,
    NULL_BLOCK,
    TOKENS_BY_CONCURRENCY,
    UnsupportedOptionError,
    default_utilization,
)
from plimsoll.sizing.files import parameter_count, stored_bytes
from plimsoll.sizing.host import component_resources
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
_PROCESSES_BYTES: Final = 2 * ENGINE_PROCESS.high_bytes  # the API server, and the engine core with its worker
_SPACE_SOURCE: Final = (
    "vLLM's environment variable VLLM_CPU_KVCACHE_SPACE: whole GiB of host memory for the KV cache"
)
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
    stages = rank_weights(shape, 1, 1, precision.element_bytes, None)
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
            [layer.cache for layer in shape.layers],
            stages=[stage.layers for stage in stages],
            tensor_parallel_size=1,
            element_bytes=precision.kv_element_bytes,
            block_size=CPU_BLOCK_SIZE,
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
    """Whole GiB for the KV cache: for some requests where there is room, for one at the least."""
    wanted = launch.serving.max_model_len
    limit = wanted or longest_allowed(launch.shape, launch.serving)

    def room(length: int) -> int | None:
        if allocatable_bytes is None:
            return None
        return (allocatable_bytes - _rest_bytes(launch, length)) // GIB * GIB

    def fits(length: int) -> bool:
        free = room(length)
        return free is None or _need_bytes(launch, length) <= free

    low, high = (limit, limit) if fits(limit) else (0, limit - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0 or (wanted is not None and low < wanted):
        return _refusal(launch, limit, low, allocatable_bytes or 0)
    one = _need_bytes(launch, low)
    kv_bytes = max(round_up(one, GIB), min(round_up(_REQUESTS * one, GIB), _GENEROUS_BYTES))
    free = room(low)
    return _Space(
        max_model_len=low,
        kv_bytes=kv_bytes if free is None else min(kv_bytes, free),
        rest_bytes=_rest_bytes(launch, low),
    )


def _refusal(launch: Launch, limit: int, shorter: int, allocatable_bytes: int) -> Refusal:
    length = limit if launch.serving.max_model_len is not None else 1
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


def _plan(
    launch: Launch, facts: ModelFacts, pool: NodePool, space: _Space, warnings: tuple[str, ...]
) -> Plan:
    limits = launch.limits(space.max_model_len)
    capacity = launch.layout.capacity(space.max_model_len, limits.in_flight_tokens, (space.kv_bytes,))
    stored = sum(file.size_bytes for file in weight_files(facts.files))
    weights_bytes = stored or stored_bytes(launch.shape, launch.precision.element_bytes)
    wanted = launch.serving.max_model_len
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
        limited_by="maxModelLen in the spec"
        if wanted
        else "the model's own length"
        if length == own
        else "KV cache",
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
            max(weights_bytes, launch.stages[0].total_bytes),
            tensor_parallel_size=1,
            cpu_only_kv_bytes=space.kv_bytes,
            cpu_only_batch_bytes=space.rest_bytes - launch.stages[0].total_bytes - _PROCESSES_BYTES,
        ),
        warnings=(*warnings, *launch.precision.warnings),
    )


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
    costs = launch.costs(space.max_model_len)[0]
    rows = (
        (
            PartName.WEIGHTS,
            costs.weights_bytes,
            costs.weights_bytes,
            "all weights in host memory",
            _SHAPES_SOURCE,
        ),
        (
            PartName.KV_CACHE,
            space.kv_bytes,
            space.kv_bytes,
            f"{space.kv_bytes // GIB} GiB in host memory",
            _SPACE_SOURCE,
        ),
        (PartName.STATE, 0, 0, "no layer keeps a recurrent state", _SHAPES_SOURCE),
        (
            PartName.ACTIVATIONS,
            costs.activations.high,
            costs.activations.low,
            "the peak of one batch",
            _PEAK_SOURCE,
        ),
        (PartName.GRAPHS, 0, 0, "no CUDA graphs on CPU", _SHAPES_SOURCE),
        (
            PartName.RUNTIME,
            costs.runtime.high + _PROCESSES_BYTES,
            costs.runtime.low + 2 * ENGINE_PROCESS.low_bytes,
            "the API server's and the engine's processes, and the buffers that the engine keeps",
            ENGINE_PROCESS.source,
        ),
        (PartName.MARGIN, 0, 0, "the pod asks for what is needed", "the sum of the parts above"),
    )
    return tuple(
        Part(name=name, bytes=high, low_bytes=low, formula=formula, source=source, exact=low == high)
        for name, high, low, formula, source in rows
    )
