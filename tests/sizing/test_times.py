"""Times at stated rates."""

from __future__ import annotations

import pytest

from plimsoll.sizing.times import Times, expected_times
from plimsoll.units import GB


@pytest.mark.parametrize(
    ("weights_bytes", "download", "load"),
    [
        pytest.param(0, 0, 0, id="nothing"),
        pytest.param(1, 1, 1, id="a byte takes a second that has begun"),
        pytest.param(125_000_000, 1, 1, id="a second of a Gbit/s"),
        pytest.param(14 * GB + 1, 113, 15, id="a 7B"),
    ],
)
def test_bytes_over_the_rate(weights_bytes: int, download: int, load: int) -> None:
    assert expected_times(weights_bytes) == Times(download_seconds=download, load_seconds=load)
