"""What the work queue holds: ModelDeployments by name, and the canary that shows that work gets done."""

from __future__ import annotations

from typing import Final, NamedTuple


class Key(NamedTuple):
    """One ModelDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl shows it."""
        return f"{self.namespace}/{self.name}"


# No object can have an empty name: the canary never meets a ModelDeployment.
CANARY: Final = Key("", "")
