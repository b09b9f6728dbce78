from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plimsoll.hub.ranges import Span, gaps, read_journal, split, write_line

# A machine at work on other things is slow: that is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

sizes = st.integers(min_value=0, max_value=500)


@st.composite
def files_and_spans(draw: st.DrawFn) -> tuple[int, list[Span]]:
    size = draw(st.integers(min_value=1, max_value=500))
    starts = st.integers(min_value=0, max_value=size - 1)
    spans = [
        Span(start=start, end=draw(st.integers(min_value=start + 1, max_value=size)))
        for start in draw(st.lists(starts, max_size=8))
    ]
    return size, spans


def bytes_of(spans: tuple[Span, ...] | list[Span]) -> list[int]:
    return [offset for span in spans for offset in range(span.start, span.end)]


@unhurried
@given(files_and_spans())
def test_the_gaps_are_every_byte_that_is_not_done_once_and_in_order(drawn: tuple[int, list[Span]]) -> None:
    size, done = drawn
    assert bytes_of(gaps(size, done)) == sorted(set(range(size)) - set(bytes_of(done)))


@unhurried
@given(sizes, st.integers(min_value=1, max_value=200))
def test_a_file_is_covered_exactly_by_ranges_of_bounded_size(size: int, range_bytes: int) -> None:
    plan = split(gaps(size, ()), range_bytes)
    assert bytes_of(plan) == list(range(size))
    assert all(0 < span.size_bytes <= range_bytes for span in plan)


@unhurried
@given(files_and_spans(), st.integers(min_value=1, max_value=200), st.data())
def test_a_resumed_plan_and_what_was_done_before_are_the_file(
    drawn: tuple[int, list[Span]], range_bytes: int, data: st.DataObject
) -> None:
    size, done = drawn
    plan = split(gaps(size, done), range_bytes)
    chosen = data.draw(st.integers(min_value=0, max_value=2 ** len(plan) - 1))
    finished = [span for number, span in enumerate(plan) if chosen >> number & 1]
    rest = split(gaps(size, [*done, *finished]), range_bytes)
    assert not set(bytes_of(rest)) & set(bytes_of([*done, *finished]))
    assert set(bytes_of([*done, *finished, *rest])) == set(range(size))


@unhurried
@given(files_and_spans(), st.data())
def test_a_journal_cut_anywhere_tells_only_what_was_written_whole(
    drawn: tuple[int, list[Span]], data: st.DataObject
) -> None:
    size, done = drawn
    text = "".join(write_line(span) for span in done)
    cut = text[: data.draw(st.integers(min_value=0, max_value=len(text)))]
    assert list(read_journal(cut, size)) == done[: cut.count("\n")]
    # The next run begins on a line of its own.
    assert list(read_journal(f"{cut}\n{text}", size))[-len(done) :] == done[-len(done) :]


@unhurried
@given(st.text(), sizes)
def test_a_journal_that_anybody_wrote_names_no_byte_outside_the_file(text: str, size: int) -> None:
    assert all(0 <= span.start < span.end <= size for span in read_journal(text, size))


@pytest.mark.parametrize(
    "line", ["5-3\n", "3-3\n", "0-11\n", "-1-3\n", "a-b\n", "1-2-3\n", "0-3", "٣-٤\n", " 0-3\n"]
)
def test_a_line_that_fits_no_range_of_the_file_tells_nothing(line: str) -> None:
    assert read_journal(line, 10) == ()
