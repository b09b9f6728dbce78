"""Shares, medians and percentiles, rounded for print in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = 5


def rounded(value: float | None) -> float | None:
    """A share with as many digits as its inputs carry."""
    return None if value is None else round(value, _DIGITS)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of the values lies, between neighbours in proportion; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float | None:
    """The middle value."""
    return percentile(values, 0.5)


def share_of(flags: Sequence[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(flags) / len(flags) if flags else None


def mean(values: Sequence[float]) -> float | None:
    """The average; None of nothing."""
    return sum(values) / len(values) if values else None
