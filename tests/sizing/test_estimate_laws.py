"""Laws that hold for every model of the catalogue on any card."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import Accelerator, NodePool
from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB, MIB

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape


@cache
def model(model_id: str) -> tuple[ModelShape, ModelFacts]:
    facts = lookup(model_id)
    assert facts is not None
    return shape_from_facts(facts), facts


def card(memory_mib: int, capability: tuple[int, int]) -> Accelerator:
    return Accelerator(
        alias="any", product="ANY-GPU", memory_bytes=memory_mib * MIB, compute_capability=capability,
        provenance=Provenance.MEASURED, source="test",
    )  # fmt: skip


MODELS = st.sampled_from(model_ids())
MEMORIES = st.integers(8 * 1024, 200 * 1024)
CAPABILITIES = st.sampled_from([(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
SERVINGS = st.builds(
    Serving,
    engine_version=st.sampled_from(["0.9.2", "0.14.0", "0.19.1", "0.20.1", "0.27.0", "0.29.0", "0.33.0"]),
    max_model_len=st.none() | st.integers(1, 200_000),
    gpu_memory_utilization=st.none() | st.fractions(Fraction(1, 2), Fraction(19, 20), max_denominator=100),
    kv_cache_dtype=st.sampled_from([None, None, "fp8"]),
    max_num_seqs=st.none() | st.integers(1, 1024),
    max_num_batched_tokens=st.none() | st.integers(1024, 16384),
    enable_chunked_prefill=st.sampled_from([None, None, False]),
    max_nodes=st.integers(1, 3),
    cpu_offload_bytes=st.sampled_from([0, 0, 4 * GIB]),
)
SHAPES_OF_POOLS = st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Serving, NodePool]:
    gpus, nodes = draw(SHAPES_OF_POOLS)
    pool = NodePool(
        name="any", accelerator=card(draw(MEMORIES), draw(CAPABILITIES)), gpus_per_node=gpus, nodes=nodes
    )
    return draw(MODELS), draw(SERVINGS), pool


def run(model_id: str, serving: Serving, pool: NodePool) -> Plan | Refusal:
    shape, facts = model(model_id)
    return estimate(shape, facts, serving, [pool])


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_a_plan_adds_up_and_a_refusal_says_why(case: tuple[str, Serving, NodePool]) -> None:
    found = run(*case)
    if isinstance(found, Refusal):
        assert found.message.endswith(".")
        if found.needed_bytes is not None and found.available_bytes is not None:
            assert found.needed_bytes > found.available_bytes
        return
    assert found.usable_bytes == sum(part.bytes for part in found.parts)
    assert all(0 <= part.low_bytes <= part.bytes for part in found.parts)
    assert found.kv_cache.max_concurrency >= 1
    assert found.kv_cache.bytes_per_gpu == found.kv_cache.blocks * found.kv_cache.bytes_per_block
    assert 1 <= found.max_model_len <= found.model_max_len


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_what_is_said_to_fit_fits_when_it_is_asked_for(case: tuple[str, Serving, NodePool]) -> None:
    model_id, serving, pool = case
    found = run(model_id, serving, pool)
    if isinstance(found, Plan):
        again = run(model_id, replace(serving, max_model_len=found.max_model_len), pool)
        assert isinstance(again, Plan)
        assert (found.max_model_len, found.gpus, found.kv_cache) == (
            again.max_model_len,
            again.gpus,
            again.kv_cache,
        )


@settings(max_examples=100, deadline=None)
@given(case=cases(), more_mib=st.integers(1, 64 * 1024))
def test_more_memory_of_a_class_never_fits_less(case: tuple[str, Serving, NodePool], more_mib: int) -> None:
    # Beyond 70 and 160 GiB vLLM's own defaults grow, so the batch is fixed here.
    model_id, serving, pool = case
    fixed = replace(serving, max_num_seqs=serving.max_num_seqs or 256, max_num_batched_tokens=4096)
    assert pool.accelerator is not None
    larger = replace(pool.accelerator, memory_bytes=pool.accelerator.memory_bytes + more_mib * MIB)
    less, more = run(model_id, fixed, pool), run(model_id, fixed, replace(pool, accelerator=larger))
    if isinstance(less, Plan):
        assert isinstance(more, Plan)
        assert (more.gpus, -more.max_model_len) <= (less.gpus, -less.max_model_len)


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_the_same_question_has_the_same_answer(case: tuple[str, Serving, NodePool]) -> None:
    assert run(*case) == run(*case)


@settings(max_examples=100, deadline=None)
@given(case=cases(), shorter=st.integers(1, 200_000))
def test_a_shorter_context_fits_where_a_longer_one_does(
    case: tuple[str, Serving, NodePool], shorter: int
) -> None:
    model_id, serving, pool = case
    found = run(model_id, serving, pool)
    if isinstance(found, Plan):
        length = min(shorter, found.max_model_len)
        again = run(model_id, replace(serving, max_model_len=length), pool)
        assert isinstance(again, Plan), again
        assert again.gpus <= found.gpus
