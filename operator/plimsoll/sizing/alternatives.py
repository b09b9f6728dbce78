"""What would fit instead, found by searching again and never by template."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.gpus import catalogue
from plimsoll.sizing.search import Fit, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import Accelerator

GPUS_PER_NODE: Final = 8  # of the nodes that clouds rent out with these cards
MAX_NODES: Final = 4
_CARDS_SHOWN: Final = 3


def would_fit(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """Alternatives in the order of how little they change: the length, the cache's dtype, the cards."""
    return (
        *_own_cache(search, pools),
        *_utilization(search, pools),
        *_shorter(search, pools),
        *_fp8_cache(search, pools),
        *_cards(search),
    )


def _own_cache(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """What the engine takes by itself, where the user gave the KV space."""
    if search.serving.kv_cache_memory_bytes is None:
        return ()
    other = Search(search.shape, replace(search.serving, kv_cache_memory_bytes=None), search.version)
    fit = _run(other, pools)
    if fit is None or fit.max_model_len < other.useful_tokens:
        return ()
    return (f"kvCacheMemory left unset, with a context of {fit.max_model_len} tokens on {_where(fit)}",)


def _utilization(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """VLLM's own share of the card, where the user set another."""
    if search.serving.gpu_memory_utilization is None:
        return ()
    other = Search(search.shape, replace(search.serving, gpu_memory_utilization=None), search.version)
    fit = _run(other, pools)
    if fit is None or fit.max_model_len < other.useful_tokens:
        return ()
    share = float(other.utilization)
    return (f"gpuMemoryUtilization {share:g} with a context of {fit.max_model_len} tokens on {_where(fit)}",)


def _shorter(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """A shorter context on the same nodes."""
    if search.serving.max_model_len is None:
        return ()
    fit = _run(Search(search.shape, replace(search.serving, max_model_len=None), search.version), pools)
    if fit is None:
        return ()
    length = min(fit.max_model_len, search.serving.max_model_len)
    return (f"maxModelLen {length} on {_where(fit)}",)


def _fp8_cache(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """The same with a KV cache of 8 bits, where a card of these nodes can."""
    if search.serving.kv_cache_dtype not in (None, "auto"):
        return ()
    fit = _run(Search(search.shape, replace(search.serving, kv_cache_dtype="fp8"), search.version), pools)
    if fit is None or fit.max_model_len < min(
        search.useful_tokens, search.serving.max_model_len or search.limit
    ):
        return ()
    return (f"kvCacheDtype fp8 with a context of {fit.max_model_len} tokens on {_where(fit)}",)


def _cards(search: Search) -> tuple[str, ...]:
    """Other cards, or more of them, on nodes of 8: the fewest first."""
    serving = replace(
        search.serving,
        tensor_parallel_size=None,
        pipeline_parallel_size=None,
        gpus=None,
        max_nodes=MAX_NODES,
        min_gpu_memory_bytes=0,
    )
    free = Search(search.shape, serving, search.version)
    fits = [fit for card in catalogue() if (fit := _run(free, (_nodes_of(card),))) is not None]
    useful = [
        fit
        for fit in fits
        if fit.max_model_len >= min(free.useful_tokens, search.serving.max_model_len or free.limit)
    ]
    useful.sort(
        key=lambda fit: (fit.placement.nodes, fit.placement.gpus, fit.placement.accelerator.memory_bytes)
    )
    return tuple(
        f"{_where(fit)} with a context of {fit.max_model_len} tokens" for fit in useful[:_CARDS_SHOWN]
    )


def _nodes_of(card: Accelerator) -> NodePool:
    return NodePool(
        name=f"{MAX_NODES} nodes with {GPUS_PER_NODE} x {card.alias}",
        accelerator=card,
        gpus_per_node=GPUS_PER_NODE,
        nodes=MAX_NODES,
    )


def _run(search: Search, pools: Sequence[NodePool]) -> Fit | None:
    """The best fit; an option that excludes the alternative makes it none."""
    try:
        return search.run(pools).fit
    except UnsupportedOptionError:
        return None


def _where(fit: Fit) -> str:
    placement = fit.placement
    nodes = f" on {placement.nodes} nodes" if placement.nodes > 1 else ""
    return (
        f"{placement.gpus} x {placement.accelerator.alias}{nodes} "
        f"(TP {placement.tensor_parallel_size}, PP {placement.pipeline_parallel_size})"
    )
