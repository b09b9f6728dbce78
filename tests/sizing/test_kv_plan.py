from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.kv_plan import CacheLayout, cache_layout
from plimsoll.sizing.layers import (
    CacheKind,
    ChunkedLocal,
    FullAttention,
    MultiHeadLatent,
    NoCache,
    RecurrentState,
    SlidingWindow,
    SparseIndexer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = FullAttention(num_kv_heads=8, head_size=128)
SLIDING = SlidingWindow(num_kv_heads=8, head_size=128, window=1024)


def layout_of(
    kinds: Sequence[CacheKind | tuple[CacheKind, ...]],
    *,
    null_block: bool = True,
    by_concurrency: bool = True,
    stages: Sequence[tuple[int, int]] | None = None,
) -> CacheLayout:
    return cache_layout(
        kinds,
        stages=stages or [(0, len(kinds))],
        tensor_parallel_size=1,
        element_bytes=2,
        block_size=16,
        reserve_null_block=null_block,
        tokens_by_concurrency=by_concurrency,
    )


@pytest.mark.parametrize(
    ("sliding", "full", "groups"),
    [
        pytest.param(52, 10, [9, 9, 9, 9, 8, 8, 10], id="gemma-3-27b"),
        pytest.param(21, 21, [21, 21], id="gemma-2-9b"),
        pytest.param(12, 12, [12, 12], id="gpt-oss-20b"),
        pytest.param(5, 4, [5, 4], id="nearly-equal-share-one-size"),
        pytest.param(6, 4, [3, 3, 4], id="half-as-many-again-are-cut"),
    ],
)
def test_layers_are_grouped_as_vllm_does(sliding: int, full: int, groups: list[int]) -> None:
    layout = layout_of([SLIDING] * sliding + [FULL] * full)
    assert groups == [len(group.layers) for group in layout.groups]
    assert layout.bytes_per_block == max(groups) * 16 * 8 * 2 * 128 * 2


def test_layers_without_a_cache_cost_nothing() -> None:
    assert (
        layout_of([FULL, NoCache(), FULL]).token_bytes_by_stage
        == layout_of([FULL, FULL]).token_bytes_by_stage
    )


def test_pages_that_cannot_be_brought_to_one_size_are_refused() -> None:
    latent = MultiHeadLatent(kv_lora_rank=512, qk_rope_head_dim=64)
    with pytest.raises(UnsupportedModelError, match="cannot be brought to one size"):
        layout_of([latent, ChunkedLocal(num_kv_heads=8, head_size=128, chunk=8192)])


def test_windows_beside_latents_of_no_common_size_are_kept_in_full() -> None:
    latent = MultiHeadLatent(kv_lora_rank=512, qk_rope_head_dim=64)
    layout = layout_of([latent, SLIDING])
    assert [group.layers for group in layout.groups] == [(0, 1)]
    assert layout.need_blocks(131072, 2048) == 131072 // 16


def test_a_refusal_names_the_length_of_the_first_stage_that_is_too_small() -> None:
    layout = layout_of([FULL, FULL, FULL], stages=((0, 1), (1, 3)))
    first, last = layout.bytes_per_block_by_stage
    available = (9 * first, 5 * last)
    assert layout.longest(4096, 2048, available) == 4 * 16
    assert layout.estimated_length(4096, 2048, available) == 8 * 16
    assert layout.estimated_length(8 * 16, 2048, available) == 4 * 16


def test_full_layers_of_different_width_share_a_group() -> None:
    layout = layout_of([FULL, FullAttention(num_kv_heads=4, head_size=128)])
    assert [group.layers for group in layout.groups] == [(0, 1)]
    assert layout.bytes_per_block == 16 * (8 + 4) * 2 * 128 * 2


def test_smaller_pages_beside_a_window_take_more_tokens() -> None:
    layout = layout_of([SLIDING, FullAttention(num_kv_heads=4, head_size=128)])
    assert [group.block_size for group in layout.groups] == [16, 32]
    assert layout.need_blocks(4096, 2048) == (192 + 1) + 128


def test_pages_that_do_not_divide_are_padded() -> None:
    layout = layout_of([SLIDING, FullAttention(num_kv_heads=3, head_size=128)])
    assert [group.block_size for group in layout.groups] == [16, 16]
    assert layout.bytes_per_block == 16 * 8 * 2 * 128 * 2


NEMOTRON = RecurrentState(
    name="Mamba 2",
    conv_channels=128 * 80,
    conv_rows=3,
    group_channels=2 * 128,
    groups=8,
    state_elements=128 * 80 * 128,
    state_element_bytes=4,
    checkpoints=1,
)


@pytest.mark.parametrize(
    ("per_block", "need"),
    [pytest.param(True, 100 + 7 * 3, id="prefix-caching"), pytest.param(False, 100 + 7, id="without")],
)
def test_a_state_widens_the_blocks_of_attention(per_block: bool, need: int) -> None:
    state = replace(NEMOTRON, per_block=per_block)
    layout = layout_of([state] * 27 + [FULL] * 4)
    assert layout.block_size == 1312
    assert [len(group.layers) for group in layout.groups] == [4, 4, 4, 4, 4, 4, 3, 4]
    assert layout.bytes_per_block == 21_495_808
    assert need == layout.need_blocks(131072, 16384)


def test_a_rank_holds_at_least_one_group_of_a_state() -> None:
    assert NEMOTRON.state_bytes(1, 2) == 3 * 12288 * 2 + 128 * 80 * 128 * 4
    assert NEMOTRON.state_bytes(16, 2) == 3 * (640 + 256) * 2 + 8 * 80 * 128 * 4


def test_index_keys_share_the_group_of_the_latents() -> None:
    latent = MultiHeadLatent(kv_lora_rank=512, qk_rope_head_dim=64, packed_fp8=True)
    layout = layout_of([(SparseIndexer(head_size=128), latent)] * 3)
    assert [group.layers for group in layout.groups] == [(0, 0, 1, 1, 2, 2)]
    assert layout.bytes_per_block == 3 * 16 * (132 + 1152)
    assert latent.token_bytes(8, 1) == 656


@pytest.mark.parametrize(
    ("by_concurrency", "tokens"),
    [pytest.param(True, 39290, id="since-0.20.1"), pytest.param(False, 24576, id="before")],
)
def test_the_logged_size_depends_on_the_release(by_concurrency: bool, tokens: int) -> None:
    window = SlidingWindow(num_kv_heads=8, head_size=128, window=4096)
    layout = layout_of([window] * 32, by_concurrency=by_concurrency)
    assert tokens == layout.capacity(32768, 16384, (3 * 2**30,)).tokens


def test_the_null_block_is_left_out_of_every_fit_since_0_29() -> None:
    available = (8192 * 2 * 16 * 8 * 128 * 2 * 32,)
    assert layout_of([FULL] * 32, null_block=False).fits(131072, 0, available)
    assert not layout_of([FULL] * 32, null_block=True).fits(131072, 0, available)


KINDS = st.lists(st.sampled_from([FULL, SLIDING]), min_size=1, max_size=40)


@given(
    kinds=KINDS,
    shorter=st.integers(1, 200_000),
    longer=st.integers(1, 200_000),
    in_flight=st.integers(0, 20_000),
)
def test_more_tokens_never_need_less(
    kinds: list[CacheKind], shorter: int, longer: int, in_flight: int
) -> None:
    layout = layout_of(kinds)
    shorter, longer = sorted((shorter, longer))
    assert layout.need_blocks(shorter, in_flight) <= layout.need_blocks(longer, in_flight)


@given(kinds=KINDS, less=st.integers(0, 2**36), more=st.integers(0, 2**36), limit=st.integers(1, 200_000))
def test_more_memory_never_fits_less(kinds: list[CacheKind], less: int, more: int, limit: int) -> None:
    layout = layout_of(kinds)
    less, more = sorted((less, more))
    assert layout.longest(limit, 4096, (less,)) <= layout.longest(limit, 4096, (more,))


@given(kinds=KINDS, available=st.integers(0, 2**36), limit=st.integers(1, 200_000))
def test_the_longest_context_fits_and_one_token_more_does_not(
    kinds: list[CacheKind], available: int, limit: int
) -> None:
    layout = layout_of(kinds)
    longest = layout.longest(limit, 4096, (available,))
    assert longest == 0 or layout.fits(longest, 4096, (available,))
    assert longest == limit or not layout.fits(longest + 1, 4096, (available,))


@given(kinds=KINDS)
def test_every_layer_is_in_one_group(kinds: list[CacheKind]) -> None:
    layers = [layer for group in layout_of(kinds).groups for layer in group.layers]
    assert sorted(layers) == list(range(len(kinds)))
