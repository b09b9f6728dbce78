from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.accuracy.raw_log import UnusableLogError, row_of_log
from plimsoll.accuracy.reading import Record, parse_json
from plimsoll.accuracy.rows import FIELDS, row_from

# Lines as they are quoted in vllm-project/vllm#30515, #27508, #10511, #14447 and #8031 and gpustack/runner#251.
DATA = Path(__file__).parent / "data"


def said(text: str) -> dict[str, Any]:
    """The fields of the row that the log says."""
    row: dict[str, Any] = json.loads(row_of_log(text, name="a.log"))
    assert set(row) == set(FIELDS)
    return {key: value for key, value in row.items() if value is not None and key not in ("id", "source")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "v1_serves.log",
            {
                "model": "Qwen/Qwen3.5-35B-A3B",
                "vllm_version": "0.17.0",
                "num_gpus": 1,
                "tensor_parallel_size": 1,
                "pipeline_parallel_size": 1,
                "data_parallel_size": 1,
                "gpu_memory_utilization": 0.7,
                "dtype": "bfloat16",
                "kv_cache_dtype": "auto",
                "max_model_len": 131072,
                "enforce_eager": False,
                "other_flags": "enable_prefix_caching=True",
                "weights_gib_per_gpu": 65.53,
                "available_kv_gib": 17.36,
                "kv_tokens": 188640,
                "max_concurrency": 5.23,
                "max_concurrency_at_len": 131072,
                "cuda_graph_gib": 0.31,
                "cuda_graph_estimated_gib": 0.26,
                "outcome": "serves",
            },
            id="0.17 serves",
        ),
        pytest.param(
            "v1_too_small.log",
            {
                "available_kv_gib": 1.71,
                "engine_error_max_len": 41264,
                "kv_needed_gib": 4.54,
                "outcome": "fails: KV cache too small",
            },
            id="0.11 refuses the length",
        ),
        pytest.param(
            "v1_two_ranks.log",
            {
                "gpu_memory_utilization": 0.82,
                "gpu_total_reported_gib": 23.56,
                "available_kv_gib": 6.87,
                "kv_tokens": 125200,
                "max_concurrency": 3.82,
                "max_concurrency_at_len": 32768,
                "peak_activation_gib": 1.35,
                "cuda_graph_estimated_gib": 0.36,
            },
            id="0.27 with two ranks, of which the one with less counts",
        ),
        pytest.param(
            "v0_table.log",
            {
                "gpu_total_reported_gib": 79.22,
                "gpu_memory_utilization": 0.9,
                "weights_gib_per_gpu": 14.96,
                "non_torch_gib": 1.79,
                "peak_activation_gib": 1.26,
                "available_kv_gib": 53.29,
            },
            id="0.6 as a table",
        ),
        pytest.param(
            "v0_sentence.log",
            {
                "model": "OPEA/Mistral-Small-3.1-24B-Instruct-2503-int4-AutoRound-awq-sym",
                "vllm_version": "0.8.3",
                "num_gpus": 1,
                "tensor_parallel_size": 1,
                "pipeline_parallel_size": 1,
                "dtype": "float16",
                "kv_cache_dtype": "auto",
                "quantization": "awq",
                "max_model_len": 8192,
                "enforce_eager": False,
                "other_flags": "chunked_prefill_enabled=False",
                "gpu_total_reported_gib": 23.58,
                "gpu_memory_utilization": 0.99,
                "weights_gib_per_gpu": 21.21,
                "non_torch_gib": 0.2,
                "peak_activation_gib": 0.37,
                "available_kv_gib": 1.57,
                "gpu_blocks": 1463,
                "max_concurrency": 1.46,
                "max_concurrency_at_len": 16000,
            },
            id="0.8 with the engine of before",
        ),
    ],
)
def test_a_log_becomes_the_row_that_it_says(name: str, expected: dict[str, Any]) -> None:
    assert said((DATA / name).read_text()) == expected


LOADED = "Model loading took 14.99 GiB memory and 3.2 seconds\n"
SIZED = LOADED + "GPU KV cache size: 1,024 tokens\n"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param(LOADED + "Application startup complete", "serves", id="serves"),
        pytest.param(LOADED, None, id="cut off before the end"),
        pytest.param("torch.OutOfMemoryError: CUDA out of memory.", "OOM at load", id="at load"),
        pytest.param(LOADED + "CUDA out of memory.", "OOM at profile", id="at profile"),
        pytest.param(SIZED + "CUDA out of memory.", "OOM at CUDA graph capture", id="at graph capture"),
        pytest.param(
            SIZED + "CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
            "OOM at sampler warm-up",
            id="at sampler warm-up",
        ),
        pytest.param(
            "ValueError: Total number of attention heads (71) must be divisible by tensor parallel size (2).",
            "TP indivisible",
            id="heads",
        ),
        pytest.param(
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
            "fails: KV cache too small",
            id="nothing left",
        ),
        pytest.param(
            "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (614).",
            "fails: max_num_seqs above Mamba cache blocks",
            id="states",
        ),
        pytest.param(
            "The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV "
            "cache (37696). Try increasing `gpu_memory_utilization`",
            "fails: KV cache too small",
            id="the engine of before",
        ),
        pytest.param(
            "Free memory on device cuda:0 (59.32/79.15 GiB) on startup is less than desired GPU memory utilization "
            "(0.9, 71.24 GiB).",
            "fails: less memory free than asked for",
            id="another process on the card",
        ),
    ],
)
def test_the_end_of_a_start_is_named(text: str, outcome: str | None) -> None:
    assert said(text).get("outcome") == outcome


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        pytest.param("Loading model weights took 67.7229 GB", "weights_gib_per_gpu", 67.7229, id="0.7"),
        pytest.param("Available KV cache memory: -2.16 GiB", "available_kv_gib", -2.16, id="below zero"),
        pytest.param(
            "Available KV cache memory: \x1b[1m4.57\x1b[0m GiB", "available_kv_gib", 4.57, id="coloured"
        ),
        pytest.param("cache (37696)", "kv_tokens", None, id="a number beside other words"),
        pytest.param(
            "GPU 2 has a total capacity of 14.62 GiB of which", "gpu_total_reported_gib", 14.62, id="card"
        ),
        pytest.param(
            "█▄█▀ █     █  model   google/gemma-4-31B-it",
            "model",
            "google/gemma-4-31B-it",
            id="the banner's model",
        ),
        pytest.param(
            "▄▄ ▄█ █  version 0.19.1rc1.dev301", "vllm_version", "0.19.1rc1.dev301", id="the banner's release"
        ),
        pytest.param("GPU 0: NVIDIA L4 (UUID: GPU-1)", "gpu", "NVIDIA L4", id="the environment's card"),
        pytest.param(
            "args: Namespace(model='a/b', max_model_len=-1, gpu_memory_utilization=0.8)",
            "gpu_memory_utilization",
            0.8,
            id="options of before",
        ),
    ],
)
def test_single_lines_are_read(line: str, field: str, value: object) -> None:
    assert said(LOADED * (field != "weights_gib_per_gpu") + line).get(field) == value


@pytest.mark.parametrize("text", ["", "hello", "INFO 03-08 [core.py:1] Initializing\n" * 3])
def test_a_text_without_memory_lines_gets_a_sentence(text: str) -> None:
    with pytest.raises(UnusableLogError, match=r"a\.log: no line of vLLM .* give the whole log"):
        row_of_log(text, name="a.log")


@given(
    st.text(max_size=400),
    st.sampled_from([LOADED, "non-default args: {", "with config: ", "KV cache memory: "]),
)
def test_any_text_is_a_row_that_can_be_read_or_a_sentence(text: str, start: str) -> None:
    try:
        row = row_of_log(start + text, name="a.log")
    except UnusableLogError:
        return
    assert row_from(Record(parse_json(row), "a.log"), 1).id == "a.log"


def test_a_row_from_a_log_can_be_scored() -> None:
    row = row_from(
        Record(parse_json(row_of_log((DATA / "v1_serves.log").read_text(), name="a.log")), "a.log"), 1
    )

    assert (row.available_kv_gib, row.max_concurrency, row.served) == (
        Decimal("17.36"),
        Decimal("5.23"),
        True,
    )
