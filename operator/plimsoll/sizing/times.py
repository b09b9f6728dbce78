"""How long a model takes to be fetched and to be loaded, at rates that are stated and not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll.units import ceil_div

# Assumptions, so that a reader can scale them to his own: a line of 1 Gbit/s, a volume that is read with 1 GB/s.
DOWNLOAD_BYTES_PER_SECOND: Final = 125 * 10**6
LOAD_BYTES_PER_SECOND: Final = 10**9
DOWNLOAD_RATE: Final = "1 Gbit/s"
LOAD_RATE: Final = "1 GB/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Whole seconds, rounded up."""

    download_seconds: int
    load_seconds: int


def expected_times(weights_bytes: int) -> Times:
    """What the weights take on their way; the ranks of a node read each file from the volume once."""
    return Times(
        download_seconds=ceil_div(weights_bytes, DOWNLOAD_BYTES_PER_SECOND),
        load_seconds=ceil_div(weights_bytes, LOAD_BYTES_PER_SECOND),
    )
