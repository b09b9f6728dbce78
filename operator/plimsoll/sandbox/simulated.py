"""A control plane whose nodes are simulated: pods are scheduled for real, volumes have topology, kwok runs the pods."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sandbox.controlplane import ControlPlane
from plimsoll.sandbox.lifecycle import Started
from plimsoll.sandbox.nodes import load_nodes
from plimsoll.sandbox.processes import Child, wait_until
from plimsoll.sandbox.simulation import kwok
from plimsoll.sandbox.volumes import storage_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sandbox.binaries import Binaries
    from plimsoll.sandbox.kubectl import Kubectl

_READY_SECONDS: Final = 30.0


class SimulatedCluster(Started):
    """Control plane, nodes, kwok and the volume provisioner; a context manager, or `start` and `stop`."""

    def __init__(self, binaries: Binaries, nodes: Sequence[dict[str, Any]] | None = None) -> None:
        """Take the programs and the Node objects; those of the package where none are given."""
        self._binaries = binaries
        self._nodes = tuple(nodes) if nodes is not None else load_nodes()
        self._children: list[Child] = []
        self.control_plane = ControlPlane(binaries)

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as a cluster administrator."""
        return self.control_plane.kubectl

    def start(self) -> None:
        """Start everything and wait until every node is Ready.

        Raises:
            SandboxError: a part does not start; the end of its log is quoted, and nothing is left running.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self.control_plane.start()
            self._start_children()
            kubectl = self.kubectl
            kubectl.apply(storage_objects())
            # The status of a new Node is taken as it is created; an apply would leave it out.
            kubectl.create(self._nodes)
            wait_until(
                lambda: self._all_ready(kubectl),
                what="the readiness of the simulated nodes",
                seconds=_READY_SECONDS,
                children=self._children,
                poll_seconds=0.1,
            )
            undo.pop_all()

    def stop(self) -> None:
        """End every process; does nothing where there is none."""
        children, self._children = self._children, []
        for child in reversed(children):
            child.stop()
        self.control_plane.stop()

    def check(self) -> None:
        """Hold that every process runs.

        Raises:
            SandboxError: one has ended; the end of its log is quoted.
        """
        self.control_plane.check()
        for child in self._children:
            child.check()

    def _start_children(self) -> None:
        folder, kubeconfig = self.control_plane.folder, self.control_plane.kubeconfig
        provisioner = Child(
            "volume provisioner",
            [sys.executable, "-m", "plimsoll.sandbox.provisioner", f"--kubeconfig={kubeconfig}"],
            log=folder / "provisioner.log",
        )
        for child in (kwok(self._binaries["kwok"], kubeconfig, folder), provisioner):
            self._children.append(child)
            child.start()

    @staticmethod
    def _all_ready(kubectl: Kubectl) -> bool:
        nodes = kubectl.items("nodes")
        conditions = [
            {condition["type"]: condition["status"] for condition in node["status"].get("conditions", ())}
            for node in nodes
        ]
        # A new node carries a taint until the controller manager has seen it Ready.
        tainted = any(node["spec"].get("taints") for node in nodes)
        return not tainted and all(found.get("Ready") == "True" for found in conditions)
