"""Plimsoll's plan of the KV cache equals vLLM's own, to the integer.

Hypothesis draws the same examples in every run, so that a run says something about the change and not about luck;
`hack/conformance explore` looks further, with a random seed.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from conformance.catalogue import catalogue_cases
from conformance.made import cases, recurrent_states
from support.planning import ours, recorded, summary

if TYPE_CHECKING:
    from conformance.planner import Planner
    from plimsoll.sizing.layers import RecurrentState

FIXED = settings(derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
MODELS = [
    pytest.param(list(made), id=model)
    for model, made in groupby(catalogue_cases(), lambda case: case["model"])
]


@pytest.mark.parametrize("of_model", MODELS)
def test_the_catalogue_is_planned_as_vllm_plans_it(planner: Planner, of_model: list[dict[str, Any]]) -> None:
    for case in of_model:
        assert planner.ask(case) == ours(case), case


@settings(FIXED, max_examples=1500)
@given(case=cases())
def test_any_mix_of_caches_is_planned_as_vllm_plans_it(planner: Planner, case: dict[str, Any]) -> None:
    assert planner.ask(case) == ours(case)


@settings(FIXED, max_examples=300)
@given(asked=recurrent_states())
def test_recurrent_states_have_the_elements_that_vllm_gives_them(
    planner: Planner, asked: tuple[dict[str, Any], RecurrentState]
) -> None:
    question, state = asked
    convolution_and_state = planner.ask(question)["elements"]
    assert sum(convolution_and_state) == state.state_bytes(question["arguments"]["tp_world_size"], 1)


def test_the_recorded_answers_are_still_vllms(planner: Planner) -> None:
    for case, answer in recorded():
        assert answer == summary(planner.ask(case)), case
