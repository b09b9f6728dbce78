"""Cases made by Hypothesis: caches of every kind, alone and mixed, on even and uneven stages."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from plimsoll.sizing.families.mixers import Mamba1, Mamba2

if TYPE_CHECKING:
    from plimsoll.sizing.layers import RecurrentState

GIB = 1024**3
HEADS = st.sampled_from((1, 2, 3, 4, 5, 8, 12, 16, 32))
WIDTHS = st.sampled_from((64, 80, 96, 128, 192, 256, 512))
BLOCKS = st.sampled_from((16, 32, 64, 128))
AVAILABLE = st.sampled_from((0, GIB // 16, GIB, 2 * GIB, 8 * GIB, 24 * GIB, 40 * GIB))
WINDOWS = st.sampled_from((1, 15, 16, 17, 127, 128, 512, 1024, 4096, 8192))


@st.composite
def full(draw: st.DrawFn) -> dict[str, Any]:
    pair = draw(st.sampled_from((None, None, None, 264, 136, 100)))
    return {
        "kind": "FullAttention",
        "num_kv_heads": draw(HEADS),
        "head_size": draw(WIDTHS),
        "pair_bytes": pair,
    }


def sliding(window: st.SearchStrategy[int] = WINDOWS) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"kind": st.just("SlidingWindow"), "num_kv_heads": HEADS, "head_size": WIDTHS, "window": window}
    )


CHUNKED = st.fixed_dictionaries(
    {
        "kind": st.just("ChunkedLocal"),
        "num_kv_heads": HEADS,
        "head_size": WIDTHS,
        "chunk": st.sampled_from((512, 8192)),
    }
)
CROSS = st.fixed_dictionaries({"kind": st.just("CrossAttention"), "num_kv_heads": HEADS, "head_size": WIDTHS})
LATENT = st.fixed_dictionaries(
    {
        "kind": st.just("MultiHeadLatent"),
        "kv_lora_rank": st.just(512),
        "qk_rope_head_dim": st.just(64),
        "packed_fp8": st.booleans(),
    }
)
INDEXER = st.fixed_dictionaries({"kind": st.just("SparseIndexer"), "head_size": st.sampled_from((128, 256))})


@st.composite
def states(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One or two sizes of recurrent state, all kept in one way, as the engine does."""
    per_block = draw(st.booleans())
    checkpoints = draw(st.sampled_from((0, 0, 1))) if per_block else 0
    alignment = draw(st.sampled_from((1, 1, 64))) if checkpoints else 1
    sizes = draw(st.lists(st.integers(1, 6_000_000), min_size=1, max_size=2, unique=True))
    return [
        {
            "kind": "State",
            "bytes": size,
            "checkpoints": checkpoints,
            "alignment": alignment,
            "per_block": per_block,
        }
        for size in sizes
    ]


@st.composite
def alone(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(st.one_of(full(), sliding(), CHUNKED))]


@st.composite
def growing_alike(draw: st.DrawFn) -> list[dict[str, Any]]:
    window = draw(WINDOWS)
    return draw(st.lists(draw(st.sampled_from((full(), sliding(st.just(window))))), min_size=2, max_size=3))


@st.composite
def mixed(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(full()), *draw(st.lists(st.one_of(full(), sliding(), CHUNKED), min_size=1, max_size=3))]


@st.composite
def latent(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(LATENT), *draw(st.lists(st.one_of(INDEXER, sliding(), CHUNKED), max_size=1))]


@st.composite
def hybrid(draw: st.DrawFn) -> list[dict[str, Any]]:
    if draw(st.booleans()):
        return [draw(LATENT) | {"packed_fp8": False}, *draw(states())]
    return [draw(full()), *draw(st.lists(sliding(), max_size=1)), *draw(states())]


@st.composite
def with_encoder(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(full()), draw(CROSS)]


MODELS = (alone, growing_alike, mixed, latent, hybrid, with_encoder, states)


@st.composite
def kinds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The distinct caches of one model."""
    return draw(draw(st.sampled_from(MODELS))())


@st.composite
def stages(draw: st.DrawFn, layers: int) -> list[list[int]]:
    """First and one past the last layer of one to four stages, none empty."""
    cuts = draw(st.lists(st.integers(1, max(1, layers - 1)), max_size=3, unique=True)) if layers > 1 else []
    edges = [0, *sorted(cuts), layers]
    return [list(pair) for pair in pairwise(edges)]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """One case for the planner."""
    distinct = draw(kinds())
    of_layer = st.lists(st.integers(0, len(distinct) - 1), max_size=2, unique=True)
    pattern = draw(st.lists(of_layer, min_size=1, max_size=8).filter(any))
    used = sorted({index for held in pattern for index in held})
    pattern = [[used.index(index) for index in held] for held in pattern]
    layers = (pattern * draw(st.integers(1, 12)))[:60]
    cut = draw(stages(len(layers)).filter(lambda cut: all(any(layers[begin:end]) for begin, end in cut)))
    element_bytes = draw(st.sampled_from((1, 2, 2)))
    return {
        "kinds": [distinct[index] for index in used],
        "layers": layers,
        "stages": cut,
        "tp": draw(st.sampled_from((1, 2, 4, 8))),
        "element_bytes": element_bytes,
        "block_size": draw(BLOCKS),
        "max_model_len": draw(st.one_of(st.integers(1, 2_000_000), st.sampled_from((2048, 8192, 131072)))),
        "in_flight": draw(st.sampled_from((2048, 4096, 16384, 24576, 32768))),
        "available": [draw(AVAILABLE) + draw(st.integers(0, GIB // 64)) for _ in cut],
    }


SPLITS = st.sampled_from((1, 2, 4, 8))
POWERS = st.sampled_from((16, 32, 64, 128))


@st.composite
def recurrent_states(draw: st.DrawFn) -> tuple[dict[str, Any], RecurrentState]:
    """What vLLM's calculator of state shapes is asked, and the state that Plimsoll's families make of the same widths."""
    size, kernel = draw(SPLITS), draw(st.integers(2, 8))
    heads, head, state = 8 * draw(st.integers(1, 16)), draw(POWERS), draw(POWERS)
    inner = heads * head
    asked = {"tp_world_size": size, "intermediate_size": inner, "state_size": state, "conv_kernel": kernel}
    if draw(st.booleans()):
        mamba1 = Mamba1(inner=inner, state=state, kernel=kernel, rank=16)
        return {"of": "mamba1_state_shape", "arguments": asked}, mamba1.cache
    groups = draw(st.sampled_from((1, 2, 3, 8)))
    mamba2 = Mamba2(heads=heads, inner=inner, groups=groups, state=state, kernel=kernel)
    asked |= {"n_groups": groups, "num_heads": heads, "head_dim": head}
    return {"of": "mamba2_state_shape", "arguments": asked}, mamba2.cache
