"""Child processes that leave nothing behind: a group of their own, a log each, and an end with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# With the two addresses of a real node (realnode/layout.py), which no other machine has either.
LOOPBACK: Final = "127.0.0.1,localhost,10.88.0.1,10.89.0.1"
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_POLL_SECONDS: Final = 0.02
_QUOTED_LINES: Final = 12
# Loaded before any fork: between fork and exec nothing may be imported or allocated.
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """One child process; start it from a thread that lives as long as it shall (Linux ends it with its thread)."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        grace_seconds: float = 0.0,
    ) -> None:
        """Take what to run; output goes to `log`; `grace_seconds` after SIGTERM comes SIGKILL (0: at once)."""
        self.name = name
        self.log = log
        self._argv = [str(part) for part in argv]
        # Whatever proxy leads outside, nothing of the sandbox is there.
        self._environment = {**os.environ, "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK, **(environment or {})}
        self._grace_seconds = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None before the start and after the end."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it.

        Raises:
            SandboxError: the program cannot be run.
        """
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    process_group=0,  # Ctrl-C reaches us alone, and we end the group
                    preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 - one async-signal-safe system call
                )
            except OSError as error:
                raise SandboxError(
                    f"{self.name} cannot be started: {self._argv[0]}: {error.strerror}; run hack/setup again."
                ) from error

    def ask_to_end(self) -> None:
        """Send SIGTERM and do not wait: what several children need to end, they need at the same time."""
        if self._process is not None and self._grace_seconds > 0:
            _signal_group(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End its whole group; does nothing where it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None and self._grace_seconds > 0:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._grace_seconds)
        # Also where it ended by itself: what it started may still be there.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def check(self) -> None:
        """Hold that it runs.

        Raises:
            SandboxError: it has ended; the end of its log is quoted.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            raise SandboxError(
                f"{self.name} ended with status {code}; see the end of its log.\n{self.tail()}"
            )

    def tail(self, lines: int = _QUOTED_LINES) -> str:
        """The last lines of its log, indented."""
        try:
            text = self.log.read_text("utf-8", "replace")
        except OSError:
            text = ""
        kept = text.rstrip().splitlines()[-lines:] or ["(its log is empty)"]
        return "\n".join(f"    {line[:400]}" for line in kept)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes its program: ask the kernel to be killed when its parent ends."""
    libc = _LIBC
    if libc is None:
        return None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return ask


def free_ports(number: int) -> tuple[int, ...]:
    """Ports of the loopback interface that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(number):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return tuple(ports)


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    seconds: float,
    children: Sequence[Child] = (),
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Wait for a condition while the children run.

    Raises:
        SandboxError: a child ended, or the time ran out; the logs' ends are quoted.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\n  {child.name}:\n{child.tail()}" for child in children)
            raise SandboxError(f"{what} did not happen within {seconds:.0f} s; see the logs' ends.{logs}")
        time.sleep(poll_seconds)
