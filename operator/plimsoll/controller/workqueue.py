"""A work queue with client-go's semantics: a key waits once, never runs twice at a time, backs off for itself.

What a worker has to do: `key = await queue.get()`, the work, then `queue.done(key)` whatever happened. A key
that is added while it runs is run once more afterwards, so the last change is always seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Timer(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None:
        """Forget the call."""


class Clock(Protocol):
    """The part of an event loop that the queue needs; a test brings its own."""

    def time(self) -> float:
        """Seconds since any point."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call back after so many seconds."""


class QueueClosedError(Exception):
    """The queue was shut down and is drained: the worker ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failing key waits: `first_seconds` doubled with each failure in a row, up to `most_seconds`."""

    first_seconds: float = 0.5
    most_seconds: float = 300.0

    def delay_seconds(self, failures: int) -> float:
        """The wait after so many failures in a row (at least one)."""
        # 2**64 times anything is past every limit: the exponent is bounded so that no float overflows.
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(failures - 1, 64))


class WorkQueue(Generic[KeyT]):
    """Keys to be worked on, in the order in which they came."""

    def __init__(self, *, backoff: Backoff | None = None, clock: Clock | None = None) -> None:
        """Make an empty queue; the clock is the running loop's unless another is given."""
        self._backoff = backoff or Backoff()
        self._own_clock = clock
        self._waiting: deque[KeyT] = deque()
        self._dirty: set[KeyT] = set()  # to be run: queued, or again after the present run
        self._running: set[KeyT] = set()
        self._failures: dict[KeyT, int] = {}
        self._timers: dict[KeyT, tuple[float, Timer]] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._drained = asyncio.Event()
        self._drained.set()

    def __len__(self) -> int:
        """How many keys wait to be run now."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """How many keys are being worked on."""
        return len(self._running)

    @property
    def num_delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._timers)

    def add(self, key: KeyT) -> None:
        """Queue a key, at once: nothing happens if it waits already; a running one runs again after."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._running:
            self._enqueue(key)

    def add_after(self, key: KeyT, delay_seconds: float) -> None:
        """Queue a key after a delay; of several delays the earliest counts."""
        if self._closed:
            return
        if delay_seconds <= 0:
            self.add(key)
            return
        due = self._clock.time() + delay_seconds
        held = self._timers.get(key)
        if held is not None:
            if held[0] <= due:
                return
            held[1].cancel()
        self._timers[key] = (due, self._clock.call_later(delay_seconds, lambda: self._fire(key)))

    def add_failed(self, key: KeyT, *, at_least_seconds: float = 0.0) -> float:
        """Queue a key that failed after its own backoff, or later if it has to; gives the delay in seconds."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = max(self._backoff.delay_seconds(failures), at_least_seconds)
        self.add_after(key, delay)
        return delay

    def failures(self, key: KeyT) -> int:
        """How often a key failed in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: KeyT) -> None:
        """Start the backoff of a key afresh: it succeeded, or it is gone."""
        self._failures.pop(key, None)

    async def get(self) -> KeyT:
        """Wait for the next key and mark it as running.

        Raises:
            QueueClosedError: the queue was shut down and nothing waits.
        """
        while not self._waiting:
            if self._closed:
                raise QueueClosedError
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # A wake-up that this cancelled worker had already got belongs to another.
                if getter.done() and not getter.cancelled():
                    self._wake_one()
                raise
            finally:
                if getter in self._getters:
                    self._getters.remove(getter)
        key = self._waiting.popleft()
        self._dirty.discard(key)
        self._running.add(key)
        self._drained.clear()
        return key

    def done(self, key: KeyT) -> None:
        """End the run of a key; queue it again if it was added meanwhile."""
        self._running.discard(key)
        if key in self._dirty:
            self._enqueue(key)
        elif not self._running and not self._waiting:
            self._drained.set()

    def close(self, *, drop_waiting: bool = False) -> None:
        """Take nothing more and forget what is delayed; what waits is still handed out, unless it is dropped."""
        self._closed = True
        if drop_waiting:
            self._dirty.clear()
            self._waiting.clear()
            if not self._running:
                self._drained.set()
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for getter in self._getters:
            if not getter.done():
                getter.set_result(None)

    async def join(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._drained.wait()

    def _enqueue(self, key: KeyT) -> None:
        self._waiting.append(key)
        self._drained.clear()
        self._wake_one()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _fire(self, key: KeyT) -> None:
        self._timers.pop(key, None)
        self.add(key)

    @property
    def _clock(self) -> Clock:
        return self._own_clock or asyncio.get_running_loop()
