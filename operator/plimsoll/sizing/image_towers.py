"""Encoders of images of Llama 4, LLaVA, Kimi-VL, GLM and InternVL, by the shapes of vLLM's classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.sizing.towers import Tower, column, grid, row, split_heads, square_patches, whole

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config

# Sources: vLLM 0.33.0, model_executor/models: mllama4.py, clip.py, siglip.py, llava.py, llava_next.py, moonvit.py, glm4_1v.py, interns1_vit.py.
_COMPLEX_BYTES: Final = 8
_POSITION_BYTES: Final = 8  # of an int64
_ELEMENT_BYTES: Final = 2
_ROPE_POSITIONS: Final = 8192
_MAX_MERGE: Final = 64
_SIDES: Final = ("image_size", "patch_size")


def llama4_tower(vision: Config, text_width: int) -> Tower:
    """Patches unfolded into a linear layer, a class token, and a pixel shuffle with an MLP behind."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    heads = vision.integer("num_attention_heads", maximum=MAX_HEADS)
    inner = vision.integer("projector_input_dim", maximum=MAX_WIDTH)
    outer = vision.integer("projector_output_dim", maximum=MAX_WIDTH)
    bias = vision.flag("multi_modal_projector_bias", default=False)
    positions = grid(vision) ** 2 + 1
    pixels = square_patches(vision, width).columns
    tensors = (
        *column("patch_embedding.linear", width, pixels, bias=False),
        whole("class_embedding", width),
        whole("positional_embedding_vlm", positions, width),
        whole("layernorm", 4 * width),
        whole("layers.norms", 4 * width, copies=depth),
        *split_heads(vision, width, depth, bias=True),
        *row("layers.self_attn.o_proj", width, width, copies=depth),
        *column("layers.mlp.fc1", wide, width, copies=depth),
        *row("layers.mlp.fc2", width, wide, copies=depth),
        *column("vision_adapter.mlp.fc1", inner, wide, bias=bias),
        *row("vision_adapter.mlp.fc2", outer, inner, bias=bias),
        *column(
            "multi_modal_projector.linear_1",
            text_width,
            vision.integer("vision_output_dim", maximum=MAX_WIDTH),
            bias=False,
        ),
    )
    return Tower(tensors=tensors, buffer_bytes=positions * (width // heads // 2) * _COMPLEX_BYTES)


def clip_layers(vision: Config, depth: int, *, last_norm: bool) -> Tower:
    """CLIP: a class token, a norm before the layers, and one behind them where its output is used."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    positions = grid(vision) ** 2 + 1
    tensors = (
        whole("embeddings.class_embedding", width),
        square_patches(vision, width),
        whole("embeddings.position_embedding", positions, width),
        whole("pre_layrnorm", 2 * width),
        *_plain_layers(vision, width, depth),
        *((whole("post_layernorm", 2 * width),) if last_norm else ()),
    )
    return Tower(tensors=tensors, buffer_bytes=positions * _POSITION_BYTES)


def siglip_layers(vision: Config, depth: int, *, last_norm: bool) -> Tower:
    """SigLIP: patches with a bias, learned positions, no class token."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    positions = grid(vision) ** 2
    tensors = (
        square_patches(vision, width),
        whole("embeddings.patch_embedding.bias", width),
        whole("embeddings.position_embedding", positions, width),
        *_plain_layers(vision, width, depth),
        *((whole("post_layernorm", 2 * width),) if last_norm else ()),
    )
    return Tower(tensors=tensors, buffer_bytes=positions * _POSITION_BYTES)


def _plain_layers(vision: Config, width: int, depth: int) -> tuple[Tensor, ...]:
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    return (
        whole("encoder.norms", 4 * width, copies=depth),
        *split_heads(vision, width, depth, bias=True),
        *row("encoder.self_attn.out_proj", width, width, copies=depth),
        *column("encoder.mlp.fc1", wide, width, copies=depth),
        *row("encoder.mlp.fc2", width, wide, copies=depth),
    )


def llava_projector(vision_width: int, text_width: int, *, bias: bool) -> tuple[Tensor, ...]:
    """Two linear layers between the widths."""
    return (
        *column("multi_modal_projector.linear_1", text_width, vision_width, bias=bias),
        *row("multi_modal_projector.linear_2", text_width, text_width, bias=bias),
    )


def moon_tower(vision: Config, text_width: int, merge: tuple[int, int], *, frames: int = 0) -> Tower:
    """MoonViT with a table of positions, and Kimi's projector, whole on every rank; for videos a table of times.

    Args:
        vision: the encoder's config.
        text_width: hidden size of the decoder.
        merge: patches that are joined, by height and width.
        frames: rows of the table of times.
    """
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    prefix = "pos_emb" if frames else "init_pos_emb"
    tall = vision.integer(f"{prefix}_height", maximum=MAX_WIDTH)
    broad = vision.integer(f"{prefix}_width", maximum=MAX_WIDTH)
    merged = width * merge[0] * merge[1]
    tensors = (
        square_patches(vision, width),
        whole("patch_embed.proj.bias", width),
        whole("patch_embed.pos_emb", tall * broad, width),
        whole("encoder.norms", 4 * width, copies=depth),
        *split_heads(vision, width, depth, bias=True),
        *row("encoder.wo", width, width, copies=depth),
        *column("encoder.mlp.fc0", wide, width, copies=depth),
        *row("encoder.mlp.fc1", width, wide, copies=depth),
        whole("encoder.final_layernorm", 2 * width),
        whole("multi_modal_projector.pre_norm", 2 * width),
        whole("multi_modal_projector.linear_1", merged, merged + 1),
        whole("multi_modal_projector.linear_2", text_width, merged + 1),
    )
    return Tower(tensors=tensors, buffer_bytes=frames * width * _ELEMENT_BYTES)


def intern_hf_tower(vision: Config, text_width: int) -> Tower:
    """InternViT as Transformers names it: attention whole on every rank, MLPs split, InternVL's projection whole."""
    for name in ("use_qk_norm", "use_mask_token"):
        if vision.flag(name, default=False):
            raise vision.refuse(name, "such an encoder is not one that can be sized")
    for name in ("attention_bias", "use_absolute_position_embeddings", "use_mean_pooling"):
        if not vision.flag(name, default=True):
            raise vision.refuse(name, "without it this encoder is not one that can be sized")
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("num_hidden_layers", maximum=MAX_LAYERS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    norm = 1 if vision.text("norm_type", default="layer_norm") == "rms_norm" else 2
    square = replace(vision, values={**vision.values, **{name: _side(vision, name) for name in _SIDES}})
    merged = 4 * width
    tensors = (
        whole("embeddings.cls_token", width),
        whole("embeddings.position_embeddings", grid(square) ** 2 + 1, width),
        square_patches(square, width),
        whole("embeddings.patch_embeddings.bias", width),
        whole("encoder.layer.attention", 4 * width, width + 1, copies=depth),
        whole("encoder.layer.norms", (2 * norm + 2) * width, copies=depth),
        *column("encoder.layer.mlp.fc1", wide, width, copies=depth),
        *row("encoder.layer.mlp.fc2", width, wide, copies=depth),
        whole("multi_modal_projector.layer_norm", 2 * merged),
        whole("multi_modal_projector.linear_1", text_width, merged + 1),
        whole("multi_modal_projector.linear_2", text_width, text_width + 1),
    )
    return Tower(tensors=tensors)


def _side(vision: Config, name: str) -> object:
    """One side of a square that may be given as two."""
    value = vision.values.get(name)
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:  # noqa: PLR2004
        return value[0]
    return value


def glm_tower(vision: Config) -> Tower:
    """GLM 4.1V to 4.6V: RMS norms, gated MLPs, a convolution that merges patches, and a gated projection."""
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    depth = vision.integer("depth", maximum=MAX_LAYERS)
    heads = vision.integer("num_heads", maximum=MAX_HEADS)
    wide = vision.integer("intermediate_size", maximum=MAX_WIDTH)
    out = vision.integer("out_hidden_size", maximum=MAX_WIDTH)
    merge = vision.integer("spatial_merge_size", maximum=_MAX_MERGE, default=2) ** 2
    frames = vision.integer("temporal_patch_size", maximum=_MAX_MERGE, default=2)
    if width % heads:
        raise vision.refuse("num_heads", f"it must divide the encoder's width, {width}")
    positions = grid(vision) ** 2
    query = Tensor(
        name="blocks.attn.qkv",
        rows=3 * width,
        columns=width,
        sharding=Sharding.KV_COLUMN,
        kv_heads=heads,
        copies=depth,
    )
    tensors = (
        whole("patch_embed.proj", width, square_patches(vision, width).columns * frames + 1),
        whole("embeddings.position_embedding", positions, width),
        whole("norms", 2 * width),
        whole("blocks.norms", 2 * width, copies=depth),
        query,
        *row("blocks.attn.proj", width, width, bias=False, copies=depth),
        *column("blocks.mlp.gate_proj", out, width, bias=False, copies=depth),
        *column("blocks.mlp.up_proj", out, width, bias=False, copies=depth),
        *row("blocks.mlp.down_proj", width, out, bias=False, copies=depth),
        whole("downsample", out, width * merge + 1),
        *column("merger.proj", out, out, bias=False),
        whole("merger.post_projection_norm", 2 * out),
        *column("merger.gate_proj", wide, out, bias=False),
        *column("merger.up_proj", wide, out, bias=False),
        *row("merger.down_proj", out, wide, bias=False),
    )
    table = _ROPE_POSITIONS * (width // heads // 2) * _ELEMENT_BYTES
    return Tower(tensors=tensors, buffer_bytes=positions * _POSITION_BYTES + table)
