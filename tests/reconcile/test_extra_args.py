"""Further arguments of `vllm serve`: what changes the plan is in it, what cannot be is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.reconcile.extra_args import argument_problems, argument_warnings, served_with
from plimsoll.sizing.lora import LoraSlots
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.speculation import speculation_of

PLAIN = Serving(engine_version="0.33.0")


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        pytest.param(("--block-size", "32"), "block_size", 32, id="two arguments"),
        pytest.param(("--block-size=64",), "block_size", 64, id="one argument"),
        pytest.param(("--block_size=64",), "block_size", 64, id="underscores"),
        pytest.param(("--block-size=64", "--block-size=32"), "block_size", 32, id="the last counts"),
        pytest.param(("--enforce-eager",), "enforce_eager", True, id="eager"),
        pytest.param(
            ("--enforce-eager", "--no-enforce-eager"), "enforce_eager", False, id="eager taken back"
        ),
        pytest.param(("--enable-prefix-caching",), "enable_prefix_caching", True, id="prefix caching"),
        pytest.param(("--no-enable-prefix-caching",), "enable_prefix_caching", False, id="no prefix caching"),
        pytest.param(
            ("--disable-hybrid-kv-cache-manager",),
            "disable_hybrid_kv_cache_manager",
            True,
            id="no hybrid manager",
        ),
        pytest.param(("-ep",), "enable_expert_parallel", True, id="whole experts"),
    ],
)
def test_an_argument_that_changes_the_sum_is_in_the_plan(
    arguments: tuple[str, ...], field: str, value: Any
) -> None:
    assert served_with(PLAIN, arguments) == replace(PLAIN, **{field: value})


DRAFT: dict[str, Any] = {"method": "mtp", "num_speculative_tokens": 1}


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        pytest.param(("--speculative-config", json.dumps(DRAFT)), DRAFT, id="two arguments"),
        pytest.param((f"-sc={json.dumps(DRAFT)}",), DRAFT, id="one argument, the short name"),
        pytest.param(
            ("--speculative-config.method=mtp", "--speculative_config.num-speculative-tokens", "1"),
            {"method": "mtp", "num-speculative-tokens": 1},
            id="behind dots",
        ),
        pytest.param(("--spec-method", "mtp", "--spec-tokens=1"), DRAFT, id="flags of their own"),
        pytest.param(
            ("--speculative-config", '{"method": "mtp"}', "--spec-tokens", "1"),
            DRAFT,
            id="one beside the other",
        ),
        pytest.param(
            ("-sc", '{"method": "ngram", "num_speculative_tokens": 4}', "-sc", json.dumps(DRAFT)),
            DRAFT,
            id="the last counts",
        ),
    ],
)
def test_what_proposes_tokens_is_in_the_plan(arguments: tuple[str, ...], fields: dict[str, Any]) -> None:
    assert served_with(PLAIN, arguments) == replace(PLAIN, speculative=speculation_of(fields))
    assert argument_warnings(arguments) == ()  # the plan says what of a draft is not in the sum
    assert tuple(argument_problems(arguments)) == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--seed=1", "--speculative-config"), "speculative_config is ''", id="no value"),
        pytest.param(("--seed=1", "-sc=mtp"), "it must be a JSON object", id="a word"),
        pytest.param(("--seed=1", "--spec-method=mtp"), "num_speculative_tokens is None", id="no number"),
        pytest.param(("--seed=1", "--spec-tokens=2"), "method is None", id="no method"),
        pytest.param(
            ("--seed=1", '-sc={"method": "guess", "num_speculative_tokens": 1}'),
            "method is 'guess'",
            id="no such",
        ),
    ],
)
def test_what_cannot_propose_tokens_is_refused_before_the_engine_does(
    arguments: tuple[str, ...], words: str
) -> None:
    (found,) = argument_problems(arguments)

    assert found.path == "spec.engine.vllm.extraArgs[1]"
    assert words in found.message
    assert served_with(PLAIN, arguments) == PLAIN


@pytest.mark.parametrize(
    ("arguments", "slots"),
    [
        pytest.param(("--enable-lora",), LoraSlots(), id="alone"),
        pytest.param(
            ("--max-lora-rank", "64", "--enable_lora", "--max_loras=4"),
            LoraSlots(max_loras=4, max_lora_rank=64),
            id="in any order and spelling",
        ),
        pytest.param(
            ("--enable-lora", "--fully-sharded-loras", "--max-cpu-loras=8", "--max-loras=2", "--max-loras=4"),
            LoraSlots(max_loras=4, fully_sharded=True, max_cpu_loras=8),
            id="the last counts",
        ),
        pytest.param(
            ("--enable-lora", "--fully-sharded-loras", "--no-fully-sharded-loras"),
            LoraSlots(),
            id="taken back",
        ),
        pytest.param(("--enable-lora", "--no-enable-lora", "--max-loras=4"), None, id="switched off"),
        pytest.param(("--max-loras=4",), None, id="never switched on"),
    ],
)
def test_slots_for_adapters_are_in_the_plan(arguments: tuple[str, ...], slots: LoraSlots | None) -> None:
    assert served_with(PLAIN, arguments) == replace(PLAIN, lora=slots)
    assert argument_warnings(arguments) == ()
    assert tuple(argument_problems(arguments)) == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--enable-lora", "--max-loras"), "--max-loras takes a whole number", id="no value"),
        pytest.param(("--enable-lora", "--max-loras=many"), "stands with 'many'", id="a word"),
        pytest.param(("--enable-lora", "--max-loras=0"), "max_loras is 0", id="zero"),
        pytest.param(("--enable-lora", "--max-lora-rank=20"), "vLLM takes 1, 8, 16, 32", id="a rank"),
        pytest.param(("--enable-lora", "--max-lora-rank=١٦"), "stands with '١٦'", id="other digits"),
    ],
)
def test_slots_that_the_engine_refuses_are_refused_before(arguments: tuple[str, ...], words: str) -> None:
    (found,) = argument_problems(arguments)

    assert found.path == "spec.engine.vllm.extraArgs[1]"
    assert words in found.message
    assert served_with(PLAIN, arguments) == PLAIN


def test_other_arguments_change_nothing() -> None:
    arguments = ("--seed", "7", "--block-size-of-something=3", "block-size", "--enable-auto-tool-choice")

    assert served_with(PLAIN, arguments) == PLAIN
    assert argument_warnings(arguments) == ()
    assert tuple(argument_problems(arguments)) == ()


def test_what_no_plan_reckons_with_is_said_once() -> None:
    arguments = ("--enable-eplb", "--lora-dtype=float16", "--enable_eplb", "-O.mode=3")

    warnings = argument_warnings(arguments)

    assert [warning.split()[0] for warning in warnings] == ["--enable-eplb", "--lora-dtype", "-O"]
    assert all("status.measured" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--seed=1", "--block-size=many"), "'many'", id="a word"),
        pytest.param(("--seed=1", "--block-size", "0"), "'0'", id="zero"),
        pytest.param(("--seed=1", "--block-size=-16"), "'-16'", id="negative"),
        pytest.param(("--seed=1", "--block-size=65537"), "'65537'", id="too large"),
        pytest.param(("--seed=1", "--block-size"), "none", id="no value"),
        pytest.param(("--seed=1", "--block-size=١٦"), "'١٦'", id="digits of another script"),
    ],
)
def test_a_block_size_that_is_none_is_refused_before_the_engine_does(
    arguments: tuple[str, ...], words: str
) -> None:
    (found,) = argument_problems(arguments)

    assert found.path == "spec.engine.vllm.extraArgs[1]"
    assert f"stands with {words}; correct or remove it" in found.message
    assert served_with(PLAIN, arguments) == PLAIN


@given(
    st.lists(
        st.one_of(
            st.text(max_size=12),
            st.sampled_from(
                [
                    "--block-size",
                    "-O",
                    "--",
                    "-",
                    "=",
                    "-sc",
                    "--spec-tokens",
                    "-sc.method=mtp",
                    "{}",
                    "--enable-lora",
                    "--max-loras",
                ]
            ),
        ),
        max_size=6,
    )
)
def test_whatever_stands_there_is_read(arguments: list[str]) -> None:
    served_with(PLAIN, arguments)
    tuple(argument_problems(arguments))
    argument_warnings(arguments)
