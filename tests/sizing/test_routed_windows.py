"""What AFMoE, Hunyuan 3, EXAONE MoE, Cohere 2 MoE, Param 2, Laguna and Granite with windows do not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import tensor_parallel_problem
from support.configs import facts

CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for topic in ("afmoe", "hy_v3", "exaone_moe", "cohere2_moe", "param2moe", "laguna", "granite_swa")
    for vector in json.loads(
        Path(__file__).with_name("data").joinpath(f"vllm_plans_{topic}.json").read_text()
    )
}
REFUSED = [
    ("trinity-mini", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("trinity-mini", {"score_func": None}, "score_func"),
    ("trinity-mini", {"hidden_act": "gelu"}, "hidden_act"),
    ("trinity-mini", {"sliding_window": None}, "sliding_window"),
    ("hy3", {"expert_hidden_dim": None}, "expert_hidden_dim"),
    ("hy3", {"first_k_dense_replace": None}, "first_k_dense_replace"),
    ("hy3", {"first_k_dense_replace": 80}, "first_k_dense_replace"),
    ("hy3", {"layer_types": ["sliding_attention"] * 80}, "layer_types"),
    ("k-exaone", {"layer_types": None}, "sliding_window_pattern"),
    ("k-exaone", {"mlp_layer_types": ["dense"]}, "mlp_layer_types"),
    ("exaone-moe-windows", {"sliding_windows": [64]}, "sliding_windows"),
    ("exaone-moe-windows", {"sliding_windows": [None, 1, 1, 1]}, "sliding_windows"),
    ("cohere2-moe-small", {"use_qk_norm": True}, "use_qk_norm"),
    ("cohere2-moe-small", {"first_k_dense_replace": 10}, "first_k_dense_replace"),
    ("param2", {"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
    ("param2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("param2", {"num_key_value_heads": None}, "num_key_value_heads"),
    ("laguna-xs", {"gating": "per-token"}, "gating"),
    ("laguna-xs", {"swa_rope_parameters": {"rope_theta": 1.0}}, "swa_rope_parameters"),
    ("laguna-xs", {"num_attention_heads_per_layer": [48]}, "num_attention_heads_per_layer"),
    ("laguna-xs", {"num_attention_heads_per_layer": [50] * 40}, "num_attention_heads_per_layer"),
    ("laguna-xs", {"rope_parameters": {"sliding_attention": {"rope_type": "default"}}}, "rope_parameters"),
    ("laguna-plain", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters"),
    ("laguna-plain", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_parameters"),
    ("granite-swa", {"layer_rope_theta": [0]}, "layer_rope_theta"),
    ("granite-swa", {"layer_rope_theta": [None] * 24}, "layer_rope_theta"),
    ("granitemoe-swa", {"head_dim": 64}, "head_dim"),
    ("granitemoe-swa", {"attention_bias": True}, "attention_bias"),
]


@pytest.mark.parametrize(("model", "patch", "field"), REFUSED)
def test_what_a_class_does_not_build_is_refused_by_field(
    model: str, patch: dict[str, Any], field: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(CONFIGS[model] | patch))
    assert field in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "ranks", "legal"),
    [("laguna-xs", 16, True), ("laguna-xs", 48, False), ("param2", 8, True), ("param2", 16, False)],
)
def test_ranks_divide_the_heads_of_every_layer_and_kv_heads_that_are_not_copied(
    model: str, ranks: int, legal: bool
) -> None:
    problem = tensor_parallel_problem(shape_from_facts(facts(CONFIGS[model])), ranks, None)
    assert (problem is None) is legal
    assert legal or "heads" in str(problem)


def test_layers_without_windows_have_no_rotary_table_in_trinity() -> None:
    full = shape_from_facts(facts(CONFIGS["trinity-mini"] | {"layer_types": ["full_attention"] * 32}))
    assert full.rope is None
    assert full.max_model_len == 131072
