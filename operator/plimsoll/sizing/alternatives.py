"""What would fit instead, found by searching again and never by template."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup, quantized_siblings
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.gpus import checked_cards
from plimsoll.sizing.search import Fit, Search
from plimsoll.sizing.shape import shape_from_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import Accelerator

GPUS_PER_NODE: Final = 8  # of the nodes that clouds rent out with these cards
MAX_NODES: Final = 4
_CARDS_SHOWN: Final = 3
_BUILDS_SHOWN: Final = 2
_SEQUENCES: Final = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
_BATCHED_TOKENS: Final = (8192, 4096, 2048, 1024, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What did not fit.

    Attributes:
        model_id: for other builds of the same model.
        elsewhere: nodes of the cluster that only the user's choice of GPU keeps out.
    """

    search: Search
    pools: Sequence[NodePool]
    model_id: str
    elsewhere: Sequence[NodePool] = ()


def would_fit(refused: Refused) -> tuple[str, ...]:
    """Alternatives in the order of how little they change: options, nodes of the cluster, the build, the cards."""
    search, pools = refused.search, refused.pools
    found = (
        *_own_cache(search, pools),
        *_utilization(search, pools),
        *_shorter(search, pools),
        *_fewer_requests(search, pools),
        *_smaller_batches(search, pools),
        *_fp8_cache(search, pools),
        *_another_split(search, pools),
        *_elsewhere(
            search, (*pools, *refused.elsewhere) if search.serving.min_gpu_memory_bytes else refused.elsewhere
        ),
        *_quantized(search, pools, refused.model_id),
        *_cards(search),
    )
    return tuple(dict.fromkeys(found))


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


def _fewer_requests(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """As many requests at once as there is room for."""
    wanted = search.serving.concurrency or 1
    low, high, best = 1, wanted - 1, None
    while low <= high:
        middle = (low + high + 1) // 2
        fit = _run(_with(search, concurrency=middle), pools)
        if fit is not None and _is_enough(search, fit):
            low, best = middle + 1, (middle, fit)
        else:
            high = middle - 1
    if best is None:
        return ()
    requests = "1 request" if best[0] == 1 else f"{best[0]} requests at once"
    return (f"{requests} with a context of {best[1].max_model_len} tokens on {_where(best[1])}",)


def _smaller_batches(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """Fewer sequences, or fewer tokens in one pass: sampler, counters and activations shrink with them."""
    return (
        *_first_that_fits(search, pools, "max_num_seqs", "maxNumSeqs", _SEQUENCES),
        *_first_that_fits(search, pools, "max_num_batched_tokens", "maxNumBatchedTokens", _BATCHED_TOKENS),
    )


def _first_that_fits(
    search: Search, pools: Sequence[NodePool], field: str, name: str, values: tuple[int, ...]
) -> tuple[str, ...]:
    """The largest of the values, below the user's own, that makes it fit."""
    own = getattr(search.serving, field) or math.inf
    for value in values:
        if value >= own:
            continue
        fit = _run(_with(search, **{field: value}), pools)
        if fit is not None and _is_enough(search, fit):
            return (f"{name} {value} with a context of {fit.max_model_len} tokens on {_where(fit)}",)
    return ()


def _another_split(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """Another number of GPUs on the same nodes, where the user set one."""
    serving = search.serving
    if (serving.tensor_parallel_size, serving.pipeline_parallel_size, serving.gpus) == (None, None, None):
        return ()
    free = _with(search, tensor_parallel_size=None, pipeline_parallel_size=None, gpus=None)
    fit = _run(free, pools)
    if fit is None or not _is_enough(search, fit):
        return ()
    return (f"{_where(fit)} with a context of {fit.max_model_len} tokens",)


def _elsewhere(search: Search, pools: Sequence[NodePool]) -> tuple[str, ...]:
    """Nodes that are there and that the user's choice of GPU leaves out."""
    fit = _run(_with(search, min_gpu_memory_bytes=0), pools) if pools else None
    if fit is None or not _is_enough(search, fit):
        return ()
    return (
        f"{_where(fit)} of this cluster, which hardware.gpu leaves out, with a context of {fit.max_model_len} tokens",
    )


def _quantized(search: Search, pools: Sequence[NodePool], model_id: str) -> tuple[str, ...]:
    """Quantized builds of the same model that the catalogue has, the smallest first."""
    found: list[str] = []
    for sibling in quantized_siblings(model_id):
        facts = lookup(sibling)
        if facts is None or len(found) == _BUILDS_SHOWN:
            break
        try:
            shape = shape_from_facts(facts)
        except UnsupportedModelError:
            continue
        serving = replace(search.serving, quantization=None, dtype=None)
        fit = _run(Search(shape, serving, search.version), pools)
        if fit is not None and _is_enough(search, fit):
            found.append(f"{sibling} with a context of {fit.max_model_len} tokens on {_where(fit)}")
    return tuple(found)


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
    fits = [fit for card in checked_cards() if (fit := _run(free, (_nodes_of(card),))) is not None]
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


def _with(search: Search, **changed: Any) -> Search:
    """The same model and engine with other options."""
    return Search(search.shape, replace(search.serving, **changed), search.version)


def _is_enough(search: Search, fit: Fit) -> bool:
    """Whether it is what was asked for, and where no length was, of any use."""
    wanted = search.serving.max_model_len or search.limit
    return fit.max_model_len >= min(search.useful_tokens, wanted)


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
