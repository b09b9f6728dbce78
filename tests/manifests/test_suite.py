"""The suites: what the smoke suite's assertions hold for, and that nothing of the user's breaks the YAML."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import context, cpu_plan, deployment

from plimsoll.manifests.suite import REPETITION, suite_config_map, suite_text


def passes_smoke(output: str) -> bool:
    config = yaml.safe_load(suite_text(context()) or "")
    verdicts = []
    for assertion in config["tests"][0]["assert"]:
        found = re.search(assertion["value"], output) is not None
        verdicts.append(found is not assertion["type"].startswith("not-"))
    return all(verdicts)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\t ", id="white space"),
        pytest.param("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", id="one character"),
        pytest.param(" the" * 32, id="one word"),
        pytest.param("\nthe the\nthe the the", id="one word on several lines"),
        pytest.param("<unk>" * 32, id="one special token"),
        pytest.param("ab ab ab ab", id="a unit of two letters"),
    ],
)
def test_a_broken_engine_fails_the_smoke_suite(output: str) -> None:
    assert not passes_smoke(output)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(" Paris, which is the capital of France.", id="a sentence"),
        pytest.param(
            " the French Republic, and the city of the French Republic, and the city of",
            id="a small model's loop",
        ),
        pytest.param("\x03\ufffdK%z\x11 \ufffdq", id="random bytes"),
        pytest.param(" Wednesday, Thursday, Friday", id="a list"),
        pytest.param("Hello!", id="one word once"),
    ],
)
def test_any_language_model_passes_the_smoke_suite(output: str) -> None:
    assert passes_smoke(output)


@given(
    unit=st.text(alphabet=st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1, max_size=16),
    times=st.integers(4, 40),
)
def test_any_unit_repeated_is_found(unit: str, times: int) -> None:
    if unit.strip():
        assert re.search(REPETITION, unit * times)
        assert re.search(REPETITION, f" {unit}" * times)


def test_long_texts_are_judged_at_once() -> None:
    # A pattern that backtracks exponentially would not come back from these.
    assert re.search(REPETITION, " " * 5000 + "x" + " " * 5000 + "y") is None
    assert re.search(REPETITION, "ab " * 2000 + "c") is None


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(tests=st.lists(st.dictionaries(st.text(min_size=1), value, max_size=3), min_size=1, max_size=3))
def test_the_users_tests_come_through_unchanged(tests) -> None:
    ctx = context(deployment(test={"promptfoo": {"tests": tests}}))

    assert yaml.safe_load(suite_text(ctx) or "")["tests"] == tests


@pytest.mark.parametrize(
    ("ctx", "expected"),
    [
        pytest.param(context(), "openai:chat:mistralai/Mistral-7B-Instruct-v0.3", id="with a chat template"),
        pytest.param(context(plan=cpu_plan()), "openai:completion:facebook/opt-125m", id="without one"),
        pytest.param(
            context(deployment(engine={"servedModelName": "a:b"})),
            "openai:chat:a:b",
            id="a name of the user's",
        ),
    ],
)
def test_the_provider_is_the_engine(ctx, expected: str) -> None:
    config = yaml.safe_load(suite_config_map(ctx, "s")["data"]["promptfooconfig.yaml"])

    assert [provider["id"] for provider in config["providers"]] == [expected]


def test_a_short_context_is_not_overrun() -> None:
    config = yaml.safe_load(suite_text(context(plan=cpu_plan(max_model_len=64))) or "")

    assert config["providers"][0]["config"]["max_tokens"] == 16
    assert config["providers"][0]["config"]["passthrough"]["min_tokens"] == 16


def test_none_is_made_for_the_users_own_config_map() -> None:
    ctx = context(deployment(test={"promptfoo": {"configMapRef": {"name": "suite"}}}))

    assert suite_text(ctx) is None
    with pytest.raises(ValueError, match="configMapRef"):
        suite_config_map(ctx, "s")
