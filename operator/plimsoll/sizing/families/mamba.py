"""Models of Mamba layers alone, without attention: Mamba, Falcon Mamba and Mamba 2."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.mixers import (
    Mamba1,
    Mamba2,
    checked_heads,
    read_expanded,
    read_kernel,
    read_length,
    read_rank,
    unquantized,
    whole_groups,
)
from plimsoll.sizing.families.parts import Body, decoder, norms, whole_on_every_stage
from plimsoll.sizing.model import Layer

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape


def first(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/mamba.py."""
    unquantized(config)
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    mixer = Mamba1(
        inner=config.optional_integer("intermediate_size", maximum=MAX_WIDTH)
        or read_expanded(config, "expand", hidden),
        state=config.integer("state_size", maximum=MAX_WIDTH),
        kernel=read_kernel(config, "conv_kernel"),
        rank=read_rank(config, "time_step_rank", hidden),
        conv_bias=config.flag("use_conv_bias", default=True),
        bias=config.flag("use_bias", default=False),
    )
    layer = Layer(
        cache=mixer.cache, tensors=(*mixer.tensors(hidden, "mixer"), *norms(hidden, 1)), attentions=0
    )
    body = _body(config, architecture, model_type, heads=mixer.inner)
    return _frame(body, layer, mixer.width, tied=True)


def second(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/mamba2.py."""
    unquantized(config)
    hidden = config.integer("hidden_size", maximum=MAX_WIDTH)
    heads = config.integer("num_heads", maximum=MAX_HEADS)
    inner = read_expanded(config, "expand", hidden)
    checked_heads(config, "head_dim", heads=heads, inner=inner)
    if config.optional_integer("intermediate_size", maximum=MAX_WIDTH) not in (None, inner):
        raise config.refuse("intermediate_size", f"it must be the inner width, {inner}")
    mixer = Mamba2(
        heads=heads,
        inner=inner,
        groups=config.integer("n_groups", maximum=heads),
        state=config.integer("state_size", maximum=MAX_WIDTH),
        kernel=read_kernel(config, "conv_kernel"),
        conv_bias=config.flag("use_conv_bias", default=True),
        bias=config.flag("use_bias", default=False),
    )
    mixer = whole_groups(config, "n_groups", mixer)
    layer = Layer(
        cache=mixer.cache,
        tensors=(*mixer.tensors(hidden), *norms(hidden, 1)),
        attentions=0,
        buffers=mixer.conv("mixer"),
    )
    shape = _frame(_body(config, architecture, model_type, heads=heads), layer, mixer.width, tied=False)
    return replace(shape, stages_problem="is of a class that vLLM does not split into stages")


def _body(config: Config, architecture: str, model_type: str, *, heads: int) -> Body:
    """A decoder without attention; what its ranks share out stands in place of the heads."""
    return Body(
        config=config,
        architecture=architecture,
        model_type=model_type,
        hidden=config.integer("hidden_size", maximum=MAX_WIDTH),
        heads=heads,
        kv_heads=heads,
        head_size=1,
        layers=config.integer("num_hidden_layers", maximum=MAX_LAYERS),
        vocab=config.integer("vocab_size", maximum=MAX_WIDTH),
        positions=read_length(config)[0],
    )


def _frame(body: Body, layer: Layer, width: int, *, tied: bool) -> ModelShape:
    shape = decoder(body, (layer,) * body.layers, rope=None, intermediate=0, tied=tied)
    length, assumed = read_length(body.config)
    told = f"The config names no length: vLLM assumes {length} tokens, and takes any other maxModelLen."
    shape = replace(shape, mixer_width=width, length_assumed=assumed, warnings=(told,) if assumed else ())
    return whole_on_every_stage(shape)


FAMILIES: Final = {
    "MambaForCausalLM": (first, ("mamba",)),
    "FalconMambaForCausalLM": (first, ("falcon_mamba",)),
    "Mamba2ForCausalLM": (second, ("mamba2",)),
}
