"""A child leaves nothing behind, however it or its parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import Child, free_ports, listens, wait_until

SLEEPER = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"


def alive(pid: int) -> bool:
    try:
        # A zombie has ended; only its parent has not looked yet.
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def first_line(path: Path) -> str:
    wait_until(lambda: path.exists() and "\n" in path.read_text(), what="a line", seconds=20)
    return path.read_text().splitlines()[0]


@pytest.mark.parametrize("grace_seconds", [0.0, 2.0], ids=["killed", "asked"])
def test_stop_ends_the_child_and_what_it_started(tmp_path: Path, grace_seconds: float) -> None:
    log = tmp_path / "log"
    child = Child("sleeper", [sys.executable, "-c", SLEEPER], log=log, grace_seconds=grace_seconds)
    child.start()
    own, grandchild = child.pid, int(first_line(log))
    assert own is not None

    child.stop()
    child.stop()

    wait_until(lambda: not alive(grandchild), what="the grandchild's end", seconds=5)
    assert not alive(own)
    assert not child.running


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    child = Child("deaf", [sys.executable, "-c", code], log=log, grace_seconds=0.2)
    child.start()
    first_line(log)

    child.stop()

    assert not child.running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a child with its parent")
def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from plimsoll.sandbox.processes import Child\n"
        f"c = Child('c', ['sleep', '600'], log=pathlib.Path({str(tmp_path / 'log')!r})); c.start()\n"
        "print(c.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()

    wait_until(lambda: not alive(pid), what="the child's end", seconds=5)


def test_a_child_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child(
        "etcd", [sys.executable, "-c", "print('no space'); raise SystemExit(3)"], log=tmp_path / "log"
    )
    child.start()

    with pytest.raises(SandboxError, match=r"etcd ended with status 3(.|\n)*    no space"):
        wait_until(lambda: False, what="nothing", seconds=20, children=[child])
    child.stop()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"etcd cannot be started: .*/none: No such file"):
        Child("etcd", [tmp_path / "none"], log=tmp_path / "log").start()


def test_waiting_ends_with_the_time_and_says_for_what() -> None:
    with pytest.raises(SandboxError, match="the moon did not happen within 0 s"):
        wait_until(lambda: False, what="the moon", seconds=0.05)


def test_free_ports_differ_and_nobody_listens_on_them() -> None:
    ports = free_ports(5)

    assert len(set(ports)) == 5
    assert not any(map(listens, ports))
