"""What a start takes beyond its steady state: runners, compiling, tuning, a memory shared with the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from plimsoll.sizing import overheads
from plimsoll.sizing.interval import NOTHING, Interval
from plimsoll.sizing.repacked import repacked
from plimsoll.sizing.runner import graphs_in_budget, second_runner
from plimsoll.units import GIB
from support.launches import built

if TYPE_CHECKING:
    pass

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QWEN = "Qwen/Qwen3-8B"  # 151,936 rows of 4,096 elements
VISION = "Qwen/Qwen3-VL-8B-Instruct"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
DELTA = "Qwen/Qwen3.5-9B"
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
TABLE = 151936 * 4096 * 2


@pytest.mark.parametrize(
    ("model_id", "section", "before", "since"),
    [
        pytest.param(QWEN, None, (0, 21, 0), (0, 22, 0), id="qwen3-first"),
        pytest.param(QWEN, AWQ, (0, 23, 0), (0, 24, 0), id="quantized-later"),
        pytest.param(LLAMA, None, (0, 22, 0), (0, 23, 0), id="llama-next"),
        pytest.param("google/gemma-2-9b-it", None, (0, 24, 0), (0, 25, 0), id="then-all-dense"),
        pytest.param("Qwen/Qwen1.5-MoE-A2.7B-Chat", None, (0, 23, 0), (0, 24, 0), id="one-with-experts"),
        pytest.param(MIXTRAL, None, (0, 28, 0), (0, 29, 0), id="the-other-experts"),
        pytest.param(DELTA, None, (0, 28, 0), (0, 29, 0), id="recurrent-states"),
    ],
)
def test_the_second_runner_came_class_by_class(
    model_id: str,
    section: dict[str, Any] | None,
    before: tuple[int, int, int],
    since: tuple[int, int, int],
) -> None:
    assert [second_runner(built(model_id, version, section=section)) for version in (before, since)] == [
        False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model_id", "version", "reserved"),
    [
        pytest.param(LLAMA, (0, 19, 0), False, id="no-runner-had-it-yet"),
        pytest.param(LLAMA, (0, 22, 0), True, id="first-runner"),
        pytest.param(LLAMA, (0, 28, 0), False, id="second-runner-at-first"),
        pytest.param(MIXTRAL, (0, 28, 0), True, id="first-runner-beside-it"),
        pytest.param(LLAMA, (0, 29, 0), True, id="second-runner"),
    ],
)
def test_a_budget_holds_graphs_by_runner_and_release(
    model_id: str, version: tuple[int, int, int], *, reserved: bool
) -> None:
    launch = built(model_id, version, tp=2)
    assert graphs_in_budget(launch) is reserved
    assert (launch.costs(4096)[0].graphs != NOTHING) is reserved
    assert launch.graphs != NOTHING


@pytest.mark.parametrize(
    ("model_id", "version", "tp", "options", "table"),
    [
        pytest.param(QWEN, (0, 27, 1), 1, {}, TABLE, id="text"),
        pytest.param(QWEN, (0, 27, 1), 2, {}, TABLE // 2, id="rows-on-a-rank"),
        pytest.param(QWEN, (0, 27, 1), 1, {"enforce_eager": True}, 0, id="eager"),
        pytest.param(QWEN, (0, 11, 0), 1, {}, 0, id="before-fused-kernels-were-measured"),
        pytest.param(VISION, (0, 27, 1), 1, {}, 0, id="behind-an-encoder"),
    ],
)
def test_compiling_takes_the_embedding_table_once_more(
    model_id: str, version: tuple[int, int, int], tp: int, options: dict[str, Any], table: int
) -> None:
    launch = built(model_id, version, tp=tp, **options)
    assert overheads.compiled_table(launch) == Interval(0, table, table)


def test_the_peak_without_a_compile_cache_is_the_logged_one() -> None:
    # Qwen3 8B, vLLM 0.27.1 on an RTX 4090: 1.18 GiB at the first start, 0.19 with the cache.
    launch = built(QWEN, (0, 27, 1), card="RTX-4090")
    peak = overheads.activations(launch, launch.limits(8192), 8192, first=True, last=True)
    assert round(peak.expected / GIB, 2) == 1.17
    assert peak.low / GIB <= 0.19 <= peak.high / GIB


@pytest.mark.parametrize(
    ("section", "version", "kept"),
    [
        pytest.param(AWQ, (0, 28, 0), TABLE, id="beside-quantized-weights"),
        pytest.param(AWQ, (0, 27, 0), 0, id="not-before"),
        pytest.param(None, (0, 28, 0), 0, id="not-beside-16-bits"),
    ],
)
def test_a_copy_of_the_table_may_stay(
    section: dict[str, Any] | None, version: tuple[int, int, int], kept: int
) -> None:
    assert overheads.kept_table(built(QWEN, version, section=section)) == Interval(0, 0, kept)


def test_where_the_host_shares_its_memory_weights_take_some_of_it() -> None:
    weights = 23 * GIB
    own, shared = (
        overheads.loading(built(LLAMA, (0, 27, 0), card=card), weights) for card in ("H100", "GB10")
    )
    assert shared.low == own.low
    assert shared.expected - own.expected == -(-20 * GIB * 4 // 100)
    assert shared.high - own.high == 3 * GIB
    assert overheads.loading(built(LLAMA, (0, 27, 0), card="GB10"), 3 * GIB) == overheads.loading(
        built(LLAMA, (0, 27, 0)), 3 * GIB
    )


@pytest.mark.parametrize(
    ("model_id", "version", "tuned"),
    [
        pytest.param(DELTA, (0, 18, 0), True, id="gated-delta"),
        pytest.param(DELTA, (0, 17, 0), False, id="before"),
        pytest.param(LLAMA, (0, 18, 0), False, id="without"),
    ],
)
def test_kernels_of_gated_delta_networks_are_tuned_inside_the_profile(
    model_id: str, version: tuple[int, int, int], *, tuned: bool
) -> None:
    launch = built(model_id, version)
    beyond = overheads.non_torch(launch) - overheads.non_torch_constant(launch).bytes
    assert (beyond.expected > 0) is tuned


@pytest.mark.parametrize(
    ("section", "version", "first"),
    [
        pytest.param(AWQ, (0, 16, 0), 14336, id="its-own-width"),
        pytest.param(AWQ, (0, 20, 0), 14336, id="the-wider-of-two"),
        pytest.param(None, (0, 16, 0), 14336, id="triton"),
    ],
)
def test_scratch_of_four_bit_experts_follows_the_release(
    section: dict[str, Any] | None, version: tuple[int, int, int], first: int
) -> None:
    launch = built(MIXTRAL, version, section=section)
    narrow = replace(launch, tensor_parallel_size=8)  # 1,792 a rank, below the hidden 4,096
    assert overheads.expert_workspace(launch, 1024) == 2 * 1024 * 2 * (first + 28672)
    of_own_width = section is not None and version < (0, 20, 0)
    assert overheads.expert_workspace(narrow, 1024) == 2 * 1024 * 2 * (
        (2048 if of_own_width else 4096) + 4096
    )


FP8_BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("card", "section", "grows"),
    [
        pytest.param("A100-80GB", FP8_BLOCKS, True, id="no-8-bit-floats"),
        pytest.param("L40S", FP8_BLOCKS, False, id="8-bit-floats"),
        pytest.param("A100-80GB", None, False, id="16-bits"),
    ],
)
def test_scales_of_fp8_blocks_are_laid_out_by_row_where_the_card_computes_in_16_bits(
    card: str, section: dict[str, Any] | None, *, grows: bool
) -> None:
    launch = built(QWEN, (0, 33, 0), card=card, section=section)
    # Of a layer 151 million linear weights: 1/128 of them in 2 bytes, instead of 1/16384 in 4.
    rows = 4096 + 2 * 1024 + 4096 + 2 * 12288
    linear = 36 * (rows * 4096 + 4096 * 12288)
    added = linear // 128 * 2 - linear // 16384 * 4
    assert repacked(launch, 0) == Interval(*[added if grows else 0] * 3)


@pytest.mark.parametrize(
    ("model_id", "version", "tokens"),
    [
        pytest.param(DELTA, (0, 26, 0), 32768, id="first-runner"),
        pytest.param(DELTA, (0, 25, 0), 0, id="before"),
        pytest.param(DELTA, (0, 29, 0), 0, id="second-runner"),
        pytest.param(LLAMA, (0, 26, 0), 0, id="without-states"),
    ],
)
def test_the_estimate_of_graphs_held_a_whole_batch_of_a_recurrent_model(
    model_id: str, version: tuple[int, int, int], tokens: int
) -> None:
    small, large = (
        built(model_id, version, card="H100", max_num_batched_tokens=size).graphs.high
        for size in (16384, 49152)
    )
    assert large - small == tokens * 128 * 1024


@pytest.mark.parametrize(
    ("version", "card", "sequences"),
    [
        pytest.param((0, 8, 3), "RTX-4090", 1024, id="many-on-every-card"),
        pytest.param((0, 8, 5), "H100", 256, id="few-on-every-card"),
        pytest.param((0, 9, 2), "H100", 1024, id="many-on-a-large-card"),
        pytest.param((0, 9, 2), "RTX-4090", 256, id="few-on-a-small-one"),
    ],
)
def test_how_many_sequences_are_the_default_follows_the_release(
    version: tuple[int, int, int], card: str, sequences: int
) -> None:
    assert built(LLAMA, version, card=card).limits(4096).max_num_seqs == sequences


@pytest.mark.parametrize(
    ("model_id", "version", "tables"),
    [
        pytest.param(VISION, (0, 31, 0), 3, id="four-times-the-positions"),
        pytest.param(VISION, (0, 32, 0), 0, id="once"),
        pytest.param(QWEN, (0, 31, 0), 0, id="text-alone"),
    ],
)
def test_rotary_tables_behind_an_encoder_were_longer(
    model_id: str, version: tuple[int, int, int], tables: int
) -> None:
    launch = built(model_id, version)
    assert launch.shape.rope is not None
    size = tables * launch.shape.rope.table_bytes(2)
    assert repacked(launch, 0) == Interval(size, size, size)
