"""Termination messages and progress lines: written within the kubelet's limit, read without trust."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.reconcile.reports import (
    MAX_FAILURES,
    MAX_NAME_CHARACTERS,
    DownloadReport,
    FailedAssertion,
    Progress,
    Report,
    TestReport,
    parse,
    parse_progress,
    write,
    write_progress,
)

COUNTS = st.integers(min_value=0, max_value=2**62)
# Within the limits, so that nothing is cut.
SHORT = st.text(
    st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters='"\\'), max_size=100
)
ANY_TEXT = st.text(max_size=6000)


def test_reports(texts: st.SearchStrategy[str]) -> st.SearchStrategy[TestReport]:
    return st.builds(
        TestReport,
        passed=COUNTS,
        failed=COUNTS,
        errors=COUNTS,
        total=COUNTS,
        failures=st.lists(
            st.builds(FailedAssertion, assertion=texts, test=texts), max_size=2 * MAX_FAILURES
        ).map(tuple),
        proven_context=st.none() | COUNTS,
        report=st.none() | texts,
        error=st.none() | texts,
    )


test_reports.__test__ = False


def download_reports(texts: st.SearchStrategy[str]) -> st.SearchStrategy[DownloadReport]:
    return st.builds(DownloadReport, bytes=COUNTS, files=COUNTS, commit=texts, error=st.none() | texts)


@given(report=test_reports(ANY_TEXT) | download_reports(ANY_TEXT))
def test_a_message_always_fits_and_is_always_read_back(report: Report) -> None:
    message = write(report)

    assert len(message.encode()) < 4096
    assert type(parse(message)) is type(report)


@given(report=download_reports(SHORT))
def test_a_download_report_survives(report: DownloadReport) -> None:
    assert report == parse(write(report))


@given(report=test_reports(ANY_TEXT))
def test_cutting_loses_no_count(report: TestReport) -> None:
    read = parse(write(report))

    assert isinstance(read, TestReport)
    assert (report.passed, report.failed, report.errors, report.total, report.proven_context) == (
        read.passed,
        read.failed,
        read.errors,
        read.total,
        read.proven_context,
    )
    assert len(report.failures) == len(read.failures) + read.omitted


def test_a_test_report_survives() -> None:
    report = TestReport(
        passed=3,
        failed=1,
        errors=0,
        total=4,
        failures=(FailedAssertion(assertion="not-empty", test="Größe"),),
        proven_context=4096,
        report="reports/1.json",
    )

    assert report == parse(write(report))


def test_the_sandbox_contract_is_read() -> None:
    message = '{"version":1,"kind":"test","passed":3,"failed":0,"errors":0,"total":3,"failures":[],"provenContext":4096}'

    assert TestReport(passed=3, failed=0, errors=0, total=3, proven_context=4096) == parse(message)


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "Killed",
        "[]",
        "{}",
        '{"version":2,"kind":"test","passed":1,"failed":0,"errors":0,"total":1}',
        '{"version":true,"kind":"download","bytes":1,"files":1,"commit":"c"}',
        '{"version":1,"kind":"other"}',
        '{"version":1,"kind":"test","passed":1}',
        '{"version":1,"kind":"test","passed":-1,"failed":0,"errors":0,"total":1}',
        '{"version":1,"kind":"test","passed":true,"failed":0,"errors":0,"total":1}',
        '{"version":1,"kind":"test","passed":1.0,"failed":0,"errors":0,"total":1}',
        '{"version":1,"kind":"test","passed":1,"failed":0,"errors":0,"total":1,"failures":["x"]}',
        '{"version":1,"kind":"test","passed":1,"failed":0,"errors":0,"total":1,"failures":{}}',
        '{"version":1,"kind":"download","bytes":99999999999999999999999,"files":1,"commit":"c"}',
        '{"version":1,"kind":"download","bytes":1,"files":1,"commit":7}',
        "[" * 100_000,
    ],
    ids=lambda message: (message or "nothing")[:60],
)
def test_what_is_no_report_is_not_read(message: str | None) -> None:
    assert parse(message) is None


def test_a_forged_message_cannot_fill_the_status() -> None:
    message = json.dumps(
        {"version": 1, "kind": "download", "bytes": 1, "files": 1, "commit": "c", "error": "x" * 100_000}
    )

    report = parse(message)

    assert isinstance(report, DownloadReport)
    assert len(report.error or "") < 1024


def test_lone_surrogates_do_not_reach_the_status() -> None:
    report = parse('{"version":1,"kind":"download","bytes":1,"files":1,"commit":"c","error":"\\ud800"}')

    assert isinstance(report, DownloadReport)
    assert report.error == "?"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(None, None, id="no log"),
        pytest.param("starting\n", None, id="no progress yet"),
        pytest.param(
            '{"kind":"progress","bytes":1,"total":9}\n{"kind":"progress","bytes":5,"total":9,"rate":2.5,"eta":2}\n',
            Progress(bytes=5, total=9, rate=2, eta=2),
            id="the last one counts",
        ),
        pytest.param(
            '{"kind":"progress","bytes":1,"total":9}\n{"kind":"progress","bytes":5,"tot',
            Progress(bytes=1, total=9),
            id="a line cut in the middle is passed over",
        ),
        pytest.param(
            '{"kind":"progress","bytes":1,"total":9}\n{"kind":"progress","bytes":NaN,"total":9}',
            Progress(bytes=1, total=9),
            id="a number that is none is passed over",
        ),
        pytest.param(
            '{"kind":"progress","bytes":1,"total":9,"rate":Infinity}', None, id="an infinite rate is none"
        ),
    ],
)
def test_progress_is_read_from_the_end_of_a_log(log: str | None, expected: Progress | None) -> None:
    assert expected == parse_progress(log)


def test_progress_survives() -> None:
    progress = Progress(bytes=1, total=2, rate=3, eta=4, file="model-00001-of-00002.safetensors")

    assert progress == parse_progress(write_progress(progress))


def test_a_long_file_name_is_cut_in_the_progress_line() -> None:
    line = write_progress(Progress(bytes=1, total=2, file="f" * 5000))

    assert len(line) < MAX_NAME_CHARACTERS + 100
