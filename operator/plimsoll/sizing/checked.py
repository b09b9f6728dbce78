"""Reading numbers, flags and words out of a config that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from plimsoll.sizing.errors import UnsupportedModelError

MAX_LAYERS: Final = 2**12  # the deepest published models have some hundred layers
MAX_HEADS: Final = 2**16
MAX_WIDTH: Final = 2**24  # hidden sizes, vocabularies, window lengths
MAX_TOKENS: Final = 2**32
MAX_EXPERTS: Final = 2**16

_WAY_OUT: Final = "correct config.json in the repository, or name a revision whose config is whole"


@dataclass(frozen=True, slots=True)
class Config:
    """A JSON object with the path that leads to it, read field by field."""

    values: Mapping[str, Any]
    path: str = ""

    def name(self, field: str) -> str:
        """The field as a path from the root of config.json."""
        return f"{self.path}.{field}" if self.path else field

    def refuse(self, field: str, problem: str, way_out: str = _WAY_OUT) -> UnsupportedModelError:
        """The error that names this field and what stands in it."""
        return UnsupportedModelError(self.name(field), self.values.get(field), problem, way_out)

    def integer(self, field: str, *, maximum: int, minimum: int = 1, default: int | None = None) -> int:
        """A whole number in a range; absent or null takes the default, if there is one.

        Raises:
            UnsupportedModelError: no such number stands there.
        """
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(field, f"it must be a whole number from {minimum} to {maximum}")
        if not minimum <= value <= maximum:
            raise self.refuse(field, f"it must be between {minimum} and {maximum}")
        return value

    def optional_integer(self, field: str, *, maximum: int, minimum: int = 1) -> int | None:
        """A whole number in a range, or None where the field is absent or null."""
        if self.values.get(field) is None:
            return None
        return self.integer(field, maximum=maximum, minimum=minimum)

    def flag(self, field: str, *, default: bool) -> bool:
        """A JSON boolean; absent or null takes the default."""
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(field, "it must be true or false")
        return value

    def text(self, field: str, *, default: str | None = None) -> str:
        """A string; absent or null takes the default, if there is one."""
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.refuse(field, "it must be a string")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of strings; absent or null is empty."""
        value = self.values.get(field)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise self.refuse(field, "it must be a list of strings")
        return tuple(cast("Sequence[str]", value))

    def number(self, field: str, *, default: float, minimum: float, maximum: float) -> float:
        """A number that need not be whole, such as a rope factor."""
        value = self.values.get(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refuse(field, "it must be a number")
        if not minimum <= value <= maximum:  # NaN compares false, so it ends here too
            raise self.refuse(field, f"it must be between {minimum} and {maximum}")
        return float(value)

    def section(self, field: str) -> Config | None:
        """A nested object, or None where the field is absent or null."""
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(field, "it must be an object")
        return Config(cast("Mapping[str, Any]", value), self.name(field))
