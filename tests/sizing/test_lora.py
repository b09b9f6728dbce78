"""LoRA slots, met to the byte.

data/vllm_lora.json is made as data/vllm_plans.json is, by bench/oracle/run.py with --extra '{"enable_lora": true}': the
sums of all stacked A and B (and what stands beside them) that vLLM 0.33.0's own wrappers allot on one rank, for the
configs of data/vllm_plans*.json. Unset, a row is for one H100, one stage, one slot of rank 16.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import BatchLimits, UnsupportedOptionError, parse_version
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.interval import Interval
from plimsoll.sizing.lora import (
    RANKS,
    LoraSlots,
    SlotsOfRank,
    check_lora,
    check_slots,
    index_bytes,
    lora_warnings,
)
from plimsoll.sizing.lora_classes import UNHELD
from plimsoll.sizing.plan import PartName, Plan, Refusal
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, stage_layers
from plimsoll.units import GIB
from support.configs import facts

DATA = Path(__file__).with_name("data")
CONFIGS: dict[str, dict[str, Any]] = {
    vector["model"]: vector["config"]
    for path in sorted(DATA.glob("vllm_plans*.json"), reverse=True)
    for vector in json.loads(path.read_text())
}
RECORDED = json.loads(DATA.joinpath("vllm_lora.json").read_text())
CARDS = {"h100-80": "H100", "a100-80": "A100-80GB", "b200": "B200"}
# Tokens and sequences of a batch, which vLLM takes by the card.
BATCHES = {"h100-80": (8192, 1024), "a100-80": (2048, 256), "b200": (16384, 1024)}
QWEN = "Qwen/Qwen3-4B"


def name_of(row: dict[str, Any]) -> str:
    varied = {key: value for key, value in row.items() if key not in ("model", "bytes", "index_bytes")}
    return "-".join([row["model"], *(f"{key}={value}" for key, value in varied.items())])


def batch(tokens: int, sequences: int) -> BatchLimits:
    return BatchLimits(max_num_batched_tokens=tokens, max_num_seqs=sequences, in_flight_tokens=0)


def slots_of_rank(config: dict[str, Any], row: dict[str, Any], version: str = "0.33.0") -> SlotsOfRank:
    shape = shape_from_facts(facts(config))
    slots = LoraSlots(**row.get("slots", {}))
    card = find(CARDS[row.get("gpu", "h100-80")])
    release = parse_version(version)
    precision = precision_for(shape, Serving(engine_version=version, lora=slots), card, release)
    return SlotsOfRank(shape, slots, release, precision, row.get("tp", 1), row.get("expert_parallel", False))


@pytest.mark.parametrize("row", [pytest.param(row, id=name_of(row)) for row in RECORDED["slots"]])
def test_slots_are_what_vllm_allots(row: dict[str, Any]) -> None:
    found = slots_of_rank(CONFIGS[row["model"]], row)
    layers = stage_layers(len(found.shape.layers), row.get("pp", 1))[row.get("stage", 0)]

    assert Interval(row["bytes"], row["bytes"], row["bytes"]) == found.on_stage(layers)
    assert row["index_bytes"] == index_bytes(found.slots, batch(*BATCHES[row.get("gpu", "h100-80")]))


@pytest.mark.parametrize("model", RECORDED["refused"])
def test_what_vllm_does_not_start_with_slots_is_refused(model: str) -> None:
    shape = shape_from_facts(facts(CONFIGS[model]))

    check_lora(shape, Serving(engine_version="0.33.0"))
    with pytest.raises(UnsupportedOptionError, match=r"^enable_lora is set: vLLM .*; leave it out"):
        check_lora(shape, Serving(engine_version="0.33.0", lora=LoraSlots()))


def test_slots_that_nobody_held_against_the_engine_are_warned_of() -> None:
    seen = {CONFIGS[row["model"]]["architectures"][0] for row in RECORDED["slots"]}
    longcat, llama = (
        shape_from_facts(facts(CONFIGS[model]))
        for model in ("longcat_flash_chat", "meta-llama/Llama-3.1-8B-Instruct")
    )
    served = Serving(engine_version="0.33.0", lora=LoraSlots())

    (warning,) = lora_warnings(longcat, served)
    assert "LoRA slots of LongcatFlashForCausalLM" in warning
    assert not lora_warnings(longcat, Serving(engine_version="0.33.0"))
    assert not lora_warnings(llama, served)
    assert not seen & UNHELD


def config_of(model: str) -> dict[str, Any]:
    known = lookup(model)
    assert known is not None
    return dict(known.config)


# "Model loading took" of vLLM 0.27.1 with Qwen3-4B, rank 16, on RTX 4090, less the 7.5552 GiB without slots: torch's
# allocator does not split the rest of a block off below 1 MiB, so a little stays with the tensors above that size.
@pytest.mark.parametrize(
    ("slots", "logged_gib"),
    [
        pytest.param(1, 7.63, id="1"),
        pytest.param(8, 8.17, id="8"),
        pytest.param(16, 8.78, id="16"),
        pytest.param(64, 12.49, id="64"),
    ],
)
def test_slots_are_what_start_ups_logged(slots: int, logged_gib: float) -> None:
    row = {"slots": {"max_loras": slots}}
    found = slots_of_rank(config_of(QWEN), row, "0.27.1").on_stage((0, 36))

    assert found.high / GIB == pytest.approx(logged_gib - 7.5552, abs=0.006, rel=0.025)


def test_a_tied_output_layer_was_wrapped_once_more_before_it_was_one_of_its_own() -> None:
    before, now = (slots_of_rank(config_of(QWEN), {}, version) for version in ("0.32.0", "0.33.0"))
    table = (151936 + 2560) * 16 * 2

    assert Interval(0, table, table) == before.on_stage((0, 36)) - now.on_stage((0, 36))


def test_experts_took_no_adapters_before_they_could() -> None:
    config = config_of("Qwen/Qwen3-30B-A3B")
    before, since = (slots_of_rank(config, {}, version) for version in ("0.11.0", "0.11.1"))

    assert before.on_stage((0, 48)).high < 100 * 2**20 < since.on_stage((0, 48)).high


def test_experts_in_mxfp4_stand_as_marlin_wants_them_on_hopper_too() -> None:
    """vLLM 0.33.0's own classes on H100, over two ranks, with enable_lora."""
    shape = shape_from_facts(facts(CONFIGS["openai/gpt-oss-120b"]))
    serving = Serving(engine_version="0.33.0", lora=LoraSlots())
    precision = precision_for(shape, serving, find("H100"), parse_version("0.33.0"))
    (held,) = rank_weights(shape, 2, 1, precision.element_bytes, precision.quantization)

    assert held.parameter_bytes == 36851110272


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        pytest.param(LoraSlots(max_loras=0), "max_loras is 0: it must be from 1", id="no slot"),
        pytest.param(LoraSlots(max_lora_rank=24), "max_lora_rank is 24: vLLM takes 1, 8, 16", id="a rank"),
        pytest.param(
            LoraSlots(max_loras=4, max_cpu_loras=2),
            "max_cpu_loras is 2: it must be from max_loras, 4",
            id="fewer on the host",
        ),
    ],
)
def test_slots_that_vllm_refuses_are_refused(slots: LoraSlots, words: str) -> None:
    with pytest.raises(UnsupportedOptionError, match=words):
        check_slots(slots)


def test_a_vocabulary_that_is_too_large_for_slots_is_refused() -> None:
    config = {**config_of(QWEN), "vocab_size": 258049}
    shape = shape_from_facts(facts(config))

    with pytest.raises(
        UnsupportedOptionError, match="up to a vocabulary of 258048, and this model has 258049"
    ):
        check_lora(shape, Serving(engine_version="0.33.0", lora=LoraSlots()))


def pool(card: str, gpus: int = 1) -> NodePool:
    return NodePool(name=card, accelerator=find(card), gpus_per_node=gpus, nodes=1)


def planned(model: str, card: str, gpus: int = 1, **serving: Any) -> Plan | Refusal:
    known = lookup(model)
    assert known is not None
    wishes = Serving(engine_version="0.33.0", **serving)
    return estimate(shape_from_facts(known), known, wishes, [pool(card, gpus)])


def test_slots_are_a_line_of_the_bill_and_leave_less_for_the_cache() -> None:
    slots = LoraSlots(max_loras=64)
    plain, adapted = (planned(QWEN, "RTX 4090", lora=lora) for lora in (None, slots))

    assert isinstance(plain, Plan)
    assert isinstance(adapted, Plan)
    parts = {part.name: part for part in adapted.parts}
    assert PartName.LORA not in {part.name for part in plain.parts}
    assert parts[PartName.LORA].exact
    assert parts[PartName.LORA].bytes == 64 * 75948032 + index_bytes(slots, batch(2048, 256))
    assert adapted.usable_bytes == sum(part.bytes for part in adapted.parts)
    assert adapted.kv_cache.bytes_per_gpu < plain.kv_cache.bytes_per_gpu - parts[PartName.LORA].bytes
    assert "64 slots of rank 16 for 36 layers over TP 1" in parts[PartName.LORA].formula


def test_graphs_are_captured_with_adapters_and_without() -> None:
    plain, adapted = (planned(QWEN, "RTX 4090", lora=lora) for lora in (None, LoraSlots()))

    assert isinstance(plain, Plan)
    assert isinstance(adapted, Plan)
    before, after = (
        next(part.expected_bytes for part in plan.parts if part.name is PartName.GRAPHS)
        for plan in (plain, adapted)
    )
    assert 1.5 * before < after < 2 * before


# Peak activation of cold starts of vLLM 0.27.1 with Qwen3-4B on RTX 4090: 0.80, 0.83, 0.87 and 1.09 GiB.
@pytest.mark.parametrize(("slots", "more_gib"), [(8, 0.03), (16, 0.07), (64, 0.29)])
def test_a_model_that_is_compiled_copies_the_table_of_its_embedding(slots: int, more_gib: float) -> None:
    one, many = (
        slots_of_rank(config_of(QWEN), {"slots": {"max_loras": number}}).copied_while_compiling((0, 36))
        for number in (1, slots)
    )

    assert (many - one).expected == 0
    assert (many.high - one.high) / GIB == pytest.approx(more_gib, abs=0.01)


def test_only_an_engine_that_compiles_copies_anything() -> None:
    def peak(**serving: Any) -> int:
        plan = planned(QWEN, "RTX 4090", max_num_seqs=8, **serving)
        assert isinstance(plan, Plan)
        return next(part.bytes for part in plan.parts if part.name is PartName.ACTIVATIONS)

    slots = LoraSlots(max_loras=64)

    assert peak(lora=slots) - peak() == 64 * 151936 * 16 * 2
    assert peak(lora=slots, enforce_eager=True) == peak(enforce_eager=True)


def test_adapters_on_the_host_are_in_its_memory() -> None:
    few, many = (
        planned(QWEN, "RTX 4090", lora=LoraSlots(max_lora_rank=512, max_cpu_loras=held)) for held in (1, 32)
    )

    assert isinstance(few, Plan)
    assert isinstance(many, Plan)
    assert "LoRA adapters" in many.resources.server.reason
    assert many.resources.server.memory_request_bytes > few.resources.server.memory_request_bytes


@pytest.mark.parametrize(
    ("model", "serving", "words"),
    [
        pytest.param(
            QWEN,
            {"lora": LoraSlots(max_lora_rank=1, fully_sharded=True), "tensor_parallel_size": 2},
            "fully sharded LoRA slots of rank 1 are not divisible by 2",
            id="a rank that is not divisible",
        ),
        pytest.param(
            "Qwen/Qwen3-30B-A3B",
            {"lora": LoraSlots(fully_sharded=True), "enable_expert_parallel": True},
            "fully_sharded_loras does not go with enable_expert_parallel; leave out one of the two.",
            id="whole experts",
        ),
        pytest.param(QWEN, {"lora": LoraSlots(max_lora_rank=20)}, "max_lora_rank is 20", id="a rank"),
    ],
)
def test_what_does_not_start_is_no_plan(model: str, serving: dict[str, Any], words: str) -> None:
    result = planned(model, "A100-80GB", gpus=2, **serving)

    assert isinstance(result, Refusal)
    assert words in result.message


def test_without_a_gpu_slots_are_in_host_memory() -> None:
    known = lookup(QWEN)
    assert known is not None
    wishes = Serving(engine_version="0.33.0", tensor_parallel_size=0, lora=LoraSlots(max_loras=4))
    plan = estimate(shape_from_facts(known), known, wishes, [pool("RTX 4090")])

    assert isinstance(plan, Plan)
    assert next(part.bytes for part in plan.parts if part.name is PartName.LORA) > 4 * 75948032


@given(
    slots=st.integers(1, 64),
    rank=st.sampled_from(RANKS),
    size=st.sampled_from((1, 2, 4, 8)),
    sharded=st.booleans(),
)
def test_slots_grow_with_their_number_and_shrink_with_ranks(
    slots: int, rank: int, size: int, sharded: bool
) -> None:
    def total(number: int, ranks: int, *, split: bool = sharded) -> int:
        wanted = {"max_loras": number, "max_lora_rank": rank, "fully_sharded": split}
        row = {"slots": wanted, "tp": ranks}
        return slots_of_rank(CONFIGS["meta-llama/Llama-2-70b-hf"], row).on_stage((0, 80)).high

    mapping = 0 if size == 1 else 32000 * 8
    assert total(slots, size) - mapping == slots * (total(1, size) - mapping)
    assert total(slots, size) - mapping <= total(slots, 1)
    assert total(slots, size, split=True) <= total(slots, size, split=False)
