"""Slots for adapters as a source writes them."""

from __future__ import annotations

import pytest
from accuracy_samples import GIVEN, LLAMA, row

from plimsoll.accuracy.era import Flags
from plimsoll.accuracy.predict import predict
from plimsoll.sizing.lora import LoraSlots


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        pytest.param(
            "enable-lora max-loras=8 max-lora-rank=32", LoraSlots(max_loras=8, max_lora_rank=32), id="words"
        ),
        pytest.param("enable_lora, max_loras=1, max_lora_rank=16", LoraSlots(), id="names"),
        pytest.param('{"enable_lora": true, "max_loras": 4}', LoraSlots(max_loras=4), id="JSON"),
        pytest.param(
            "--enable-lora --max-cpu-loras 8 --fully-sharded-loras",
            LoraSlots(fully_sharded=True, max_cpu_loras=8),
            id="command line",
        ),
        pytest.param('{"enable_lora": false, "max_loras": 4}', None, id="switched off"),
        pytest.param("--lora-modules a=b", None, id="never switched on"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_slots_for_adapters_are_read_in_any_form(text: str, slots: LoraSlots | None) -> None:
    assert slots == Flags(text).lora


def loaded(version: str, flags: str) -> int:
    return predict(row(vllm_version=version, other_flags=f"{GIVEN} {flags}"), LLAMA).weights_bytes


def test_slots_are_in_what_loading_took() -> None:
    held = loaded("0.19.0", "enable-lora max-lora-rank=16") - loaded("0.19.0", "")

    layer = (
        (4096 + 6144 + 2 * 4096)  # qkv: three A of the hidden size, three B as wide as q, k and v
        + (4096 + 4096)  # o
        + (2 * 4096 + 2 * 14336)  # gate and up
        + (14336 + 4096)  # down
    )
    table = 128256 + 4096  # the embedding's, and the same for the output layer
    indices = (4 * 2048 + 3 * 256) * 8 + 2 * (2 * 2048 + 3 + 4) * 4  # of tokens and sequences
    assert held == (32 * layer + 2 * table) * 16 * 2 + indices


def test_the_first_engine_built_slots_after_it_said_what_loading_took() -> None:
    assert loaded("0.7.3", "enable-lora") == loaded("0.7.3", "")
    assert loaded("0.8.5 (V0)", "enable-lora") > loaded("0.8.5 (V0)", "")
