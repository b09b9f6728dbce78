"""What the download and the test leave behind: termination messages and the progress line, written and read.

A termination message is JSON of less than 4,096 bytes (the kubelet keeps no more). It never holds a prompt,
an answer of the model, or a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

FORMAT_VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 4095
MAX_FAILURES: Final = 20
MAX_NAME_CHARACTERS: Final = 160
MAX_ERROR_CHARACTERS: Final = 900
# A byte count or a token count beyond it is no count; it keeps a forged message from filling the status.
_MAX_COUNT: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadReport:
    """How a download ended.

    Attributes:
        bytes: on the volume, of this commit.
        error: one sentence with the next step; None: it is complete.
    """

    bytes: int
    files: int
    commit: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAssertion:
    """One assertion that did not hold: its kind ("not-empty") and the name of its test case."""

    assertion: str
    test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """How a test ended.

    Attributes:
        failures: the first ones; `omitted` more were left out.
        proven_context: length in tokens of the longest request that was served; None: not tried.
        report: path of the full report on the volume.
        error: what kept the test from ending, one sentence with the next step.
    """

    __test__ = False  # not a pytest class

    passed: int
    failed: int
    errors: int
    total: int
    failures: tuple[FailedAssertion, ...] = ()
    omitted: int = 0
    proven_context: int | None = None
    report: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a download is; rate in bytes per second, eta in seconds."""

    bytes: int
    total: int
    rate: int | None = None
    eta: int | None = None
    file: str | None = None


Report = DownloadReport | TestReport


def write(report: Report) -> str:
    """The termination message: JSON under 4,096 bytes, long texts and long lists cut at a boundary."""
    if isinstance(report, DownloadReport):
        return _dump(_download_json(report))
    cut = report
    if len(cut.failures) > MAX_FAILURES:
        cut = _with_failures(cut, MAX_FAILURES)
    text = _dump(_test_json(cut))
    while len(text) > MAX_MESSAGE_BYTES:
        # The other texts are short enough to fit by themselves, so there is a failure to drop.
        cut = _with_failures(cut, len(cut.failures) - 1)
        text = _dump(_test_json(cut))
    return text


def parse(text: str | None) -> Report | None:
    """Read a termination message; None where it is not one of ours (a crash's last words, another version)."""
    data = _object(text)
    if data is None or data.get("version") != FORMAT_VERSION or isinstance(data.get("version"), bool):
        return None
    try:
        if data.get("kind") == "download":
            return _download(data)
        if data.get("kind") == "test":
            return _test(data)
    except (KeyError, ValueError):
        return None
    return None


def write_progress(progress: Progress) -> str:
    """One line of the download's log."""
    return _dump(
        {
            "kind": "progress",
            "bytes": progress.bytes,
            "total": progress.total,
            "rate": progress.rate,
            "eta": progress.eta,
            "file": _clip(progress.file, MAX_NAME_CHARACTERS),
        }
    )


def parse_progress(log: str | None) -> Progress | None:
    """The last progress line in the end of a download's log; None where there is none."""
    for line in reversed((log or "").splitlines()):
        data = _object(line)
        if data is None or data.get("kind") != "progress":
            continue
        try:
            return Progress(
                bytes=_count(data, "bytes"),
                total=_count(data, "total"),
                rate=_whole(data, "rate"),
                eta=_whole(data, "eta"),
                file=_optional_text(data, "file", MAX_NAME_CHARACTERS),
            )
        except (KeyError, ValueError):
            continue
    return None


def _dump(data: dict[str, Any]) -> str:
    # ASCII only: a cut can then never fall inside a character, and characters are bytes.
    kept = {key: value for key, value in data.items() if value is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=True)


def _clip(text: str | None, characters: int) -> str | None:
    """Cut so that the JSON form, escapes included, stays near `characters`."""
    if text is None:
        return None
    kept: list[str] = []
    room = characters
    for character in text:
        room -= len(json.dumps(character)) - 2
        if room < 0:
            return "".join(kept) + "..."
        kept.append(character)
    return text


def _download_json(report: DownloadReport) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "kind": "download",
        "bytes": report.bytes,
        "files": report.files,
        "commit": _clip(report.commit, MAX_NAME_CHARACTERS),
        "error": _clip(report.error, MAX_ERROR_CHARACTERS),
    }


def _test_json(report: TestReport) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "kind": "test",
        "passed": report.passed,
        "failed": report.failed,
        "errors": report.errors,
        "total": report.total,
        "failures": [
            {
                "assertion": _clip(failure.assertion, MAX_NAME_CHARACTERS),
                "test": _clip(failure.test, MAX_NAME_CHARACTERS),
            }
            for failure in report.failures
        ],
        "omitted": report.omitted or None,
        "provenContext": report.proven_context,
        "report": _clip(report.report, MAX_NAME_CHARACTERS),
        "error": _clip(report.error, MAX_ERROR_CHARACTERS),
    }


def _with_failures(report: TestReport, number: int) -> TestReport:
    dropped = len(report.failures) - number
    return replace(report, failures=report.failures[:number], omitted=report.omitted + dropped)


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        data = json.loads((text or "").strip())
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _count(data: dict[str, Any], key: str) -> int:
    value = data[key]
    # json reads 1e3 as a float and true as a bool: neither is a count.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(key)
    return value


def _optional_count(data: dict[str, Any], key: str) -> int | None:
    return None if data.get(key) is None else _count(data, key)


def _whole(data: dict[str, Any], key: str) -> int | None:
    """A rate or a time, which may be written with a fraction."""
    value = data.get(key)
    if isinstance(value, float) and 0 <= value <= _MAX_COUNT:
        return int(value)
    return _optional_count(data, key)


def _text(data: dict[str, Any], key: str, characters: int) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise ValueError(key)  # noqa: TRY004 - one exception stands for "not a report"
    # JSON may smuggle lone surrogates in, which no API server would take.
    clean = value.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= characters else clean[:characters] + "..."


def _optional_text(data: dict[str, Any], key: str, characters: int) -> str | None:
    return None if data.get(key) is None else _text(data, key, characters)


def _download(data: dict[str, Any]) -> DownloadReport:
    return DownloadReport(
        bytes=_count(data, "bytes"),
        files=_count(data, "files"),
        commit=_text(data, "commit", MAX_NAME_CHARACTERS + 3),
        error=_optional_text(data, "error", MAX_ERROR_CHARACTERS + 3),
    )


def _failure(item: object) -> FailedAssertion:
    if not isinstance(item, dict):
        raise ValueError("failures")  # noqa: TRY004
    limit = MAX_NAME_CHARACTERS + 3
    return FailedAssertion(assertion=_text(item, "assertion", limit), test=_text(item, "test", limit))


def _test(data: dict[str, Any]) -> TestReport:
    failures: Any = data.get("failures", [])
    if not isinstance(failures, list):
        raise ValueError("failures")  # noqa: TRY004
    return TestReport(
        passed=_count(data, "passed"),
        failed=_count(data, "failed"),
        errors=_count(data, "errors"),
        total=_count(data, "total"),
        failures=tuple(_failure(item) for item in failures[:MAX_FAILURES]),
        omitted=_optional_count(data, "omitted") or 0,
        proven_context=_optional_count(data, "provenContext"),
        report=_optional_text(data, "report", MAX_NAME_CHARACTERS + 3),
        error=_optional_text(data, "error", MAX_ERROR_CHARACTERS + 3),
    )
