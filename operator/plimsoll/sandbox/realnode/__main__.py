"""`python -m plimsoll.sandbox.realnode start|stop|status|check|images|list|load`: what hack/node and hack/kind run."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.binaries import cache_folder, control_plane_binaries, node_binaries
from plimsoll.sandbox.binaries.recipes import modules_folder
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.progress import Console
from plimsoll.sandbox.realnode.building import Builder, images, listing, report
from plimsoll.sandbox.realnode.cluster import RealCluster
from plimsoll.sandbox.realnode.machine import obstacle
from plimsoll.sandbox.realnode.sweep import leftovers, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

# Beside the node's folder, which a start clears.
_PID: Final = Path("/run/plimsoll-node.pid")
_LOG: Final = Path("/run/plimsoll-node.log")
_CONTROL_PLANE: Final = Path("/run/plimsoll-node-control-plane")
_READY: Final = "ready: "
_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of them; 1 where `status` or `check` finds none, 3 where it cannot be done."""
    parser = argparse.ArgumentParser(prog="hack/node", description=__doc__)
    parser.add_argument("action", choices=sorted(_ACTIONS))
    try:
        return _ACTIONS[parser.parse_args(arguments).action]()
    except SandboxError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 3


def _start() -> int:
    if (pid := _supervisor()) is not None:
        raise SandboxError(f"a node runs already (process {pid}); stop it with hack/node stop.")
    if (reason := obstacle()) is not None:
        raise SandboxError(reason)
    progress = Console()
    control_plane_binaries(progress)
    node_binaries(progress)
    with _LOG.open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "plimsoll.sandbox.realnode", "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _PID.write_text(f"{child.pid}\n")
    with progress.step("starting the node"):
        wait_until(
            lambda: _READY in _LOG.read_text() or child.poll() is not None,
            what="the start of the node",
            seconds=_START_SECONDS,
            poll_seconds=0.2,
        )
    if child.poll() is not None:
        raise SandboxError(f"the node did not start.\n{_LOG.read_text().strip()}")
    kubeconfig = _LOG.read_text().partition(_READY)[2].strip()
    sys.stdout.write(f"export KUBECONFIG={kubeconfig}\n")
    return 0


def _run() -> int:
    """The process that holds everything, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Where a stop finds it after a crash; a control plane otherwise takes a new folder each time.
    _CONTROL_PLANE.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(_CONTROL_PLANE)
    cluster = RealCluster(control_plane_binaries(), node_binaries(), cache_folder())
    with cluster:
        sys.stdout.write(f"{_READY}{cluster.control_plane.kubeconfig}\n")
        sys.stdout.flush()
        while True:
            signal.pause()


def _stop() -> int:
    pid = _supervisor()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until(
            lambda: _supervisor() is None, what="the end of the node", seconds=_STOP_SECONDS, poll_seconds=0.2
        )
    if os.geteuid() != 0:
        raise SandboxError("what a node made can only be removed by root; run it with sudo.")
    sweep()
    shutil.rmtree(_CONTROL_PLANE, ignore_errors=True)
    for path in (_PID, _LOG):
        path.unlink(missing_ok=True)
    left = leftovers()
    if left:
        raise SandboxError(f"these could not be removed: {', '.join(left)}; run it again, or reboot.")
    sys.stdout.write("nothing of the node is left; its images are kept in the cache\n")
    return 0


def _status() -> int:
    pid = _supervisor()
    sys.stdout.write(f"running, process {pid}\n" if pid is not None else "not running\n")
    sys.stdout.writelines(f"  {line}\n" for line in leftovers())
    return 0 if pid is not None else 1


def _check() -> int:
    """Say why no node can run here, if so."""
    reason = obstacle()
    if reason is not None:
        sys.stdout.write(f"{reason}\n")
    return 0 if reason is None else 1


def _images() -> int:
    """Build the images of the tests that are not there yet, and print the size of each."""
    root = modules_folder().parent
    sys.stdout.write(report(Builder(cache_folder(), Console()).build(images(root))))
    return 0


def _list() -> int:
    """Print the images of the tests: name, stage, Dockerfile, context."""
    sys.stdout.write(listing(images(modules_folder().parent)))
    return 0


def _load() -> int:
    """Build the images that are not there yet, and import them into the node that runs."""
    if _supervisor() is None:
        raise SandboxError("no node runs; start it with hack/node start.")
    wanted, builder = images(modules_folder().parent), Builder(cache_folder(), Console())
    builder.build(wanted)
    node = RealCluster(control_plane_binaries(), node_binaries(), cache_folder()).node
    for image in wanted.built:
        builder.load(image, node)
    return 0


def _supervisor() -> int | None:
    """The process that holds the node; None where it is gone, or its number is another's now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_PID.read_text())
        status = Path(f"/proc/{pid}/status").read_text()
        if (
            b"plimsoll.sandbox.realnode" in Path(f"/proc/{pid}/cmdline").read_bytes()
            and "State:\tZ" not in status
        ):
            return pid
    return None


_ACTIONS: Final = {
    "start": _start,
    "stop": _stop,
    "status": _status,
    "check": _check,
    "images": _images,
    "list": _list,
    "load": _load,
    "run": _run,
}

if __name__ == "__main__":
    sys.exit(main())
