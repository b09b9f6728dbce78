from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.options import HardwareOptions
from plimsoll.cli.params import (
    GIB_COUNT,
    GPU_MEMORY,
    KV_CACHE_SIZE,
    MODEL_LENGTH,
    TOKENS,
    CapabilityType,
    GpuType,
    ShareType,
    SvgPathType,
)
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.gpus import catalogue, find
from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        pytest.param(GPU_MEMORY, "80Gi", 80 * GIB, id="size in Gi"),
        pytest.param(KV_CACHE_SIZE, "512Mi", 2**29, id="size of a cache"),
        pytest.param(KV_CACHE_SIZE, "8G", 8 * 2**30, id="cache as vLLM reads G"),
        pytest.param(KV_CACHE_SIZE, "1.5g", 1_500_000_000, id="cache as vLLM reads g"),
        pytest.param(KV_CACHE_SIZE, "4294967296", 2**32, id="cache in bytes"),
        pytest.param(TOKENS, "8192", 8192, id="tokens"),
        pytest.param(TOKENS, "8k", 8000, id="tokens in thousands"),
        pytest.param(MODEL_LENGTH, "128K", 131_072, id="length in powers of two"),
        pytest.param(MODEL_LENGTH, "25.6k", 25_600, id="length with a decimal"),
        pytest.param(MODEL_LENGTH, "auto", None, id="length that vLLM finds"),
        pytest.param(MODEL_LENGTH, "-1", None, id="length that vLLM finds, as a number"),
        pytest.param(GIB_COUNT, "4", 4 * GIB, id="GiB"),
        pytest.param(GIB_COUNT, "0.5", GIB // 2, id="half a GiB"),
        pytest.param(GPU_MEMORY, "24e9", 24 * 10**9, id="size with an exponent"),
        pytest.param(ShareType(), "0.92", Fraction(23, 25), id="share"),
        pytest.param(ShareType(), "1", Fraction(1), id="the whole"),
        pytest.param(CapabilityType(), "8.9", (8, 9), id="capability"),
        pytest.param(CapabilityType(), "12.0", (12, 0), id="two-digit capability"),
        pytest.param(GpuType(), "a100-80gb", find("A100-80GB"), id="GPU"),
    ],
)
def test_what_is_well_written_is_read_exactly(kind: click.ParamType[Any], text: str, value: object) -> None:
    assert value == kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        pytest.param(GPU_MEMORY, "80", "write it with its unit, such as 80Gi", id="no unit"),
        pytest.param(GPU_MEMORY, "-8Gi", "must be zero or more", id="negative"),
        pytest.param(GPU_MEMORY, "80GB", "is not a quantity", id="GB"),
        pytest.param(GPU_MEMORY, "999E", "is no memory of one GPU", id="too much"),
        pytest.param(
            KV_CACHE_SIZE, "0", "is no size of a KV cache: write it with its unit, such as 8Gi", id="no cache"
        ),
        pytest.param(KV_CACHE_SIZE, "8GB", "is not a quantity", id="cache in GB"),
        pytest.param(TOKENS, "auto", "is no number of tokens, such as 32768 or 32K", id="tokens left open"),
        pytest.param(TOKENS, "0", "is no number of tokens", id="no tokens"),
        pytest.param(MODEL_LENGTH, "1.5K", "such as 32768, 32K or auto", id="decimal of a power of two"),
        pytest.param(MODEL_LENGTH, "3G", "is no number of tokens", id="length above 32 bits"),
        pytest.param(MODEL_LENGTH, "long", "is no number of tokens", id="a word"),
        pytest.param(GIB_COUNT, "4Gi", "is no number of GiB, such as 4 or 0.5", id="GiB with a unit"),
        pytest.param(GIB_COUNT, "-1", "is no number of GiB", id="fewer than no GiB"),
        pytest.param(SvgPathType(), "bill.png", "names no SVG file", id="picture in another format"),
        pytest.param(SvgPathType(), "\0.svg", "names no SVG file", id="name that no file can have"),
        pytest.param(ShareType(), "0", "above 0 and at most 1", id="nothing"),
        pytest.param(ShareType(), "1.01", "above 0 and at most 1", id="over one"),
        pytest.param(ShareType(), "nan", "above 0 and at most 1", id="nan"),
        pytest.param(ShareType(), "92%", "above 0 and at most 1", id="percent"),
        pytest.param(ShareType(), "1/2", "above 0 and at most 1", id="a fraction"),
        pytest.param(CapabilityType(), "8", "write major.minor", id="no minor"),
        pytest.param(CapabilityType(), "sm_80", "write major.minor", id="sm"),
        pytest.param(GpuType(), "A1000", "is not in the catalogue", id="GPU"),
    ],
)
def test_what_is_not_says_how_to_write_it(kind: click.ParamType[Any], text: str, sentence: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)

    assert sentence in caught.value.message


@pytest.mark.parametrize(
    "kind", [GPU_MEMORY, KV_CACHE_SIZE, ShareType(), CapabilityType(), GpuType()], ids=lambda k: k.name
)
@given(text=st.text(max_size=60))
def test_no_text_at_all_breaks_a_parameter(kind: click.ParamType[Any], text: str) -> None:
    with contextlib.suppress(click.BadParameter):
        kind.convert(text, None, None)


def hardware(**given_options: Any) -> HardwareOptions:
    unset: dict[str, Any] = {
        "gpu": (),
        "gpu_memory": None,
        "compute_capability": None,
        "gpus_per_node": 8,
        "nodes": 1,
    }
    return HardwareOptions(**(unset | given_options))


def test_without_a_card_the_whole_catalogue_is_tried() -> None:
    assert catalogue() == hardware().cards()


def test_a_memory_alone_makes_a_card_and_says_what_was_assumed() -> None:
    (card,) = hardware(gpu_memory=80 * GIB).cards()

    assert (
        card.memory_bytes,
        card.compute_capability,
        card.provenance,
    ) == (80 * GIB, (8, 0), Provenance.RECALLED)
    assert "compute capability not given" in card.source


def test_a_memory_and_a_capability_leave_nothing_assumed() -> None:
    (card,) = hardware(gpu_memory=80 * GIB, compute_capability=(9, 0)).cards()

    assert (card.compute_capability, card.provenance) == ((9, 0), Provenance.PUBLISHED)


def test_a_memory_replaces_that_of_a_named_card() -> None:
    a10 = find("A10")
    (card,) = hardware(gpu=(a10,), gpu_memory=12 * GIB).cards()

    assert (12 * GIB, a10.compute_capability, "A10") == (
        card.memory_bytes,
        card.compute_capability,
        card.alias,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            {"gpu": ("A10", "L4"), "gpu_memory": GIB}, "run the command once per card", id="two cards"
        ),
        pytest.param({"compute_capability": (8, 0)}, "add --gpu-memory", id="a capability alone"),
    ],
)
def test_a_description_of_no_one_card_is_refused(options: dict[str, Any], sentence: str) -> None:
    options["gpu"] = tuple(find(name) for name in options.get("gpu", ()))

    with pytest.raises(WrongUsageError, match=sentence):
        hardware(**options).cards()


def test_a_pool_is_named_for_people_and_selects_the_card() -> None:
    card: Accelerator = find("A10")
    pool = hardware(gpu=(card,), gpus_per_node=4, nodes=2).pool(card)

    assert (pool.name, pool.gpus_per_node, pool.nodes) == ("2 nodes with 4 x A10", 4, 2)
    assert pool.node_labels == (("nvidia.com/gpu.product", "NVIDIA-A10"),)
