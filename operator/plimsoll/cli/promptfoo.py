"""Runs promptfoo and judges what it found by its results, never by its exit code.

promptfoo 0.123.1 exits with 100 for a failed assertion and for an error of the provider alike, and with 0 and
counters that are all zero when it gives up on an HTTP 4xx of a chat model: only the results tell.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import yaml

from plimsoll.reconcile.reports import FailedAssertion, TestReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ASSERTION_FAILED: Final = 1  # promptfoo's ResultFailureReason: 0 none, 1 assertion, 2 error
_STATUS_IN_TEXT: Final = re.compile(r"(?:^API error: |Code: )([1-5]\d\d)\b")
# A 4xx that another try may mend: time-out, too early, too many requests.
_PASSING_CODES: Final = frozenset({408, 425, 429})


class Verdict(IntEnum):
    """The runner's exit code; the Job's podFailurePolicy acts on it."""

    PASSED = 0
    ERROR = 1  # may mend itself: the Job tries again
    FAILED = 100  # no retry mends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a part of the test found, and how the runner ends if it ends here."""

    verdict: Verdict
    report: TestReport


class PromptfooError(Exception):
    """A run of promptfoo without results: one sentence with the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptfooRun:
    """One run of promptfoo.

    Attributes:
        command: promptfoo's executable.
        provider: promptfoo's name of the engine, for a suite that names none.
        base_url: of the OpenAI-compatible API, with /v1.
        folder: writable; holds promptfoo's own database and its output.
    """

    command: str
    suite: Path
    provider: str
    base_url: str
    folder: Path
    timeout_seconds: float


def run(order: PromptfooRun, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the suite and read its results.

    Raises:
        PromptfooError: there are none.
    """
    output = order.folder / "results.json"
    command = [order.command, "eval", "-c", str(order.suite), "-o", str(output)]
    command += ["--no-cache", "--no-progress-bar", "--no-table"]
    if not _names_providers(order.suite):
        command += ["--providers", order.provider]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; the suite's name is one argument
            command,
            check=False,
            env=_environment(order, environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=order.timeout_seconds,
        )
    except subprocess.TimeoutExpired:
        raise PromptfooError(
            f"promptfoo did not end within {order.timeout_seconds:.0f} s; make the suite smaller."
        ) from None
    except OSError as error:
        raise PromptfooError(
            f"promptfoo cannot be run as {order.command!r} ({error.strerror}); use the project's promptfoo image."
        ) from None
    print(done.stdout, end="", flush=True)
    return _read(output, done)


def _environment(order: PromptfooRun, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        **environment,
        "OPENAI_BASE_URL": order.base_url,
        # promptfoo wants a key, also for an engine that asks for none.
        "OPENAI_API_KEY": environment.get("OPENAI_API_KEY") or "none",
        "PROMPTFOO_CONFIG_DIR": str(order.folder / "promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
    }


def _names_providers(suite: Path) -> bool:
    """Whether the suite says itself whom it asks; one that cannot be read is promptfoo's to complain about."""
    try:
        config = yaml.safe_load(suite.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return not isinstance(config, dict) or bool(config.get("providers") or config.get("targets"))


def _read(output: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        found = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if isinstance(found, dict):
        return found
    raise PromptfooError(
        f"promptfoo ended with exit code {done.returncode} and no results; read the test's log and check the suite."
    )


def decide(results: Mapping[str, Any]) -> Outcome:
    """Judge promptfoo's results: what it wrote with `-o FILE.json`.

    A failed assertion is final, and so is an HTTP 4xx: the engine refuses the request, as under a wrong model name.
    Any other error, and a run without a single case, may mend itself.
    """
    cases = _cases(results)
    report = _counted(cases)
    refused = sorted({status for case in cases if _is_error(case) and (status := _refusal(case))})
    if report.failed:
        return Outcome(verdict=Verdict.FAILED, report=report)
    if refused:
        codes = ", ".join(map(str, refused))
        error = (
            f"the engine refused {report.errors} of the suite's requests (HTTP {codes}); check the model's name, the "
            "key and the length of the prompts in the suite."
        )
        return Outcome(verdict=Verdict.FAILED, report=replace(report, error=error))
    if report.errors:
        error = f"{report.errors} of the suite's requests ended in an error; read the log of the test and the server."
        return Outcome(verdict=Verdict.ERROR, report=replace(report, error=error))
    if not report.passed:
        error = "promptfoo ran no test case; add tests to the suite."
        return Outcome(verdict=Verdict.ERROR, report=replace(report, error=error))
    return Outcome(verdict=Verdict.PASSED, report=report)


def _cases(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = results.get("results")
    found = inner.get("results") if isinstance(inner, dict) else None
    return [case for case in found if isinstance(case, dict)] if isinstance(found, list) else []


def _is_error(case: Mapping[str, Any]) -> bool:
    return case.get("success") is not True and case.get("failureReason") != _ASSERTION_FAILED


def _refusal(case: Mapping[str, Any]) -> int | None:
    """The HTTP 4xx that a case met; chat models carry it in the metadata, completion models in the text alone."""
    metadata = case.get("metadata")
    http = metadata.get("http") if isinstance(metadata, dict) else None
    status = http.get("status") if isinstance(http, dict) else None
    if not isinstance(status, int):
        match = _STATUS_IN_TEXT.search(str(case.get("error") or ""))
        status = int(match[1]) if match is not None else 0
    return status if 400 <= status < 500 and status not in _PASSING_CODES else None  # noqa: PLR2004 - HTTP


def _counted(cases: list[Mapping[str, Any]]) -> TestReport:
    """Assertions that held and that did not; a case without any counts as one."""
    passed = failed = errors = 0
    failures: list[FailedAssertion] = []
    for number, case in enumerate(cases, start=1):
        parts = _assertions(case)
        if case.get("success") is True:
            passed += max(1, len(parts))
        elif _is_error(case):
            errors += 1
        else:
            name = _case_name(case, number)
            broken = [part for part in parts if part.get("pass") is not True]
            passed += len(parts) - len(broken)
            failed += max(1, len(broken))
            names = [_assertion_name(part) for part in broken] or ["test"]
            failures += [FailedAssertion(assertion=assertion, test=name) for assertion in names]
    return TestReport(
        passed=passed,
        failed=failed,
        errors=errors,
        total=passed + failed + errors,
        failures=tuple(failures),
    )


def _assertions(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    grading = case.get("gradingResult")
    parts = grading.get("componentResults") if isinstance(grading, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _assertion_name(part: Mapping[str, Any]) -> str:
    assertion = part.get("assertion")
    if not isinstance(assertion, dict):
        return "assertion"
    return str(assertion.get("metric") or assertion.get("type") or "assertion")


def _case_name(case: Mapping[str, Any], number: int) -> str:
    """The description of a test case; never its prompt."""
    test = case.get("testCase")
    description = test.get("description") if isinstance(test, dict) else None
    return str(description) if description else f"test {number}"
