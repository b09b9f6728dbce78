"""vLLM's planning of the KV cache, reproduced: groups, blocks, capacity and the longest context."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.layers import NoCache
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.layers import CacheKind

# Source of the whole file: vLLM 0.33.0, v1/core/kv_cache_planning.py and v1/core/kv_cache_utils.py.


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """Layers that share block ids: one block of the group is one page in each of them."""

    kind: CacheKind
    layers: tuple[int, ...]


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
            group.kind.blocks_for(max_model_len, self.block_size, max_in_flight_tokens)
            for group in self.groups
        )

    def need_bytes(self, max_model_len: int, max_in_flight_tokens: int, stage: int) -> int:
        """Bytes that a stage must have for one request of that length to be admitted."""
        blocks = self.need_blocks(max_model_len, max_in_flight_tokens) + (1 if self.reserve_null_block else 0)
        return blocks * self.bytes_per_block_by_stage[stage]

    def fits(self, max_model_len: int, max_in_flight_tokens: int, available_bytes: Sequence[int]) -> bool:
        """Whether vLLM starts with this length; one value of available bytes per stage."""
        return all(
            max(per_block, self.need_bytes(max_model_len, max_in_flight_tokens, stage)) <= available
            for stage, (per_block, available) in enumerate(
                zip(self.bytes_per_block_by_stage, available_bytes, strict=True)
            )
        )

    def longest(self, limit: int, max_in_flight_tokens: int, available_bytes: Sequence[int]) -> int:
        """The longest context up to `limit` that fits, 0 if none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(middle, max_in_flight_tokens, available_bytes):
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
    kinds: Sequence[CacheKind],
    *,
    stages: Sequence[tuple[int, int]],
    tensor_parallel_size: int,
    element_bytes: int,
    block_size: int,
    reserve_null_block: bool,
    tokens_by_concurrency: bool = True,
) -> CacheLayout:
    """Group the layers of all stages as vLLM does.

    Raises:
        UnsupportedModelError: layers of several kinds whose pages differ in size, or none with a cache.
    """
    buckets: dict[CacheKind, list[int]] = {}
    for index, kind in enumerate(kinds):
        if not isinstance(kind, NoCache):
            buckets.setdefault(kind, []).append(index)
    token_bytes = {kind: kind.token_bytes(tensor_parallel_size, element_bytes) for kind in buckets}
    if len(set(token_bytes.values())) != 1:
        raise UnsupportedModelError(
            "layer_types",
            [kind.describe() for kind in buckets],
            "layers whose cache pages differ in size are not ones that can be planned",
            "use a model whose layers have the same number and size of KV heads",
        )
    groups = _groups(buckets)
    per_token = next(iter(token_bytes.values()))
    page = block_size * per_token
    return CacheLayout(
        groups=groups,
        block_size=block_size,
        bytes_per_block_by_stage=tuple(page * max(1, _fullest(groups, stage)) for stage in stages),
        token_bytes_by_stage=tuple(
            per_token * sum(not isinstance(kind, NoCache) for kind in kinds[first:end])
            for first, end in stages
        ),
        reserve_null_block=reserve_null_block,
        tokens_by_concurrency=tokens_by_concurrency,
    )


def _groups(buckets: dict[CacheKind, list[int]]) -> tuple[CacheGroup, ...]:
    """Buckets of equal layers, cut into groups of about the smallest bucket's size."""
    sizes = [len(layers) for layers in buckets.values()]
    low, high = min(sizes), max(sizes)
    size = high if 2 * high < 3 * low else low  # vLLM: high < 1.5 x low
    groups = []
    for kind, layers in buckets.items():
        count = ceil_div(len(layers), size)
        groups += [CacheGroup(kind=kind, layers=tuple(layers[offset::count])) for offset in range(count)]
    return tuple(groups)


def _fullest(groups: tuple[CacheGroup, ...], stage: tuple[int, int]) -> int:
    """The most layers that any one group has on a stage."""
    first, end = stage
    return max(sum(first <= layer < end for layer in group.layers) for group in groups)
