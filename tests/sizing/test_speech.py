"""Gemma 3n and Granite Speech: what their encoders are refused for, by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.shape import shape_from_facts
from support.configs import facts, patched

CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for topic in ("gemma3n", "granite_speech")
    for vector in json.loads(
        (Path(__file__).parent / "data" / f"vllm_plans_{topic}.json").read_text(encoding="utf-8")
    )
}
GEMMA = "google/gemma-3n-E4B-it"
GRANITE = "granite-speech-other-widths"
REFUSALS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("timm", GEMMA, {"vision_config.architecture": "resnet50"}, "vision_config.architecture", "mobilenetv5"),
    ("timm-args", GEMMA, {"vision_config.model_args": {"depth": 3}}, "model_args", "change timm's network"),
    ("timm-width", GEMMA, {"vision_config.hidden_size": 1024}, "vision_config.hidden_size", "2048"),
    ("float32", GEMMA, {"audio_config.torch_dtype": "float32"}, "audio_config.torch_dtype", "32 bits"),
    ("heads", GEMMA, {"audio_config.conf_num_attention_heads": 7}, "conf_num_attention_heads", "divide"),
    ("pairs", GEMMA, {"audio_config.sscp_conv_kernel_size": [3, 3]}, "sscp_conv_kernel_size", "pairs"),
    ("bins", GEMMA, {"audio_config.input_feat_size": 1, "audio_config.sscp_conv_kernel_size": [[3, 9], [3, 3]]},
     "sscp_conv_kernel_size", "wider"),
    ("alone", GEMMA, {"language_model_only": True}, "language_model_only", "without its encoders"),
    ("alias", GRANITE, {"encoder_config.hidden_size": 512}, "encoder_config.hidden_size", "hidden_dim"),
    ("text", GRANITE, {"text_config.model_type": "llama"}, "text_config.model_type", "granite"),
    ("projector", GRANITE, {"projector_config.model_type": "bert"}, "projector_config.model_type", "blip_2"),
    ("context", GRANITE, {"encoder_config.context_size": 4096}, "encoder_config.context_size", "between"),
    ("quantized", GRANITE, {"quantization_config": {"quant_method": "fp8"}}, "quantization_config", "16 bits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "patch", "field", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSALS]
)
def test_an_encoder_that_cannot_be_counted_is_refused_by_field(
    model: str, patch: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        shape_from_facts(facts(patched(CONFIGS[model], patch)))
    assert field in str(refusal.value)
    assert words in str(refusal.value)


def test_encoders_that_are_left_out_are_those_of_the_class_and_it_is_said() -> None:
    whole = shape_from_facts(facts(CONFIGS[GEMMA]))
    bare = {
        key: value for key, value in CONFIGS[GEMMA].items() if key not in ("vision_config", "audio_config")
    }
    shape = shape_from_facts(facts(bare))
    assert shape.tower == whole.tower
    assert shape.tower_buffer_bytes == whole.tower_buffer_bytes
    assert any("vision_config" in warning and "audio_config" in warning for warning in shape.warnings)


def test_embeddings_per_layer_are_kept_for_a_whole_batch() -> None:
    assert shape_from_facts(facts(CONFIGS[GEMMA])).kept_per_token == 35 * 256
