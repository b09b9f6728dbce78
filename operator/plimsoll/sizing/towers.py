"""Encoders of images that stand before a decoder, by the shapes of vLLM's classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config

# Sources: vLLM 0.33.0, model_executor/models/qwen2_vl.py, qwen2_5_vl.py, qwen3_vl.py.
_ROPE_POSITIONS: Final = 8192
_ELEMENT_BYTES: Final = 2
_FLOAT32_BYTES: Final = 4
_POSITION_BYTES: Final = 8  # of an int64
_CHANNELS: Final = 3
_MAX_MERGE: Final = 64
_CLIPPED: Final = 7  # linear layers of a Gemma 4 encoder's layer
CLIP_VALUES: Final = 4  # least and largest of what goes in and out
_MAX_PATCH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """An encoder's tensors and buffers."""

    tensors: tuple[Tensor, ...]
    buffer_bytes: int = 0


def column(name: str, rows: int, columns: int, *, bias: bool = True, copies: int = 1) -> tuple[Tensor, ...]:
    """A projection that splits its outputs, with its bias."""
    weight = Tensor(name=name, rows=rows, columns=columns, sharding=Sharding.COLUMN, copies=copies)
    if not bias:
        return (weight,)
    return weight, Tensor(name=f"{name}.bias", rows=rows, sharding=Sharding.COLUMN, copies=copies)


def row(name: str, rows: int, columns: int, *, bias: bool = True, copies: int = 1) -> tuple[Tensor, ...]:
    """A projection that splits its inputs; its bias is whole on every rank."""
    weight = Tensor(name=name, rows=rows, columns=columns, sharding=Sharding.ROW, copies=copies)
    if not bias:
        return (weight,)
    return weight, Tensor(name=f"{name}.bias", rows=rows, copies=copies)


def whole(name: str, rows: int, columns: int = 1, *, copies: int = 1) -> Tensor:
    """What every rank holds."""
    return Tensor(name=name, rows=rows, columns=columns, copies=copies)


def qwen2_tower(vision: Config) -> Tower:
    """Layer norms, a plain MLP, and a merger of neighbouring patches."""
    width = vision.integer("embed_dim", maximum=MAX_WIDTH)
    depth = vision.integer("depth", maximum=MAX_LAYERS)
    wide = int(width * vision.number("mlp_ratio", default=4, minimum=1 / MAX_WIDTH, maximum=MAX_WIDTH))
    out = vision.integer("hidden_size", maximum=MAX_WIDTH)
    tensors = (
        _patches(vision, width),
        whole("blocks.norms", 4 * width, copies=depth),
        *_qkv(width, depth),
        *column("blocks.mlp.fc1", wide, width, copies=depth),
        *row("blocks.mlp.fc2", width, wide, copies=depth),
        whole("merger.ln_q", 2 * width),
        *_merger(vision, "merger", width, out),
    )
    return Tower(tensors=tensors, buffer_bytes=_rope_bytes(vision, width))


def qwen2_5_tower(vision: Config) -> Tower:
    """RMS norms and a gated MLP."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("depth", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    out = vision.integer("out_hidden_size", maximum=MAX_WIDTH)
    tensors = (
        _patches(vision, width),
        whole("blocks.norms", 2 * width, copies=depth),
        *_qkv(width, depth),
        *column("blocks.mlp.gate_proj", wide, width, copies=depth),
        *column("blocks.mlp.up_proj", wide, width, copies=depth),
        *row("blocks.mlp.down_proj", width, wide, copies=depth),
        whole("merger.ln_q", width),
        *_merger(vision, "merger", width, out),
    )
    return Tower(tensors=tensors, buffer_bytes=_rope_bytes(vision, width))


def qwen3_tower(vision: Config) -> Tower:
    """Learned positions, layer norms, and one more merger for each level that is fed into the decoder."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("depth", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    out = vision.integer("out_hidden_size", maximum=MAX_WIDTH)
    levels = vision.values.get("deepstack_visual_indexes") or ()
    if not isinstance(levels, (list, tuple)) or len(levels) > depth:
        raise vision.refuse("deepstack_visual_indexes", "it must be a list of layer numbers")
    merged = width * _merge_unit(vision)
    tensors = [
        _patches(vision, width),
        whole("patch_embed.proj.bias", width),
        whole("pos_embed", vision.integer("num_position_embeddings", maximum=MAX_WIDTH, default=2304), width),
        whole("blocks.norms", 4 * width, copies=depth),
        *_qkv(width, depth),
        *column("blocks.mlp.linear_fc1", wide, width, copies=depth),
        *row("blocks.mlp.linear_fc2", width, wide, copies=depth),
        whole("merger.norm", 2 * width),
        *_merger(vision, "merger", width, out),
    ]
    for level in range(len(levels)):
        name = f"deepstack_merger_list.{level}"
        tensors += [whole(f"{name}.norm", 2 * merged), *_merger(vision, name, width, out)]
    return Tower(tensors=tuple(tensors), buffer_bytes=_rope_bytes(vision, width))


def _patches(vision: Config, width: int) -> Tensor:
    patch = vision.integer("patch_size", maximum=_MAX_PATCH)
    frames = vision.integer("temporal_patch_size", maximum=_MAX_PATCH, default=2)
    channels = vision.integer(
        "in_chans" if "in_chans" in vision.values else "in_channels", maximum=_MAX_PATCH, default=_CHANNELS
    )
    return whole("patch_embed.proj", width, channels * frames * patch * patch)


def _qkv(width: int, depth: int) -> tuple[Tensor, ...]:
    return (
        *column("blocks.attn.qkv", 3 * width, width, copies=depth),
        *row("blocks.attn.proj", width, width, copies=depth),
    )


def _merge_unit(vision: Config) -> int:
    return vision.integer("spatial_merge_size", maximum=_MAX_MERGE, default=2) ** 2


def _merger(vision: Config, name: str, width: int, out: int) -> tuple[Tensor, ...]:
    merged = width * _merge_unit(vision)
    return (*column(f"{name}.fc1", merged, merged), *row(f"{name}.fc2", out, merged))


def _rope_bytes(vision: Config, width: int) -> int:
    heads = vision.integer("num_heads", maximum=MAX_HEADS)
    if width % heads:
        raise vision.refuse("num_heads", f"it must divide the encoder's width, {width}")
    return _ROPE_POSITIONS * (width // heads // 2) * _ELEMENT_BYTES


def siglip_tower(vision: Config, text_width: int) -> Tower:
    """SigLIP with learned positions, and Gemma 3's projection behind it."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    patches = grid(vision) ** 2
    tensors = (
        square_patches(vision, width),
        whole("embeddings.patch_embedding.bias", width),
        whole("embeddings.position_embedding", patches, width),
        whole("encoder.norms", 4 * width, copies=depth),
        *split_heads(vision, width, depth, bias=True),
        *row("encoder.self_attn.out_proj", width, width, copies=depth),
        *column("encoder.mlp.fc1", wide, width, copies=depth),
        *row("encoder.mlp.fc2", width, wide, copies=depth),
        whole("post_layernorm", 2 * width),
        whole("mm_input_projection_weight", width, text_width),
        whole("mm_soft_emb_norm", width),
    )
    return Tower(tensors=tensors, buffer_bytes=patches * _POSITION_BYTES)


def pixtral_layers(vision: Config, depth: int) -> Tower:
    """Pixtral with rotary positions."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    tensors = (
        square_patches(vision, width),
        whole("ln_pre", width),
        whole("transformer.norms", 2 * width, copies=depth),
        *split_heads(vision, width, depth, bias=False),
        *row("transformer.attention.o_proj", width, width, bias=False, copies=depth),
        *column("transformer.feed_forward.gate_proj", wide, width, bias=False, copies=depth),
        *column("transformer.feed_forward.up_proj", wide, width, bias=False, copies=depth),
        *row("transformer.feed_forward.down_proj", width, wide, bias=False, copies=depth),
    )
    return Tower(tensors=tensors, buffer_bytes=frequency_bytes(width // heads // 2))


def pixtral_tower(vision: Config, text_width: int, *, merge: int, bias: bool) -> Tower:
    """Pixtral, and Mistral 3's merger and projection behind it."""
    layers = pixtral_layers(vision, vision.integer("num_hidden_layers", maximum=MAX_LAYERS))
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    projection = (
        whole("multi_modal_projector.norm", width),
        whole("multi_modal_projector.patch_merger", width, width * merge**2),
        *column("multi_modal_projector.linear_1", text_width, width, bias=bias),
        *row("multi_modal_projector.linear_2", text_width, text_width, bias=bias),
    )
    return replace(layers, tensors=(*layers.tensors, *projection))


def gemma4_tower(vision: Config, text_width: int) -> Tower:
    """The Transformers class, whole on every rank."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    kept = vision.integer("num_key_value_heads", maximum=MAX_HEADS, default=heads)
    size = vision.integer("head_dim", maximum=MAX_WIDTH)
    patch = vision.integer("patch_size", maximum=_MAX_PATCH)
    clipped = depth * _CLIPPED if vision.flag("use_clipped_linears", default=False) else 0
    positions = vision.integer("position_embedding_size", maximum=MAX_WIDTH)
    tensors = (
        whole("patch_embedder.input_proj", width, _CHANNELS * patch * patch),
        whole("patch_embedder.position_embedding_table", 2 * positions, width),
        whole("encoder.qkv", (heads + 2 * kept) * size, width, copies=depth),
        whole("encoder.o_proj", width, heads * size, copies=depth),
        whole("encoder.mlp", 3 * wide, width, copies=depth),
        whole("encoder.norms", 4 * width + 2 * size, copies=depth),
        whole("embed_vision.embedding_projection", text_width, width),
    )
    standard = 2 * width * _ELEMENT_BYTES if vision.flag("standardize", default=False) else 0
    clips = clipped * CLIP_VALUES * _ELEMENT_BYTES
    return Tower(tensors=tensors, buffer_bytes=standard + clips + frequency_bytes(size // 4))


def intern_tower(vision: Config, text_width: int) -> Tower:
    """InternViT: attention whole where the heads do not divide, and InternVL's projection, whole on every rank."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    merged = 4 * width
    norm = 1 if vision.text("norm_type", default="rms_norm") == "rms_norm" else 2
    tensors = (
        whole("embeddings.class_embedding", width),
        square_patches(vision, width),
        whole("embeddings.patch_embedding.bias", width),
        whole("embeddings.position_embedding", grid(vision) ** 2 + 1, width),
        whole("encoder.norms", (2 * norm + 2) * width, copies=depth),
        *_intern_attention(vision, width, depth),
        *column("encoder.mlp.fc1", wide, width, copies=depth),
        *row("encoder.mlp.fc2", width, wide, copies=depth),
        whole("mlp1.0", 2 * merged),
        whole("mlp1.1", text_width, merged + 1),
        whole("mlp1.3", text_width, text_width + 1),
    )
    return Tower(tensors=tensors)


def _intern_attention(vision: Config, width: int, depth: int) -> tuple[Tensor, ...]:
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    size = width // heads
    bias = vision.flag("qkv_bias", default=False)
    normed = vision.flag("qk_normalization", default=True)
    split = Tensor(
        name="encoder.attn.qkv",
        rows=3 * heads * size,
        columns=width,
        sharding=Sharding.HEADS,
        kv_heads=heads,
        copies=depth,
    )
    tensors = [
        split,
        replace(split, name="encoder.attn.proj", rows=heads * size, columns=width),
        whole("encoder.attn.proj.bias", width, copies=depth),
    ]
    if bias:
        tensors.append(replace(split, name="encoder.attn.qkv.bias", columns=1))
    if normed:
        tensors.append(whole("encoder.attn.qk_norm", 2 * width, copies=depth))
    return tuple(tensors)


def split_heads(vision: Config, width: int, depth: int, *, bias: bool) -> tuple[Tensor, ...]:
    """Query, key and value of each layer, split over the ranks by whole heads."""
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    if width % heads:
        raise vision.refuse("num_attention_heads", f"it must divide hidden_size, {width}")
    weight = Tensor(
        name="self_attn.qkv_proj",
        rows=3 * width,
        columns=width,
        sharding=Sharding.KV_COLUMN,
        kv_heads=heads,
        copies=depth,
    )
    return (weight, replace(weight, name="self_attn.qkv_proj.bias", columns=1)) if bias else (weight,)


def square_patches(vision: Config, width: int) -> Tensor:
    """The convolution that reads one square patch."""
    patch = vision.integer("patch_size", maximum=_MAX_PATCH)
    channels = vision.integer("num_channels", maximum=_MAX_PATCH, default=_CHANNELS)
    return whole("embeddings.patch_embedding", width, channels * patch * patch)


def grid(vision: Config) -> int:
    """Patches along one side of an image."""
    side = vision.integer("image_size", maximum=MAX_WIDTH)
    return side // vision.integer("patch_size", maximum=_MAX_PATCH)


def frequency_bytes(count: int) -> int:
    """Inverse frequencies as the Transformers classes keep them: float32, twice."""
    return 2 * _FLOAT32_BYTES * count
