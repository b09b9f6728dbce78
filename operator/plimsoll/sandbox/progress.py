"""Progress on long work: one line per step, with the time it took."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

# On a terminal the time counts on in place; into a file a line comes only so often.
_TERMINAL_TICK_SECONDS = 1.0
_FILE_TICK_SECONDS = 30.0


class Progress(Protocol):
    """Where the steps of long work are told."""

    def say(self, text: str) -> None:
        """Tell one thing."""
        ...

    def step(self, text: str) -> AbstractContextManager[None]:
        """Tell that a step runs for as long as the context is open, and how long it took."""
        ...


class Silent:
    """Progress that nobody reads."""

    def say(self, text: str) -> None:
        """Tell nothing."""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:  # noqa: ARG002 - the protocol's signature
        """Tell nothing."""
        yield


class Console:
    """Progress on a stream; stderr by default, since stdout belongs to the result."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`."""
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()

    def say(self, text: str) -> None:
        """Write one line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Write the step while it runs, and its time at the end; a step that raises is told as failed."""
        started = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, started, done), daemon=True)
        ticker.start()
        outcome = "failed after"
        try:
            yield
            outcome = ""
        finally:
            done.set()
            ticker.join()
            seconds = f"{time.monotonic() - started:.0f} s"
            self._line(f"{text} ... {outcome} {seconds}".replace("...  ", "... "), last=True)

    def _tick(self, text: str, started: float, done: threading.Event) -> None:
        if self._terminal:
            self._line(f"{text} ...", last=False)
        every = _TERMINAL_TICK_SECONDS if self._terminal else _FILE_TICK_SECONDS
        while not done.wait(every):
            self._line(f"{text} ... {time.monotonic() - started:.0f} s", last=not self._terminal)

    def _line(self, text: str, *, last: bool) -> None:
        start, end = ("\r\x1b[K" if self._terminal else ""), ("\n" if last else "")
        self._stream.write(f"{start}{text}{end}")
        self._stream.flush()
