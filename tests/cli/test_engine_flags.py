"""vLLM's own flags reach the plan, and stand in the command that it ends with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from cli_samples import MISTRAL, estimate, run

if TYPE_CHECKING:
    from pathlib import Path

_MIXTRAL: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 1024,
    "intermediate_size": 1001,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "sliding_window": None,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def part(document: dict[str, Any], name: str) -> int:
    return sum(part["bytes"] for part in document["per_gpu"] if part["part"] == name)


def test_eager_takes_no_memory_for_graphs() -> None:
    assert part(estimate(MISTRAL, "--gpu", "L40S"), "graphs") > 0
    assert part(estimate(MISTRAL, "--gpu", "L40S", "--enforce-eager"), "graphs") == 0


def test_offloaded_weights_leave_the_card() -> None:
    whole, offloaded = (estimate(MISTRAL, "--gpu", "L40S", *more) for more in ((), ("--cpu-offload-gb", "4")))

    assert part(whole, "weights") - part(offloaded, "weights") == 4 * 2**30


def test_whole_experts_need_not_be_divisible(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(_MIXTRAL))
    options = ("--config", str(config), "--gpu", "L40S", "--tensor-parallel-size", "2")
    sliced, whole = (estimate(*options, *more) for more in ((), ("--enable-expert-parallel",)))

    assert sliced["refusal"]["reason"] == "NotDivisible"
    assert "1001" in sliced["refusal"]["message"]
    assert whole["verdict"] == "fits"
    assert "--enable-expert-parallel" in whole["command"]


def test_windows_are_kept_in_full_without_the_hybrid_manager() -> None:
    options = ("--gpu", "L40S", "--max-model-len", "8192")
    mixed, full = (
        estimate("google/gemma-2-2b-it", *options, *more)
        for more in ((), ("--disable-hybrid-kv-cache-manager",))
    )

    assert full["kv_cache"]["bytes_per_block"] > mixed["kv_cache"]["bytes_per_block"]


@pytest.mark.parametrize(
    "flag",
    [
        "--enable-chunked-prefill",
        "--no-enable-chunked-prefill",
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
        "--enforce-eager",
        "--disable-hybrid-kv-cache-manager",
        "--block-size=32",
        "--cpu-offload-gb=2.5",
    ],
)
def test_what_the_user_set_is_in_the_command(flag: str) -> None:
    command = estimate(MISTRAL, "--gpu", "L40S", "--max-num-batched-tokens", "32768", flag)["command"]

    assert flag.replace("=", " ") in command.replace("\n", " ")


_AIR: Final = "zai-org/GLM-4.5-Air"
_MTP: Final = '{"method": "mtp", "num_speculative_tokens": 1}'


def test_draft_layers_are_a_part_of_the_bill_and_of_the_command() -> None:
    alone, drafting = (
        estimate(_AIR, "--gpu", "H100", "-tp", "4", *more) for more in ((), ("--speculative-config", _MTP))
    )

    assert part(alone, "draft") == 0
    assert part(drafting, "draft") > 2**30
    assert part(drafting, "weights") == part(alone, "weights")
    assert drafting["kv_cache"]["tokens"] < alone["kv_cache"]["tokens"]
    assert drafting["command"].endswith(f"--speculative-config '{_MTP}'")


def test_slots_for_adapters_are_a_part_of_the_bill_and_of_the_command() -> None:
    options = (MISTRAL, "--gpu", "L40S")
    alone, adapted = (
        estimate(*options, *more)
        for more in ((), ("--enable-lora", "--max-loras", "8", "--max-lora-rank", "64", "--max-cpu-loras=9"))
    )

    assert part(alone, "lora") == 0
    assert part(adapted, "lora") == 8 * 4 * 83886080 + 104504 + 2 * 7 * 3 * 4
    assert part(adapted, "weights") == part(alone, "weights")
    command = adapted["command"].replace(" \\\n", "").split()
    for flag, value in (("--max-loras", "8"), ("--max-lora-rank", "64"), ("--max-cpu-loras", "9")):
        assert command[command.index(flag) + 1] == value
    assert "--enable-lora" in command
    assert "--fully-sharded-loras" not in command


def test_without_the_switch_the_other_options_of_adapters_mean_nothing() -> None:
    options = (MISTRAL, "--gpu", "L40S")

    assert estimate(*options, "--max-loras", "8") == estimate(*options)


def test_a_rank_that_vllm_does_not_take_is_refused() -> None:
    result = run("estimate", MISTRAL, "--gpu", "L40S", "--enable-lora", "--max-lora-rank", "20")

    assert result.exit_code == 2
    assert "'20' is not one of" in result.stderr


def test_another_model_as_a_draft_is_told() -> None:
    eagle = '{"method": "eagle3", "model": "a/b", "num_speculative_tokens": 3}'
    document = estimate(MISTRAL, "--gpu", "L40S", "-sc", eagle)

    assert [warning for warning in document["warnings"] if "method eagle3 brings another model" in warning]


def test_a_value_that_is_none_is_refused_by_its_field() -> None:
    result = run("estimate", MISTRAL, "--gpu", "L40S", "-sc", '{"method": "mtp"}')

    assert result.exit_code == 2
    assert "num_speculative_tokens is None" in result.stderr
