"""Config classes for models whose own come with their repositories as code, so that vLLM's classes build without a network.

Each has the facts that vLLM's model class reads: names, defaults of the published class where a config leaves a field
out, and configs inside configs. What a published class derives beside that is not here.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import AutoConfig, LlamaConfig, NemotronHConfig, PreTrainedConfig, SiglipVisionConfig
from transformers.models.internvl.configuration_internvl import InternVLVisionConfig
from vllm.transformers_utils.configs.dotsocr import DotsOCRConfig

Fields = dict[str, Any]
_AS_LLAMA = ("TeleFLM", "telechat3")
_DEFAULTS: dict[str, Fields] = {
    **{
        kind: {}
        for kind in (
            "deepseek",
            "sarvam_moe",
            "sarvam_mla",
            "param2moe",
            "mimo_v2",
            "phi3_v",
            "siglip2_navit",
        )
    },
    "telechat": {"layer_norm_epsilon": 1e-5, "hidden_act": "silu", "num_key_value_heads": None},
    "PanguEmbedded": {"tie_word_embeddings": False},
    "pangu_ultra_moe": {"tie_word_embeddings": False},
    "phi4mm": {"img_processor": None},
    "iquestcoder": {
        "attention_bias": False,
        "mlp_bias": False,
        "use_sliding_window": False,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "molmo": {
        "num_key_value_heads": None,
        "qkv_bias": False,
        "weight_tying": False,
        "tie_word_embeddings": True,
        "norm_after": False,
        "attention_layer_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "clip_qkv": None,
    },
}
_NAMES = {
    "telechat": {
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "ffn_hidden_size",
        "rms_norm_eps": "layer_norm_epsilon",
    }
}
_OWN_ROTARY = ("mimo_v2",)


def register() -> None:
    """Make them known to Transformers, which vLLM asks."""
    for kind, defaults in _DEFAULTS.items():
        AutoConfig.register(kind, _plain(kind, defaults))
    for kind in _AS_LLAMA:
        AutoConfig.register(kind, type(f"Llama_{kind}", (LlamaConfig,), {"model_type": kind}))
    for made in (Puzzle, Ovis25, InternVision, InternS1, MiniCPMV):
        AutoConfig.register(made.model_type, made)
    AutoConfig.register("dots_ocr", DotsOCRConfig)


def _plain(kind: str, defaults: Fields) -> type[PreTrainedConfig]:
    """The fields as they stand, and the defaults for those that are missing."""

    def init(self: PreTrainedConfig, **kwargs: Any) -> None:
        fields = {**defaults, **kwargs}
        for name, value in fields.items():
            if name not in ("architectures", "dtype", "torch_dtype"):
                setattr(self, name, value)
        PreTrainedConfig.__init__(self, **fields)

    def rotary(_self: PreTrainedConfig, **kwargs: Any) -> Fields:
        return kwargs  # left where they are

    members: Fields = {"model_type": kind, "__init__": init}
    if kind in _NAMES:
        members["attribute_map"] = _NAMES[kind]
    if kind in _OWN_ROTARY:
        members["convert_rope_params_to_dict"] = rotary
    return type(f"Plain_{kind}", (PreTrainedConfig,), members)


class Puzzle(NemotronHConfig):
    """Nemotron-H whose blocks have widths of their own."""

    model_type = "nemotron_h_puzzle"

    def __post_init__(self, **kwargs: Any) -> None:
        self.block_configs = kwargs.pop("block_configs", [])
        self.mtp_block_configs = kwargs.pop("mtp_block_configs", None)
        super().__post_init__(**kwargs)

    def get_nemotron_h_config_for_layer(self, layer_idx: int) -> Puzzle:
        """The config of one block."""
        config = copy.copy(self)
        for key, value in self.block_configs[layer_idx].items():
            if key != "block_type":
                setattr(config, key, value)
        return config


class Ovis25(PreTrainedConfig):
    """A text and a vision tower in sections."""

    model_type = "ovis2_5"

    def __init__(
        self, llm_config: Fields | None = None, vit_config: Fields | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.visual_vocab_size = kwargs.get("visual_vocab_size", 65536)
        self.hidden_size = kwargs.get("hidden_size")
        if llm_config is None:
            return
        self.llm_config = _section(llm_config)
        self.vit_config = _section({**(vit_config or {}), "model_type": "siglip2_navit"})


class InternVision(InternVLVisionConfig):
    """InternVL's under another name."""

    model_type = "interns1_vision"


class InternS1(PreTrainedConfig):
    """InternVL's sections with the text of Qwen 3."""

    model_type = "interns1"

    def __init__(
        self, vision_config: Fields | None = None, text_config: Fields | None = None, **kwargs: Any
    ) -> None:
        self.vision_config = _section({**(vision_config or {}), "model_type": "interns1_vision"})
        self.text_config = _section(text_config or {"model_type": "qwen3"})
        self.image_token_id = kwargs.pop("image_token_id", 151667)
        self.downsample_ratio = kwargs.pop("downsample_ratio", 0.5)
        self.projector_hidden_act = kwargs.pop("projector_hidden_act", "gelu")
        super().__init__(**kwargs)


class MiniCPMV(LlamaConfig):
    """MiniCPM-V, whose text is of another family in each version: the fields are alike."""

    model_type = "minicpmv"

    def __init__(self, vision_config: Fields | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if vision_config is not None:
            self.vision_config = SiglipVisionConfig(**vision_config)


def _section(fields: Fields) -> PreTrainedConfig:
    rest = {name: value for name, value in fields.items() if name != "model_type"}
    return AutoConfig.for_model(fields["model_type"], **rest)
