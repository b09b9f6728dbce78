"""What CUDA graphs take on one card: by layers, by the kernels of a layer, and by how many batch sizes are captured.

Source of the form: vLLM 0.33.0, v1/worker/gpu/cudagraph_utils.py; the factors are in constants.toml.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.constants import (
    GATED_DELTA_GRAPHS,
    GRAPHS_PER_EXPERT_LAYER,
    GRAPHS_PER_FP4_EXPERT_LAYER,
    GRAPHS_PER_LATENT_LAYER,
    GRAPHS_PER_LAYER,
    at,
)
from plimsoll.sizing.engine import V2_RUNNER
from plimsoll.sizing.interval import NOTHING, Interval
from plimsoll.sizing.layers import MultiHeadLatent
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.runner import has_gated_delta, second_runner
from plimsoll.units import MIB

if TYPE_CHECKING:
    from plimsoll.sizing.constants import Constant
    from plimsoll.sizing.launch import Launch

_LARGEST_GRAPH: Final = 512
_BLACKWELL: Final = 10
_WORKSTATION_BLACKWELL: Final = 12
_GPT_OSS: Final = "gpt_oss"
_ALL_GRAPHS: Final = 51  # sizes of a capture up to 512 tokens, each in pieces and whole
_FULL_WIDTH: Final = 4096  # graphs of narrower models are smaller: by this share of what goes with the width
_WIDTH_SHARE: Final = Fraction(3, 10)
_ADAPTER_CASES: Final = 2  # cudagraph_specialize_lora: each size with adapters and without
_FIRST_GRAPHS: Final = 10  # what the first capture takes, in graphs that follow


def graphs(launch: Launch) -> Interval:
    """What CUDA graphs take on one card: by layers, and by how many batch sizes are captured."""
    if launch.accelerator is None or launch.serving.enforce_eager:
        return NOTHING
    layers = max(end - first for first, end in (stage.layers for stage in launch.stages))
    cases = 1 if launch.serving.lora is None else _ADAPTER_CASES
    captured = Fraction(cases * _captures(launch) + _FIRST_GRAPHS, _ALL_GRAPHS + _FIRST_GRAPHS)
    narrow = 1 - _WIDTH_SHARE * (1 - Fraction(min(launch.shape.hidden_size, _FULL_WIDTH), _FULL_WIDTH))
    found = graphs_constant(launch).of(int(MIB * layers * captured * narrow))
    if has_gated_delta(launch) and _samples_a_whole_batch(launch):
        found += GATED_DELTA_GRAPHS.of(1024 * launch.limits(1).max_num_batched_tokens)
    return found


def _samples_a_whole_batch(launch: Launch) -> bool:
    """Whether the estimate's first sample has the context of a whole batch."""
    return launch.version.at_least(GATED_DELTA_GRAPHS.since) and not second_runner(launch)


def graphs_constant(launch: Launch) -> Constant:
    """The interval of one layer that holds for this model and release."""
    layers = launch.shape.layers
    if 2 * sum(isinstance(layer.cache, MultiHeadLatent) for layer in layers) >= len(layers):
        return GRAPHS_PER_LATENT_LAYER
    if launch.shape.experts is None:
        return at(GRAPHS_PER_LAYER, launch.version)
    return at(
        GRAPHS_PER_FP4_EXPERT_LAYER if _many_kernels(launch) else GRAPHS_PER_EXPERT_LAYER, launch.version
    )


def _many_kernels(launch: Launch) -> bool:
    """Whether the card has no fused kernel for NVFP4 experts: a graph grows with every kernel that it holds."""
    quantization, card = launch.precision.quantization, launch.accelerator
    fp4 = quantization is not None and quantization.weights is WeightFormat.NVFP4
    return fp4 and card is not None and card.compute_capability[0] == _WORKSTATION_BLACKWELL


def _captures(launch: Launch) -> int:
    """Batch sizes that are captured: 1, 2, 4, then by 8 up to 256 and by 16 beyond."""
    sequences = launch.limits(1).max_num_seqs
    largest = min(2 * sequences * (1 + launch.proposed_tokens), _largest_graph(launch))
    return min(3, largest) + min(largest, 248) // 8 + max(0, largest - 240) // 16


def _largest_graph(launch: Launch) -> int:
    """Tokens of the largest capture; twice as many on Blackwell's large cards, and for gpt-oss."""
    card = launch.accelerator
    large = (
        card is not None and card.compute_capability[0] == _BLACKWELL
    ) or launch.shape.model_type == _GPT_OSS
    return (2 if large and launch.version.at_least(V2_RUNNER) else 1) * _LARGEST_GRAPH
