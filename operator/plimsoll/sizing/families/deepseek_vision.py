"""DeepSeek-OCR and DeepSeek-VL2: DeepSeek V2, with or without latent attention, behind encoders of fixed sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import deepseek
from plimsoll.sizing.families.defaults import completed_with, warning
from plimsoll.sizing.families.mixture import correction_bias
from plimsoll.sizing.families.parts import (
    WAY_OUT,
    Body,
    attention,
    decoder,
    norms,
    read_body,
    read_experts,
    read_rope,
    routed,
)
from plimsoll.sizing.families.vision import joined, with_inherited
from plimsoll.sizing.image_towers import clip_layers
from plimsoll.sizing.model import Layer
from plimsoll.sizing.outside import gated_mlp
from plimsoll.sizing.towers import Tower, column, row, whole

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

# Sources: vLLM 0.33.0, model_executor/models: deepseek_ocr.py, deepseek_vl2.py, deepencoder.py, deepseek_v2.py, and
# transformers_utils/configs/deepseek_vl2.py. The encoders are built with these sizes whatever vision_config says.
_TEXT: Final = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "moe_intermediate_size": 1407,
}
_PROJECTOR: Final = {"input_dim": 1152, "n_embed": 2048, "depth": 2, "mlp_ratio": 1, "downsample_ratio": 2}
_ARCHITECTURES: Final = (("DeepseekV2ForCausalLM",), ("DeepseekV3ForCausalLM",))
_LATENT: Final = ("qk_nope_head_dim", "qk_rope_head_dim")  # both are 0 where there is no latent attention
_MAX_RATIO: Final = 64
_VIT, _VIT_WIDE, _VIT_LAYERS, _VIT_PATCHES, _VIT_PIXELS = 1152, 4304, 27, 27 * 27, 3 * 14 * 14
_SAM, _SAM_LAYERS, _SAM_HEAD, _SAM_GRID, _SAM_PIXELS = 768, 12, 64, 64, 3 * 16 * 16
_SAM_FULL, _SAM_WINDOW = 4, 14  # layers that see the whole image; the window of the others
_NECK: Final = (256, 512, 1024)
_KERNEL: Final = 3 * 3
_CLIP: Final = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "image_size": 224,
    "patch_size": 14,
}


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """The text, and in front of it SAM with CLIP for DeepSeek-OCR, a SigLIP of timm's for DeepSeek-VL2."""
    if config.values.get("rswa_window") is not None:
        raise config.refuse("rswa_window", "such attention is not one that can be sized", WAY_OUT)
    text, missing = _text(config)
    if any(text.integer(name, minimum=0, maximum=MAX_WIDTH) for name in _LATENT):
        if not text.flag("use_mla", default=True):
            raise text.refuse("use_mla", "such a variant is not one that can be sized", WAY_OUT)
        shape = deepseek.deepseek_shape(text, architecture, "deepseek_v2")
    else:
        shape = _plain(text, architecture)
    encoder = _sam_and_clip() if architecture == "DeepseekOCRForCausalLM" else _siglip()
    projection, left_out = _projection(config, shape.hidden_size)
    tower = Tower(tensors=(*encoder.tensors, *projection), buffer_bytes=encoder.buffer_bytes)
    shape = joined(shape, tower, architecture, model_type)
    return replace(shape, warnings=(*shape.warnings, *warning((*missing, *left_out))))


def _text(config: Config) -> tuple[Config, tuple[str, ...]]:
    """The decoder's config, and what it leaves to its class."""
    text = config.section("language_config")
    if text is None:
        raise config.refuse("language_config", "the config of the text must stand there", WAY_OUT)
    if text.texts("architectures") not in _ARCHITECTURES:
        raise text.refuse("architectures", "behind this encoder it is DeepseekV2ForCausalLM", WAY_OUT)
    return completed_with(with_inherited(config, text), _TEXT)


def _plain(text: Config, architecture: str) -> ModelShape:
    """The experts of DeepSeek V2 with the attention of its first version."""
    if text.values.get("kv_lora_rank") is not None:
        raise text.refuse("kv_lora_rank", "without latent attention it must be null", WAY_OUT)
    for name in ("n_group", "topk_group"):
        text.integer(name, maximum=MAX_EXPERTS)  # the engine refuses a model that does not say it
    body = read_body(replace(text, values={**text.values, "head_dim": None}), architecture, "deepseek_v2")
    experts = read_experts(text, count="n_routed_experts", width="moe_intermediate_size")
    number = text.integer("n_shared_experts", minimum=0, maximum=MAX_EXPERTS, default=0)
    experts = replace(experts, shared_intermediate_size=number * experts.intermediate_size)
    intermediate = text.integer("intermediate_size", maximum=MAX_WIDTH)
    common = (*attention(body), *norms(body.hidden, 2))
    mixed = routed("mlp", body.hidden, experts)
    if number:
        mixed = (*mixed, *gated_mlp("mlp.shared_experts", body.hidden, experts.shared_intermediate_size))
    if text.text("topk_method", default="greedy") == "noaux_tc":
        mixed = (*mixed, correction_bias("mlp", experts))
    sparse = Layer(cache=body.full, tensors=(*common, *mixed))
    dense = Layer(cache=body.full, tensors=(*common, *gated_mlp("mlp", body.hidden, intermediate)))
    layers = [sparse if flag else dense for flag in _sparse(body)]
    return decoder(body, layers, rope=read_rope(body), intermediate=intermediate, experts=experts)


def _sparse(body: Body) -> tuple[bool, ...]:
    """Which layers are routed."""
    first = body.config.integer("first_k_dense_replace", minimum=0, maximum=MAX_LAYERS, default=0)
    every = body.config.integer("moe_layer_freq", maximum=MAX_LAYERS, default=1)
    return tuple(index >= first and index % every == 0 for index in range(body.layers))


def _siglip() -> Tower:
    """The so400m with a pool of attention; ranks share the MLPs only."""
    mlp = (*column("fc1", _VIT_WIDE, _VIT), *row("fc2", _VIT, _VIT_WIDE))
    tensors = (
        whole("vision.patch_embed.proj", _VIT, _VIT_PIXELS + 1),
        whole("vision.pos_embed", _VIT_PATCHES, _VIT),
        whole("vision.blocks.norms", 4 * _VIT, copies=_VIT_LAYERS),
        whole("vision.blocks.attn", 4 * _VIT, _VIT + 1, copies=_VIT_LAYERS),
        *(replace(tensor, name=f"vision.blocks.mlp.{tensor.name}", copies=_VIT_LAYERS) for tensor in mlp),
        whole("vision.norms", 4 * _VIT),
        whole("vision.attn_pool.latent", _VIT),
        whole("vision.attn_pool.attn", 4 * _VIT, _VIT + 1),
        *(replace(tensor, name=f"vision.attn_pool.mlp.{tensor.name}") for tensor in mlp),
    )
    return Tower(tensors=tensors)


def _sam_and_clip() -> Tower:
    """SAM's encoder, whole on every rank, whose output CLIP's layers read."""
    windows = _SAM_LAYERS - _SAM_FULL
    narrow, middle, last = _NECK
    sam = (
        whole("sam_model.patch_embed.proj", _SAM, _SAM_PIXELS + 1),
        whole("sam_model.pos_embed", _SAM_GRID**2, _SAM),
        whole("sam_model.blocks.norms", 4 * _SAM, copies=_SAM_LAYERS),
        whole("sam_model.blocks.attn", 4 * _SAM, _SAM + 1, copies=_SAM_LAYERS),
        whole("sam_model.blocks.attn.rel_pos", 2 * (2 * _SAM_GRID - 1), _SAM_HEAD, copies=_SAM_FULL),
        whole("sam_model.blocks.attn.window_rel_pos", 2 * (2 * _SAM_WINDOW - 1), _SAM_HEAD, copies=windows),
        whole("sam_model.blocks.mlp.lin1", 4 * _SAM, _SAM + 1, copies=_SAM_LAYERS),
        whole("sam_model.blocks.mlp.lin2", _SAM, 4 * _SAM + 1, copies=_SAM_LAYERS),
        whole("sam_model.neck.norms", 4 * narrow),
        whole("sam_model.neck.0", narrow, _SAM),
        whole("sam_model.neck.2", narrow, narrow * _KERNEL),
        whole("sam_model.net_2", middle, narrow * _KERNEL),
        whole("sam_model.net_3", last, middle * _KERNEL),
    )
    clip = clip_layers(Config(_CLIP), _CLIP["num_hidden_layers"], last_norm=False)
    return Tower(tensors=(*sam, *clip.tensors), buffer_bytes=clip.buffer_bytes)


def _projection(config: Config, text_width: int) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """The projector, whole on every rank, and the marks between rows and views of an image."""
    if config.text("tile_tag", default="") != "2D":
        raise config.refuse("tile_tag", "vLLM takes 2D only", WAY_OUT)
    section = config.section("projector_config") or Config({}, "projector_config")
    projector, missing = completed_with(section, _PROJECTOR)
    if projector.values.get("token_pooling"):
        raise projector.refuse("token_pooling", "vLLM does not pool tokens", WAY_OUT)
    wide = projector.integer("input_dim", maximum=MAX_WIDTH)
    out = projector.integer("n_embed", maximum=MAX_WIDTH)
    if out != text_width:
        raise projector.refuse("n_embed", f"it must be hidden_size of the text, {text_width}")
    marks = whole("image_marks", 2 * out)
    kind = projector.text("projector_type", default="downsample_mlp_gelu")
    if kind == "linear":
        return (whole("projector.layers", out, wide + 1), marks), missing
    if kind != "downsample_mlp_gelu":
        raise projector.refuse("projector_type", "vLLM has no such projector", WAY_OUT)
    inner = out * projector.integer("mlp_ratio", maximum=_MAX_RATIO)
    merged = wide * projector.integer("downsample_ratio", maximum=_MAX_RATIO) ** 2
    between = max(0, projector.integer("depth", maximum=MAX_LAYERS) - 2)
    middle = (whole("projector.layers.middle", inner, inner + 1, copies=between),) if between else ()
    first = whole("projector.layers.first", inner, merged + 1)
    return (first, *middle, whole("projector.layers.last", out, inner + 1), marks), missing


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "DeepseekOCRForCausalLM": (build, ("deepseek_vl_v2", "deepseek_ocr")),
    "DeepseekVLV2ForCausalLM": (build, ("deepseek_vl_v2",)),
}
