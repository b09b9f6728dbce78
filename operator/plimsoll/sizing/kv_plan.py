"""vLLM's planning of the KV cache, reproduced: groups, blocks, capacity and the longest context."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from plimsoll.sizing.kv_groups import CacheGroup, Spec, aligned_block_size, grouped
from plimsoll.sizing.layers import (
    ChunkedLocal,
    CrossAttention,
    FullAttention,
    NoCache,
    PackedCache,
    RecurrentState,
    SlidingWindow,
    kv_heads_per_rank,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.layers import CacheKind

__all__ = ["CacheCapacity", "CacheGroup", "CacheLayout", "cache_layout"]

# Source of the whole file: vLLM 0.33.0, v1/core/kv_cache_planning.py and v1/core/kv_cache_utils.py.


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """The groups of all stages, and what one block id costs on each stage.

    Attributes:
        reserve_null_block: from vLLM 0.29 on, every fit check leaves one block out.
        tokens_by_concurrency: from vLLM 0.20.1 on, the logged size is the concurrency times the length.
        token_bytes_by_stage: bytes that one token takes in all layers of a stage, on one rank.
    """

    groups: tuple[CacheGroup, ...]
    block_size: int
    bytes_per_block_by_stage: tuple[int, ...]
    token_bytes_by_stage: tuple[int, ...]
    reserve_null_block: bool
    tokens_by_concurrency: bool = True

    @property
    def bytes_per_block(self) -> int:
        """Of the stage where a block costs most."""
        return max(self.bytes_per_block_by_stage)

    def need_blocks(self, max_model_len: int, max_in_flight_tokens: int) -> int:
        """Blocks that one request of that length may hold, over all groups."""
        return sum(
            group.kind.blocks_for(max_model_len, group.block_size, max_in_flight_tokens)
            for group in self.groups
        )

    def need_bytes(self, max_model_len: int, max_in_flight_tokens: int, stage: int, requests: int = 1) -> int:
        """Bytes that a stage must have for one request of that length to be admitted, or for several at once."""
        blocks = self.need_blocks(max_model_len, max_in_flight_tokens) * requests
        return (blocks + (1 if self.reserve_null_block else 0)) * self.bytes_per_block_by_stage[stage]

    def fits(
        self, max_model_len: int, max_in_flight_tokens: int, available_bytes: Sequence[int], requests: int = 1
    ) -> bool:
        """Whether vLLM starts with this length and holds so many requests; one value of available bytes per stage."""
        return all(
            self._fits_stage(max_model_len, max_in_flight_tokens, available, stage, requests)
            for stage, available in enumerate(available_bytes)
        )

    def _fits_stage(
        self, max_model_len: int, max_in_flight_tokens: int, available: int, stage: int, requests: int = 1
    ) -> bool:
        need = self.need_bytes(max_model_len, max_in_flight_tokens, stage, requests)
        return max(self.bytes_per_block_by_stage[stage], need) <= available

    def longest(self, limit: int, max_in_flight_tokens: int, available_bytes: Sequence[int]) -> int:
        """The longest context up to `limit` that fits, 0 if none does."""
        stages = range(len(available_bytes))
        return min(
            self._longest(limit, max_in_flight_tokens, available_bytes[stage], stage) for stage in stages
        )

    def estimated_length(self, limit: int, max_in_flight_tokens: int, available_bytes: Sequence[int]) -> int:
        """The length that vLLM's refusal of `limit` names: of the first stage that is too small, not of all."""
        lengths = (
            self._longest(limit, max_in_flight_tokens, available_bytes[stage], stage)
            for stage in range(len(available_bytes))
        )
        return next((length for length in lengths if length < limit), limit)

    def _longest(self, limit: int, max_in_flight_tokens: int, available: int, stage: int) -> int:
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits_stage(middle, max_in_flight_tokens, available, stage):
                low = middle
            else:
                high = middle - 1
        return low

    def capacity(
        self, max_model_len: int, max_in_flight_tokens: int, available_bytes: Sequence[int]
    ) -> CacheCapacity:
        """What vLLM will report after start-up."""
        blocks = min(
            available // per_block
            for per_block, available in zip(self.bytes_per_block_by_stage, available_bytes, strict=True)
        )
        need = self.need_blocks(max_model_len, max_in_flight_tokens)
        if self.tokens_by_concurrency:
            tokens = int(blocks / need * max_model_len)  # vLLM's own floats, so that its log line is met
        else:
            tokens = blocks // len(self.groups) * self.block_size
        return CacheCapacity(blocks=blocks, tokens=tokens, max_concurrency=Fraction(blocks, need))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCapacity:
    """The log lines "GPU KV cache size" and "Maximum concurrency", and the blocks behind them."""

    blocks: int
    tokens: int
    max_concurrency: Fraction


def cache_layout(
    kinds: Sequence[CacheKind | tuple[CacheKind, ...]],
    *,
    stages: Sequence[tuple[int, int]],
    tensor_parallel_size: int,
    element_bytes: int,
    block_size: int,
    reserve_null_block: bool,
    tokens_by_concurrency: bool = True,
    state_element_bytes: int = 2,
) -> CacheLayout:
    """Group the caches of all stages as vLLM does.

    Args:
        kinds: of each layer; a tuple where a layer keeps several.
        stages: first and one past the last layer of each pipeline stage.
        tensor_parallel_size: ranks of a stage.
        element_bytes: of the KV cache.
        block_size: tokens, as the attention backend asks for it.
        reserve_null_block: see `CacheLayout`.
        tokens_by_concurrency: see `CacheLayout`.
        state_element_bytes: of convolution states, the model's dtype.

    Raises:
        UnsupportedModelError: layers of several kinds whose pages vLLM cannot bring to one size.
    """
    members = _members(kinds)
    aligned, state_page = aligned_block_size(
        [kind for _, kind in members],
        tensor_parallel_size=tensor_parallel_size,
        element_bytes=element_bytes,
        block_size=block_size,
        state_element_bytes=state_element_bytes,
    )
    specs = _specs(members, aligned, state_page, tensor_parallel_size, element_bytes)
    groups = grouped(specs)
    tokens = [(layer, kind.token_bytes(tensor_parallel_size, element_bytes)) for layer, kind in members]
    return CacheLayout(
        groups=groups,
        block_size=aligned,
        bytes_per_block_by_stage=tuple(
            max(1, *(group.stage_bytes(stage) for group in groups)) for stage in stages
        ),
        token_bytes_by_stage=tuple(
            sum(per_token for layer, per_token in tokens if first <= layer < end) for first, end in stages
        ),
        reserve_null_block=reserve_null_block,
        tokens_by_concurrency=tokens_by_concurrency,
    )


def _members(kinds: Sequence[CacheKind | tuple[CacheKind, ...]]) -> list[tuple[int, CacheKind]]:
    """Each cache with its layer, in the engine's order."""
    return [
        (layer, kind)
        for layer, held in enumerate(kinds)
        for kind in (held if isinstance(held, tuple) else (held,))
        if not isinstance(kind, NoCache)
    ]


def _specs(
    members: Sequence[tuple[int, CacheKind]],
    block_size: int,
    state_page: int,
    tensor_parallel_size: int,
    element_bytes: int,
) -> list[Spec]:
    """Each cache with the page that its layer would have alone; caches that are alike on a rank are one kind."""
    on_rank = {kind: _on_rank(kind, tensor_parallel_size) for kind in {kind for _, kind in members}}
    return [
        Spec(layer=layer, kind=kind, block_size=kind.tokens, page_bytes=kind.page_bytes)
        if isinstance(kind, PackedCache)
        else Spec(
            layer=layer,
            kind=on_rank[kind],
            block_size=block_size,
            page_bytes=state_page
            if isinstance(kind, RecurrentState)
            else block_size * kind.token_bytes(tensor_parallel_size, element_bytes),
        )
        for layer, kind in members
    ]


def _on_rank(kind: CacheKind, tensor_parallel_size: int) -> CacheKind:
    """With the KV heads that one rank stores: vLLM compares caches by those."""
    match kind:
        case FullAttention() | SlidingWindow() | ChunkedLocal() | CrossAttention():
            return replace(kind, num_kv_heads=kv_heads_per_rank(kind.num_kv_heads, tensor_parallel_size))
        case _:
            return kind
