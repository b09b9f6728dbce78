"""Gemma 3n behind its two encoders: MobileNet v5 for images and a conformer for sound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.families import gemma3n
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.parts import FLOAT32_BYTES, WAY_OUT
from plimsoll.sizing.families.vision import embeddings_per_layer, joined, root_tie, text_config
from plimsoll.sizing.outside import decoder_dtype, embedding
from plimsoll.sizing.towers import Tower, row, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

# Sources: vLLM 0.33.0, model_executor/models/gemma3n_mm.py; transformers 5.19.0, models/gemma3n and timm_wrapper.
# timm 1.0.31, timm.create_model("mobilenetv5_300m_enc"): one fixed network without buffers, whose width comes out last.
_ELEMENT_BYTES: Final = 2
_MOBILE_NET: Final = "mobilenetv5_300m_enc"
_MOBILE_NET_PARAMETERS: Final = 294_126_912
_MOBILE_NET_WIDTH: Final = 2048
_VISION: Final[Mapping[str, object]] = {
    "architecture": _MOBILE_NET,
    "hidden_size": _MOBILE_NET_WIDTH,
    "vocab_size": 128,
}
_AUDIO: Final[Mapping[str, object]] = {
    "vocab_size": 128,
    "input_feat_size": 128,
    "hidden_size": 1536,
    "conf_attention_chunk_size": 12,
    "conf_attention_context_left": 13,
    "conf_attention_context_right": 0,
    "conf_num_attention_heads": 8,
    "conf_num_hidden_layers": 12,
    "conf_conv_kernel_size": 5,
    "sscp_conv_channel_size": (128, 32),
    "sscp_conv_kernel_size": ((3, 3), (3, 3)),
    "sscp_conv_stride_size": ((2, 2), (2, 2)),
}
_MAX_KERNEL: Final = 1024
_PADDING: Final = 2  # bins beside the first and the last, for each of the two convolutions
_FEED_FORWARD: Final = 4  # times the width
_CLIPS: Final = 5  # scalars of a layer, and one more scales its queries
_PAIR: Final = 2


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text as it stands alone, and both encoders whole on every rank, each with an embedder of its own."""
    if config.flag("language_model_only", default=False):
        raise config.refuse("language_model_only", "without its encoders this model cannot be sized", WAY_OUT)
    text = text_config(config, tied=root_tie(config, default=True))
    shape = gemma3n.build(text, architecture, "gemma3n_text")
    vision, unseen = _section(config, "vision_config", _VISION)
    audio, unheard = _section(config, "audio_config", _AUDIO)
    seeing, hearing = _mobile_net(vision, shape.hidden_size), _conformer(audio, shape.hidden_size)
    tower = Tower(
        tensors=(*seeing.tensors, *hearing.tensors), buffer_bytes=seeing.buffer_bytes + hearing.buffer_bytes
    )
    shape = joined(shape, tower, architecture, model_type)
    return replace(
        shape,
        kept_per_token=embeddings_per_layer(text),
        warnings=(*shape.warnings, *warning((*unseen, *unheard))),
    )


def _section(config: Config, field: str, defaults: Mapping[str, object]) -> tuple[Config, tuple[str, ...]]:
    """An encoder's config, completed from its class; it is built in the dtype that stands there."""
    found, missing = completed_with(config.section(field) or Config({}, config.name(field)), defaults)
    for name in ("dtype", "torch_dtype"):
        if found.values.get(name) is not None and decoder_dtype(found) == "float32":
            raise found.refuse(name, "an encoder that is kept in 32 bits cannot be sized", WAY_OUT)
    return found, missing


def _embedder(name: str, vocab: int, width: int, text_width: int) -> tuple[Tensor, ...]:
    """Embeddings of its own marks, two norms, and the projection into the text."""
    return (
        embedding(f"{name}.embedding", vocab, width),
        whole(f"{name}.norms", 2 * width),
        *row(f"{name}.embedding_projection", text_width, width, bias=False),
    )


def _mobile_net(vision: Config, text_width: int) -> Tower:
    if vision.text("architecture") != _MOBILE_NET:
        raise vision.refuse("architecture", f"{_MOBILE_NET} is the encoder that can be sized", WAY_OUT)
    if vision.values.get("model_args"):
        raise vision.refuse("model_args", "they change timm's network, and then it cannot be sized", WAY_OUT)
    width = vision.integer("hidden_size", maximum=MAX_WIDTH)
    if width != _MOBILE_NET_WIDTH:
        raise vision.refuse("hidden_size", f"it must be {_MOBILE_NET}'s, {_MOBILE_NET_WIDTH}")
    vocab = vision.integer("vocab_size", maximum=MAX_WIDTH)
    return Tower(
        tensors=(
            whole("vision_tower.timm_model", _MOBILE_NET_PARAMETERS),
            *_embedder("embed_vision", vocab, width, text_width),
        )
    )


def _conformer(audio: Config, text_width: int) -> Tower:
    width = audio.integer("hidden_size", maximum=MAX_WIDTH)
    depth = audio.integer("conf_num_hidden_layers", maximum=MAX_LAYERS)
    heads = audio.integer("conf_num_attention_heads", maximum=MAX_HEADS)
    kernel = audio.integer("conf_conv_kernel_size", maximum=_MAX_KERNEL)
    vocab = audio.integer("vocab_size", maximum=MAX_WIDTH)
    if width % heads:
        raise audio.refuse("conf_num_attention_heads", f"it must divide hidden_size, {width}")
    inner = _FEED_FORWARD * width
    layer = (
        whole("conformer.ffw_layers", 2 * (2 * inner + 2), width, copies=depth),
        whole(
            "conformer.attention", 5 * width, width, copies=depth
        ),  # query, key, value, positions and output
        whole("conformer.attention.per_dim_scale", width // heads, copies=depth),
        whole("conformer.lconv1d", width, 3 * width + kernel + 2, copies=depth),
        whole("conformer.norms", 3 * width, copies=depth),
    )
    return Tower(
        tensors=(*_subsampling(audio, width), *layer, *_embedder("embed_audio", vocab, width, text_width)),
        buffer_bytes=depth * _layer_buffers(audio, width),
    )


def _subsampling(audio: Config, width: int) -> tuple[Tensor, ...]:
    """Two convolutions over time and frequency, and the projection of what they leave of the frequencies."""
    channels = _pair(audio, "sscp_conv_channel_size", MAX_WIDTH, audio.values.get("sscp_conv_channel_size"))
    kernels, strides = _pairs(audio, "sscp_conv_kernel_size"), _pairs(audio, "sscp_conv_stride_size")
    bins = audio.integer("input_feat_size", maximum=MAX_WIDTH)
    read, tensors = 1, []
    for index, (made, (high, broad), (_, step)) in enumerate(zip(channels, kernels, strides, strict=True)):
        bins = (bins + _PADDING - broad) // step + 1
        if bins < 1:
            raise audio.refuse("sscp_conv_kernel_size", "it must not be wider than the sound's features")
        name = f"subsample_conv_projection.conv_{index}"
        tensors += [whole(name, made, read * high * broad), whole(f"{name}.norm", made)]
        read = made
    return (*tensors, whole("subsample_conv_projection.input_proj_linear", width, read * bins))


def _layer_buffers(audio: Config, width: int) -> int:
    """Timescales and a cap in float32, a mask of booleans over one chunk, and scalars of the model's dtype."""
    chunk = audio.integer("conf_attention_chunk_size", maximum=MAX_WIDTH)
    left = audio.integer("conf_attention_context_left", minimum=0, maximum=MAX_WIDTH)
    right = audio.integer("conf_attention_context_right", minimum=0, maximum=MAX_WIDTH)
    seen = chunk + max(0, left - 1) + right
    if chunk * seen > MAX_TOKENS:
        raise audio.refuse("conf_attention_chunk_size", "with these contexts it is too large to be sized")
    return FLOAT32_BYTES * (width // 2 + 1) + chunk * seen + _ELEMENT_BYTES * (_CLIPS + 1)


def _pairs(audio: Config, field: str) -> tuple[tuple[int, int], ...]:
    value = audio.values.get(field)
    if not isinstance(value, (list, tuple)) or len(value) != _PAIR:
        raise audio.refuse(field, "it must be two pairs, such as [[3, 3], [3, 3]]")
    return tuple(_pair(audio, field, _MAX_KERNEL, pair) for pair in value)


def _pair(audio: Config, field: str, maximum: int, value: object) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != _PAIR:
        raise audio.refuse(field, "it must be made of pairs of whole numbers")
    first, second = value
    for size in (first, second):
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= maximum:
            raise audio.refuse(field, f"it must be made of whole numbers from 1 to {maximum}")
    return first, second


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "Gemma3nForConditionalGeneration": (build, ("gemma3n",))
}
