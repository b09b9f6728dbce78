from __future__ import annotations

import pytest

from plimsoll.hub.retries import Retries
from plimsoll.reconcile.sources import HubFailure, HubFailureKind


@pytest.mark.parametrize(
    ("kind", "asked", "waits"),
    [
        pytest.param(HubFailureKind.UNREACHABLE, None, [1, 2, 4, 5, None], id="doubles-to-a-bound"),
        pytest.param(HubFailureKind.RATE_LIMITED, 17, [17, 17, 17, 17, None], id="as-the-hub-asks"),
        pytest.param(HubFailureKind.UNREACHABLE, 0, [0, 0, 0, 0, None], id="at-once-where-it-says-so"),
        pytest.param(HubFailureKind.RATE_LIMITED, 301, [None], id="longer-than-a-run-waits"),
        pytest.param(HubFailureKind.GATED, None, [None], id="what-no-wait-mends"),
        pytest.param(HubFailureKind.TOKEN_REFUSED, 3, [None], id="a-refused-token"),
    ],
)
def test_the_waits_before_each_further_try(
    kind: HubFailureKind, asked: float | None, waits: list[float | None]
) -> None:
    retries = Retries(tries=5, base_seconds=1, longest_seconds=5, longest_asked_seconds=300)
    failure = HubFailure(kind=kind, message="m", retry_after_seconds=asked)
    assert [retries.wait_seconds(number, failure) for number in range(1, len(waits) + 1)] == waits
