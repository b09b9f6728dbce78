"""The programs of one real node, started against a control plane; a context manager, or `start` and `stop`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from typing import TYPE_CHECKING, Final, TextIO

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.lifecycle import Started
from plimsoll.sandbox.processes import Child, free_ports, wait_until
from plimsoll.sandbox.realnode import configuration, layout
from plimsoll.sandbox.realnode.images import ensure_pause_image
from plimsoll.sandbox.realnode.sweep import remember_sysctls, sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plimsoll.sandbox.binaries import Binaries
    from plimsoll.sandbox.controlplane import ControlPlane

_START_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0


class RealNode(Started):
    """kubelet, containerd, kube-proxy and CoreDNS, with everything that they make."""

    def __init__(self, binaries: Binaries, control_plane: ControlPlane, cache: Path) -> None:
        """Take the programs, the control plane, and the folder that keeps the images."""
        self._binaries = binaries
        self._control_plane = control_plane
        self._store = cache / layout.STORE
        self._children: list[Child] = []
        self._held: TextIO | None = None

    def prepare(self) -> None:
        """Make what the node's programs need, its addresses among it: the API server listens on one of them.

        Raises:
            SandboxError: another process runs a node, or an interface cannot be made; nothing is left.
        """
        with contextlib.ExitStack() as undo:
            self._lock()
            undo.callback(self.stop)
            sweep()  # what an earlier one left by a crash
            self._prepare()
            undo.pop_all()

    def start(self) -> None:
        """Start every program and wait until the node is Ready; `prepare` was called.

        Raises:
            SandboxError: one does not start; the end of its log is quoted, and nothing is left.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._start_containerd()
            self._start_kubelet()
            self._start_network()
            kubectl = self._control_plane.kubectl
            self._wait("the readiness of the node", lambda: _ready(kubectl.items("nodes")))
            undo.pop_all()

    def stop(self) -> None:
        """End everything, and remove all that it made but the images."""
        if self._held is None:
            return  # it was not started, and what is there is another's
        children, self._children = self._children, []
        containerd = next((child for child in children if child.name == "containerd"), None)
        for child in reversed(children):
            if child is not containerd:
                child.stop()
        if containerd is not None:
            with contextlib.suppress(SandboxError):
                self._remove_containers()
            containerd.stop()
        sweep()
        self._held.close()
        self._held = None

    def check(self) -> None:
        """Hold that every program runs.

        Raises:
            SandboxError: one has ended; the end of its log is quoted.
        """
        for child in self._children:
            child.check()

    def ctr(self, *arguments: str) -> str:
        """Run containerd's client in the kubelet's namespace; returns what it prints.

        Raises:
            SandboxError: it failed; what it printed is quoted.
        """
        flags = (f"--address={layout.containerd_socket()}", f"--namespace={layout.IMAGE_NAMESPACE}")
        done = subprocess.run(
            [str(self._binaries["ctr"]), *flags, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SandboxError(f"ctr {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def _lock(self) -> None:
        """There is one at a time, for its names are fixed; the lock ends with this process."""
        self._store.parent.mkdir(parents=True, exist_ok=True)
        held = (self._store.parent / "lock").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise SandboxError(
                "another process runs a node on this machine; end it (hack/node stop), or wait until it has ended."
            ) from None
        self._held = held

    def _prepare(self) -> None:
        folders = (layout.RUN, layout.RUN / "cni", layout.DATA, layout.volumes(), self._store)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        remember_sysctls()
        (layout.RUN / "cni" / "10-plimsoll.conflist").write_text(configuration.cni())
        (layout.RUN / "containerd.toml").write_text(configuration.containerd(self._store))
        _ip("address", "add", f"{layout.NODE_ADDRESS}/32", "dev", "lo")
        _ip("link", "add", layout.BRIDGE, "type", "bridge")
        address = f"{layout.BRIDGE_ADDRESS}/{layout.POD_PREFIX_LENGTH}"
        _ip("address", "add", address, "dev", layout.BRIDGE)
        _ip("link", "set", layout.BRIDGE, "up")

    def _start_containerd(self) -> None:
        self._run("containerd", f"--config={layout.RUN / 'containerd.toml'}", "--log-level=warn")
        self._wait("containerd's socket", lambda: self._answers(lambda: self.ctr("version")))
        self._remove_containers()
        ensure_pause_image(self)

    def _start_kubelet(self) -> None:
        port, health_port = free_ports(2)
        config = layout.RUN / "kubelet.json"
        config.write_text(configuration.kubelet(port, health_port))
        self._run(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={self._control_plane.kubeconfig}",
            f"--root-dir={layout.DATA / 'kubelet'}",
            f"--cert-dir={layout.RUN / 'kubelet-certificates'}",
            f"--hostname-override={layout.NODE_NAME}",
            f"--node-ip={layout.NODE_ADDRESS}",
            f"--node-labels=topology.kubernetes.io/zone={layout.ZONE}",
        )

    def _start_network(self) -> None:
        ports = free_ports(3)
        kubeconfig = self._control_plane.kubeconfig
        proxy = layout.RUN / "kube-proxy.json"
        proxy.write_text(configuration.kube_proxy(kubeconfig, ports[0], ports[1]))
        self._run("kube-proxy", f"--config={proxy}")
        corefile = layout.RUN / "Corefile"
        corefile.write_text(configuration.corefile(kubeconfig, ports[2]))
        self._run("coredns", "-conf", str(corefile))

    def _remove_containers(self) -> None:
        """Pods of an earlier control plane are nobody's."""
        for container in self.ctr("containers", "list", "--quiet").split():
            for command in (("tasks", "kill", "--signal=SIGKILL"), ("tasks", "delete", "--force")):
                with contextlib.suppress(SandboxError):
                    self.ctr(*command, container)
            self.ctr("containers", "delete", container)

    def _run(self, name: str, *flags: str) -> None:
        # containerd finds its shim, and the shim runc, by PATH.
        path = f"{self._binaries[name].parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        child = Child(
            name,
            [self._binaries[name], *flags],
            log=self._control_plane.folder / f"{name}.log",
            environment={"PATH": path},
            grace_seconds=_GRACE_SECONDS if name == "containerd" else 0.0,
        )
        self._children.append(child)
        child.start()

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        wait_until(condition, what=what, seconds=_START_SECONDS, children=self._children, poll_seconds=0.2)

    @staticmethod
    def _answers(ask: Callable[[], str]) -> bool:
        try:
            ask()
        except SandboxError:
            return False
        return True


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")


def _ready(nodes: object) -> bool:
    if not isinstance(nodes, tuple) or not nodes:
        return False
    node = nodes[0]
    states = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", ())}
    return states.get("Ready") == "True" and not node["spec"].get("taints")
