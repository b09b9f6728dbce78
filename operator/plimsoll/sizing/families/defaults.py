"""What the Transformers classes take where config.json leaves a size out, as vLLM does too.

Source: transformers 5.19.0, the configuration class of each model type; only fields that bytes depend on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN: Final = 3
_CLIP: Final = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_LLAVA_CLIP: Final = {
    **_CLIP,
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 336,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
_LLAMA: Final = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}
_WHISPER: Final = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
}
DEFAULTS: Final[dict[str, Mapping[str, object]]] = {
    "clip_vision_model": _CLIP,
    "llava's clip_vision_model": _LLAVA_CLIP,
    "siglip_vision_model": {**_CLIP, "patch_size": 16},
    "llava_onevision's siglip_vision_model": {
        **_CLIP,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
    "pixtral": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_channels": 3,
        "image_size": 1024,
        "patch_size": 16,
    },
    "llama": _LLAMA,
    "granite": _LLAMA,
    "mistral": {
        **_LLAMA,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
    },
    "qwen2": {**_LLAMA, "vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768},
    "llama4_text": {
        "hidden_size": 5120,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 202048,
        "max_position_embeddings": 131072,
        "attention_chunk_size": 8192,
        "interleave_moe_layer_step": 1,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "no_rope_layer_interval": 4,
    },
    "llama4_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 5632,
        "num_hidden_layers": 34,
        "num_attention_heads": 16,
        "num_channels": 3,
        "image_size": 448,
        "patch_size": 14,
        "pixel_shuffle_ratio": 0.5,
        "projector_input_dim": 4096,
        "projector_output_dim": 4096,
        "vision_output_dim": 7680,
        "multi_modal_projector_bias": False,
    },
    "moonvit": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
        "init_pos_emb_height": 64,
        "init_pos_emb_width": 64,
    },
    "kimi_k25_vision": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
        "pos_emb_height": 64,
        "pos_emb_width": 64,
        "pos_emb_time": 4,
    },
    "qwen2_audio_encoder": _WHISPER,
    "qwen2_5_omni audio": {**_WHISPER, "output_dim": 3584},
    "qwen2_5_vl vision": {
        "depth": 32,
        "hidden_size": 3584,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_channels": 3,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 3584,
    },
}


def completed(config: Config, kind: str) -> tuple[Config, tuple[str, ...]]:
    """The config with what the class of that kind takes for the fields that it leaves out, and their names."""
    return completed_with(config, DEFAULTS[kind])


def completed_with(config: Config, defaults: Mapping[str, object]) -> tuple[Config, tuple[str, ...]]:
    """The config with these values for the fields that it leaves out, and their names."""
    missing = {name: value for name, value in defaults.items() if name not in config.values}
    if not missing:
        return config, ()
    return Config({**config.values, **missing}, config.path), tuple(map(config.name, missing))


def warning(names: tuple[str, ...]) -> tuple[str, ...]:
    """The sentence that says which fields stand nowhere; none where all stand in the config."""
    if not names:
        return ()
    sections = dict.fromkeys(name.rpartition(".")[0] for name in names)
    shown = " and ".join(_of_section(section, names) for section in sections)
    return (f"config.json leaves out {shown}: they are taken from the Transformers class, as vLLM does.",)


def _of_section(section: str, names: tuple[str, ...]) -> str:
    fields = [name for name in names if name.rpartition(".")[0] == section]
    return ", ".join(fields) if len(fields) <= _SHOWN else f"{len(fields)} sizes of {section or 'the root'}"
