"""The bill: each part of a card's memory in bytes, with its sum in words and where the rule comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing import overheads
from plimsoll.sizing.constants import FORWARD_HIDDEN, TRITON_EXPERTS, at
from plimsoll.sizing.draft import HEADS_SHARED, draft_of
from plimsoll.sizing.graphs import graphs_constant
from plimsoll.sizing.interval import exactly
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.plan import KVCache, Part, PartName
from plimsoll.units import format_gib

if TYPE_CHECKING:
    from plimsoll.sizing.interval import Interval
    from plimsoll.sizing.kv_plan import CacheCapacity
    from plimsoll.sizing.launch import Launch, StageCosts
    from plimsoll.sizing.weights import RankWeights

_WEIGHTS_SOURCE: Final = "vLLM 0.33.0, model_executor/layers: shapes, padding and sharding of each tensor"
_DRAFT_SOURCE: Final = (
    "vLLM 0.33.0, model_executor/models (*_mtp.py) and v1/worker/gpu/spec_decode/eagle/utils.py"
)
_LORA_SOURCE: Final = "vLLM 0.33.0, lora/layers (create_lora_weights) and lora/punica_wrapper"
_KV_SOURCE: Final = "vLLM 0.33.0, v1/core/kv_cache_planning.py"
_PEAK_SOURCE: Final = "vLLM 0.33.0, v1/worker/gpu_worker.py (determine_available_memory)"


def fullest_stage(launch: Launch, max_model_len: int) -> int:
    """The stage that limits the number of blocks."""
    available = launch.available_bytes(max_model_len)
    per_block = launch.layout.bytes_per_block_by_stage
    return min(range(len(available)), key=lambda stage: available[stage] // per_block[stage])


def kv_cache(launch: Launch, capacity: CacheCapacity, stage: int) -> KVCache:
    """The KV cache of a replica as vLLM will report it, on the fullest card."""
    per_block = launch.layout.bytes_per_block_by_stage[stage]
    return KVCache(
        bytes_per_gpu=capacity.blocks * per_block,
        bytes_per_token_per_gpu=launch.layout.token_bytes_by_stage[stage],
        block_size=launch.layout.block_size,
        bytes_per_block=per_block,
        blocks=capacity.blocks,
        tokens=capacity.tokens,
        max_concurrency=capacity.max_concurrency,
    )


def expected_capacity(launch: Launch, max_model_len: int) -> CacheCapacity:
    """What the engine will most likely report."""
    expected = tuple(available.expected for available in launch.available_interval(max_model_len))
    return launch.layout.capacity(max_model_len, launch.limits(max_model_len).in_flight_tokens, expected)


def bill(
    launch: Launch, max_model_len: int, capacity: CacheCapacity, expected: CacheCapacity, stage: int
) -> tuple[Part, ...]:
    """All parts of the fullest card; they sum to its usable bytes, and so do their expected bytes."""
    costs = launch.costs(max_model_len)[stage]
    cache = kv_cache(launch, capacity, stage)
    parts = (
        *_loaded(launch, costs, stage),
        Part(
            name=PartName.KV_CACHE,
            bytes=cache.bytes_per_gpu,
            expected_bytes=kv_cache(launch, expected, stage).bytes_per_gpu,
            low_bytes=cache.bytes_per_gpu,
            formula=_kv_formula(launch, max_model_len, capacity, stage),
            source=_KV_SOURCE,
            exact=True,
        ),
        Part(
            name=PartName.STATE,
            bytes=0,
            expected_bytes=0,
            low_bytes=0,
            formula=_state_formula(launch),
            source=_KV_SOURCE,
            exact=True,
        ),
        _activations(launch, costs, max_model_len),
        _graphs(launch, costs),
        _runtime(launch, costs),
    )
    margin = launch.usable_bytes - sum(part.bytes for part in parts)
    return (
        *parts,
        Part(
            name=PartName.MARGIN,
            bytes=margin,
            expected_bytes=launch.usable_bytes - sum(part.expected_bytes for part in parts),
            low_bytes=margin,
            formula=_margin_formula(launch),
            source="the sum of the parts above",
            exact=True,
        ),
    )


def _loaded(launch: Launch, costs: StageCosts, stage: int) -> tuple[Part, ...]:
    """What stands on the card once the model is loaded."""
    return (
        _weights(launch, costs, stage),
        *draft_parts(launch, stage),
        *lora_parts(launch, costs, stage),
    )


def _margin_formula(launch: Launch) -> str:
    if launch.serving.kv_cache_memory_bytes is not None:
        return "what is left of the card beside a KV space that was given"
    return "what is left of the usable bytes, less than one block on the stage that limits them"


def _weights(launch: Launch, costs: StageCosts, stage: int) -> Part:
    weights, draft = launch.stages[stage].alone, launch.stages[stage].draft
    kept = launch.weights_on_card(stage) - (draft.total_bytes if draft is not None else 0)
    formula = _held(weights, launch.tensor_parallel_size)
    if kept < weights.total_bytes:
        formula += f" - {weights.total_bytes - kept} B offloaded to the host"
    if launch.shape.unloaded is not None and draft_of(launch.shape, launch.serving) is None:
        formula += f"; not loaded: {launch.shape.unloaded}"
    source = _WEIGHTS_SOURCE
    if costs.repacked.high:
        laid_out = at(TRITON_EXPERTS, launch.version)
        formula += (
            f" + {format_gib(costs.repacked.low)} to {format_gib(costs.repacked.high)} for the experts' layout in the "
            "kernel"
        )
        source = f"{source}; {laid_out.source}"
    return modelled(PartName.WEIGHTS, exactly(kept) + costs.repacked, formula, source)


def _held(weights: RankWeights, tensor_parallel_size: int) -> str:
    """What a rank holds, in words."""
    first, end = weights.layers
    layers = "1 layer" if end - first == 1 else f"{end - first} layers"
    pieces = [
        f"{layers} over TP {tensor_parallel_size}: {weights.parameter_bytes} B of parameters",
        f"{weights.buffer_bytes} B of buffers (rotary table, attention scales)",
    ]
    if weights.post_load_bytes:
        pieces.append(f"{weights.post_load_bytes} B of absorbed MLA weights made after loading")
    return " + ".join(pieces)


def draft_parts(launch: Launch, stage: int) -> tuple[Part, ...]:
    """The line for the model's own draft layers; none where nothing is drafted on this stage."""
    draft = launch.stages[stage].draft
    if draft is None:
        return ()
    drafting = draft_of(launch.shape, launch.serving)
    own_heads = drafting is not None and drafting.heads and not launch.version.at_least(HEADS_SHARED)
    shared = [*(("embedding",) if len(launch.stages) == 1 else ()), *(() if own_heads else ("output layer",))]
    formula = f"{_held(draft, launch.tensor_parallel_size)}; shared with the model: {', '.join(shared) or 'nothing'}"
    return (modelled(PartName.DRAFT, exactly(draft.total_bytes), formula, _DRAFT_SOURCE),)


def lora_parts(launch: Launch, costs: StageCosts, stage: int) -> tuple[Part, ...]:
    """The line for the slots of adapters; none where the engine has none."""
    slots = launch.serving.lora
    if slots is None:
        return ()
    first, end = launch.model_layers(stage)
    shared = ", A and B both split" if slots.fully_sharded else ""
    formula = (
        f"{slots.max_loras} slots of rank {slots.max_lora_rank} for {end - first} layers over TP "
        f"{launch.tensor_parallel_size}{shared}: for each linear layer an A of rank x inputs and a B of outputs x rank, "
        f"in {launch.precision.dtype} whatever the weights are stored in, and an index of the batch's tokens"
    )
    return (modelled(PartName.LORA, costs.lora, formula, _LORA_SOURCE),)


def _kv_formula(launch: Launch, max_model_len: int, capacity: CacheCapacity, stage: int) -> str:
    layout = launch.layout
    groups = ", ".join(f"{len(group.layers)} layers of {group.kind.describe()}" for group in layout.groups)
    need = layout.need_blocks(max_model_len, launch.limits(max_model_len).in_flight_tokens)
    per_block = layout.bytes_per_block_by_stage[stage]
    given = launch.serving.kv_cache_memory_bytes
    space = "" if given is None else f"{given} B given by kvCacheMemory: "
    return (
        f"{space}{capacity.blocks} blocks x {per_block} B; a block of {layout.block_size} tokens in the largest of "
        f"{len(layout.groups)} groups ({groups}); one request of {max_model_len} tokens may hold {need} blocks"
    )


def _state_formula(launch: Launch) -> str:
    """Recurrent states live in blocks of the KV cache, so that they add nothing beside it."""
    states = [group for group in launch.layout.groups if isinstance(group.kind, RecurrentState)]
    if not states:
        return "no layer keeps a recurrent state"
    held = states[0].kind.blocks_for(1, 1, 1)
    layers = sum(len(group.layers) for group in states)
    return (
        f"counted in the KV cache: {layers} layers of {states[0].kind.describe()} in {len(states)} groups, of which one "
        f"request holds {held} blocks each"
    )


def modelled(name: PartName, interval: Interval, formula: str, source: str) -> Part:
    """A line of the bill from what is low, expected and safe; exact where the ends meet."""
    return Part(
        name=name,
        bytes=interval.high,
        expected_bytes=interval.expected,
        low_bytes=interval.low,
        formula=formula,
        source=source,
        exact=interval.low == interval.high,
    )


def _activations(launch: Launch, costs: StageCosts, max_model_len: int) -> Part:
    limits = launch.limits(max_model_len)
    hidden, per_entry = FORWARD_HIDDEN, overheads.sampler_constant(launch)
    formula = (
        f"the higher of the forward pass of {limits.max_num_batched_tokens} tokens (the widest layer beside "
        f"{float(hidden.low):g} to {float(hidden.high):g} x {launch.shape.hidden_size} elements) and the sampler: "
        f"{limits.max_num_seqs} sequences x {launch.shape.vocab_size} vocabulary entries x "
        f"{float(per_entry.low):g} to {float(per_entry.high):g} B"
    )
    if overheads.compiled_table(launch).high:
        formula += ", and without a compile cache a copy of the embedding table while it compiles"
    encoder = launch.shape.encoder
    if encoder is not None:
        patches = encoder.patches(limits.max_num_batched_tokens, max_model_len)
        formula += f", and the encoder of {patches} patches x {encoder.elements(launch.tensor_parallel_size)} elements"
    return modelled(PartName.ACTIVATIONS, costs.activations, formula, f"{_PEAK_SOURCE}; {per_entry.source}")


def _graphs(launch: Launch, costs: StageCosts) -> Part:
    if launch.serving.enforce_eager:
        formula = "no CUDA graphs with enforceEager"
    elif launch.graphs_charged:
        formula = f"CUDA graphs of {launch.stages[-1].layers[1]} layers, as vLLM estimates them at start-up"
    else:
        least, most = format_gib(launch.graphs.low), format_gib(launch.graphs.high)
        formula = (
            f"not in the budget of vLLM {launch.version} with this model: {least} to {most} come on top of it"
        )
    return modelled(PartName.GRAPHS, costs.graphs, formula, graphs_constant(launch).source)


def _runtime(launch: Launch, costs: StageCosts) -> Part:
    outside = overheads.non_torch_constant(launch)
    formula = (
        f"memory outside torch, {format_gib(outside.bytes.low)} to {format_gib(outside.bytes.high)} with TP "
        f"{launch.tensor_parallel_size}, what loading leaves beside the weights, and the buffers that the engine keeps "
        "(penalty counters, block tables, expert workspace)"
    )
    return modelled(PartName.RUNTIME, costs.runtime, formula, outside.source)
