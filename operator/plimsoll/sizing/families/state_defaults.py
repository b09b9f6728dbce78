"""What the Transformers classes of models with states take where config.json leaves a size out, as vLLM does too.

Source: transformers 5.19.0, the configuration class of each model type; only sizes that bytes depend on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families.defaults import completed_with, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sizing.checked import Config
    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_MIXER: Final = {
    "mamba_n_heads": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
}
_MAMBA: Final = {
    "vocab_size": 50280,
    "hidden_size": 768,
    "state_size": 16,
    "num_hidden_layers": 32,
    "expand": 2,
    "conv_kernel": 4,
}
_LFM2: Final = {
    "vocab_size": 65536,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 128000,
    "conv_L_cache": 3,
}
DEFAULTS: Final[Mapping[str, Mapping[str, int]]] = {
    "granitemoehybrid": {
        **_MIXER,
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 1024,
    },
    "bamba": {
        **_MIXER,
        "vocab_size": 128000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 262144,
    },
    "falcon_h1": {
        **_MIXER,
        "vocab_size": 128000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "mamba_d_ssm": 1024,
    },
    "jamba": {
        "vocab_size": 65536,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 262144,
        "num_experts_per_tok": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
    },
    "zamba2": {
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "hidden_size": 2560,
        "num_hidden_layers": 54,
        "num_attention_heads": 32,
        "mamba_d_state": 64,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "num_mem_blocks": 1,
        "adapter_rank": 128,
    },
    "lfm2": {**_LFM2, "hidden_size": 2560, "intermediate_size": 12288},
    "lfm2_moe": {
        **_LFM2,
        "hidden_size": 2048,
        "intermediate_size": 7168,
        "moe_intermediate_size": 1792,
        "num_dense_layers": 2,
        "num_experts": 32,
        "num_experts_per_tok": 4,
    },
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": {
        "vocab_size": 32768,
        "hidden_size": 4096,
        "num_hidden_layers": 64,
        "num_heads": 128,
        "head_dim": 64,
        "state_size": 128,
        "expand": 2,
        "conv_kernel": 4,
        "n_groups": 8,
    },
    "nemotron_h": {"num_key_value_heads": 8, "head_dim": 128},
    "olmo_hybrid": {
        "vocab_size": 100352,
        "hidden_size": 3840,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 30,
        "max_position_embeddings": 65536,
        "linear_conv_kernel_dim": 4,
    },
}


def completing(builder: Builder) -> Builder:
    """The builder behind a config that is whole, and with a warning where it was not."""

    def build(config: Config, architecture: str, model_type: str) -> ModelShape:
        whole, names = completed_with(config, DEFAULTS.get(model_type, {}))
        shape = builder(whole, architecture, model_type)
        return replace(shape, warnings=(*shape.warnings, *warning(names)))

    return build
