"""Peaks, graphs and buffers of one rank, held against sums made by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from plimsoll.sizing import overheads
from plimsoll.sizing.interval import NOTHING, Interval, exactly
from plimsoll.units import MIB
from support.launches import built

if TYPE_CHECKING:
    pass

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"  # 32 layers, hidden 4096, intermediate 14336, vocabulary 128256
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"  # hidden 4096, 8 experts of 14336, 2 for each token
QWEN_MOE = "Qwen/Qwen3-30B-A3B"  # hidden 2048: three tenths of what goes with the width is halved
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
QWEN_VL = "Qwen/Qwen2.5-VL-7B-Instruct"
WIDTH = 8192 * 4096 * 2  # bytes of one tensor of the model's width with H100's batch
ENTRIES = 1024 * 128256


@pytest.mark.parametrize(
    ("version", "length", "expected"),
    [
        pytest.param((0, 33, 0), 8192, 14 * ENTRIES, id="flashinfer"),
        pytest.param((0, 32, 0), 8192, 2 * ENTRIES, id="no-parameters-profiled"),
        pytest.param((0, 28, 0), 8192, 2 * ENTRIES, id="second-runner-before-all-had-it"),
        pytest.param((0, 22, 0), 8192, 14 * ENTRIES, id="first-runner"),
        pytest.param((0, 19, 0), 8192, 29 * ENTRIES // 2, id="triton"),
        pytest.param((0, 16, 0), 8192, 77 * ENTRIES // 2, id="sort"),
        pytest.param((0, 7, 0), 32768, 77 * ENTRIES // 2, id="first-engine-whole-prompts"),
    ],
)
def test_the_sampler_follows_the_release(version: tuple[int, int, int], length: int, expected: int) -> None:
    launch = built(LLAMA, version)
    found = overheads.sampler(launch, launch.limits(length), length).expected
    scratch = 53687092 if version >= (0, 17, 0) else 0  # 0.05 GiB
    assert found == expected + scratch


@pytest.mark.parametrize(
    ("version", "length", "tokens", "samples"),
    [
        pytest.param((0, 7, 0), 32768, 2048, True, id="whole-prompts"),
        pytest.param((0, 7, 0), 32769, 2048, False, id="short-chunks"),
        pytest.param((0, 7, 0), 32769, 8192, True, id="long-chunks"),
        pytest.param((0, 8, 0), 32769, 2048, True, id="second-engine"),
    ],
)
def test_the_first_engine_sampled_nothing_in_short_chunks(
    version: tuple[int, int, int], length: int, tokens: int, *, samples: bool
) -> None:
    launch = built(LLAMA, version, max_num_batched_tokens=tokens)
    assert (overheads.sampler(launch, launch.limits(length), length) != NOTHING) is samples


def test_the_forward_pass_splits_its_inner_width_over_the_ranks() -> None:
    inner = 3 * 14336 * 8192 * 2
    whole, half = (overheads.forward(built(LLAMA, (0, 19, 0), tp=size), 8192) for size in (1, 2))
    assert whole == Interval(3 * WIDTH + inner, 21 * WIDTH // 5 + 1 + inner, 5 * WIDTH + inner)
    assert whole.low - half.low == inner // 2


def test_the_scratch_of_experts_is_kept_since_0_13_and_transient_before() -> None:
    # T x k rows twice: the wider of hidden and intermediate, and of hidden and twice the intermediate.
    scratch = 2 * (8192 * 2 * 14336 + 8192 * 2 * 28672)
    before, since = built(MIXTRAL, (0, 12, 0)), built(MIXTRAL, (0, 13, 0))
    limits = since.limits(8192)
    assert overheads.expert_workspace(since, 8192) == scratch
    assert overheads.forward(before, 8192).low - overheads.forward(since, 8192).low == scratch
    kept = [overheads.buffers(launch, limits, first=True, last=False).low for launch in (before, since)]
    assert kept == [0, scratch]


def test_whole_experts_need_scratch_of_their_full_width() -> None:
    sliced = built(MIXTRAL, (0, 19, 0), tp=2)
    whole = replace(sliced, serving=replace(sliced.serving, enable_expert_parallel=True))
    assert overheads.expert_workspace(sliced, 8192) == 2 * (8192 * 2 * 7168 + 8192 * 2 * 14336)
    assert overheads.expert_workspace(whole, 8192) == 2 * (8192 * 2 * 14336 + 8192 * 2 * 28672)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        pytest.param({}, Fraction(1), id="all-sizes"),
        # 1, 2, 4, 8, 16, 24 and 32 tokens, and the first costs as ten.
        pytest.param({"max_num_seqs": 16}, Fraction(7 + 10, 51 + 10), id="few-sequences"),
        pytest.param({"enforce_eager": True}, Fraction(0), id="eager"),
    ],
)
def test_graphs_grow_with_layers_and_captured_sizes(options: dict[str, Any], share: Fraction) -> None:
    graphs = built(LLAMA, (0, 19, 0), **options).graphs
    amount = int(share * 32 * MIB)
    assert graphs == (Interval(14 * amount, 25 * amount, 33 * amount) if amount else NOTHING)


@pytest.mark.parametrize(
    ("card", "version", "captured"),
    [
        pytest.param("H100", (0, 33, 0), 51, id="up-to-512-tokens"),
        pytest.param("B200", (0, 33, 0), 83, id="up-to-1024-tokens"),
        pytest.param("B200", (0, 28, 0), 51, id="as-everywhere-before"),
    ],
)
def test_large_cards_capture_larger_batches(card: str, version: tuple[int, int, int], captured: int) -> None:
    graphs = built(LLAMA, version, card=card).graphs
    per_layer = 14 if version >= (0, 29, 0) else 25
    assert graphs.expected == per_layer * int(Fraction(captured + 10, 51 + 10) * 32 * MIB)


@pytest.mark.parametrize(
    ("card", "version", "per_layer"),
    [
        pytest.param("RTX-PRO-6000", (0, 15, 1), 104, id="many-kernels"),
        pytest.param("RTX-PRO-6000", (0, 16, 0), 43, id="fewer"),
        pytest.param("B200", (0, 15, 1), 33, id="fused"),
    ],
)
def test_graphs_of_fp4_experts_follow_the_kernels_of_the_card(
    card: str, version: tuple[int, int, int], per_layer: int
) -> None:
    launch = built(QWEN_MOE, version, card=card, section=NVFP4)
    assert launch.graphs.expected == per_layer * int(Fraction(85, 100) * len(launch.shape.layers) * MIB)


def test_the_first_engine_passed_experts_chunks_of_tokens() -> None:
    launch = built(MIXTRAL, (0, 7, 3))
    chunk = 2 * 32768 * 2 * (3 * 14336 + 4096)
    assert [overheads.expert_workspace(launch, tokens) for tokens in (16384, 32768, 131072)] == [
        chunk // 2, chunk, chunk,
    ]  # fmt: skip


def test_off_cuda_the_interval_is_wider_by_a_share_of_the_card() -> None:
    cuda = built(LLAMA, (0, 33, 0))
    assert cuda.accelerator is not None
    rocm = replace(cuda, accelerator=replace(cuda.accelerator, platform="rocm"))
    share = -(-cuda.accelerator.memory_bytes // 100)
    inner, outer = overheads.non_torch(cuda), overheads.non_torch(rocm)
    assert (outer.high - inner.high, outer.expected - inner.expected) == (share, 0)
    assert inner.low - outer.low == cuda.accelerator.memory_bytes // 100


@pytest.mark.parametrize(
    ("card", "tp", "version", "name"),
    [
        ("H100", 1, (0, 19, 0), "NON_TORCH_SINGLE"),
        ("H100", 1, (0, 11, 0), "NON_TORCH_SINGLE"),
        ("GB10", 1, (0, 19, 0), "NON_TORCH_SINGLE"),
        ("L4", 1, (0, 19, 0), "NON_TORCH_ELSEWHERE"),
        ("L4", 1, (0, 11, 0), "NON_TORCH_ELSEWHERE"),
        ("L4", 1, (0, 7, 3), "NON_TORCH_SINGLE"),
        ("H100", 8, (0, 19, 0), "NON_TORCH_EIGHT"),
        ("H100", 2, (0, 19, 0), "NON_TORCH_LINKED"),
        ("A100-40GB", 2, (0, 11, 0), "NON_TORCH_LINKED"),
        ("L40S", 2, (0, 19, 0), "NON_TORCH_UNLINKED"),
        ("RTX-3090", 4, (0, 11, 0), "NON_TORCH_UNLINKED"),
    ],
)
def test_memory_outside_torch_goes_by_how_cards_are_joined(
    card: str, tp: int, version: tuple[int, int, int], name: str
) -> None:
    launch = built(LLAMA, version, card=card, tp=tp)
    constant = overheads.non_torch_constant(launch)
    assert constant.name == name
    assert constant.since <= version
    assert overheads.non_torch(launch) == constant.bytes


@pytest.mark.parametrize(
    ("version", "counters"),
    [
        pytest.param((0, 33, 0), exactly(4 * ENTRIES + ENTRIES // 8), id="second-runner"),
        pytest.param((0, 27, 0), exactly(4 * ENTRIES + ENTRIES // 8), id="before-all-had-it"),
        pytest.param((0, 26, 0), NOTHING, id="outside-every-term"),
        pytest.param((0, 22, 0), NOTHING, id="first-runner"),
    ],
)
def test_penalties_are_counted_on_the_card_by_the_second_runner(
    version: tuple[int, int, int], counters: Interval
) -> None:
    launch = built(LLAMA, version)
    found = overheads.buffers(launch, launch.limits(8192), first=True, last=True)
    assert found == counters + exactly(ENTRIES // 8)


def test_embeddings_per_layer_are_kept_for_the_largest_batch() -> None:
    launch = built(LLAMA, (0, 19, 0))
    keeps = replace(launch, shape=replace(launch.shape, kept_per_token=35 * 256))
    bare, more = (overheads.buffers(one, one.limits(8192), first=True, last=True) for one in (launch, keeps))
    assert more - bare == exactly(launch.limits(8192).max_num_batched_tokens * 35 * 256 * 2)


def test_only_the_last_stage_samples_and_the_others_hand_on() -> None:
    launch = built(LLAMA, (0, 19, 0), pp=2)
    limits = launch.limits(8192)
    first = overheads.activations(launch, limits, 8192, first=True, last=False)
    last = overheads.activations(launch, limits, 8192, first=False, last=True)
    assert first.low == overheads.forward(launch, 8192).low + 2 * WIDTH
    assert last.low == overheads.sampler(launch, limits, 8192).low + WIDTH


@pytest.mark.parametrize(
    ("length", "patches"),
    [
        pytest.param(8192, 65536, id="one-image"),
        pytest.param(32768, 131072, id="a-video-of-two-pairs"),
        pytest.param(128000, 7 * 65536, id="a-video-of-seven-pairs"),
    ],
)
def test_an_encoder_profiles_with_its_largest_item(length: int, patches: int) -> None:
    launch = built(QWEN_VL, (0, 19, 0))
    encoder = launch.shape.encoder
    assert encoder is not None
    assert patches == encoder.patches(8192, length)
    # Gate, up and their product, three widths, and the pixels of two frames with a copy.
    elements = 3 * 3420 + 3 * 1280 + 2 * (3 * 14 * 14 * 2)
    assert elements == encoder.elements(1)
    peak = overheads.encoder(launch, launch.limits(length), length)
    assert peak.expected == -(-patches * elements * 2 * 27 // 25)


def test_a_peak_is_the_encoders_where_it_is_highest() -> None:
    launch = built(QWEN_VL, (0, 19, 0), card="L4")
    limits = launch.limits(128000)
    assert overheads.activations(launch, limits, 128000, first=True, last=True) == overheads.encoder(
        launch, limits, 128000
    )
