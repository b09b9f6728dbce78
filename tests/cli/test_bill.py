from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from plimsoll.cli.bill import bill, share_out
from plimsoll.cli.documents import estimate_document
from plimsoll.cli.sized import Sized
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import (
    ComponentResources,
    HostResources,
    KVCache,
    Part,
    PartName,
    Plan,
    Refusal,
    RefusalReason,
)
from plimsoll.sizing.serving import Serving
from plimsoll.units import GIB

A10 = find("A10")
POOL = NodePool(name="1 node with 8 x A10", accelerator=A10, gpus_per_node=8, nodes=1)
HOST = HostResources(
    cpu_request_millicores=4000,
    cpu_limit_millicores=8000,
    memory_request_bytes=12 * GIB,
    memory_limit_bytes=24 * GIB,
    reason="because",
)
USABLE = 20 * GIB
PARTS = {
    PartName.WEIGHTS: 14 * GIB,
    PartName.ACTIVATIONS: GIB,
    PartName.GRAPHS: GIB // 2,
    PartName.RUNTIME: GIB // 2,
    PartName.KV_CACHE: 4 * GIB - 10_000,
    PartName.MARGIN: 10_000,
}


def part(name: PartName, size: int) -> Part:
    return Part(
        name=name,
        bytes=size,
        expected_bytes=size,
        low_bytes=size,
        formula="a x b",
        source="a rule",
        exact=True,
    )


PLAN = Plan(
    model_id="org/model",
    engine_version="0.33.0",
    pool=POOL,
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    gpus=1,
    nodes=1,
    max_model_len=32768,
    model_max_len=32768,
    limited_by="the model's own length",
    gpu_memory_utilization=Fraction(92, 100),
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    dtype="bfloat16",
    quantization=None,
    kv_cache_dtype="auto",
    weights_bytes=14 * GIB,
    usable_bytes=USABLE,
    parts=tuple(part(name, size) for name, size in PARTS.items()),
    kv_cache=KVCache(
        bytes_per_gpu=4 * GIB - 10_000,
        bytes_per_token_per_gpu=131072,
        block_size=16,
        bytes_per_block=2097152,
        blocks=2047,
        tokens=32752,
        max_concurrency=Fraction(32752, 32768),
    ),
    resources=ComponentResources(download=HOST, server=HOST, test=HOST),
    warnings=("A sentence.",),
)
REFUSAL = Refusal(
    reason=RefusalReason.DOES_NOT_FIT,
    message="It needs more than there is.",
    needed_bytes=30 * GIB,
    available_bytes=20 * GIB,
    would_fit=("2 x A10 (TP 2)", "1 x H100"),
)


def sized(result: Plan | Refusal = PLAN, **facts: Any) -> Sized:
    known: dict[str, Any] = {
        "model_id": "org/model",
        "requested_revision": "main",
        "commit": "c" * 40,
        "config": {},
        "files": (),
        "source": "Hub",
    }
    return Sized(
        facts=ModelFacts(**(known | facts)),
        serving=Serving(engine_version="0.33.0"),
        pools=(POOL,),
        result=result,
    )


def text_of(one: Sized, *, width: int = 80, ascii_only: bool = False, **terminal: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, **terminal)
    for renderable in bill(one, width=width, ascii_only=ascii_only):
        console.print(renderable)
    return out.getvalue()


def test_the_bar_shows_every_part_and_the_load_line() -> None:
    bar, line = text_of(sized()).splitlines()[2:4]

    assert len(bar.strip()) == 76
    assert sorted(set(bar.strip()), key="█▒▓▚▞░·".index) == ["█", "▒", "▓", "▚", "▞", "░", "·"]
    # 20 of 22.07 GiB: the mark stands under the first cell beyond the line.
    assert line.strip() == "load line 20.00 GiB = 0.92 of 22.06 GiB ▲" or "of 22.07 GiB ▲" in line
    assert line.index("▲") == 2 + 76 * USABLE // A10.memory_bytes


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert width >= max(len(line) for line in text_of(sized(), width=width).splitlines())


def test_without_a_terminal_there_are_no_colour_codes() -> None:
    assert "\x1b" not in text_of(sized())
    assert "\x1b[" in text_of(sized(), force_terminal=True, color_system="standard")


def test_in_ascii_the_picture_is_drawn_with_letters() -> None:
    text = text_of(sized(), ascii_only=True)

    text.encode("ascii")
    assert set("WKAGR-.") == set(text.splitlines()[2].strip())


def test_every_part_stands_in_gib_and_bytes_with_its_source() -> None:
    text = text_of(sized())

    for name, size in PARTS.items():
        assert f"{size / GIB:.2f}" in text, name
        assert f"{size:,}" in text, name
    assert len(PARTS) == text.count("a rule")
    assert f"{USABLE:,}" in text


def test_a_refusal_says_needed_available_short_and_what_would_fit() -> None:
    lines = [line.split() for line in text_of(sized(REFUSAL)).splitlines()]

    assert lines[0] == ["Refused", "(DoesNotFit):", "org/model"]
    assert ["needed", "30.00", "GiB", "per", "GPU", f"{30 * GIB:,}", "bytes"] in lines
    assert ["available", "20.00", "GiB", "per", "GPU", f"{20 * GIB:,}", "bytes"] in lines
    assert ["short", "10.00", "GiB", "per", "GPU", f"{10 * GIB:,}", "bytes"] in lines
    assert ["-", "2", "x", "A10", "(TP", "2)"] in lines
    assert ["-", "1", "x", "H100"] in lines


def test_a_fact_that_nobody_checked_is_printed() -> None:
    assert "were not checked" in text_of(sized(provenance=Provenance.RECALLED, source="catalogue"))
    assert "were not checked" not in text_of(sized())


def test_a_fact_that_nobody_checked_is_in_the_document_too() -> None:
    document = estimate_document(sized(provenance=Provenance.RECALLED, source="catalogue"))

    assert document["model"]["provenance"] == "recalled"
    assert any("were not checked" in warning for warning in document["warnings"])


def test_the_command_runs_what_was_planned() -> None:
    two = replace(PLAN, tensor_parallel_size=2, gpus=4, pipeline_parallel_size=2)

    assert (
        sized(two).command()
        == "vllm serve org/model --max-model-len 32768 --tensor-parallel-size 2 --gpu-memory-utilization 0.92 "
        "--pipeline-parallel-size 2"
    )


def test_a_model_id_cannot_break_out_of_the_command() -> None:
    assert "vllm serve 'a b; rm -rf ~'" in str(sized(replace(PLAN, model_id="a b; rm -rf ~")).command())


@given(
    sizes=st.lists(st.integers(0, 2**50), min_size=1, max_size=8),
    cells=st.integers(8, 200),
)
def test_cells_add_up_and_nothing_that_is_there_vanishes(sizes: list[int], cells: int) -> None:
    shares = share_out(sizes, cells)

    assert (cells if sum(sizes) else 0) == sum(shares)
    assert [size > 0 for size in sizes] == [share > 0 for share in shares] or not sum(sizes)
