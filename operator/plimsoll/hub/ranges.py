"""Which bytes of a file are still to come, and the journal in which a killed download left what it has.

Offsets count from zero; a span holds its start and not its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINE: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """The bytes from `start` up to and without `end`."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self.end - self.start


def gaps(size_bytes: int, done: Iterable[Span]) -> tuple[Span, ...]:
    """What is missing of a file, in order and without overlap; spans that were done twice count once."""
    missing: list[Span] = []
    reached = 0
    for span in sorted(done):
        if span.start > reached:
            missing.append(Span(start=reached, end=min(span.start, size_bytes)))
        reached = max(reached, span.end)
        if reached >= size_bytes:
            break
    if reached < size_bytes:
        missing.append(Span(start=reached, end=size_bytes))
    return tuple(missing)


def split(spans: Iterable[Span], range_bytes: int) -> tuple[Span, ...]:
    """The same bytes in pieces of at most `range_bytes`."""
    return tuple(
        Span(start=start, end=min(start + range_bytes, span.end))
        for span in spans
        for start in range(span.start, span.end, range_bytes)
    )


def write_line(span: Span) -> str:
    """The line that the journal gets when a span is on the disk."""
    return f"{span.start}-{span.end}\n"


def read_journal(text: str, size_bytes: int) -> tuple[Span, ...]:
    """The spans that a journal tells are on the disk.

    A line that a kill cut short, or that fits no file of this size, tells nothing: those bytes come again.
    """
    whole_lines = text.split("\n")[:-1]  # what follows the last line break was cut short
    found = (_LINE.fullmatch(line) for line in whole_lines)
    spans = (Span(start=int(match[1]), end=int(match[2])) for match in found if match is not None)
    return tuple(span for span in spans if span.start < span.end <= size_bytes)
