"""What a node makes is gone after a stop, and after a crash too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import control_plane_binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.realnode import layout
from plimsoll.sandbox.realnode.sweep import leftovers

_PID = Path("/run/plimsoll-node.pid")
_PANIC = Path("/proc/sys/kernel/panic")


def _node(action: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plimsoll.sandbox.realnode", action]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture
def kubectl(machine: None, tmp_path: Path) -> Iterator[Kubectl]:
    """A node that hack/node started."""
    started = _node("start")
    assert started.returncode == 0, started.stderr
    kubeconfig = Path(started.stdout.strip().removeprefix("export KUBECONFIG="))
    yield Kubectl(binary=control_plane_binaries()["kubectl"], kubeconfig=kubeconfig, cache=tmp_path)
    _node("stop")


def _run_a_pod(kubectl: Kubectl) -> None:
    container = {
        "name": "pause",
        "image": layout.PAUSE_IMAGE,
        "imagePullPolicy": "Never",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": security,
        "containers": [container],
        "volumes": volumes,
    }
    kubectl("label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pause", "namespace": "default"},
        "spec": spec,
    }
    kubectl.apply([pod])
    wait_until(
        lambda: kubectl.get("pod", "pause")["status"].get("phase") == "Running",
        what="the start of the pod",
        seconds=60,
        poll_seconds=0.2,
    )


@pytest.mark.parametrize("crashed", [False, True], ids=["after a stop", "after a crash"])
def test_nothing_is_left(kubectl: Kubectl, crashed: bool) -> None:
    _run_a_pod(kubectl)
    found = {line.split()[0] for line in leftovers()}
    assert found == {"process", "mount", "cgroup", "address", "nft", "folder"}
    if crashed:
        supervisor = int(_PID.read_text())
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: _node("status").returncode == 1, what="the crash", seconds=30, poll_seconds=0.2)
        assert "process" in {line.split()[0] for line in leftovers()}  # the pod runs on under its shim

    stopped = _node("stop")

    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert leftovers() == ()
    assert not _PID.exists()


def test_the_kernels_settings_are_as_they_were(machine: None) -> None:
    before = {name: (Path("/proc/sys") / name).read_text() for name in layout.SYSCTLS}
    assert _node("start").returncode == 0
    during = _PANIC.read_text()
    assert _node("stop").returncode == 0

    assert during == "10\n"  # the kubelet's own choice
    assert {name: (Path("/proc/sys") / name).read_text() for name in layout.SYSCTLS} == before


def test_a_second_node_is_refused(kubectl: Kubectl) -> None:
    again = _node("start")

    assert again.returncode == 3
    assert "hack/node stop" in again.stderr
    assert kubectl.get("nodes")["items"][0]["metadata"]["name"] == layout.NODE_NAME
