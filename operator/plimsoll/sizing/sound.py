"""Encoders of sound, by the shapes of vLLM's and Transformers' classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.sizing.towers import CLIP_VALUES, Tower, column, row, whole

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config

# Sources: vLLM 0.33.0, model_executor/models: qwen2_audio.py, qwen2_5_omni_thinker.py; transformers 5.19.0.
_FLOAT32_BYTES: Final = 4
_ELEMENT_BYTES: Final = 2
_CHANNELS: Final = (128, 32)
_SUBSAMPLED_BINS: Final = 32  # of 128, halved twice
_CLIPPED: Final = 10  # linear layers of a layer of Gemma 4's encoder
_KERNEL: Final = 3
_HALVINGS: Final = 3
_MARKS: Final = 2  # embeddings of the begin and the end of a sound


def whole_layers(audio: Config, width: int) -> tuple[Tensor, ...]:
    """Two convolutions and the layers of Whisper's encoder as Transformers builds them, whole on every rank."""
    depth = audio.integer("encoder_layers", maximum=MAX_LAYERS)
    wide = audio.integer("encoder_ffn_dim", maximum=MAX_WIDTH)
    bins = audio.integer("num_mel_bins", maximum=MAX_WIDTH)
    audio.integer("encoder_attention_heads", maximum=MAX_HEADS)
    return (
        whole("conv1", width, bins * _KERNEL + 1),
        whole("conv2", width, width * _KERNEL + 1),
        whole("layers.self_attn", width, 4 * width + 3, copies=depth),  # the key has no bias
        whole("layers.norms", 4 * width, copies=depth),
        whole("layers.fc1", wide, width + 1, copies=depth),
        whole("layers.fc2", width, wide + 1, copies=depth),
        whole("layer_norm", 2 * width),
    )


def split_layers(audio: Config, width: int) -> tuple[Tensor, ...]:
    """The same as vLLM builds them for Whisper itself, split over the ranks, with a table of positions."""
    depth = audio.integer("encoder_layers", maximum=MAX_LAYERS)
    wide = audio.integer("encoder_ffn_dim", maximum=MAX_WIDTH)
    bins = audio.integer("num_mel_bins", maximum=MAX_WIDTH)
    heads = audio.integer("encoder_attention_heads", maximum=MAX_HEADS)
    if width % heads:
        raise audio.refuse("encoder_attention_heads", f"it must divide the encoder's width, {width}")
    query = Tensor(
        name="encoder.qkv_proj",
        rows=3 * width,
        columns=width,
        sharding=Sharding.KV_COLUMN,
        kv_heads=heads,
        copies=depth,
    )
    return (
        whole("conv1", width, bins * _KERNEL + 1),
        whole("conv2", width, width * _KERNEL + 1),
        whole("embed_positions", audio.integer("max_source_positions", maximum=MAX_TOKENS), width),
        query,
        replace(query, name="encoder.qkv_proj.bias", columns=1),
        *row("encoder.out_proj", width, width, copies=depth),
        *column("encoder.fc1", wide, width, copies=depth),
        *row("encoder.fc2", width, wide, copies=depth),
        whole("encoder.norms", 4 * width, copies=depth),
        whole("encoder.layer_norm", 2 * width),
    )


def qwen2_audio_tower(audio: Config, text_width: int) -> Tower:
    """Qwen2-Audio: a table of positions and one projection."""
    width = audio.integer("d_model", maximum=MAX_WIDTH)
    positions = audio.integer("max_source_positions", maximum=MAX_TOKENS)
    return Tower(
        tensors=(
            *whole_layers(audio, width),
            whole("embed_positions", positions, width),
            whole("multi_modal_projector.linear", text_width, width + 1),
        )
    )


def omni3_audio_tower(audio: Config) -> Tower:
    """Qwen3-Omni: three convolutions in two dimensions, layers split where the heads divide, two projections."""
    width = audio.integer("d_model", maximum=MAX_WIDTH)
    depth = audio.integer("encoder_layers", maximum=MAX_LAYERS)
    wide = audio.integer("encoder_ffn_dim", maximum=MAX_WIDTH)
    heads = audio.integer("encoder_attention_heads", maximum=MAX_HEADS)
    inner = audio.integer("downsample_hidden_size", maximum=MAX_WIDTH)
    bins = audio.integer("num_mel_bins", maximum=MAX_WIDTH)
    out = audio.integer("output_dim", maximum=MAX_WIDTH)
    positions = audio.integer("max_source_positions", maximum=MAX_TOKENS)
    if width % heads or wide % heads:
        raise audio.refuse("encoder_attention_heads", f"it must divide d_model, {width}, and the MLP, {wide}")
    for _ in range(_HALVINGS):
        bins = (bins + 1) // 2
    split = Tensor(
        name="layers.qkv",
        rows=3 * width,
        columns=width,
        sharding=Sharding.HEADS,
        kv_heads=heads,
        copies=depth,
    )
    return Tower(
        tensors=(
            whole("conv2d1", inner, _KERNEL**2 + 1),
            whole("conv2d", inner, inner * _KERNEL**2 + 1, copies=2),
            whole("conv_out", width, inner * bins),
            split,
            replace(split, name="layers.qkv.bias", columns=1),
            replace(split, name="layers.out_proj", rows=width),
            replace(split, name="layers.fc1", rows=wide, columns=width + 1),
            replace(split, name="layers.fc2", rows=wide, columns=width),
            whole(
                "layers.rest", 6 * width, copies=depth
            ),  # two norms, and the biases of what is split by inputs
            whole("ln_post", 2 * width),
            whole("proj1", width, width + 1),
            whole("proj2", out, width + 1),
        ),
        buffer_bytes=positions * width * _FLOAT32_BYTES,
    )


def omni_audio_tower(audio: Config) -> Tower:
    """Qwen2.5-Omni: computed positions, a projection, and embeddings of begin and end."""
    width = audio.integer("d_model", maximum=MAX_WIDTH)
    out = audio.integer("output_dim", maximum=MAX_WIDTH)
    positions = audio.integer("max_source_positions", maximum=MAX_TOKENS)
    return Tower(
        tensors=(
            *whole_layers(audio, width),
            whole("proj", out, width + 1),
            whole("audio_bos_eos_token", _MARKS, out),
        ),
        buffer_bytes=positions * width * _FLOAT32_BYTES,
    )


def gemma4_audio_tower(audio: Config, text_width: int) -> Tower:
    """Gemma 4's conformer as Transformers builds it, whole on every rank."""
    width = audio.integer("hidden_size", maximum=MAX_WIDTH)
    depth = audio.integer("num_hidden_layers", maximum=MAX_LAYERS)
    heads = audio.integer("num_attention_heads", maximum=MAX_HEADS)
    kernel = audio.integer("conv_kernel_size", maximum=MAX_WIDTH)
    out = audio.integer("output_proj_dims", maximum=MAX_WIDTH)
    channels = audio.values.get("subsampling_conv_channels", _CHANNELS)
    if not isinstance(channels, (list, tuple)) or len(channels) != 2 or not all(map(_is_width, channels)):  # noqa: PLR2004
        raise audio.refuse("subsampling_conv_channels", "it must be two whole numbers, such as [128, 32]")
    first, second = channels
    tensors = (
        whole("subsample.layer0", first, _KERNEL**2 + 1),
        whole("subsample.layer1", second, first * _KERNEL**2 + 1),
        whole("subsample.input_proj", width, second * _SUBSAMPLED_BINS),
        whole("layers.feed_forward", width, 2 * (8 * width + 2), copies=depth),
        whole("layers.self_attn", width, 5 * width, copies=depth),
        whole("layers.self_attn.per_dim_scale", width // heads, copies=depth),
        whole("layers.lconv1d", width, 3 * width + kernel + 2, copies=depth),
        whole("layers.norms", 3 * width, copies=depth),
        whole("output_proj", out, width + 1),
        whole("embed_audio", text_width, out),
    )
    clips = _CLIPPED * CLIP_VALUES if audio.flag("use_clipped_linears", default=True) else 0
    return Tower(tensors=tensors, buffer_bytes=_ELEMENT_BYTES * (depth * (clips + 1) + width // 2))


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WIDTH
