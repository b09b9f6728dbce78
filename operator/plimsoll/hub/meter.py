"""How far a download is: bytes counted from all threads, told at most every so many seconds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from plimsoll.reconcile.reports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

_RATE_WINDOW_SECONDS: Final = 30.0


class Meter:
    """Counts bytes from all threads."""

    def __init__(self, *, total: int, clock: Callable[[], float]) -> None:
        """Begin at nothing of `total` bytes; `clock` gives seconds that never go back."""
        self._total = total
        self._done = 0
        self._clock = clock
        self._file: str | None = None
        self._lock = threading.Lock()
        self._samples: list[tuple[float, int]] = []

    def begin(self, path: str) -> None:
        """Name the file that is told of."""
        with self._lock:
            self._file = path

    def have(self, number: int) -> None:
        """Count bytes that were there already, so that they are no part of the rate."""
        with self._lock:
            self._done += number
            self._samples.clear()

    def add(self, number: int) -> None:
        """Count bytes that came, or with a negative number, bytes that must come again."""
        with self._lock:
            self._done += number

    def progress(self) -> Progress:
        """Where it stands, with the rate over the last half minute."""
        with self._lock:
            now = self._clock()
            recent = [sample for sample in self._samples if now - sample[0] <= _RATE_WINDOW_SECONDS]
            self._samples = [*(recent or [(now, self._done)]), (now, self._done)]
            first_time, first_done = self._samples[0]
            elapsed = now - first_time
            rate = max(0, int((self._done - first_done) / elapsed)) if elapsed > 0 else None
            eta = None if not rate else round((self._total - self._done) / rate)
            return Progress(bytes=self._done, total=self._total, rate=rate, eta=eta, file=self._file)


class Teller:
    """Tells the progress from a thread of its own, and once more at the end."""

    def __init__(self, meter: Meter, tell: Callable[[Progress], None], seconds: float) -> None:
        """Tell what `meter` says every `seconds`."""
        self._meter = meter
        self._tell = tell
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._meter.progress()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Tell where it ended."""
        self._done.set()
        self._thread.join()
        self._tell(self._meter.progress())

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            self._tell(self._meter.progress())
