"""fbgemm_fp8, in which Llama 3.1 405B was published: exact, and refused where vLLM refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights
from support.configs import facts

_MLP = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj")
_ATTENTION = tuple(f"self_attn.{name}_proj" for name in "koqv")
# meta-llama/Meta-Llama-3.1-405B-Instruct-FP8, as published.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "max_position_embeddings": 131072,
    "num_attention_heads": 128,
    "num_hidden_layers": 126,
    "num_key_value_heads": 8,
    "quantization_config": {
        "activation_scale_ub": 1200.0,
        "modules_to_not_convert": [
            *(f"model.layers.0.{name}" for name in (*_MLP, *_ATTENTION)),
            *(f"model.layers.125.{name}" for name in _MLP),
        ],
        "quant_method": "fbgemm_fp8",
    },
    "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
FACTS = facts(CONFIG)


def served(**options: Any) -> Plan | Refusal:
    pool = NodePool(name="one node", accelerator=find("H200"), gpus_per_node=8, nodes=1)
    return estimate(shape_from_facts(FACTS), FACTS, Serving(**options), (pool,))


def test_the_bytes_are_vllms() -> None:
    """As vLLM 0.33.0's classes hold them without a GPU, split over 8 ranks."""
    shape = shape_from_facts(FACTS)
    (rank,) = rank_weights(shape, 8, 1, 2, shape.quantization)

    assert (rank.parameter_bytes, rank.buffer_bytes) == (52_014_472_136, 33_556_448)


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_a_release_that_refuses_it_is_named_with_the_way_out(version: str) -> None:
    result = served(engine_version=version)

    assert isinstance(result, Refusal)
    assert result.reason is RefusalReason.UNSUPPORTED_OPTION
    assert f"vLLM {version} refuses it as deprecated; add --allow-deprecated-quantization" in result.message


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"engine_version": "0.33.0", "allow_deprecated_quantization": True}, id="allowed"),
        pytest.param({"engine_version": "0.20.0"}, id="an older release"),
    ],
)
def test_it_is_planned_where_the_engine_takes_it(options: dict[str, Any]) -> None:
    result = served(**options)

    assert isinstance(result, Plan)
    assert result.quantization == "fbgemm_fp8"
