"""Bytes, cores and Kubernetes quantities as exact integers; GiB exists only in text.

Rounding has one rule: what is needed is rounded up, what is supplied is rounded down. Nothing here uses
a float before the moment of printing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
GB: Final = 10**9

_SUFFIXES: Final[dict[str, Fraction]] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
# The grammar of apimachinery's resource.Quantity: a decimal with either a suffix or an exponent.
_QUANTITY: Final = re.compile(
    r"^(?P<number>[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40}))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?\d{1,3}))?$"
)


class QuantityError(ValueError):
    """A text that is no Kubernetes quantity, or one that is out of range."""


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide integers and round up."""
    return -(-numerator // denominator)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return ceil_div(value, multiple) * multiple


def ceil_fraction(value: Fraction | int) -> int:
    """Round a need up to a whole unit."""
    return -((-Fraction(value)) // 1)


def parse_quantity(text: str | int) -> Fraction:
    """Read a Kubernetes quantity ("4Gi", "500m", "1e3", 2) exactly.

    Raises:
        QuantityError: the text is not a quantity.
    """
    if isinstance(text, bool):
        raise QuantityError(f"{text!r} is not a quantity: write a number with a unit, such as 4Gi or 500m")
    if isinstance(text, int):
        return Fraction(text)
    match = _QUANTITY.match(text.strip())
    if match is None:
        raise QuantityError(f"{text!r} is not a quantity: write a number with a unit, such as 4Gi or 500m")
    number = Fraction(match["number"])
    if match["exponent"] is not None:
        return number * Fraction(10) ** int(match["exponent"])
    return number * _SUFFIXES[match["suffix"] or ""]


def parse_bytes(text: str | int) -> int:
    """Read a quantity of bytes, a fraction of a byte rounded up.

    Raises:
        QuantityError: the text is not a quantity, or it is negative.
    """
    value = parse_quantity(text)
    if value < 0:
        raise QuantityError(f"{text!r} is negative: a size must be zero or more bytes")
    return ceil_fraction(value)


def parse_millicores(text: str | int) -> int:
    """Read a quantity of CPU as thousandths of a core, rounded up.

    Raises:
        QuantityError: the text is not a quantity, or it is negative.
    """
    value = parse_quantity(text) * 1000
    if value < 0:
        raise QuantityError(f"{text!r} is negative: CPU must be zero or more cores")
    return ceil_fraction(value)


def bytes_quantity(need_bytes: int) -> str:
    """Write a need of bytes as the shortest binary quantity that is not below it, to whole Mi at the finest."""
    if need_bytes == 0:
        return "0"
    mebibytes = ceil_div(need_bytes, MIB)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def millicores_quantity(millicores: int) -> str:
    """Write CPU as whole cores where it is whole, else as millicores."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_gib(size_bytes: int) -> str:
    """Bytes as text in GiB with two decimals, as vLLM prints them ("14.96 GiB")."""
    return f"{size_bytes / GIB:.2f} GiB"


def format_size(size_bytes: int) -> str:
    """Bytes as text in the unit a reader expects, from B to TiB."""
    for unit, size in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size_bytes) >= size:
            return f"{size_bytes / size:.2f} {unit}"
    return f"{size_bytes} B"


def format_count(number: int) -> str:
    """A whole number with thousands separated by commas."""
    return f"{number:,}"


def format_duration(seconds: int) -> str:
    """Seconds as text in the two largest units that there are ("12 s", "2 min 5 s", "1 h 30 min")."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    parts = [f"{amount} {unit}" for amount, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if amount]
    return " ".join(parts[:2]) or "0 s"
