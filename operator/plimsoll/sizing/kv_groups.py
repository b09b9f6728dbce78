"""Which caches share block ids: pages brought to one size, and layers cut into groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lcm
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.kv_packed import is_packed, packed_buckets
from plimsoll.sizing.layers import (
    ChunkedLocal,
    FullAttention,
    MultiHeadLatent,
    RecurrentState,
    SlidingWindow,
    SparseIndexer,
)
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.layers import CacheKind

# Source of the whole file: vLLM 0.33.0, v1/core/kv_cache_planning.py (get_kv_cache_groups) and
# platforms/interface.py (_align_hybrid_block_size).
_LATENT_ALIGNMENT: Final = 128  # MLA decode kernels beside recurrent layers want whole multiples
_WAY_OUT: Final = "use a model whose layers have caches that one block size serves"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """Caches that share block ids: one block of the group is one page in each of them.

    Attributes:
        kind: of all of them, or of the first where kinds that grow alike share a group.
        layers: where they stand; a layer with two caches in the group is named twice.
        block_size: tokens of a block in this group.
        page_bytes: of one block in each of `layers`.
    """

    kind: CacheKind
    layers: tuple[int, ...]
    block_size: int
    page_bytes: tuple[int, ...]

    def stage_bytes(self, stage: tuple[int, int]) -> int:
        """Bytes of one block id in the layers of a stage."""
        first, end = stage
        return sum(
            page for layer, page in zip(self.layers, self.page_bytes, strict=True) if first <= layer < end
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One cache with the page that its layer would have alone."""

    layer: int
    kind: CacheKind
    block_size: int
    page_bytes: int


def aligned_block_size(
    kinds: Sequence[CacheKind],
    *,
    tensor_parallel_size: int,
    element_bytes: int,
    block_size: int,
    state_element_bytes: int,
) -> tuple[int, int]:
    """The block size once pages of attention are as large as a recurrent state, and the page of such a state."""
    states = [kind for kind in kinds if isinstance(kind, RecurrentState)]
    if not states:
        return block_size, 0
    state = max(kind.state_bytes(tensor_parallel_size, state_element_bytes) for kind in states)
    attention = [kind for kind in kinds if not isinstance(kind, RecurrentState)]
    if not attention or state == 0:
        return block_size, state
    token = attention[0].token_bytes(tensor_parallel_size, element_bytes)
    latent = any(isinstance(kind, MultiHeadLatent) for kind in attention)
    multiple = max(block_size, _LATENT_ALIGNMENT) if latent else block_size
    multiple = lcm(multiple, *(kind.alignment for kind in states))
    aligned = max(block_size, multiple * ceil_div(state, multiple * token))
    return aligned, aligned * token


def grouped(specs: Sequence[Spec]) -> tuple[CacheGroup, ...]:
    """The groups, in vLLM's order.

    Raises:
        UnsupportedModelError: pages that cannot be brought to one size.
    """
    if not specs:
        return ()
    if len({(spec.kind, spec.page_bytes) for spec in specs}) == 1 or _grow_alike(specs):
        return (_group(specs),)
    if is_packed(specs):
        return tuple(_group(bucket) for bucket in packed_buckets(specs))
    in_full = _latent_beside_windows(specs)
    if in_full:
        return (_group(in_full),)
    buckets: dict[tuple[CacheKind, int], list[Spec]] = {}
    for spec in _one_page_size(specs):
        buckets.setdefault((spec.kind, spec.block_size), []).append(spec)
    sizes = [len(bucket) for bucket in buckets.values()]
    low, high = min(sizes), max(sizes)
    size = high if 2 * high < 3 * low else low  # vLLM: high < 1.5 x low
    groups = []
    for bucket in buckets.values():
        count = ceil_div(len(bucket), size)
        groups += [_group(bucket[offset::count]) for offset in range(count)]
    return tuple(groups)


def _group(specs: Sequence[Spec]) -> CacheGroup:
    return CacheGroup(
        kind=specs[0].kind,
        layers=tuple(spec.layer for spec in specs),
        block_size=specs[0].block_size,
        page_bytes=tuple(spec.page_bytes for spec in specs),
    )


def _grow_alike(specs: Sequence[Spec]) -> bool:
    """Whether all need the same number of slots for any length: one block table serves pages of any size."""
    kinds = [spec.kind for spec in specs]
    if all(isinstance(kind, (FullAttention, MultiHeadLatent, SparseIndexer)) for kind in kinds):
        return True
    if all(isinstance(kind, SlidingWindow) for kind in kinds):
        return len({kind.window for kind in kinds if isinstance(kind, SlidingWindow)}) == 1
    if all(isinstance(kind, ChunkedLocal) for kind in kinds):
        return len({kind.chunk for kind in kinds if isinstance(kind, ChunkedLocal)}) == 1
    return False


def _latent_beside_windows(specs: Sequence[Spec]) -> list[Spec]:
    """Windows kept in full beside MLA whose pages fit no common size; empty where that is not the way out."""
    kinds = [spec.kind for spec in specs]
    if not all(
        isinstance(kind, (FullAttention, MultiHeadLatent, SparseIndexer, SlidingWindow)) for kind in kinds
    ):
        return []
    largest = max(spec.page_bytes for spec in specs)
    latent = [spec for spec in specs if isinstance(spec.kind, (MultiHeadLatent, SparseIndexer))]
    if all(largest % spec.page_bytes == 0 for spec in latent):
        return []
    return [replace(spec, kind=_in_full(spec.kind)) for spec in specs]


def _in_full(kind: CacheKind) -> CacheKind:
    if not isinstance(kind, SlidingWindow):
        return kind
    return FullAttention(num_kv_heads=kind.num_kv_heads, head_size=kind.head_size, pair_bytes=kind.pair_bytes)


def _one_page_size(specs: Sequence[Spec]) -> list[Spec]:
    """Smaller pages grow by whole numbers of tokens, or are padded where that leaves a rest."""
    largest = max(spec.page_bytes for spec in specs)
    result = []
    for spec in specs:
        if spec.page_bytes == largest:
            result.append(spec)
        elif isinstance(spec.kind, RecurrentState):
            result.append(replace(spec, page_bytes=largest))
        elif largest % spec.page_bytes == 0:
            block_size = spec.block_size * (largest // spec.page_bytes)
            result.append(replace(spec, block_size=block_size, page_bytes=largest))
        elif isinstance(spec.kind, (MultiHeadLatent, SparseIndexer)):
            raise UnsupportedModelError(
                "layer_types",
                [kind.describe() for kind in dict.fromkeys(spec.kind for spec in specs)],
                "pages of these layers cannot be brought to one size",
                _WAY_OUT,
            )
        else:
            result.append(replace(spec, page_bytes=largest))
    return result
