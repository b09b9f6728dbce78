"""Falcon-H1: attention and Mamba 2 side by side in every layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH, Config
from plimsoll.sizing.families.granite import read_mixer
from plimsoll.sizing.families.mixers import read_expanded
from plimsoll.sizing.families.parts import attention, decoder, norms, read_body, read_rope
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from plimsoll.sizing.families.mixers import Mamba2
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/falcon_h1.py."""
    body = read_body(config, architecture, model_type)
    intermediate = config.integer("intermediate_size", maximum=MAX_WIDTH)
    inner = config.optional_integer("mamba_d_ssm", maximum=MAX_WIDTH)
    mixer = read_mixer(
        config,
        inner=inner or read_expanded(config, "mamba_expand", body.hidden),
        gated_norm=config.flag("mamba_rms_norm", default=False),
    )
    layer = Layer(
        extra_caches=(body.full,),
        cache=mixer.cache,
        tensors=(
            *attention(body),
            *mixer.tensors(body.hidden),
            *gated_mlp("feed_forward", body.hidden, intermediate),
            *norms(body.hidden, 2),
        ),
        buffers=(*mixer.conv("mixer"), *_multipliers(mixer)),
    )
    rotary = config.integer("attn_rotary_emb", maximum=body.head_size, default=body.head_size)
    rope = read_rope(body, rotary_dim=rotary)
    shape = decoder(body, (layer,) * body.layers, rope=rope, intermediate=intermediate)
    return replace(
        shape,
        mixer_width=mixer.width,
        stages_problem="ties its output layer to an embedding that only the first stage has"
        if shape.tied_embeddings
        else None,
    )


def _multipliers(mixer: Mamba2) -> tuple[Tensor, ...]:
    """One factor for each output of the projection in."""
    return tuple(
        replace(tensor, columns=1, quantized=False, follows=False)
        for tensor in mixer.projections(1, "mup_vector")
    )


FAMILIES: Final = {"FalconH1ForCausalLM": (build, ("falcon_h1",))}
