"""Bamba: Mamba 2 or attention in each layer, and a gated MLP behind it; vLLM had the class up to 0.23.0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.granite import read_mixer
from plimsoll.sizing.families.mixers import plain_heads, read_expanded
from plimsoll.sizing.families.parts import attention, decoder, norms, read_body, read_rope
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape

LAST_RELEASE: Final = (0, 23, 0)
_WAY_OUT: Final = "name the layers of attention by their indices, such as [9, 18, 27]"


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.8.5, model_executor/models/bamba.py."""
    body = plain_heads(read_body(config, architecture, model_type))
    attends = _attention_layers(config, body.layers)
    inner = config.integer("intermediate_size", maximum=MAX_WIDTH)
    behind = (*norms(body.hidden, 2), *gated_mlp("feed_forward", body.hidden, inner))
    full = Layer(cache=body.full, tensors=(*attention(body), *behind))
    mixer = read_mixer(config, inner=read_expanded(config, "mamba_expand", body.hidden))
    state = Layer(
        cache=mixer.cache,
        tensors=(*mixer.tensors(body.hidden, "mamba"), *behind),
        attentions=0,
        buffers=mixer.conv("mamba"),
    )
    shape = decoder(
        body,
        [full if index in attends else state for index in range(body.layers)],
        rope=read_rope(body, rotary_dim=config.optional_integer("attn_rotary_emb", maximum=body.head_size)),
        intermediate=inner,
    )
    return replace(shape, mixer_width=mixer.width, last_release=LAST_RELEASE)


def _attention_layers(config: Config, layers: int) -> frozenset[int]:
    """The layers of attention by index.

    Raises:
        UnsupportedModelError: none, or one beyond the layers.
    """
    found = config.values.get("attn_layer_indices")
    if not isinstance(found, list) or not found or len(found) > MAX_LAYERS:
        raise config.refuse("attn_layer_indices", "it must be a list of layers", _WAY_OUT)
    if not all(type(index) is int and 0 <= index < layers for index in found):
        raise config.refuse("attn_layer_indices", f"each must be one of the {layers} layers", _WAY_OUT)
    return frozenset(found)


FAMILIES: Final = {"BambaForCausalLM": (build, ("bamba",))}
