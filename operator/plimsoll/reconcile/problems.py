"""What is wrong with a field: where, what stands there, and the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Hugging Face's tokens; what looks like one is never repeated in a message.
TOKEN: Final = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{10,}")
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """One problem of a spec.

    Attributes:
        path: "spec.engine.vllm.extraArgs[0]".
        value: what stands there, shortened, without secrets.
        message: a sentence that names the value and ends with the way out.
    """

    path: str
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def problem(path: str, value: object, says: str) -> FieldProblem:
    """A problem whose message is "VALUE: SAYS."."""
    shown = shown_value(value)
    return FieldProblem(path=path, value=shown, message=f"{shown}: {says}.")


def shown_value(value: object) -> str:
    """A value as it may stand in a message."""
    text = TOKEN.sub("hf_***", str(value))
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN else f"{quoted[: _SHOWN - 3]}..."
