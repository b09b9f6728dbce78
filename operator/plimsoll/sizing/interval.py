"""Bytes that are only known within two ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A need of memory: at the least, most likely, and at the safe end."""

    low: int
    expected: int
    high: int

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        """What is left: the safe end of what is taken leaves the least."""
        return Interval(self.low - other.high, self.expected - other.expected, self.high - other.low)

    def at_least(self, other: Interval) -> Interval:
        """The higher of two peaks that do not stand at the same time."""
        return Interval(
            max(self.low, other.low), max(self.expected, other.expected), max(self.high, other.high)
        )


NOTHING = Interval(0, 0, 0)


def exactly(size_bytes: int) -> Interval:
    """Bytes that are known."""
    return Interval(size_bytes, size_bytes, size_bytes)
