"""The modelled numbers, held against real start-ups: what vLLM logged must lie within the intervals."""

from __future__ import annotations

from fractions import Fraction

import pytest

from plimsoll.sizing import constants, overheads
from plimsoll.sizing.constants import Constant
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.interval import Interval
from plimsoll.sizing.launch import Launch
from plimsoll.units import GIB
from support.launches import built

ALL = constants.CONSTANTS


@pytest.mark.parametrize("constant", ALL, ids=lambda constant: f"{constant.name}-{constant.since}")
def test_every_constant_says_where_it_comes_from(constant: Constant) -> None:
    # A deviation goes both ways; everything else is a need.
    least = -constant.high if constant.name.startswith("UNFITTED") else 0
    assert least <= constant.low <= constant.expected <= constant.high
    assert constant.bytes.low <= constant.bytes.expected <= constant.bytes.high
    assert constant.basis in {"fitted", "derived", "read"}
    assert all((constant.unit, constant.mirrors, constant.source, constant.date, constant.guard))


def test_constants_have_names_of_their_own() -> None:
    names = [(constant.name, constant.since) for constant in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("release", "since"),
    [
        pytest.param("0.33.0", (0, 33, 0), id="newest"),
        pytest.param("0.32.5", (0, 29, 0), id="patch"),
        pytest.param("0.17.0", (0, 17, 0), id="first-with"),
        pytest.param("0.16.9", (0, 11, 0), id="before-it"),
        pytest.param("0.10.2", (0, 9, 2), id="another-kernel-may-run"),
    ],
)
def test_the_newest_number_that_a_release_has_holds(release: str, since: tuple[int, int, int]) -> None:
    assert constants.at(constants.SAMPLER, parse_version(release)).since == since


def test_a_factor_rounds_each_end_up() -> None:
    assert constants.FORWARD_HIDDEN.of(7) == Interval(21, 30, 35)


def launch(model_id: str, card: str, version: str, size: int, share: str) -> Launch:
    release = parse_version(version).release
    return built(model_id, release, card, size, gpu_memory_utilization=Fraction(share))


# Start-up logs: model, card, release, TP, utilisation; weights, peak activation, non-torch, KV cache in GiB.
H100 = ("H100", "0.19.0")
LOGS = [
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 1, "0.95", (14.99, 1.89, 0.25, 58.11)),
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 2, "0.95", (7.51, 1.89, 2.07, 63.76)),
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 4, "0.95", (3.77, 1.89, 2.13, 67.44)),
    ("Qwen/Qwen2.5-7B-Instruct", *H100, 1, "0.95", (14.25, 2.21, 0.24, 58.53)),
    ("Qwen/Qwen2.5-7B-Instruct", *H100, 4, "0.95", (3.55, 2.21, 2.13, 67.34)),
    ("google/gemma-2-2b-it", *H100, 1, "0.95", (4.90, 3.62, 0.24, 66.47)),
    ("google/gemma-2-9b-it", *H100, 1, "0.95", (17.22, 3.65, 0.25, 54.12)),
    ("meta-llama/Llama-3.1-8B-Instruct", "H100", "0.11.0", 1, "0.9", (14.99, 4.76, 0.13, 51.38)),
]


@pytest.mark.parametrize(
    ("model_id", "card", "version", "size", "share", "logged"),
    [pytest.param(*row, id=f"{row[0].split('/')[1]}-tp{row[3]}-{row[2]}") for row in LOGS],
)
def test_what_was_logged_lies_in_the_interval(
    model_id: str, card: str, version: str, size: int, share: str, logged: tuple[float, float, float, float]
) -> None:
    weights, peak, non_torch, cache = logged
    built = launch(model_id, card, version, size, share)
    (costs,) = built.costs(8192)
    assert costs.weights_bytes / GIB == pytest.approx(weights, rel=0.006)
    assert costs.activations.low / GIB <= peak <= costs.activations.high / GIB
    assert costs.activations.expected / GIB == pytest.approx(peak, abs=0.08)
    outside = overheads.non_torch(built)
    assert outside.low / GIB <= non_torch <= outside.high / GIB
    (available,) = built.available_interval(8192)
    assert available.low / GIB <= cache <= available.high / GIB
    assert available.expected / GIB == pytest.approx(cache, rel=0.002)
    assert built.available_bytes(8192) == (available.low,)


def test_the_a100_log_of_0_31_holds_the_plan() -> None:
    built = launch("meta-llama/Llama-3.1-8B-Instruct", "A100-80GB", "0.31.0", 1, "0.92")
    (available,) = built.available_interval(131072)
    assert 0.97 * 56.21 <= available.low / GIB <= 56.21 <= available.high / GIB
    assert available.expected / GIB == pytest.approx(56.21, rel=0.005)


# Model, release, card, logged estimate of the graphs in GiB.
GRAPHS = [
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 0.84),
    ("Qwen/Qwen2.5-7B-Instruct", *H100, 0.61),
    ("google/gemma-2-2b-it", *H100, 0.52),
    ("google/gemma-2-27b-it", *H100, 1.13),
]


@pytest.mark.parametrize(
    ("model_id", "card", "version", "logged"),
    [pytest.param(*row, id=row[0].split("/")[1]) for row in GRAPHS],
)
def test_the_graphs_of_a_model_lie_in_the_interval(
    model_id: str, card: str, version: str, logged: float
) -> None:
    graphs = launch(model_id, card, version, 1, "0.95").graphs
    assert graphs.low / GIB <= logged <= graphs.high / GIB


PINNED = {
    ("SAMPLER", "0.33.0"): ("7", "14", "14.5"),
    ("SAMPLER", "0.29.0"): ("2", "2", "7"),
    ("SAMPLER", "0.21.0"): ("13.5", "14", "15"),
    ("SAMPLER", "0.17.0"): ("14", "14.5", "15"),
    ("SAMPLER", "0.11.0"): ("34.8", "38.5", "39.5"),
    ("SAMPLER", "0.9.2"): ("13.5", "38.5", "39.5"),
    ("SAMPLER", "0.0.0"): ("34.8", "38.5", "39.5"),
    ("SAMPLER_SCRATCH", "0.17.0"): ("0.02", "0.05", "0.1"),
    ("FORWARD_HIDDEN", "0.0.0"): ("3", "4.2", "5"),
    ("PIPELINE_HIDDEN", "0.0.0"): ("2", "2.5", "3"),
    ("MULTIMODAL_HIDDEN", "0.0.0"): ("1", "3", "4"),
    ("ENCODER", "0.0.0"): ("0.6", "1.08", "1.28"),
    ("GRAPHS_PER_LAYER", "0.29.0"): ("8", "14", "33"),
    ("GRAPHS_PER_LAYER", "0.0.0"): ("14", "25", "33"),
    ("GRAPHS_PER_EXPERT_LAYER", "0.0.0"): ("20", "33", "43"),
    ("GRAPHS_PER_FP4_EXPERT_LAYER", "0.16.0"): ("20", "43", "60"),
    ("GRAPHS_PER_FP4_EXPERT_LAYER", "0.0.0"): ("80", "104", "115"),
    ("UNFITTED_ROCM", "0.0.0"): ("-0.01", "0", "0.01"),
    ("UNFITTED_OTHER", "0.0.0"): ("-0.1", "0", "0.1"),
    ("GRAPHS_PER_LATENT_LAYER", "0.0.0"): ("40", "53", "70"),
    ("COMPILED_TABLE", "0.12.0"): ("0", "1", "1"),
    ("KEPT_TABLE", "0.28.0"): ("0", "0", "1"),
    ("UNIFIED", "0.0.0"): ("0", "0.04", "0.15"),
    ("UNIFIED_FREE", "0.0.0"): ("3", "3", "3"),
    ("GATED_DELTA_WARMUP", "0.18.0"): ("0", "0.1", "1.2"),
    ("NON_TORCH_SINGLE", "0.18.0"): ("0.2", "0.25", "0.47"),
    ("NON_TORCH_SINGLE", "0.8.0"): ("0.01", "0.13", "0.25"),
    ("NON_TORCH_ELSEWHERE", "0.18.0"): ("0.02", "0.1", "0.47"),
    ("NON_TORCH_ELSEWHERE", "0.8.0"): ("0.01", "0.1", "0.36"),
    ("NON_TORCH_EIGHT", "0.12.0"): ("0.9", "2.1", "2.3"),
    ("GATED_DELTA_GRAPHS", "0.26.0"): ("0", "0", "128"),
    ("NON_TORCH_SINGLE", "0.0.0"): ("0.01", "0.1", "0.75"),
    ("NON_TORCH_LINKED", "0.12.0"): ("1.9", "2.1", "2.3"),
    ("NON_TORCH_LINKED", "0.0.0"): ("0.5", "0.9", "2"),
    ("NON_TORCH_UNLINKED", "0.18.0"): ("0.05", "0.25", "0.8"),
    ("NON_TORCH_UNLINKED", "0.0.0"): ("0.2", "0.28", "0.5"),
    ("LOADING", "0.0.0"): ("0", "0.0002", "0.015"),
    ("LOADING_MOST", "0.0.0"): ("0.2", "0.2", "0.2"),
    ("LOADING_ENCODER", "0.0.0"): ("0", "0.006", "0.03"),
    ("TRITON_EXPERTS", "0.20.0"): ("0", "0.01", "0.03"),
    ("TRITON_EXPERTS", "0.12.0"): ("0", "0.06", "0.09"),
    ("TRITON_EXPERTS", "0.0.0"): ("0.06", "0.088", "0.095"),
    ("BASELINE", "0.0.0"): ("0.41", "0.53", "0.6"),
    ("ENGINE_PROCESS", "0.0.0"): ("0.93", "1.1", "1.25"),
}


def test_no_constant_changes_unseen() -> None:
    assert {name: tuple(map(Fraction, ends)) for name, ends in PINNED.items()} == {
        (constant.name, ".".join(map(str, constant.since))): (constant.low, constant.expected, constant.high)
        for constant in ALL
    }
