"""A small model whose figures are known by hand, and rows that ran it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from plimsoll.accuracy.reading import Record, parse_json
from plimsoll.accuracy.rows import LogRow, row_from

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
# 32 layers x 2 x 8 KV heads x 128 x 2 B = 131,072 B a token; 16,060,522,496 B of weights, 32 MiB of rotary table.
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "_model": MODEL,
}
# 10 GiB that the engine is given: what sizing says is known whatever its constants are.
GIVEN = "--kv-cache-memory-bytes 10737418240"
RAN: dict[str, Any] = {
    "id": "row",
    "source": "a test",
    "model": MODEL,
    "vllm_version": "0.19.0",
    "gpu": "H100-80GB",
    "gpu_mem_gib": 80,
    "gpu_total_reported_gib": 80.0,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "gpu_memory_utilization": 0.9,
    "max_model_len": 8192,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2048,
    "other_flags": GIVEN,
    "outcome": "serves",
}


def row(**values: Any) -> LogRow:
    """A row as it is read from a line, `RAN` with these values."""
    return row_from(Record(parse_json(json.dumps({**RAN, **values})), "logs.jsonl, line 1"), 1)


def find(model: str) -> dict[str, Any] | None:
    """The only config."""
    return LLAMA if model == MODEL else None


def write_configs(folder: Path, **configs: dict[str, Any]) -> Path:
    """A folder with the sample's config and others by name."""
    folder.mkdir()
    for name, config in {MODEL.replace("/", "--"): LLAMA, **configs}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    return folder
