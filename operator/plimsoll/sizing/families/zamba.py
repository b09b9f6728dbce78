"""Zamba 2: Mamba 2 in every layer, and before some of them attention whose weights a few layers share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families.granite import layer_kinds
from plimsoll.sizing.families.mixers import (
    Mamba2,
    checked_heads,
    read_expanded,
    read_kernel,
    unquantized,
    whole_groups,
)
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    bias_of,
    decoder,
    linear,
    norms,
    read_body,
    read_rope,
    whole_on_every_stage,
)
from plimsoll.sizing.layers import FullAttention
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.tensors import Sharding

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_LONG_POSITIONS: Final = 16384


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/zamba2.py."""
    unquantized(config)
    body = _body(config, architecture, model_type)
    shares = layer_kinds(
        body, "layers_block_type", attention=("hybrid",), states=("mamba", "linear_attention")
    )
    mixer = _mixer(body)
    width = config.optional_integer("intermediate_size", maximum=MAX_WIDTH) or 4 * body.hidden
    common = (*mixer.tensors(body.hidden), *norms(body.hidden, 1))
    buffers = mixer.conv("mixer")
    bridge = linear("linear", body.hidden, body.hidden)
    adapters = _adapters(body, width)
    made = {
        False: Layer(cache=mixer.cache, tensors=common, attentions=0, buffers=buffers),
        True: Layer(
            extra_caches=(FullAttention(num_kv_heads=body.heads, head_size=body.head_size),),
            cache=mixer.cache,
            tensors=(*common, bridge, *adapters),
            buffers=buffers,
        ),
    }
    blocks = config.integer("num_mem_blocks", maximum=MAX_LAYERS)
    shared = tuple(replace(tensor, copies=min(blocks, sum(shares))) for tensor in _shared_block(body, width))
    rope = read_rope(body) if config.flag("use_mem_rope", default=False) else None
    shape = decoder(body, [made[hybrid] for hybrid in shares], rope=rope, intermediate=width, tied=True)
    shape = whole_on_every_stage(replace(shape, tied_embeddings=True, mixer_width=mixer.width))
    return replace(
        shape,
        every_stage=(*shape.every_stage, *shared),
        stages_problem="shares attention between layers, which vLLM does not split into stages",
    )


def _body(config: Config, architecture: str, model_type: str) -> Body:
    """The fields of the decoder; its attention sees twice the hidden size."""
    body = read_body(config, architecture, model_type)
    if body.kv_heads != body.heads:
        raise config.refuse("num_key_value_heads", f"it must be the {body.heads} attention heads", WAY_OUT)
    if 2 * body.hidden % body.heads:
        raise config.refuse("num_attention_heads", f"it must divide twice the hidden size, {2 * body.hidden}")
    positions = _LONG_POSITIONS if config.flag("use_long_context", default=False) else body.positions
    return replace(body, head_size=2 * body.hidden // body.heads, positions=positions)


def _mixer(body: Body) -> Mamba2:
    config = body.config
    heads = config.integer("n_mamba_heads", maximum=MAX_HEADS)
    inner = read_expanded(config, "mamba_expand", body.hidden)
    checked_heads(config, "mamba_headdim", heads=heads, inner=inner)
    mixer = Mamba2(
        heads=heads,
        inner=inner,
        groups=config.integer("mamba_ngroups", maximum=heads),
        state=config.integer("mamba_d_state", maximum=MAX_WIDTH),
        kernel=read_kernel(config, "mamba_d_conv"),
        conv_bias=config.flag("use_conv_bias", default=True),
        bias=config.flag("add_bias_linear", default=False),
    )
    return whole_groups(config, "mamba_ngroups", mixer)


def _adapters(body: Body, intermediate: int) -> tuple[Tensor, ...]:
    """What each layer adds to the weights that it shares, in a narrow space."""
    rank = body.config.integer("adapter_rank", maximum=MAX_WIDTH)
    down = linear("adapter.A", rank, body.hidden, Sharding.COLUMN)
    up = linear("adapter.B", intermediate, rank, Sharding.COLUMN)
    mlp = (down, up, up)
    if not body.config.flag("use_shared_attention_adapter", default=False):
        return mlp
    wide = 2 * body.hidden
    pair = (replace(down, columns=wide), replace(up, rows=wide))
    return (*mlp, *pair, *pair, *pair)


def _shared_block(body: Body, intermediate: int) -> tuple[Tensor, ...]:
    """One of the blocks of attention and MLP that layers take in turns."""
    wide = 2 * body.hidden
    query = linear("shared.qkv_proj", wide, wide, Sharding.COLUMN)
    mlp = gated_mlp("shared.feed_forward", body.hidden, intermediate)
    biases = map(bias_of, mlp) if body.config.flag("add_bias_linear", default=False) else ()
    return (
        query,
        query,
        query,
        linear("shared.o_proj", body.hidden, wide, Sharding.ROW),
        *mlp,
        *biases,
        *norms(wide, 1, "shared.input_layernorm"),
        *norms(body.hidden, 1, "shared.pre_ff_layernorm"),
    )


FAMILIES: Final = {"Zamba2ForCausalLM": (build, ("zamba2",))}
