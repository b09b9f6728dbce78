"""Rows that contradict what is known of a card or a config, and are scored all the same."""

from __future__ import annotations

from typing import Any

from accuracy_samples import LLAMA, row

from plimsoll.accuracy.predict import predict
from plimsoll.accuracy.score import score_row
from plimsoll.sizing.files import stored_bytes

SPARSE: dict[str, Any] = {
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "moe_intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "q_lora_rank": 512,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "index_topk": 2048,
    "index_head_dim": 128,
    "index_n_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def test_a_start_on_a_card_that_cannot_has_a_wrong_verdict_and_figures_all_the_same() -> None:
    old = {"gpu": "RTX 3090", "gpu_mem_gib": 24, "gpu_total_reported_gib": 23.6, "max_model_len": 4096}
    ran = score_row(row(**old, available_kv_gib=10.0), lambda _model: SPARSE)
    failed = score_row(row(**old, available_kv_gib=10.0, outcome="OOM at load"), lambda _model: SPARSE)

    assert [(one.name, one.ours) for one in ran.measures] == [("available_kv", 10.0)]
    assert ran.right is False
    assert ran.prediction is not None
    assert any(
        "reckoned as on a card that can: RTX-3090 has compute capability 8.6" in one
        for one in ran.prediction.assumed
    )
    assert [(one.name, one.ours) for one in failed.measures] == [("available_kv", 0.0)]
    assert failed.right is True


def test_the_size_of_the_files_decides_what_the_config_leaves_out() -> None:
    text = {**LLAMA, "model_type": "mistral"}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "torch_dtype": "bfloat16",
        "text_config": {
            key: text[key] for key in text if key not in ("architectures", "tie_word_embeddings")
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "head_dim": 64,
            "image_size": 28,
            "patch_size": 14,
        },
    }
    found = predict(row(), config)
    assert found.launch is not None
    tied = stored_bytes(found.launch.shape, 2)
    apart = predict(row(), {**config, "_total_safetensors_bytes": tied + 128256 * 4096 * 2})

    assert apart.weights_bytes - found.weights_bytes == 128256 * 4096 * 2
