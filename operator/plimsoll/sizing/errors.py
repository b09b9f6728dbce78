"""What sizing raises: a fact that it does not know how to read, by field and value."""

from __future__ import annotations


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
        shown = repr(value)
        if len(shown) > 120:  # noqa: PLR2004 - a config may hold a megabyte in one field
            shown = shown[:117] + "..."
        super().__init__(f"config.json: {field} is {shown}: {problem}; {way_out}.")
