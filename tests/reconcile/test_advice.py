"""What admission prints: one fact in a line, none longer than the API server lets through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import a10_plan, spec

from plimsoll.reconcile.advice import MAX_LENGTH, admission_warnings
from plimsoll.sizing.plan import Refusal, RefusalReason


def test_the_plan_is_told_with_cpu_memory_and_quota() -> None:
    assert admission_warnings(a10_plan(), spec()) == (
        (
            "plan: 1 x NVIDIA-A10 (TP 1, PP 1) per replica, context 32,768 tokens, limited by the model's own length; KV "
            "cache 40,000 tokens, 1.25 requests of full length at once"
        ),
        "download: requests 2 CPU and 8Gi memory, limits 4 CPU and 16Gi memory",
        "server: requests 4 CPU and 12Gi memory, limits 8 CPU and 24Gi memory",
        "test: requests 1 CPU and 2Gi memory, limits 2 CPU and 4Gi memory",
        "quota: requests.cpu 6, requests.memory 20Gi, requests.nvidia.com/gpu 1, requests.storage 16Gi, pods 2",
        (
            "quota: A new revision starts beside the old one: leave room for 4 requests.cpu, 12Gi requests.memory, 1 "
            "requests.nvidia.com/gpu more, or it waits for the room."
        ),
    )


def test_a_refusal_is_told_with_what_would_fit() -> None:
    refusal = Refusal(
        reason=RefusalReason.DOES_NOT_FIT, message="too large.", would_fit=("8 x H200", "16 x H100")
    )
    assert admission_warnings(refusal, spec()) == (
        "not served: too large.",
        "would fit: 8 x H200",
        "would fit: 16 x H100",
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param(
            {"resources": {"server": {"limits": {"memory": "4Gi"}}}},
            "expect OOMKilled",
            id="too-little-memory",
        ),
        pytest.param(
            {"engine": {"image": "a/b:v0.30.0", "version": "0.33.0"}},
            "the image's tag says 0.30.0",
            id="two-versions",
        ),
        pytest.param({"engine": {"vllm": {"trustRemoteCode": True}}}, "pin a commit", id="remote-code"),
        pytest.param({"test": {"gate": "Off"}}, "without a test", id="no-gate"),
    ],
)
def test_what_is_worth_a_second_look_is_said(fields: dict[str, Any], says: str) -> None:
    plain = admission_warnings(a10_plan(), spec())
    new = [text for text in admission_warnings(a10_plan(), spec(**fields)) if text not in plain]
    assert any(says in text for text in new)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_every_warning_is_one_line_of_at_most_240_characters(message: str, alternatives: list[str]) -> None:
    refusal = Refusal(reason=RefusalReason.DOES_NOT_FIT, message=message, would_fit=tuple(alternatives))
    plan = a10_plan(warnings=(message or "x",), limited_by=message)
    for warning in (*admission_warnings(refusal, spec()), *admission_warnings(plan, spec())):
        assert len(warning) <= MAX_LENGTH
        assert len(warning.splitlines()) <= 1
