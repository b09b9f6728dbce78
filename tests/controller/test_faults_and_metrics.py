"""What a failure means, and what is counted."""

from __future__ import annotations

import pytest

from plimsoll.cluster.apply import ForeignObjectError
from plimsoll.cluster.errors import ApiError, UnreachableError, api_error
from plimsoll.controller.faults import FaultKind, judge
from plimsoll.controller.metrics import Metrics


def answered(status, **more):
    return api_error("do it", status=status, reason="R", message="no", **more)


@pytest.mark.parametrize(
    ("error", "kind", "seconds"),
    [
        (answered(409), FaultKind.STALE, 0),
        (answered(404), FaultKind.STALE, 0),
        (answered(422), FaultKind.REFUSED, 5),
        (answered(400), FaultKind.REFUSED, 5),
        (answered(403), FaultKind.REFUSED, 5),
        (answered(429, retry_after_seconds=30), FaultKind.TRANSIENT, 30),
        (answered(503), FaultKind.TRANSIENT, 0),
        (answered(418), FaultKind.TRANSIENT, 0),
        (UnreachableError("away"), FaultKind.TRANSIENT, 0),
        (TimeoutError(), FaultKind.TRANSIENT, 0),
        (ForeignObjectError("theirs"), FaultKind.REFUSED, 5),
        (KeyError("x"), FaultKind.BUG, 0),
    ],
    ids=str,
)
def test_every_failure_is_sorted(error, kind, seconds):
    fault = judge(error)
    assert (kind, seconds, kind is FaultKind.REFUSED) == (fault.kind, fault.at_least_seconds, fault.tell_user)


def test_an_answer_is_a_sentence_with_what_was_tried():
    error = answered(422)
    assert isinstance(error, ApiError)
    assert str(error) == "cannot do it: no (HTTP 422)"


def test_the_numbers_are_written_as_prometheus_reads_them():
    metrics = Metrics()
    metrics.api_request("apply", "Job", 200, 0.01)
    metrics.api_request("apply", "Job", 201, 0.3)
    metrics.api_request("get", 'we"ird\n', 0, 99)
    metrics.gauge("plimsoll_queue_depth", lambda: 3)
    lines = metrics.exposition().splitlines()
    assert 'plimsoll_api_requests_total{code="ok",kind="Job",verb="apply"} 2' in lines
    assert 'plimsoll_api_requests_total{code="0",kind="we\\"ird\\n",verb="get"} 1' in lines
    assert "plimsoll_queue_depth 3" in lines
    assert 'plimsoll_api_request_seconds_bucket{verb="apply",le="0.02"} 1' in lines
    assert 'plimsoll_api_request_seconds_bucket{verb="apply",le="+Inf"} 2' in lines
    assert 'plimsoll_api_request_seconds_count{verb="apply"} 2' in lines
    assert metrics.value("plimsoll_api_requests_total", verb="apply", kind="Job", code="ok") == 2


def test_buckets_never_shrink_as_their_bound_grows():
    metrics = Metrics()
    for seconds in (0.001, 0.05, 0.05, 3, 100):
        metrics.reconciled("settled", seconds)
    numbers = [
        int(line.rsplit(" ", 1)[1])
        for line in metrics.exposition().splitlines()
        if line.startswith("plimsoll_reconcile_seconds_bucket")
    ]
    assert numbers == [1, 1, 3, 3, 3, 4, 5]
