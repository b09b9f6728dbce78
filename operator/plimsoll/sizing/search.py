"""The search: over pools and ways of splitting, for the fewest GPUs that serve the longest context."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.backend import cache_options, caches_on, kernel_block_size, least_block_size
from plimsoll.sizing.beyond import outside_miss
from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.draft import built_draft
from plimsoll.sizing.engine import NULL_BLOCK, TOKENS_BY_CONCURRENCY, default_utilization
from plimsoll.sizing.files import parameter_count
from plimsoll.sizing.kv_plan import cache_layout
from plimsoll.sizing.launch import Launch
from plimsoll.sizing.lora import split_problem
from plimsoll.sizing.placement import (
    Fit,
    Found,
    Miss,
    Placement,
    best,
    context_of,
    given_too_small,
    too_many_sequences,
)
from plimsoll.sizing.plan import RefusalReason
from plimsoll.sizing.rules import HardwareCannotError, Precision, precision_for
from plimsoll.sizing.weights import RankWeights, rank_weights, tensor_parallel_problem
from plimsoll.units import ceil_div, ceil_fraction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.sizing.accelerators import Accelerator, NodePool
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.serving import Serving

__all__ = ["USEFUL_TOKENS", "Fit", "Found", "Miss", "Placement", "Search", "longest_allowed"]

USEFUL_TOKENS: Final = 2048  # a shorter context is planned only where no card gives more


class Search:
    """One model and engine over any number of pools; what is computed once is kept for the next pool."""

    def __init__(self, shape: ModelShape, serving: Serving, version: EngineVersion) -> None:
        """Keep the inputs, which are frozen, and an empty memory of weights."""
        self.shape = shape
        self.serving = serving
        self.version = version
        self.draft = built_draft(shape, serving, version)
        self.utilization = serving.gpu_memory_utilization or default_utilization(version)
        self.parameters = parameter_count(shape)
        self.limit = longest_allowed(shape, serving)
        self.useful_tokens = min(USEFUL_TOKENS, self.limit)
        self._weights: dict[tuple[int, int, Precision], tuple[RankWeights, ...]] = {}
        self._problems: dict[tuple[int, bool], str | None] = {}

    def run(self, pools: Sequence[NodePool]) -> Found:
        """The fewest GPUs, then the fewest nodes, then the longest context, then the most concurrency."""
        misses: list[Miss] = []
        placements: list[Placement] = []
        for pool in pools:
            if pool.accelerator is None or pool.gpus_per_node < 1 or pool.nodes < 1:
                continue
            for option in self._of_pool(pool, pool.accelerator):
                if isinstance(option, Miss):
                    misses.append(option)
                else:
                    placements.append(option)
        placements.sort(key=lambda placement: (placement.gpus, placement.nodes))
        short: list[Fit] = []
        for _, alike in groupby(placements, key=lambda placement: (placement.gpus, placement.nodes)):
            results = [self._try(placement) for placement in alike]
            fits = [result for result in results if isinstance(result, Fit)]
            misses += [result for result in results if isinstance(result, Miss)]
            useful = [fit for fit in fits if fit.max_model_len >= self.useful_tokens]
            if useful or (fits and self.serving.max_model_len is not None):
                return Found(fit=best(useful or fits), misses=tuple(misses))
            short += fits
        return Found(fit=best(short) if short else None, misses=tuple(misses))

    def _of_pool(self, pool: NodePool, accelerator: Accelerator) -> Iterator[Placement | Miss]:
        """Every legal way of splitting over this pool, or why there is none."""
        if accelerator.memory_bytes < self.serving.min_gpu_memory_bytes:
            yield Miss(
                reason=RefusalReason.NO_MATCHING_NODE,
                problem=f"{accelerator.alias} has less memory than spec.hardware.gpu.minMemory asks for",
            )
            return
        try:
            precision = precision_for(self.shape, self.serving, accelerator, self.version)
        except HardwareCannotError as problem:
            yield Miss(reason=RefusalReason.HARDWARE_CANNOT, problem=str(problem))
            return
        splits = tuple(self._splits(pool, precision))
        for tensor_size, pipeline_size, nodes in splits:
            yield Placement(
                pool=pool,
                accelerator=accelerator,
                precision=precision,
                tensor_parallel_size=tensor_size,
                pipeline_parallel_size=pipeline_size,
                nodes=nodes,
            )
        if not splits:
            yield self._no_split(pool, precision)

    def _splits(self, pool: NodePool, precision: Precision) -> Iterator[tuple[int, int, int]]:
        """(tensor parallel size, pipeline parallel size, nodes) that the model, the user and the pool allow."""
        serving = self.serving
        layers = 1 if self.shape.stages_problem else len(self.shape.layers)
        max_nodes = min(serving.max_nodes, pool.nodes)
        most = min(pool.gpus_per_node, self.shape.num_attention_heads)
        legal = [size for size in range(1, most + 1) if self._tensor_problem(size, precision) is None]
        for size in legal:
            if serving.tensor_parallel_size not in (None, size):
                continue
            for stages, nodes in self._stages(size, legal, pool, max_nodes):
                if stages <= layers and nodes <= max_nodes and serving.gpus in (None, size * stages):
                    yield size, stages, nodes

    def _stages(
        self, size: int, legal: list[int], pool: NodePool, max_nodes: int
    ) -> Sequence[tuple[int, int]]:
        """Pipeline sizes to try with this tensor parallel size, and the nodes that they take."""
        serving = self.serving
        whole = pool.gpus_per_node
        asked = serving.pipeline_parallel_size
        if asked is None and serving.gpus is not None:
            asked = serving.gpus // size if serving.gpus % size == 0 else 0
        if asked is not None:
            return ((asked, ceil_div(asked, whole // size)),) if asked else ()
        stages = [(1, 1)]
        # Across nodes there is one stage for each; TP stays inside.
        if 2 * size > whole:
            stages += [(nodes, nodes) for nodes in range(2, max_nodes + 1)]
        # Inside a node the pipeline takes over where tensor parallelism is not legal for all its cards.
        elif whole not in legal and size == max(other for other in legal if whole % other == 0):
            stages += [(whole // size * nodes, nodes) for nodes in range(1, max_nodes + 1)]
        return stages

    def _tensor_problem(self, size: int, precision: Precision) -> str | None:
        key = (size, precision.online)
        if key not in self._problems:
            self._problems[key] = split_problem(
                self.serving.lora, self.shape, size
            ) or tensor_parallel_problem(
                self.shape,
                size,
                precision.quantization,
                expert_parallel=self.serving.enable_expert_parallel,
                draft=self.draft,
            )
        return self._problems[key]

    def _no_split(self, pool: NodePool, precision: Precision) -> Miss:
        """Why no way of splitting is left: the user's sizes against the pool's, or against the model's."""
        serving = self.serving
        size = serving.tensor_parallel_size
        stages = serving.pipeline_parallel_size or 1
        if size is not None and size <= pool.gpus_per_node:
            problem = self._tensor_problem(size, precision)
            if problem is not None:
                return Miss(
                    reason=RefusalReason.NOT_DIVISIBLE,
                    problem=f"the tensorParallelSize of {size} is not legal: {problem}",
                )
        if stages > 1 and self.shape.stages_problem:
            return Miss(
                reason=RefusalReason.NOT_DIVISIBLE,
                problem=f"the pipelineParallelSize of {stages} is not possible: this model "
                f"{self.shape.stages_problem}",
            )
        if stages > len(self.shape.layers):
            return Miss(
                reason=RefusalReason.NOT_DIVISIBLE,
                problem=f"the pipelineParallelSize of {stages} is above the {len(self.shape.layers)} layers of the model",
            )
        wanted = serving.gpus or (size or 1) * stages
        room = pool.gpus_per_node * min(serving.max_nodes, pool.nodes)
        if wanted > room or (size is not None and size > pool.gpus_per_node):
            return Miss(
                reason=RefusalReason.NO_MATCHING_NODE,
                problem=f"{wanted} GPUs are asked for and {pool.name} gives one replica {room}, with "
                f"{pool.gpus_per_node} in a node",
            )
        return Miss(
            reason=RefusalReason.NOT_DIVISIBLE,
            problem=f"{wanted} GPUs of {pool.name} cannot be split: no tensor parallel size that divides "
            f"{self.shape.num_attention_heads} attention heads and the model's widths gives this number",
        )

    def launch(self, placement: Placement) -> Launch:
        """The launch of a placement."""
        precision = placement.precision
        size, stages = placement.tensor_parallel_size, placement.pipeline_parallel_size
        key = (size, stages, precision)
        if key not in self._weights:
            self._weights[key] = rank_weights(
                self.shape,
                size,
                stages,
                precision.element_bytes,
                precision.quantization,
                expert_parallel=self.serving.enable_expert_parallel,
                expert_multiple=precision.expert_multiple,
                draft=self.draft,
            )
        weights = self._weights[key]
        accelerator = placement.accelerator
        options = cache_options(self.shape, self.serving, precision.kv_cache_dtype)
        return Launch(
            shape=self.shape,
            serving=self.serving,
            version=self.version,
            accelerator=accelerator,
            precision=precision,
            tensor_parallel_size=size,
            pipeline_parallel_size=stages,
            stages=weights,
            layout=cache_layout(
                caches_on(self.shape, self.version, accelerator, options),
                stages=[stage.layers for stage in weights],
                tensor_parallel_size=size,
                element_bytes=precision.kv_element_bytes,
                block_size=self._block_size(accelerator, precision),
                state_element_bytes=precision.element_bytes,
                reserve_null_block=self.version.at_least(NULL_BLOCK),
                tokens_by_concurrency=self.version.at_least(TOKENS_BY_CONCURRENCY),
            ),
            usable_bytes=self._usable_bytes(accelerator),
            parameters=self.parameters,
        )

    def _block_size(self, accelerator: Accelerator, precision: Precision) -> int:
        """The user's block size, or what the attention backends prefer."""
        if self.serving.block_size is not None:
            return max(self.serving.block_size, least_block_size(precision.kv_cache_dtype))
        return kernel_block_size(
            self.shape,
            self.version,
            accelerator,
            fp8_cache=precision.kv_element_bytes == 1,
            kv_cache_dtype=precision.kv_cache_dtype,
        )

    def _usable_bytes(self, accelerator: Accelerator) -> int:
        """The engine's share of a card; a KV space that is given is not held against it, only against the card."""
        if self.serving.kv_cache_memory_bytes is not None:
            return accelerator.memory_bytes - BASELINE.high_bytes
        return ceil_fraction(accelerator.memory_bytes * self.utilization)

    def _try(self, placement: Placement) -> Fit | Miss:
        launch = self.launch(placement)
        outside = outside_miss(launch, placement, self.utilization)
        if outside is not None:
            return outside
        wanted = self.serving.max_model_len
        length = launch.longest(wanted or self.limit)
        if length == 0 or (wanted is not None and length < wanted):
            return self._too_small(launch, placement, length)
        most = launch.most_sequences(length)
        if most is not None and most < launch.limits(length).max_num_seqs:
            if self.serving.max_num_seqs is not None:
                return too_many_sequences(placement, self.serving.max_num_seqs, most)
            # The length stays: asked for by itself, it has to fit with the engine's own number of sequences too.
            launch = replace(launch, serving=replace(self.serving, max_num_seqs=most))
        capacity = launch.layout.capacity(
            length, launch.limits(length).in_flight_tokens, launch.available_bytes(length)
        )
        return Fit(
            placement=placement, launch=launch, max_model_len=length, concurrency=capacity.max_concurrency
        )

    def _too_small(self, launch: Launch, placement: Placement, shorter: int) -> Miss:
        wanted = self.serving.max_model_len
        length = wanted or self.useful_tokens
        if self.serving.kv_cache_memory_bytes is not None:
            return given_too_small(launch, placement, self.serving.kv_cache_memory_bytes, length, shorter)
        needed, _ = launch.needed_bytes(length)
        reason = RefusalReason.CONTEXT_TOO_LONG if wanted and shorter else RefusalReason.DOES_NOT_FIT
        return Miss(
            reason=reason,
            problem=context_of(launch, length),
            placement=placement,
            needed_bytes=needed,
            available_bytes=launch.usable_bytes,
            shorter=shorter,
        )


def longest_allowed(shape: ModelShape, serving: Serving) -> int:
    """The model's own length; without chunked prefill a fixed batch must hold the whole prompt."""
    if serving.enable_chunked_prefill is False and serving.max_num_batched_tokens is not None:
        return min(shape.max_model_len, serving.max_num_batched_tokens)
    return shape.max_model_len
