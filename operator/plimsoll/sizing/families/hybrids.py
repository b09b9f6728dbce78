"""The families whose layers keep states, alone or beside attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families import (
    bailing,
    bamba,
    delta,
    falcon_h1,
    granite,
    jamba,
    kimi_linear,
    lfm2,
    mamba,
    nemotron,
    olmo,
    zamba,
)
from plimsoll.sizing.families.state_defaults import completing

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder

# vLLM's class -> the builder of its family, and the model types whose config it may carry.
DECODERS: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    **delta.FAMILIES,
    **kimi_linear.FAMILIES,
    **bailing.FAMILIES,
    **{
        name: (completing(builder), types)
        for family in (nemotron, granite, bamba, falcon_h1, jamba, zamba, lfm2, olmo, mamba)
        for name, (builder, types) in family.FAMILIES.items()
    },
}

# Classes that held states and left the engine, with the last release that had them (vLLM 0.33.0, models/registry.py).
DROPPED: Final = {
    "MiniMaxForCausalLM": "0.23.0",
    "MiniMaxM1ForCausalLM": "0.23.0",
    "MiniMaxText01ForCausalLM": "0.23.0",
    "MiniMaxVL01ForConditionalGeneration": "0.23.0",
    "Plamo2ForCausalLM": "0.26.0",
}
