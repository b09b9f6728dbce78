"""Reads each revision's engine once, beside the reconciles: what it reports is there for the next pass."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.cluster.engine import EngineSilentError, read_engine
from plimsoll.reconcile.measured import ReportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plimsoll.controller.keys import Key
    from plimsoll.reconcile.measured import Engine, EngineReport

_logger = logging.getLogger(__name__)

# An engine that does not answer is asked again when its ModelDeployment is looked at, but not before.
_FIRST_WAIT_SECONDS: Final = 15.0
_LONGEST_WAIT_SECONDS: Final = 960.0


@dataclass(slots=True)
class _Attempts:
    """How often an engine was asked in vain.

    Attributes:
        not_before: the clock at which it may be asked again.
    """

    engine: Engine
    failures: int = 0
    not_before: float = 0.0


class Measuring:
    """Asks engines that are up what they measured; never two questions about one ModelDeployment at a time."""

    def __init__(
        self,
        *,
        read: Callable[[Engine], Awaitable[EngineReport]] = read_engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read before `look` is called."""
        self._read = read
        self._clock = clock
        self._wake: Callable[[Key], None] | None = None
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._attempts: dict[Key, _Attempts] = {}
        self._reports: dict[Key, EngineReport] = {}

    def wake_with(self, wake: Callable[[Key], None]) -> None:
        """Say what is to be called when a report has come."""
        self._wake = wake

    def report(self, key: Key) -> EngineReport | None:
        """What the engine said, if it was read."""
        return self._reports.get(key)

    def forget(self, key: Key) -> None:
        """Drop what is known: it stands in the status, or its ModelDeployment is gone."""
        self._reports.pop(key, None)
        self._attempts.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def look(self, key: Key, engine: Engine | None) -> None:
        """Begin to read the engine, unless that is under way, or it did not answer a moment ago."""
        if engine is None:
            return
        attempts = self._attempts.get(key)
        if attempts is None or attempts.engine != engine:
            self.forget(key)  # what is under way asks an engine that is gone
            attempts = self._attempts[key] = _Attempts(engine)
        if key not in self._tasks and self._clock() >= attempts.not_before:
            self._tasks[key] = asyncio.create_task(
                self._ask(key, attempts), name=f"reading the engine of {key}"
            )

    async def _ask(self, key: Key, attempts: _Attempts) -> None:
        try:
            self._reports[key] = await self._read(attempts.engine)
        except (EngineSilentError, ReportError) as error:
            wait = min(_FIRST_WAIT_SECONDS * 2**attempts.failures, _LONGEST_WAIT_SECONDS)
            attempts.failures += 1
            attempts.not_before = self._clock() + wait
            level = logging.WARNING if isinstance(error, ReportError) else logging.DEBUG
            _logger.log(level, "the engine was not measured: %s", error, extra={"key": str(key)})
        else:
            if self._wake is not None:
                self._wake(key)
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]
