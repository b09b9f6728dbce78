from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plimsoll.hub.meter import Meter
from plimsoll.reconcile.reports import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_half_minute_and_counts_only_what_came() -> None:
    clock = Clock()
    meter = Meter(total=10_000, clock=clock)
    meter.have(4_000)
    meter.begin("a")
    assert meter.progress() == Progress(bytes=4_000, total=10_000, rate=None, eta=None, file="a")
    meter.add(1_000)
    clock.now += 10
    assert meter.progress() == Progress(bytes=5_000, total=10_000, rate=100, eta=50, file="a")
    clock.now += 40
    meter.progress()
    clock.now += 10
    meter.add(2_000)
    assert meter.progress() == Progress(bytes=7_000, total=10_000, rate=200, eta=15, file="a")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(-1000, 1000), st.floats(0, 60)), max_size=30))
def test_no_rate_and_no_time_is_ever_negative(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    meter = Meter(total=10**6, clock=clock)
    for number, seconds in steps:
        meter.add(number)
        clock.now += seconds
        told = meter.progress()
        assert (told.rate or 0, told.eta or 0) >= (0, 0)
        assert told.eta is None or told.eta >= 0
