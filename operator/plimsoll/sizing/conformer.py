"""The conformer that hears for Phi 4 multimodal, by the shapes of vLLM's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.towers import Tower, whole

if TYPE_CHECKING:
    from plimsoll.sizing.tensors import Tensor

# Source: vLLM 0.33.0, model_executor/models/phi4mm_audio.py and phi4mm_utils.py.
_WAY_OUT: Final = "use the model as its authors published it"
_KERNEL: Final = 9  # three by three
_FACTORS: Final = (4, 8, 16, 32)
_MAX_KERNEL: Final = 1024
_MAX_DISTANCE: Final = 2**20
_SCALAR_BYTES: Final = 2
# Variants that no published model has.
_PLAIN: Final = ("batch_norm", "linear_glu_in_convm")


def phi4_audio_tower(config: Config, text_width: int) -> Tower:
    """The conformer and two projections of what it hears, one of them for sound beside images."""
    audio, embeds = _sections(config)
    width = audio.integer("attention_dim", maximum=MAX_WIDTH)
    bins = audio.integer("input_size", maximum=MAX_WIDTH)
    normed = audio.section("encoder_embedding_config") or Config({}, audio.name("encoder_embedding_config"))
    projected = width * embeds.integer("downsample_rate", maximum=_MAX_KERNEL, default=1)
    tensors = (
        *_subsampling(audio, width, bins),
        whole("encoder.relative_attention_bias_layer", *_distances(audio)),
        whole("encoder.encoder_embedding", 2 * normed.integer("input_size", maximum=MAX_WIDTH)),
        *_layers(audio, width),
        whole("audio_projection.0", text_width, projected + 1, copies=2),
        whole("audio_projection.2", text_width, text_width + 1, copies=2),
    )
    return Tower(tensors=tensors, buffer_bytes=_SCALAR_BYTES)


def _sections(config: Config) -> tuple[Config, Config]:
    """The config of the encoder, and of what joins it to the text.

    Raises:
        UnsupportedModelError: one is absent, or asks for what vLLM does not build.
    """
    processor = config.section("audio_processor")
    audio = processor.section("config") if processor is not None else None
    if processor is None or audio is None:
        raise config.refuse("audio_processor", "the config of the sound encoder must stand there", _WAY_OUT)
    if processor.text("name", default="") != "cascades":
        raise processor.refuse("name", "vLLM takes cascades only", _WAY_OUT)
    layer = config.section("embd_layer")
    embeds = layer.section("audio_embd_layer") if layer is not None else None
    if embeds is None:
        raise config.refuse("embd_layer", "its audio_embd_layer must stand there", _WAY_OUT)
    if embeds.text("projection_cls", default="linear") != "mlp":
        raise embeds.refuse("projection_cls", "mlp is what can be sized", _WAY_OUT)
    for section, names in ((embeds, ("use_qformer", "use_conv_downsample")), (audio, _PLAIN)):
        for name in names:
            if section.flag(name, default=False):
                raise section.refuse(name, "such an encoder is not one that can be sized", _WAY_OUT)
    return audio, embeds


def _subsampling(audio: Config, width: int, bins: int) -> tuple[Tensor, ...]:
    """Convolutions that halve time and frequencies, each but the first by channels and then across them."""
    if audio.text("input_layer", default="nemo_conv") != "nemo_conv":
        raise audio.refuse("input_layer", "vLLM takes nemo_conv only", _WAY_OUT)
    factor = audio.integer("time_reduction", maximum=max(_FACTORS), default=4)
    if factor not in _FACTORS:
        raise audio.refuse("time_reduction", "it must be a power of 2 from 4 to 32")
    halvings = factor.bit_length() - 1
    settings = audio.section("nemo_conv_settings") or Config({}, audio.name("nemo_conv_settings"))
    if settings.text("subsampling", default="dw_striding") != "dw_striding":
        raise settings.refuse("subsampling", "dw_striding is what can be sized", _WAY_OUT)
    if settings.flag("is_causal", default=False):
        raise settings.refuse("is_causal", "such an encoder is not one that can be sized", _WAY_OUT)
    channels = settings.integer("conv_channels", maximum=MAX_WIDTH, default=256)
    for _ in range(halvings):
        bins = (bins + 1) // 2
    return (
        whole("encoder.embed.conv.0", channels, _KERNEL + 1),
        whole("encoder.embed.conv.deep", channels, _KERNEL + 1, copies=halvings - 1),
        whole("encoder.embed.conv.across", channels, channels + 1, copies=halvings - 1),
        whole("encoder.embed.out", width, channels * bins + 1),
    )


def _distances(audio: Config) -> tuple[int, int]:
    """Rows and columns of the bias of attention by distance."""
    bias = audio.section("relative_attention_bias_args")
    if bias is None or bias.text("type", default="") != "t5":
        raise audio.refuse("relative_attention_bias_args", "vLLM takes the type t5 only", _WAY_OUT)
    rows = bias.integer("t5_bias_max_distance", maximum=_MAX_DISTANCE, default=1000)
    sides = 1 if bias.flag("t5_bias_symmetric", default=False) else 2
    return sides * rows, audio.integer("attention_heads", maximum=MAX_HEADS, default=4)


def _layers(audio: Config, width: int) -> tuple[Tensor, ...]:
    heads = audio.integer("attention_heads", maximum=MAX_HEADS, default=4)
    if width % heads:
        raise audio.refuse("attention_heads", f"it must divide attention_dim, {width}")
    if audio.integer("attention_group_size", maximum=MAX_HEADS, default=1) != 1:
        raise audio.refuse("attention_group_size", "1 is what can be sized", _WAY_OUT)
    for name in ("ext_pw_out_channel", "depthwise_seperable_out_channel"):
        if audio.integer(name, maximum=MAX_WIDTH) != width:
            raise audio.refuse(name, f"what can be sized is attention_dim, {width}", _WAY_OUT)
    depth = audio.integer("num_blocks", maximum=MAX_LAYERS, default=6)
    wide = audio.integer("linear_units", maximum=MAX_WIDTH, default=2048)
    kernel = audio.integer("kernel_size", maximum=_MAX_KERNEL, default=3)
    outer = audio.integer("ext_pw_kernel_size", maximum=_MAX_KERNEL, default=1)
    deep = width * audio.integer("depthwise_multiplier", maximum=_MAX_KERNEL, default=1)
    bias = 1 if audio.flag("bias_in_glu", default=True) else 0
    return (
        whole("encoder.layers.feed_forward.gate", 2 * wide, width + bias, copies=2 * depth),
        whole("encoder.layers.feed_forward.down", width, wide + 1, copies=2 * depth),
        whole("encoder.layers.self_attn", 4 * width, width + 1, copies=depth),
        whole("encoder.layers.conv.outer", width, width * outer + 1, copies=depth),
        whole("encoder.layers.conv.glu", 2 * width, width * outer + 1 + bias, copies=depth),
        whole("encoder.layers.conv.deep", deep, kernel + 1, copies=depth),
        whole("encoder.layers.conv.across", width, deep + 1, copies=depth),
        whole("encoder.layers.norms", 10 * width, copies=depth),
    )
