"""Quantities and rounding: need goes up, supply goes down, nothing is a float."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4Gi", Fraction(4 * 2**30)),
        ("500m", Fraction(1, 2)),
        ("1e3", Fraction(1000)),
        ("1.5G", Fraction(1_500_000_000)),
        (".5", Fraction(1, 2)),
        ("2.", Fraction(2)),
        ("100n", Fraction(1, 10**7)),
        ("12E", Fraction(12 * 10**18)),
        (3, Fraction(3)),
        ("-1", Fraction(-1)),
    ],
    ids=str,
)
def test_a_quantity_is_read_exactly(text: str | int, expected: Fraction) -> None:
    assert expected == units.parse_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "Gi", "4 Gi", "4gi", "0x10", "1e", "1e1Gi", "--1", "NaN", "inf", "1_000", True], ids=repr
)
def test_what_is_no_quantity_is_refused_by_value(text: str | bool) -> None:
    with pytest.raises(units.QuantityError, match="is not a quantity: write a number with a unit"):
        units.parse_quantity(text)


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_millicores])
def test_a_negative_amount_is_refused(parse: object) -> None:
    with pytest.raises(units.QuantityError, match="negative"):
        parse("-1Gi")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("millicores", "text"), [(1000, "1"), (1500, "1500m"), (0, "0"), (12000, "12")], ids=str
)
def test_cores_are_written_whole_where_they_are_whole(millicores: int, text: str) -> None:
    assert text == units.millicores_quantity(millicores)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1, "1Mi"), (units.GIB, "1Gi"), (units.GIB + 1, "1025Mi"), (12 * units.GIB, "12Gi")],
    ids=str,
)
def test_a_need_of_bytes_is_written_rounded_up(size: int, text: str) -> None:
    assert text == units.bytes_quantity(size)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_written_need_is_never_below_the_need_and_within_a_mebibyte(size: int) -> None:
    written = units.parse_bytes(units.bytes_quantity(size))

    assert 0 <= written - size < units.MIB


@given(st.integers(min_value=0, max_value=10**9))
def test_written_cores_read_back(millicores: int) -> None:
    assert millicores == units.parse_millicores(units.millicores_quantity(millicores))


@given(st.integers(min_value=-(10**12), max_value=10**12), st.integers(min_value=1, max_value=10**6))
def test_rounding_up_reaches_the_next_multiple(value: int, multiple: int) -> None:
    rounded = units.round_up(value, multiple)

    assert rounded % multiple == 0
    assert 0 <= rounded - value < multiple


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1536, "1.50 KiB"), (3 * units.GIB, "3.00 GiB"), (2**40, "1.00 TiB")],
    ids=str,
)
def test_a_size_is_printed_in_the_unit_a_reader_expects(size: int, text: str) -> None:
    assert text == units.format_size(size)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (7205, "2 h 5 s"),
    ],
)
def test_a_duration_is_told_in_two_units(seconds: int, text: str) -> None:
    assert text == units.format_duration(seconds)
