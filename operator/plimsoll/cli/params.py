"""What stands on a command line, read exactly: sizes, shares of memory, GPUs."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import click

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.gpus import UnknownAccelerator, find
from plimsoll.sizing.speculation import Speculation, read_speculation
from plimsoll.units import GIB, QuantityError, parse_bytes

_DECIMAL: Final = re.compile(r"^(\d{1,3}(\.\d{0,12})?|\.\d{1,12})$")
_GIB: Final = re.compile(r"^\d{1,5}(\.\d{1,12})?$", re.ASCII)
_ENGINE_INTEGER: Final = re.compile(r"^(\d{1,18}(?:\.\d{1,12})?)([kKmMgGtT]?)$", re.ASCII)
MAX_TOKENS: Final = 2**31 - 1  # the engine holds lengths as 32-bit integers
MAX_PARALLEL: Final = 1024
MAX_NODES: Final = 10_000
# The GPU with the least and the most memory that an estimate makes sense for.
_LEAST_GPU_BYTES: Final = 2**28
_MOST_GPU_BYTES: Final = 2**45


class QuantityType(click.ParamType[int]):
    """A Kubernetes quantity of bytes, such as 80Gi, within bounds."""

    name = "size"

    def __init__(self, *, least: int, what: str, example: str) -> None:
        """Take the smallest value, what it is a size of, and how one is written."""
        self._least = least
        self._what = what
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the quantity, or say what one looks like."""
        if isinstance(value, int):
            return value
        try:
            size = parse_bytes(str(value))
        except QuantityError as error:
            self.fail(str(error), param, ctx)
        if not self._least <= size <= _MOST_GPU_BYTES:
            self.fail(
                f"{value!r} is no {self._what}: write it with its unit, such as {self._example}", param, ctx
            )
        return size


GPU_MEMORY: Final = QuantityType(least=_LEAST_GPU_BYTES, what="memory of one GPU", example="80Gi")


class ShareType(click.ParamType[Fraction]):
    """A share above 0 and at most 1, such as 0.92."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """Read the decimal exactly."""
        if isinstance(value, Fraction):
            return value
        text = str(value).strip()
        if _DECIMAL.fullmatch(text) is None or not 0 < Fraction(text) <= 1:
            self.fail(f"{value!r} is no share above 0 and at most 1, such as 0.92", param, ctx)
        return Fraction(text)


class GpuType(click.ParamType[Accelerator]):
    """A card of the catalogue, by alias or by the value of its node label."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Accelerator:
        """Find the card, or list the names."""
        if isinstance(value, Accelerator):
            return value
        try:
            return find(str(value))
        except UnknownAccelerator as error:
            self.fail(str(error), param, ctx)


class CapabilityType(click.ParamType[tuple[int, int]]):
    """A CUDA compute capability, such as 8.0."""

    name = "x.y"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read major and minor."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,2})\.(\d)", str(value).strip(), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no compute capability: write major.minor, such as 8.0", param, ctx)
        return int(match[1]), int(match[2])


class GibType(click.ParamType[int]):
    """A number of GiB as vLLM takes it (it writes GB), in bytes."""

    name = "gib"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the decimal exactly."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if _GIB.fullmatch(text) is None:
            self.fail(f"{value!r} is no number of GiB, such as 4 or 0.5", param, ctx)
        return int(Fraction(text) * GIB)


class CountType(click.ParamType[int | None]):
    """A whole number of tokens as vLLM reads it: 32768, 32k for 32,000, 32K for 32,768."""

    name = "tokens"

    def __init__(self, *, may_be_open: bool = False) -> None:
        """Take whether vLLM's auto and -1 leave the number open."""
        self._may_be_open = may_be_open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read the number, or say what one looks like."""
        text = str(value).strip()
        if self._may_be_open and text.lower() in ("auto", "-1"):
            return None
        count = engine_integer(text)
        if count is None or not 1 <= count <= MAX_TOKENS:
            ways = ", 32K or auto" if self._may_be_open else " or 32K"
            self.fail(f"{value!r} is no number of tokens, such as 32768{ways}", param, ctx)
        return count


class CacheSizeType(QuantityType):
    """Bytes of a KV cache: a Kubernetes quantity with its i (8Gi), or as vLLM reads its own flag (8G is 8 GiB)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read vLLM's spelling first: its capitals are powers of 1,024."""
        count = engine_integer(str(value).strip())
        return super().convert(value if count is None else str(count), param, ctx)


class SvgPathType(click.ParamType[Path]):
    """A file to be written, whose name ends with .svg; nothing is looked up yet."""

    name = "file.svg"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read the name, or say what one looks like."""
        if isinstance(value, Path):
            return value
        path = Path(str(value))
        if path.suffix.lower() != ".svg" or "\0" in str(value):
            self.fail(f"{value!r} names no SVG file; give a name that ends with .svg", param, ctx)
        return path


def engine_integer(text: str) -> int | None:
    """A whole number as vLLM's flags read it; None for what they do not take.

    Source: vLLM 0.33.0, utils/argparse_utils.py: small letters are powers of 1,000 and may follow a decimal,
    capitals are powers of 1,024 and may not.
    """
    match = _ENGINE_INTEGER.fullmatch(text)
    if match is None:
        return None
    number, letter = match[1], match[2]
    power = 1 + "kmgt".index(letter.lower()) if letter else 0
    if letter.islower():
        return int(Fraction(number) * 1000**power)
    return None if "." in number else int(number) * 1024**power


class SpeculationType(click.ParamType[Speculation]):
    """vLLM's JSON for speculative decoding."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Speculation:
        """Read it, or say which field is wrong."""
        if isinstance(value, Speculation):
            return value
        try:
            return read_speculation(str(value))
        except UnsupportedOptionError as error:
            self.fail(str(error), param, ctx)


GIB_COUNT: Final = GibType()
KV_CACHE_SIZE: Final = CacheSizeType(least=1, what="size of a KV cache", example="8Gi")
MODEL_LENGTH: Final = CountType(may_be_open=True)
TOKENS: Final = CountType()
SPECULATION: Final = SpeculationType()
