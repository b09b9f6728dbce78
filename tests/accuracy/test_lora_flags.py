"""Slots for adapters as a source writes them."""

from __future__ import annotations

import pytest

from plimsoll.accuracy.era import Flags
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
