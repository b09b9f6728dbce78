"""Several servers on one card: shares that vLLM starts with, the sum where they do not fit, and what would."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import PartName, Refusal, RefusalReason
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.sharing import Sharing, Tenant, share_card
from plimsoll.units import GIB, ceil_fraction

# A card of 96 GB as torch shows it (RTX PRO 6000: 94.97 GiB), whatever the catalogue says of it later.
CARD_96 = Accelerator(
    alias="96GB",
    product="TEST-96GB",
    memory_bytes=int(94.97 * GIB),
    compute_capability=(12, 0),
    provenance=Provenance.PUBLISHED,
    source="a test",
)
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


def decoder(widths: tuple[int, int, int, int, int, int], length: int, **more: Any) -> dict[str, Any]:
    hidden, intermediate, layers, heads, kv_heads, vocab = widths
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": length,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        **more,
    }


# deepseek-coder-33b and Qwen2.5 7B, 14B and 32B by their published widths.
CONFIGS = {
    "33b": decoder((7168, 19200, 62, 56, 8, 32256), 16384),
    "7b": decoder((3584, 18944, 28, 28, 4, 152064), 32768),
    "14b": decoder((5120, 13824, 48, 40, 8, 152064), 32768),
    "32b": decoder((5120, 27648, 64, 40, 8, 152064), 32768),
}


def tenant(name: str, *, version: str = "0.33.0", **serving: Any) -> Tenant:
    """A server of one of the models; "-awq" makes it 4 bit."""
    size, _, quantized = name.partition("-")
    config = dict(CONFIGS[size])
    if quantized:
        config |= {"quantization_config": AWQ, "torch_dtype": "float16"}
    facts = ModelFacts(
        model_id=f"test/{name}", requested_revision="main", commit="0" * 40, config=config, files=()
    )
    return Tenant(
        name=name,
        shape=shape_from_facts(facts),
        facts=facts,
        serving=Serving(engine_version=version, **serving),
    )


def shared(*tenants: Tenant, card: Accelerator = CARD_96) -> Sharing:
    result = share_card(tenants, card)
    assert isinstance(result, Sharing), result
    return result


def refused(*tenants: Tenant, card: Accelerator = CARD_96) -> Refusal:
    result = share_card(tenants, card)
    assert isinstance(result, Refusal), result
    return result


def starts_one_after_another(sharing: Sharing) -> bool:
    """VLLM's own check at each start: the share of the whole card must be free by then."""
    free = sharing.accelerator.memory_bytes
    for part in sharing.parts:
        free -= part.outside_bytes
        if free < ceil_fraction(part.share * sharing.accelerator.memory_bytes):
            return False
        free -= part.requested_bytes
    return free >= 0


@pytest.mark.parametrize(
    ("names", "known_gib"),
    [
        # The two servers of seed-tables section 4, with what its author reckons for each.
        pytest.param(("33b-awq", "7b-awq"), (50, 20), id="33B AWQ + 7B AWQ"),
        pytest.param(("33b-awq", "14b-awq"), (50, 30), id="33B AWQ + 14B AWQ"),
        pytest.param(("32b-awq", "7b-awq"), (50, 18), id="32B AWQ + 7B AWQ"),
    ],
)
def test_the_pairs_that_users_know_fit_on_96_gb(names: tuple[str, ...], known_gib: tuple[int, ...]) -> None:
    sharing = shared(*(tenant(name) for name in names))

    assert starts_one_after_another(sharing)
    assert sum(part.share for part in sharing.parts) < 1
    for part, known in zip(sharing.parts, known_gib, strict=True):
        assert part.least_bytes <= known * GIB  # one request needs less than the rule of thumb gives
        assert part.requested_bytes >= part.least_bytes
        assert part.plan.max_model_len == part.tenant.shape.max_model_len


def test_where_the_rule_of_thumb_is_wrong_the_sum_says_so() -> None:
    """ "33B FP16 75 + 7B FP16 25: does not fit" - it does, with one request of nearly full length each."""
    sharing = shared(tenant("33b"), tenant("7b"))

    assert starts_one_after_another(sharing)
    assert sharing.parts[0].least_bytes < 75 * GIB
    assert sharing.parts[1].least_bytes < 25 * GIB


def test_two_shares_of_088_are_refused_and_the_shares_that_work_are_named() -> None:
    share: dict[str, Any] = {"gpu_memory_utilization": Fraction("0.88")}
    refusal = refused(tenant("33b-awq", **share), tenant("7b-awq", **share))
    free = shared(tenant("33b-awq"), tenant("7b-awq"))

    assert refusal.reason is RefusalReason.DOES_NOT_FIT
    both = 2 * ceil_fraction(Fraction("0.88") * CARD_96.memory_bytes)
    assert refusal.needed_bytes == both + 2 * BASELINE.high_bytes
    assert refusal.available_bytes == CARD_96.memory_bytes
    first, second = (float(part.share) for part in free.parts)
    assert refusal.would_fit[0] == (
        f"gpuMemoryUtilization left unset: 33b-awq {first:g} with 16384 tokens, 7b-awq {second:g} with 32768 tokens"
    )


def test_the_third_is_refused_with_the_sum() -> None:
    refusal = refused(tenant("33b"), tenant("7b"), tenant("14b"))
    needs = [shared(tenant(name), card=find("H200")).parts[0].least_bytes for name in ("33b", "7b", "14b")]

    assert refusal.reason is RefusalReason.DOES_NOT_FIT
    assert refusal.needed_bytes is not None
    # Shares are whole thousandths, and a larger card has larger batches: the sum is near that of the needs.
    assert refusal.needed_bytes == pytest.approx(sum(needs) + 3 * BASELINE.high_bytes, rel=0.08)
    assert refusal.message.count(" + ") == 3
    assert "3 CUDA contexts" in refusal.message
    assert any(clause.startswith("without 14b: ") for clause in refusal.would_fit)
    assert any(clause.startswith("one H200: ") for clause in refusal.would_fit)


def test_the_rest_of_the_card_gives_all_of_them_the_same_number_of_tokens() -> None:
    sharing = shared(tenant("33b-awq", max_model_len=4096), tenant("7b-awq", max_model_len=4096))
    tokens = [part.plan.kv_cache.tokens for part in sharing.parts]

    assert tokens[0] == pytest.approx(tokens[1], rel=0.02)
    assert sharing.free_bytes < CARD_96.memory_bytes // 100


def test_a_share_and_a_kv_space_that_are_set_stay_as_they_are() -> None:
    sharing = shared(
        tenant("33b-awq", gpu_memory_utilization=Fraction("0.4")),
        tenant("7b-awq", kv_cache_memory_bytes=4 * GIB),
    )
    fixed, given_cache = sharing.parts

    assert fixed.share == Fraction("0.4")
    assert given_cache.plan.kv_cache_memory_bytes == 4 * GIB
    assert given_cache.requested_bytes - given_cache.least_bytes < CARD_96.memory_bytes // 1000 + 1
    assert starts_one_after_another(sharing)


@pytest.mark.parametrize(
    ("serving", "reason", "sentence"),
    [
        pytest.param(
            {"gpu_memory_utilization": Fraction("0.1")},
            RefusalReason.DOES_NOT_FIT,
            "gpuMemoryUtilization is 0.1",
            id="share too small",
        ),
        pytest.param(
            {"tensor_parallel_size": 2},
            RefusalReason.UNSUPPORTED_OPTION,
            "tensorParallelSize is 2",
            id="two cards",
        ),
        pytest.param(
            {"max_model_len": 65536}, RefusalReason.UNSUPPORTED_OPTION, "maxModelLen is 65536", id="too long"
        ),
        pytest.param({"version": "nine"}, RefusalReason.UNSUPPORTED_OPTION, "nine", id="no such release"),
    ],
)
def test_what_one_of_them_cannot_is_told_under_its_name(
    serving: dict[str, Any], reason: RefusalReason, sentence: str
) -> None:
    refusal = refused(tenant("7b"), tenant("33b", **serving))

    assert refusal.reason is reason
    assert refusal.message.startswith("33b: ")
    assert sentence in refusal.message


def test_a_card_that_cannot_is_told_under_the_name_of_the_server() -> None:
    refusal = refused(tenant("7b"), tenant("33b"), card=find("V100-32GB"))

    assert refusal.reason is RefusalReason.HARDWARE_CANNOT
    assert refusal.message.startswith("7b: V100-32GB has compute capability 7.0")


def test_before_0_20_the_graphs_lie_beside_the_share() -> None:
    old, new = (
        shared(tenant("7b-awq", version=version)).parts[0].outside_bytes for version in ("0.19.0", "0.33.0")
    )
    eager = shared(tenant("7b-awq", version="0.19.0", enforce_eager=True)).parts[0].outside_bytes

    assert (new, eager) == (BASELINE.high_bytes, BASELINE.high_bytes)
    assert old > new


@settings(max_examples=30)
@given(
    names=st.lists(st.sampled_from(["7b-awq", "14b-awq", "33b-awq", "7b"]), min_size=1, max_size=4),
    memory_gib=st.integers(16, 200),
)
def test_whatever_is_promised_starts_and_is_large_enough(names: list[str], memory_gib: int) -> None:
    card = Accelerator(
        alias="any",
        product="ANY",
        memory_bytes=memory_gib * GIB,
        compute_capability=(9, 0),
        provenance=Provenance.PUBLISHED,
        source="a test",
    )
    result = share_card([tenant(name) for name in names], card)

    if isinstance(result, Refusal):
        assert result.needed_bytes is not None
        assert result.available_bytes is not None
        assert result.needed_bytes > result.available_bytes
        return
    assert starts_one_after_another(result)
    for part in result.parts:
        used = sum(line.bytes for line in part.plan.parts if line.name is not PartName.MARGIN)
        assert used <= part.requested_bytes
        assert part.plan.max_model_len >= 2048
