"""One way to launch a model on one kind of card: what each stage costs, and how long a context fits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from plimsoll.sizing import overheads
from plimsoll.sizing.draft import speculative_tokens
from plimsoll.sizing.engine import BLOCK_PER_SEQUENCE, BatchLimits, batch_limits
from plimsoll.sizing.graphs import graphs
from plimsoll.sizing.interval import NOTHING, Interval, exactly
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.lora import index_bytes, slots_of
from plimsoll.sizing.repacked import repacked
from plimsoll.sizing.runner import graphs_in_budget
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.kv_plan import CacheLayout
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.rules import Precision
    from plimsoll.sizing.serving import Serving
    from plimsoll.sizing.weights import RankWeights

_BLOCK_ID_BYTES: Final = 4


@dataclass(frozen=True, kw_only=True)  # without slots: a search asks for the sum of one many times
class StageCosts:
    """What one rank of a stage takes beside the KV cache."""

    weights_bytes: int
    lora: Interval
    repacked: Interval
    activations: Interval
    graphs: Interval
    runtime: Interval

    @property
    def total(self) -> Interval:
        """The sum."""
        loaded = exactly(self.weights_bytes) + self.lora + self.repacked
        return loaded + self.activations + self.graphs + self.runtime

    @cached_property
    def total_bytes(self) -> int:
        """The sum at the safe end."""
        return self.total.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A model, an engine, a card and a way of splitting.

    Attributes:
        stages: the weights of one rank of each pipeline stage.
        usable_bytes: of one card, for everything; with a given KV space, what the card physically has for the engine.
        parameters: of the whole model, for the size of the CUDA graphs.
    """

    shape: ModelShape
    serving: Serving
    version: EngineVersion
    accelerator: Accelerator | None
    precision: Precision
    tensor_parallel_size: int
    pipeline_parallel_size: int
    stages: tuple[RankWeights, ...]
    layout: CacheLayout
    usable_bytes: int
    parameters: int
    _known: dict[tuple[BatchLimits, int], tuple[StageCosts, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def limits(self, max_model_len: int) -> BatchLimits:
        """The scheduler's limits with this length."""
        return batch_limits(
            self.version,
            self.accelerator,
            self.serving,
            max_model_len=max_model_len,
            pipeline_parallel_size=self.pipeline_parallel_size,
            least_batched_tokens=self.shape.least_batched_tokens,
        )

    @property
    def proposed_tokens(self) -> int:
        """Tokens that are proposed for each sequence in one step."""
        return speculative_tokens(self.shape, self.serving)

    def costs(self, max_model_len: int) -> tuple[StageCosts, ...]:
        """What a rank of each stage takes beside the KV cache, with this length."""
        limits = self.limits(max_model_len)
        tables = exactly(self._tables_bytes(limits, max_model_len))
        return tuple(
            replace(costs, runtime=costs.runtime + tables)
            for costs in self._without_tables(limits, max_model_len)
        )

    def _tables_bytes(self, limits: BatchLimits, max_model_len: int) -> int:
        """What grows with every token of the length: block tables, and tokens that proposals are made from."""
        blocks = ceil_div(max_model_len, self.layout.block_size)
        tables = limits.max_num_seqs * blocks * _BLOCK_ID_BYTES * len(self.layout.groups)
        return tables + overheads.tokens_on_card(self, limits, max_model_len)

    def _without_tables(self, limits: BatchLimits, max_model_len: int) -> tuple[StageCosts, ...]:
        """The costs that few lengths change, worked out once: a search asks for many lengths."""
        key = (limits, overheads.longest_item(self, max_model_len))
        if key not in self._known:
            last = self.pipeline_parallel_size - 1
            self._known[key] = tuple(
                self._stage(limits, max_model_len, stage, last=stage == last) for stage in range(last + 1)
            )
        return self._known[key]

    def _stage(self, limits: BatchLimits, max_model_len: int, stage: int, *, last: bool) -> StageCosts:
        first = stage == 0
        weights, lora = self.weights_on_card(stage), self._lora(limits, stage)
        return StageCosts(
            weights_bytes=weights,
            lora=lora,
            repacked=repacked(self, stage),
            activations=overheads.activations(self, limits, max_model_len, first=first, last=last)
            + self._copied(stage),
            graphs=self.graphs if self.graphs_charged else NOTHING,
            runtime=overheads.non_torch(self)
            + overheads.loading(self, weights + lora.high)
            + overheads.buffers(self, limits, first=first, last=last),
        )

    def _lora(self, limits: BatchLimits, stage: int) -> Interval:
        """Slots for adapters, and which of them each token wants."""
        slots = slots_of(self)
        if slots is None:
            return NOTHING
        return slots.on_stage(self.model_layers(stage)) + exactly(index_bytes(slots.slots, limits))

    def _copied(self, stage: int) -> Interval:
        """What slots add to the peak of an engine that compiles its model."""
        slots = slots_of(self)
        if slots is None or self.accelerator is None or self.serving.enforce_eager:
            return NOTHING
        return slots.copied_while_compiling(self.model_layers(stage))

    def model_layers(self, stage: int) -> tuple[int, int]:
        """The model's own layers on a stage, first and one past the last: adapters do not change a draft."""
        return self.stages[stage].alone.layers

    def weights_on_card(self, stage: int) -> int:
        """Weights that stay on the card; vLLM moves layers to the host until the offload is reached."""
        weights = self.stages[stage]
        return weights.total_bytes - min(self.serving.cpu_offload_bytes, weights.layer_bytes)

    def available_bytes(self, max_model_len: int) -> tuple[int, ...]:
        """Bytes for the KV cache on each stage: given, or what is left, below zero where the rest does not fit."""
        given = self.serving.kv_cache_memory_bytes
        if given is not None:
            return (given,) * self.pipeline_parallel_size
        limits = self.limits(max_model_len)
        left = self.usable_bytes - self._tables_bytes(limits, max_model_len)
        return tuple(left - costs.total_bytes for costs in self._without_tables(limits, max_model_len))

    def available_interval(self, max_model_len: int) -> tuple[Interval, ...]:
        """The same with its expected value and its other end; `low` is the safe one."""
        given = self.serving.kv_cache_memory_bytes
        if given is not None:
            return (exactly(given),) * self.pipeline_parallel_size
        return tuple(exactly(self.usable_bytes) - costs.total for costs in self.costs(max_model_len))

    @property
    def graphs(self) -> Interval:
        """What CUDA graphs take on a card, whether the budget holds them or not."""
        return graphs(self)

    @property
    def graphs_charged(self) -> bool:
        """Whether the budget holds the graphs; a KV space that is given is held against the whole card."""
        return graphs_in_budget(self) or self.serving.kv_cache_memory_bytes is not None

    def has_room(self, max_model_len: int) -> bool:
        """Whether a KV space that is given stands beside the rest: vLLM takes it as it is, and runs out of memory."""
        given = self.serving.kv_cache_memory_bytes
        return given is None or given + self.fullest_bytes(max_model_len) <= self.usable_bytes

    def fullest_bytes(self, max_model_len: int) -> int:
        """What the fullest card takes beside the KV cache, at the safe end."""
        return max(costs.total_bytes for costs in self.costs(max_model_len))

    def fits(self, max_model_len: int) -> bool:
        """Whether the requests of this length that are asked for can be served, at the safe end."""
        return self.has_room(max_model_len) and self.layout.fits(
            max_model_len,
            self.limits(max_model_len).in_flight_tokens,
            self.available_bytes(max_model_len),
            self.requests,
        )

    @property
    def requests(self) -> int:
        """Requests of full length that must be held at once."""
        return self.serving.concurrency or 1

    def cache_bytes(self, max_model_len: int) -> int:
        """KV space of each card that holds just these requests: given to the engine, its profile decides nothing."""
        in_flight = self.limits(max_model_len).in_flight_tokens
        return max(
            self.layout.need_bytes(max_model_len, in_flight, stage, self.requests)
            for stage in range(self.pipeline_parallel_size)
        )

    def longest(self, limit: int) -> int:
        """The longest context up to `limit` that fits, 0 if none does."""
        if self.fits(limit):
            return limit
        if not self.fits(1):
            return 0
        low, high = 1, limit - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(middle):
                low = middle
            else:
                high = middle - 1
        return low

    def most_sequences(self, max_model_len: int) -> int | None:
        """Sequences that the engine may be told to take: with recurrent states one block each, or it does not start.

        Source: vLLM 0.33.0, config/compilation.py (resolve_cudagraph_mode_and_sizes), since 0.19.
        """
        recurrent = any(isinstance(group.kind, RecurrentState) for group in self.layout.groups)
        if not recurrent or self.serving.enforce_eager or not self.version.at_least(BLOCK_PER_SEQUENCE):
            return None
        in_flight = self.limits(max_model_len).in_flight_tokens
        return self.layout.capacity(max_model_len, in_flight, self.available_bytes(max_model_len)).blocks

    def needed_bytes(self, max_model_len: int) -> tuple[int, int]:
        """Bytes that the fullest card must have for this length, and the stage that it serves."""
        in_flight = self.limits(max_model_len).in_flight_tokens
        needs = [
            costs.total_bytes + self.layout.need_bytes(max_model_len, in_flight, stage, self.requests)
            for stage, costs in enumerate(self.costs(max_model_len))
        ]
        return max(needs), needs.index(max(needs))
