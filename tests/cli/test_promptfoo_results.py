"""What is made of promptfoo's results.

The files in recorded_promptfoo/ were written by promptfoo 0.123.1 running the smoke suite against small HTTP servers
that answer as their names say; what does not matter here (token counts, headers, the suite) was taken out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.cli.promptfoo import Verdict, decide
from plimsoll.reconcile.reports import FailedAssertion
from plimsoll.reconcile.reports import TestReport as Report

RECORDED = Path(__file__).parent / "recorded_promptfoo"
REFUSED = (
    "the engine refused 3 of the suite's requests (HTTP {}); check the model's name, the key and the length of the "
    "prompts in the suite."
)
ERRORS = "3 of the suite's requests ended in an error; read the log of the test and the server."
CASES = ("a sentence to finish", "a story to go on with", "a list to continue")


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDED / f"{name}.json").read_text())


def failures(assertion: str) -> tuple[FailedAssertion, ...]:
    return tuple(FailedAssertion(assertion=assertion, test=name) for name in CASES)


GOOD = Report(passed=6, failed=0, errors=0, total=6)
EMPTY = Report(passed=3, failed=3, errors=0, total=6, failures=failures("not-empty"))
LOOP = Report(passed=3, failed=3, errors=0, total=6, failures=failures("not-one-repeated-token"))


def erroneous(sentence: str) -> Report:
    return Report(passed=0, failed=0, errors=3, total=3, error=sentence)


@pytest.mark.parametrize("api", ["chat", "completion"])
@pytest.mark.parametrize(
    ("name", "verdict", "report"),
    [
        pytest.param("good", Verdict.PASSED, GOOD, id="an engine that works"),
        pytest.param("empty", Verdict.FAILED, EMPTY, id="empty text"),
        pytest.param("loop", Verdict.FAILED, LOOP, id="one repeated token"),
        pytest.param("404", Verdict.FAILED, erroneous(REFUSED.format(404)), id="a wrong model name"),
        pytest.param("500", Verdict.ERROR, erroneous(ERRORS), id="an engine that died"),
    ],
)
def test_recorded_results_are_judged(name: str, api: str, verdict: Verdict, report: Report) -> None:
    outcome = decide(recorded(f"{name}-{api}"))

    assert (outcome.verdict, outcome.report) == (verdict, report)


def test_a_run_that_promptfoo_gave_up_without_counting_anything_is_not_passed() -> None:
    results = recorded("401-chat")

    assert results["results"]["stats"] == {"successes": 0, "failures": 0, "errors": 0}
    assert decide(results).verdict is Verdict.FAILED


def case(**fields: Any) -> dict[str, Any]:
    return {"success": False, "failureReason": 2, **fields}


def part(*, passed: bool, **assertion: Any) -> dict[str, Any]:
    return {"pass": passed, "assertion": assertion}


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        pytest.param([], Verdict.ERROR, id="no case at all"),
        pytest.param([case(success=True, failureReason=0)], Verdict.PASSED, id="a case without assertions"),
        pytest.param(
            [case(failureReason=1), case(error="API error: 500 Internal Server Error")],
            Verdict.FAILED,
            id="a failure beside an error",
        ),
        pytest.param(
            [case(success=True, failureReason=0), case(error="Request timed out")],
            Verdict.ERROR,
            id="a time-out",
        ),
        pytest.param(
            [case(error="API error: 429 Too Many Requests", metadata={"http": {"status": 429}})],
            Verdict.ERROR,
            id="a rate limit passes",
        ),
        pytest.param(
            [case(error="API error: too long, Type: BadRequestError, Code: 400\n\n{}")],
            Verdict.FAILED,
            id="a prompt that is too long",
        ),
        pytest.param([case(error="it cost 404 Dollars")], Verdict.ERROR, id="a number that is no status"),
        pytest.param(["odd", None, 3], Verdict.ERROR, id="no cases but something"),
    ],
)
def test_cases_are_judged(cases: list[Any], verdict: Verdict) -> None:
    assert verdict == decide({"results": {"results": cases}}).verdict


def test_names_of_assertions_and_cases_are_kept_and_prompts_are_not() -> None:
    failed = case(
        failureReason=1,
        vars={"prompt": "secret"},
        response={"output": "secret"},
        gradingResult={
            "componentResults": [
                part(passed=False, type="icontains", value="secret"),
                part(passed=False, type="regex", metric="named"),
                part(passed=True, type="x"),
            ]
        },
    )

    report = decide({"results": {"results": [failed]}}).report

    assert report == Report(
        passed=1,
        failed=2,
        errors=0,
        total=3,
        failures=(
            FailedAssertion(assertion="icontains", test="test 1"),
            FailedAssertion(assertion="named", test="test 1"),
        ),
    )


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "results",
                    "success",
                    "failureReason",
                    "metadata",
                    "http",
                    "status",
                    "gradingResult",
                    "componentResults",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(results=st.dictionaries(st.just("results"), json_value))
def test_odd_results_never_pass_by_accident(results: dict[str, Any]) -> None:
    outcome = decide(results)

    if outcome.verdict is Verdict.PASSED:
        cases = results["results"]["results"]
        assert all(c["success"] is True for c in cases if isinstance(c, dict))
        assert outcome.report.passed > 0
