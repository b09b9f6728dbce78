"""One way to launch a model on one kind of card: what each stage costs, and how long a context fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.constants import FORWARD_RATIO, GRAPH_BYTES, NON_TORCH_BYTES, SAMPLER_BYTES, Constant
from plimsoll.sizing.engine import GRAPHS_IN_BUDGET, SOME_V2_RUNNERS, V2_RUNNER, BatchLimits, batch_limits
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.kv_plan import CacheLayout
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.rules import Precision
    from plimsoll.sizing.serving import Serving
    from plimsoll.sizing.weights import RankWeights

_COUNTER_BYTES: Final = 4  # penalty counters: one int32 per sequence and vocabulary entry, and one bit
_BLOCK_ID_BYTES: Final = 4
_ROUTER_BYTES: Final = 4  # float32 logits of the router


@dataclass(frozen=True, slots=True)
class Interval:
    """Bytes between a low end and the safe end."""

    low: int
    high: int

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCosts:
    """What one rank of a stage takes beside the KV cache."""

    weights_bytes: int
    activations: Interval
    graphs: Interval
    runtime: Interval

    @property
    def total_bytes(self) -> int:
        """The sum at the safe end."""
        return self.weights_bytes + self.activations.high + self.graphs.high + self.runtime.high


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

    def costs(self, max_model_len: int) -> tuple[StageCosts, ...]:
        """What a rank of each stage takes beside the KV cache, with this length."""
        limits = self.limits(max_model_len)
        block_tables = (
            limits.max_num_seqs
            * ceil_div(max_model_len, self.layout.block_size)
            * _BLOCK_ID_BYTES
            * len(self.layout.groups)
        )
        last = self.pipeline_parallel_size - 1
        return tuple(
            StageCosts(
                weights_bytes=self.weights_on_card(stage),
                activations=self._activations(limits, samples=stage == last),
                graphs=self._graphs(),
                runtime=self._runtime(limits, first=stage == 0, samples=stage == last)
                + Interval(block_tables, block_tables),
            )
            for stage in range(self.pipeline_parallel_size)
        )

    def weights_on_card(self, stage: int) -> int:
        """Weights that stay on the card; vLLM moves layers to the host until the offload is reached."""
        weights = self.stages[stage]
        return weights.total_bytes - min(self.serving.cpu_offload_bytes, weights.layer_bytes)

    def available_bytes(self, max_model_len: int) -> tuple[int, ...]:
        """Bytes for the KV cache on each stage: given, or what is left, below zero where the rest does not fit."""
        given = self.serving.kv_cache_memory_bytes
        if given is not None:
            return (given,) * self.pipeline_parallel_size
        return tuple(self.usable_bytes - costs.total_bytes for costs in self.costs(max_model_len))

    def has_room(self, max_model_len: int) -> bool:
        """Whether a KV space that is given stands beside the rest: vLLM takes it as it is, and runs out of memory."""
        given = self.serving.kv_cache_memory_bytes
        return given is None or given + self.fullest_bytes(max_model_len) <= self.usable_bytes

    def fullest_bytes(self, max_model_len: int) -> int:
        """What the fullest card takes beside the KV cache, at the safe end."""
        return max(costs.total_bytes for costs in self.costs(max_model_len))

    def fits(self, max_model_len: int) -> bool:
        """Whether one request of this length can be served, at the safe end."""
        return self.has_room(max_model_len) and self.layout.fits(
            max_model_len, self.limits(max_model_len).in_flight_tokens, self.available_bytes(max_model_len)
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

    def needed_bytes(self, max_model_len: int) -> tuple[int, int]:
        """Bytes that the fullest card must have for this length, and the stage that it serves."""
        in_flight = self.limits(max_model_len).in_flight_tokens
        needs = [
            costs.total_bytes + self.layout.need_bytes(max_model_len, in_flight, stage)
            for stage, costs in enumerate(self.costs(max_model_len))
        ]
        return max(needs), needs.index(max(needs))

    def _activations(self, limits: BatchLimits, *, samples: bool) -> Interval:
        """The transient peak: the forward pass or the sampler, whichever is higher.

        Source: vLLM 0.33.0, v1/worker/gpu_worker.py (determine_available_memory); the forms are modelled.
        """
        forward = self._forward_bytes(limits.max_num_batched_tokens)
        low, high = forward, _scaled(FORWARD_RATIO.high, forward)
        if samples:
            hidden = limits.max_num_batched_tokens * self.shape.hidden_size * self.precision.element_bytes
            entries = limits.max_num_seqs * self.shape.vocab_size
            per_entry = sampler_bytes(self.version)
            low = max(low, _scaled(per_entry.low, entries) + hidden)
            high = max(high, _scaled(per_entry.high, entries) + hidden)
        return Interval(low, high)

    def _forward_bytes(self, tokens: int) -> int:
        """Residual, hidden states and the widest layer's intermediate values, and the final hidden states."""
        shape, tp, element = self.shape, self.tensor_parallel_size, self.precision.element_bytes
        hidden = shape.hidden_size
        dense = tokens * element * (2 * hidden + 3 * ceil_div(shape.intermediate_size, tp))
        routed = 0
        if shape.experts is not None:
            shared = ceil_div(shape.experts.shared_intermediate_size, tp)
            routed = (
                tokens * element * (3 * hidden + 3 * shared)
                + tokens * shape.experts.num_experts * _ROUTER_BYTES
            )
        mixer = tokens * element * (2 * hidden + ceil_div(shape.mixer_width, tp))
        embedded = tokens * hidden * element if shape.tower else 0  # images arrive as embeddings
        return max(dense, routed, mixer) + tokens * hidden * element + embedded

    def _graphs(self) -> Interval:
        """What vLLM charges for CUDA graphs; before 0.20 they came on top of a budget, but never of the card."""
        budgeted = self.version.at_least(GRAPHS_IN_BUDGET) or self.serving.kv_cache_memory_bytes is not None
        if self.accelerator is None or not budgeted:
            return Interval(0, 0)
        prior = graph_bytes(self.parameters)
        return Interval(prior.low_bytes, prior.high_bytes)

    def _runtime(self, limits: BatchLimits, *, first: bool, samples: bool) -> Interval:
        """Buffers that the engine keeps, and memory outside torch."""
        total = Interval(0, 0)
        if self.accelerator is not None:
            non_torch = non_torch_bytes(self.tensor_parallel_size * self.pipeline_parallel_size)
            total += Interval(non_torch.low_bytes, non_torch.high_bytes)
        if samples:
            entries = limits.max_num_seqs * self.shape.vocab_size
            bitmask = ceil_div(entries, 8)
            counters = entries * _COUNTER_BYTES + bitmask
            total += Interval(
                bitmask + (counters if self.version.at_least(V2_RUNNER) else 0),
                bitmask + (counters if self.version.at_least(SOME_V2_RUNNERS) else 0),
            )
        if not first:
            passed = 2 * limits.max_num_batched_tokens * self.shape.hidden_size * self.precision.element_bytes
            total += Interval(passed, passed)
        workspace = self._expert_workspace(limits.max_num_batched_tokens)
        return total + Interval(workspace, workspace)

    def _expert_workspace(self, tokens: int) -> int:
        """Scratch of the routed layers, kept for life (vLLM 0.33.0, fused_moe/modular_kernel.py)."""
        experts = self.shape.experts
        if experts is None:
            return 0
        width = ceil_div(experts.intermediate_size, self.tensor_parallel_size)
        routed = tokens * experts.num_experts_per_token
        hidden = self.shape.hidden_size
        first = max(routed * max(width, hidden), tokens * hidden)
        return self.precision.element_bytes * (first + routed * max(2 * width, hidden))


def _scaled(ratio: Fraction, amount: int) -> int:
    """A need scaled and rounded up, in integers."""
    return ceil_div(ratio.numerator * amount, ratio.denominator)


def sampler_bytes(version: EngineVersion) -> Constant:
    """Bytes per sequence and vocabulary entry of this release's sampler."""
    return next(constant for since, constant in SAMPLER_BYTES if version.at_least(since))


def graph_bytes(parameters: int) -> Constant:
    """The CUDA graphs of a model of this size."""
    return next(constant for up_to, constant in GRAPH_BYTES if parameters <= up_to)


def non_torch_bytes(ranks: int) -> Constant:
    """Memory outside torch with this many ranks."""
    return next(constant for up_to, constant in NON_TORCH_BYTES if ranks <= up_to)
