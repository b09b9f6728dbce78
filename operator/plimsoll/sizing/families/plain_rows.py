"""The rows of decoders with one kind of attention and one MLP: each class of vLLM, its model types, how it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.families.plain import Plain, builder

if TYPE_CHECKING:
    from plimsoll.sizing.families.parts import Builder

_BIAS: Final = ("attention_bias", "bias")
_GPT2_NAMES: Final = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
}
# Sources: vLLM 0.33.0, model_executor/models: commandr, glm4, nemotron, exaone, exaone4, apertus, internlm2, mimo,
# minicpm, stablelm, solar, orion, ernie45, gpt2, gpt_j, bloom, llama.
ROWS: Final[dict[str, tuple[tuple[str, ...], Plain]]] = {
    "CohereForCausalLM": (
        ("cohere",),
        Plain(norms=1, split_norms=("use_qk_norm",), every_stage=True, own_output=False, tied=True),
    ),
    "Cohere2ForCausalLM": (
        ("cohere2",),
        Plain(
            norms=1,
            split_norms=("use_qk_norm",),
            every_stage=True,
            own_output=False,
            tied=True,
            windows=True,
            pattern=4,
            window_plus=1,
        ),
    ),
    "Glm4ForCausalLM": (
        ("glm4",),
        Plain(query_bias=("attention_bias",), norms=4, rotated=0.5, unloaded="num_nextn_predict_layers"),
    ),
    "NemotronForCausalLM": (
        ("nemotron",),
        Plain(
            query_bias=_BIAS,
            output_bias=_BIAS,
            mlp_bias=("mlp_bias",),
            gated=False,
            rotated=0.5,
            norms=4,
            last_norms=2,
        ),
    ),
    "ExaoneForCausalLM": (
        ("exaone",),
        Plain(
            names={"num_hidden_layers": "num_layers"},
            query_bias=_BIAS,
            output_bias=_BIAS,
            mlp_bias=("mlp_bias",),
        ),
    ),
    "Exaone4ForCausalLM": (
        ("exaone4",),
        Plain(
            query_bias=_BIAS,
            output_bias=_BIAS,
            mlp_bias=("mlp_bias",),
            head_norms=True,
            windows=True,
            pattern=4,
        ),
    ),
    "ApertusForCausalLM": (
        ("apertus",),
        Plain(
            query_bias=_BIAS,
            output_bias=_BIAS,
            mlp_bias=("mlp_bias",),
            gated=False,
            head_norms=True,
            windows=True,
            extra=2,
            buffers=2,
        ),
    ),
    "InternLM2ForCausalLM": (("internlm2",), Plain(every_stage=True, refused=("bias",))),
    "MiMoForCausalLM": (
        ("mimo",),
        Plain(query_bias=True, unloaded="num_nextn_predict_layers", refused=("use_sliding_window",)),
    ),
    "MiniCPMForCausalLM": (("minicpm",), Plain(every_stage=True, tied=True, refused=("num_experts",))),
    "StableLmForCausalLM": (
        ("stablelm",),
        Plain(
            query_bias=("use_qkv_bias",),
            rotated=0.25,
            every_stage=True,
            norms=4,
            last_norms=2,
            refused=("qk_layernorm", "use_parallel_residual"),
        ),
    ),
    "SolarForCausalLM": (("solar",), Plain(query_bias=_BIAS, output_bias=_BIAS, mlp_bias=("mlp_bias",))),
    "OrionForCausalLM": (("orion",), Plain(every_stage=True, norms=4, last_norms=2)),
    "Ernie4_5ForCausalLM": (("ernie4_5",), Plain(query_bias=_BIAS, refused=("use_bias",), tied=True)),
    "GPT2LMHeadModel": (
        ("gpt2",),
        Plain(
            names=_GPT2_NAMES,
            query_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            learned=0,
            every_stage=True,
            tied=True,
            norms=4,
            last_norms=2,
            refused=("add_cross_attention", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"),
        ),
    ),
    "GPTJForCausalLM": (
        ("gptj",),
        Plain(
            names=_GPT2_NAMES,
            mlp_bias=True,
            gated=False,
            norms=2,
            last_norms=2,
            head_bias=True,
            every_stage=True,
            refused=("tie_word_embeddings",),
        ),
    ),
    "BloomForCausalLM": (
        ("bloom",),
        Plain(
            names={
                "num_attention_heads": "n_head",
                "num_hidden_layers": "n_layer",
                "hidden_size": "n_embed",
                "max_position_embeddings": "seq_length",
            },
            defaults={"max_position_embeddings": 2048},
            query_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            turns=False,
            outside=2,
            every_stage=True,
            tied=True,
            norms=4,
            last_norms=2,
        ),
    ),
    "InternLM3ForCausalLM": (("internlm3",), Plain(query_bias=("qkv_bias",), output_bias=("bias",))),
    "Ministral3ForCausalLM": (("ministral3",), Plain()),
    "LLaMAForCausalLM": (("llama",), Plain(query_bias=_BIAS, output_bias=_BIAS, mlp_bias=("mlp_bias",))),
    "IQuestCoderForCausalLM": (
        ("iquestcoder",),
        Plain(
            defaults={"num_key_value_heads": 8, "head_dim": 128, "use_sliding_window": False},
            query_bias=_BIAS,
            output_bias=_BIAS,
            mlp_bias=("mlp_bias",),
            refused=("qkv_bias", "use_sliding_window"),
        ),
    ),
    # Classes that vLLM takes from Transformers as they are: model_executor/models/transformers.
    "SeedOssForCausalLM": (
        ("seed_oss",),
        Plain(
            query_bias=("attention_bias",),
            output_bias=("attention_out_bias",),
            mlp_bias=("mlp_bias",),
            inverse=True,
        ),
    ),
    "SmolLM3ForCausalLM": (
        ("smollm3",),
        Plain(
            query_bias=("attention_bias",),
            output_bias=("attention_bias",),
            mlp_bias=("mlp_bias",),
            inverse=True,
            tied=True,
            refused=("use_sliding_window",),
        ),
    ),
    "Olmo2ForCausalLM": (
        ("olmo2",),
        Plain(query_bias=("attention_bias",), output_bias=("attention_bias",), wide_norms=True, inverse=True),
    ),
    "OlmoForCausalLM": (
        ("olmo",),
        Plain(
            query_bias=("attention_bias",),
            output_bias=("attention_bias",),
            norms=0,
            last_norms=0,
            inverse=True,
        ),
    ),
    "PhiForCausalLM": (
        ("phi",),
        Plain(
            query_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            norms=2,
            last_norms=2,
            rotated=0.5,
            inverse=True,
            refused=("qk_layernorm",),
        ),
    ),
    "GPTNeoXForCausalLM": (
        ("gpt_neox",),
        Plain(
            names={"partial_rotary_factor": "rotary_pct"},
            query_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            norms=4,
            last_norms=2,
            rotated=0.25,
            inverse=True,
            required=("attention_bias",),
        ),
    ),
    "Starcoder2ForCausalLM": (
        ("starcoder2",),
        Plain(
            query_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            norms=4,
            last_norms=2,
            inverse=True,
            tied=True,
            required=("use_bias",),
        ),
    ),
    "ArceeForCausalLM": (
        ("arcee",),
        Plain(
            query_bias=("attention_bias",),
            output_bias=("attention_bias",),
            mlp_bias=("mlp_bias",),
            gated=False,
            inverse=True,
        ),
    ),
    "Olmo3ForCausalLM": (
        ("olmo3",),
        Plain(
            query_bias=("attention_bias",),
            output_bias=("attention_bias",),
            wide_norms=True,
            inverse=True,
            windows=True,
            pattern=4,
        ),
    ),
    "GlmForCausalLM": (("glm",), Plain(query_bias=("attention_bias",), rotated=0.5, inverse=True)),
    "HunYuanDenseV1ForCausalLM": (
        ("hunyuan_v1_dense",),
        Plain(query_bias=("attention_bias",), output_bias=("attention_bias",), head_norms=True, inverse=True),
    ),
}

FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    name: (builder(row), types) for name, (types, row) in ROWS.items()
}
