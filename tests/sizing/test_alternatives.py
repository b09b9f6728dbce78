"""What would fit instead is computed: each clause, tried as it stands, fits."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup, quantized_siblings
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
QWEN_14B = "Qwen/Qwen2.5-14B-Instruct"


def pool(gpu: str, gpus: int = 1, nodes: int = 1) -> NodePool:
    return NodePool(name=f"{gpus} x {gpu}", accelerator=find(gpu), gpus_per_node=gpus, nodes=nodes)


def asked(
    model_id: str, *pools: NodePool, elsewhere: tuple[NodePool, ...] = (), **serving: Any
) -> Plan | Refusal:
    facts = lookup(model_id)
    assert facts is not None
    wishes = Serving(engine_version="0.33.0", **serving)
    return estimate(shape_from_facts(facts), facts, wishes, pools, elsewhere=elsewhere)


def clauses(model_id: str, *pools: NodePool, **more: Any) -> tuple[str, ...]:
    found = asked(model_id, *pools, **more)
    assert isinstance(found, Refusal)
    return found.would_fit


def starting(found: tuple[str, ...], words: str) -> str:
    matching = [clause for clause in found if clause.startswith(words)]
    assert len(matching) == 1, found
    return matching[0]


def test_fewer_requests_at_once_are_the_most_that_fit() -> None:
    found = clauses(LLAMA_8B, pool("A10", 4), max_model_len=8192, concurrency=64)
    requests = int(starting(found, "5").split()[0])

    assert isinstance(asked(LLAMA_8B, pool("A10", 4), max_model_len=8192, concurrency=requests), Plan)
    assert isinstance(asked(LLAMA_8B, pool("A10", 4), max_model_len=8192, concurrency=requests + 1), Refusal)


def test_a_smaller_batch_is_offered_where_it_makes_room() -> None:
    """Counters and sampler of 1,024 sequences over a vocabulary of 152,064 take gigabytes of an H100."""
    weights_and_little_more = "Qwen/Qwen2.5-32B-Instruct"
    found = clauses(weights_and_little_more, pool("H100"), max_model_len=32768, concurrency=1)
    clause = starting(found, "maxNumSeqs ")
    value = int(clause.split()[1])

    for tried, kind in ((value, Plan), (2 * value, Refusal)):
        assert isinstance(
            asked(weights_and_little_more, pool("H100"), max_model_len=32768, max_num_seqs=tried), kind
        )


def test_a_quantized_build_of_the_catalogue_is_offered_and_fits() -> None:
    clause = starting(clauses(QWEN_14B, pool("A10")), "Qwen/Qwen2.5-14B-Instruct-AWQ ")
    plan = asked("Qwen/Qwen2.5-14B-Instruct-AWQ", pool("A10"))

    assert isinstance(plan, Plan)
    assert f"with a context of {plan.max_model_len} tokens on 1 x A10 (TP 1, PP 1)" in clause


def test_a_model_without_quantized_builds_is_offered_none() -> None:
    assert quantized_siblings("facebook/opt-125m") == ()
    found = asked("facebook/opt-125m", pool("T4"), gpu_memory_utilization=None, min_gpu_memory_bytes=99 * GIB)
    assert isinstance(found, Refusal)
    assert all(" x " in clause.split(" with ")[0] for clause in found.would_fit)


def test_another_number_of_gpus_is_offered_where_the_user_set_one() -> None:
    found = clauses(LLAMA_70B, pool("A100-80GB", 4), tensor_parallel_size=1)
    plan = asked(LLAMA_70B, pool("A100-80GB", 4))

    assert isinstance(plan, Plan)
    expected = f"{plan.gpus} x A100-80GB (TP {plan.tensor_parallel_size}, PP 1)"
    assert found.count(f"{expected} with a context of {plan.max_model_len} tokens") == 1


@pytest.mark.parametrize(
    ("elsewhere", "offered"),
    [
        pytest.param((pool("H100", 8),), True, id="enough"),
        pytest.param((pool("T4", 1),), False, id="too small"),
        pytest.param((), False, id="nothing"),
    ],
)
def test_nodes_that_the_users_choice_leaves_out_are_offered_if_they_do(
    elsewhere: tuple[NodePool, ...], offered: bool
) -> None:
    found = clauses(LLAMA_70B, pool("L4"), elsewhere=elsewhere)
    assert any("of this cluster, which hardware.gpu leaves out" in clause for clause in found) is offered


def test_cards_below_the_least_memory_are_offered_without_it() -> None:
    found = clauses(LLAMA_8B, pool("A10"), min_gpu_memory_bytes=40 * GIB)
    assert found[0].startswith("1 x A10 (TP 1, PP 1) of this cluster, which hardware.gpu leaves out")


def test_nothing_is_offered_twice() -> None:
    found = clauses(LLAMA_70B, pool("A100-80GB", 4), tensor_parallel_size=1)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("requests", [1, 2, 7, 32], ids=str)
def test_the_pinned_kv_space_holds_just_the_requests(requests: int) -> None:
    """Bytes of a block times the blocks of the requests and the null block: vLLM's own admission, nothing modelled."""
    free = asked(LLAMA_8B, pool("H100"), max_model_len=8192, concurrency=requests)
    assert isinstance(free, Plan)
    assert free.pinned_kv_cache_bytes == 2 * 2**20 * (8192 // 16 * requests + 1)

    given = asked(
        LLAMA_8B,
        pool("H100"),
        max_model_len=8192,
        concurrency=requests,
        kv_cache_memory_bytes=free.pinned_kv_cache_bytes,
    )
    assert isinstance(given, Plan)
    assert requests <= given.kv_cache.max_concurrency < requests + 1
    less = asked(
        LLAMA_8B,
        pool("H100"),
        max_model_len=8192,
        concurrency=requests,
        kv_cache_memory_bytes=free.pinned_kv_cache_bytes - 1,
    )
    assert isinstance(less, Refusal)


def test_more_requests_take_more_gpus_or_a_shorter_context() -> None:
    one = asked(LLAMA_8B, pool("A10", 4))
    many = asked(LLAMA_8B, pool("A10", 4), concurrency=16)
    fixed = asked(LLAMA_8B, pool("A10", 4), concurrency=16, max_model_len=8192)

    assert isinstance(one, Plan)
    assert isinstance(many, Plan)
    assert isinstance(fixed, Plan)
    assert (many.gpus > one.gpus) or (many.max_model_len < one.max_model_len)
    assert fixed.kv_cache.max_concurrency >= 16


def test_a_kv_space_without_room_on_the_card_is_refused_in_bytes() -> None:
    found = asked(LLAMA_8B, pool("A10"), kv_cache_memory_bytes=16 * GIB, max_model_len=8192)
    assert isinstance(found, Refusal)
    assert found.message.startswith(
        "On 1 x A10 (TP 1, PP 1) kvCacheMemory 16.00 GiB, which stands beside weights"
    )


@pytest.mark.parametrize(
    ("gpu", "share"),
    [
        pytest.param("A100-80GB-MIG-3g.40gb", "3 of 7 parts", id="A100"),
        pytest.param("A30-MIG-2g.12gb", "2 of 4 parts", id="A30"),
        pytest.param("A100-80GB", None, id="whole"),
    ],
)
def test_a_slice_says_what_share_of_the_multiprocessors_it_has(gpu: str, share: str | None) -> None:
    plan = asked("facebook/opt-125m", pool(gpu))
    assert isinstance(plan, Plan)
    told = [warning for warning in plan.warnings if "is a slice with" in warning]
    assert [share in warning for warning in told if share] == ([True] if share else [])
