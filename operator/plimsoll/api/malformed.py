"""What the types refuse, in sentences that name the field; admission and the command line say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plimsoll.api import KIND

if TYPE_CHECKING:
    from pydantic import ValidationError


def malformed_fields(error: ValidationError) -> tuple[str, ...]:
    """Every problem by its field's path, without echoing what may be a secret or a megabyte."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(_sentence(problem["loc"], problem["type"], problem["msg"]) for problem in found)


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    steps = location[1:] if location[:1] == ("spec",) else location
    path = "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    if kind == "extra_forbidden":
        return f"{path} is no field of a {KIND}"
    if kind == "missing":
        return f"{path} is required"
    return f"{path}: {message[:1].lower()}{message[1:]}"
