"""Every dtype that vLLM has for its KV cache: what it takes, where it is served, and where it is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.cache_dtypes import FP8, NOT_PLANNED, PACKED
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.facts import ModelFacts
from plimsoll.sizing.gpus import find
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

DATA = Path(__file__).parent / "data"
# Answers of vLLM 0.33.0's own code (platforms/cuda.py, the backends' checks and the KV planner), asked without a GPU
# and without FlashInfer. Where FlashInfer decides, its answers are not among them.
ROWS: list[dict[str, Any]] = json.loads((DATA / "vllm_cache_dtypes.json").read_text("utf-8"))
CONFIGS: dict[str, dict[str, Any]] = {
    entry["model"]: entry["config"] for entry in json.loads((DATA / "vllm_plans.json").read_text("utf-8"))
}
# vLLM's checks let it through; whether its prefill runs below 8.0 nobody has seen.
UNSEEN = {("deepseek-ai/DeepSeek-V2-Lite-Chat", "T4", "auto")}
VERSION = parse_version("0.33.0")
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SHAPES = {
    model: shape_from_facts(
        ModelFacts(
            model_id=model, requested_revision="main", commit="0" * 40, config=CONFIGS[model], files=()
        )
    )
    for model in {row["model"] for row in ROWS}
}


def layout(model: str, gpu: str, kv_cache_dtype: str, block_size: int | None = None) -> Any:
    """The cache as it is planned on one card."""
    serving = Serving(engine_version=str(VERSION), kv_cache_dtype=kv_cache_dtype, block_size=block_size)
    card = find(gpu)
    placement = Placement(
        pool=NodePool(name="one", accelerator=card, gpus_per_node=1, nodes=1),
        accelerator=card,
        precision=precision_for(SHAPES[model], serving, card, VERSION),
        tensor_parallel_size=1,
        pipeline_parallel_size=1,
        nodes=1,
    )
    return Search(SHAPES[model], serving, VERSION).launch(placement).layout


def ours(row: dict[str, Any]) -> dict[str, int] | None:
    """What sizing answers to the question of a row."""
    try:
        found = layout(row["model"], row["gpu"], row["kv_cache_dtype"], row["block_size"])
    except (HardwareCannotError, UnsupportedOptionError):
        return None
    in_flight = row["answer"]["max_in_flight_tokens"] if row["answer"] else 1
    return {
        "block_size": found.block_size,
        "groups": len(found.groups),
        "bytes_per_block": found.bytes_per_block,
        "max_in_flight_tokens": in_flight,
        "need_blocks": found.need_blocks(SHAPES[row["model"]].max_model_len, in_flight),
    }


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=f"{row['model']}-{row['gpu']}-{row['kv_cache_dtype']}-{row['block_size'] or 'any'}"
        )
        for row in ROWS
        if (row["model"], row["gpu"], row["kv_cache_dtype"]) not in UNSEEN
    ],
)
def test_each_dtype_takes_what_vllm_plans_or_is_refused_as_vllm_refuses_it(row: dict[str, Any]) -> None:
    assert row["answer"] == ours(row)


def test_the_recorded_answers_hold_every_name_both_ways() -> None:
    served = {row["kv_cache_dtype"] for row in ROWS if row["answer"]}
    refused = Counter(row["kv_cache_dtype"] for row in ROWS if not row["answer"])

    assert {"auto", *FP8, *(name for name in PACKED if not name.startswith("nvfp4"))} <= served
    assert {"fp8_inc", "ultraquant_4bit", "octave_k3v4"} <= set(refused)


@pytest.mark.parametrize(
    ("gpu", "model", "kv_cache_dtype", "served"),
    [
        # vLLM 0.33.0, v1/attention/backends/flashinfer.py: what FlashInfer alone reads.
        pytest.param("B200", LLAMA, "nvfp4", True, id="nvfp4 on Blackwell"),
        pytest.param("B200", LLAMA, "nvfp4_4over6", True, id="nvfp4_4over6 on Blackwell"),
        pytest.param("H100", LLAMA, "nvfp4", True, id="nvfp4 on Hopper"),
        pytest.param("A100-80GB", LLAMA, "nvfp4", True, id="nvfp4 on Ampere"),
        pytest.param("T4", LLAMA, "nvfp4", False, id="nvfp4 on Turing"),
        pytest.param("H100", LLAMA, "nvfp4_4over6", False, id="nvfp4_4over6 on Hopper"),
        pytest.param("H100", "openai/gpt-oss-120b", "nvfp4", False, id="nvfp4 with heads of 64 and sinks"),
        pytest.param("B200", "openai/gpt-oss-120b", "nvfp4", True, id="sinks on Blackwell"),
        pytest.param("B200", "microsoft/Phi-3-mini-4k-instruct", "nvfp4", False, id="heads of 96"),
        pytest.param("A100-80GB", LLAMA, "fp8", True, id="fp8 on Ampere"),
        pytest.param("A100-80GB", "openai/gpt-oss-120b", "fp8", False, id="fp8 with sinks on Ampere"),
        pytest.param("A10", "microsoft/Phi-3-mini-4k-instruct", "fp8", False, id="fp8, heads of 96"),
    ],
)
def test_what_flashinfer_reads_is_served_where_it_takes_the_model(
    gpu: str, model: str, kv_cache_dtype: str, served: bool
) -> None:
    row = {
        "model": model,
        "gpu": gpu,
        "kv_cache_dtype": kv_cache_dtype,
        "block_size": None,
        "answer": None,
    }
    assert served is (ours(row) is not None)


@pytest.mark.parametrize(
    ("kv_cache_dtype", "pair_bytes"),
    [
        # Keys and values of one head of 128 elements, by hand.
        ("int8_per_token_head", 128 + 128 + 2 * 4),
        ("fp8_per_token_head", 128 + 128 + 2 * 4),
        ("int4_per_token_head", 64 + 64 + 2 * 4),
        ("nvfp4", 2 * (64 + 8)),
        ("nvfp4_4over6", 2 * (64 + 8)),
        ("turboquant_k8v4", 128 + (64 + 4)),
        ("turboquant_4bit_nc", (64 + 2) + (64 + 4)),
        ("turboquant_k3v4_nc", (48 + 2) + (64 + 4)),
        ("turboquant_3bit_nc", (48 + 2) + (48 + 4)),
    ],
)
def test_a_packed_head_holds_its_scales(kv_cache_dtype: str, pair_bytes: int) -> None:
    assert pair_bytes == PACKED[kv_cache_dtype].pair_bytes(128)


@pytest.mark.parametrize("name", sorted(NOT_PLANNED))
def test_names_of_other_hardware_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UnsupportedOptionError, match=NOT_PLANNED[name]):
        layout(LLAMA, "H100", name)


@pytest.mark.parametrize("name", sorted(PACKED))
def test_packed_formats_are_refused_in_releases_that_nobody_read(name: str) -> None:
    serving = Serving(engine_version="0.31.0", kv_cache_dtype=name)
    with pytest.raises(UnsupportedOptionError, match=r"0\.31\.0 is older; use 0\.32\.0"):
        precision_for(SHAPES[LLAMA], serving, find("B200"), parse_version("0.31.0"))


def test_fp8_e5m2_is_refused_beside_fp8_weights() -> None:
    config = CONFIGS[LLAMA] | {"quantization_config": {"quant_method": "fp8"}}
    shape = shape_from_facts(
        ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())
    )
    serving = Serving(engine_version="0.33.0", kv_cache_dtype="fp8_e5m2")

    with pytest.raises(UnsupportedOptionError, match="beside an fp8 checkpoint"):
        precision_for(shape, serving, find("H100"), VERSION)


def test_the_ends_of_a_decoder_stay_in_16_bits_under_turboquant() -> None:
    found = layout(LLAMA, "H100", "turboquant_4bit_nc")
    (group,) = found.groups

    plain, packed = 8 * 2 * 128 * 2 * 32, 8 * (66 + 68) * 32
    assert (plain, plain, packed, packed) == (
        *group.page_bytes[:2],
        group.page_bytes[2],
        group.page_bytes[-3],
    )
    assert (plain, plain) == group.page_bytes[-2:]
