"""The modelled numbers, held against real start-ups: what vLLM logged must lie within the intervals."""

from __future__ import annotations

from fractions import Fraction

import pytest

from plimsoll.sizing import constants
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.constants import Constant
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.gpus import find
from plimsoll.sizing.launch import Launch
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

ALL = [
    *(value for value in vars(constants).values() if isinstance(value, Constant)),
    *(
        constant
        for table in (constants.SAMPLER_BYTES, constants.GRAPH_BYTES, constants.NON_TORCH_BYTES)
        for _, constant in table
    ),
]


@pytest.mark.parametrize("constant", ALL, ids=lambda constant: constant.name)
def test_every_constant_says_where_it_comes_from(constant: Constant) -> None:
    assert 0 < constant.low <= constant.high
    assert constant.low_bytes <= constant.high_bytes
    assert all(
        (constant.unit, constant.mirrors, constant.source, constant.version, constant.date, constant.guard)
    )


def test_constants_have_names_of_their_own() -> None:
    names = [constant.name for constant in ALL]
    assert len(names) == len(set(names)) >= 14


def launch(model_id: str, card: str, version: str, size: int, share: str) -> Launch:
    facts = lookup(model_id)
    assert facts is not None
    shape, accelerator, release = shape_from_facts(facts), find(card), parse_version(version)
    serving = Serving(engine_version=version, gpu_memory_utilization=Fraction(share))
    pool = NodePool(name="any", accelerator=accelerator, gpus_per_node=8, nodes=1)
    return Search(shape, serving, release).launch(
        Placement(
            pool=pool,
            accelerator=accelerator,
            precision=precision_for(shape, serving, accelerator, release),
            tensor_parallel_size=size,
            pipeline_parallel_size=1,
            nodes=1,
        )
    )


# Start-up logs: model, card, release, TP, utilisation; weights, peak activation, non-torch, KV cache in GiB.
H100 = ("H100", "0.19.0")
LOGS = [
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 1, "0.95", (14.99, 1.89, 0.25, 58.11)),
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 2, "0.95", (7.51, 1.89, 2.07, 63.76)),
    ("meta-llama/Llama-3.1-8B-Instruct", *H100, 4, "0.95", (3.77, 1.89, 2.13, 67.44)),
    ("Qwen/Qwen2.5-7B-Instruct", *H100, 1, "0.95", (14.25, 2.21, 0.24, 58.53)),
    ("Qwen/Qwen2.5-7B-Instruct", *H100, 4, "0.95", (3.55, 2.21, 2.13, 67.34)),
    ("google/gemma-2-2b-it", *H100, 1, "0.95", (4.90, 3.62, 0.24, 66.47)),
    ("google/gemma-2-9b-it", *H100, 1, "0.95", (17.22, 3.65, 0.25, 54.12)),
    ("meta-llama/Llama-3.1-8B-Instruct", "H100", "0.11.0", 1, "0.9", (14.99, 4.76, 0.13, 51.38)),
]


@pytest.mark.parametrize(
    ("model_id", "card", "version", "size", "share", "logged"),
    [pytest.param(*row, id=f"{row[0].split('/')[1]}-tp{row[3]}-{row[2]}") for row in LOGS],
)
def test_what_was_logged_lies_in_the_interval(
    model_id: str, card: str, version: str, size: int, share: str, logged: tuple[float, float, float, float]
) -> None:
    weights, peak, non_torch, cache = logged
    built = launch(model_id, card, version, size, share)
    (costs,) = built.costs(8192)
    assert costs.weights_bytes / GIB == pytest.approx(weights, rel=0.006)
    assert costs.activations.low / GIB * 0.95 <= peak <= costs.activations.high / GIB
    assert costs.runtime.low / GIB <= non_torch + 0.1
    assert non_torch <= costs.runtime.high / GIB
    (available,) = built.available_bytes(8192)
    assert available / GIB <= cache + 0.005
    assert available / GIB >= cache * 0.98


def test_the_a100_log_of_0_31_holds_the_plan() -> None:
    built = launch("meta-llama/Llama-3.1-8B-Instruct", "A100-80GB", "0.31.0", 1, "0.92")
    (available,) = built.available_bytes(131072)
    assert 0.98 * 56.21 <= available / GIB <= 56.21


PINNED = {
    "SAMPLER_BYTES_0_33": ("7", "14"),
    "SAMPLER_BYTES_0_29": ("2", "7"),
    "SAMPLER_BYTES_0_21": ("14", "24"),
    "SAMPLER_BYTES_0_17": ("14", "16"),
    "SAMPLER_BYTES_0_9": ("38.4", "41.2"),
    "FORWARD_RATIO": ("1", "1.12"),
    "GRAPHS_15B": ("0.2", "1.2"),
    "GRAPHS_80B": ("0.3", "2"),
    "GRAPHS_LARGE": ("1", "6"),
    "NON_TORCH_TP1": ("0.02", "0.35"),
    "NON_TORCH_TP4": ("0.55", "2.25"),
    "NON_TORCH_TP8": ("1.5", "2.5"),
    "BASELINE": ("0.41", "0.6"),
    "ENGINE_PROCESS": ("0.93", "1.25"),
}


def test_no_constant_changes_unseen() -> None:
    assert {name: tuple(map(Fraction, ends)) for name, ends in PINNED.items()} == {
        constant.name: (constant.low, constant.high) for constant in ALL
    }
