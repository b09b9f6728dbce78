"""The families that stand in modules of their own, gathered: decoders alone, and decoders behind encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families import (
    gemma3n,
    gemma4,
    glm_vision,
    lfm2_vl,
    llama4,
    llava,
    nemotron_nas,
    omni,
    plain_rows,
    routed,
    whisper,
)

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder

DECODERS: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    **plain_rows.FAMILIES,
    **routed.FAMILIES,
    **llama4.TEXT,
    **gemma4.TEXT,
    **nemotron_nas.FAMILIES,
    **gemma3n.FAMILIES,
    **whisper.FAMILIES,
}
WITH_ENCODERS: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    **llama4.FAMILIES,
    **llava.FAMILIES,
    **omni.FAMILIES,
    **glm_vision.FAMILIES,
    **lfm2_vl.FAMILIES,
}
