"""The published rules, each by hand: Llama 3.1 8B on a card of 80 GiB at a utilisation of 0.9."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from accuracy_samples import LLAMA, row

from plimsoll.accuracy.predict import predict

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
published = __import__("published")

GIB = 2**30
WEIGHTS = 16_060_522_496 / GIB


def case(config: dict[str, Any] = LLAMA, **values: Any) -> Any:
    prediction = predict(row(model="m", other_flags=None, **values), config)
    assert prediction.launch is not None
    return published.Case(launch=prediction.launch, config=config, utilization=0.9)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        # usable - 2.3 - 1.05 x 1.02 x weights of a GPU
        pytest.param(1, 72 - 2.3 - 1.05 * 1.02 * WEIGHTS, id="one GPU"),
        pytest.param(2, 72 - 2.3 - 1.05 * 1.02 * WEIGHTS / 2, id="two"),
    ],
)
def test_kaitos_sum(gpus: int, expected: float) -> None:
    assert published.kaito_available(case(tensor_parallel_size=gpus)) / GIB == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        pytest.param(1, 72 - 0.15 - WEIGHTS - 4.8, id="one GPU"),
        pytest.param(2, 72 - 0.6 - (WEIGHTS + 4.8) / 2, id="two share weights and activations"),
    ],
)
def test_llm_d_planners_sum(gpus: int, expected: float) -> None:
    found = published.planner_available(case(tensor_parallel_size=gpus)) / GIB

    assert found == pytest.approx(expected, abs=1e-6)


def test_an_architecture_without_a_profile_takes_its_kinds() -> None:
    mistral = {
        **LLAMA,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "sliding_window": None,
    }

    assert published.planner_available(case(mistral)) / GIB == pytest.approx(
        72 - 0.15 - WEIGHTS - 5.5, abs=1e-6
    )


def test_bytes_of_a_token_differ_only_in_the_cache_dtype() -> None:
    eight_bits = case(kv_cache_dtype="fp8")

    assert (published.kaito_token_bytes(eight_bits), published.planner_token_bytes(eight_bits)) == (
        131072,
        65536,
    )


def test_latent_attention_is_split_over_gpus_by_both() -> None:
    config = {"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    one = case(tensor_parallel_size=2)
    latent = published.Case(launch=one.launch, config=config, utilization=0.9)

    assert published.kaito_token_bytes(latent) == 61 * 576 * 2 / 2
