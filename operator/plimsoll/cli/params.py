"""What stands on a command line, read exactly: sizes, shares of memory, GPUs."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final

import click

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.gpus import UnknownAccelerator, find
from plimsoll.units import QuantityError, parse_bytes

_DECIMAL: Final = re.compile(r"^(\d{1,3}(\.\d{0,12})?|\.\d{1,12})$")
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
KV_CACHE_SIZE: Final = QuantityType(least=1, what="size of a KV cache", example="8Gi")


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


TOKENS: Final = click.IntRange(1, MAX_TOKENS)
