"""Which of vLLM's two model runners serves a model: they profile and keep memory differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import GRAPHS_IN_BUDGET, V2_RUNNER
from plimsoll.sizing.layers import RecurrentState

if TYPE_CHECKING:
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.model import ModelShape

# Read in the wheels of 0.22 to 0.28, config/vllm.py: the first release in which a class had the second runner.
_PLAIN: Final = {
    "Qwen3ForCausalLM": (0, 22, 0),
    "LlamaForCausalLM": (0, 23, 0),
    "MistralForCausalLM": (0, 23, 0),
}
_LISTED: Final = {
    "DeepseekV2ForCausalLM": (0, 24, 0),
    "Qwen2MoeForCausalLM": (0, 24, 0),
    "GraniteMoeForCausalLM": (0, 24, 0),
    "DeepseekV4ForCausalLM": (0, 25, 0),
}
_QUANTIZED: Final = (0, 24, 0)
_GATED_DELTA: Final = "gated delta net"
_ALL_DENSE: Final = (0, 25, 0)


def second_runner(launch: Launch) -> bool:
    """Whether the second runner serves this launch: by class from 0.22 on, always since 0.29."""
    if launch.version.at_least(V2_RUNNER):
        return True
    speculation = launch.serving.speculative
    if speculation is not None and (speculation.ngram or speculation.suffix):
        return False  # proposals without layers fell back to the first
    since = _since(launch.shape)
    if launch.precision.quantization is not None and since < _QUANTIZED:
        since = _QUANTIZED
    return launch.version.at_least(since)


def _since(shape: ModelShape) -> tuple[int, int, int]:
    listed = _PLAIN.get(shape.architecture) or _LISTED.get(shape.architecture)
    if listed is not None:
        return listed
    recurrent = any(isinstance(cache, RecurrentState) for layer in shape.kinds for cache in layer.caches)
    return V2_RUNNER if recurrent or shape.experts is not None else _ALL_DENSE


def has_gated_delta(launch: Launch) -> bool:
    """Whether layers of the model are gated delta networks."""
    return any(
        isinstance(cache, RecurrentState) and cache.name == _GATED_DELTA
        for layer in launch.shape.kinds
        for cache in layer.caches
    )


def graphs_in_budget(launch: Launch) -> bool:
    """Whether the engine keeps its share free of CUDA graphs by an estimate; else they come on top of it.

    The second runner had none before 0.29: its profile_cudagraph_memory() answered 0.
    """
    if not launch.version.at_least(GRAPHS_IN_BUDGET):
        return False
    return launch.version.at_least(V2_RUNNER) or not second_runner(launch)
