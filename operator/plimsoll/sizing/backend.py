"""What a card and an engine release make of a model's caches: block size, packed formats, states and windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.cache_dtypes import PACKED, TURBOQUANT_BLOCK, TURBOQUANT_KEPT
from plimsoll.sizing.draft import draft_of, speculative_tokens
from plimsoll.sizing.engine import IN_FLIGHT_WINDOW, V1_ENGINE, block_size
from plimsoll.sizing.layers import (
    ChunkedLocal,
    CrossAttention,
    FullAttention,
    MultiHeadLatent,
    RecurrentState,
    SlidingWindow,
    SparseIndexer,
)

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.cache_dtypes import PackedFormat
    from plimsoll.sizing.draft import Draft
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.model import AttentionKernels, ModelShape
    from plimsoll.sizing.serving import Serving

# Sources: vLLM 0.33.0, platforms/cuda.py and v1/attention/backends; memory by release from the released wheels.
_SHARED_INDEXERS: Final = (0, 24, 0)  # before, layers that share an indexer held the cache of one too
_HYBRID_PREFIX_CACHING: Final = (0, 26, 0)  # on by default for models with states
_STATE_CHECKPOINTS: Final = (0, 29, 0)
_DELTA_ALIGNMENT: Final = (0, 33, 0)
_DELTA_CHUNK: Final = 64  # FlashInfer's prefill kernel of gated delta nets
_WIDE_BLOCK: Final = 64
_PACKED_BLOCK: Final = 16
_WIDE_HEADS: Final = (256, 512)  # of Gemma 3 and 4, whose image masks need a composite of two kernels
_WIDEST_HEAD: Final = 512
_KEPT_BYTES: Final = 2
_HOPPER: Final = 9
_BLACKWELL: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How the engine keeps caches.

    Attributes:
        prefix_caching: None is the release's default.
        hybrid_manager: off, windows beside full attention are kept in full.
        kv_cache_dtype: packed formats change what a token takes.
        draft: layers behind the model's own, for speculative decoding.
        speculative_tokens: proposed in one step, whoever proposes them.
    """

    prefix_caching: bool | None = None
    hybrid_manager: bool = True
    kv_cache_dtype: str = "auto"
    draft: Draft | None = None
    speculative_tokens: int = 0


DEFAULT_CACHES: Final = CacheOptions()


def cache_options(shape: ModelShape, serving: Serving, kv_cache_dtype: str) -> CacheOptions:
    """How the engine keeps caches with these options and the dtype that the cache gets."""
    return CacheOptions(
        prefix_caching=serving.enable_prefix_caching,
        hybrid_manager=not serving.disable_hybrid_kv_cache_manager,
        kv_cache_dtype=kv_cache_dtype,
        draft=draft_of(shape, serving),
        speculative_tokens=speculative_tokens(shape, serving),
    )


def kernel_block_size(
    shape: ModelShape,
    version: EngineVersion,
    accelerator: Accelerator | None,
    *,
    fp8_cache: bool,
    kv_cache_dtype: str = "auto",
) -> int:
    """Tokens of a block that every attention backend of the model takes on this card."""
    kernels = shape.kernels
    if kernels.fixed_block:
        return kernels.fixed_block
    packing = PACKED.get(kv_cache_dtype)
    if packing is not None:
        return least_block_size(kv_cache_dtype)
    generation = None if accelerator is None else accelerator.compute_capability[0]
    if generation is not None and (kernels.sparse or _is_wide(kernels, generation, fp8_cache=fp8_cache)):
        return _WIDE_BLOCK
    return block_size(
        version,
        accelerator,
        latent_attention=shape.latent_up_projection is not None,
        fp8_cache=fp8_cache,
    )


def least_block_size(kv_cache_dtype: str) -> int:
    """What a smaller block size of the user's is raised to."""
    packing = PACKED.get(kv_cache_dtype)
    return TURBOQUANT_BLOCK if packing is not None and packing.backend == "TURBOQUANT" else _PACKED_BLOCK


def _is_wide(kernels: AttentionKernels, generation: int, *, fp8_cache: bool) -> bool:
    if generation == _BLACKWELL:
        return kernels.prefix_masks and kernels.largest_head in _WIDE_HEADS
    return generation == _HOPPER and fp8_cache and kernels.largest_head == _WIDEST_HEAD


def caches_on(
    shape: ModelShape,
    version: EngineVersion,
    accelerator: Accelerator | None,
    options: CacheOptions = DEFAULT_CACHES,
) -> tuple[tuple[CacheKind, ...], ...]:
    """The caches of each layer, those of a draft last, as this card and this release keep them."""
    prefix_caching = options.prefix_caching
    if prefix_caching is None:
        prefix_caching = version.at_least(_HYBRID_PREFIX_CACHING)
    cuda = accelerator is not None and accelerator.platform == "cuda"  # AMD's numbers look like Hopper's
    generation = accelerator.compute_capability[0] if accelerator is not None and cuda else 0
    layers = (*shape.layers, *(options.draft.layers if options.draft is not None else ()))
    kinds = {cache for layer in layers for cache in layer.caches}
    if options.prefix_caching is None and all(isinstance(kind, RecurrentState) for kind in kinds):
        prefix_caching = False  # models without attention: vLLM calls it experimental there
    in_full = not options.hybrid_manager and any(isinstance(kind, FullAttention) for kind in kinds)
    made = {
        kind: _drafting(
            _made(kind, version, generation, prefix_caching=prefix_caching, in_full=in_full), options
        )
        for kind in kinds
    }
    apart = not version.at_least(V1_ENGINE)  # the first engine kept states beside the planned cache
    plain = tuple(
        tuple(made[cache] for cache in layer.caches if not (apart and isinstance(cache, RecurrentState)))
        for layer in layers
    )
    if not version.at_least(_SHARED_INDEXERS):
        plain = _each_indexed(plain)
    return _packed(plain, options.kv_cache_dtype, own=len(shape.layers))


def _each_indexed(layers: tuple[tuple[CacheKind, ...], ...]) -> tuple[tuple[CacheKind, ...], ...]:
    """With index keys in every layer, where any layer has them: that of sparse attention alone has no more."""
    keys = next((cache for held in layers for cache in held if isinstance(cache, SparseIndexer)), None)
    if keys is None:
        return layers
    return tuple(held if keys in held else (keys, *held) for held in layers)


def _packed(
    layers: tuple[tuple[CacheKind, ...], ...], kv_cache_dtype: str, *, own: int
) -> tuple[tuple[CacheKind, ...], ...]:
    """The caches in a packed format; TurboQuant leaves the layers at both ends of a pure decoder in 16 bits."""
    packing = PACKED.get(kv_cache_dtype)
    if packing is None:
        return layers
    hybrid = any(isinstance(cache, RecurrentState) for held in layers for cache in held)
    kept = TURBOQUANT_KEPT if packing.backend == "TURBOQUANT" and not hybrid else 0
    kept = min(kept, own // 2)
    return tuple(
        tuple(_pack(cache, packing, packed=kept <= layer < own - kept or layer >= own) for cache in held)
        for layer, held in enumerate(layers)
    )


def _pack(kind: CacheKind, packing: PackedFormat, *, packed: bool) -> CacheKind:
    match kind:
        case FullAttention() | SlidingWindow() | ChunkedLocal() if packed:
            return replace(kind, pair_bytes=packing.pair_bytes(kind.head_size))
        case FullAttention() | SlidingWindow() | ChunkedLocal():
            return replace(kind, pair_bytes=2 * kind.head_size * _KEPT_BYTES)
        case _:
            return kind


def _made(
    kind: CacheKind, version: EngineVersion, generation: int, *, prefix_caching: bool, in_full: bool
) -> CacheKind:
    match kind:
        case RecurrentState():
            return _state(kind, version, generation, prefix_caching=prefix_caching)
        case MultiHeadLatent():
            return replace(kind, packed_fp8=kind.packed_fp8 and generation == _HOPPER)
        case CrossAttention() if not version.at_least(IN_FLIGHT_WINDOW):
            return replace(kind, batches=1)
        case SlidingWindow() | ChunkedLocal() if in_full:
            return FullAttention(num_kv_heads=kind.num_kv_heads, head_size=kind.head_size)
        case _:
            return kind


def _drafting(kind: CacheKind, options: CacheOptions) -> CacheKind:
    """With room in a recurrent state for the tokens that are proposed."""
    if not isinstance(kind, RecurrentState):
        return kind
    return replace(kind, speculative=options.speculative_tokens)


def _state(
    kind: RecurrentState, version: EngineVersion, generation: int, *, prefix_caching: bool
) -> RecurrentState:
    """Checkpoints inside a prefill: Mamba 2 everywhere, gated delta nets where FlashInfer's kernel runs."""
    by_kernel = kind.alignment > 1
    keeps = (
        prefix_caching
        and kind.checkpoints > 0
        and version.at_least(_STATE_CHECKPOINTS)
        and (not by_kernel or generation in (_HOPPER, _BLACKWELL))
    )
    aligned = keeps and by_kernel and version.at_least(_DELTA_ALIGNMENT)
    return replace(
        kind,
        per_block=prefix_caching,
        checkpoints=kind.checkpoints if keeps else 0,
        alignment=_DELTA_CHUNK if aligned else 1,
    )
