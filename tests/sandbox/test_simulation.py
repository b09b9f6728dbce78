"""Simulated pods report what the real writer writes."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from plimsoll.reconcile.reports import DownloadReport, Report, TestReport, parse
from plimsoll.sandbox.simulation import BEHAVIOUR, BEHAVIOURS, REPORTS, message_expression, stages

_RAW = re.compile(r"`([^`]*)`")
_REPLACED = re.compile(r'replace "([^"]+)" \(index \$annotations "([^"]+)" \| default "([^"]*)"\)')


def rendered(report: Report, annotations: dict[str, str]) -> str:
    """What kwok's template engine makes of the expression."""
    expression = message_expression(report)
    text = _RAW.search(expression)[1]
    for value, annotation, default in _REPLACED.findall(expression):
        text = text.replace(value, annotations.get(annotation, default))
    return text


ANNOTATIONS = {
    "plimsoll.dev/model-bytes": "14496078512",
    "plimsoll.dev/max-model-len": "32768",
    "plimsoll.dev/revision-commit": "c" * 40,
}


def test_a_download_reports_the_bytes_and_the_commit_of_its_pod() -> None:
    expected = DownloadReport(bytes=14496078512, files=1, commit="c" * 40)

    assert expected == parse(rendered(REPORTS["download"], ANNOTATIONS))


def test_a_test_proves_the_context_of_its_pod() -> None:
    found = parse(rendered(REPORTS["test"], ANNOTATIONS))

    assert isinstance(found, TestReport)
    assert (found.proven_context, found.failed, found.passed) == (32768, 0, 3)


@pytest.mark.parametrize("name", REPORTS, ids=str)
@pytest.mark.parametrize("annotations", [ANNOTATIONS, {}], ids=["annotated", "bare"])
def test_every_message_can_be_read_by_the_operator(name: str, annotations: dict[str, str]) -> None:
    found = parse(rendered(REPORTS[name], annotations))

    assert type(REPORTS[name]) is type(found)
    assert dataclasses.replace(found) == found


def test_stages_are_documents_that_use_every_report_and_every_behaviour() -> None:
    text = stages()

    assert {"Stage"} == {document["kind"] for document in yaml.safe_load_all(text)}
    assert "@report:" not in text
    assert BEHAVIOUR in text
    assert all(behaviour in text for behaviour in BEHAVIOURS)
