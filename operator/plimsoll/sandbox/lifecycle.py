"""What is started and stopped: a context manager over two methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Started(ABC):
    """A part of the sandbox that runs from `start` to `stop`; `stop` is idempotent and follows also a failed start."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            SandboxError: it does not start; nothing of it is left running.
        """

    @abstractmethod
    def stop(self) -> None:
        """End it; does nothing where nothing runs."""

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()
