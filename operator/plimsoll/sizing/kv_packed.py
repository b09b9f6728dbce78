"""Caches whose pages are packed side by side in one block: groups of layers that repeat a pattern of page sizes.

Source of the whole file: vLLM 0.33.0, v1/core/kv_cache_planning.py (_get_packed_kv_cache_groups).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from plimsoll.sizing.layers import PackedCache
from plimsoll.units import ceil_div, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.kv_groups import Spec


def is_packed(specs: Sequence[Spec]) -> bool:
    """Whether the engine lays blocks outermost for these layers, with pages of several sizes in each."""
    return any(isinstance(spec.kind, PackedCache) for spec in specs) and len(_pages(specs)) > 1


def packed_buckets(specs: Sequence[Spec]) -> list[list[Spec]]:
    """The layers of each group, in vLLM's order: kinds that grow alike, cut where they outnumber the pattern."""
    buckets: dict[object, list[Spec]] = {}
    for spec in specs:
        buckets.setdefault(_grows(spec), []).append(spec)
    repeats = _repeats(list(buckets.values()))
    groups = []
    for bucket in buckets.values():
        count = ceil_div(_most_alike(bucket), repeats) if repeats and _is_balanced(bucket) else 1
        groups += [_cut(bucket, offset, count) for offset in range(count)]
    return groups


def _grows(spec: Spec) -> object:
    """What two caches must share to need the same slots for any length."""
    window = spec.kind.window if isinstance(spec.kind, PackedCache) else spec.kind
    return spec.block_size, window


def _repeats(buckets: Sequence[Sequence[Spec]]) -> int:
    """How often a group repeats its pattern; 0 where no bucket mixes pages of several sizes."""
    balanced = [bucket for bucket in buckets if _is_balanced(bucket)]
    least = max((_most_alike(bucket) for bucket in balanced if len(_pages(bucket)) > 1), default=0)
    if not least:
        return 0
    counts = [_most_alike(bucket) for bucket in balanced]
    # The least padding; of equals the largest.
    return min(range(least, max(counts) + 1), key=lambda size: (_padding(counts, size), -size))


def _padding(counts: Sequence[int], size: int) -> int:
    return sum(round_up(count, size) - count for count in counts)


def _pages(specs: Sequence[Spec]) -> Counter[int]:
    return Counter(spec.page_bytes for spec in specs)


def _most_alike(bucket: Sequence[Spec]) -> int:
    """Layers that share the most common page size."""
    return max(_pages(bucket).values())


def _is_balanced(bucket: Sequence[Spec]) -> bool:
    """Whether every page size has as many layers as the others."""
    return len(set(_pages(bucket).values())) == 1


def _cut(bucket: Sequence[Spec], offset: int, count: int) -> list[Spec]:
    """Every `count`-th repeat of the pattern, one layer of each page size."""
    if count == 1:
        return list(bucket)
    by_page: dict[int, list[Spec]] = {}
    for spec in bucket:
        by_page.setdefault(spec.page_bytes, []).append(spec)
    repeats = list(zip(*by_page.values(), strict=True))
    return [spec for repeat in repeats[offset::count] for spec in repeat]
