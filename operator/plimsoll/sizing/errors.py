"""What sizing raises: a fact that it does not know how to read, by field and value."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 120


class UnsupportedModelError(ValueError):
    """A model that cannot be sized, because one field holds what nobody taught this version to count.

    Attributes:
        field: where it stands, as a path in config.json ("quantization_config.quant_method").
        value: what was found there.
        way_out: the next step, a clause for the user.
    """

    def __init__(self, field: str, value: object, problem: str, way_out: str) -> None:
        """Build the sentence "config.json: FIELD is VALUE: PROBLEM; WAY OUT."."""
        self.field = field
        self.value = value
        self.way_out = way_out
        super().__init__(f"config.json: {field} is {_shown(value)}: {problem}; {way_out}.")


def _shown(value: object) -> str:
    """The value in at most `_SHOWN` characters: a config may hold a megabyte in one field, or be nested without end."""
    try:
        shown = repr(value[:_SHOWN]) if isinstance(value, (list, tuple)) else repr(value)
    except RecursionError:
        return "nested too deeply"
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
