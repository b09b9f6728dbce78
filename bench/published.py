"""What two published rules say of a row, written from their descriptions, for comparison.

KAITO, v0.12.0 of 2026-08: github.com/kaito-project/kaito, the estimator of its workspace controller.
llm-d-planner, 2026-04: github.com/llm-d-incubation/llm-d-planner, planner/capacity_planner.py.
Both are given the row's own utilisation, though KAITO starts its engines with a fixed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sizing.files import stored_bytes
from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.sizing.launch import Launch

_SECTIONS: Final = ("text_config", "llm_config", "thinker_config")
# KAITO: weight files x 1.02; 5 % of a GPU's share on top; 0.6 GiB outside torch and 1.7 GiB activations and graphs.
_KAITO_FILES: Final = 1.02
_KAITO_SHARE: Final = 1.05
_KAITO_FIXED: Final = 2.3 * GIB
_KAITO_ELEMENT_BYTES: Final = 2  # whatever the cache holds
# llm-d-planner: activations of a replica by architecture, constant in batch and context; outside torch by GPU.
_PROFILES: Final = {
    "LlamaForCausalLM": 4.8,
    "Qwen2ForCausalLM": 5.6,
    "Qwen3ForCausalLM": 5.6,
    "PixtralForConditionalGeneration": 2.5,
    "Mistral3ForConditionalGeneration": 2.5,
}
_MOE, _MULTIMODAL, _DENSE = 8.0, 2.5, 5.5
_OUTSIDE_TORCH: Final = (0.15, 0.6)
_LATENT: Final = ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row as the rules see it."""

    launch: Launch
    config: Mapping[str, Any]
    utilization: float

    @property
    def gpus(self) -> int:
        """Of one replica."""
        return self.launch.tensor_parallel_size * self.launch.pipeline_parallel_size

    @property
    def weights_bytes(self) -> int:
        """All weights as they are stored."""
        return stored_bytes(self.launch.shape, self.launch.precision.element_bytes)

    @property
    def card_bytes(self) -> int:
        """Memory of one card."""
        card = self.launch.accelerator
        return 0 if card is None else card.memory_bytes


def kaito_available(case: Case) -> float:
    """Bytes that KAITO's sum leaves for the KV cache on one GPU."""
    share = case.weights_bytes * _KAITO_FILES / case.gpus
    return case.card_bytes * case.utilization - _KAITO_FIXED - _KAITO_SHARE * share


def kaito_token_bytes(case: Case) -> float:
    """Bytes of a token on one GPU, every layer counted as attention and split over all GPUs."""
    latent = _integer(case.config, "kv_lora_rank")
    if latent:
        width = latent + (_integer(case.config, "qk_rope_head_dim") or 0)
    else:
        width = 2 * _kv_heads(case.config) * _head_dim(case.config)
    return _layers(case.config) * width * _KAITO_ELEMENT_BYTES / case.gpus


def planner_available(case: Case) -> float:
    """Bytes that llm-d-planner's sum leaves on one GPU; activations count once for a replica."""
    architecture = case.launch.shape.architecture
    default = _MULTIMODAL if case.launch.shape.tower else _DENSE
    if case.launch.shape.experts is not None:
        default = _MOE
    activation = _PROFILES.get(architecture, default) * GIB
    outside = _OUTSIDE_TORCH[case.gpus > 1] * GIB
    budget = case.gpus * (case.card_bytes * case.utilization - outside) - case.weights_bytes - activation
    return budget / case.gpus


def planner_token_bytes(case: Case) -> float:
    """Bytes of a token on one GPU, in the cache's dtype; windows and states are not known to it."""
    element = case.launch.precision.kv_element_bytes
    latent = _integer(case.config, "kv_lora_rank")
    if latent and case.launch.shape.architecture in _LATENT:
        width = latent + (_integer(case.config, "qk_rope_head_dim") or 0)
    else:
        width = 2 * _kv_heads(case.config) * _head_dim(case.config)
    return _layers(case.config) * width * element / case.gpus


def _integer(config: Mapping[str, Any], field: str) -> int | None:
    """A field of the config or of its text."""
    for section in (config, *(config[name] for name in _SECTIONS if isinstance(config.get(name), Mapping))):
        value = section.get(field)
        if isinstance(value, int):
            return value
    return None


def _layers(config: Mapping[str, Any]) -> int:
    return _integer(config, "num_hidden_layers") or _integer(config, "n_layer") or 1


def _heads(config: Mapping[str, Any]) -> int:
    return _integer(config, "num_attention_heads") or _integer(config, "n_head") or 1


def _kv_heads(config: Mapping[str, Any]) -> int:
    if config.get("multi_query") is True:
        return 1
    return _integer(config, "num_key_value_heads") or _heads(config)


def _head_dim(config: Mapping[str, Any]) -> int:
    return _integer(config, "head_dim") or (_integer(config, "hidden_size") or 1) // _heads(config)


RULES: Final[dict[str, tuple[Callable[[Case], float], Callable[[Case], float]]]] = {
    "KAITO": (kaito_available, kaito_token_bytes),
    "llm-d-planner": (planner_available, planner_token_bytes),
}
